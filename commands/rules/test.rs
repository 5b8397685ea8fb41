//! `tsdbctl rules test`: unit tests of rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tsdbctl_model::Span;
use tsdbctl_model::float_text::format_f;
use tsdbctl_model::regexp::Regexp;
use tsdbctl_model::sample::is_stale;
use tsdbctl_platform::{file, real::RealDisk};
use tsdbctl_promql::engine::{Features, Sample};
use tsdbctl_rules::finding::Finding;
use tsdbctl_rules::unit::file::read_test_file;
use tsdbctl_rules::unit::report::{self, FileReport, Marks, TestReport};
use tsdbctl_rules::unit::run::Settings;
use tsdbctl_rules::unit::suite::{LoadedFile, Loader, SuiteOptions, run_pattern, run_suite};
use tsdbctl_rules::unit::update::update;
use tsdbctl_storage::control::Control;
use tsdbctl_yaml::source::Dialect;
use tsdbctl_yaml::{Source, Spanned};

use crate::compact::Watch;
use crate::diagnostic::{file_place, show_line};
use crate::exit::ExitStatus;
use crate::ui::{Tone, Ui};

/// Run unit tests of rules.
///
/// The files are those of `promtool test rules`, and beyond them: an expectation may say `match: subset` (labels and
/// annotations that it does not name do not matter) or `match: regex` (and its values are anchored patterns); a case
/// may list what must be `present` or `absent` instead of all there is, or say `present: true` for anything.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of tests.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Run only tests whose name this regular expression matches, anywhere in it; may be repeated.
    #[arg(long, value_name = "RE")]
    pub run: Vec<String>,
    /// Run again whenever a file changes.
    #[arg(long)]
    pub watch: bool,
    /// Tests that run at the same time [default: one per processor].
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Rewrite expectations that failed to what came, in place; comments and order stay.
    #[arg(long)]
    pub update: bool,
    /// Mark the words that differ in colours, even where stderr is no terminal.
    #[arg(long)]
    pub diff: bool,
    /// Show how long tests took and all their samples at the end.
    #[arg(long)]
    pub debug: bool,
    /// Write the results as JUnit XML to this file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// How results are shown.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Pass over fields of rule files that are not known.
    #[arg(long)]
    pub ignore_unknown_fields: bool,
    /// PromQL features, by Prometheus' names, separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub enable_feature: Vec<String>,
    /// Refuse what Prometheus refuses for its size: 10,000 samples a query.
    #[arg(long = "compat.upstream-limits")]
    pub upstream_limits: bool,
}

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: promtool's lines, and what helps.
    Text,
    /// Test Anything Protocol.
    Tap,
    /// All facts.
    Json,
    /// JUnit XML.
    Junit,
}

/// How often changed files are looked for.
const WATCH_EVERY: Duration = Duration::from_millis(300);

