//! The files of full chunks, `chunks_head/`: written in order through a buffer, read back with positioned reads.
//! Nothing is synced per chunk: the log has all that is in them until the head is truncated.
//!
//! A chunk has its place as soon as it is in the buffer; what could not be written stays there and is written again at
//! the same place, so that no sound chunk ever follows a torn one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use hashbrown::HashMap;
use tsdbctl_chunk::Encoding;
use tsdbctl_platform::disk::{
    Access, Disk, DiskFile, create_dir_all, read_full_at, rewrite, settle, write_all_at,
};
use tsdbctl_platform::file::FileError;
use tsdbctl_storage::{Loss, StorageError};

use crate::late_end::LateEnd;
use crate::mapped::{
    BadChunk, FILE_HEADER, Scan, Scanned, file_name, list_files, write_chunk, write_file_header,
};

/// Bytes at which a file ends (upstream's `MaxHeadChunkFileSize`).
pub const FILE_BYTES: u64 = 128 << 20;
/// Bytes that are written at one go.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes read for a chunk at first: all of nearly any chunk.
const READ_BYTES: usize = 512;

/// Where a chunk lies: file number (24 bits) and offset in it (28 bits); upstream's chunk disk mapper reference is
/// the number in the upper and the offset in the lower 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkPlace {
    /// Number of the file.
    pub file: u32,
    /// Offset of the chunk's header.
    pub offset: u32,
}

impl ChunkPlace {
    /// As markers have it.
    pub fn reference(self) -> u64 {
        u64::from(self.file) << 32 | u64::from(self.offset)
    }

    /// From a reference.
    pub fn of_reference(reference: u64) -> Self {
        Self { file: (reference >> 32) as u32, offset: reference as u32 }
    }
}

/// A chunk read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// The series' reference.
    pub series_ref: u64,
    /// First time, Unix ms.
    pub mint: i64,
    /// Last time, Unix ms.
    pub maxt: i64,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Whether its samples came out of order.
    pub out_of_order: bool,
    /// The samples.
    pub data: Vec<u8>,
}

/// The files. Shared by all shards behind one lock for writing; reads do not wait for writes unless what they want is
/// not written yet.
#[derive(Debug)]
pub struct ChunkFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    writer: Mutex<Writer>,
    /// Chunks in front of this reference are in files.
    written: AtomicU64,
    handles: RwLock<HashMap<u32, Arc<dyn DiskFile>>>,
    /// Bytes at which a file ends.
    file_bytes: u64,
}

#[derive(Debug)]
struct Writer {
    file: Option<Arc<dyn DiskFile>>,
    /// Number of `file`, or of the last one there was before.
    number: u32,
    /// Where the buffer's first byte belongs.
    written: u64,
    buffer: Vec<u8>,
    /// A file of this number was begun and may be there.
    begun: u32,
    /// A sync of a file failed: what it had may be lost although it can be read.
    unsound: Option<PathBuf>,
    /// The current file is to be written again before a sync of it means something.
    is_unwritten: bool,
}

impl Writer {
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }
}

