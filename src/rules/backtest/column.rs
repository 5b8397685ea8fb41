//! Columns of one expression over a stretch of evaluations, errors told per evaluation; and where values pass a
//! threshold, as bits.

use tsdbctl_model::symbols::{Sym, SymbolTable};
use tsdbctl_promql::engine::{
    Column, ErrorKind, Points, QueryError, QueryOptions, QueryResult, QueryTime, Sample, Value, run_parsed,
};
use tsdbctl_promql::parser::ast::{BinaryOp, Expr, ValueType};
use tsdbctl_storage::{Control, Queryable};

use super::plan::Threshold;
use crate::error::RuleError;

/// What expressions are asked of.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The data.
    pub storage: &'a dyn Queryable,
    /// Settings.
    pub options: &'a QueryOptions,
    /// Limits.
    pub control: &'a Control,
}

/// Evaluations `start_ms + k * step_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Time of evaluation 0, Unix ms.
    pub start_ms: i64,
    /// Distance, ms.
    pub step_ms: i64,
}

impl Grid {
    /// The time of evaluation `k`.
    pub fn at(&self, k: u32) -> i64 {
        self.start_ms + i64::from(k) * self.step_ms
    }
}

/// One series of a stretch.
pub struct ColumnSeries {
    /// Its labels, in the backtest's symbols, sorted by name.
    pub labels: Vec<(Sym, Sym)>,
    /// Its samples, one slot per evaluation.
    pub column: Column,
}

/// A stretch of evaluations that all worked, or all failed for one reason.
pub struct Piece {
    /// Its first evaluation.
    pub first: u32,
    /// How many there are.
    pub steps: u32,
    /// The series, or why there are none.
    pub result: Result<Vec<ColumnSeries>, RuleError>,
}

/// Evaluates `expr` at the evaluations `from..to` of a grid of query times and hands the pieces over by time. A range
/// that fails is halved until the evaluations at fault stand alone: a rule fails at those only, and where a range fails
/// that no single evaluation does, each is made by itself, as a server makes it.
///
/// # Errors
/// If the work is to stop, or the data cannot be read.
pub fn evaluate(
    asked: &Asked<'_>,
    expr: &Expr,
    grid: Grid,
    (from, to): (u32, u32),
    one_by_one: bool,
    symbols: &mut SymbolTable,
    take: &mut dyn FnMut(Piece, &mut SymbolTable) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    if matches!(expr.value_type(), ValueType::String | ValueType::Matrix) {
        let piece = Piece { first: from, steps: to - from, result: Err(RuleError::NotAVector) };
        return take(piece, symbols);
    }
    let mut left = vec![(from, to)];
    if one_by_one {
        left = (from..to).rev().map(|k| (k, k + 1)).collect();
    }
    while let Some((from, to)) = left.pop() {
        if from >= to {
            continue;
        }
        let single = to - from == 1;
        let time = if single {
            QueryTime::Instant(grid.at(from))
        } else {
            QueryTime::Range { start: grid.at(from), end: grid.at(to - 1), step: grid.step_ms }
        };
        let used = asked.control.budget.used();
        let answer = run_parsed(asked.storage, expr, time, asked.options, asked.control);
        let piece = match answer {
            Ok(result) => {
                let series = series_of(result, (to - from) as usize, symbols);
                Piece { first: from, steps: to - from, result: Ok(series) }
            }
            Err(e) if stops(&e) || single && lacks_memory(&e) => {
                give_back(asked.control, used);
                return Err(e);
            }
            Err(e) if single => Piece { first: from, steps: 1, result: Err(RuleError::Query(e.message)) },
            Err(_) => {
                give_back(asked.control, used);
                let middle = from + (to - from) / 2;
                left.push((middle, to));
                left.push((from, middle));
                continue;
            }
        };
        take(piece, symbols)?;
        give_back(asked.control, used);
    }
    Ok(())
}

/// What a query took for its answer is given back with the answer.
fn give_back(control: &Control, used: u64) {
    let more = control.budget.used().saturating_sub(used);
    control.budget.give(usize::try_from(more).unwrap_or(0));
}

/// Whether an error is none of the rule's.
fn stops(e: &QueryError) -> bool {
    matches!(e.kind, ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::Internal)
}

fn lacks_memory(e: &QueryError) -> bool {
    e.message.starts_with("query needs more memory than allowed")
}

