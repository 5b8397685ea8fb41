//! Windows taken out of an aggregate chunk. A window counts by its end: which of its samples a deletion means cannot be told
//! any more.

use tsdbctl_chunk::{Aggregate, AggregateChunk, ChunkError, Encoding, Floats, XorEncoder, decode_counter};
use tsdbctl_storage::{ChunkBatch, EncodedChunk};

use crate::chunk_merge::without_samples;

/// Appends an aggregate chunk without the windows whose end is `deleted` to `out`; nothing if none are left.
pub(crate) fn without_windows(
    chunk: EncodedChunk<'_>,
    deleted: impl Fn(i64) -> bool,
    out: &mut ChunkBatch,
) -> Result<(), ChunkError> {
    let parts = AggregateChunk::parse(chunk.data)?;
    let mut data: [Option<(Encoding, Vec<u8>)>; 5] = Default::default();
    // Of all parts that go by windows, which is all but a counter's.
    let mut range: Option<(i64, i64)> = None;
    for aggregate in Aggregate::ALL {
        let Some((encoding, part)) = parts.get(aggregate) else { continue };
        let kept = &mut data[aggregate as usize];
        if aggregate == Aggregate::Counter && !encoding.is_histogram() {
            *kept = counter_without(encoding, part, &deleted)?.map(|data| (Encoding::Xor, data));
            continue;
        }
        let mut left = ChunkBatch::default();
        without_samples(encoding, part, &deleted, &mut left)?;
        match left.len() {
            0 => continue,
            1 => {}
            _ => {
                let reason = "what is left of it does not fit one chunk";
                return Err(ChunkError::Aggregate { aggregate: aggregate.name(), reason });
            }
        }
        let left = left.get(0);
        let (mint, maxt) = range.unwrap_or((left.mint, left.maxt));
        range = Some((mint.min(left.mint), maxt.max(left.maxt)));
        *kept = Some((encoding, left.data.to_vec()));
    }
    let Some((first, last)) = range else { return Ok(()) };
    let mut cut = AggregateChunk::default();
    for (aggregate, part) in Aggregate::ALL.into_iter().zip(&data) {
        if let Some((encoding, data)) = part {
            cut.set(aggregate, *encoding, data);
        }
    }
    let mut bytes = Vec::new();
    cut.encode(&mut bytes);
    let (mint, maxt) = (first.max(chunk.mint), last.min(chunk.maxt));
    out.push(EncodedChunk { encoding: chunk.encoding, data: &bytes, mint, maxt });
    Ok(())
}

/// A float counter's part without some windows. Where the last window goes, the value of the one before stands for the true
/// last value, which is not known then.
fn counter_without(
    encoding: Encoding,
    data: &[u8],
    deleted: impl Fn(i64) -> bool,
) -> Result<Option<Vec<u8>>, ChunkError> {
    let mut stored = Floats::default();
    decode_counter(encoding, data, &mut stored)?;
    // The first sample is inside of the first window, and goes with it.
    let first_window = stored.t.get(1).copied();
    let mut encoder = XorEncoder::new();
    let mut last: Option<(i64, f64)> = None;
    let mut repeated = false;
    for (i, (t, v)) in stored.t.iter().zip(&stored.v).enumerate() {
        let by = if i == 0 { first_window.unwrap_or(*t) } else { *t };
        if deleted(by) || deleted(*t) {
            continue;
        }
        encoder.append(*t, *v)?;
        repeated = last.is_some_and(|l| l.0 == *t);
        last = Some((*t, *v));
    }
    let Some((t, v)) = last else { return Ok(None) };
    if !repeated {
        encoder.append(t, v)?;
    }
    Ok(Some(encoder.take()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut encoder = XorEncoder::new();
        samples.iter().for_each(|(t, v)| encoder.append(*t, *v).unwrap());
        encoder.take()
    }

    /// Times and values of a part.
    fn samples(data: &[u8]) -> Vec<(i64, f64)> {
        let mut stored = Floats::default();
        decode_counter(Encoding::Xor, data, &mut stored).unwrap();
        stored.t.into_iter().zip(stored.v).collect()
    }

    #[test]
    fn windows_go_with_what_belongs_to_them() {
        let counts = part(&[(99, 10.0), (199, 11.0), (299, 12.0)]);
        let counter = part(&[(5, 1.0), (99, 7.0), (199, 9.0), (299, 20.0), (299, 3.0)]);
        let mut whole = AggregateChunk::default();
        whole.set(Aggregate::Count, Encoding::Xor, &counts);
        whole.set(Aggregate::Counter, Encoding::Xor, &counter);
        let mut data = Vec::new();
        whole.encode(&mut data);
        let whole = EncodedChunk { encoding: 0xff, data: &data, mint: 99, maxt: 299 };
        type Range = (i64, i64);
        type Case<'a> = (Range, Range, &'a [(i64, f64)], &'a [(i64, f64)]);
        let cases: [Case<'_>; 5] = [
            (
                (0, 50),
                (99, 299),
                &[(99, 10.0), (199, 11.0), (299, 12.0)],
                &[(99, 7.0), (199, 9.0), (299, 20.0), (299, 3.0)],
            ),
            ((60, 100), (199, 299), &[(199, 11.0), (299, 12.0)], &[(199, 9.0), (299, 20.0), (299, 3.0)]),
            (
                (150, 250),
                (99, 299),
                &[(99, 10.0), (299, 12.0)],
                &[(5, 1.0), (99, 7.0), (299, 20.0), (299, 3.0)],
            ),
            (
                (250, 900),
                (99, 199),
                &[(99, 10.0), (199, 11.0)],
                &[(5, 1.0), (99, 7.0), (199, 9.0), (199, 9.0)],
            ),
            ((100, 900), (99, 99), &[(99, 10.0)], &[(5, 1.0), (99, 7.0), (99, 7.0)]),
        ];
        for (deleted, range, count, counter) in cases {
            let mut out = ChunkBatch::default();
            without_windows(whole, |t| (deleted.0..=deleted.1).contains(&t), &mut out).unwrap();
            let got = out.get(0);
            assert_eq!((got.encoding, got.mint, got.maxt), (0xff, range.0, range.1), "{deleted:?}");
            let parts = AggregateChunk::parse(got.data).unwrap();
            assert_eq!(samples(parts.get(Aggregate::Count).unwrap().1), count, "{deleted:?}");
            assert_eq!(samples(parts.get(Aggregate::Counter).unwrap().1), counter, "{deleted:?}");
            assert_eq!(parts.get(Aggregate::Min), None);
        }
        let mut out = ChunkBatch::default();
        without_windows(whole, |_| true, &mut out).unwrap();
        assert!(out.is_empty());
        for end in 0..data.len() {
            let cut = EncodedChunk { data: &data[..end], ..whole };
            assert!(without_windows(cut, |t| t == 99, &mut out).is_err(), "cut at {end}");
        }
    }
}
