//! `tsdbctl query`: PromQL over data directories.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_promql::api_json::{StatsLevel, query_error_body, write_lines, write_result_with};
use tsdbctl_promql::engine::{self, MaxResolution, QueryError, QueryOptions, QueryResult, QueryTime, Value};
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_tsdb::Database;

use crate::data::{Directories, FeatureFlags, Limits, now_ms};
use crate::diagnostic::show_query_error;
use crate::exit::ExitStatus;
use crate::inspect::answer::TRUNCATED;
use crate::times::{Reference, parse_step};
use crate::ui::Ui;

pub mod graph;
pub mod lines;
pub mod operators;
pub mod picture;
pub mod rows;

/// Evaluate PromQL over data directories, with no server.
///
/// Without times the expression is evaluated once, at the newest sample's time. With --start, --end or --step it is
/// evaluated over a range; what is not given of these is: the end the newest sample's time, the start an hour before
/// the end, the step a 250th of the range, at least a second. Pictures always show a range.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The expression.
    #[arg(allow_hyphen_values = true)]
    pub expr: String,
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// Evaluate at this time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
    pub time: Option<String>,
    /// First evaluation time of a range, in the same forms.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: Option<String>,
    /// Latest evaluation time of a range, in the same forms.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub end: Option<String>,
    /// Distance of evaluation times: 15s, 1m, or seconds.
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
    /// Draw a picture into this file too.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Draw a picture into this file too.
    #[arg(long, value_name = "FILE")]
    pub png: Option<PathBuf>,
    /// Print the plan and do not run it.
    #[arg(long, conflicts_with = "analyze")]
    pub explain: bool,
    /// Print to stderr what each operator did: series, chunks, samples, bytes, memory, time.
    #[arg(long)]
    pub analyze: bool,
    /// Add sample counts and timings, as the API's `stats`; `all` counts per step too (with the feature
    /// promql-per-step-stats).
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub stats: Option<Stats>,
    /// Most series in the answer; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: usize,
    /// How far an instant selector looks back.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub lookback_delta: String,
    /// Coarsest resolution of downsampled data to use where there is finer: auto (by step, range and function; raw
    /// samples in instant queries), 0s (raw samples), 5m, 1h.
    #[arg(long, value_name = "RESOLUTION", default_value = "auto", value_parser = parse_resolution)]
    pub max_source_resolution: MaxResolution,
    /// Most samples in memory at once, by Prometheus' count.
    #[arg(long, value_name = "N", default_value_t = 50_000_000)]
    pub max_samples: u64,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
    /// Limits.
    #[command(flatten)]
    pub limits: Limits,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: an instant result in columns, a range in one line per series.
    Table,
    /// The HTTP API's response body, errors included.
    Json,
    /// The API's element of each series, one a line.
    Ndjson,
    /// One line per sample, a column per label.
    Csv,
    /// The lines of `promtool tsdb dump`: labels, value, time in ms.
    Prom,
    /// A line chart.
    Graph,
}

/// Levels of statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stats {
    /// Totals.
    True,
    /// Per step too.
    All,
}

fn parse_resolution(text: &str) -> Result<MaxResolution, String> {
    match (text, parse_step(text)) {
        ("auto", _) => Ok(MaxResolution::Auto),
        (_, Ok(ms)) if ms >= 0 => Ok(MaxResolution::Fixed(ms)),
        _ => Err("not a resolution; give auto, 0s, 5m or 1h".to_string()),
    }
}

/// The range of a picture, or of a range query without a start.
const DEFAULT_RANGE_MS: i64 = 3_600_000;

/// Evaluation times that a range without a step has.
const DEFAULT_STEPS: i64 = 250;

