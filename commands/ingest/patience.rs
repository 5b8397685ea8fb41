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
