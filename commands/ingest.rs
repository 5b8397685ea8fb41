//! `tsdbctl ingest`: samples from files or stdin into a data directory, through its log or straight into blocks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tsdbctl_chunk::AppenderOptions;
use tsdbctl_exposition::{Format as Exposition, Options as HistogramOptions};
use tsdbctl_head::live::LiveOptions;
use tsdbctl_head::live::head::LoadReport;
use tsdbctl_model::Labels;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_platform::file;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::signal::stop_flag;
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_tsdb::LiveDatabase;
use tsdbctl_tsdb::backfill::{BackfillOptions, block_duration};
use tsdbctl_wal::{Compression, LogOptions, SyncPolicy};
use tsdbctl_wire::Version;

use crate::data::now_ms;
use crate::diagnostic::show_parse_error;
use crate::exit::ExitStatus;
use crate::in_use::refuse_unlocked_writer;
use crate::sizes::parse_size;
use crate::times::{parse_step, parse_time};
use crate::ui::Ui;

mod batch;
mod blocks;
mod csv;
mod detect;
pub mod exposition;
pub mod input;
mod ndjson;
pub mod patience;
mod remote_write;
mod report;
pub mod run;
pub mod series;
pub mod sink;
mod times;

use exposition::Reading;
use input::{Input, More};
use patience::{OnDiskError, Patience};
use run::{OnError, Run};
use sink::{Settings, Sink, Sort, Stop};
use times::TimeUnit;

