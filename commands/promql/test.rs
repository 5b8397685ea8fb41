//! `tsdbctl promql test`: runs PromQL's test scripts.

use std::path::PathBuf;

use tsdbctl_platform::file;
use tsdbctl_promql::script::{self, MemoryEngine, StatementKind, read_script, run_options};

use crate::exit::ExitStatus;
use crate::ui::{Tone, Ui};

/// Run test scripts in Prometheus' language (load, eval, expect), with its test settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scripts.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Run only the cases whose expression contains this.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read, or stdout fails.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let (mut passed, mut failed, mut unread) = (0, 0, 0);
    let mut progress = ui.progress(args.files.len() as u64, "scripts");
    let mut texts = Vec::new();
    for path in &args.files {
        let name = path.display().to_string();
        let bytes = file::read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut script = match read_script(&text) {
            Ok(script) => script,
            Err(e) => {
                unread += 1;
                texts.push(format!("{name}:{}: {}", e.line, e.message));
                // What stands before the statement that cannot be read is run all the same.
                match read_script(statements_before(&text, e.line)) {
                    Ok(script) => script,
                    Err(_) => continue,
                }
            }
        };
        if let Some(filter) = &args.filter {
            script.statements.retain(|s| match &s.kind {
                StatementKind::Eval(eval) => eval.expr.contains(filter.as_str()),
                _ => true,
            });
        }
        let report = script::run(&name, &script, &mut MemoryEngine::new(), &run_options());
        progress.step();
        failed += report.failures.len();
        let bad = report.failures.iter().filter(|f| !f.expression.is_empty()).count();
        passed += report.evaluations.saturating_sub(bad);
        texts.extend(report.failures.iter().map(ToString::to_string));
        ui.detail(format!(
            "{name}: {} cases, {} queries, {} failed",
            report.evaluations,
            report.queries,
            report.failures.len()
        ));
    }
    drop(progress);
    for text in &texts {
        writeln!(ui.out(), "{text}")?;
    }
    let summary = format!("{passed} passed, {failed} failed");
    let tone = if failed + unread == 0 { Tone::Green } else { Tone::Red };
    let summary = if ui.out_is_terminal { ui.paint(tone, &summary) } else { summary };
    write!(ui.out(), "{summary}")?;
    if unread > 0 {
        write!(ui.out(), ", {unread} scripts not read to the end")?;
    }
    writeln!(ui.out())?;
    Ok(if failed + unread == 0 { ExitStatus::Success } else { ExitStatus::Failure })
}

/// The part of a script in front of the statement that line `line` (from 1) belongs to.
fn statements_before(text: &str, line: usize) -> &str {
    let mut end = 0;
    let mut at = 0;
    for (i, l) in text.split_inclusive('\n').enumerate() {
        if i + 1 >= line {
            break;
        }
        at += l.len();
        if l.trim().is_empty() {
            end = at;
        }
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_at_the_statement_that_is_wrong() {
        let text = "load 1m\n  a 1\n\neval instant at 0 a\n  a 1\n\neval instant at 0 \"\n  x\n";
        assert_eq!(statements_before(text, 7), &text[..text.find("eval instant at 0 \"").unwrap()]);
        assert_eq!(statements_before(text, 8), statements_before(text, 7));
        assert_eq!(statements_before(text, 1), "");
    }
}
