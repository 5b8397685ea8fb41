//! A small file that records are appended to: nothing that was synced is lost, whatever call fails and whenever the
//! machine stops.
//!
//! ```text
//! file    "tsdbctl\n", then records
//! record  marker 0xa5 'r' 'e' 'c' | length u32 | CRC-32C of length and payload u32 | payload    (little-endian)
//! ```
//!
//! What is no record is skipped up to the next one that is whole, so damage costs what it hit. What follows the last
//! whole record is the rest of an append that a crash cut off; the next append writes over it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile, read_full_at, write_all_at};
use crate::file::{self, FileError};

/// First bytes of the file.
const MAGIC: &[u8; 8] = b"tsdbctl\n";
/// First bytes of a record.
const MARKER: &[u8; 4] = b"\xa5rec";
const HEADER_BYTES: usize = 12;
/// Longest payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Markers without a record that are tried in one file; more are no accident.
const FALSE_MARKERS_MAX: usize = 10_000;

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file begins otherwise; it is left as it is.
    #[error("{}: is no journal", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A record is longer than [`PAYLOAD_BYTES_MAX`].
    #[error("{}: a record of {bytes} bytes is too long", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its payload.
        bytes: usize,
    },
}

/// What was found when a journal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Payloads, in the order they were appended.
    pub records: Vec<Vec<u8>>,
    /// Bytes between records that are none: damage.
    pub damaged_bytes: u64,
    /// Bytes behind the last record, which were cut off.
    pub torn_bytes: u64,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Where records that are durable end.
    synced: u64,
    /// Records behind that. They are written again after a failed sync, since the system may have dropped them and
    /// call them written.
    unsynced: Vec<u8>,
    /// How many of these bytes are in the file for all we know.
    written: usize,
    /// Whether something may be in the file behind that.
    ragged: bool,
    /// Whether the file's name is durable. Its directory's sync is not tried again either: the name is made anew.
    named: bool,
}

impl Journal {
    /// Opens a journal, or makes it.
    ///
    /// # Errors
    /// If the system refuses or the file is something else.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<(Self, Found), JournalError> {
        let (file, found, end) = match read_file(&**disk, path) {
            // Without a record its name may not be durable: making it may have failed just there.
            Ok((_, found, end)) if end == MAGIC.len() as u64 => (renew(&**disk, path, MAGIC)?.0, found, end),
            Err(JournalError::File(e)) if e.is_not_found() => renew(&**disk, path, MAGIC)?,
            read => read?,
        };
        let mut journal = Self {
            disk: Arc::clone(disk),
            path: path.to_owned(),
            file,
            synced: end,
            unsynced: Vec::new(),
            written: 0,
            ragged: found.torn_bytes > 0,
            named: true,
        };
        // What was read may be in the system's memory alone; from here on it is relied on.
        journal.sync()?;
        Ok((journal, found))
    }

    /// Appends a record, which is durable after [`Self::sync`].
    ///
    /// # Errors
    /// If it is too long, or the system refuses: the record is not in the journal then.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), JournalError> {
        self.check(payload)?;
        self.name()?;
        let before = self.unsynced.len();
        push_record(&mut self.unsynced, payload);
        self.write().inspect_err(|_| {
            self.unsynced.truncate(before);
            self.written = self.written.min(before);
            // Best at once, or a later start might find it whole; else the next call does it.
            let _ = self.cut();
        })
    }

    /// Makes all records durable.
    ///
    /// # Errors
    /// If the system refuses: records since the last success may be lost in a crash. They stay in the journal, and
    /// the next call writes them again.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.name()?;
        self.write()?;
        if let Err(e) = self.file.sync_data() {
            self.written = 0;
            return Err(e.into());
        }
        self.synced += self.unsynced.len() as u64;
        self.unsynced.clear();
        self.written = 0;
        Ok(())
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// Replaces all records by these, durably: old or new are there after a crash, never some of both.
    ///
    /// # Errors
    /// If one is too long or the system refuses; the journal goes on with the old records or, where only the last
    /// step failed, the new ones.
    pub fn rewrite<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<(), JournalError> {
        let mut bytes = MAGIC.to_vec();
        for payload in payloads {
            self.check(payload)?;
            push_record(&mut bytes, payload);
        }
        self.sync()?;
        self.named = false;
        self.renew(&bytes)
    }

    fn check(&self, payload: &[u8]) -> Result<(), JournalError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(JournalError::TooLong { path: self.path.clone(), bytes: payload.len() });
        }
        Ok(())
    }

    /// Makes the name durable if it may not be. Nothing is unsynced then.
    fn name(&mut self) -> Result<(), JournalError> {
        if self.named {
            return Ok(());
        }
        let mut bytes = MAGIC.to_vec();
        for payload in read_file(&*self.disk, &self.path)?.1.records {
            push_record(&mut bytes, &payload);
        }
        self.renew(&bytes)
    }

    fn renew(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let (file, _, end) = renew(&*self.disk, &self.path, bytes)?;
        (self.file, self.synced, self.named) = (file, end, true);
        Ok(())
    }

    /// Writes what is not in the file.
    fn write(&mut self) -> Result<(), JournalError> {
        self.cut()?;
        if self.written < self.unsynced.len() {
            self.ragged = true;
            write_all_at(&*self.file, &self.unsynced[self.written..], self.synced + self.written as u64)?;
            self.written = self.unsynced.len();
            self.ragged = false;
        }
        Ok(())
    }

    /// Cuts off what is behind the last record.
    fn cut(&mut self) -> Result<(), JournalError> {
        if self.ragged {
            self.file.set_len(self.synced + self.written as u64)?;
            self.ragged = false;
        }
        Ok(())
    }
}