/// Store samples from files or stdin in a data directory.
///
/// They go through the write-ahead log into the head, as a server's would, and Prometheus can take the directory over
/// at any time. Input may be compressed by gzip or zstd. What is stored, what was there already and what is refused is
/// counted at the end, on stderr and with -o json on stdout: samples, and exemplars apart from them; each that was read
/// is in one of the counts.
///
/// With --blocks the samples become blocks of the directory instead, in one pass, in whatever order they come: for what
/// is older than a server would take. All blocks appear at the end, or none. Of samples of a series with the same time
/// the one read first is stored; the same value again counts as there already, another one as refused. Every sample
/// needs a time, or --timestamp. Exemplars and metadata have no place in blocks.
///
/// Exit status: 0 all was stored or there already, 4 some of it was refused or could not be read, 1 the work failed or an
/// unreadable line ended it, 2 wrong usage, or a directory that cannot be used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files, or - for stdin. A remote-write body is a file of its own; text may hold any number of bodies, one after
    /// the other.
    #[arg(required = true, value_name = "FILES")]
    pub files: Vec<PathBuf>,
    /// The data directory; made if it does not exist.
    #[arg(short, long = "dir", value_name = "DIR")]
    pub dir: PathBuf,
    /// Write blocks (backfill).
    #[arg(
        long,
        conflicts_with_all = ["ack", "out_of_order_time_window", "sort", "wal_compression", "wal_sync", "on_disk_error"]
    )]
    pub blocks: bool,
    /// With --blocks: the longest range of a block. It is the largest of 2h, 6h, 18h, 54h and so on that is not longer.
    #[arg(long, value_name = "DURATION", default_value = "2h", requires = "blocks")]
    pub max_block_duration: String,
    /// With --blocks: write blocks over times that blocks of the directory, or its head, have already. Samples that are
    /// in both count once when they are queried, and compaction makes one of them.
    #[arg(long, requires = "blocks")]
    pub allow_overlap: bool,
    /// What the input is.
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "content_type")]
    pub format: Format,
    /// What the input is, by the Content-Type header that it came with, judged as a scrape judges it.
    #[arg(long, value_name = "HEADER")]
    pub content_type: Option<String>,
    /// Columns of CSV.
    #[command(flatten)]
    pub csv: csv::Options,
    /// What timestamps in JSON lines count. Default: ms, and what can hardly be that is not read.
    #[arg(long, value_enum)]
    pub timestamp_unit: Option<TimeUnit>,
    /// Time of samples that have none: RFC 3339, Unix seconds, now-1h. Default: when they are read; with --blocks they
    /// cannot be read.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub timestamp: Option<String>,
    /// A label for every series; repeatable. One of that name in the input is kept as exported_NAME.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Only series of this selector; repeatable, a series needs one of them.
    #[arg(long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// Take samples that lie this far behind the newest one.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub out_of_order_time_window: String,
    /// Whether samples are put in order of time, in memory, before they are stored. auto does so where the input runs
    /// series by series or jumps back further than is taken.
    #[arg(long, value_enum, default_value = "auto")]
    pub sort: Sort,
    /// Refuse samples and exemplars further in the future than this, as a server does (10m there). Default: no limit.
    #[arg(long, value_name = "DURATION")]
    pub max_future: Option<String>,
    /// Refuse further series once the input has brought this many; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_series: usize,
    /// What to do about a line, row, family or series that cannot be read: it is named, then reading stops or goes on
    /// behind it. What came before is stored.
    #[arg(long, value_enum, default_value = "stop")]
    pub on_error: OnError,
    /// Print on stdout, after each sync, how many samples are safe in all.
    #[arg(long)]
    pub ack: bool,
    /// How the write-ahead log is compressed.
    #[arg(long, value_enum, default_value = "snappy")]
    pub wal_compression: WalCompression,
    /// When the write-ahead log is synced: group (at most every 10 ms; what is acknowledged is on disk), always (each
    /// batch), interval[=DURATION] (5s), os (when a segment is full, as Prometheus; a power cut may take what is newer).
    #[arg(long, value_name = "WHEN", default_value = "group")]
    pub wal_sync: String,
    /// What to do when the disk is full, read-only or fails. wait: what was read is kept and tried again each second,
    /// nothing more is read meanwhile, and it goes on by itself; a signal ends the wait. Nothing is acknowledged before
    /// it is on disk again after a sync that failed.
    #[arg(long, value_enum, default_value = "wait")]
    pub on_disk_error: OnDiskError,
    /// Read native histograms where the input has them (scrape_native_histograms).
    #[arg(long)]
    pub scrape_native_histograms: bool,
    /// Read a histogram's classic series too where it is native or converted (always_scrape_classic_histograms).
    #[arg(long)]
    pub always_scrape_classic_histograms: bool,
    /// Convert classic histograms to native ones with custom buckets (convert_classic_histograms_to_nhcb).
    #[arg(long)]
    pub convert_classic_histograms_to_nhcb: bool,
    /// Switch on a feature, by Prometheus' name: exemplar-storage, histograms-st-encoding,
    /// memory-snapshot-on-shutdown, metadata-wal-records, st-storage, xor2-encoding. Repeatable, or with commas between.
    #[arg(long = "enable-feature", value_name = "NAME", value_delimiter = ',')]
    pub features: Vec<String>,
    /// Most memory that the head, samples waiting to be in order (a quarter of it) and what is remembered of series met
    /// (an eighth) may take; 0 for no limit. With --blocks samples go to a scratch file in the directory when there are
    /// more. Default: 2GiB, with --blocks 256MiB.
    #[arg(long, value_name = "BYTES")]
    pub memory_limit: Option<String>,
    /// How the counts are shown.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// By its name and first bytes.
    Auto,
    /// Prometheus text; timestamps in ms.
    Text,
    /// OpenMetrics text; timestamps in seconds.
    #[value(name = "openmetrics")]
    OpenMetrics,
    /// Metric families in protobuf, each behind its length.
    Protobuf,
    /// A body of remote write, 1.0 or 2.0, snappy or plain.
    RemoteWrite,
    /// Rows with commas between.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// Compression of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WalCompression {
    /// As Prometheus by default.
    Snappy,
    /// Smaller.
    Zstd,
    /// None.
    None,
}

/// How counts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// On stderr.
    Text,
    /// On stdout as one line of JSON, and on stderr.
    Json,
}

/// What the options come to.
struct Plan {
    live: LiveOptions,
    settings: Settings,
    blocks: BackfillOptions,
    histograms: HistogramOptions,
    /// What the header says.
    header: Option<detect::Kind>,
    timestamp_ms: Option<i64>,
}

