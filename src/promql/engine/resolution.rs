//! Queries over downsampled samples: which resolution a selection wants, what each function reads of the windows, and how
//! its own windows are widened where only a coarser resolution is left.
//!
//! A selection wants windows of at most a fifth of the step, and of the range of a range selector (instant queries: raw
//! samples), unless `max_source_resolution` gives a limit. Storage answers each time from the coarsest resolution wanted,
//! or from the next coarser one where nothing finer is left; the latter is said in an info. Selections that turn out to
//! have raw samples alone are evaluated as if there were nothing else.
//!
//! | function | reads of a window | evaluated as | by itself wants |
//! |---|---|---|---|
//! | `count_over_time` | count | `sum_over_time` | windows |
//! | `sum_over_time`, `min_over_time`, `max_over_time` | sum, min, max | itself | windows |
//! | `avg_over_time` | sum and count | quotient of their `sum_over_time` | windows |
//! | `rate`, `increase` | counter without resets | itself | windows |
//! | `irate` | counter without resets | itself | raw samples |
//! | `resets`, `changes` | the falls and changes that are certain | itself | raw samples |
//! | `present_over_time`, `absent_over_time` | count | itself | windows |
//! | `ts_of_min_over_time`, `ts_of_max_over_time` | min, max; times are ends of windows | itself | raw samples |
//! | `last_over_time`, `first_over_time` and their `ts_of_…` | average | itself | raw samples |
//! | `delta`, `idelta`, `deriv`, `predict_linear`, `quantile_over_time`, `mad_over_time`, `stddev_over_time`, `stdvar_over_time`, `double_exponential_smoothing` | average | itself | raw samples |
//! | instant selector, `absent` | average | newest within lookback and a window | windows |
//! | instant selector directly in `min` or `max` | min or max | the same | windows |
//! | `timestamp`, `info`'s series, a range vector as the result, `anchored`, `smoothed` | average | the same | raw samples |
//!
//! Functions that want raw samples by themselves have no exact answer over windows: where they read windows all the same,
//! an info says so. Subqueries apply to what is inside of them with their own step. A sample stands at the end of its
//! window, so `@` and `offset` move it as they move raw samples.
//!
//! Counters of native histograms are kept without the true values at the ends of chunks. Where there was a reset inside of a
//! chunk, the true value is known from the averages, up to what was counted in one window.
//!
//! Where fewer windows fit into a range than the function needs, steps of that piece of time are evaluated over a range of
//! as many; sums, counts and increases are scaled down to the range that was asked for.

use std::fmt::Write;
use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_storage::{Annotation, Piece, ResolutionHint, WindowValue};

use super::column::Column;
use super::error::QueryError;
use super::leaf::{InstantWork, LeafOutput, SeriesNames, Work};
use super::options::{MaxResolution, StepGrid};
use super::selector::Source;
use crate::functions::windows::{RangeFunction, Scratch, SeriesInfo};

/// How often a window is to fit into a step or a range to be wanted by itself.
const WINDOWS_WANTED: i64 = 5;

/// What a selection reads of downsampled windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which value.
    pub value: WindowValue,
    /// What is evaluated; `None` for the function itself.
    pub evaluated_as: Option<RangeFunction>,
    /// The result is divided by the number of samples.
    pub per_sample: bool,
    /// Windows needed for a result; 0 if a range is never widened to have them.
    pub needs: i64,
    /// The result grows with the range.
    pub grows: bool,
    /// The result over windows is that over raw samples, but for the windows at its ends.
    pub is_exact: bool,
}

impl Reading {
    const fn of(value: WindowValue) -> Self {
        Self { value, evaluated_as: None, per_sample: false, needs: 1, grows: false, is_exact: true }
    }

    /// An instant selector.
    pub const INSTANT: Self = Self::of(WindowValue::Average);

    /// Of which single samples are wanted.
    pub const SAMPLES: Self = Self { is_exact: false, ..Self::of(WindowValue::Average) };

