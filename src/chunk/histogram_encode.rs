//! Appending a histogram to a chunk: whether it fits, what has to be recoded, when a new chunk begins.

use tsdbctl_model::CounterResetHint;
use tsdbctl_model::histogram::BucketSpan;

use crate::bucket_merge::{Insert, with_inserts};
use crate::error::ChunkError;

/// Inserts for positive and negative buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sides {
    positive: Vec<Insert>,
    negative: Vec<Insert>,
}

impl Sides {
    fn is_empty(&self) -> bool {
        self.positive.is_empty() && self.negative.is_empty()
    }
}

/// Whether a counter histogram can go into a chunk.
pub(crate) enum Fit {
    /// It can, after these inserts.
    Yes { into_chunk: Sides, into_sample: Sides },
    /// It cannot; what is known of a counter reset in between.
    No(CounterResetHint),
}

type Expanded = Option<(Vec<Insert>, Vec<Insert>)>;

impl Fit {
    /// Nothing has to be inserted.
    pub fn as_it_is() -> Self {
        Self::Yes { into_chunk: Sides::default(), into_sample: Sides::default() }
    }

    pub fn of(positive: Expanded, negative: Expanded) -> Self {
        match (positive, negative) {
            (Some(p), Some(n)) => Self::Yes {
                into_chunk: Sides { positive: p.0, negative: n.0 },
                into_sample: Sides { positive: p.1, negative: n.1 },
            },
            _ => Self::No(CounterResetHint::CounterReset),
        }
    }

    fn hint(&self) -> CounterResetHint {
        match self {
            Self::Yes { .. } => CounterResetHint::NotCounterReset,
            Self::No(hint) => *hint,
        }
    }
}

/// How a gauge histogram goes into a chunk of gauges.
#[derive(Default)]
pub(crate) struct GaugeFit {
    into_chunk: Sides,
    into_sample: Sides,
    positive_spans: Vec<BucketSpan>,
    negative_spans: Vec<BucketSpan>,
}

type ExpandedBoth = (Vec<Insert>, Vec<Insert>, Vec<BucketSpan>);

impl GaugeFit {
    pub fn of(positive: ExpandedBoth, negative: ExpandedBoth) -> Self {
        Self {
            into_chunk: Sides { positive: positive.0, negative: negative.0 },
            into_sample: Sides { positive: positive.1, negative: negative.1 },
            positive_spans: positive.2,
            negative_spans: negative.2,
        }
    }
}

/// A chunk encoder of integer or of float histograms.
pub(crate) trait HistogramEncode: Sized {
    type Sample: Clone;

    fn new(st: bool) -> Self;
    fn append(&mut self, t: i64, h: &Self::Sample, st: i64) -> Result<(), ChunkError>;
    fn counter_reset(&self) -> CounterResetHint;
    fn set_counter_reset(&mut self, reset: CounterResetHint);
    /// Whether spans and buckets of a sample agree.
    fn check(h: &Self::Sample) -> Result<(), ChunkError>;
    fn hint(h: &Self::Sample) -> CounterResetHint;
    fn fit(&self, h: &Self::Sample) -> Fit;
    fn fit_gauge(&self, h: &Self::Sample) -> Option<GaugeFit>;
    /// What the header of a chunk says that was cut for other reasons, from how its first sample fits the chunk before.
    fn header_after(hint: CounterResetHint) -> CounterResetHint;
    /// What the header of a chunk says that was cut because the sample did not fit.
    fn header_on_cut(hint: CounterResetHint) -> CounterResetHint;
    fn spans(&self) -> (&[BucketSpan], &[BucketSpan]);
    fn sample_spans(h: &mut Self::Sample) -> (&mut Vec<BucketSpan>, &mut Vec<BucketSpan>);
    fn insert(h: &mut Self::Sample, positive: &[Insert], negative: &[Insert]);
    /// The samples as they are stored, with their times and start timestamps.
    fn decode_own(&self) -> Result<Vec<(i64, i64, Self::Sample)>, ChunkError>;
}