impl ChunkFiles {
    /// Opens `dir` (made if missing) for appending behind file `last` (0: none); files that are there can be read. What
    /// a killed process left of the last one is durable afterwards: no file follows one that a power cut may tear.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, last: u32) -> Result<Self, StorageError> {
        create_dir_all(&*disk, dir)?;
        if last > 0 {
            settle(&*disk.open(&dir.join(file_name(last)), Access::Write)?)?;
        }
        let writer = Writer {
            file: None,
            number: last,
            written: 0,
            buffer: Vec::new(),
            begun: 0,
            unsound: None,
            is_unwritten: false,
        };
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            writer: Mutex::new(writer),
            written: AtomicU64::new((u64::from(last) + 1) << 32),
            handles: RwLock::default(),
            file_bytes: FILE_BYTES,
        })
    }

    /// Ends files at `bytes` (at most 128 MiB).
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes.min(FILE_BYTES);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// If the system refuses: the caller keeps the chunk in memory and may try again.
    pub fn write(
        &self,
        series_ref: u64,
        (mint, maxt): (i64, i64),
        encoding: Encoding,
        out_of_order: bool,
        data: &[u8],
    ) -> Result<ChunkPlace, StorageError> {
        // Header, length and checksum take 25 + 5 + 4 bytes at most.
        let most = data.len() + crate::mapped::MAX_CHUNK_META;
        let mut writer = self.lock();
        if writer.file.is_none() || writer.end() + most as u64 > self.file_bytes {
            self.cut(&mut writer)?;
        } else if writer.buffer.len() + most > BUFFER_BYTES {
            self.flush_locked(&mut writer)?;
        }
        let offset = writer.end();
        let place = ChunkPlace {
            file: writer.number,
            offset: u32::try_from(offset).map_err(|_| self.too_long(writer.number, offset))?,
        };
        if writer.buffer.capacity() == 0 {
            writer.buffer.reserve_exact(BUFFER_BYTES);
        }
        write_chunk(&mut writer.buffer, series_ref, (mint, maxt), encoding, out_of_order, data);
        Ok(place)
    }

    fn too_long(&self, number: u32, offset: u64) -> StorageError {
        StorageError::Corrupt(Loss {
            file: self.dir.join(file_name(number)),
            offset,
            reason: "the file is too long".to_owned(),
        })
    }

    /// Ends the current file and begins the next.
    fn cut(&self, writer: &mut Writer) -> Result<(), StorageError> {
        self.sync_locked(writer)?;
        let number = writer.number + 1;
        let path = self.dir.join(file_name(number));
        if writer.begun == number {
            // An attempt before this left it behind, perhaps with a name that no sync makes durable any more.
            match self.disk.remove_file(&path) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        let file = self.disk.open(&path, Access::CreateNew)?;
        writer.begun = number;
        let mut header = Vec::with_capacity(FILE_HEADER);
        write_file_header(&mut header);
        write_all_at(&*file, &header, 0)?;
        // Once in 128 MiB: whoever finds the file finds its header.
        file.sync_data()?;
        self.disk.sync_dir(&self.dir).inspect_err(|_| {
            // A second sync would say yes without having made the name durable: it is made anew.
            let _ = self.disk.remove_file(&path);
        })?;
        self.handles.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&file));
        writer.file = Some(file);
        writer.number = number;
        writer.written = FILE_HEADER as u64;
        self.written.store(u64::from(number) << 32 | FILE_HEADER as u64, Ordering::Release);
        Ok(())
    }

    fn flush_locked(&self, writer: &mut Writer) -> Result<(), StorageError> {
        let Some(file) = &writer.file else { return Ok(()) };
        if writer.buffer.is_empty() {
            return Ok(());
        }
        write_all_at(&**file, &writer.buffer, writer.written)?;
        writer.written = writer.end();
        writer.buffer.clear();
        self.written.store(u64::from(writer.number) << 32 | writer.written, Ordering::Release);
        Ok(())
    }

    fn sync_locked(&self, writer: &mut Writer) -> Result<(), StorageError> {
        self.flush_locked(writer)?;
        let Some(file) = &writer.file else { return Ok(()) };
        if writer.is_unwritten {
            // This sync would say that all is well.
            rewrite(&**file)?;
            writer.is_unwritten = false;
        }
        if let Err(e) = file.sync_data() {
            writer.unsound = Some(file.path().to_owned());
            // Now, for there may be no later here: the next start's sync would say so too.
            writer.is_unwritten = rewrite(&**file).is_err();
            return Err(e.into());
        }
        Ok(())
    }

    /// Reads a chunk, wherever it is by now, and checks it.
    ///
    /// # Errors
    /// If it is damaged or gone.
    pub fn read(&self, place: ChunkPlace) -> Result<StoredChunk, StorageError> {
        if place.reference() >= self.written.load(Ordering::Acquire) {
            let writer = self.lock();
            if writer.number == place.file
                && let Some(at) = u64::from(place.offset).checked_sub(writer.written)
            {
                let rest = writer.buffer.get(at as usize..).unwrap_or(&[]);
                return parse(rest).map_err(|e| self.damaged(place, e.reason));
            }
        }
        let file = self.handle(place.file)?;
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let read = read_full_at(&*file, &mut bytes, u64::from(place.offset))?;
            let is_end = read < bytes.len();
            match parse(&bytes[..read]) {
                Ok(chunk) => return Ok(chunk),
                Err(BadChunk { is_cut: true, .. }) if !is_end && (bytes.len() as u64) < FILE_BYTES => {
                    bytes.resize(bytes.len() * 8, 0);
                }
                Err(e) => return Err(self.damaged(place, e.reason)),
            }
        }
    }

    /// Notes, durably, that the out-of-order chunks up to this one are in blocks. Its file is to be durable.
    ///
    /// # Errors
    /// If it cannot be read, or the note not be written.
    pub fn note_late_end(&self, place: ChunkPlace) -> Result<(), StorageError> {
        let chunk = self.read(place)?;
        let end = LateEnd {
            file: place.file,
            offset: place.offset,
            series: chunk.series_ref,
            mint: chunk.mint,
            maxt: chunk.maxt,
            length: chunk.data.len() as u32,
        };
        end.write(&*self.disk, &self.dir)
    }

    /// No chunk that comes lies in front of this reference.
    pub(super) fn end(&self) -> u64 {
        let writer = self.lock();
        match &writer.file {
            Some(_) => u64::from(writer.number) << 32 | writer.end(),
            None => (u64::from(writer.number) + 1) << 32,
        }
    }

    /// Whether a chunk is in its file, not in the buffer.
    pub(super) fn is_written(&self, place: ChunkPlace) -> bool {
        place.reference() < self.written.load(Ordering::Acquire)
    }

    /// The path of a file.
    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.dir.join(file_name(number))
    }

    fn damaged(&self, place: ChunkPlace, reason: String) -> StorageError {
        StorageError::Corrupt(Loss {
            file: self.dir.join(file_name(place.file)),
            offset: u64::from(place.offset),
            reason,
        })
    }

    fn handle(&self, number: u32) -> Result<Arc<dyn DiskFile>, StorageError> {
        if let Some(file) = self.handles.read().unwrap_or_else(PoisonError::into_inner).get(&number) {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.dir.join(file_name(number)), Access::Read)?;
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(handles.entry(number).or_insert(file)))
    }

    /// Hands what is buffered to the system.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.flush_locked(&mut self.lock())
    }

    /// Flushes and makes the current file durable. Once a sync failed this fails until the head is opened anew: what
    /// the system could not write then may be gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn sync(&self) -> Result<(), StorageError> {
        let mut writer = self.lock();
        if let Some(path) = &writer.unsound {
            let cause = std::io::Error::other("an earlier sync of this file failed");
            return Err(FileError::new("sync", path, cause).into());
        }
        self.sync_locked(&mut writer)
    }

    /// Number of the file that is written to, 0 if none was begun.
    pub fn current(&self) -> u32 {
        let writer = self.lock();
        if writer.file.is_some() { writer.number } else { 0 }
    }

    /// Begins the next file if the newest has chunks, so that it can be removed when they are not needed any more.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn begin_next(&self) -> Result<(), StorageError> {
        let mut writer = self.lock();
        let has_chunks = match &writer.file {
            Some(_) => writer.end() > FILE_HEADER as u64,
            None => {
                let files = list_files(&self.dir)?;
                let newest = files.iter().find(|(number, _)| *number == writer.number);
                newest.is_some_and(|(_, entry)| entry.size > FILE_HEADER as u64)
            }
        };
        if has_chunks { self.cut(&mut writer) } else { Ok(()) }
    }

    /// Removes the files before `file`, oldest first, each removal durable before the next. The newest stays: its number
    /// must not be used again.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn truncate(&self, file: u32) -> Result<(), StorageError> {
        let newest = self.lock().number;
        for (number, entry) in list_files(&self.dir)? {
            if number >= file.min(newest) {
                break;
            }
            self.handles.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
            self.disk.remove_file(&entry.path)?;
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.lock().buffer.capacity()
    }
}

