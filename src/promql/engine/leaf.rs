//! Work on stored series, one at a time and independent of each other: read, decode, compute the column.
//! It may be done by two threads; results are handed out in series order, so no bit depends on how many.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::Span;
use tsdbctl_storage::{Annotation, Control, ReadStats, SeriesSet, TimeFilter, WindowValue};

use tsdbctl_storage::resolution::join_counters;

use super::account::histogram_samples;
use super::column::Column;
use super::error::QueryError;
use super::operator::Eval;
use super::options::StepGrid;
use super::resolution::View;
use crate::functions::windows::{
    self, RangeFunction, ScalarArg, Scratch, SeriesInfo, WindowQuery, WindowStats,
};

/// Which value an instant selector gives at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstantValue {
    /// The sample.
    Sample,
    /// Its time in seconds (`timestamp(selector)`).
    Timestamp,
    /// Its start timestamp in seconds (`start_timestamp(selector)`).
    StartTimestamp,
    /// Its time in milliseconds (the info side of `info`).
    TimestampMs,
}

/// The newest sample within the lookback.
#[derive(Clone, Copy, Debug)]
pub struct InstantWork {
    /// Evaluation times as the data sees them.
    pub data: StepGrid,
    /// Which value is wanted.
    pub value: InstantValue,
    /// Lookback, ms.
    pub lookback: i64,
    /// Interpolate.
    pub smoothed: bool,
    /// Start timestamps are there to be asked for.
    pub use_start_timestamps: bool,
    /// Place of the selector.
    pub span: Span,
}

/// A function over windows of samples.
#[derive(Clone, Debug)]
pub struct RangeWork {
    /// Which function.
    pub function: RangeFunction,
    /// Evaluation times.
    pub grid: StepGrid,
    /// Window ends.
    pub data: StepGrid,
    /// Range, ms.
    pub range: i64,
    /// Lookback, ms.
    pub lookback: i64,
    /// Selector modifier.
    pub anchored: bool,
    /// Selector modifier.
    pub smoothed: bool,
    /// Scalar arguments: one value, or one per step.
    pub args: Vec<Vec<f64>>,
    /// Start timestamps count.
    pub use_start_timestamps: bool,
    /// `__type__` tells counters.
    pub type_and_unit: bool,
    /// Counts per step are wanted.
    pub per_step: bool,
    /// Place of the range vector.
    pub arg_span: Span,
    /// Place of the call.
    pub call_span: Span,
}

impl RangeWork {
    /// Computes one series' windows; `samples` loses its stale markers.
    ///
    /// # Errors
    /// If the function refuses its arguments.
    pub fn evaluate(
        &self,
        info: &SeriesInfo,
        samples: &mut SampleColumns,
        scratch: &mut Scratch,
        out: &mut Column,
        annotations: &mut dyn FnMut(Annotation),
    ) -> Result<WindowStats, QueryError> {
        let args: Vec<ScalarArg> = self
            .args
            .iter()
            .map(|a| match a.as_slice() {
                [one] => ScalarArg::Constant(*one),
                many => ScalarArg::PerStep(many),
            })
            .collect();
        let query = WindowQuery {
            function: self.function,
            grid: self.data,
            eval_start: self.grid.start,
            eval_step: self.grid.step,
            range_ms: self.range,
            lookback_ms: self.lookback,
            anchored: self.anchored,
            smoothed: self.smoothed,
            args: &args,
            use_start_timestamps: self.use_start_timestamps,
            type_and_unit: self.type_and_unit,
            per_step_stats: self.per_step,
            arg_span: self.arg_span,
            call_span: self.call_span,
        };
        windows::evaluate(&query, info, samples, scratch, out, annotations)
    }
}

/// What is done with each series.
#[derive(Clone, Debug)]
pub enum Work {
    /// An instant selector.
    Instant(InstantWork),
    /// A function over a range.
    Range(Box<RangeWork>),
}

/// Name and type label of a series, for annotations.
#[derive(Clone, Debug, Default)]
pub struct SeriesNames {
    /// `__name__`.
    pub metric_name: Arc<str>,
    /// `__type__`.
    pub type_label: Arc<str>,
}

/// Everything the work needs, shared by the threads.
struct Shared {
    set: Arc<dyn SeriesSet>,
    filter: TimeFilter,
    bounds: (i64, i64),
    stats_only: bool,
    work: Work,
    /// How it is done where samples are downsampled.
    view: Option<View>,
    control: Control,
    steps: usize,
}

