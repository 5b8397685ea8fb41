//! `tsdbctl rules backtest`: when alerts would have fired.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tsdbctl_block::meta::HINT_OUT_OF_ORDER;
use tsdbctl_model::Labels;
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_promql::engine::{ErrorKind, Features, QueryOptions};
use tsdbctl_rules::alerting::Surroundings;
use tsdbctl_rules::backtest::report::{AlertReport, Report, compare, noise_growth_percent};
use tsdbctl_rules::backtest::{BacktestError, Options, run as backtest};
use tsdbctl_rules::file::{ReadOptions, RuleFile, RuleKind};
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_tsdb::Database;

use super::input::inputs;
use crate::data::{Directories, FeatureFlags, Limits, now_ms};
use crate::exit::ExitStatus;
use crate::findings;
use crate::times::{Reference, parse_step};
use crate::ui::Ui;

mod show;
mod timeline;

/// Show when alerts would have been pending and firing over stored data: how often, for how long, how noisy.
///
/// Every alerting rule is evaluated from --start to --end at its group's interval. Evaluations before that, as far back
/// as `for` and `keep_firing_for` reach, tell what was active at the start; series of which they cannot tell are counted
/// as unknown.
///
/// Pending and firing are counted where they begin, so that what fires all along counts as no firing, though as firing
/// time.
///
/// Notifications: one when a series begins to fire, one when it is resolved. What a server sends again every minute is
/// none, as Alertmanager takes it for the same alert. Alertmanager may send fewer (it puts alerts into groups, and
/// silences) and more (it repeats what goes on firing, every four hours unless told otherwise): how the rules behave is
/// compared here, and not how it is set up. A flap is a firing within an hour of the same series' previous one.
///
/// Rules see every sample that is stored at or before their evaluation. A server may not have had the newest ones
/// yet: what arrives late is looked past with --query-offset.
///
/// With --against the same is done with other files, and the alerts are compared: exit code 1 if all of them together
/// notify by more than --max-noise-increase percent more. Exit code 4 tells that rules failed at some evaluations.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rule files, or FILE:path.to.key for a part of a file; standard input if there are none.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// First evaluation: RFC 3339, Unix seconds, now-1h, -1h, newest-1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: String,
    /// Latest evaluation, in the same forms; the newest sample's time if not given.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub end: Option<String>,
    /// Distance of the evaluations of all groups, whatever their interval.
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    /// Interval of groups that have none.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub evaluation_interval: String,
    /// Query offset of groups that have none.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub query_offset: String,
    /// An older version of the rules to compare with; repeatable.
    #[arg(long, value_name = "FILE")]
    pub against: Vec<PathBuf>,
    /// Most growth of notifications against the older version that is no failure, percent; inf for any.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 10.0,
        requires = "against",
        allow_hyphen_values = true
    )]
    pub max_noise_increase: f64,
    /// An external label for templates, NAME=VALUE; repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    pub external_label: Vec<String>,
    /// External URL for templates.
    #[arg(long, value_name = "URL", default_value = "")]
    pub external_url: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
    /// Draw a timeline into this file too.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// How far an instant selector looks back.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub lookback_delta: String,
    /// Pass over fields that rule files do not have.
    #[arg(long)]
    pub ignore_unknown_fields: bool,
    /// Read all documents of a file.
    #[arg(long)]
    pub all_documents: bool,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
    /// Limits.
    #[command(flatten)]
    pub limits: Limits,
}

/// How a backtest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: a line per alert.
    Table,
    /// One JSON object with every span of every series.
    Json,
    /// The timeline.
    Svg,
}

