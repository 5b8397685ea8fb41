//! Records of one segment, in order.

use crate::compression::{Compression, Unpacker, first_byte};
use crate::page::{FragmentKind, PAGE_BYTES, Place, read_place};
use crate::record::RecordType;

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Offset of the bad fragment, bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
    /// Whether nothing sound follows in this segment: what a crash leaves at the end of a log.
    pub torn: bool,
}

/// Reads a segment's bytes record by record.
pub struct SegmentReader<'a> {
    bytes: &'a [u8],
    /// Of the next fragment.
    offset: usize,
    /// Where the record read last begins.
    record_offset: usize,
    /// Fragments of a record that is not complete yet.
    parts: Vec<u8>,
    unpacker: Unpacker,
}

impl<'a> SegmentReader<'a> {
    /// Starts at `offset`, which must be where a record or padding begins.
    pub fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset, record_offset: offset, parts: Vec::new(), unpacker: Unpacker::new() }
    }

    /// Offset of the first fragment of the record read last.
    pub fn record_offset(&self) -> u64 {
        self.record_offset as u64
    }

    /// Offset behind the record read last.
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// Appends the next record, unpacked, to `out`; `false` at the segment's end.
    ///
    /// # Errors
    /// If there is damage; [`SegmentReader::resync`] goes on behind it. `out` is as before then.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> Result<bool, BadRecord> {
        self.next_where(|_| true, out)
    }

    /// As [`SegmentReader::next_into`], but passes over records whose first byte is known and not wanted; they are
    /// not unpacked. A record whose first byte shows only when it is unpacked is given in any case.
    ///
    /// # Errors
    /// As [`SegmentReader::next_into`].
    pub fn next_where(&mut self, wants: impl Fn(u8) -> bool, out: &mut Vec<u8>) -> Result<bool, BadRecord> {
        self.parts.clear();
        let mut open = false;
        loop {
            let at = self.offset;
            let (fragment, end) = match read_place(self.bytes, at) {
                Ok(Place::Fragment(fragment, end)) => (fragment, end),
                Ok(Place::Padding(end)) => {
                    self.offset = end.min(self.bytes.len());
                    continue;
                }
                Ok(Place::End) if open => {
                    let reason = "the segment ends inside a record".to_string();
                    return Err(BadRecord { offset: self.record_offset as u64, reason, torn: true });
                }
                Ok(Place::End) => return Ok(false),
                Err(bad) => {
                    let torn = self.sound_behind(at).is_none();
                    return Err(BadRecord { offset: at as u64, reason: bad.0, torn });
                }
            };
            let expected = matches!(fragment.kind, FragmentKind::Middle | FragmentKind::Last);
            if expected != open {
                let reason = format!(
                    "a {:?} fragment {} a record",
                    fragment.kind,
                    if open { "inside" } else { "without the beginning of" }
                );
                return Err(BadRecord { offset: at as u64, reason, torn: false });
            }
            self.offset = end;
            match fragment.kind {
                FragmentKind::Full => {
                    self.record_offset = at;
                    if first_byte(fragment.compression, fragment.data).is_some_and(|b| !wants(b)) {
                        continue;
                    }
                    return self.finish(fragment.compression, Some(fragment.data), out);
                }
                FragmentKind::First => {
                    self.record_offset = at;
                    open = true;
                    self.parts.extend_from_slice(fragment.data);
                }
                FragmentKind::Middle => self.parts.extend_from_slice(fragment.data),
                FragmentKind::Last => {
                    self.parts.extend_from_slice(fragment.data);
                    if first_byte(fragment.compression, &self.parts).is_some_and(|b| !wants(b)) {
                        self.parts.clear();
                        open = false;
                        continue;
                    }
                    return self.finish(fragment.compression, None, out);
                }
            }
        }
    }

    fn finish(
        &mut self,
        how: Compression,
        data: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<bool, BadRecord> {
        let start = out.len();
        let packed = data.unwrap_or(&self.parts);
        let unpacker = &mut self.unpacker;
        let mut unpacked = unpacker.unpack(how, packed, out);
        // A type that is not known is a newer server's, and passed over. But no checksum covers the bits that tell the
        // compression.
        if unpacked.is_ok() && how == Compression::None && RecordType::of(packed).is_none() {
            let was_packed = [Compression::Snappy, Compression::Zstd].into_iter().find(|how| {
                let mut record = Vec::new();
                unpacker.unpack(*how, packed, &mut record).is_ok() && RecordType::of(&record).is_some()
            });
            if let Some(how) = was_packed {
                unpacked = Err(format!("a record packed by {how:?} says that it is not"));
            }
        }
        unpacked.map(|()| true).map_err(|reason| {
            out.truncate(start);
            BadRecord { offset: self.record_offset as u64, reason, torn: false }
        })
    }

    /// Where the first sound fragment behind the bad one at `at` begins. Its length cannot be believed, so the
    /// rest of its page is searched byte by byte; a fragment without data is no evidence there.
    fn sound_behind(&self, at: usize) -> Option<usize> {
        let next_page = (at / PAGE_BYTES + 1) * PAGE_BYTES;
        let is_sound = |o: &usize| matches!(read_place(self.bytes, *o), Ok(Place::Fragment(..)));
        let likely = |o: &usize| match self.bytes.get(*o..*o + 3) {
            Some([flags, a, b]) => (1..=4).contains(&(flags & 7)) && *flags < 32 && (*a, *b) != (0, 0),
            _ => false,
        };
        (at + 1..next_page.min(self.bytes.len()))
            .filter(likely)
            .find(is_sound)
            .or_else(|| (next_page..self.bytes.len()).step_by(PAGE_BYTES).find(is_sound))
    }

    /// After an error: moves to the next record that begins behind the damage; `false` if there is none.
    pub fn resync(&mut self) -> bool {
        let mut at = self.offset;
        while at < self.bytes.len() {
            match read_place(self.bytes, at) {
                Ok(Place::Fragment(f, _)) if matches!(f.kind, FragmentKind::Full | FragmentKind::First) => {
                    self.offset = at;
                    return true;
                }
                Ok(Place::Fragment(_, end) | Place::Padding(end)) => at = end,
                Ok(Place::End) => break,
                Err(_) => match self.sound_behind(at) {
                    Some(next) => at = next,
                    None => break,
                },
            }
        }
        self.offset = self.bytes.len();
        false
    }
}
