//! Records of a segment, read through the disk in windows: no segment is held whole, and damage costs its record.

use std::path::Path;

use tsdbctl_platform::disk::{Access, Disk, read_full_at};
use tsdbctl_storage::{Loss, StorageError};
use tsdbctl_wal::SegmentReader;
use tsdbctl_wal::page::PAGE_BYTES;

/// Bytes of a window, if no record is longer.
const WINDOW_BYTES: usize = 32 * PAGE_BYTES;

/// Gives every record of a segment to `each`, with its offset; what cannot be read goes to `losses`.
///
/// # Errors
/// If the file cannot be read, or `each` fails.
pub fn read_records(
    disk: &dyn Disk,
    path: &Path,
    losses: &mut Vec<Loss>,
    each: impl FnMut(&[u8], u64, &mut Vec<Loss>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    read_in_windows(disk, path, WINDOW_BYTES, losses, each)
}

fn read_in_windows(
    disk: &dyn Disk,
    path: &Path,
    window_bytes: usize,
    losses: &mut Vec<Loss>,
    mut each: impl FnMut(&[u8], u64, &mut Vec<Loss>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let file = disk.open(path, Access::Read)?;
    let len = file.len()?;
    let (mut base, mut start, mut size) = (0u64, 0usize, window_bytes);
    let (mut window, mut record) = (Vec::new(), Vec::new());
    loop {
        let asked = len.saturating_sub(base).min(size as u64) as usize;
        window.resize(asked, 0);
        let got = read_full_at(&*file, &mut window, base)?;
        let is_last = got < asked || base + got as u64 >= len;
        let mut reader = SegmentReader::new(&window[..got], start);
        // Behind the last record that was whole: the next window begins with its page.
        let mut behind = start;
        loop {
            record.clear();
            match reader.next_into(&mut record) {
                Ok(true) => {
                    behind = reader.offset() as usize;
                    each(&record, base + reader.record_offset(), losses)?;
                }
                Ok(false) if is_last => return Ok(()),
                Ok(false) => {
                    behind = reader.offset() as usize;
                    break;
                }
                Err(bad) if is_last => {
                    losses.push(Loss {
                        file: path.to_owned(),
                        offset: base + bad.offset,
                        reason: bad.reason,
                    });
                    if !reader.resync() {
                        return Ok(());
                    }
                }
                // Damaged, or cut off by the window: that shows when all behind it is there.
                Err(_) => break,
            }
        }
        let page = behind / PAGE_BYTES * PAGE_BYTES;
        size = if page == 0 { size.saturating_mul(2) } else { window_bytes };
        base += page as u64;
        start = behind - page;
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_platform::real::RealDisk;
    use tsdbctl_wal::{Compression, PageWriter};

    use super::*;

    fn read(path: &Path, window_bytes: usize) -> (Vec<(u8, usize)>, Vec<Loss>) {
        let (mut found, mut losses) = (Vec::new(), Vec::new());
        read_in_windows(&RealDisk, path, window_bytes, &mut losses, |record, _, _| {
            found.push((record[0], record.len()));
            Ok(())
        })
        .unwrap();
        (found, losses)
    }

    #[test]
    fn windows_of_any_length_give_each_record_once_and_damage_costs_one() {
        let lengths = [1, 100, 32_754, 32_761, 3, 65_522, 200_000, 7, 32_753, 50_000, 90_000, 2];
        let mut writer = PageWriter::new(Compression::None, 0);
        let mut offsets = Vec::new();
        for (i, n) in lengths.iter().enumerate() {
            offsets.push(writer.offset());
            writer.append(&vec![i as u8 + 1; *n]);
            if i == 4 {
                writer.pad();
            }
        }
        let bytes = writer.take();
        let all: Vec<(u8, usize)> = lengths.iter().enumerate().map(|(i, n)| (i as u8 + 1, *n)).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000");
        for window_bytes in [1, 3, 100].map(|n| n * PAGE_BYTES) {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(&path, window_bytes), (all.clone(), vec![]), "{window_bytes}");
            for (i, offset) in offsets.iter().enumerate() {
                let mut damaged = bytes.clone();
                damaged[offset + 8.min(lengths[i] + 6)] ^= 1;
                std::fs::write(&path, &damaged).unwrap();
                let (found, losses) = read(&path, window_bytes);
                let want: Vec<_> = all.iter().copied().filter(|r| usize::from(r.0) != i + 1).collect();
                assert_eq!(found, want, "{window_bytes}, record {i}");
                assert_eq!(losses.len(), 1);
            }
            std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            assert_eq!(read(&path, window_bytes).0, all[..all.len() - 1], "{window_bytes}");
        }
        std::fs::write(&path, b"").unwrap();
        assert_eq!(read(&path, PAGE_BYTES), (vec![], vec![]));
    }
}
