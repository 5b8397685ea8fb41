//! Functions over range vectors and instant selection: kernels that turn the raw samples of one series into
//! a column of one value per step.
//!
//! A window is `t − range < T ≤ t`. Bounds are found once per column by two pointers (`bounds`); kernels
//! then work on index ranges. Every result has the bits of the plain loop over the window: sums are never
//! slid by adding the newcomer and subtracting the leaver, only facts that are exact are shared between
//! windows (positions, counts, extremes, integer sums).

mod bounds;
mod edges;
mod extremes;
#[cfg(test)]
mod histogram_tests;
mod histograms;
mod instant;
mod lanes;
mod mixed;
mod moments;
mod notes;
mod order;
mod pairs;
mod rate;
mod sums;
#[cfg(test)]
mod tests;
mod trend;

use tsdbctl_chunk::columns::SampleColumns;
use tsdbctl_model::Span;
use tsdbctl_model::sample::is_stale;
use tsdbctl_storage::annotations::Annotation;

use crate::engine::{Column, QueryError, StepGrid};

pub use histograms::{Leaps, convert_to_stats_only};
pub use instant::{instant_start_timestamps, instant_timestamps, instant_values, smoothed_instant};
use notes::{Note, Notes};

/// A function over a range vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeFunction {
    /// `rate`
    Rate,
    /// `increase`
    Increase,
    /// `delta`
    Delta,
    /// `irate`
    Irate,
    /// `idelta`
    Idelta,
    /// `changes`
    Changes,
    /// `resets`
    Resets,
    /// `avg_over_time`
    AvgOverTime,
    /// `sum_over_time`
    SumOverTime,
    /// `min_over_time`
    MinOverTime,
    /// `max_over_time`
    MaxOverTime,
    /// `count_over_time`
    CountOverTime,
    /// `last_over_time`
    LastOverTime,
    /// `first_over_time`
    FirstOverTime,
    /// `present_over_time`
    PresentOverTime,
    /// `quantile_over_time`; argument: φ
    QuantileOverTime,
    /// `stddev_over_time`
    StddevOverTime,
    /// `stdvar_over_time`
    StdvarOverTime,
    /// `mad_over_time`
    MadOverTime,
    /// `ts_of_min_over_time`
    TsOfMinOverTime,
    /// `ts_of_max_over_time`
    TsOfMaxOverTime,
    /// `ts_of_first_over_time`
    TsOfFirstOverTime,
    /// `ts_of_last_over_time`
    TsOfLastOverTime,
    /// `deriv`
    Deriv,
    /// `predict_linear`; argument: how many seconds ahead
    PredictLinear,
    /// `double_exponential_smoothing`; arguments: smoothing factor, trend factor
    DoubleExponentialSmoothing,
    /// `absent_over_time`: 1 where the window has a sample, as `present_over_time`; the caller inverts over all
    /// series.
    AbsentOverTime,
}

impl RangeFunction {
    /// The function of this PromQL name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "avg_over_time" => Self::AvgOverTime,
            "sum_over_time" => Self::SumOverTime,
            "min_over_time" => Self::MinOverTime,
            "max_over_time" => Self::MaxOverTime,
            "count_over_time" => Self::CountOverTime,
            "last_over_time" => Self::LastOverTime,
            "first_over_time" => Self::FirstOverTime,
            "present_over_time" => Self::PresentOverTime,
            "quantile_over_time" => Self::QuantileOverTime,
            "stddev_over_time" => Self::StddevOverTime,
            "stdvar_over_time" => Self::StdvarOverTime,
            "mad_over_time" => Self::MadOverTime,
            "ts_of_min_over_time" => Self::TsOfMinOverTime,
            "ts_of_max_over_time" => Self::TsOfMaxOverTime,
            "ts_of_first_over_time" => Self::TsOfFirstOverTime,
            "ts_of_last_over_time" => Self::TsOfLastOverTime,
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "absent_over_time" => Self::AbsentOverTime,
            _ => return None,
        })
    }

    /// Whether start timestamps take part, given the feature.
    fn reads_start_timestamps(self) -> bool {
        matches!(self, Self::Rate | Self::Increase | Self::Irate | Self::Resets)
    }

    /// Whether the function is defined over floats alone and looks past histograms beside them.
    fn ignores_histograms(self) -> bool {
        matches!(
            self,
            Self::MinOverTime
                | Self::MaxOverTime
                | Self::TsOfMinOverTime
                | Self::TsOfMaxOverTime
                | Self::QuantileOverTime
                | Self::StddevOverTime
                | Self::StdvarOverTime
                | Self::MadOverTime
                | Self::Deriv
                | Self::PredictLinear
                | Self::DoubleExponentialSmoothing
        )
    }
}