/// Runs the command.
///
/// # Errors
/// If a file cannot be written, or stdout fails.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let mut features = Features::default();
    for name in &args.enable_feature {
        if let Err(e) = features.enable(name.trim()) {
            ui.error(e.to_string());
            return Ok(ExitStatus::Usage);
        }
    }
    let pattern = match run_pattern(&args.run) {
        Ok(pattern) => pattern,
        Err(e) => {
            show_bad_pattern(&args.run, &e, ui);
            return Ok(ExitStatus::Usage);
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let options = SuiteOptions {
        settings: Settings { features, upstream_limits: args.upstream_limits, dump: args.debug },
        ignore_unknown_fields: args.ignore_unknown_fields,
        run: pattern,
        jobs: args.jobs.unwrap_or(processors).max(1),
    };
    let control = Control::default();
    let _watch = args.watch.then(|| Watch::new(control.interrupt.clone()));
    loop {
        // What changes while the tests run is seen.
        let before = contents(&watched_files(args, &options));
        let status = once(args, &options, &control, ui)?;
        ui.flush()?;
        if !args.watch {
            return Ok(status);
        }
        ui.say(format!("watching {} files, Ctrl-C ends it", before.len()));
        loop {
            if control.interrupt.is_set() {
                return Ok(status);
            }
            std::thread::sleep(WATCH_EVERY);
            if contents(&watched_files(args, &options)) != before {
                break;
            }
        }
    }
}

/// The files of tests and the rule files that they name by now.
fn watched_files(args: &Args, options: &SuiteOptions) -> Vec<String> {
    if !args.watch {
        return Vec::new();
    }
    let mut loader = Loader::default();
    let mut paths = Vec::new();
    for path in &args.files {
        let loaded = loader.load(&path.display().to_string(), options);
        paths.push(loaded.name);
        paths.extend(loaded.rule_paths);
    }
    paths.sort();
    paths.dedup();
    paths
}

/// What files hold: they are small.
fn contents(paths: &[String]) -> Vec<(String, Option<Vec<u8>>)> {
    paths.iter().map(|p| (p.clone(), file::read(Path::new(p)).ok())).collect()
}

/// Names the pattern of `--run` that is no regular expression, with a mark under the place.
fn show_bad_pattern(patterns: &[String], message: &str, ui: &mut Ui) {
    // Alone each may be one that is none together with the others.
    let alone = patterns.iter().find_map(|p| Some((p.clone(), Regexp::new(p).err()?.to_string())));
    let (pattern, message) = alone.unwrap_or_else(|| (patterns.join("|"), message.to_string()));
    ui.error(format!("--run: {message}"));
    show_line(ui, &pattern, 1, fault(&pattern, &message));
    let word = ui.paint(Tone::Green, "hint");
    ui.say(format!("  = {word}: \\ before a sign takes it as it stands, as in a\\(b"));
}

/// The place in a pattern that a message is about: a parenthesis without partner, or what the message quotes.
fn fault(pattern: &str, message: &str) -> Span {
    let mut open = Vec::new();
    let mut signs = pattern.char_indices().peekable();
    let mut class = false;
    while let Some((at, sign)) = signs.next() {
        match sign {
            '\\' => drop(signs.next()),
            '[' if !class => {
                class = true;
                // The first sign of a class is one of it, behind a ^ too.
                signs.next_if(|(_, c)| *c == '^');
                signs.next_if(|(_, c)| *c == ']');
            }
            ']' => class = false,
            '(' if !class => open.push(at),
            ')' if !class && open.pop().is_none() => return Span::new(at, at + 1),
            _ => {}
        }
    }
    if let (Some(at), true) = (open.last(), message.contains("missing closing )")) {
        return Span::new(*at, at + 1);
    }
    let quoted = message.rsplit('`').nth(1).unwrap_or_default();
    match pattern.find(quoted) {
        Some(at) if !quoted.is_empty() => Span::new(at, at + quoted.len()),
        _ => Span::new(0, pattern.len()),
    }
}

fn once(args: &Args, options: &SuiteOptions, control: &Control, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let mut loader = Loader::default();
    let mut files: Vec<LoadedFile> =
        args.files.iter().map(|path| loader.load(&path.display().to_string(), options)).collect();
    let mut reports = run_suite(&files, options, control);
    if args.update && rewrite(&files, &reports, ui)? {
        loader = Loader::default();
        files = args.files.iter().map(|path| loader.load(&path.display().to_string(), options)).collect();
        reports = run_suite(&files, options, control);
    }
    for (loaded, report) in files.iter().zip(&reports) {
        warnings(loaded, report, ui);
    }
    match args.output {
        Output::Text => {
            for (loaded, report) in files.iter().zip(&reports) {
                text(args, loaded, report, ui)?;
            }
            summary(&reports, ui);
        }
        Output::Tap => write!(ui.out(), "{}", report::tap(&reports))?,
        Output::Json => writeln!(ui.out(), "{:#}", report::json(&reports))?,
        Output::Junit => write!(ui.out(), "{}", report::junit(&reports))?,
    }
    if let Some(path) = &args.junit {
        file::write(path, report::junit(&reports).as_bytes())?;
    }
    let ok = reports.iter().all(FileReport::is_ok);
    Ok(if ok { ExitStatus::Success } else { ExitStatus::Failure })
}

/// How many tests failed, where any did.
fn summary(reports: &[FileReport], ui: &mut Ui) {
    let tests: usize = reports.iter().map(|r| r.tests.len()).sum();
    let failed = reports.iter().flat_map(|r| &r.tests).filter(|t| !t.outcome.failures.is_empty()).count();
    let refused = reports.iter().filter(|r| !r.refused.is_empty()).count();
    if failed > 0 {
        ui.say(format!("{failed} of {tests} tests failed"));
    }
    if refused > 0 {
        ui.say(format!("{refused} of {} files could not be read", reports.len()));
    }
}

/// Rewrites the expectations that failed; whether any were.
fn rewrite(files: &[LoadedFile], reports: &[FileReport], ui: &mut Ui) -> anyhow::Result<bool> {
    let mut any = false;
    for (loaded, report) in files.iter().zip(reports) {
        let Ok(test_file) = &loaded.file else { continue };
        let updated = match update(test_file, &loaded.selected, report) {
            Ok(updated) => updated,
            Err(e) => {
                ui.error(format!("{}: not updated: {e}", loaded.name));
                continue;
            }
        };
        if updated.text == test_file.source.text {
            continue;
        }
        // A pattern may match nothing if others do; a file that is named has to be there.
        let needed =
            |p: &&Spanned<String>| loaded.rule_paths.is_empty() || !p.value.contains(['*', '?', '[']);
        if let Some(pattern) = loaded.unmatched.iter().find(needed) {
            ui.error(format!(
                "{}: not updated: no rule file matches {:?}, and without its rules nothing may be expected",
                test_file.source.place(pattern.span),
                pattern.value
            ));
            continue;
        }
        let again = Source::new(loaded.name.as_str(), updated.text.as_str()).with_dialect(Dialect::V2);
        if let Err(problems) = read_test_file(Arc::new(again)) {
            let why = problems.first().map(|p| p.message.clone()).unwrap_or_default();
            ui.error(format!("{}: not updated, it would no longer be read: {why}", loaded.name));
            continue;
        }
        file::rewrite(&RealDisk, Path::new(&loaded.name), updated.text.as_bytes())?;
        any = true;
        ui.say(format!("{}: {} expectations rewritten", loaded.name, updated.rewritten));
    }
    Ok(any)
}

fn warnings(loaded: &LoadedFile, report: &FileReport, ui: &mut Ui) {
    let Some(source) = &loaded.source else { return };
    let all = loaded.warnings.iter().chain(report.tests.iter().flat_map(|t| &t.outcome.warnings));
    for w in all {
        let word = ui.paint(Tone::Yellow, "WARNING");
        ui.say(format!("  {word}: {}", w.message));
        ui.say(format!("    at {}", source.place(w.span)));
        if let Some(hint) = &w.hint {
            ui.say(format!("    hint: {hint}"));
        }
    }
}

fn text(args: &Args, loaded: &LoadedFile, report: &FileReport, ui: &mut Ui) -> anyhow::Result<()> {
    let marks = if args.diff || ui.colour { Marks::Colours } else { Marks::Brackets };
    if args.debug {
        report.tests.iter().for_each(|test| debug(test, ui));
    }
    if report.is_ok() {
        writeln!(ui.out(), "  SUCCESS\n")?;
        return Ok(());
    }
    let word = ui.paint(Tone::Red, "FAILED");
    ui.say(format!("  {word}:"));
    if let Err(refusal) = &loaded.file {
        for t in &refusal.texts {
            ui.say(t);
        }
        findings(&refusal.findings, &refusal.texts, ui);
    }
    for test in &report.tests {
        for failure in &test.outcome.failures {
            ui.say(report::upstream_text(test, failure));
            for line in report::detail(report, failure, marks) {
                ui.say(format!("      {line}"));
            }
        }
    }
    if let Err(refusal) = &loaded.program {
        findings(&refusal.findings, &[], ui);
    }
    ui.say("");
    writeln!(ui.out())?;
    Ok(())
}

/// How long a test took, and its samples at the end.
fn debug(test: &TestReport, ui: &mut Ui) {
    ui.say(format!("DEBUG: Test {} finished, took {:.6}s", test.name, test.seconds));
    ui.say("DEBUG: Dump of all data (input_series and rules):");
    for (labels, samples) in &test.outcome.dump {
        ui.say(format!("{labels} =>"));
        for (t, sample) in samples {
            let value = match sample {
                Sample::Float(v) if is_stale(*v) => "stale".to_string(),
                Sample::Float(v) => format_f(*v),
                Sample::Histogram(h) => h.to_string(),
            };
            ui.say(format!("{value} @[{t}]"));
        }
    }
}

/// Shows the places of what was wrong with a file. A single one is not told of again if `told` has it.
fn findings(findings: &[Finding], told: &[String], ui: &mut Ui) {
    for f in findings {
        let at = f.source.place(f.span);
        if findings.len() == 1 && told.iter().any(|t| t.contains(&f.message)) {
            ui.say(format!(" {} {at}", ui.paint(Tone::Blue, "-->")));
        } else {
            ui.say(format!("  {}: {}", ui.paint(Tone::Bold, &at), f.message));
        }
        file_place(ui, &f.source, f.span);
        if let Some(hint) = &f.hint {
            let word = ui.paint(Tone::Green, "hint");
            ui.say(format!("  = {word}: {hint}"));
        }
    }
}
