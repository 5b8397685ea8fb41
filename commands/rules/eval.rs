//! `tsdbctl rules eval`: rules evaluated over data directories.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_model::{Labels, Matcher, SymbolTable};
use tsdbctl_promql::engine::{QueryOptions, on_big_stack};
use tsdbctl_rules::alerting::{ALERT_NAME, ALERTS, AlertRule, Surroundings};
use tsdbctl_rules::eval::{EvalError, EvalGroup, EvalSettings, Evaluated, Evaluation, RulePlace, Slots};
use tsdbctl_rules::file::{GroupSpec, ReadOptions, RuleFile, RuleKind};
use tsdbctl_rules::group::Rule;
use tsdbctl_rules::recording::RecordRule;
use tsdbctl_rules::schedule::offset_ns;
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, StorageError, TimeFilter};
use tsdbctl_tsdb::Database;
use tsdbctl_yaml::Source;

use super::input::inputs;
use crate::data::{Directories, FeatureFlags, Limits, now_ms};
use crate::exit::ExitStatus;
use crate::findings;
use crate::times::{Reference, parse_step};
use crate::ui::Ui;

mod missing;
mod show;
mod write;

use show::Shown;
use write::Writer;

/// Evaluate rules over data directories: the values and alerts that they would give.
///
/// Without --start every group is evaluated once, at --time or at the newest sample's time. With --start it is evaluated
/// at all its slots up to --end, as a server does: rules see what earlier rules recorded, whatever the directories hold
/// of the same metrics from then on. Slots before that (--lead) let alerts become what they would be.
///
/// --write stores what was recorded as blocks. Samples that are there already are not stored twice. Nothing is replaced:
/// where a sample is stored with another value, as after a rule was mended, the series and their times are named and
/// nothing is written. `slice` copies the data without such series; what is written into the copy takes their place.
///
/// Exit status: 0 done, 1 nothing was written or no rule worked, 2 wrong usage or a directory that cannot be used, 4 some
/// evaluations failed; what the others gave is shown, and written.
///
/// Where `promtool tsdb create-blocks-from rules` does otherwise: rules that read recorded series give samples at once,
/// where promtool needs a run per level; stale markers are stored where a series ends; a query offset moves samples, as
/// a server does it; native histograms are kept; no slot is lost at the edges of blocks; alerts are stored with --alerts
/// alone, as ALERTS.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rule files, or FILE:path.to.key for a part of a file; standard input if there are none.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// Evaluate once, at this time: RFC 3339, Unix seconds, now-1h, -1h, newest-1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["start", "end"])]
    pub time: Option<String>,
    /// Evaluate at the slots from this time on, in the same forms.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start: Option<String>,
    /// Latest slot, in the same forms; the newest sample's time if not given, with --write three hours ago at the latest.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "start")]
    pub end: Option<String>,
    /// Distance of the slots of all groups, whatever their interval.
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    /// Interval of groups that have none.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub evaluation_interval: String,
    /// Query offset of groups that have none.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub query_offset: String,
    /// Which times are slots.
    #[arg(long, value_enum, default_value = "auto")]
    pub slots: SlotChoice,
    /// How long before the first slot alerts are followed; the longest `for` and `keep_firing_for` if not given.
    #[arg(long, value_name = "DURATION")]
    pub lead: Option<String>,
    /// Only groups whose name matches this; repeatable.
    #[arg(long, value_name = "REGEX")]
    pub group: Vec<String>,
    /// Rules read what the directories hold of recorded metrics, and not what this run computes.
    #[arg(long)]
    pub use_stored: bool,
    /// Store what was recorded as blocks, in the data directory or in --output-dir.
    #[arg(long, requires = "start")]
    pub write: bool,
    /// Store ALERTS and ALERTS_FOR_STATE too. The latter tells since when an alert is active, at most since --lead before
    /// the first slot.
    #[arg(long, requires = "write")]
    pub alerts: bool,
    /// Where blocks are written; needed with several data directories.
    #[arg(long, value_name = "DIR", requires = "write")]
    pub output_dir: Option<PathBuf>,
    /// Longest time that a block may have samples of.
    #[arg(long, value_name = "DURATION", default_value = "2h", requires = "write")]
    pub max_block_duration: String,
    /// An external label for templates, NAME=VALUE; repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    pub external_label: Vec<String>,
    /// External URL for templates.
    #[arg(long, value_name = "URL", default_value = "")]
    pub external_url: String,
    /// Output format; with --write nothing but what was written is told unless this is given.
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
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
    /// Most memory that samples, series and results may take: bytes, 512MiB, 4GB; 0 for no limit.
    #[arg(long, value_name = "BYTES", default_value = "2GiB")]
    pub memory_budget: String,
    /// Give up after this time; 0 for never.
    #[arg(long, value_name = "DURATION", default_value = "0")]
    pub timeout: String,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: values and alerts of one time, or a line per series and alert of a range.
    Table,
    /// One JSON object with an array of evaluations.
    Json,
    /// One line per sample.
    Csv,
    /// The lines of `promtool tsdb dump`: labels, value, time in ms; by time.
    Prom,
    /// OpenMetrics with timestamps, which `ingest` reads; by series, native histograms left out.
    Openmetrics,
}