/// A scalar argument over the steps.
#[derive(Clone, Copy, Debug)]
pub enum ScalarArg<'a> {
    /// The same at every step.
    Constant(f64),
    /// One value per step.
    PerStep(&'a [f64]),
}

impl ScalarArg<'_> {
    /// The value at step `k`.
    #[inline]
    pub fn at(&self, k: usize) -> f64 {
        match self {
            Self::Constant(v) => *v,
            Self::PerStep(v) => v.get(k).copied().unwrap_or(f64::NAN),
        }
    }
}

/// One function call, the same for all series.
#[derive(Clone, Copy, Debug)]
pub struct WindowQuery<'a> {
    /// What is computed.
    pub function: RangeFunction,
    /// Window `k` ends at `grid.time(k)`: offset and `@` are applied already. Under `@` with arguments that
    /// vary, `grid.step` is 0: every step has the same window.
    pub grid: StepGrid,
    /// Time of the first step itself, as `predict_linear` needs it.
    pub eval_start: i64,
    /// Distance of the steps themselves.
    pub eval_step: i64,
    /// Length of a window, ms.
    pub range_ms: i64,
    /// Lookback; only read for `anchored` and `smoothed`.
    pub lookback_ms: i64,
    /// The selector is `anchored`.
    pub anchored: bool,
    /// The selector is `smoothed`.
    pub smoothed: bool,
    /// Scalar arguments in their order, the range vector left out.
    pub args: &'a [ScalarArg<'a>],
    /// Start timestamps count (`use-start-timestamps`).
    pub use_start_timestamps: bool,
    /// `__type__` tells counters from others (`type-and-unit-labels`).
    pub type_and_unit: bool,
    /// Fill [`WindowStats::per_step`].
    pub per_step_stats: bool,
    /// Place of the range vector argument.
    pub arg_span: Span,
    /// Place of the call.
    pub call_span: Span,
}

impl WindowQuery<'_> {
    /// How far before the step's time samples are read.
    fn back_ms(&self) -> i64 {
        self.range_ms.saturating_add(if self.anchored || self.smoothed { self.lookback_ms } else { 0 })
    }

    /// How far behind the step's time samples are read.
    fn ahead_ms(&self) -> i64 {
        if self.smoothed { self.lookback_ms } else { 0 }
    }

    /// The argument `i` at step `k`.
    fn arg(&self, i: usize, k: usize) -> f64 {
        self.args.get(i).map_or(f64::NAN, |a| a.at(k))
    }

    /// The range in seconds, as upstream divides by it: whole seconds and nanoseconds added apart.
    fn range_seconds(&self) -> f64 {
        (self.range_ms / 1000) as f64 + ((self.range_ms % 1000) * 1_000_000) as f64 / 1e9
    }
}

/// What annotations say about a series.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeriesInfo<'a> {
    /// Value of `__name__`, or empty.
    pub metric_name: &'a str,
    /// Value of `__type__`, or empty.
    pub type_label: &'a str,
}

/// Upstream's sample counts of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowStats {
    /// Window sizes summed over the steps; a float is 1, a histogram by its size.
    pub samples_in_windows: i64,
    /// Samples newer than the step before has seen, the whole window at the first step.
    pub samples_read: i64,
    /// The largest window.
    pub max_window: i64,
    /// The window of the last step.
    pub last_window: i64,
    /// Per step, if asked for: window size and samples read.
    pub per_step: Vec<(i64, i64)>,
}

/// Buffers that are reused from series to series.
#[derive(Debug, Default)]
pub struct Scratch {
    lo: Vec<u32>,
    hi: Vec<u32>,
    hlo: Vec<u32>,
    hhi: Vec<u32>,
    positions: Vec<u32>,
    counts: Vec<u32>,
    sums: Vec<i64>,
    sorted: Vec<f64>,
    distances: Vec<f64>,
    deque: Vec<u32>,
}