/// What one series gave.
#[derive(Default)]
pub struct LeafOutput {
    /// Its column.
    pub column: Column,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Counts of its windows (functions over ranges).
    pub window: WindowStats,
    /// What reading cost.
    pub read: ReadStats,
    /// An info series with histograms, which upstream refuses.
    pub histograms_where_none_are_allowed: bool,
    /// Samples of the windows of a `smoothed` selector: most at once, and in the last.
    pub held: (i64, i64),
}

/// A thread's own buffers.
#[derive(Default)]
struct Buffers {
    samples: SampleColumns,
    scratch: Scratch,
    part: Column,
    held: usize,
}

impl Shared {
    /// Reads series `i`: as it is, or a value of its windows.
    fn fetch(
        &self,
        i: usize,
        value: Option<WindowValue>,
        samples: &mut SampleColumns,
        read: &mut ReadStats,
    ) -> Result<(), QueryError> {
        samples.clear();
        let everything = TimeFilter::all_between(self.filter.mint(), self.filter.maxt());
        // Of histograms reduced to count and sum, what lies between windows decides about hints too.
        let filter = if self.stats_only { &everything } else { &self.filter };
        match value {
            None => self.set.read(i, filter, samples, read)?,
            Some(value) => self.set.read_window(i, filter, value, samples, read)?,
        }
        if value == Some(WindowValue::Counter) {
            join_counters(samples);
        }
        if self.filter.mint() < self.bounds.0 || self.filter.maxt() > self.bounds.1 {
            clip(samples, self.bounds.0, self.bounds.1);
        }
        if self.stats_only && !samples.histograms.is_empty() {
            let TimeFilter { first, step, steps, before, .. } = self.filter;
            let before = before - i64::from(matches!(self.work, Work::Instant(_)));
            let leaps = windows::Leaps { first, step, steps, before };
            windows::convert_to_stats_only(&mut samples.histograms, Some(leaps));
        }
        Ok(())
    }

    /// The work on downsampled samples: steps of each piece of time by themselves.
    fn compute_windows(
        &self,
        view: &View,
        i: usize,
        names: &SeriesNames,
        buffers: &mut Buffers,
        out: &mut LeafOutput,
    ) -> Result<(), QueryError> {
        let Buffers { samples, scratch, part, .. } = buffers;
        view.evaluate(names, samples, scratch, part, out)?;
        if !view.per_sample {
            return Ok(());
        }
        self.fetch(i, Some(WindowValue::Count), samples, &mut out.read)?;
        let mut counts = LeafOutput { column: Column::new(self.steps), ..LeafOutput::default() };
        view.evaluate(names, samples, scratch, part, &mut counts)?;
        divide(&mut out.column, &counts.column);
        Ok(())
    }

    fn compute(
        &self,
        i: usize,
        names: &SeriesNames,
        buffers: &mut Buffers,
        mut column: Column,
    ) -> Result<LeafOutput, QueryError> {
        let samples = &mut buffers.samples;
        let mut read = ReadStats::default();
        let view = self.view.as_ref().filter(|_| !self.set.is_raw(i));
        self.fetch(i, view.map(|view| view.value), samples, &mut read)?;
        let bytes = samples.bytes();
        if bytes > buffers.held {
            self.control.budget.take("decoded samples", bytes - buffers.held)?;
            buffers.held = bytes;
        }
        let mut out = LeafOutput { read, ..LeafOutput::default() };
        if let Some(view) = view {
            out.column = column;
            self.compute_windows(view, i, names, buffers, &mut out)?;
            return Ok(out);
        }
        match &self.work {
            Work::Range(work) => {
                let info = SeriesInfo { metric_name: &names.metric_name, type_label: &names.type_label };
                let annotations = &mut out.annotations;
                let mut note = |a| annotations.push(a);
                out.window = work.evaluate(&info, samples, &mut buffers.scratch, &mut column, &mut note)?;
            }
            Work::Instant(work) => {
                let annotations = &mut out.annotations;
                out.histograms_where_none_are_allowed =
                    work.evaluate(&names.metric_name, samples, &mut column, annotations);
                if work.smoothed && work.value == InstantValue::Sample {
                    out.held = work.held(samples);
                }
            }
        }
        out.column = column;
        Ok(out)
    }
}