/// Runs the command.
///
/// # Errors
/// If the arguments make no sense or the directories cannot be opened.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let control = args.limits.control()?;
    let features = args.features.features(ui);
    let options = QueryOptions {
        lookback_delta: match parse_step(&args.lookback_delta).context("--lookback-delta")? {
            ..=0 => bail!("--lookback-delta must be longer than 0"),
            ms => ms,
        },
        max_samples: args.max_samples,
        per_step_stats: features.per_step_stats && args.stats == Some(Stats::All),
        features,
        max_source_resolution: args.max_source_resolution,
        ..QueryOptions::default()
    };
    // A slip of the pen is told before any data is looked at.
    if let Err(e) = engine::parse_query(&args.expr, &options) {
        return fail(args, &e, ui);
    }
    let database = args.data.open()?;
    let time = match evaluation_time(args, &database, &control, ui) {
        Ok(time) => time,
        Err(e) => match e.downcast_ref::<StorageError>() {
            Some(StorageError::Control(e)) => return fail(args, &QueryError::from(e.clone()), ui),
            _ => return Err(e),
        },
    };
    if let QueryTime::Range { start, end, .. } = time
        && end < start
    {
        let error = QueryError::bad_data("end timestamp must not be before start time");
        if args.output == Output::Json {
            let message = format!("invalid parameter \"end\": {}", error.message);
            ui.out().write_all(&tsdbctl_promql::api_json::error_body("bad_data", &message))?;
            writeln!(ui.out())?;
        } else {
            show_query_error(ui, &args.expr, &error);
        }
        return Ok(ExitStatus::Failure);
    }
    say_understood(args, time, &options, &database, ui);
    if args.explain {
        return match engine::explain(&args.expr, time, &options) {
            Ok(plan) => {
                operators::write_plan(ui.out(), &plan)?;
                Ok(ExitStatus::Success)
            }
            Err(e) => fail(args, &e, ui),
        };
    }
    let run = if args.analyze { engine::run_analyzed } else { engine::run };
    match run(&database, &args.expr, time, &options, &control) {
        Ok(mut result) => {
            let truncated = truncate(&mut result, args.limit);
            show(args, &result, truncated, &control, ui)?;
            Ok(ExitStatus::Success)
        }
        Err(e) => fail(args, &e, ui),
    }
}

fn fail(args: &Args, error: &QueryError, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    if args.output == Output::Json && !args.explain {
        ui.out().write_all(&query_error_body(error))?;
        writeln!(ui.out())?;
    } else {
        show_query_error(ui, &args.expr, error);
    }
    Ok(ExitStatus::Failure)
}

/// When to evaluate; the newest sample's time is said where it is taken.
fn evaluation_time(
    args: &Args,
    database: &Database,
    control: &Control,
    ui: &mut Ui,
) -> anyhow::Result<QueryTime> {
    let newest = || Ok(database.newest_sample_time(control)?);
    let reference = Reference::new(now_ms(), newest);
    let newest_or_fail = || newest()?.context("the directories hold no samples");
    let pictured = args.output == Output::Graph || args.svg.is_some() || args.png.is_some();
    let ranged = args.start.is_some() || args.end.is_some() || args.step.is_some();
    if !ranged && !pictured {
        return Ok(QueryTime::Instant(match &args.time {
            Some(t) => reference.parse(t).context("--time")?,
            // An expression without selectors has a value even where there is no data.
            None => match newest()? {
                Some(t) => {
                    ui.say(format!("at the newest sample's time, {}", format_rfc3339_ms(t)));
                    t
                }
                None => {
                    ui.warn("the directories hold no samples; evaluating at this moment");
                    now_ms()
                }
            },
        }));
    }
    let end = match args.end.as_ref().or(args.time.as_ref()) {
        Some(t) => reference.parse(t).context("--end")?,
        None => {
            let t = newest_or_fail()?;
            ui.say(format!("up to the newest sample's time, {}", format_rfc3339_ms(t)));
            t
        }
    };
    let start = match &args.start {
        Some(t) => reference.parse(t).context("--start")?,
        None => end.saturating_sub(DEFAULT_RANGE_MS),
    };
    let step = match &args.step {
        Some(step) => match parse_step(step).context("--step")? {
            ..=0 => bail!("--step must be longer than 0"),
            ms => ms,
        },
        None => (end.saturating_sub(start) / DEFAULT_STEPS / 1000 * 1000).max(1000),
    };
    Ok(QueryTime::Range { start, end, step })
}

