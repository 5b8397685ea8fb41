//! `tombstones`: deleted times per series.
//!
//! ```text
//! 0x0130ba30 (4 bytes) | version 1 (1 byte) | { series ref uvarint | mint varint | maxt varint } … | CRC-32C (4 bytes)
//! ```
//! The checksum covers what lies between the version and itself.

use std::path::Path;

use hashbrown::HashMap;
use tsdbctl_platform::disk::{Access, Disk, write_all_at};
use tsdbctl_platform::file::{self, FileError};
use tsdbctl_storage::{Loss, StorageError};

use crate::checksum::crc32c;
use crate::cursor::Cursor;
use crate::file_writer::{push_uvarint, push_varint};

/// The file's name in a block's directory.
pub const FILE_NAME: &str = "tombstones";

const MAGIC: u32 = 0x0130_ba30;

/// Deleted times, Unix ms, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Earliest deleted time.
    pub mint: i64,
    /// Latest deleted time.
    pub maxt: i64,
}

/// The deletions of a block.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    /// Per series reference, sorted, apart from each other.
    by_series: HashMap<u64, Vec<Interval>>,
}

impl Tombstones {
    /// Reads the tombstones of a block's directory; no file means none.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn read(block_dir: &Path) -> Result<Self, StorageError> {
        let path = block_dir.join(FILE_NAME);
        match file::read(&path) {
            Ok(bytes) => Self::parse(&bytes).map_err(|(offset, reason)| {
                Loss { file: path, offset: offset as u64, reason: reason.to_string() }.into()
            }),
            Err(e) if e.is_not_found() => Ok(Self::default()),
            Err(e) => Err(e.into()),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, (usize, &'static str)> {
        let Some((head, sum)) = bytes.split_last_chunk::<4>() else {
            return Err((0, "tombstones file is too short"));
        };
        let mut c = Cursor::at(head, 0);
        if c.be32() != Some(MAGIC) {
            return Err((0, "not a tombstones file: wrong magic number"));
        }
        match c.u8() {
            Some(1) => {}
            Some(_) => return Err((4, "unknown version of tombstones")),
            None => return Err((4, "tombstones file is too short")),
        }
        if crc32c(&head[5..]) != u32::from_be_bytes(*sum) {
            return Err((5, "checksum of tombstones does not match"));
        }
        let mut out = Self::default();
        while !c.is_at_end() {
            let at = c.pos();
            let (Some(series), Some(mint), Some(maxt)) = (c.uvarint(), c.varint(), c.varint()) else {
                return Err((at, "tombstone is cut short"));
            };
            out.by_series.entry(series).or_default().push(Interval { mint, maxt });
        }
        for list in out.by_series.values_mut() {
            join(list);
        }
        Ok(out)
    }

    /// Deletes an interval of a series; it is joined with those it touches. One that ends before it starts is none.
    pub fn insert(&mut self, series: u64, interval: Interval) {
        if interval.mint <= interval.maxt {
            let list = self.by_series.entry(series).or_default();
            let in_order = list.last().is_none_or(|last| last.maxt.saturating_add(1) < interval.mint);
            list.push(interval);
            if !in_order {
                join(list);
            }
        }
    }

    /// All deletions, by series and time.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Interval)> {
        let mut series: Vec<(&u64, &Vec<Interval>)> = self.by_series.iter().collect();
        series.sort_unstable_by_key(|(reference, _)| **reference);
        series.into_iter().flat_map(|(reference, list)| list.iter().map(|i| (*reference, *i)))
    }