/// The chunk at the beginning of `bytes`.
fn parse(bytes: &[u8]) -> Result<StoredChunk, BadChunk> {
    let wrong = |reason: &str| BadChunk { reason: reason.to_owned(), is_cut: false };
    let Some(Scanned { series, out_of_order, chunk }) = Scan::new(bytes, 0, 0).next()? else {
        return Err(wrong("no chunk is there"));
    };
    let chunk = chunk.ok_or_else(|| wrong("a chunk of unknown encoding"))?;
    let start = chunk.offset as usize;
    let data = bytes.get(start..start + chunk.len as usize).ok_or_else(|| wrong("no chunk is there"))?;
    Ok(StoredChunk {
        series_ref: series,
        mint: chunk.mint,
        maxt: chunk.maxt,
        encoding: chunk.encoding,
        out_of_order,
        data: data.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use tsdbctl_platform::file::Entry;
    use tsdbctl_platform::real::RealDisk;

    use super::*;

    /// The real disk, but writes and syncs fail while told so; every call is noted.
    #[derive(Debug, Default)]
    struct Moody {
        full: AtomicBool,
        no_sync: AtomicBool,
        /// Bytes that a write takes before it fails.
        short: AtomicUsize,
        calls: Mutex<Vec<String>>,
    }

    #[derive(Debug)]
    struct MoodyDisk(Arc<Moody>);

    #[derive(Debug)]
    struct MoodyFile(Arc<Moody>, Arc<dyn DiskFile>);

    impl Moody {
        fn note(&self, what: &str, path: &Path) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            self.calls.lock().unwrap().push(format!("{what} {name}"));
        }
    }

    fn refused(path: &Path) -> FileError {
        FileError::new("write", path, std::io::ErrorKind::StorageFull.into())
    }

    impl Disk for MoodyDisk {
        fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn DiskFile>, FileError> {
            if access != Access::Read {
                self.0.note("create", path);
            }
            Ok(Arc::new(MoodyFile(self.0.clone(), RealDisk.open(path, access)?)))
        }
        fn create_dir(&self, path: &Path) -> Result<(), FileError> {
            RealDisk.create_dir(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
            RealDisk.rename(from, to)
        }
        fn link(&self, from: &Path, to: &Path) -> Result<(), FileError> {
            RealDisk.link(from, to)
        }
        fn remove_file(&self, path: &Path) -> Result<(), FileError> {
            self.0.note("remove", path);
            RealDisk.remove_file(path)
        }
        fn remove_dir(&self, path: &Path) -> Result<(), FileError> {
            RealDisk.remove_dir(path)
        }
        fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
            self.0.note("sync dir", path);
            RealDisk.sync_dir(path)
        }
        fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
            RealDisk.read_dir(path)
        }
        fn free_space(&self, path: &Path) -> Result<u64, FileError> {
            RealDisk.free_space(path)
        }
        fn total_space(&self, path: &Path) -> Result<u64, FileError> {
            RealDisk.total_space(path)
        }
    }

    impl DiskFile for MoodyFile {
        fn path(&self) -> &Path {
            self.1.path()
        }
        fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, FileError> {
            self.1.read_at(bytes, offset)
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, FileError> {
            if self.0.full.load(Ordering::Relaxed) {
                let short = self.0.short.swap(0, Ordering::Relaxed).min(bytes.len());
                if short == 0 {
                    return Err(refused(self.path()));
                }
                return self.1.write_at(&bytes[..short], offset);
            }
            self.0.note("write", self.path());
            self.1.write_at(bytes, offset)
        }
        fn sync_data(&self) -> Result<(), FileError> {
            self.0.note("sync", self.path());
            if self.0.no_sync.load(Ordering::Relaxed) {
                Err(refused(self.path()))
            } else {
                self.1.sync_data()
            }
        }
        fn set_len(&self, bytes: u64) -> Result<(), FileError> {
            self.1.set_len(bytes)
        }
        fn len(&self) -> Result<u64, FileError> {
            self.1.len()
        }
    }

    fn chunk(i: u64) -> (u64, (i64, i64), Encoding, bool, Vec<u8>) {
        let times = (i as i64 * 1000 - 5, i as i64 * 1000 + 900);
        let len = 20 + (i * 37 % 700) as usize;
        let encoding = if i.is_multiple_of(3) { Encoding::Histogram } else { Encoding::Xor };
        (i + 1, times, encoding, i.is_multiple_of(5), vec![i as u8; len])
    }

    fn check(files: &ChunkFiles, places: &[ChunkPlace]) {
        for (place, i) in places.iter().zip(0..) {
            let (series_ref, (mint, maxt), encoding, out_of_order, data) = chunk(i);
            let wanted = StoredChunk { series_ref, mint, maxt, encoding, out_of_order, data };
            assert_eq!(files.read(*place).unwrap(), wanted, "{i} {place:?}");
        }
    }

    fn write(files: &ChunkFiles, i: u64) -> Result<ChunkPlace, StorageError> {
        let (series_ref, times, encoding, out_of_order, data) = chunk(i);
        files.write(series_ref, times, encoding, out_of_order, &data)
    }

    #[test]
    fn chunks_are_read_from_buffer_and_files_and_by_the_old_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chunks_head");
        let open = |last| ChunkFiles::open(Arc::new(RealDisk), &path, last).unwrap().with_file_bytes(20_000);
        let files = open(0);
        assert_eq!(files.current(), 0);
        let mut places = Vec::new();
        for i in 0..300 {
            places.push(write(&files, i).unwrap());
            if i % 90 == 0 {
                files.flush().unwrap();
            }
        }
        assert!(places.is_sorted() && files.current() > 4);
        check(&files, &places);
        files.sync().unwrap();
        check(&files, &places);
        let last = files.current();
        let files = open(last);
        for i in 300..400 {
            places.push(write(&files, i).unwrap());
        }
        assert_eq!(places[300].file, last + 1);
        check(&files, &places);
        files.sync().unwrap();

        let mut losses = crate::loss::Losses { tolerant: false, list: Vec::new() };
        let mut seen = Vec::new();
        let read = crate::mapped::MappedChunks::open(&path, &mut losses, |series, out_of_order, c| {
            seen.push((series, (c.mint, c.maxt), c.encoding, out_of_order, c.len as usize));
        })
        .unwrap();
        assert_eq!(read.files.len(), places[399].file as usize);
        let wanted: Vec<_> = (0..400).map(chunk).map(|(r, t, e, o, d)| (r, t, e, o, d.len())).collect();
        assert_eq!(seen, wanted);

        let keep = places[200].file;
        files.truncate(keep).unwrap();
        assert!(files.read(places[0]).is_err());
        assert!(files.read(ChunkPlace { file: keep, offset: 9 }).is_err());
        assert!(files.read(ChunkPlace { file: u32::MAX, offset: 8 }).is_err());
        check_from(&files, &places, 200);
        files.truncate(u32::MAX).unwrap();
        assert_eq!(list_files(&path).unwrap().len(), 1);
    }

    fn check_from(files: &ChunkFiles, places: &[ChunkPlace], from: u64) {
        for i in from..places.len() as u64 {
            assert_eq!(files.read(places[i as usize]).unwrap().data, chunk(i).4);
        }
    }

    #[test]
    fn a_full_disk_leaves_no_torn_chunk_in_front_of_sound_ones() {
        let dir = tempfile::tempdir().unwrap();
        let moody = Arc::new(Moody::default());
        let disk = Arc::new(MoodyDisk(moody.clone()));
        let files = ChunkFiles::open(disk, dir.path(), 0).unwrap().with_file_bytes(30_000);
        let (mut places, mut failures) = (Vec::new(), 0);
        let mut i = 0;
        for round in 0..600 {
            moody.full.store(round % 100 > 60, Ordering::Relaxed);
            moody.short.store(round % 13 * 11, Ordering::Relaxed);
            if round % 7 == 0 {
                failures += u32::from(files.flush().is_err());
            }
            match write(&files, i) {
                Ok(place) => {
                    places.push(place);
                    i += 1;
                }
                Err(_) => failures += 1,
            }
            if round % 50 == 49 {
                check(&files, &places);
            }
        }
        assert!(failures > 20 && places.len() > 400, "{failures} {}", places.len());
        moody.full.store(false, Ordering::Relaxed);
        files.sync().unwrap();
        let mut losses = crate::loss::Losses { tolerant: false, list: Vec::new() };
        let mut count = 0;
        crate::mapped::MappedChunks::open(dir.path(), &mut losses, |_, _, _| count += 1).unwrap();
        assert_eq!(count, places.len());
    }

    #[test]
    fn a_file_is_durable_before_the_next_begins_and_a_failed_sync_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let moody = Arc::new(Moody::default());
        let disk = Arc::new(MoodyDisk(moody.clone()));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(file_name(6)), []).unwrap();
        let files = ChunkFiles::open(disk, &path, 6).unwrap().with_file_bytes(1_000);
        moody.calls.lock().unwrap().clear();
        for i in 0..12 {
            write(&files, i).unwrap();
        }
        let cut = |n: u32| {
            let begin = format!("create {n:06},write {n:06},sync {n:06},sync dir c");
            if n == 7 { begin } else { format!("write {:06},sync {:06},{begin}", n - 1, n - 1) }
        };
        let last = files.current();
        assert!(last > 7);
        let calls = moody.calls.lock().unwrap().join(",");
        assert_eq!(calls, (7..=last).map(cut).collect::<Vec<_>>().join(","));
        moody.calls.lock().unwrap().clear();
        files.truncate(last).unwrap();
        let removal = |n| format!("remove {n:06},sync dir c");
        assert_eq!(
            moody.calls.lock().unwrap().join(","),
            (6..last).map(removal).collect::<Vec<_>>().join(",")
        );
        moody.no_sync.store(true, Ordering::Relaxed);
        moody.calls.lock().unwrap().clear();
        assert!(files.sync().is_err());
        // The last write is of the whole file again, so that the next start's sync has something to do.
        let calls = moody.calls.lock().unwrap().join(",");
        assert_eq!(calls, format!("write {last:06},sync {last:06},write {last:06}"));
        moody.no_sync.store(false, Ordering::Relaxed);
        assert!(files.sync().is_err());
        assert!(write(&files, 12).is_ok());
    }
}