/// Runs the command.
///
/// # Errors
/// If the arguments make no sense, or files or data cannot be read.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let control = args.limits.control()?;
    let features = args.features.features(ui);
    if args.max_noise_increase.is_nan() {
        bail!("--max-noise-increase must be a number");
    }
    let (Some(new), Some(old)) = (read(args, &args.files, features, ui)?, read_old(args, features, ui)?)
    else {
        return Ok(ExitStatus::Failure);
    };
    let database = args.data.open()?;
    let options = match options(args, features, &database, &control) {
        Ok(options) => options,
        Err(e) => match e.downcast_ref::<StorageError>() {
            Some(StorageError::Control(e)) => {
                ui.error(e.to_string());
                return Ok(ExitStatus::Failure);
            }
            _ => return Err(e),
        },
    };
    if options.end_ms < options.start_ms {
        let (start, end) = (format_rfc3339_ms(options.start_ms), format_rfc3339_ms(options.end_ms));
        if args.end.is_none() {
            bail!(
                "the newest sample, {end}, is before --start {start}; newest-1h counts from it, -1h from this moment"
            );
        }
        bail!("--end {end} is before --start {start}");
    }
    let mut notes = coverage(&database, &options, &control)?;
    if new
        .iter()
        .chain(&old)
        .flat_map(|f| &f.groups)
        .flat_map(|g| &g.rules)
        .all(|r| r.kind != RuleKind::Alert)
    {
        ui.warn("there are no alerting rules to test");
    }
    let run = |files: &[RuleFile]| backtest(&database, files, &options, &control);
    let done = run(&new).and_then(|report| {
        let old = if args.against.is_empty() { None } else { Some(run(&old)?) };
        Ok((report, old))
    });
    let (mut report, old) = match done {
        Ok(done) => done,
        Err(e) => return fail(&e, ui),
    };
    notes.append(&mut report.notes);
    notes.extend(unmatched(&report));
    report.notes = notes;
    let pairs = old.as_ref().map(|old| compare(old, &report));
    let compared = old.as_ref().zip(pairs.as_deref());
    match args.output {
        Output::Table => show::table(ui.out(), &report, compared)?,
        Output::Json => show::json(ui.out(), &report, compared)?,
        Output::Svg => ui.out().write_all(timeline::draw(&report).as_bytes())?,
    }
    ui.flush()?;
    if let Some(path) = &args.svg {
        tsdbctl_platform::file::write(path, timeline::draw(&report).as_bytes()).context("--svg")?;
        ui.detail(format!("wrote {}", path.display()));
    }
    for note in &report.notes {
        ui.warn(note);
    }
    let failed = show::say_failures(ui, &report);
    if let Some(old) = &old {
        let growth = noise_growth_percent(old, &report);
        if growth.unwrap_or(f64::INFINITY) > args.max_noise_increase {
            ui.error(format!(
                "{} instead of {}: {}, more than the {} % of --max-noise-increase",
                show::notifications(report.notifications()),
                old.notifications(),
                growth.map_or("there were none before".to_string(), |g| format!("{g:+.1} %")),
                args.max_noise_increase
            ));
            return Ok(ExitStatus::Failure);
        }
    }
    Ok(if failed { ExitStatus::Partial } else { ExitStatus::Success })
}

/// As a query that fails ends.
fn fail(error: &BacktestError, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let kind = match error {
        BacktestError::Query { error, .. } => match error.kind {
            ErrorKind::BadData | ErrorKind::Execution => "",
            ErrorKind::Timeout => " (timeout)",
            ErrorKind::Canceled => " (canceled)",
            ErrorKind::Internal => " (storage)",
        },
        _ => "",
    };
    ui.error(format!("{error}{kind}"));
    Ok(ExitStatus::Failure)
}

/// Where the range lies outside of the data, and where samples came later than those behind them.
fn coverage(database: &Database, options: &Options, control: &Control) -> anyhow::Result<Vec<String>> {
    let (start, end) = (options.start_ms, options.end_ms);
    let blocks = database.time_range();
    let newest = database.newest_sample_time(control)?;
    let mut notes = Vec::new();
    let Some(last) = newest.or(blocks.map(|b| b.1)) else {
        return Ok(vec!["the directories hold no samples".to_string()]);
    };
    let (from, to) = (blocks.map(|b| b.0.min(last)), format_rfc3339_ms(last));
    let covers = match from {
        Some(from) => format!("the data covers {} to {to}", format_rfc3339_ms(from)),
        None => format!("the data ends at {to}"),
    };
    let lookback = options.query.lookback_delta;
    if start > last.saturating_add(lookback) || from.is_some_and(|from| end < from) {
        notes.push(format!(
            "nothing of the range is stored: {covers}, the range is {} to {}",
            format_rfc3339_ms(start),
            format_rfc3339_ms(end)
        ));
    } else if end > last.saturating_add(lookback) {
        notes.push(format!("{covers}: the range goes on to {}, with nothing to see", format_rfc3339_ms(end)));
    } else if from.is_some_and(|from| start.saturating_add(lookback) < from) {
        notes.push(format!(
            "{covers}: the range begins earlier, at {}, with nothing to see",
            format_rfc3339_ms(start)
        ));
    }
    let late = database.blocks().iter().map(|b| &b.meta).filter(|m| {
        m.min_time <= end && m.max_time > start && m.compaction.hints.iter().any(|h| h == HINT_OUT_OF_ORDER)
    });
    let late: u64 = late.map(|m| m.stats.num_samples).sum();
    if late > 0 {
        notes.push(format!(
            "{late} samples of the range's blocks came later than newer ones: the rules see them, a server did not at their time"
        ));
    }
    Ok(notes)
}

