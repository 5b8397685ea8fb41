//! `tsdbctl rules check`: rule files checked.

use std::path::PathBuf;

use serde_json::json;
use tsdbctl_rules::check::REFUSALS;
use tsdbctl_rules::file::{ReadOptions, RuleFile};
use tsdbctl_rules::finding::{Finding, Severity};
use tsdbctl_rules::lint::{self, CODES, DUPLICATE_RULES, duplicate_report};

use super::input::{Input, inputs};
use crate::data::FeatureFlags;
use crate::exit::ExitStatus;
use crate::findings::{self, Output};
use crate::ui::Ui;

/// Check rule files: their form, expressions and templates, and what is probably not meant in them.
///
/// Reads plain rule files, PrometheusRule objects (alone, in lists, as several documents) and parts of other YAML
/// files (FILE:path.to.key). Errors give exit status 1, files that cannot be read 2. Lint findings change it only with
/// --lint-fatal or --deny, to 3. A comment `# tsdbctl: allow CODE` in a rule or right above it silences a finding;
/// --list names them all.
///
/// JSON has one line per file: file, status (success, lint, failed), groups, rules, and findings, each with severity
/// (error, warning, note), code, message, file, line, column, endLine and endColumn (from 1, in characters, the end
/// behind the last), and, where there are such, group, rule, name, hint, upstream (what promtool prints) and related
/// (line, column, message).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rule files, or FILE:path.to.key for a part of a file; standard input if there are none.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What to look for: duplicate-rules, all and none have Prometheus' meaning for the exit status; strict counts
    /// every warning and shows notes too; a finding's own name looks for that alone. With commas between.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = DUPLICATE_RULES)]
    pub lint: Vec<String>,
    /// Exit with 3 if what --lint names is found.
    #[arg(long)]
    pub lint_fatal: bool,
    /// Exit with 3 if this is found (a finding's name, or all for every warning). Repeatable, or with commas between.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub deny: Vec<String>,
    /// Do not look for this. Repeatable, or with commas between.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Pass over fields that rule files do not have.
    #[arg(long)]
    pub ignore_unknown_fields: bool,
    /// Read all documents of a file; without it a second one is an error.
    #[arg(long)]
    pub all_documents: bool,
    /// List all that may be found, with what it means, and check nothing.
    #[arg(long, conflicts_with = "files")]
    pub list: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
}

/// What is looked for, and what counts.
struct Plan {
    duplicates: bool,
    /// Findings of our own are looked for.
    own: bool,
    /// Of these alone, if there are any.
    only: Vec<String>,
    /// Findings of our own count as those of upstream.
    counted: bool,
    /// Notes are shown.
    notes: bool,
    fatal: bool,
    deny: Vec<String>,
    allow: Vec<String>,
}

impl Plan {
    fn new(args: &Args, ui: &mut Ui) -> Self {
        let mut plan = Self {
            duplicates: false,
            own: false,
            only: Vec::new(),
            counted: false,
            notes: ui.verbose,
            fatal: args.lint_fatal,
            deny: args.deny.clone(),
            allow: args.allow.clone(),
        };
        let mut general = false;
        for name in args.lint.iter().map(|n| n.trim()) {
            match name {
                "all" | DUPLICATE_RULES => {
                    plan.duplicates = true;
                    general = true;
                }
                "strict" => {
                    plan.duplicates = true;
                    general = true;
                    plan.counted = true;
                    plan.notes = true;
                }
                "none" | "" => {}
                name if lint::code(name).is_some() => plan.only.push(name.to_string()),
                name => ui.warn(format!("unknown lint option: {name:?}")),
            }
        }
        for name in plan.deny.iter().chain(&plan.allow) {
            if name != "all" && lint::code(name).is_none() {
                ui.warn(format!("there is no finding called {name:?}"));
            }
        }
        let denied_own = plan.deny.iter().any(|name| name != DUPLICATE_RULES);
        plan.own = general || denied_own || !plan.only.is_empty();
        plan.duplicates |= plan.deny.iter().any(|name| name == DUPLICATE_RULES || name == "all");
        if general {
            plan.counted_names_stay();
        }
        plan
    }

    /// Names beside a general word are counted, and do not narrow what is looked for.
    fn counted_names_stay(&mut self) {
        let names = std::mem::take(&mut self.only);
        if self.fatal {
            self.deny.extend(names);
        }
    }

    /// Notes are matters of taste: they are denied by name only.
    fn denies(&self, finding: &Finding) -> bool {
        let all = finding.severity != Severity::Note;
        self.deny.iter().any(|name| name == finding.code || (all && name == "all"))
    }

    fn allows(&self, code: &str) -> bool {
        self.allow.iter().any(|name| name == code || name == "all")
    }

    fn counts(&self, finding: &Finding) -> bool {
        let all = finding.severity != Severity::Note;
        (self.counted && all) || self.only.iter().any(|name| name == finding.code)
    }

    /// Findings of our own that are to be shown.
    fn own_findings(&self, file: &RuleFile) -> Vec<Finding> {
        if !self.own {
            return Vec::new();
        }
        let mut found = lint::lint(file);
        found.retain(|f| {
            let named = self.only.iter().any(|name| name == f.code) || self.denies(f);
            !self.allows(f.code)
                && (self.only.is_empty() || named)
                && (f.severity != Severity::Note || self.notes || named)
        });
        found
    }
}

/// What came of one file.
#[derive(Default)]
struct Checked {
    groups: usize,
    rules: usize,
    /// Why the file is refused.
    errors: Vec<Finding>,
    /// Upstream's lint.
    duplicates: Vec<Finding>,
    /// Our own.
    own: Vec<Finding>,
}