impl InstantWork {
    /// Samples of a smoothed selector's windows, most at once and in the last; `samples` are without stale
    /// markers.
    fn held(&self, samples: &SampleColumns) -> (i64, i64) {
        let weights: Vec<i64> = samples.histograms.h.iter().map(|h| histogram_samples(h)).collect();
        let within = |t: &[i64], end: i64| {
            let from = t.partition_point(|x| *x <= end - self.lookback);
            from..t.partition_point(|x| *x <= end + self.lookback)
        };
        let (mut most, mut last) = (0, 0);
        for k in 0..self.data.steps {
            let end = self.data.time(k);
            last = within(&samples.floats.t, end).len() as i64;
            last += weights[within(&samples.histograms.t, end)].iter().sum::<i64>();
            most = most.max(last);
        }
        (most, last)
    }

    /// Fills `column`; true if an info series has histograms.
    pub fn evaluate(
        &self,
        metric_name: &str,
        samples: &mut SampleColumns,
        column: &mut Column,
        annotations: &mut Vec<Annotation>,
    ) -> bool {
        let seconds = |column: &mut Column| column.values.iter_mut().for_each(|v| *v /= 1000.0);
        match self.value {
            InstantValue::Sample if self.smoothed => {
                let mut note = |a| annotations.push(a);
                let (data, lookback, span) = (self.data, self.lookback, self.span);
                windows::smoothed_instant(samples, data, lookback, metric_name, span, column, &mut note);
            }
            InstantValue::Sample => windows::instant_values(samples, self.data, self.lookback, column),
            InstantValue::Timestamp => {
                windows::instant_timestamps(samples, self.data, self.lookback, column);
                seconds(column);
            }
            InstantValue::StartTimestamp if self.use_start_timestamps => {
                windows::instant_start_timestamps(samples, self.data, self.lookback, column);
                seconds(column);
            }
            InstantValue::StartTimestamp => {
                windows::instant_timestamps(samples, self.data, self.lookback, column);
            }
            InstantValue::TimestampMs => {
                windows::instant_values(samples, self.data, self.lookback, column);
                if !column.histograms.is_empty() {
                    return true;
                }
                windows::instant_timestamps(samples, self.data, self.lookback, column);
            }
        }
        false
    }
}

/// Divides what has a divisor, and removes what has none.
fn divide(column: &mut Column, by: &Column) {
    for k in 0..column.steps() {
        match (column.float(k), by.float(k)) {
            (Some(v), Some(by)) => column.set_float(k, v / by),
            (Some(_), None) => column.clear_float(k),
            (None, _) => {}
        }
    }
    column.histograms.retain_mut(|(k, h)| {
        let by = by.float(*k as usize);
        if let Some(by) = by {
            Arc::make_mut(h).div(by);
        }
        by.is_some()
    });
}

/// Removes samples outside `mint..=maxt`.
pub fn clip(samples: &mut SampleColumns, mint: i64, maxt: i64) {
    fn keep<T>(column: &mut Vec<T>, from: usize, to: usize) {
        column.truncate(to);
        column.drain(..from.min(column.len()));
    }
    fn places(t: &[i64], mint: i64, maxt: i64) -> (usize, usize) {
        let to = t.partition_point(|t| *t <= maxt);
        (t[..to].partition_point(|t| *t < mint), to)
    }
    let f = &mut samples.floats;
    let (from, to) = places(&f.t, mint, maxt);
    keep(&mut f.t, from, to);
    keep(&mut f.v, from, to);
    keep(&mut f.st, from, to);
    let h = &mut samples.histograms;
    let (from, to) = places(&h.t, mint, maxt);
    keep(&mut h.t, from, to);
    keep(&mut h.h, from, to);
    keep(&mut h.integer, from, to);
    keep(&mut h.st, from, to);
}

/// Steps a thread takes at a time, over all series of a batch.
const BATCH_STEPS: usize = 16 << 10;
type Batch = Vec<Result<LeafOutput, QueryError>>;

struct Job {
    first: usize,
    names: Vec<SeriesNames>,
    columns: Vec<Column>,
}

/// A second thread that computes every other batch.
struct Helper {
    jobs: Option<Sender<Job>>,
    done: Receiver<Batch>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// The batch it is at, first series and end.
    batch: Option<(usize, usize)>,
}

