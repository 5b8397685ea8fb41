//! Records to pages.

use crate::compression::{Compression, Packer};
use crate::page::{FragmentKind, HEADER_BYTES, PAGE_BYTES, write_fragment};

/// Writes records of one segment into a buffer, with upstream's bytes.
pub struct PageWriter {
    compression: Compression,
    packer: Packer,
    packed: Vec<u8>,
    out: Vec<u8>,
    /// Offset in the segment of the first byte of `out`.
    base: usize,
}

impl PageWriter {
    /// A writer that begins at `offset` of its segment.
    pub fn new(compression: Compression, offset: usize) -> Self {
        Self { compression, packer: Packer::default(), packed: Vec::new(), out: Vec::new(), base: offset }
    }

    /// Offset in the segment behind everything written so far.
    pub fn offset(&self) -> usize {
        self.base + self.out.len()
    }

    /// Appends one record.
    pub fn append(&mut self, record: &[u8]) {
        let how = self.packer.pack(self.compression, record, &mut self.packed);
        let packed = std::mem::take(&mut self.packed);
        self.append_packed(how, &packed);
        self.packed = packed;
    }

    /// Appends a record that is packed already.
    pub fn append_packed(&mut self, how: Compression, packed: &[u8]) {
        let at = self.offset();
        write_record(&mut self.out, at, how, packed);
    }

    /// Fills the current page with zeros, as upstream does when it ends a segment.
    pub fn pad(&mut self) {
        let used = self.offset() % PAGE_BYTES;
        if used > 0 {
            self.out.resize(self.out.len() + PAGE_BYTES - used, 0);
        }
    }

    /// The bytes written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.base += self.out.len();
        std::mem::take(&mut self.out)
    }
}