impl Checked {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.errors.iter().chain(&self.duplicates).chain(&self.own)
    }

    fn status(&self, plan: &Plan) -> ExitStatus {
        let denied = self.all().any(|f| plan.denies(f));
        let counted = plan.fatal && (!self.duplicates.is_empty() || self.own.iter().any(|f| plan.counts(f)));
        if !self.errors.is_empty() {
            ExitStatus::Failure
        } else if denied || counted {
            ExitStatus::Lint
        } else {
            ExitStatus::Success
        }
    }
}

fn check(input: &Input, options: &ReadOptions, plan: &Plan, is_last: bool) -> anyhow::Result<Checked> {
    let (file, tree) = match input.read_with_tree(options)? {
        Ok(read) => read,
        Err(errors) => return Ok(Checked { errors, ..Checked::default() }),
    };
    let mut checked = Checked {
        groups: file.groups.len(),
        rules: file.groups.iter().map(|g| g.rules.len()).sum(),
        ..Checked::default()
    };
    if let Some(span) = file.unread {
        let message = "a second document begins here, which Prometheus does not read";
        checked.errors.push(
            Finding::new(Severity::Error, "second-document", &file.source, span, message).with_hint(
                "put all groups below one `groups:`, or into files of their own; --all-documents checks all \
                 documents",
            ),
        );
    }
    if plan.duplicates && !plan.allows(DUPLICATE_RULES) {
        checked.duplicates = lint::duplicates(&file);
    }
    checked.own = plan.own_findings(&file);
    if is_last {
        // The process ends soon, and the system takes back all memory at once: faster than rule by rule.
        std::mem::forget((file, tree));
    }
    Ok(checked)
}

/// Prints as promtool does, with places and remedies below.
fn print_text(ui: &mut Ui, checked: &Checked, plan: &Plan) -> anyhow::Result<()> {
    if !checked.errors.is_empty() {
        ui.flush()?;
        ui.say("  FAILED:");
        findings::show(ui, &checked.errors);
        findings::show(ui, &checked.own);
        return Ok(());
    }
    let counted = checked.own.iter().any(|f| plan.denies(f) || (plan.fatal && plan.counts(f)));
    match duplicate_report(&checked.duplicates) {
        Some(report) => {
            ui.flush()?;
            ui.say("  FAILED:");
            ui.say(report);
            for duplicate in &checked.duplicates {
                findings::show_place(ui, duplicate);
            }
        }
        None if counted => {
            ui.flush()?;
            ui.say("  FAILED:");
        }
        None => writeln!(ui.out(), "  SUCCESS: {} rules found", checked.rules)?,
    }
    writeln!(ui.out())?;
    ui.flush()?;
    findings::show(ui, &checked.own);
    Ok(())
}

/// Every code with its meaning.
fn list(args: &Args, ui: &mut Ui) -> anyhow::Result<()> {
    let both = [("error", REFUSALS), ("lint", CODES)];
    for (kind, code, text) in both.into_iter().flat_map(|(k, all)| all.iter().map(move |(c, t)| (k, *c, *t)))
    {
        match args.output {
            Output::Text => writeln!(ui.out(), "{kind:5}  {code:26}  {text}")?,
            _ => writeln!(ui.out(), "{}", json!({"kind": kind, "code": code, "meaning": text}))?,
        }
    }
    Ok(())
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let options = ReadOptions {
        ignore_unknown_fields: args.ignore_unknown_fields,
        all_documents: args.all_documents,
        features: args.features.features(ui),
    };
    if args.list {
        list(args, ui)?;
        return Ok(ExitStatus::Success);
    }
    let plan = Plan::new(args, ui);
    let mut statuses = Vec::new();
    let mut all = Vec::new();
    let inputs = inputs(&args.files);
    for (i, input) in inputs.iter().enumerate() {
        if args.output == Output::Text {
            let name = if input.path.is_none() { "standard input" } else { input.name.as_str() };
            writeln!(ui.out(), "Checking {name}")?;
        }
        let checked = match check(input, &options, &plan, i + 1 == inputs.len()) {
            Ok(checked) => checked,
            Err(e) => {
                // The other files are checked all the same.
                ui.flush()?;
                ui.error(format!("{e:#}"));
                statuses.push(ExitStatus::Usage);
                continue;
            }
        };
        let status = checked.status(&plan);
        statuses.push(status);
        match args.output {
            Output::Text => print_text(ui, &checked, &plan)?,
            Output::Json => {
                let word = match status {
                    ExitStatus::Failure => "failed",
                    ExitStatus::Lint => "lint",
                    _ => "success",
                };
                let line = json!({
                    "file": input.name,
                    "status": word,
                    "groups": checked.groups,
                    "rules": checked.rules,
                    "findings": checked.all().map(findings::to_json).collect::<Vec<_>>(),
                });
                writeln!(ui.out(), "{line}")?;
            }
            Output::Sarif => all.extend(checked.all().cloned()),
        }
    }
    if args.output == Output::Sarif {
        let describe =
            |code: &str| CODES.iter().chain(REFUSALS).find(|(c, _)| *c == code).map(|(_, text)| *text);
        let complete = !statuses.contains(&ExitStatus::Usage);
        let log = findings::to_sarif(&all, describe, complete);
        serde_json::to_writer_pretty(ui.out(), &log)?;
        writeln!(ui.out())?;
    }
    Ok([ExitStatus::Failure, ExitStatus::Usage, ExitStatus::Lint]
        .into_iter()
        .find(|status| statuses.contains(status))
        .unwrap_or(ExitStatus::Success))
}