impl Helper {
    fn start(shared: &Arc<Shared>) -> Option<Self> {
        let (jobs, inbox) = channel::<Job>();
        let (outbox, done) = channel::<Batch>();
        let shared = shared.clone();
        let work = move || {
            let mut buffers = Buffers::default();
            for job in inbox {
                let batch = job
                    .names
                    .iter()
                    .zip(job.columns)
                    .enumerate()
                    .map(|(n, (names, column))| shared.compute(job.first + n, names, &mut buffers, column))
                    .collect();
                if outbox.send(batch).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("decode".into()).spawn(work).ok()?;
        Some(Self { jobs: Some(jobs), done, thread: Some(thread), batch: None })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has closed the channel and become an error there.
            let _ = thread.join();
        }
    }
}

/// The series of a selector on their way through the work.
pub struct Leaf {
    shared: Arc<Shared>,
    len: usize,
    position: usize,
    buffers: Buffers,
    ready: VecDeque<Result<LeafOutput, QueryError>>,
    helper: Option<Helper>,
    started: Option<Instant>,
    alone: bool,
    /// Series a thread takes at a time.
    batch: usize,
    needs_names: bool,
}

impl Leaf {
    /// Work over all series of `set`, on columns of `steps`; with how it is done where samples are downsampled.
    pub fn new(
        set: Arc<dyn SeriesSet>,
        filter: TimeFilter,
        bounds: (i64, i64),
        stats_only: bool,
        (work, view): (Work, Option<View>),
        steps: usize,
        ev: &Eval,
    ) -> Self {
        let len = set.len();
        let control = ev.control.clone();
        let batch = (BATCH_STEPS / steps.max(1)).clamp(16, 512);
        let needs_names = match &work {
            Work::Range(_) => true,
            Work::Instant(work) => work.smoothed,
        };
        Self {
            shared: Arc::new(Shared { set, filter, bounds, stats_only, work, view, control, steps }),
            len,
            position: 0,
            buffers: Buffers::default(),
            ready: VecDeque::new(),
            helper: None,
            started: None,
            alone: ev.options.threads < 2,
            batch,
            needs_names,
        }
    }

    /// The next series' result, `None` after the last.
    ///
    /// # Errors
    /// If reading or computing it failed, or the query is to stop.
    pub fn next(
        &mut self,
        ev: &mut Eval,
        names: impl Fn(&Eval, usize) -> SeriesNames,
    ) -> Result<Option<LeafOutput>, QueryError> {
        if self.position >= self.len {
            return Ok(None);
        }
        ev.poll()?;
        let nobody = SeriesNames::default();
        let needed = self.needs_names;
        let names = |ev: &Eval, i: usize| if needed { names(ev, i) } else { nobody.clone() };
        if !self.alone {
            self.consider_helper(ev, &names)?;
        }
        let i = self.position;
        self.position += 1;
        if let Some(out) = self.ready.pop_front() {
            return out.map(Some);
        }
        let column = ev.column(self.shared.steps)?;
        let names = names(ev, i);
        self.shared.compute(i, &names, &mut self.buffers, column).map(Some)
    }

    /// Fetches what the second thread has done when its batch is next, and gives it the batch after the one
    /// this thread is about to do.
    fn consider_helper(
        &mut self,
        ev: &mut Eval,
        names: &impl Fn(&Eval, usize) -> SeriesNames,
    ) -> Result<(), QueryError> {
        let (i, batch) = (self.position, self.batch);
        if i % batch != 0 {
            return Ok(());
        }
        if self.helper.is_none() {
            match self.started {
                None => self.started = Some(Instant::now()),
                Some(start) if i >= batch => {
                    let per_series = start.elapsed().as_secs_f64() / i as f64;
                    if per_series * (self.len - i) as f64 >= ev.options.second_thread_above_seconds {
                        self.helper = Helper::start(&self.shared);
                    }
                    self.alone = self.helper.is_none();
                }
                Some(_) => {}
            }
        }
        let Some(helper) = &mut self.helper else { return Ok(()) };
        if let Some((first, _)) = helper.batch
            && first == i
        {
            helper.batch = None;
            let stopped = || QueryError {
                kind: super::ErrorKind::Internal,
                ..QueryError::execution("the decoding thread has stopped unexpectedly")
            };
            self.ready.extend(helper.done.recv().map_err(|_| stopped())?);
        }
        // The next batch is this thread's own (or has just arrived); the one behind goes to the helper.
        if helper.batch.is_none() {
            let first = if self.ready.is_empty() { i + batch } else { i + 2 * batch };
            let end = (first + batch).min(self.len);
            if first < end {
                let mut job =
                    Job { first, names: Vec::with_capacity(batch), columns: Vec::with_capacity(batch) };
                for n in first..end {
                    job.names.push(names(ev, n));
                    job.columns.push(ev.column(self.shared.steps)?);
                }
                helper.batch = Some((first, end));
                if let Some(jobs) = &helper.jobs
                    && jobs.send(job).is_err()
                {
                    helper.batch = None;
                }
            }
        }
        Ok(())
    }
}