/// Appends the fragments of a packed record to `out`, whose end is to lie at `offset` of its segment.
pub fn write_record(out: &mut Vec<u8>, mut offset: usize, how: Compression, mut packed: &[u8]) {
    let mut first = true;
    loop {
        let mut room = PAGE_BYTES - offset % PAGE_BYTES;
        if room < HEADER_BYTES {
            out.resize(out.len() + room, 0);
            offset += room;
            room = PAGE_BYTES;
        }
        let (part, rest) = packed.split_at(packed.len().min(room - HEADER_BYTES));
        let kind = match (first, rest.is_empty()) {
            (true, true) => FragmentKind::Full,
            (true, false) => FragmentKind::First,
            (false, false) => FragmentKind::Middle,
            (false, true) => FragmentKind::Last,
        };
        write_fragment(out, kind, how, part);
        offset += HEADER_BYTES + part.len();
        if rest.is_empty() {
            return;
        }
        (packed, first) = (rest, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{BadRecord, SegmentReader};

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<BadRecord>) {
        let mut reader = SegmentReader::new(bytes, 0);
        let mut records = Vec::new();
        loop {
            let mut record = Vec::new();
            match reader.next_into(&mut record) {
                Ok(true) => records.push(record),
                Ok(false) => return (records, None),
                Err(bad) => return (records, Some(bad)),
            }
        }
    }

    /// Lengths around every boundary: an empty record, one that leaves 6, 7 and 8 bytes, several pages.
    fn records() -> Vec<Vec<u8>> {
        [0, 1, 100, 32_633, 32_754, 32_753, 100_000, 5, 65_522, 3]
            .iter()
            .enumerate()
            .map(|(i, n)| (0..*n).map(|j: u32| (j.wrapping_mul(2_654_435_761) >> (i + 9)) as u8).collect())
            .collect()
    }

    fn written(how: Compression) -> Vec<u8> {
        let mut writer = PageWriter::new(how, 0);
        for r in records() {
            writer.append(&r);
        }
        writer.take()
    }

    #[test]
    fn records_come_back_in_every_compression_and_with_padding() {
        for how in [Compression::None, Compression::Snappy, Compression::Zstd] {
            let mut bytes = written(how);
            assert_eq!(read(&bytes), (records(), None), "{how:?}");
            let mut writer = PageWriter::new(how, bytes.len());
            writer.pad();
            writer.append(b"behind the padding");
            bytes.extend(writer.take());
            assert_eq!(read(&bytes).0.last().unwrap(), b"behind the padding");
        }
    }

    #[test]
    fn exactly_a_header_left_in_the_page_takes_an_empty_first_fragment() {
        let mut writer = PageWriter::new(Compression::None, 0);
        writer.append(&vec![7; PAGE_BYTES - 2 * HEADER_BYTES]);
        writer.append(b"xyz");
        let bytes = writer.take();
        assert_eq!(&bytes[PAGE_BYTES - HEADER_BYTES..PAGE_BYTES - 4], [2, 0, 0]);
        assert_eq!(bytes[PAGE_BYTES], 4);
        assert_eq!(read(&bytes).0[1], b"xyz");
    }

    #[test]
    fn a_log_cut_anywhere_ends_silently_behind_its_last_whole_record() {
        let bytes = written(Compression::None);
        for cut in (0..bytes.len()).step_by(1009).chain([PAGE_BYTES, PAGE_BYTES + 1, PAGE_BYTES - 1]) {
            let (got, bad) = read(&bytes[..cut]);
            assert!(bad.is_none_or(|b| b.torn), "cut at {cut}");
            assert_eq!(got[..], records()[..got.len()], "cut at {cut}");
        }
        // As a crash of the machine leaves it: the length is there, the bytes are zero.
        let mut zeroed = bytes[..bytes.len() - 20].to_vec();
        zeroed.resize(bytes.len() + 50_000, 0);
        let (got, bad) = read(&zeroed);
        assert!(bad.is_some_and(|b| b.torn));
        assert_eq!(got[..], records()[..got.len()]);
    }

    #[test]
    fn a_flip_of_any_bit_is_seen_and_only_the_last_record_may_look_torn() {
        for how in [Compression::None, Compression::Snappy, Compression::Zstd] {
            let mut writer = PageWriter::new(how, 0);
            let all: Vec<Vec<u8>> = (1..9u8).map(|i| vec![i; usize::from(i) * 5 + 20]).collect();
            let mut last = 0;
            for record in &all {
                last = writer.offset();
                writer.append(record);
            }
            let bytes = writer.take();
            assert!(how == Compression::None || bytes.len() < 8 * 35);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    let (got, bad) = read(&damaged);
                    let Some(bad) = bad else {
                        // Spare bits of the flags mean nothing, nor does that of zstd beside that of snappy.
                        assert_eq!(got, all, "{how:?} byte {at} bit {bit}");
                        assert!(
                            bit >= 5 || (bit, how) == (4, Compression::Snappy),
                            "{how:?} byte {at} bit {bit}"
                        );
                        continue;
                    };
                    assert_eq!(got[..], all[..got.len()], "{how:?} byte {at} bit {bit}");
                    assert!(bad.offset as usize <= at, "{how:?} byte {at} bit {bit}: {bad:?}");
                    assert!(!bad.torn || at >= last, "{how:?} byte {at} bit {bit}: {bad:?}");
                }
            }
        }
    }

    #[test]
    fn behind_damage_the_reader_finds_the_next_record() {
        let mut writer = PageWriter::new(Compression::None, 0);
        let all: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; 3000]).collect();
        all.iter().for_each(|r| writer.append(r));
        let mut bytes = writer.take();
        bytes[4 * 3007 + 100] ^= 1;
        let mut reader = SegmentReader::new(&bytes, 0);
        let (mut got, mut bad) = (Vec::new(), 0);
        loop {
            let mut record = Vec::new();
            match reader.next_into(&mut record) {
                Ok(true) => got.push(record[0]),
                Ok(false) => break,
                Err(b) => {
                    assert_eq!((b.offset, b.torn), (4 * 3007, false));
                    bad += 1;
                    assert!(reader.resync());
                }
            }
        }
        assert_eq!(bad, 1);
        assert_eq!(got, (0..40).filter(|i| *i != 4).collect::<Vec<u8>>());
    }
}