fn series_of(result: QueryResult, steps: usize, symbols: &mut SymbolTable) -> Vec<ColumnSeries> {
    let QueryResult { value, symbols: own, .. } = result;
    let mut known: Vec<Option<Sym>> = vec![None; own.len()];
    let mut translate = |labels: &[(Sym, Sym)]| -> Vec<(Sym, Sym)> {
        let mut one = |s: Sym| *known[s.0 as usize].get_or_insert_with(|| symbols.intern(own.resolve(s)));
        labels.iter().map(|(n, v)| (one(*n), one(*v))).collect()
    };
    let single = |sample: Sample| {
        let mut column = Column::new(1);
        match sample {
            Sample::Float(v) => column.set_float(0, v),
            Sample::Histogram(h) => column.push_histogram(0, h),
        }
        column
    };
    match value {
        Value::Matrix { series, .. } => series
            .into_iter()
            .filter_map(|s| match s.points {
                Points::Grid(column) if column.steps() == steps => {
                    Some(ColumnSeries { labels: translate(&s.labels), column })
                }
                _ => None,
            })
            .collect(),
        Value::Vector(elements) => elements
            .into_iter()
            .map(|e| ColumnSeries { labels: translate(&e.labels), column: single(e.sample) })
            .collect(),
        Value::Scalar { v, .. } => {
            vec![ColumnSeries { labels: Vec::new(), column: single(Sample::Float(v)) }]
        }
        Value::String { .. } => Vec::new(),
    }
}

/// Where a column is present (and passes `threshold`), one bit per evaluation, into `bits`; whether any is set.
pub fn presence(column: &Column, threshold: Option<Threshold>, bits: &mut Vec<u64>) -> bool {
    bits.clear();
    let Some(threshold) = threshold else {
        bits.extend_from_slice(&column.present);
        for (k, _) in &column.histograms {
            bits[*k as usize / 64] |= 1 << (k % 64);
        }
        return bits.iter().any(|w| *w != 0);
    };
    let n = threshold.number;
    match threshold.op {
        BinaryOp::Eql => passing(column, bits, |v| v == n),
        BinaryOp::Neq => passing(column, bits, |v| v != n),
        BinaryOp::Gtr => passing(column, bits, |v| v > n),
        BinaryOp::Lss => passing(column, bits, |v| v < n),
        BinaryOp::Gte => passing(column, bits, |v| v >= n),
        BinaryOp::Lte => passing(column, bits, |v| v <= n),
        _ => bits.resize(column.present.len(), 0),
    }
    bits.iter().any(|w| *w != 0)
}

fn passing(column: &Column, bits: &mut Vec<u64>, passes: impl Fn(f64) -> bool) {
    bits.extend(column.present.iter().zip(column.values.chunks(64)).map(|(present, values)| {
        if *present == 0 {
            return 0;
        }
        let mut word = 0u64;
        for (i, v) in values.iter().enumerate() {
            word |= u64::from(passes(*v)) << i;
        }
        word & present
    }));
}

/// Calls `f` with each run `from..to` of set bits.
pub fn for_runs(bits: &[u64], mut f: impl FnMut(u32, u32)) {
    let mut open: Option<u32> = None;
    for (i, word) in bits.iter().enumerate() {
        let base = i as u32 * 64;
        match (*word, open) {
            (0, None) | (u64::MAX, Some(_)) => continue,
            _ => {}
        }
        let mut at = 0u32;
        while at < 64 {
            let rest = *word >> at;
            match open {
                None if rest == 0 => break,
                None => {
                    at += rest.trailing_zeros();
                    open = Some(base + at);
                }
                Some(start) => {
                    let ones = (!rest).trailing_zeros();
                    at += ones;
                    if at < 64 {
                        f(start, base + at);
                        open = None;
                    }
                }
            }
        }
    }
    if let Some(start) = open {
        f(start, bits.len() as u32 * 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_bits() {
        let bits_of = |runs: &[(u32, u32)], words: usize| {
            let mut bits = vec![0u64; words];
            for (a, b) in runs {
                (*a..*b).for_each(|k| bits[k as usize / 64] |= 1 << (k % 64));
            }
            bits
        };
        let cases: [&[(u32, u32)]; 7] = [
            &[],
            &[(0, 1)],
            &[(63, 65)],
            &[(0, 64), (65, 127)],
            &[(0, 192)],
            &[(5, 9), (10, 11), (62, 130), (191, 192)],
            &[(64, 128)],
        ];
        for runs in cases {
            let mut got = Vec::new();
            for_runs(&bits_of(runs, 3), |a, b| got.push((a, b)));
            assert_eq!(got, runs);
        }
    }

    #[test]
    fn thresholds_see_present_values_only() {
        let mut column = Column::new(70);
        for (k, v) in [(0, 1.0), (1, 3.0), (2, f64::NAN), (64, 4.0), (69, 2.0)] {
            column.set_float(k, v);
        }
        let mut bits = Vec::new();
        let steps = |bits: &[u64]| tsdbctl_promql::engine::column::bits(bits).collect::<Vec<_>>();
        for (op, wanted) in [
            (BinaryOp::Gtr, vec![1, 64]),
            (BinaryOp::Gte, vec![1, 64, 69]),
            (BinaryOp::Lss, vec![0]),
            (BinaryOp::Lte, vec![0, 69]),
            (BinaryOp::Eql, vec![69]),
            (BinaryOp::Neq, vec![0, 1, 2, 64]),
        ] {
            presence(&column, Some(Threshold { op, number: 2.0 }), &mut bits);
            assert_eq!(steps(&bits), wanted, "{op:?}");
        }
        presence(&column, None, &mut bits);
        assert_eq!(steps(&bits), [0, 1, 2, 64, 69]);
    }
}
