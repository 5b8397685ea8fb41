//! Waiting for a disk that is full or fails: nothing more is read, what could not be stored is kept, and it is tried
//! again until the disk takes it or somebody asks to stop.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tsdbctl_platform::signal::StopFlag;
use tsdbctl_storage::StorageError;

use super::sink::Stop;
use crate::sizes::format_count;
use crate::ui::Ui;

/// The first time between two tries; the next ones double, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often the wish to stop is looked at.
const TICK: Duration = Duration::from_millis(50);

/// What to do when the disk takes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnDiskError {
    /// Keep what could not be stored, read no more, and try again each second until it is stored or a signal comes.
    #[default]
    Wait,
    /// End; what was read and could not be stored is counted.
    Stop,
}

/// How errors of the disk are borne. Shared by who commits and who acknowledges.
#[derive(Debug)]
pub struct Patience {
    /// The data directory, as messages name it.
    dir: String,
    on_disk_error: OnDiskError,
    stop: StopFlag,
    /// How many wait right now, and since when.
    waiting: Mutex<(usize, Instant)>,
}

/// One wait, told when it begins and when it ends.
#[derive(Debug)]
pub struct Wait<'a> {
    patience: &'a Patience,
    next: Duration,
    begun: bool,
    given_up: bool,
}

impl Patience {
    /// Patience with the disk of `dir`, until `stop`.
    pub fn new(dir: &Path, on_disk_error: OnDiskError, stop: StopFlag) -> Self {
        let waiting = Mutex::new((0, Instant::now()));
        Self { dir: dir.display().to_string(), on_disk_error, stop, waiting }
    }

    /// For something that may have to be tried more than once.
    pub fn wait(&self) -> Wait<'_> {
        Wait { patience: self, next: PAUSE_MIN, begun: false, given_up: false }
    }

    /// Does something until it succeeds; `kept` says what waits for it.
    ///
    /// # Errors
    /// As [`Wait::pause`].
    pub fn insist<T>(
        &self,
        kept: impl Fn() -> String,
        mut what: impl FnMut() -> Result<T, StorageError>,
    ) -> Result<T, Stop> {
        let mut wait = self.wait();
        loop {
            match what() {
                Ok(done) => return Ok(done),
                Err(e) => wait.pause(e, &kept)?,
            }
        }
    }
}

/// So many samples, for messages.
pub fn samples(count: u64) -> String {
    format!("{} samples", format_count(count))
}

