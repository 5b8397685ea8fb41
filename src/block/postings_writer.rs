//! Postings lists in the making, from series entries that are read again: as many lists at once as the memory allows.
//! As it was counted which pair is in how many series, the place of each reference is known before it is met.

use tsdbctl_storage::{Control, LabelRef, StorageError};

use crate::checksum::{Crc32c, crc32c};
use crate::cursor::Cursor;
use crate::file_writer::FileWriter;
use crate::index::Damage;
use crate::pair_table::{OrderedPair, PairTable};

/// Longest list: its length has 32 bits.
const MOST_SERIES: u32 = (u32::MAX - 4) / 4;

/// Most bytes of lists that are made at once: places are counted in words of 32 bits, and one value is set apart.
const MOST_BYTES: u64 = 4 * (u32::MAX as u64 - 1);

/// Bytes of a list of `series` references.
#[inline]
pub(crate) fn list_bytes(series: u32) -> u64 {
    4 + 4 + 4 * u64::from(series) + 4
}

/// Where the series entries of an index lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesSection<'a> {
    /// The index so far.
    pub(crate) file: &'a [u8],
    /// Start of the first entry's padding.
    pub(crate) start: usize,
    /// End of the last entry.
    pub(crate) end: usize,
    /// Number of entries.
    pub(crate) count: u32,
}

/// Why lists could not be made.
pub(crate) enum PostingsError {
    Storage(StorageError),
    /// The series entries are not as they were written.
    Damaged(Damage),
}

impl<E: Into<StorageError>> From<E> for PostingsError {
    fn from(e: E) -> Self {
        Self::Storage(e.into())
    }
}

/// Writes the list of all series, then those of all pairs in their order; in several passes if they do not fit into
/// `memory_bytes`, of which there is at least enough for the longest list.
pub(crate) fn write_lists(
    out: &mut FileWriter,
    section: SeriesSection<'_>,
    table: &mut PairTable,
    order: &[OrderedPair],
    memory_bytes: usize,
    control: &Control,
) -> Result<(), PostingsError> {
    if section.count > MOST_SERIES {
        let reason = format!("{} series are too many for one postings list", section.count);
        return Err(StorageError::Unsupported { file: out.path().to_owned(), reason }.into());
    }
    let limit = list_bytes(section.count).max(memory_bytes as u64).min(MOST_BYTES);
    let mut all = Some(AllSeries::begin(out, section.count)?);
    let mut lists = Vec::new();
    let mut at = 0;
    while all.is_some() || at < order.len() {
        let mut bytes = 0;
        let mut end = at;
        while let Some(pair) = order.get(end) {
            let list = list_bytes(table.series(*pair));
            if bytes + list > limit {
                break;
            }
            table.set_cursor(*pair, (bytes / 4) as u32 + 2);
            bytes += list;
            end += 1;
        }
        // Zeros where nothing is written would be a wrong list, but all of it is checked below.
        lists.resize(bytes as usize, 0);
        let (words, _) = lists.as_chunks_mut::<4>();
        each_series(
            section,
            control,
            |reference, place, label| {
                if let Some(place) = table.next_place(place, label)
                    && let Some(word) = words.get_mut(place)
                {
                    *word = reference;
                }
            },
            |reference| match &mut all {
                Some(all) => all.push(out, reference),
                None => Ok(()),
            },
        )?;
        if let Some(all) = all.take() {
            all.end(out)?;
        }
        let mut start = 0;
        for pair in &order[at..end] {
            let series = table.series(*pair);
            let list = list_bytes(series) as usize;
            let cursor = table.take_cursor(*pair);
            if cursor as usize * 4 != start + list - 4 {
                return Err(PostingsError::Damaged(changed(section.start)));
            }
            let list = &mut lists[start..start + list];
            list[..4].copy_from_slice(&(4 + 4 * series).to_be_bytes());
            list[4..8].copy_from_slice(&series.to_be_bytes());
            let (body, sum) = list.split_at_mut(list.len() - 4);
            sum.copy_from_slice(&crc32c(&body[4..]).to_be_bytes());
            start += list.len();
        }
        out.put(&lists)?;
        at = end;
    }
    Ok(())
}

fn changed(at: usize) -> Damage {
    Damage::at(at, "series entries changed while the index was written")
}

/// Calls `each_label` with every label of every series, its place in the series, and `each` with every series.
fn each_series(
    section: SeriesSection<'_>,
    control: &Control,
    mut each_label: impl FnMut([u8; 4], usize, LabelRef),
    mut each: impl FnMut([u8; 4]) -> Result<(), StorageError>,
) -> Result<(), PostingsError> {
    let SeriesSection { file, start, end, count } = section;
    let file = &file[..end.min(file.len())];
    let mut at = start;
    for n in 0..count {
        if n.is_multiple_of(1 << 16) {
            control.check("writing postings")?;
        }
        at = at.next_multiple_of(16);
        let reference = ((at / 16) as u32).to_be_bytes();
        let mut c = Cursor::at(file, at);
        let walked = (|| {
            let length = c.uvarint()?;
            let next = (c.pos() as u64).checked_add(length)?.checked_add(4)?;
            for place in 0..c.uvarint()? {
                let label = (c.uvarint()? as u32, c.uvarint()? as u32);
                each_label(reference, place as usize, label);
            }
            Some(next as usize)
        })();
        at = walked.ok_or_else(|| PostingsError::Damaged(changed(at)))?;
        each(reference)?;
    }
    Ok(())
}

/// The list of all series, written as it comes.
struct AllSeries {
    sum: Crc32c,
    waiting: Vec<u8>,
}

impl AllSeries {
    const WAITING_BYTES: usize = 1 << 14;

    fn begin(out: &mut FileWriter, count: u32) -> Result<Self, StorageError> {
        out.put(&(4 + 4 * count).to_be_bytes())?;
        let mut waiting = Vec::with_capacity(Self::WAITING_BYTES);
        waiting.extend_from_slice(&count.to_be_bytes());
        Ok(Self { sum: Crc32c::default(), waiting })
    }

    #[inline]
    fn push(&mut self, out: &mut FileWriter, reference: [u8; 4]) -> Result<(), StorageError> {
        self.waiting.extend_from_slice(&reference);
        if self.waiting.len() < Self::WAITING_BYTES { Ok(()) } else { self.pass_on(out) }
    }

    fn pass_on(&mut self, out: &mut FileWriter) -> Result<(), StorageError> {
        self.sum.update(&self.waiting);
        out.put(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    fn end(mut self, out: &mut FileWriter) -> Result<(), StorageError> {
        self.pass_on(out)?;
        Ok(out.put(&self.sum.value().to_be_bytes())?)
    }
}