    /// A range selector that is itself the result.
    pub const RANGE: Self = Self { needs: 0, ..Self::SAMPLES };

    /// An instant selector of which one value of the window is wanted.
    pub const fn instant(value: WindowValue) -> Self {
        Self::of(value)
    }

    /// A function over a range.
    pub fn of_function(function: RangeFunction) -> Self {
        use RangeFunction as F;
        let summed = Self { evaluated_as: Some(F::SumOverTime), ..Self::of(WindowValue::Average) };
        match function {
            F::CountOverTime => Self { value: WindowValue::Count, grows: true, ..summed },
            F::SumOverTime => Self { grows: true, ..Self::of(WindowValue::Sum) },
            F::AvgOverTime => Self { value: WindowValue::Sum, per_sample: true, ..summed },
            F::MinOverTime => Self::of(WindowValue::Min),
            F::MaxOverTime => Self::of(WindowValue::Max),
            F::Rate => Self { needs: 2, ..Self::of(WindowValue::Counter) },
            F::Increase => Self { needs: 2, grows: true, ..Self::of(WindowValue::Counter) },
            F::Irate => Self { needs: 2, is_exact: false, ..Self::of(WindowValue::Counter) },
            F::PresentOverTime | F::AbsentOverTime => Self::of(WindowValue::Count),
            F::Resets | F::Changes => Self { needs: 2, is_exact: false, ..Self::of(WindowValue::Movements) },
            F::TsOfMinOverTime => Self { is_exact: false, ..Self::of(WindowValue::Min) },
            F::TsOfMaxOverTime => Self { is_exact: false, ..Self::of(WindowValue::Max) },
            F::Delta => Self { needs: 2, grows: true, ..Self::SAMPLES },
            F::Idelta | F::Deriv | F::PredictLinear | F::DoubleExponentialSmoothing => {
                Self { needs: 2, ..Self::SAMPLES }
            }
            F::LastOverTime
            | F::FirstOverTime
            | F::TsOfLastOverTime
            | F::TsOfFirstOverTime
            | F::QuantileOverTime
            | F::MadOverTime
            | F::StddevOverTime
            | F::StdvarOverTime => Self::SAMPLES,
        }
    }

    /// What a selection asks storage for. `step` is that of the grid it is evaluated on, `None` in an instant query;
    /// `range` that of a range selector.
    pub fn hint(&self, limit: MaxResolution, step: Option<i64>, range: Option<i64>) -> ResolutionHint {
        let at_most_ms = match (limit, step) {
            (MaxResolution::Fixed(ms), _) => range.map_or(ms, |range| ms.min(range / self.needs.max(1))),
            (MaxResolution::Auto, Some(step)) if self.is_exact => {
                let shortest = range.map_or(step, |range| step.min(range));
                shortest / WINDOWS_WANTED.max(self.needs)
            }
            (MaxResolution::Auto, _) => 0,
        };
        ResolutionHint { at_most_ms: at_most_ms.max(0), or_coarser: true }
    }
}

/// Steps that are evaluated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First step.
    pub from: usize,
    /// Behind the last one.
    pub to: usize,
    /// Length of downsampled windows, ms; 0 for raw samples.
    pub resolution_ms: i64,
}