/// How slots are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SlotChoice {
    /// As stored, where the directories hold samples of the group's rules, else hash.
    Auto,
    /// A server's: multiples of the interval, moved by a hash of the file's path as given and the group's name.
    Hash,
    /// Multiples of the interval, moved as the stored samples of the group's rules are.
    Stored,
    /// The very times of the stored samples; where two or more are missing a server was started anew.
    Replay,
    /// From --start on.
    Start,
}

/// A rule's place in its file, for messages.
struct Origin {
    source: Arc<Source>,
    group: String,
    span: tsdbctl_model::Span,
    name: String,
    is_alert: bool,
}

impl Origin {
    fn place(&self) -> String {
        self.source.place(self.span)
    }
}

/// What is evaluated.
struct Plan {
    groups: Vec<EvalGroup>,
    /// Of each group its rules' places.
    origins: Vec<Vec<Origin>>,
    /// Whether there is one evaluation alone.
    once: Option<i64>,
}

impl Plan {
    fn origin(&self, place: RulePlace) -> &Origin {
        &self.origins[place.group][place.rule]
    }
}

/// How long before now blocks end that are written without --end, as with promtool.
const WRITE_BEFORE_NOW_MS: i64 = 3 * 3_600_000;

/// Runs the command.
///
/// # Errors
/// If the arguments make no sense, or data cannot be read or written.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    if args.write && args.start.is_none() {
        ui.error("--write needs --start: what is written is a range of slots");
        return Ok(ExitStatus::Usage);
    }
    let limits = Limits { memory_budget: args.memory_budget.clone(), timeout: args.timeout.clone() };
    let control = limits.control()?;
    let features = args.features.features(ui);
    let settings = EvalSettings {
        query: QueryOptions {
            lookback_delta: positive(&args.lookback_delta, "--lookback-delta")?,
            default_subquery_step: positive(&args.evaluation_interval, "--evaluation-interval")?,
            features,
            ..QueryOptions::default()
        },
        surroundings: surroundings(args)?,
        use_stored: args.use_stored,
        ..EvalSettings::default()
    };
    let reading = ReadOptions {
        ignore_unknown_fields: args.ignore_unknown_fields,
        all_documents: args.all_documents,
        features,
    };
    let mut files = Vec::new();
    let mut bad = false;
    for input in inputs(&args.files) {
        match input.read_telling(&reading, ui)? {
            Ok(file) => files.push(file),
            Err(found) => {
                findings::show(ui, &found);
                bad = true;
            }
        }
    }
    if bad {
        return Ok(ExitStatus::Failure);
    }
    let target = match (args.write, &args.output_dir, args.data.dirs.as_slice()) {
        (false, ..) => None,
        (true, Some(dir), _) => Some(dir.clone()),
        (true, None, [one]) => Some(one.clone()),
        (true, None, _) => bail!("several data directories: name with --output-dir where blocks are written"),
    };
    let database = args.data.open()?;
    let plan = plan(args, &files, &database, &control, ui)?;
    let evaluations: usize = plan.groups.iter().map(|g| g.slots.len()).sum();
    if plan.groups.is_empty() {
        ui.warn("there are no rules to evaluate");
        return Ok(if args.write { ExitStatus::Failure } else { ExitStatus::Success });
    }
    let mut writer = match &target {
        Some(dir) => {
            let longest = positive(&args.max_block_duration, "--max-block-duration")?;
            Some(Writer::open(&args.data.dirs, dir, args.alerts, longest, &control)?)
        }
        None => None,
    };
    let output = args.output.or(if args.write { None } else { Some(Output::Table) });
    let mut shown = Shown::new(output, &plan, ui)?;
    let mut trouble = Trouble::default();
    let mut progress = ui.progress(evaluations as u64, "evaluations");
    let evaluation =
        Evaluation { storage: &database, settings: &settings, control: &control, groups: &plan.groups };
    let outcome = {
        let (plan, ui) = (&plan, &mut *ui);
        on_big_stack(|| {
            evaluation.run(|e: &Evaluated<'_>| -> anyhow::Result<()> {
                if e.place.rule == 0 {
                    progress.step();
                }
                trouble.note(e);
                if e.slot.lead {
                    return Ok(());
                }
                if let Some(writer) = &mut writer {
                    writer.take(e, plan.origin(e.place).is_alert)?;
                }
                shown.take(plan, e, ui)
            })
        })
    };
    drop(progress);
    match outcome {
        Ok(()) => {}
        Err(EvalError::Storage(e)) => return Err(e.into()),
        Err(EvalError::Query { place, error }) => {
            let origin = plan.origin(place);
            let kind = if origin.is_alert { "alert" } else { "rule" };
            let of = format!("{}: group {:?}, {kind} {:?}", origin.place(), origin.group, origin.name);
            let nothing = if target.is_some() { "; nothing was written" } else { "" };
            ui.error(format!("{of}: {}{nothing}", error.message));
            return Ok(ExitStatus::Failure);
        }
        Err(EvalError::Watcher(e)) => return Err(e),
    }
    shown.finish(&plan, ui)?;
    ui.flush()?;
    trouble.say(&plan, ui);
    missing::say(&plan, &trouble.gave, &settings.query, &database, &control, ui)?;
    let failed = match (trouble.failed, trouble.worked) {
        (0, _) => ExitStatus::Success,
        (_, 0) => ExitStatus::Failure,
        _ => ExitStatus::Partial,
    };
    match (writer, target) {
        (Some(writer), Some(dir)) => Ok(match writer.finish(&dir, ui)? {
            ExitStatus::Success => failed,
            worse => worse,
        }),
        _ => Ok(failed),
    }
}