    /// The content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        bytes.push(1);
        for (series, Interval { mint, maxt }) in self.iter() {
            push_uvarint(&mut bytes, series);
            push_varint(&mut bytes, mint);
            push_varint(&mut bytes, maxt);
        }
        let sum = crc32c(&bytes[5..]);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Writes the tombstones of a block that is being made, and makes their content durable; the name is the caller's.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write_new(&self, disk: &dyn Disk, block_dir: &Path) -> Result<(), FileError> {
        let file = disk.open(&block_dir.join(FILE_NAME), Access::Truncate)?;
        write_all_at(&*file, &self.to_bytes(), 0)?;
        file.sync_data()
    }

    /// Replaces the tombstones of a block: whatever crash comes, there are the old ones or these.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn replace(&self, disk: &dyn Disk, block_dir: &Path) -> Result<(), FileError> {
        file::replace(disk, &block_dir.join(FILE_NAME), &self.to_bytes())
    }

    /// The deletions of one series, in order of time.
    pub fn of(&self, series: u64) -> &[Interval] {
        if self.by_series.is_empty() {
            return &[];
        }
        self.by_series.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.by_series.is_empty()
    }

    /// Number of deleted intervals.
    pub fn len(&self) -> usize {
        self.by_series.values().map(Vec::len).sum()
    }
}

/// Sorts intervals and joins those that overlap or touch.
fn join(list: &mut Vec<Interval>) {
    list.sort_by_key(|i| i.mint);
    list.dedup_by(|next, kept| {
        let joins = next.mint <= kept.maxt.saturating_add(1);
        if joins {
            kept.maxt = kept.maxt.max(next.maxt);
        }
        joins
    });
}

#[cfg(test)]
mod tests {
    use tsdbctl_platform::real::RealDisk;

    use super::*;

    fn file_of(body: &[u8]) -> Vec<u8> {
        let mut f = MAGIC.to_be_bytes().to_vec();
        f.push(1);
        f.extend(body);
        f.extend(crc32c(body).to_be_bytes());
        f
    }

    #[test]
    fn intervals_are_sorted_and_joined() {
        // Series 7: 10..=20, 1..=9 (joins), 30..=30.
        let t = Tombstones::parse(&file_of(&[7, 20, 40, 7, 2, 18, 7, 60, 60])).unwrap();
        assert_eq!(t.of(7), [Interval { mint: 1, maxt: 20 }, Interval { mint: 30, maxt: 30 }]);
        assert!(t.of(8).is_empty());
    }

    #[test]
    fn deletions_are_read_again_in_a_stable_order() {
        let mut t = Tombstones::default();
        for (series, mint, maxt) in [
            (9, 5, 9),
            (300, i64::MIN, -1),
            (7, 10, 20),
            (7, 1, 5),
            (7, 6, 9),
            (7, 30, 30),
            (8, 3, 2),
            (9, i64::MAX, i64::MAX),
        ] {
            t.insert(series, Interval { mint, maxt });
        }
        let want = [(7, 1, 20), (7, 30, 30), (9, 5, 9), (9, i64::MAX, i64::MAX), (300, i64::MIN, -1)]
            .map(|(series, mint, maxt)| (series, Interval { mint, maxt }));
        assert_eq!(t.iter().collect::<Vec<_>>(), want);
        let dir = tempfile::tempdir().unwrap();
        t.write_new(&RealDisk, dir.path()).unwrap();
        let read = Tombstones::read(dir.path()).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), want);
        assert_eq!(read.to_bytes(), std::fs::read(dir.path().join(FILE_NAME)).unwrap());
        assert_eq!((read.len(), read.of(7).len()), (5, 2));
        let none = Tombstones::default();
        none.replace(&RealDisk, dir.path()).unwrap();
        // What upstream writes for a block without deletions.
        assert_eq!(std::fs::read(dir.path().join(FILE_NAME)).unwrap(), [1, 0x30, 0xba, 0x30, 1, 0, 0, 0, 0]);
        assert!(Tombstones::read(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn damage_is_found() {
        let good = file_of(&[7, 20, 40]);
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 4;
            assert!(Tombstones::parse(&bad).is_err(), "byte {i}");
        }
        assert!(Tombstones::parse(&file_of(&[7, 20])).is_err());
        assert!(Tombstones::parse(&[]).is_err());
    }
}