/// Upstream's default of `storage.exemplars.max_exemplars`.
const EXEMPLARS_MAX: usize = 100_000;
/// Upstream's default range of head chunks: half of it is how far behind the newest sample one may lie.
const BEHIND_MS: i64 = 3_600_000;
/// `--wal-sync interval` without a duration.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// If an option is wrong or the directory cannot be used.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let mut selectors = Vec::new();
    for text in &args.matches {
        match tsdbctl_promql::parser::parse_metric_selector(text) {
            Ok(matchers) => selectors.push(matchers),
            Err(e) => {
                show_parse_error(ui, text, &e);
                return Ok(ExitStatus::Usage);
            }
        }
    }
    let plan = args.plan(selectors, ui)?;
    // What cannot be opened is told before the directory is touched.
    for path in &args.files {
        if path.as_os_str() == "-" {
            continue;
        }
        if !file::exists(path) {
            bail!("{}: no such file", path.display());
        }
        if file::is_dir(path) {
            bail!("{}: is a directory", path.display());
        }
        // A pipe is opened once.
        if file::is_plain_file(path) {
            file::open_stream(path)?;
        }
    }
    if file::exists(&args.dir) && !file::is_dir(&args.dir) {
        bail!("{}: is not a directory", args.dir.display());
    }
    refuse_unlocked_writer(&args.dir)?;
    if args.blocks {
        return blocks::run(args, &plan, ui);
    }
    let stop = stop_flag();
    let (database, loaded) =
        LiveDatabase::open(Arc::new(RealDisk), &args.dir, plan.live, &Control::default()).map_err(|e| {
            match e {
                // What it says is about queries.
                StorageError::Control(_) => anyhow::anyhow!(
                    "{}: what it holds does not fit in --memory-limit {}",
                    args.dir.display(),
                    args.memory_limit()
                ),
                e => e.into(),
            }
        })?;
    say_loaded(&database, &loaded, ui);
    let patience = Arc::new(Patience::new(&args.dir, args.on_disk_error, stop));
    let sink = Sink::new(database.appender(), plan.settings.clone(), Arc::clone(&patience));
    let progress = if args.ack { crate::ui::Progress::hidden() } else { ui.progress(args.pieces(), "MiB") };
    let mut run = Run {
        sink,
        ui,
        on_error: args.on_error,
        timestamp_ms: plan.timestamp_ms,
        needs_times: false,
        start_timestamps: plan.live.rules.start_timestamps,
        stop,
        unreadable: 0,
        progress,
    };
    let mut bytes = 0;
    let ended = read_files(args, &plan, &mut run, &mut bytes);
    let unreadable = run.unreadable;
    drop(run.progress);
    let (counts, finished) = run.sink.finish();
    let closed = patience.insist(|| "the last samples".to_owned(), || database.head().close());
    // Who stops reading is told if what was read before could not be stored.
    let ended = match (ended, finished) {
        (Err(Stop::Asked | Stop::Unreadable), Err(stop)) => Err(stop),
        (ended, finished) => ended.and(finished),
    };
    let ended = match (ended, &closed) {
        // A sync failed, but what it should have covered is safe by now.
        (Err(Stop::Disk { asked: true, .. }), Ok(())) if counts.not_stored == 0 => Err(Stop::Asked),
        (ended, _) => ended,
    };
    let report = report::Report { counts, unreadable, bytes, loaded: loaded.samples, blocks: None };
    let shown = report.show(args, ui);
    let mut status = report.status();
    match ended {
        Ok(()) => {}
        Err(Stop::Asked) => {
            ui.warn("interrupted; what was read before is stored");
            status = ExitStatus::Partial;
        }
        Err(Stop::Unreadable) => status = ExitStatus::Failure,
        Err(Stop::Unordered { held, back_ms }) => {
            report::show_unordered(ui, held, back_ms);
            status = ExitStatus::Failure;
        }
        Err(Stop::Disk { error, asked }) => {
            let why = if asked { "interrupted while the disk takes nothing: " } else { "" };
            ui.error(format!("{why}{error}"));
            status = ExitStatus::Failure;
        }
        // There are none here.
        Err(Stop::Blocks(e)) => {
            ui.error(e.to_string());
            status = ExitStatus::Failure;
        }
        Err(Stop::Failed(e)) => {
            ui.error(format!("{e:#}"));
            status = ExitStatus::Failure;
        }
    }
    if let Err(Stop::Disk { error, .. }) = closed {
        let what = "closing failed; what was not acknowledged may be lost with the next power cut";
        ui.error(format!("{}: {what}: {error}", args.dir.display()));
        status = ExitStatus::Failure;
    }
    shown?;
    Ok(status)
}

