//! A log that grows: batches of records in one write each, made durable in groups, segments cut, failed writes cut
//! back.
//!
//! Two locks. Who holds `order` may change the log: a batch, a cut, a mending after a failed sync. `state` says how
//! far it is written and durable, and is held for moments. The batches that no sync covers yet are kept in memory:
//! after a failed sync the system may have thrown them away and still answers the next sync with success, so they
//! are written again, into a new segment.
//!
//! Order of a cut: the next segment's name durable → the segment padded → synced → first byte of the next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tsdbctl_platform::disk::{Access, Disk, DiskFile, create_dir_all, settle, write_all_at};
use tsdbctl_platform::file::FileError;

use crate::compression::Compression;
use crate::damage::{Damage, WalError};
use crate::packed::PackedRecord;
use crate::page::{FragmentKind, HEADER_BYTES, PAGE_BYTES, Place, SEGMENT_BYTES, read_place};
use crate::segment::{checkpoints_among, segment_name, segments_among};
use crate::writer::write_record;

/// Syncs of a group begin at least so far apart.
const GROUP_PERIOD: Duration = Duration::from_millis(10);
/// How long nothing is tried after the disk failed twice.
const PROBE_PERIOD: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });
/// Bytes written but not synced; who has more waits.
const IN_FLIGHT_BYTES: usize = 8 << 20;
/// From so many on they are synced whatever the policy.
const SYNC_ANYWAY_BYTES: usize = IN_FLIGHT_BYTES / 2;
/// Buffers that grew longer give their memory back.
const KEPT_BUFFER_BYTES: usize = 256 << 10;

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// In groups: at once when the disk is idle, else 10 ms after the previous start; [`LogWriter::wait`] waits for it.
    #[default]
    Group,
    /// Each batch, before its append returns.
    Always,
    /// At intervals, and whenever 4 MiB wait for it; [`LogWriter::wait`] does not wait.
    Interval(Duration),
    /// When a segment is complete, and at close, as Prometheus, and whenever 4 MiB wait for it; [`LogWriter::wait`]
    /// does not wait.
    Os,
}

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A segment ends at this length at the latest, bytes; a longer batch has its own.
    pub segment_bytes: u64,
    /// How records are compressed.
    pub compression: Compression,
    /// When it is synced.
    pub sync: SyncPolicy,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES as u64,
            compression: Compression::Snappy,
            sync: SyncPolicy::Group,
        }
    }
}

/// A place in a log: everything appended before it. Grows with every append, whatever segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// A log open for appending. Shared by threads.
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

/// The right to append to a log.
#[derive(Debug)]
pub struct LogGuard<'a> {
    /// The log.
    pub log: &'a LogWriter,
    writing: MutexGuard<'a, Writing>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    order: Mutex<Writing>,
    /// Taken before `state`, behind `order`.
    next: Mutex<NextSegment>,
    state: Mutex<State>,
    /// The syncer has something to do.
    work: Condvar,
    /// A sync has answered.
    answered: Condvar,
    /// As in the state.
    durable: AtomicU64,
}

/// What only the holder of the right to append needs.
#[derive(Debug, Default)]
struct Writing {
    /// The batch in fragments.
    frames: Vec<u8>,
    /// There may be bytes in the segment behind its end.
    ragged: bool,
}

/// The segment behind the current one, made before it is needed.
#[derive(Debug, Default)]
struct NextSegment {
    file: Option<Arc<dyn DiskFile>>,
    /// Its making was tried and failed.
    tried: bool,
}

#[derive(Debug)]
struct State {
    segment: u64,
    file: Arc<dyn DiskFile>,
    /// End of the log in the segment, bytes.
    end: u64,
    /// Of it durable.
    durable_end: u64,
    written: Position,
    durable: Position,
    /// Fragments that the running sync covers.
    syncing: Vec<u8>,
    /// Fragments written after it began.
    unsynced: Vec<u8>,
    /// A sync, or the mending after one, is under way.
    busy: bool,
    last_start: Option<Instant>,
    /// A sync failed, and what it should have covered is not yet written again.
    failed: bool,
    /// What the system said last when it failed.
    error: Option<FileError>,
    /// Writing it again failed too; not before this is it tried again.
    probe_at: Option<Instant>,
    failures: u64,
    /// The highest position that a failed sync should have covered.
    failed_to: Position,
    /// The syncer waits without a time.
    idle: bool,
    next_wanted: bool,
    next_asked: bool,
    closed: bool,
    stopping: bool,
}