/// What became of a sample.
pub(crate) enum Appended<E> {
    /// It is in the chunk, which may have been recoded.
    Here,
    /// It is the first one of a new chunk.
    Cut(E),
}

/// Appends a sample to a chunk that has none: `before` is the chunk in front, if of the same kind.
pub(crate) fn append_first<E: HistogramEncode>(
    chunk: &mut E,
    before: Option<&E>,
    t: i64,
    h: &E::Sample,
    st: i64,
) -> Result<(), ChunkError> {
    chunk.append(t, h, st)?;
    match (E::hint(h), before) {
        (hint @ (CounterResetHint::Gauge | CounterResetHint::CounterReset), _) => {
            chunk.set_counter_reset(hint)
        }
        (_, Some(before)) => chunk.set_counter_reset(E::header_after(before.fit(h).hint())),
        _ => {}
    }
    Ok(())
}

/// Appends a sample to a chunk that has some.
pub(crate) fn append_next<E: HistogramEncode>(
    chunk: &mut E,
    with_st: bool,
    t: i64,
    h: &E::Sample,
    st: i64,
) -> Result<Appended<E>, ChunkError> {
    E::check(h)?;
    let cut = |reset| {
        let mut new = E::new(with_st);
        new.append(t, h, st)?;
        new.set_counter_reset(reset);
        Ok(Appended::Cut(new))
    };
    let (into_chunk, into_sample, adjusted);
    if E::hint(h) == CounterResetHint::Gauge {
        let Some(fit) = chunk.fit_gauge(h) else {
            return cut(CounterResetHint::Gauge);
        };
        adjusted = (!fit.into_sample.is_empty()).then(|| {
            let mut h = h.clone();
            let (positive, negative) = E::sample_spans(&mut h);
            *positive = fit.positive_spans;
            *negative = fit.negative_spans;
            h
        });
        (into_chunk, into_sample) = (fit.into_chunk, fit.into_sample);
    } else {
        match chunk.fit(h) {
            Fit::No(hint) => return cut(E::header_on_cut(hint)),
            Fit::Yes { into_chunk: new, into_sample: gone } => {
                adjusted = (!gone.is_empty()).then(|| {
                    let mut h = h.clone();
                    let (positive, negative) = E::sample_spans(&mut h);
                    if new.is_empty() {
                        let spans = chunk.spans();
                        *positive = spans.0.to_vec();
                        *negative = spans.1.to_vec();
                    } else {
                        *positive = with_inserts(positive, &gone.positive);
                        *negative = with_inserts(negative, &gone.negative);
                    }
                    h
                });
                (into_chunk, into_sample) = (new, gone);
            }
        }
    }
    let mut adjusted = adjusted;
    if let Some(h) = &mut adjusted {
        E::insert(h, &into_sample.positive, &into_sample.negative);
    }
    if !into_chunk.is_empty() {
        let mut of_spans = adjusted.as_ref().unwrap_or(h).clone();
        let (positive, negative) = E::sample_spans(&mut of_spans);
        recode(chunk, with_st, &into_chunk, positive, negative)?;
    }
    chunk.append(t, adjusted.as_ref().unwrap_or(h), st)?;
    Ok(Appended::Here)
}

/// Writes the chunk anew with more buckets.
fn recode<E: HistogramEncode>(
    chunk: &mut E,
    with_st: bool,
    inserts: &Sides,
    positive: &[BucketSpan],
    negative: &[BucketSpan],
) -> Result<(), ChunkError> {
    let mut new = E::new(with_st);
    for (t, st, mut h) in chunk.decode_own()? {
        let spans = E::sample_spans(&mut h);
        *spans.0 = positive.to_vec();
        *spans.1 = negative.to_vec();
        E::insert(&mut h, &inserts.positive, &inserts.negative);
        new.append(t, &h, st)?;
    }
    new.set_counter_reset(chunk.counter_reset());
    *chunk = new;
    Ok(())
}