fn say_loaded(database: &LiveDatabase, loaded: &LoadReport, ui: &mut Ui) {
    if database.was_left_open() {
        ui.detail(format!("{}: was not closed by the program that had it before", database.dir().display()));
    }
    for loss in &loaded.losses {
        ui.warn(format!("{}: at byte {}: {}", loss.file.display(), loss.offset, loss.reason));
    }
    if loaded.unknown_series > 0 {
        ui.warn(format!("{} samples of unknown series in the log are left out", loaded.unknown_series));
    }
    ui.detail(format!("{} samples in the head", loaded.samples));
}

fn read_files(args: &Args, plan: &Plan, run: &mut Run<'_>, bytes: &mut u64) -> Result<(), Stop> {
    args.files.iter().try_for_each(|path| read_file(path, args, plan, run, bytes))
}

fn read_file(
    path: &std::path::Path,
    args: &Args,
    plan: &Plan,
    run: &mut Run<'_>,
    bytes: &mut u64,
) -> Result<(), Stop> {
    run.check()?;
    let mut input = Input::open(path)?;
    let result = read_input(&mut input, args, plan, run);
    *bytes += input.offset;
    result
}

fn read_input(input: &mut Input, args: &Args, plan: &Plan, run: &mut Run<'_>) -> Result<(), Stop> {
    use detect::Kind;
    let (kind, guessed) = match (&plan.header, args.format) {
        (Some(kind), _) => (*kind, false),
        (None, Format::Text) => (Kind::Exposition(Exposition::Text), false),
        (None, Format::OpenMetrics) => (Kind::Exposition(Exposition::OpenMetrics), false),
        (None, Format::Protobuf) => (Kind::Exposition(Exposition::Protobuf), false),
        (None, Format::RemoteWrite) => (Kind::RemoteWrite(None), false),
        (None, Format::Csv) => (Kind::Csv, false),
        (None, Format::Ndjson) => (Kind::Ndjson, false),
        (None, Format::Auto) => {
            while input.bytes().len() < detect::BYTES && !input.is_complete() {
                let more = if input.bytes().is_empty() { run.more(input) } else { run.more_or_idle(input) };
                match more {
                    Ok(More::Idle) if detect::is_enough(input.bytes()) => break,
                    Ok(_) => {}
                    // It fails again where what came is not enough.
                    Err(Stop::Failed(_)) if !input.bytes().is_empty() => break,
                    Err(stop) => return Err(stop),
                }
            }
            if detect::wants_all(input.bytes()) {
                run.read_to_end(input, detect::BINARY_BYTES_MAX)?;
            }
            let kind = if args.csv.is_used() {
                Kind::Csv
            } else {
                detect::kind(&input.name, input.bytes(), input.is_complete())
            };
            run.ui.detail(format!("{}: read as {}", input.name, kind.name()));
            (kind, true)
        }
    };
    match kind {
        Kind::Exposition(Exposition::Protobuf) => {
            let reading = Reading { format: Exposition::Protobuf, options: plan.histograms, guessed };
            exposition::read_protobuf(input, reading, run)
        }
        Kind::Exposition(format) => {
            exposition::read_lines(input, Reading { format, options: plan.histograms, guessed }, run)
        }
        Kind::RemoteWrite(version) => remote_write::read(input, version, run),
        Kind::Csv => csv::read(input, &args.csv, run),
        Kind::Ndjson => ndjson::read(input, args.timestamp_unit.unwrap_or(TimeUnit::Unsaid), run),
        Kind::Unknown(why) => {
            let name = input.name.clone();
            run.unreadable(&name, why, None)
        }
    }
}