/// The steps of a grid of data times by the pieces they lie in; a time in none belongs to the piece before, or the first.
pub fn runs(pieces: &[Piece], grid: StepGrid) -> Vec<Run> {
    let resolution_at = |t: i64| {
        let covering = pieces.iter().filter(|p| p.start <= t && t < p.end).map(|p| p.resolution_ms).max();
        let before = || pieces.iter().filter(|p| p.end <= t).max_by_key(|p| p.end).map(|p| p.resolution_ms);
        covering.or_else(before).or_else(|| pieces.first().map(|p| p.resolution_ms)).unwrap_or(0)
    };
    let mut borders: Vec<usize> = vec![0];
    if grid.step > 0 {
        for edge in pieces.iter().flat_map(|p| [p.start, p.end]) {
            let step = edge.saturating_sub(grid.start).saturating_add(grid.step - 1).div_euclid(grid.step);
            borders.extend(usize::try_from(step).ok().filter(|k| *k < grid.steps));
        }
    }
    borders.sort_unstable();
    borders.dedup();
    let mut out: Vec<Run> = Vec::new();
    for (i, from) in borders.iter().copied().enumerate() {
        let to = borders.get(i + 1).copied().unwrap_or(grid.steps);
        let resolution_ms = resolution_at(grid.time(from));
        match out.last_mut() {
            Some(last) if last.resolution_ms == resolution_ms => last.to = to,
            _ => out.push(Run { from, to, resolution_ms }),
        }
    }
    out
}

/// The pieces of a selection that are coarser than what it wants, cut to its times.
pub fn coarser(source: &Source, pieces: &[Piece]) -> Vec<Piece> {
    let (start, end) = source.bounds;
    let mut coarser: Vec<Piece> = Vec::new();
    for piece in pieces {
        // The first time that is seen is a millisecond behind the start of the range.
        let from = if piece.start >= start { piece.start } else { start.saturating_sub(1) };
        let to = piece.end.min(end);
        if from < to && piece.resolution_ms > source.hint.at_most_ms {
            coarser.push(Piece { start: from, end: to, ..*piece });
        }
    }
    coarser
}

/// What is said once about all selections of a query whose `coarser` pieces these are; `None` if there are none.
pub fn note(pieces: &[Piece]) -> Option<String> {
    let mut sorted = pieces.to_vec();
    sorted.sort_by_key(|p| (p.resolution_ms, p.start));
    let mut joined: Vec<Piece> = Vec::new();
    for piece in sorted {
        match joined.last_mut() {
            Some(last) if last.resolution_ms == piece.resolution_ms && piece.start <= last.end => {
                last.end = last.end.max(piece.end);
            }
            _ => joined.push(piece),
        }
    }
    joined.sort_by_key(|p| p.start);
    let mut text = String::new();
    for (i, piece) in joined.iter().take(MOST_PIECES).enumerate() {
        let between = if i == 0 { "only samples of " } else { ", and of " };
        let resolution = format_duration_ms(piece.resolution_ms);
        let (from, to) = (format_rfc3339_ms(piece.start), format_rfc3339_ms(piece.end));
        // Writing to a string cannot fail.
        let _ = write!(text, "{between}{resolution} resolution are left from {from} to {to}");
    }
    if joined.len() > MOST_PIECES {
        let _ = write!(text, ", and {} more pieces", joined.len() - MOST_PIECES);
    }
    Some(text).filter(|text| !text.is_empty())
}

/// What is said about a function over downsampled samples.
pub fn notes(source: &Source, pieces: &[Piece]) -> Vec<Annotation> {
    let (function, reading) = (source.function, &source.reading);
    let (start, end) = (source.bounds.0, source.bounds.1.saturating_add(1));
    let within = pieces.iter().filter(|p| p.start < end && p.end > start);
    let coarsest = within.map(|p| p.resolution_ms).max().unwrap_or(0);
    let mut texts = Vec::new();
    let needed = coarsest.saturating_mul(reading.needs);
    if let Some(range) = source.range.filter(|range| *range < needed) {
        let (range, wider) = (format_duration_ms(range), format_duration_ms(needed));
        let scaled = if reading.grows { " and scaled" } else { "" };
        texts.push(format!(
            "{function} over {range} is taken over {wider}{scaled} where samples are as coarse"
        ));
    }
    if !reading.is_exact && coarsest > 0 {
        let of = match reading.value {
            WindowValue::Average => "averages of downsampled windows is an approximation",
            WindowValue::Counter => "the ends of downsampled windows is an approximation",
            WindowValue::Movements => "downsampled windows is an approximation: at least as many as it says",
            _ => "downsampled windows is an approximation",
        };
        texts.push(format!("{function} over {of}"));
    }
    texts.into_iter().map(|text| Annotation::info(text, source.selector.span)).collect()
}