/// The float windows of one series.
#[derive(Clone, Copy)]
struct FloatWindows<'a> {
    t: &'a [i64],
    v: &'a [f64],
    /// Start timestamps: empty, or one per sample.
    st: &'a [i64],
    /// Window `k` is `lo[k]..hi[k]`.
    lo: &'a [u32],
    hi: &'a [u32],
}

impl FloatWindows<'_> {
    #[inline]
    fn window(&self, k: usize) -> std::ops::Range<usize> {
        self.lo[k] as usize..self.hi[k] as usize
    }

    #[inline]
    fn start_timestamp(&self, i: usize) -> i64 {
        self.st.get(i).copied().unwrap_or(0)
    }
}

/// Whether a column holds a stale marker; whole chunks at a time, for most hold none.
fn has_stale(v: &[f64]) -> bool {
    v.chunks(128).any(|chunk| chunk.iter().fold(false, |any, v| any | is_stale(*v)))
}

/// Takes the stale markers out, keeping order.
pub fn strip_stale(samples: &mut SampleColumns) {
    let f = &mut samples.floats;
    if has_stale(&f.v) {
        let with_st = f.st.len() == f.t.len();
        let mut n = 0;
        for i in 0..f.v.len() {
            if !is_stale(f.v[i]) {
                f.v[n] = f.v[i];
                f.t[n] = f.t[i];
                if with_st {
                    f.st[n] = f.st[i];
                }
                n += 1;
            }
        }
        f.v.truncate(n);
        f.t.truncate(n);
        f.st.truncate(n);
    }
    let h = &mut samples.histograms;
    if h.h.iter().any(|h| is_stale(h.sum)) {
        let keep: Vec<bool> = h.h.iter().map(|h| !is_stale(h.sum)).collect();
        retain_by(&mut h.t, &keep);
        retain_by(&mut h.h, &keep);
        retain_by(&mut h.integer, &keep);
        retain_by(&mut h.st, &keep);
    }
}

fn retain_by<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| keep.next().copied().unwrap_or(true));
}

/// Evaluates one function over the windows of one series.
///
/// `samples` may hold stale markers; they are taken out. Times rise strictly and no time occurs in both kinds.
/// `out` is reset to the grid's steps. Annotations are handed out after the last step, equal ones once; a
/// count of overlaps is summed.
pub fn evaluate(
    query: &WindowQuery,
    series: &SeriesInfo,
    samples: &mut SampleColumns,
    scratch: &mut Scratch,
    out: &mut Column,
    annotations: &mut dyn FnMut(Annotation),
) -> Result<WindowStats, QueryError> {
    strip_stale(samples);
    let steps = query.grid.steps;
    out.reset(steps);
    let samples = &*samples;
    let longest = samples.floats.len().max(samples.histograms.len());
    if longest >= u32::MAX as usize {
        return Err(QueryError::execution(format!(
            "{longest} samples in one series are too many for one evaluation"
        )));
    }
    let mut stats = WindowStats::default();
    if query.per_step_stats {
        stats.per_step.resize(steps, (0, 0));
    }
    let mut notes = Notes::default();
    bounds::windows(&samples.floats.t, query, &mut scratch.lo, &mut scratch.hi);
    count_floats(query, scratch, &mut stats);
    let result = if samples.histograms.is_empty() {
        evaluate_floats(query, samples, scratch, out, &mut notes, annotations)
    } else {
        bounds::windows(&samples.histograms.t, query, &mut scratch.hlo, &mut scratch.hhi);
        count_histograms(query, samples, scratch, &mut stats);
        evaluate_with_histograms(query, samples, scratch, out, &mut notes, annotations)
    };
    if matches!(query.function, RangeFunction::Rate | RangeFunction::Increase) {
        notes.possible_non_counter(query, series, out, annotations);
    }
    notes.hand_out(series.metric_name, query.arg_span, annotations);
    result?;
    Ok(stats)
}