impl State {
    fn in_flight(&self) -> usize {
        self.syncing.len() + self.unsynced.len()
    }

    /// Notes that what was written may be lost.
    fn fail(&mut self, error: FileError) {
        self.failed = true;
        self.error = Some(error);
        self.failures += 1;
        self.failed_to = self.failed_to.max(self.written);
    }
}

/// Removes a file that a failed attempt may have left.
fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    match disk.remove_file(path) {
        Err(e) if !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}

impl Shared {
    fn last_error(&self, state: &State) -> FileError {
        match &state.error {
            Some(error) => again(error),
            None => FileError::new("sync", &self.dir, io::Error::other("unknown")),
        }
    }
}

fn again(error: &FileError) -> FileError {
    let cause = match error.cause.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.cause.kind(), error.cause.to_string()),
    };
    FileError::new(error.operation, &error.path, cause)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_on<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT_BUFFER_BYTES);
}

/// Readers ignore higher numbers.
fn check_number(segment: u64, dir: &Path) -> Result<(), FileError> {
    match i64::try_from(segment) {
        Ok(_) => Ok(()),
        Err(_) => Err(FileError::new("begin a segment in", dir, io::Error::other("the numbers are used up"))),
    }
}

/// Zeros up to the end of the page.
pub(crate) fn padding(offset: u64) -> &'static [u8] {
    static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    &ZEROS[..(PAGE_BYTES - offset as usize % PAGE_BYTES) % PAGE_BYTES]
}

