//! One value of each window of an aggregate chunk.

use std::sync::Arc;

use tsdbctl_chunk::{Aggregate, AggregateChunk, ChunkError, SampleColumns, decode};
use tsdbctl_model::CounterResetHint;
use tsdbctl_storage::WindowValue;

use crate::counters::{decode_counters, decode_movements};

fn part(
    chunk: &AggregateChunk<'_>,
    aggregate: Aggregate,
    mint: i64,
    maxt: i64,
    out: &mut SampleColumns,
) -> Result<(), ChunkError> {
    match chunk.get(aggregate) {
        Some((encoding, data)) => decode(encoding, data, mint, maxt, out),
        None => Ok(()),
    }
}

/// Appends the value of each window that ends in `mint..=maxt`; nothing where the chunk does not have the aggregate (the
/// smallest and the largest of histograms).
///
/// # Errors
/// If the chunk is damaged, or its sums are not of the windows of its counts.
pub(crate) fn decode_windows(
    chunk: &AggregateChunk<'_>,
    value: WindowValue,
    mint: i64,
    maxt: i64,
    out: &mut SampleColumns,
) -> Result<(), ChunkError> {
    let aggregate = match value {
        WindowValue::Average => return average(chunk, mint, maxt, out),
        WindowValue::Count => Aggregate::Count,
        WindowValue::Sum => Aggregate::Sum,
        WindowValue::Min => Aggregate::Min,
        WindowValue::Max => Aggregate::Max,
        WindowValue::Counter => return decode_counters(chunk, mint, maxt, out),
        WindowValue::Movements => {
            let is_known = decode_movements(chunk, mint, maxt, out)?;
            return if is_known { Ok(()) } else { average(chunk, mint, maxt, out) };
        }
    };
    part(chunk, aggregate, mint, maxt, out)
}

fn average(
    chunk: &AggregateChunk<'_>,
    mint: i64,
    maxt: i64,
    out: &mut SampleColumns,
) -> Result<(), ChunkError> {
    let (floats, histograms) = (out.floats.len(), out.histograms.len());
    part(chunk, Aggregate::Sum, mint, maxt, out)?;
    let mut counts = SampleColumns::default();
    part(chunk, Aggregate::Count, mint, maxt, &mut counts)?;
    let counts = counts.floats;
    let sums: &[i64] = match out.floats.len() - floats {
        0 => &out.histograms.t[histograms..],
        _ => &out.floats.t[floats..],
    };
    if sums != counts.t {
        let reason = "its windows are not those of the counts";
        return Err(ChunkError::Aggregate { aggregate: Aggregate::Sum.name(), reason });
    }
    for (sum, count) in out.floats.v[floats..].iter_mut().zip(&counts.v) {
        *sum /= count;
    }
    for (sum, count) in out.histograms.h[histograms..].iter_mut().zip(&counts.v) {
        let sum = Arc::make_mut(sum);
        sum.div(*count);
        // An average goes up and down.
        sum.counter_reset_hint = CounterResetHint::Gauge;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tsdbctl_chunk::{Encoding, XorEncoder};

    use super::*;

    fn xor(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut e = XorEncoder::new();
        samples.iter().for_each(|(t, v)| e.append(*t, *v).unwrap());
        e.data().to_vec()
    }

    #[test]
    fn each_value_comes_from_its_aggregate() {
        let count = xor(&[(9, 2.0), (19, 4.0), (25, 1.0)]);
        let sum = xor(&[(9, 3.0), (19, 10.0), (25, 7.0)]);
        let (min, max) = (xor(&[(9, 1.0), (19, 2.0), (25, 7.0)]), xor(&[(9, 2.0), (19, 5.0), (25, 7.0)]));
        let counter = xor(&[(1, 1.0), (9, 2.0), (19, 5.0), (25, 12.0), (25, 7.0)]);
        let mut chunk = AggregateChunk::default();
        for (aggregate, data) in Aggregate::ALL.into_iter().zip([&count, &sum, &min, &max, &counter]) {
            chunk.set(aggregate, Encoding::Xor, data);
        }
        for (value, want) in [
            (WindowValue::Average, &[(9, 1.5), (19, 2.5)][..]),
            (WindowValue::Count, &[(9, 2.0), (19, 4.0)]),
            (WindowValue::Sum, &[(9, 3.0), (19, 10.0)]),
            (WindowValue::Min, &[(9, 1.0), (19, 2.0)]),
            (WindowValue::Max, &[(9, 2.0), (19, 5.0)]),
            (WindowValue::Counter, &[(1, 1.0), (9, 2.0), (19, 5.0), (19, 5.0)]),
            // The fall in the last window is not wanted.
            (WindowValue::Movements, &[(1, 1.0), (8, 1.0), (9, 2.0), (18, 2.0), (19, 5.0)]),
        ] {
            let mut out = SampleColumns::default();
            decode_windows(&chunk, value, 0, 24, &mut out).unwrap();
            let got: Vec<(i64, f64)> = out.floats.t.into_iter().zip(out.floats.v).collect();
            assert_eq!(got, want, "{value:?}");
        }
        let mut out = SampleColumns::default();
        decode_windows(&chunk, WindowValue::Counter, 20, 99, &mut out).unwrap();
        assert_eq!((out.floats.t, out.floats.v), (vec![25; 3], vec![7.0, 12.0, 7.0]));
        let mut short = chunk;
        let count = xor(&[(9, 2.0)]);
        short.set(Aggregate::Count, Encoding::Xor, &count);
        assert!(decode_windows(&short, WindowValue::Average, 0, 99, &mut SampleColumns::default()).is_err());
        let empty = AggregateChunk::default();
        decode_windows(&empty, WindowValue::Min, 0, 99, &mut SampleColumns::default()).unwrap();
    }
}