/// Adds the float windows to the counts.
fn count_floats(query: &WindowQuery, scratch: &Scratch, stats: &mut WindowStats) {
    let (lo, hi) = (&scratch.lo[..], &scratch.hi[..]);
    let mut max = 0;
    let mut total = 0i64;
    for (lo, hi) in lo.iter().zip(hi) {
        let size = hi - lo;
        total += i64::from(size);
        max = max.max(size);
    }
    stats.samples_in_windows += total;
    stats.max_window = stats.max_window.max(i64::from(max));
    if hi.is_empty() {
        return;
    }
    let last = hi.len() - 1;
    stats.last_window = i64::from(hi[last] - lo[last]);
    let mut read = i64::from(hi[0] - lo[0]);
    if query.grid.step > 0 {
        for k in 1..hi.len() {
            read += i64::from(hi[k] - lo[k].max(hi[k - 1]));
        }
    }
    stats.samples_read += read;
    if !stats.per_step.is_empty() {
        for k in 0..hi.len() {
            let read = match k {
                0 => hi[0] - lo[0],
                _ if query.grid.step == 0 => 0,
                _ => hi[k] - lo[k].max(hi[k - 1]),
            };
            let slot = &mut stats.per_step[k];
            slot.0 += i64::from(hi[k] - lo[k]);
            slot.1 += i64::from(read);
        }
    }
}

/// Adds the histogram windows to the counts; windows of both kinds are summed for the maximum.
fn count_histograms(
    query: &WindowQuery,
    samples: &SampleColumns,
    scratch: &Scratch,
    stats: &mut WindowStats,
) {
    let mut sum = 0i64;
    let sizes: Vec<i64> = std::iter::once(0)
        .chain(samples.histograms.h.iter().map(|h| {
            sum += ((h.size() + 8) / 16) as i64;
            sum
        }))
        .collect();
    let Scratch { lo, hi, hlo, hhi, .. } = scratch;
    stats.max_window = 0;
    for k in 0..hhi.len() {
        let (a, b) = (hlo[k] as usize, hhi[k] as usize);
        let window = sizes[b] - sizes[a];
        let read = match k {
            0 => window,
            _ if query.grid.step == 0 => 0,
            _ => sizes[b] - sizes[a.max(hhi[k - 1] as usize)],
        };
        stats.samples_in_windows += window;
        stats.samples_read += read;
        let both = window + i64::from(hi[k] - lo[k]);
        stats.max_window = stats.max_window.max(both);
        stats.last_window = both;
        if let Some(slot) = stats.per_step.get_mut(k) {
            slot.0 += window;
            slot.1 += read;
        }
    }
}

/// Whether any window holds both kinds.
fn any_mixed(scratch: &Scratch) -> bool {
    let Scratch { lo, hi, hlo, hhi, .. } = scratch;
    (0..hi.len()).any(|k| lo[k] < hi[k] && hlo[k] < hhi[k])
}

/// The kernels over a series that has histograms, perhaps beside floats.
fn evaluate_with_histograms(
    query: &WindowQuery,
    samples: &SampleColumns,
    scratch: &mut Scratch,
    out: &mut Column,
    notes: &mut Notes,
    annotations: &mut dyn FnMut(Annotation),
) -> Result<(), QueryError> {
    use RangeFunction as F;
    let with_st = query.use_start_timestamps && query.function.reads_start_timestamps();
    if query.function.ignores_histograms() {
        if query.function == F::DoubleExponentialSmoothing {
            let Scratch { lo, hi, hlo, hhi, .. } = &*scratch;
            for k in (0..hi.len()).filter(|k| lo[*k] < hi[*k] || hlo[*k] < hhi[*k]) {
                trend::check_factors(query, k)?;
            }
        }
        evaluate_floats(query, samples, scratch, out, notes, annotations)?;
        if any_mixed(scratch) {
            notes.add(Note::HistogramsIgnored);
        }
        return Ok(());
    }
    if matches!(query.function, F::SumOverTime | F::AvgOverTime | F::Rate | F::Increase | F::Delta) {
        // Windows of both kinds have no result: the float kernels see them empty.
        let mixed: Vec<bool> = (0..scratch.hi.len())
            .map(|k| scratch.lo[k] < scratch.hi[k] && scratch.hlo[k] < scratch.hhi[k])
            .collect();
        for (k, mixed) in mixed.iter().enumerate() {
            if *mixed {
                scratch.hi[k] = scratch.lo[k];
                scratch.hlo[k] = scratch.hhi[k];
                notes.add(Note::MixedFloatsHistograms);
            }
        }
        evaluate_floats(query, samples, scratch, out, notes, annotations)?;
    }
    let Scratch { lo, hi, hlo, hhi, counts, .. } = scratch;
    let f = FloatWindows {
        t: &samples.floats.t,
        v: &samples.floats.v,
        st: if with_st { &samples.floats.st } else { &[] },
        lo,
        hi,
    };
    let h = histograms::HistogramWindows {
        h: &samples.histograms,
        st: if with_st { &samples.histograms.st } else { &[] },
        lo: hlo,
        hi: hhi,
        float_lo: lo,
        float_hi: hi,
    };
    match query.function {
        F::SumOverTime | F::AvgOverTime | F::Rate | F::Increase | F::Delta => {
            histograms::combine(query, &h, out, notes);
        }
        F::Irate | F::Idelta => mixed::instant_change(query, samples, &f, &h, out, notes),
        F::Changes | F::Resets => mixed::count_pairs(query, samples, &f, &h, counts, out),
        _ => mixed::edges(query.function, &f, &h, out),
    }
    Ok(())
}