fn positive(text: &str, name: &'static str) -> anyhow::Result<i64> {
    match parse_step(text).context(name)? {
        ..=0 => bail!("{name} must be longer than 0"),
        ms => Ok(ms),
    }
}

fn surroundings(args: &Args) -> anyhow::Result<Surroundings> {
    let pair = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--external-label {text:?} is not of the form NAME=VALUE"))?;
        Ok((name.to_string(), value.to_string()))
    };
    let labels = args.external_label.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Surroundings {
        external_labels: Labels::from_pairs(labels),
        external_url: args.external_url.trim_end_matches('/').to_string(),
    })
}

/// When what is evaluated.
fn plan(
    args: &Args,
    files: &[RuleFile],
    database: &Database,
    control: &Control,
    ui: &mut Ui,
) -> anyhow::Result<Plan> {
    let reference = Reference::new(now_ms(), || Ok(database.newest_sample_time(control)?));
    let newest = || -> anyhow::Result<i64> {
        database.newest_sample_time(control)?.context("the directories hold no samples; give --time")
    };
    let (start, end, once) = match &args.start {
        Some(start) => {
            let start = reference.parse(start).context("--start")?;
            let end = match &args.end {
                Some(end) => reference.parse(end).context("--end")?,
                None => {
                    let end = newest()?;
                    let end = if args.write { end.min(now_ms() - WRITE_BEFORE_NOW_MS) } else { end };
                    ui.say(format!("up to {}", format_rfc3339_ms(end)));
                    end
                }
            };
            if end < start {
                bail!("--end {} is before --start {}", format_rfc3339_ms(end), format_rfc3339_ms(start));
            }
            (start, end, None)
        }
        None => {
            let t = match &args.time {
                Some(t) => reference.parse(t).context("--time")?,
                None => {
                    let t = newest()?;
                    ui.say(format!("at the newest sample's time, {}", format_rfc3339_ms(t)));
                    t
                }
            };
            (t, t, Some(t))
        }
    };
    let wanted = args
        .group
        .iter()
        .map(|r| tsdbctl_model::regexp::Regexp::new(r).with_context(|| format!("--group {r:?}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let chosen = |g: &GroupSpec| wanted.is_empty() || wanted.iter().any(|r| r.is_match(&g.name.value));
    let groups: Vec<(&RuleFile, &GroupSpec)> = files
        .iter()
        .flat_map(|f| f.groups.iter().map(move |g| (f, g)))
        .filter(|(_, g)| chosen(g) && !g.rules.is_empty())
        .collect();
    let alerts = groups.iter().flat_map(|(_, g)| &g.rules).filter(|r| r.kind == RuleKind::Alert);
    let settled = alerts.map(|r| r.for_ms.saturating_add(r.keep_firing_for_ms)).max().unwrap_or(0);
    let lead = match &args.lead {
        Some(lead) => parse_step(lead).context("--lead")?.max(0),
        None => settled,
    };
    let step = args.step.as_deref().map(|s| positive(s, "--step")).transpose()?;
    let default_interval = positive(&args.evaluation_interval, "--evaluation-interval")?;
    let default_offset = parse_step(&args.query_offset).context("--query-offset")?;
    let mut plan = Plan { groups: Vec::new(), origins: Vec::new(), once };
    for (file, spec) in groups {
        let rule = |rule: usize| {
            Ok::<_, anyhow::Error>(match spec.rules[rule].kind {
                RuleKind::Record => Rule::Record(RecordRule::from_spec(spec, &spec.rules[rule])),
                RuleKind::Alert => Rule::Alert(AlertRule::from_spec(spec, &spec.rules[rule])?),
            })
        };
        let rules = (0..spec.rules.len()).map(rule).collect::<anyhow::Result<Vec<_>>>()?;
        let interval = spec.interval_ms.filter(|i| *i > 0).unwrap_or(default_interval);
        let distance = step.unwrap_or(interval);
        let query_offset_ms = spec.query_offset_ms.unwrap_or(default_offset);
        let slots = match (once, args.slots) {
            (Some(t), _) => Slots::aligned(t, t, distance, t, lead),
            (None, SlotChoice::Start) => Slots::aligned(start, end, distance, start, lead),
            (None, choice) => {
                let hashed = offset_ns(&file.source.name, &spec.name.value, distance) / 1_000_000;
                let stored = if choice == SlotChoice::Hash {
                    Vec::new()
                } else {
                    stored_slots(&rules, query_offset_ms, start, end, database, control)?
                };
                let has_alerts = rules.iter().any(|r| matches!(r, Rule::Alert(_)));
                match choice {
                    SlotChoice::Replay => Slots::stored(&stored, distance, has_alerts),
                    SlotChoice::Stored if stored.is_empty() => bail!(
                        "the directories hold no samples of the rules of group {:?} between {} and {}; \
                         --slots hash takes a server's slots",
                        spec.name.value,
                        format_rfc3339_ms(start),
                        format_rfc3339_ms(end)
                    ),
                    _ => {
                        let offset =
                            commonest(stored.iter().map(|t| t.rem_euclid(distance))).unwrap_or(hashed);
                        Slots::aligned(start, end, distance, offset, lead)
                    }
                }
            }
        };
        if ui.verbose {
            let first = slots.get(0).map_or("never".to_string(), |s| format_rfc3339_ms(s.ts_ms));
            ui.detail(format!(
                "group {:?}: {} evaluations every {} from {first}",
                spec.name.value,
                slots.len(),
                format_duration_ms(distance)
            ));
        }
        plan.origins.push(
            spec.rules
                .iter()
                .map(|r| Origin {
                    source: Arc::clone(&file.source),
                    group: spec.name.value.clone(),
                    span: r.name.span,
                    name: r.name.value.clone(),
                    is_alert: r.kind == RuleKind::Alert,
                })
                .collect(),
        );
        plan.groups.push(EvalGroup {
            name: spec.name.value.clone(),
            query_offset_ms,
            limit: spec.limit,
            rules,
            slots,
        });
    }
    Ok(plan)
}

fn commonest(values: impl Iterator<Item = i64>) -> Option<i64> {
    let mut counts = std::collections::BTreeMap::new();
    for v in values {
        *counts.entry(v).or_insert(0_usize) += 1;
    }
    counts.into_iter().max_by_key(|(v, n)| (*n, std::cmp::Reverse(*v))).map(|(v, _)| v)
}

/// The slots at which a server evaluated the rules of a group, by the samples it stored.
fn stored_slots(
    rules: &[Rule],
    query_offset_ms: i64,
    start: i64,
    end: i64,
    database: &Database,
    control: &Control,
) -> Result<Vec<i64>, StorageError> {
    let selections: Vec<Vec<Matcher>> = rules
        .iter()
        .map(|rule| match rule {
            Rule::Record(rule) => vec![Matcher::equal("__name__", rule.name.as_str())],
            Rule::Alert(rule) => {
                vec![Matcher::equal("__name__", ALERTS), Matcher::equal(ALERT_NAME, rule.name.as_str())]
            }
        })
        .collect();
    let (mint, maxt) = (start.saturating_sub(query_offset_ms), end.saturating_sub(query_offset_ms));
    let querier = database.querier(mint, maxt, &selections, control)?;
    let mut times = std::collections::BTreeSet::new();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
    for matchers in &selections {
        let set = querier.select(&hints, matchers, &mut symbols, control)?;
        for i in 0..set.len() {
            let mut out = tsdbctl_chunk::SampleColumns::default();
            set.read(i, &TimeFilter::all_between(mint, maxt), &mut out, &mut ReadStats::default())?;
            times.extend(
                out.floats.t.iter().chain(&out.histograms.t).map(|t| t.saturating_add(query_offset_ms)),
            );
        }
    }
    Ok(times.into_iter().collect())
}

/// What went wrong in evaluations, each thing once per rule.
#[derive(Default)]
struct Trouble {
    worked: u64,
    failed: u64,
    /// Rules that gave something, or failed, once.
    gave: std::collections::BTreeSet<RulePlace>,
    /// By rule and text, how often and when first.
    errors: std::collections::BTreeMap<(RulePlace, String), (u64, i64)>,
    warnings: std::collections::BTreeMap<(RulePlace, String), (u64, i64)>,
    annotations: std::collections::BTreeSet<(RulePlace, String)>,
}

impl Trouble {
    fn note(&mut self, e: &Evaluated<'_>) {
        if e.outcome.is_err() || e.outcome.is_ok_and(|samples| !samples.is_empty()) {
            self.gave.insert(e.place);
        }
        let mut warn = |text: String| {
            let met = self.warnings.entry((e.place, text)).or_insert((0, e.slot.ts_ms));
            met.0 += 1;
        };
        for failure in e.failures {
            let kind = if failure.annotation { "annotation" } else { "label" };
            warn(format!("{kind} {:?}: {}", failure.name, failure.error));
        }
        for (labels, refusal) in e.refused {
            warn(format!("{labels} is not recorded: {refusal} (another rule writes the same series)"));
        }
        // Told once a window where that is evaluated at once, so their number says nothing.
        self.annotations.extend(e.annotations.iter().map(|text| (e.place, text.clone())));
        if e.slot.lead {
            return;
        }
        match e.outcome {
            Ok(_) => self.worked += 1,
            Err(error) => {
                self.failed += 1;
                let met = self.errors.entry((e.place, error.to_string())).or_insert((0, e.slot.ts_ms));
                met.0 += 1;
            }
        }
    }

    fn say(&self, plan: &Plan, ui: &mut Ui) {
        let text = |place: RulePlace, what: &str| {
            let origin = plan.origin(place);
            let kind = if origin.is_alert { "alert" } else { "rule" };
            format!("{}: group {:?}, {kind} {:?}: {what}", origin.place(), origin.group, origin.name)
        };
        let counted = |place: RulePlace, what: &str, (times, first): (u64, i64)| {
            let times = if times == 1 { String::new() } else { format!(", {times} times") };
            format!("{} (first at {}{times})", text(place, what), format_rfc3339_ms(first))
        };
        for ((place, what), count) in &self.errors {
            ui.error(counted(*place, what, *count));
        }
        for ((place, what), count) in &self.warnings {
            ui.warn(counted(*place, what, *count));
        }
        for (place, what) in &self.annotations {
            ui.warn(text(*place, what));
        }
    }
}