/// What is read: the file, what is in it, and where its last record ends.
type Read = (Arc<dyn DiskFile>, Found, u64);

/// Opens and reads a file.
fn read_file(disk: &dyn Disk, path: &Path) -> Result<Read, JournalError> {
    let file = disk.open(path, Access::Write)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    let Some(body) = bytes[..read].strip_prefix(MAGIC) else {
        return Err(JournalError::Foreign { path: path.to_owned() });
    };
    let (found, end) = read_records(body);
    Ok((file, found, (MAGIC.len() + end) as u64))
}

/// Puts a new file in place, and opens it.
fn renew(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<Read, JournalError> {
    file::replace(disk, path, bytes)?;
    read_file(disk, path)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&length);
    digest.update(payload);
    digest.finalize() as u32
}

fn push_record(bytes: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    bytes.extend_from_slice(MARKER);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(length, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
}

/// The payload of the record that begins here, if it is whole.
fn record_at(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.strip_prefix(MARKER)?.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    let whole = payload.len() <= PAYLOAD_BYTES_MAX && checksum(*length, payload) == u32::from_le_bytes(*sum);
    whole.then_some(payload)
}

/// The records, and where the last one ends.
fn read_records(body: &[u8]) -> (Found, usize) {
    let (mut found, mut end, mut at, mut tries) = (Found::default(), 0, 0, FALSE_MARKERS_MAX);
    while at < body.len() && tries > 0 {
        if let Some(payload) = record_at(&body[at..]) {
            found.records.push(payload.to_vec());
            found.damaged_bytes += (at - end) as u64;
            end = at + HEADER_BYTES + payload.len();
            at = end;
        } else {
            tries -= usize::from(body[at..].starts_with(MARKER));
            let next = body[at + 1..].windows(MARKER.len()).position(|window| window == MARKER);
            at = next.map_or(body.len(), |n| at + 1 + n);
        }
    }
    if tries == 0 {
        // Not searched to its end, so not to be cut either.
        found.damaged_bytes += (body.len() - end) as u64;
        end = body.len();
    }
    found.torn_bytes = (body.len() - end) as u64;
    (found, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::CrashImages;
    use crate::faulty::{Faulty, Kind};
    use crate::real::RealDisk;
    use crate::recorder::Recorder;

    fn real() -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    fn temp(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tsdbctl-journal-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    fn payload(n: usize) -> Vec<u8> {
        vec![b'0' + n as u8; n * 150]
    }

    fn payloads(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
        range.map(payload).collect()
    }

    #[test]
    fn bytes_are_as_described() {
        let mut bytes = Vec::new();
        push_record(&mut bytes, b"ab");
        // CRC-32C of 02 00 00 00 'a' 'b', from the polynomial.
        let mut crc = !0u32;
        for byte in [2, 0, 0, 0, b'a', b'b'] {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            }
        }
        let expected = [&b"\xa5rec\x02\0\0\0"[..], &(!crc).to_le_bytes(), b"ab"].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn damage_costs_what_it_hit() {
        let mut body = Vec::new();
        let mut starts = Vec::new();
        for n in 0..4 {
            starts.push(body.len());
            push_record(&mut body, &payload(n));
        }
        for at in 0..body.len() {
            let hit = starts.iter().rposition(|start| *start <= at).unwrap();
            let mut damaged = body.clone();
            damaged[at] ^= 0x10;
            let found = read_records(&damaged).0;
            let mut expected = payloads(0..4);
            expected.remove(hit);
            assert_eq!(found.records, expected, "{at}");
            assert_eq!((found.damaged_bytes > 0, found.torn_bytes > 0), (hit < 3, hit == 3), "{at}");
            let whole = starts.iter().filter(|start| **start <= at).count() - 1;
            assert_eq!(read_records(&body[..at]).0.records, payloads(0..whole), "{at}");
        }
        for tail in [&[0; 600][..], MARKER, b"\xa5rec\xff\xff\xff\xff\0\0\0\0"] {
            let (found, end) = read_records(&[&body, tail].concat());
            assert_eq!((found.records, end), (payloads(0..4), body.len()));
        }
        let hostile = MARKER.repeat(FALSE_MARKERS_MAX + 1);
        let (found, end) = read_records(&hostile);
        assert_eq!((found.torn_bytes, found.damaged_bytes, end), (0, hostile.len() as u64, hostile.len()));
    }

    #[test]
    fn what_is_no_journal_is_left_alone() {
        let path = temp("foreign").join("x");
        for content in [&b""[..], b"tsdb", b"something else"] {
            std::fs::write(&path, content).unwrap();
            assert!(matches!(Journal::open(&real(), &path), Err(JournalError::Foreign { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        std::fs::remove_file(&path).unwrap();
        let mut journal = Journal::open(&real(), &path).unwrap().0;
        let long = vec![0; PAYLOAD_BYTES_MAX + 1];
        assert!(matches!(journal.append(&long), Err(JournalError::TooLong { .. })));
        journal.append(&long[1..]).unwrap();
        assert_eq!(journal.file_bytes(), std::fs::metadata(&path).unwrap().len());
        assert_eq!(Journal::open(&real(), &path).unwrap().1.records, [&long[1..]]);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    /// Appends records 0 to 5, two to a sync, and rewrites them in between. Each call but that is tried twice. A mark holds what must be found from then on.
    fn append(disk: &Recorder, path: &Path) {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let opened = Journal::open(&shared, path).or_else(|_| Journal::open(&shared, path));
        let mut journal = opened.unwrap().0;
        let mut appended = String::new();
        for n in 0..6 {
            if journal.append(&payload(n)).or_else(|_| journal.append(&payload(n))).is_ok() {
                appended.push(char::from(b'0' + n as u8));
            }
            if n % 2 == 1 && journal.sync().or_else(|_| journal.sync()).is_ok() {
                disk.mark(appended.as_str());
            }
            if n == 3 {
                let kept: Vec<_> = appended.bytes().map(|c| payload(usize::from(c - b'0'))).collect();
                let _ = journal.rewrite(kept.iter().map(Vec::as_slice));
            }
        }
    }

    #[test]
    fn whatever_fails_and_whenever_it_crashes_what_was_synced_is_found() {
        let dir = temp("crash");
        let (root, image_dir) = (dir.join("data"), dir.join("image"));
        let (mut images, mut calls, mut n) = (0, 1, 0);
        while n <= calls {
            std::fs::create_dir(&root).unwrap();
            let faulty = Faulty::new(Arc::new(RealDisk));
            if n > 0 {
                faulty.fail_once(Kind::Any, n);
            }
            let disk = Recorder::new(Arc::new(faulty.clone()), &root).unwrap();
            append(&disk, &root.join("x"));
            if n == 0 {
                calls = faulty.calls();
                assert_eq!(disk.recording().marks(disk.ops().len()).last(), Some("012345"));
            }
            let recording = disk.recording();
            for image in CrashImages::new(&recording).all(n, 5) {
                images += 1;
                let text = || format!("call {n} failed; {}\n{}", image.describe(), recording.text());
                let acked = recording.marks(image.ops).last().unwrap_or("");
                let found = image.file("x").map_or(Found::default(), |bytes| {
                    assert!(bytes.starts_with(MAGIC), "{}", text());
                    read_records(&bytes[MAGIC.len()..]).0
                });
                let got: String =
                    found.records.iter().map(|r| r.first().map_or('0', |b| char::from(*b))).collect();
                // Each once, in order, none made up, all that were acknowledged.
                let once =
                    got.bytes().is_sorted() && found.records.iter().all(|r| payloads(0..6).contains(r));
                assert!(once, "{got} {}", text());
                assert!(acked.chars().all(|c| got.matches(c).count() == 1), "{got} not {acked}: {}", text());
                // The disk syncs for real, so a few must do.
                if images % 50 != 0 {
                    continue;
                }
                image.write_to(&image_dir).unwrap();
                let open = || Journal::open(&real(), &image_dir.join("x"));
                let (mut journal, opened) = open().unwrap();
                assert_eq!(opened, found, "{}", text());
                journal.append(b"more").unwrap();
                let again = open().unwrap().1;
                let expected = [found.records, vec![b"more".to_vec()]].concat();
                assert_eq!((again.records, again.torn_bytes), (expected, 0), "{}", text());
                std::fs::remove_dir_all(&image_dir).unwrap();
            }
            std::fs::remove_dir_all(&root).unwrap();
            n += 1;
        }
        assert!(calls > 10 && images > 1000, "{calls} {images}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_rewritten_journal_has_the_old_records_or_the_new() {
        let dir = temp("rewrite");
        let path = dir.join("x");
        let mut journal = Journal::open(&real(), &path).unwrap().0;
        journal.append(b"a").unwrap();
        journal.append(b"b").unwrap();
        journal.sync().unwrap();
        drop(journal);
        let disk = Recorder::new(Arc::new(RealDisk), &dir).unwrap();
        let mut journal = Journal::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), &path).unwrap().0;
        journal.rewrite([&b"c"[..]]).unwrap();
        disk.mark("new");
        journal.append(b"d").unwrap();
        journal.sync().unwrap();
        disk.mark("d");
        let recording = disk.recording();
        for image in CrashImages::new(&recording).all(1, 20) {
            let found = read_records(&image.file("x").unwrap()[MAGIC.len()..]).0.records.concat();
            let allowed: &[&[u8]] = match image.marks {
                0 => &[b"ab", b"c"],
                1 => &[b"c", b"cd"],
                _ => &[b"cd"],
            };
            assert!(allowed.contains(&found.as_slice()), "{found:?} {}", image.describe());
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