fn say_understood(args: &Args, time: QueryTime, options: &QueryOptions, database: &Database, ui: &mut Ui) {
    if !ui.verbose {
        return;
    }
    let stamp =
        |t: i64| format!("{} ({}.{:03})", format_rfc3339_ms(t), t.div_euclid(1000), t.rem_euclid(1000));
    ui.detail(match time {
        QueryTime::Instant(t) => format!("evaluating at {}", stamp(t)),
        QueryTime::Range { start, end, step } => format!(
            "evaluating from {} to {} every {}, {} times",
            stamp(start),
            stamp(end),
            format_duration_ms(step),
            (end - start) / step + 1
        ),
    });
    let dirs: Vec<String> = args.data.dirs.iter().map(|d| d.display().to_string()).collect();
    let downsampled = match database.downsampled().len() {
        0 => String::new(),
        n => format!(" and {n} downsampled ones"),
    };
    ui.detail(format!("over {} with {} blocks{downsampled}", dirs.join(", "), database.blocks().len()));
    ui.detail(format!(
        "lookback {}, at most {} samples, {} of memory, {} of time",
        format_duration_ms(options.lookback_delta),
        options.max_samples,
        args.limits.memory_budget,
        args.limits.timeout
    ));
}

/// Cuts vectors and matrices to `limit` series (0: none) and tells whether there were more.
pub fn truncate(result: &mut QueryResult, limit: usize) -> bool {
    let length = match &mut result.value {
        Value::Vector(elements) if limit > 0 => {
            let length = elements.len();
            elements.truncate(limit);
            length
        }
        Value::Matrix { series, .. } if limit > 0 => {
            let length = series.len();
            series.truncate(limit);
            length
        }
        _ => 0,
    };
    length > limit
}

fn show(
    args: &Args,
    result: &QueryResult,
    truncated: bool,
    control: &Control,
    ui: &mut Ui,
) -> anyhow::Result<()> {
    let stats = match args.stats {
        None => StatsLevel::None,
        Some(Stats::True) => StatsLevel::Totals,
        Some(Stats::All) => StatsLevel::All,
    };
    match args.output {
        Output::Table => rows::write(ui.out(), result)?,
        Output::Json => {
            let warnings: Vec<String> = truncated.then(|| TRUNCATED.to_string()).into_iter().collect();
            write_result_with(ui.out(), result, &args.expr, stats, &warnings)?;
            writeln!(ui.out())?;
        }
        Output::Ndjson => write_lines(ui.out(), result)?,
        Output::Csv => lines::write_csv(ui.out(), result)?,
        Output::Prom => lines::write_prom(ui.out(), result)?,
        Output::Graph => graph::write(ui, result)?,
    }
    ui.flush()?;
    if let Some(path) = &args.svg {
        picture::write_svg(path, result, &args.expr)?;
        ui.detail(format!("wrote {}", path.display()));
    }
    if let Some(path) = &args.png {
        picture::write_png(path, result, &args.expr)?;
        ui.detail(format!("wrote {}", path.display()));
    }
    if args.output != Output::Json {
        let (warnings, infos) = result.annotations.render(&args.expr, 10);
        let bare = |text: &str| {
            text.trim_start_matches("PromQL warning: ").trim_start_matches("PromQL info: ").to_string()
        };
        for text in &warnings {
            ui.warn(bare(text));
        }
        if truncated {
            ui.warn(TRUNCATED);
        }
        for text in &infos {
            ui.info(bare(text));
        }
        if args.stats.is_some() {
            operators::say_stats(ui, result, control);
        }
    }
    if args.analyze {
        operators::say_analysis(ui, result)?;
    }
    Ok(())
}