/// The kernels over floats.
fn evaluate_floats(
    query: &WindowQuery,
    samples: &SampleColumns,
    scratch: &mut Scratch,
    out: &mut Column,
    notes: &mut Notes,
    annotations: &mut dyn FnMut(Annotation),
) -> Result<(), QueryError> {
    let floats = &samples.floats;
    let with_st = query.use_start_timestamps && query.function.reads_start_timestamps();
    let Scratch { lo, hi, positions, counts, sums, sorted, distances, deque, .. } = scratch;
    let (lo, hi) = (&lo[..], &hi[..]);
    let w = FloatWindows { t: &floats.t, v: &floats.v, st: if with_st { &floats.st } else { &[] }, lo, hi };
    match query.function {
        RangeFunction::Rate | RangeFunction::Increase | RangeFunction::Delta => {
            if query.anchored || query.smoothed {
                rate::extended(query, &w, out);
            } else {
                rate::extrapolated(query, &w, positions, out, notes);
            }
        }
        RangeFunction::Irate | RangeFunction::Idelta => pairs::instant_change(query, &w, out),
        RangeFunction::Changes | RangeFunction::Resets => pairs::count_pairs(query, &w, counts, out),
        RangeFunction::SumOverTime => sums::sum(&w, sums, out),
        RangeFunction::AvgOverTime => sums::average(&w, sums, out),
        RangeFunction::MinOverTime => extremes::extreme::<false, false>(&w, deque, out),
        RangeFunction::MaxOverTime => extremes::extreme::<true, false>(&w, deque, out),
        RangeFunction::TsOfMinOverTime => extremes::extreme::<false, true>(&w, deque, out),
        RangeFunction::TsOfMaxOverTime => extremes::extreme::<true, true>(&w, deque, out),
        RangeFunction::CountOverTime => edges::count(&w, out),
        RangeFunction::PresentOverTime | RangeFunction::AbsentOverTime => edges::present(&w, out),
        RangeFunction::LastOverTime => edges::last(&w, out),
        RangeFunction::FirstOverTime => edges::first(&w, out),
        RangeFunction::TsOfFirstOverTime => edges::first_time(&w, out),
        RangeFunction::TsOfLastOverTime => edges::last_time(&w, out),
        RangeFunction::QuantileOverTime => order::quantile(query, &w, sorted, out, annotations),
        RangeFunction::MadOverTime => order::median_deviation(&w, sorted, distances, out),
        RangeFunction::StddevOverTime => moments::deviation(&w, true, out),
        RangeFunction::StdvarOverTime => moments::deviation(&w, false, out),
        RangeFunction::Deriv => trend::slope(&w, out),
        RangeFunction::PredictLinear => trend::predict(query, &w, out),
        RangeFunction::DoubleExponentialSmoothing => trend::smooth(query, &w, out)?,
    }
    Ok(())
}