impl Wait<'_> {
    /// Waits before the next try.
    ///
    /// # Errors
    /// If there is to be none: waiting will not help or is not wanted, or a signal came.
    pub fn pause(&mut self, error: StorageError, kept: impl FnOnce() -> String) -> Result<(), Stop> {
        let patience = self.patience;
        let asked = patience.stop.is_set();
        if asked || patience.on_disk_error == OnDiskError::Stop || !error.may_pass() {
            self.given_up = true;
            return Err(Stop::Disk { error, asked });
        }
        if !std::mem::replace(&mut self.begun, true) {
            let mut waiting = patience.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.0 == 0 {
                waiting.1 = Instant::now();
                let mut ui = Ui::stdio(false);
                ui.warn(error.to_string());
                ui.say(format!(
                    "  {} for {} wait until the disk takes them; it is asked each second, and nothing more is read until then",
                    kept(),
                    patience.dir
                ));
            }
            waiting.0 += 1;
        }
        let until = Instant::now() + self.next;
        while Instant::now() < until && !patience.stop.is_set() {
            std::thread::sleep(TICK);
        }
        self.next = (self.next * 2).min(PAUSE_MAX);
        Ok(())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        let mut waiting = self.patience.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0 -= 1;
        if waiting.0 == 0 && !self.given_up {
            let seconds = waiting.1.elapsed().as_secs_f64();
            Ui::stdio(false)
                .info(format!("{}: the disk takes data again after {seconds:.1} s", self.patience.dir));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_head::live::{Appender, Head, LiveOptions};
    use tsdbctl_platform::faulty::{Faulty, Kind};
    use tsdbctl_platform::real::RealDisk;
    use tsdbctl_platform::signal::stop_flag;
    use tsdbctl_storage::Control;

    use super::*;
    use crate::ingest::series::Known;
    use crate::ingest::sink::{Settings, Sink};

    /// A sink into a directory on a disk that can be made to fail, and what reads the head.
    fn with_sink(on_disk_error: OnDiskError, test: impl FnOnce(Sink, &mut Appender, &Faulty)) {
        let dir = tsdbctl_testkit::scratch();
        let disk = Faulty::new(Arc::new(RealDisk));
        let options = LiveOptions { out_of_order_window_ms: 1_000_000, ..LiveOptions::default() };
        let (head, _) =
            Head::open(Arc::new(disk.clone()), dir.path(), options, i64::MIN, &Control::default()).unwrap();
        let patience = Arc::new(Patience::new(dir.path(), on_disk_error, stop_flag()));
        let sink = Sink::new(Appender::new(Arc::clone(&head)), Settings::default(), patience);
        test(sink, &mut Appender::new(head), &disk);
    }

    fn send(sink: &mut Sink, ids: &mut Appender, times: impl Iterator<Item = i64>) {
        let id = ids.series([("__name__", "m")].into_iter()).unwrap();
        times.for_each(|t| sink.float(Known::Id(id), t, t as f64, 0));
    }

    #[test]
    fn a_full_disk_is_waited_for() {
        with_sink(OnDiskError::Wait, |mut sink, ids, disk| {
            disk.fill_after(10_000);
            let freed = disk.clone();
            let free = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                freed.free();
            });
            for n in 0..4 {
                send(&mut sink, ids, n * 6000..(n + 1) * 6000);
                sink.check().unwrap();
            }
            free.join().unwrap();
            let (counts, ended) = sink.finish();
            assert!(ended.is_ok() && counts.stored == 24_000 && counts.not_stored == 0, "{counts:?}");
        });
    }

    #[test]
    fn who_does_not_wait_is_told_what_is_not_stored() {
        with_sink(OnDiskError::Stop, |mut sink, ids, disk| {
            send(&mut sink, ids, 0..1000);
            sink.flush().unwrap();
            disk.fill_after(0);
            // Of more than one commit the second is not even tried.
            send(&mut sink, ids, 1000..8000);
            assert!(matches!(sink.flush(), Err(Stop::Disk { asked: false, .. })));
            disk.free();
            let (counts, _) = sink.finish();
            assert_eq!((counts.stored, counts.not_stored, counts.read()), (1000, 7000, 8000));
        });
    }

    #[test]
    fn late_samples_that_cannot_be_logged_are_not_counted_as_stored() {
        with_sink(OnDiskError::Stop, |mut sink, ids, disk| {
            send(&mut sink, ids, 5000..6000);
            sink.flush().unwrap();
            // The first write is that of the log, the second that of the log of late samples.
            disk.fail_from(Kind::Write, 2);
            send(&mut sink, ids, [100, 200, 7000].into_iter());
            sink.flush().unwrap_err();
            disk.heal();
            let (counts, _) = sink.finish();
            assert_eq!((counts.stored, counts.not_stored, counts.out_of_order), (1001, 2, 0));
        });
    }

    #[test]
    fn only_what_may_pass_is_waited_for() {
        let patience = Patience::new(Path::new("data"), OnDiskError::Wait, stop_flag());
        for (kind, waits) in [
            (std::io::ErrorKind::StorageFull, true),
            (std::io::ErrorKind::ReadOnlyFilesystem, true),
            (std::io::ErrorKind::QuotaExceeded, true),
            (std::io::ErrorKind::NotFound, false),
            (std::io::ErrorKind::PermissionDenied, false),
        ] {
            let mut tries = 0;
            let done = patience.insist(
                || samples(1),
                || {
                    tries += 1;
                    let error =
                        tsdbctl_platform::file::FileError::new("write", Path::new("data"), kind.into());
                    if tries < 3 { Err(StorageError::File(error)) } else { Ok(()) }
                },
            );
            assert_eq!((done.is_ok(), tries), if waits { (true, 3) } else { (false, 1) }, "{kind:?}");
        }
    }
}