/// Resolutions of pieces, for plans; empty for raw samples alone.
pub fn list(pieces: &[Piece]) -> String {
    let mut all: Vec<i64> = pieces.iter().map(|p| p.resolution_ms).collect();
    all.sort_unstable();
    all.dedup();
    let name = |ms: &i64| if *ms == 0 { "raw".to_string() } else { format_duration_ms(*ms) };
    match all.as_slice() {
        [] => String::new(),
        all => format!(" at {}", all.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}

/// Steps that are evaluated alike, and how.
#[derive(Clone, Debug)]
struct Part {
    run: Run,
    work: Work,
    /// What results are multiplied by.
    factor: f64,
}

/// How a selection with downsampled samples is evaluated.
#[derive(Clone, Debug)]
pub struct View {
    /// What is read.
    pub value: WindowValue,
    /// The result is to be divided by that of the counts.
    pub per_sample: bool,
    /// How much further back than usual some steps look, ms.
    pub longer_by: i64,
    parts: Vec<Part>,
}

impl View {
    /// The work on all steps, cut by the pieces of time.
    pub fn new(reading: &Reading, pieces: &[Piece], work: &Work) -> Self {
        let (grid, data) = match work {
            Work::Instant(w) => (w.data, w.data),
            Work::Range(w) => (w.grid, w.data),
        };
        let mut longer_by = 0;
        let mut parts = Vec::new();
        for run in runs(pieces, data) {
            let within = |grid: StepGrid| StepGrid {
                start: grid.time(run.from),
                step: grid.step,
                steps: run.to - run.from,
            };
            let mut factor = 1.0;
            let work = match work {
                Work::Instant(w) => {
                    // A window stands for what is up to its length before its end.
                    longer_by = longer_by.max(run.resolution_ms);
                    let lookback = w.lookback.saturating_add(run.resolution_ms);
                    Work::Instant(InstantWork { data: within(data), lookback, ..*w })
                }
                Work::Range(w) => {
                    let mut w = w.clone();
                    (w.grid, w.data) = (within(grid), within(data));
                    w.function = reading.evaluated_as.unwrap_or(w.function);
                    for arg in w.args.iter_mut().filter(|arg| arg.len() > 1) {
                        *arg = arg.get(run.from..run.to).map(<[f64]>::to_vec).unwrap_or_default();
                    }
                    let needed = run.resolution_ms.saturating_mul(reading.needs);
                    if needed > w.range {
                        longer_by = longer_by.max(needed - w.range);
                        if reading.grows {
                            factor = w.range as f64 / needed as f64;
                        }
                        w.range = needed;
                    }
                    Work::Range(w)
                }
            };
            parts.push(Part { run, work, factor });
        }
        Self { value: reading.value, per_sample: reading.per_sample, longer_by, parts }
    }

    /// Computes one series into `out`, whose column has all steps; `samples` loses its stale markers.
    ///
    /// # Errors
    /// If the function refuses its arguments.
    pub fn evaluate(
        &self,
        names: &SeriesNames,
        samples: &mut SampleColumns,
        scratch: &mut Scratch,
        part_column: &mut Column,
        out: &mut LeafOutput,
    ) -> Result<(), QueryError> {
        for Part { run, work, factor } in &self.parts {
            part_column.reset(run.to - run.from);
            match work {
                Work::Instant(work) => {
                    let name = &names.metric_name;
                    out.histograms_where_none_are_allowed |=
                        work.evaluate(name, samples, part_column, &mut out.annotations);
                }
                Work::Range(work) => {
                    let info = SeriesInfo { metric_name: &names.metric_name, type_label: &names.type_label };
                    let annotations = &mut out.annotations;
                    let mut note = |a| annotations.push(a);
                    let stats = work.evaluate(&info, samples, scratch, part_column, &mut note)?;
                    out.window.samples_in_windows += stats.samples_in_windows;
                    out.window.samples_read += stats.samples_read;
                    out.window.max_window = out.window.max_window.max(stats.max_window);
                    out.window.last_window = stats.last_window;
                    out.window.per_step.extend(stats.per_step);
                }
            }
            for k in part_column.float_steps() {
                out.column.set_float(run.from + k, part_column.values[k] * factor);
            }
            for (k, mut h) in part_column.histograms.drain(..) {
                if *factor != 1.0 {
                    Arc::make_mut(&mut h).mul(*factor);
                }
                out.column.push_histogram(run.from + k as usize, h);
            }
        }
        Ok(())
    }
}

/// Most pieces that an info lists.
const MOST_PIECES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const M: i64 = 60_000;
    const H: i64 = 60 * M;

    #[test]
    fn resolution_is_wanted_by_step_and_range() {
        use MaxResolution::{Auto, Fixed};
        use RangeFunction as F;
        let function = Reading::of_function;
        for (reading, limit, step, range, want) in [
            // An instant selector: the step alone.
            (Reading::INSTANT, Auto, Some(H), None, 12 * M),
            (Reading::INSTANT, Auto, Some(M), None, M / 5),
            (Reading::INSTANT, Auto, None, None, 0),
            // The shorter of step and range.
            (function(F::Rate), Auto, Some(H), Some(5 * M), M),
            (function(F::Rate), Auto, Some(24 * H), Some(H), 12 * M),
            (function(F::SumOverTime), Auto, Some(24 * H), Some(24 * H), 24 * H / 5),
            (function(F::SumOverTime), Auto, None, Some(24 * H), 0),
            // No exact answer.
            (function(F::QuantileOverTime), Auto, Some(24 * H), Some(24 * H), 0),
            (Reading::SAMPLES, Auto, Some(24 * H), None, 0),
            // A limit holds as long as there is an answer.
            (function(F::QuantileOverTime), Fixed(H), Some(M), Some(24 * H), H),
            (function(F::Rate), Fixed(H), None, Some(H), 30 * M),
            (function(F::AvgOverTime), Fixed(H), None, Some(H), H),
            (Reading::INSTANT, Fixed(H), None, None, H),
            (Reading::INSTANT, Fixed(0), Some(24 * H), None, 0),
        ] {
            let hint = reading.hint(limit, step, range);
            assert_eq!(hint, ResolutionHint { at_most_ms: want, or_coarser: true }, "{reading:?} {step:?}");
        }
    }

    #[test]
    fn steps_are_evaluated_by_the_piece_they_lie_in() {
        let piece = |start, end, resolution_ms| Piece { start, end, resolution_ms };
        let pieces = [piece(0, 100, 50), piece(100, 200, 0), piece(300, 400, 50)];
        let run = |from, to, resolution_ms| Run { from, to, resolution_ms };
        let grid = |start, step, steps| StepGrid { start, step, steps };
        for (grid, want) in [
            (grid(-20, 10, 45), vec![run(0, 12, 50), run(12, 32, 0), run(32, 45, 50)]),
            (grid(95, 10, 2), vec![run(0, 1, 50), run(1, 2, 0)]),
            (grid(99, 1, 2), vec![run(0, 1, 50), run(1, 2, 0)]),
            (grid(110, 1, 1), vec![run(0, 1, 0)]),
            (grid(250, 0, 7), vec![run(0, 7, 0)]),
            (grid(500, 10, 3), vec![run(0, 3, 50)]),
        ] {
            assert_eq!(runs(&pieces, grid), want, "{grid:?}");
        }
        assert_eq!(runs(&[], grid(0, 1, 5)), [run(0, 5, 0)]);
    }
}
