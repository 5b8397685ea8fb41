//! `--explain`, `--analyze` and `--stats` for people.

use std::io::{self, Write};

use tsdbctl_promql::engine::QueryResult;
use tsdbctl_promql::engine::result::OperatorStats;
use tsdbctl_storage::Control;

use crate::sizes::{format_count, format_seconds, format_size};
use crate::table::write_table;
use crate::ui::Ui;

/// Names of operators behind the lines of a tree.
fn tree(operators: &[OperatorStats]) -> Vec<String> {
    // Whether another operator of this depth follows before the tree goes up again.
    let more = |i: usize, depth: usize| {
        operators[i + 1..].iter().take_while(|o| o.depth >= depth).any(|o| o.depth == depth)
    };
    let lines = operators.iter().enumerate().map(|(i, o)| {
        let mut line = String::new();
        for depth in 1..=o.depth {
            line.push_str(match (depth == o.depth, more(i, depth)) {
                (true, true) => "├─ ",
                (true, false) => "└─ ",
                (false, true) => "│  ",
                (false, false) => "   ",
            });
        }
        line + &o.name
    });
    lines.collect()
}

/// Writes a plan, the root first.
///
/// # Errors
/// If `out` fails.
pub fn write_plan(out: &mut dyn Write, operators: &[OperatorStats]) -> io::Result<()> {
    for line in tree(operators) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Says what each operator did.
///
/// # Errors
/// Never but for a lack of memory; the table is made in memory.
pub fn say_analysis(ui: &mut Ui, result: &QueryResult) -> io::Result<()> {
    let rows = tree(&result.operators).into_iter().zip(&result.operators).map(|(line, o)| {
        vec![
            line,
            format_count(o.series),
            format_count(o.chunks),
            format_count(o.samples),
            format_size(o.bytes),
            format_size(o.peak_memory),
            format_seconds(o.seconds),
        ]
    });
    let mut text = Vec::new();
    let head = ["operator", "series", "chunks", "samples", "bytes read", "peak memory", "time"];
    write_table(&mut text, &head, rows, &[1, 2, 3, 4, 5, 6])?;
    ui.say(String::from_utf8_lossy(&text).trim_end());
    let t = &result.timings;
    ui.say(format!(
        "{} in all: {} opening and selecting, {} evaluating, {} sorting",
        format_seconds(t.exec_total),
        format_seconds(t.query_preparation),
        format_seconds(t.inner_eval),
        format_seconds(t.result_sort)
    ));
    Ok(())
}

/// Says the totals.
pub fn say_stats(ui: &mut Ui, result: &QueryResult, control: &Control) {
    let s = &result.stats;
    ui.say(format!(
        "samples: {} in windows, {} read, {} at most in memory; {} of memory; {}",
        format_count(s.total_queryable_samples.max(0).unsigned_abs()),
        format_count(s.samples_read.max(0).unsigned_abs()),
        format_count(s.peak_samples.max(0).unsigned_abs()),
        format_size(control.budget.peak()),
        format_seconds(result.timings.exec_total)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_trees() {
        let operators: Vec<OperatorStats> = [(0, "a"), (1, "b"), (2, "c"), (1, "d")]
            .map(|(depth, name)| OperatorStats { depth, name: name.to_string(), ..OperatorStats::default() })
            .into();
        let mut out = Vec::new();
        write_plan(&mut out, &operators).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\n├─ b\n│  └─ c\n└─ d\n");
    }
}