/// Why alerts could not be, each reason once.
fn unmatched(report: &Report) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<&AlertReport>)> = Vec::new();
    for alert in &report.alerts {
        for why in &alert.unmatched {
            match by_reason.iter_mut().find(|(known, _)| known == why) {
                Some((_, alerts)) => alerts.push(alert),
                None => by_reason.push((why, vec![alert])),
            }
        }
    }
    let text = |(why, alerts): (&str, Vec<&AlertReport>)| {
        let rest = match alerts.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        format!("{}: {}{rest}: {why} in the range", alerts[0].place, alerts[0].name)
    };
    by_reason.into_iter().map(text).collect()
}

fn read_old(args: &Args, features: Features, ui: &mut Ui) -> anyhow::Result<Option<Vec<RuleFile>>> {
    if args.against.is_empty() { Ok(Some(Vec::new())) } else { read(args, &args.against, features, ui) }
}

fn read(
    args: &Args,
    files: &[PathBuf],
    features: Features,
    ui: &mut Ui,
) -> anyhow::Result<Option<Vec<RuleFile>>> {
    let reading = ReadOptions {
        ignore_unknown_fields: args.ignore_unknown_fields,
        all_documents: args.all_documents,
        features,
    };
    let mut out = Vec::new();
    let mut bad = false;
    for input in inputs(files) {
        match input.read_telling(&reading, ui)? {
            Ok(file) => out.push(file),
            Err(found) => {
                findings::show(ui, &found);
                bad = true;
            }
        }
    }
    Ok((!bad).then_some(out))
}

fn options(
    args: &Args,
    features: Features,
    database: &Database,
    control: &Control,
) -> anyhow::Result<Options> {
    let newest = || Ok(database.newest_sample_time(control)?);
    let reference = Reference::new(now_ms(), newest);
    let end_ms = match &args.end {
        Some(t) => reference.parse(t).context("--end")?,
        None => newest()?.context("the directories hold no samples")?,
    };
    let mut external_labels = Labels::empty();
    for text in &args.external_label {
        let Some((name, value)) = text.split_once('=') else {
            bail!("--external-label {text:?}: give NAME=VALUE");
        };
        external_labels.set(name, value);
    }
    Ok(Options {
        start_ms: reference.parse(&args.start).context("--start")?,
        end_ms,
        default_interval_ms: positive(&args.evaluation_interval, "--evaluation-interval")?,
        step_ms: args.step.as_deref().map(|s| positive(s, "--step")).transpose()?,
        default_query_offset_ms: parse_step(&args.query_offset).context("--query-offset")?,
        query: QueryOptions {
            lookback_delta: positive(&args.lookback_delta, "--lookback-delta")?,
            default_subquery_step: positive(&args.evaluation_interval, "--evaluation-interval")?,
            features,
            ..QueryOptions::default()
        },
        surroundings: Surroundings {
            external_labels,
            external_url: args.external_url.trim_end_matches('/').to_string(),
        },
        firings: args.output == Output::Json,
    })
}

fn positive(text: &str, name: &'static str) -> anyhow::Result<i64> {
    match parse_step(text).context(name)? {
        ..=0 => bail!("{name} must be longer than 0"),
        ms => Ok(ms),
    }
}

/// Reports that are shown side by side: the old one with what belongs together.
type Compared<'a> = Option<(&'a Report, &'a [tsdbctl_rules::backtest::report::Pair])>;