/// Takes the records out of fragments that lay at `offset` of their segment, and lays them out from a segment's start.
fn lay_out_again(fragments: &[u8], offset: u64, path: &Path) -> Result<Vec<u8>, WalError> {
    let skipped = offset as usize % PAGE_BYTES;
    let mut bytes = vec![0; skipped];
    bytes.extend_from_slice(fragments);
    let (mut out, mut record, mut at) = (Vec::with_capacity(fragments.len()), Vec::new(), skipped);
    loop {
        match read_place(&bytes, at) {
            Ok(Place::Fragment(fragment, end)) => {
                record.extend_from_slice(fragment.data);
                if matches!(fragment.kind, FragmentKind::Full | FragmentKind::Last) {
                    let end_of_out = out.len();
                    write_record(&mut out, end_of_out, fragment.compression, &record);
                    record.clear();
                }
                at = end;
            }
            Ok(Place::Padding(end)) => at = end,
            Ok(Place::End) => return Ok(out),
            Err(bad) => {
                let reason = format!("damaged in memory: {}", bad.0);
                let offset = offset + (at - skipped) as u64;
                return Err(WalError::Damage(Damage { file: path.to_owned(), offset, reason }));
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn closed_error(&self) -> WalError {
        FileError::new("append to", &self.dir, io::Error::other("the log is closed")).into()
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(segment_name(segment))
    }

    /// Makes the segment behind `segment`, if that is still the current one, and its name durable.
    fn prepare_next(&self, segment: u64) -> Result<(), FileError> {
        let mut next = lock(&self.next);
        if next.file.is_some() || self.state().segment != segment {
            return Ok(());
        }
        check_number(segment + 1, &self.dir)?;
        let path = self.path(segment + 1);
        if next.tried {
            // What a failed attempt could not remove was never written to, and its name may not be durable.
            remove_if_there(&*self.disk, &path)?;
        }
        let file = self.disk.open(&path, Access::CreateNew)?;
        next.tried = true;
        self.disk.sync_dir(&self.dir).inspect_err(|_| {
            // A second sync would say yes without having made the name durable: it is made anew.
            let _ = self.disk.remove_file(&path);
        })?;
        next.file = Some(file);
        Ok(())
    }

    /// Syncs once what is written, waiting for a sync under way. After an error the state has failed.
    fn sync<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, Result<(), FileError>) {
        while state.busy {
            state = wait_on(&self.answered, state);
        }
        if state.failed {
            let error = self.last_error(&state);
            return (state, Err(error));
        }
        if state.durable == state.written && state.durable_end == state.end {
            return (state, Ok(()));
        }
        state.busy = true;
        state.last_start = Some(Instant::now());
        let s = &mut *state;
        std::mem::swap(&mut s.syncing, &mut s.unsynced);
        let (file, end, written) = (s.file.clone(), s.end, s.written);
        drop(state);
        let result = file.sync_data();
        state = self.state();
        state.busy = false;
        match &result {
            Ok(()) => {
                empty(&mut state.syncing);
                state.durable_end = end;
                state.durable = written;
                self.durable.store(written.0, Ordering::Release);
            }
            Err(error) => {
                let s = &mut *state;
                s.syncing.append(&mut s.unsynced);
                s.fail(again(error));
                self.work.notify_one();
            }
        }
        self.answered.notify_all();
        (state, result)
    }

    /// After a failed sync: cuts the segment back to what is durable, writes everything behind that into the next
    /// one, and syncs both. If that fails too, nothing is tried for a second.
    fn mend<'a>(
        &'a self,
        writing: &mut Writing,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, Result<(), WalError>) {
        while state.busy {
            state = wait_on(&self.answered, state);
        }
        if !state.failed {
            return (state, Ok(()));
        }
        if state.probe_at.is_some_and(|at| Instant::now() < at) {
            let error = self.last_error(&state);
            return (state, Err(WalError::Refusing(error)));
        }
        state.busy = true;
        let s = &mut *state;
        s.syncing.append(&mut s.unsynced);
        let fragments = std::mem::take(&mut s.syncing);
        let (file, durable_end, segment, written) = (s.file.clone(), s.durable_end, s.segment, s.written);
        drop(state);
        let done = self.write_again(&*file, durable_end, segment, &fragments);
        // Whoever prepares a segment must not see that there is none while the number is still the old one: he would take
        // the one that was just written for what a failed attempt left.
        let mut next = done.is_ok().then(|| lock(&self.next));
        state = self.state();
        if let Some(next) = &mut next {
            **next = NextSegment::default();
        }
        state.busy = false;
        let result = match done {
            Ok((file, end)) => {
                writing.ragged = false;
                state.segment = segment + 1;
                state.file = file;
                (state.end, state.durable_end) = (end, end);
                state.durable = written;
                self.durable.store(written.0, Ordering::Release);
                (state.failed, state.probe_at) = (false, None);
                (state.next_wanted, state.next_asked) = (false, false);
                Ok(())
            }
            Err(error) => {
                state.syncing = fragments;
                let error = match error {
                    WalError::File(e) => e,
                    other => FileError::new("write again", file.path(), io::Error::other(other.to_string())),
                };
                state.fail(again(&error));
                state.probe_at = Some(Instant::now() + PROBE_PERIOD);
                self.work.notify_one();
                Err(WalError::Refusing(error))
            }
        };
        drop(next);
        self.answered.notify_all();
        (state, result)
    }

    fn write_again(
        &self,
        file: &dyn DiskFile,
        durable_end: u64,
        segment: u64,
        fragments: &[u8],
    ) -> Result<(Arc<dyn DiskFile>, u64), WalError> {
        file.set_len(durable_end)?;
        // The padding makes the file one that has to be written, so that the success of the sync means something.
        write_all_at(file, padding(durable_end), durable_end)?;
        file.sync_data()?;
        let frames = lay_out_again(fragments, durable_end, file.path())?;
        self.prepare_next(segment)?;
        let Some(new) = lock(&self.next).file.clone() else {
            return Err(
                FileError::new("open", &self.path(segment + 1), io::ErrorKind::NotFound.into()).into()
            );
        };
        new.set_len(0)?;
        write_all_at(&*new, &frames, 0)?;
        new.sync_data()?;
        Ok((new, frames.len() as u64))
    }

    /// Makes the log one that can be appended to, and waits until there is room for so many bytes.
    fn ready<'a>(&'a self, writing: &mut Writing, bytes: usize) -> Result<MutexGuard<'a, State>, WalError> {
        let mut state = self.state();
        loop {
            if state.closed {
                return Err(self.closed_error());
            }
            if state.failed {
                let (after, result) = self.mend(writing, state);
                result?;
                state = after;
            } else if state.in_flight() == 0 || state.in_flight() + bytes <= IN_FLIGHT_BYTES {
                break;
            } else if state.busy {
                state = wait_on(&self.answered, state);
            } else {
                // Not left to the syncer: for some policies so little is no reason to sync.
                state = self.sync(state).0;
            }
        }
        if writing.ragged {
            state.file.set_len(state.end)?;
            writing.ragged = false;
        }
        Ok(state)
    }

    /// Writes at the end of the log; after an error the log is as before.
    fn write(
        &self,
        writing: &mut Writing,
        file: &dyn DiskFile,
        bytes: &[u8],
        end: u64,
    ) -> Result<(), FileError> {
        write_all_at(file, bytes, end).inspect_err(|_| writing.ragged = file.set_len(end).is_err())
    }

    /// Ends the segment and begins the next. `state` is ready.
    fn cut<'a>(
        &'a self,
        writing: &mut Writing,
        state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, WalError> {
        let (segment, file, end) = (state.segment, state.file.clone(), state.end);
        drop(state);
        self.prepare_next(segment)?;
        self.write(writing, &*file, padding(end), end)?;
        let mut state = self.state();
        state.end = end.next_multiple_of(PAGE_BYTES as u64);
        let (state, result) = self.sync(state);
        if result.is_err() {
            let (state, result) = self.mend(writing, state);
            result?;
            return Ok(state);
        }
        drop(state);
        let mut next = lock(&self.next);
        let Some(file) = std::mem::take(&mut *next).file else {
            return Err(
                FileError::new("open", &self.path(segment + 1), io::ErrorKind::NotFound.into()).into()
            );
        };
        let mut state = self.state();
        drop(next);
        state.segment = segment + 1;
        state.file = file;
        (state.end, state.durable_end) = (0, 0);
        (state.next_wanted, state.next_asked) = (false, false);
        Ok(state)
    }

    fn append(&self, writing: &mut Writing, batch: &[PackedRecord]) -> Result<Position, WalError> {
        let bytes: usize = batch.iter().map(|r| r.bytes.len() + HEADER_BYTES).sum();
        let mut state = self.ready(writing, bytes)?;
        if batch.is_empty() {
            return Ok(state.written);
        }
        let mut frames = std::mem::take(&mut writing.frames);
        let done = loop {
            let (file, end) = (state.file.clone(), state.end);
            drop(state);
            empty(&mut frames);
            for record in batch {
                let at = end as usize + frames.len();
                write_record(&mut frames, at, record.how, &record.bytes);
            }
            if end == 0 || end + frames.len() as u64 <= self.options.segment_bytes {
                break self.write(writing, &*file, &frames, end);
            }
            match self.ready(writing, 0).and_then(|state| self.cut(writing, state)) {
                Ok(after) => state = after,
                Err(e) => {
                    writing.frames = frames;
                    return Err(e);
                }
            }
        };
        let written = done.map_err(WalError::from).and_then(|()| self.written(writing, &frames));
        writing.frames = frames;
        written
    }

    /// Notes that a batch is written.
    fn written(&self, writing: &mut Writing, frames: &[u8]) -> Result<Position, WalError> {
        let mut state = self.state();
        let before = (state.written, state.end);
        state.unsynced.extend_from_slice(frames);
        state.end += frames.len() as u64;
        state.written.0 += frames.len() as u64;
        let position = state.written;
        if !state.next_asked && state.end >= self.options.segment_bytes / 8 * 7 {
            (state.next_wanted, state.next_asked) = (true, true);
            self.work.notify_one();
        } else if match self.options.sync {
            SyncPolicy::Always => false,
            SyncPolicy::Group => state.idle,
            SyncPolicy::Interval(_) => state.idle || state.in_flight() >= SYNC_ANYWAY_BYTES,
            SyncPolicy::Os => state.in_flight() >= SYNC_ANYWAY_BYTES,
        } {
            self.work.notify_one();
        }
        if self.options.sync != SyncPolicy::Always {
            return Ok(position);
        }
        let (mut state, result) = self.sync(state);
        let Err(error) = result else { return Ok(position) };
        // Its caller is told that it failed, so it is taken out again. Everything before it is durable.
        (state.written, state.end) = before;
        empty(&mut state.syncing);
        let (state, _) = self.mend(writing, state);
        drop(state);
        Err(WalError::NotDurable(error))
    }

    fn wait(&self, position: Position) -> Result<(), WalError> {
        if self.durable.load(Ordering::Acquire) >= position.0 {
            return Ok(());
        }
        let waits = matches!(self.options.sync, SyncPolicy::Group | SyncPolicy::Always);
        let mut state = self.state();
        let mut seen = state.failures;
        if state.failed && position <= state.failed_to {
            seen = seen.wrapping_sub(1);
        }
        loop {
            let lost = waits && state.failures != seen && position <= state.failed_to;
            if lost || state.probe_at.is_some() {
                return Err(WalError::NotDurable(self.last_error(&state)));
            }
            if state.durable >= position || !waits {
                return Ok(());
            }
            if state.stopping {
                return Err(self.closed_error());
            }
            state = wait_on(&self.answered, state);
        }
    }

    fn close(&self) -> Result<(u64, u64), WalError> {
        let mut writing = lock(&self.order);
        let mut state = self.state();
        if state.closed {
            return Ok((state.end, state.segment));
        }
        // There is no later to wait for.
        state.probe_at = None;
        drop(state);
        let state = self.ready(&mut writing, 0)?;
        let (mut state, result) = self.pad_and_sync(&mut writing, state);
        if result.is_err() {
            let (after, result) = self.mend(&mut writing, state);
            result?;
            // What was written again is durable, but ends anywhere.
            let (after, result) = self.pad_and_sync(&mut writing, after);
            result?;
            state = after;
        }
        state.closed = true;
        Ok((state.end, state.segment))
    }

    /// Syncs the log's end, padded if there is room: readers do without.
    fn pad_and_sync<'a>(
        &'a self,
        writing: &mut Writing,
        state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, Result<(), FileError>) {
        let (file, end) = (state.file.clone(), state.end);
        drop(state);
        let padded = self.write(writing, &*file, padding(end), end);
        let mut state = self.state();
        if padded.is_ok() {
            state.end = end.next_multiple_of(PAGE_BYTES as u64);
        }
        self.sync(state)
    }

    fn stop(&self) {
        self.state().stopping = true;
        self.work.notify_all();
        self.answered.notify_all();
    }

    /// When the next sync is due; `None` if nothing waits for one.
    fn sync_due(&self, state: &State, now: Instant) -> Option<Instant> {
        if state.written == state.durable || state.busy {
            return None;
        }
        let after = |period| state.last_start.map_or(now, |t| t + period);
        match self.options.sync {
            SyncPolicy::Always => None,
            SyncPolicy::Group => Some(after(GROUP_PERIOD)),
            _ if state.in_flight() >= SYNC_ANYWAY_BYTES => Some(now),
            SyncPolicy::Interval(period) => Some(after(period)),
            SyncPolicy::Os => None,
        }
    }

    /// What the syncing thread does.
    fn run(&self) {
        let mut state = self.state();
        while !state.stopping {
            let now = Instant::now();
            if std::mem::take(&mut state.next_wanted) {
                let segment = state.segment;
                drop(state);
                // If it fails, the cut tries again and tells.
                let _ = self.prepare_next(segment);
                state = self.state();
                continue;
            }
            let failed_until = state.failed.then(|| state.probe_at.unwrap_or(now));
            let due = failed_until.or_else(|| self.sync_due(&state, now));
            match due {
                None => {
                    state.idle = true;
                    state = wait_on(&self.work, state);
                    state.idle = false;
                }
                Some(at) if at > now => {
                    let done = self.work.wait_timeout(state, at - now);
                    state = done.unwrap_or_else(PoisonError::into_inner).0;
                }
                Some(_) if failed_until.is_some() => {
                    drop(state);
                    let mut writing = lock(&self.order);
                    let (after, _) = self.mend(&mut writing, self.state());
                    drop(after);
                    drop(writing);
                    state = self.state();
                }
                Some(_) => state = self.sync(state).0,
            }
        }
    }
}

