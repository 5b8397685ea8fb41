//! What several commands ask for: data directories, a time range, limits, features.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tsdbctl_platform::clock::{Clock, SystemClock};
use tsdbctl_promql::engine::Features;
use tsdbctl_storage::{Budget, Control, Interrupt};
use tsdbctl_tsdb::{Database, OpenOptions};

use crate::sizes::parse_size;
use crate::times::{Reference, parse_step};
use crate::ui::Ui;

/// Where the data is.
#[derive(Clone, Debug, clap::Args)]
pub struct Directories {
    /// A data directory of Prometheus (or of its agent), or a single block; several are merged.
    #[arg(short, long = "dir", value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
}

impl Directories {
    /// Opens them read-only.
    ///
    /// # Errors
    /// If one of them is not what it should be.
    pub fn open(&self) -> anyhow::Result<Database> {
        Ok(Database::open(&self.dirs, OpenOptions::default())?)
    }
}

/// What stops the work.
#[derive(Clone, Debug, clap::Args)]
pub struct Limits {
    /// Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit.
    #[arg(long, value_name = "BYTES", default_value = "2GiB")]
    pub memory_budget: String,
    /// Give up after this time, parsing included; 0 for never.
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: String,
}

impl Limits {
    /// The limits as the libraries take them; time begins to run now.
    ///
    /// # Errors
    /// If they are no size or duration.
    pub fn control(&self) -> anyhow::Result<Control> {
        let budget = match parse_size(&self.memory_budget).context("--memory-budget")? {
            0 => Budget::unlimited(),
            bytes => Budget::new(bytes),
        };
        let timeout = match parse_step(&self.timeout).context("--timeout")? {
            ..=0 => None,
            ms => Some(Duration::from_millis(ms.unsigned_abs())),
        };
        Ok(Control::new(Interrupt::default(), budget, timeout))
    }
}

/// All times there can be, Unix ms, with room for a lookback on either side.
pub const ALL_TIMES: (i64, i64) = (i64::MIN / 4, i64::MAX / 4);

/// A range of sample times.
#[derive(Clone, Debug, clap::Args)]
pub struct TimeRange {
    /// Earliest time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h; the beginning if not given.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: Option<String>,
    /// Latest time, in the same forms; the end if not given.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub end: Option<String>,
}

impl TimeRange {
    /// The range, Unix ms, both ends inclusive.
    ///
    /// # Errors
    /// If a time is none, or the newest sample is asked for and cannot be found.
    pub fn resolve(
        &self,
        database: &Database,
        control: &Control,
        default: (i64, i64),
    ) -> anyhow::Result<(i64, i64)> {
        let reference = Reference::new(now_ms(), || Ok(database.newest_sample_time(control)?));
        let side = |text: &Option<String>, name: &'static str, default| {
            text.as_deref().map_or(Ok(default), |t| reference.parse(t).context(name))
        };
        Ok((side(&self.start, "--start", default.0)?, side(&self.end, "--end", default.1)?))
    }
}

/// The machine's time, Unix ms.
pub fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

/// Feature switches.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FeatureFlags {
    /// Switch on a feature of PromQL, by Prometheus' name: promql-experimental-functions,
    /// promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal,
    /// promql-per-step-stats, use-start-timestamps, type-and-unit-labels. Repeatable, or with commas between.
    #[arg(long = "enable-feature", value_name = "NAME", value_delimiter = ',')]
    pub names: Vec<String>,
}

impl FeatureFlags {
    /// The switches; unknown names are warned about, as Prometheus does.
    pub fn features(&self, ui: &mut Ui) -> Features {
        let mut features = Features::default();
        for name in &self.names {
            if features.enable(name.trim()).is_err() {
                ui.warn(format!("unknown feature {name:?} in --enable-feature is ignored"));
            }
        }
        features
    }
}