impl Args {
    fn plan(&self, selectors: Vec<Vec<tsdbctl_model::Matcher>>, ui: &mut Ui) -> anyhow::Result<Plan> {
        let mut live = LiveOptions::default();
        let sync = match self.wal_sync.split_once('=') {
            None => match self.wal_sync.as_str() {
                "group" => SyncPolicy::Group,
                "always" => SyncPolicy::Always,
                "interval" => SyncPolicy::Interval(SYNC_INTERVAL),
                "os" => SyncPolicy::Os,
                other => bail!("--wal-sync: {other:?} is none of group, always, interval[=DURATION], os"),
            },
            Some(("interval", duration)) => match parse_step(duration).context("--wal-sync")? {
                ms @ 1.. => SyncPolicy::Interval(Duration::from_millis(ms.unsigned_abs())),
                _ => bail!("--wal-sync: an interval is longer than nothing"),
            },
            Some((other, _)) => bail!("--wal-sync: {other:?} takes no duration"),
        };
        let compression = match self.wal_compression {
            WalCompression::Snappy => Compression::Snappy,
            WalCompression::Zstd => Compression::Zstd,
            WalCompression::None => Compression::None,
        };
        live.log = LogOptions { compression, sync, ..LogOptions::default() };
        live.out_of_order_window_ms =
            parse_step(&self.out_of_order_time_window).context("--out-of-order-time-window")?.max(0);
        let limit = match parse_size(self.memory_limit()).context("--memory-limit")? {
            0 => u64::MAX,
            limit => limit,
        };
        let buffer_bytes = usize::try_from(limit / 4).unwrap_or(usize::MAX);
        let series_bytes = if limit == u64::MAX { usize::MAX } else { (limit / 8) as usize };
        live.memory_limit = if limit == u64::MAX { limit } else { limit - limit / 4 - limit / 8 };
        for name in self.features.iter().map(|name| name.trim()) {
            match name {
                "exemplar-storage" => live.max_exemplars = EXEMPLARS_MAX,
                "histograms-st-encoding" => live.rules.histogram_start_timestamps = true,
                "memory-snapshot-on-shutdown" => live.snapshot_on_close = true,
                "metadata-wal-records" => live.metadata_records = true,
                "st-storage" => live.rules.start_timestamps = true,
                "xor2-encoding" => live.rules.xor2 = true,
                _ => ui.warn(format!("unknown feature {name:?} in --enable-feature is ignored")),
            }
        }
        if live.rules.start_timestamps && !live.rules.xor2 {
            // Upstream's text.
            bail!(
                "float chunk encoding \"xor\" is incompatible with start-timestamp storage; XOR chunks do not store start timestamps, use \"xor2\" (--enable-feature=xor2-encoding)"
            );
        }
        let mut added = Labels::empty();
        for text in &self.labels {
            match text.split_once('=') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() && name != METRIC_NAME => {
                    added.set(name, value);
                }
                _ => bail!("--label: {text:?} is no label; write NAME=VALUE"),
            }
        }
        let now = now_ms();
        let newest_ms = match &self.max_future {
            None => None,
            Some(text) => Some(now.saturating_add(parse_step(text).context("--max-future")?)),
        };
        let timestamp = self.timestamp.as_deref().map(|text| parse_time(text, now).context("--timestamp"));
        self.csv.without_header()?;
        let max_block_ms = parse_step(&self.max_block_duration).context("--max-block-duration")?;
        let blocks = BackfillOptions {
            block_ms: block_duration(max_block_ms),
            // The other half is for the series, the input and the writing of blocks.
            memory_bytes: usize::try_from(limit / 2).unwrap_or(usize::MAX),
            allow_overlap: self.allow_overlap,
            chunks: AppenderOptions {
                xor2: live.rules.xor2,
                st: live.rules.start_timestamps,
                histograms_st: live.rules.histogram_start_timestamps,
                ..AppenderOptions::default()
            },
        };
        let header = match &self.content_type {
            None => None,
            Some(header) => Some(match Version::of_content_type(header) {
                Some(version) => detect::Kind::RemoteWrite(Some(version)),
                None => detect::Kind::Exposition(Exposition::of_content_type(header, None)?),
            }),
        };
        Ok(Plan {
            live,
            blocks,
            settings: Settings {
                added,
                selectors,
                newest_ms,
                sort: self.sort,
                buffer_bytes,
                series_bytes,
                behind_ms: BEHIND_MS.max(live.out_of_order_window_ms),
                series_max: self.max_series,
                exemplars: live.max_exemplars > 0,
                metadata: live.metadata_records,
                ack: self.ack,
            },
            histograms: HistogramOptions {
                fallback: None,
                native_histograms: self.scrape_native_histograms,
                keep_classic_histograms: self.always_scrape_classic_histograms,
                convert_classic_histograms: self.convert_classic_histograms_to_nhcb,
                start_timestamps: live.rules.start_timestamps,
            },
            header,
            timestamp_ms: timestamp.transpose()?,
        })
    }

    fn memory_limit(&self) -> &str {
        self.memory_limit.as_deref().unwrap_or(if self.blocks { "256MiB" } else { "2GiB" })
    }

    /// About how many pieces the files have.
    fn pieces(&self) -> u64 {
        let sizes = self.files.iter().map(|path| file::size(path).unwrap_or(0));
        sizes.map(|bytes| bytes.div_ceil(1 << 20)).sum()
    }
}