impl LogWriter {
    /// Opens `dir` (made if it does not exist) for appending. What is there must have been mended
    /// ([`mod@crate::mend`]); a new segment behind the last one is begun (the last one itself if it is empty), its name
    /// durable before the first append.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Arc<Self>, WalError> {
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // After a failed sync of its directory a name is made anew, for a second sync may only say that it is durable.
        // That may have been an earlier start, which could not even remove it: then it is empty.
        if tsdbctl_platform::file::is_dir(dir) && disk.read_dir(dir)?.is_empty() {
            // One that cannot be removed, a mount point perhaps, stays.
            let _ = disk.remove_dir(dir);
        }
        create_dir_all(&*disk, dir).and_then(|()| disk.sync_dir(parent)).inspect_err(|_| {
            let _ = disk.remove_dir(dir);
        })?;
        let entries = disk.read_dir(dir)?;
        let behind =
            checkpoints_among(entries.clone()).last().map_or(0, |(index, _)| index.saturating_add(1));
        let segments = segments_among(entries);
        // A killed process left it without a sync. Nothing may follow what a power cut can still tear, and the series
        // whose records it has count as logged from here on.
        if let Some(last) = segments.iter().rfind(|s| s.size > 0) {
            settle(&*disk.open(&last.path, Access::Write)?)?;
        }
        let (segment, access) = match segments.last() {
            Some(s) if s.size == 0 && s.index >= behind => {
                disk.remove_file(&s.path)?;
                (s.index, Access::CreateNew)
            }
            Some(s) => (behind.max(s.index.saturating_add(1)), Access::CreateNew),
            None => (behind, Access::CreateNew),
        };
        check_number(segment, dir)?;
        let path = dir.join(segment_name(segment));
        let file = disk.open(&path, access)?;
        disk.sync_dir(dir).inspect_err(|_| {
            let _ = disk.remove_file(&path);
        })?;
        let state = State {
            segment,
            file,
            end: 0,
            durable_end: 0,
            written: Position(0),
            durable: Position(0),
            syncing: Vec::new(),
            unsynced: Vec::new(),
            busy: false,
            last_start: None,
            failed: false,
            error: None,
            probe_at: None,
            failures: 0,
            failed_to: Position(0),
            idle: false,
            next_wanted: false,
            next_asked: false,
            closed: false,
            stopping: false,
        };
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_owned(),
            options,
            order: Mutex::default(),
            next: Mutex::default(),
            state: Mutex::new(state),
            work: Condvar::new(),
            answered: Condvar::new(),
            durable: AtomicU64::new(0),
        });
        let for_syncer = shared.clone();
        let syncer = std::thread::Builder::new()
            .name("log-sync".to_string())
            .spawn(move || for_syncer.run())
            .map_err(|e| FileError::new("begin a thread for", dir, e))?;
        Ok(Arc::new(Self { shared, syncer: Mutex::new(Some(syncer)) }))
    }

    /// The right to append. Batches lie in the log in the order in which they had it.
    pub fn lock(&self) -> LogGuard<'_> {
        LogGuard { log: self, writing: lock(&self.shared.order) }
    }

    /// Waits until everything before `position` is durable, under [`SyncPolicy::Group`]; under the other policies it
    /// only says whether the log has failed.
    ///
    /// # Errors
    /// If a sync failed that should have made it durable: it may be lost.
    pub fn wait(&self, position: Position) -> Result<(), WalError> {
        self.shared.wait(position)
    }

    /// Everything before this is durable.
    pub fn durable(&self) -> Position {
        Position(self.shared.durable.load(Ordering::Acquire))
    }

    /// Number of the segment that is appended to.
    pub fn segment(&self) -> u64 {
        self.shared.state().segment
    }

    /// Ends the segment (padded, durable) and begins the next, whose number is returned. Not for who holds the lock:
    /// see [`LogGuard::next_segment`].
    ///
    /// # Errors
    /// If the system refuses.
    pub fn next_segment(&self) -> Result<u64, WalError> {
        self.lock().next_segment()
    }

    /// Removes all segments before `index`, oldest first, each removal durable before the next. The segment that is
    /// appended to stays.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn truncate(&self, index: u64) -> Result<(), WalError> {
        let (disk, dir) = (&self.shared.disk, &self.shared.dir);
        let before = index.min(self.segment());
        for segment in segments_among(disk.read_dir(dir)?).iter().take_while(|s| s.index < before) {
            disk.remove_file(&segment.path)?;
            disk.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Pads (if there is room) and syncs, and ends the syncing thread. Offset and number of the segment at its end.
    ///
    /// # Errors
    /// If the system refuses; the log is as open as before then.
    pub fn close(&self) -> Result<(u64, u64), WalError> {
        let end = self.shared.close()?;
        self.stop();
        Ok(end)
    }

    fn stop(&self) {
        self.shared.stop();
        if let Some(syncer) = lock(&self.syncer).take() {
            let _ = syncer.join();
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

impl LogGuard<'_> {
    /// Appends a batch in one write. All of it is in the log or nothing: after a failed write the log is cut back to
    /// where it was before anything else is appended. A batch lies in one segment.
    ///
    /// # Errors
    /// If it could not be written. The next batch may succeed.
    pub fn append(&mut self, batch: &[PackedRecord]) -> Result<Position, WalError> {
        self.log.shared.append(&mut self.writing, batch)
    }

    /// Ends the segment (padded, durable) and begins the next, whose number is returned.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn next_segment(&mut self) -> Result<u64, WalError> {
        let shared = &self.log.shared;
        let state = shared.ready(&mut self.writing, 0)?;
        Ok(shared.cut(&mut self.writing, state)?.segment)
    }
}

#[cfg(test)]
#[path = "log_writer_tests.rs"]
mod tests;
