//! Aggregate chunks of downsampled blocks (Thanos' `downsample.AggrChunk`): up to five chunks of the same windows in one.
//!
//! ```text
//! encoding byte in the chunk file: 0xff
//! five times, in the order count, sum, min, max, counter:
//!   uvarint   length of the data below; 0 where there is no such aggregate, and nothing follows then
//!   1 byte    encoding of the data
//!   data      an ordinary chunk: times are the ends of the windows, inclusive
//! ```
//!
//! Chunks of floats have all five. The counter's chunk begins with the true first sample and ends with the true last value
//! at the time of the window before it, so that a reset between two chunks can be seen. Chunks of native histograms have
//! count (floats), sum and counter (float histograms).

use crate::columns::Floats;
use crate::decode::sample_count;
use crate::encoding::Encoding;
use crate::error::ChunkError;

/// The encoding byte of aggregate chunks.
pub const AGGREGATE_ENCODING: u8 = 0xff;

/// What is kept of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Aggregate {
    /// Number of samples.
    Count = 0,
    /// Their sum.
    Sum = 1,
    /// The smallest.
    Min = 2,
    /// The largest.
    Max = 3,
    /// The counter's value without its resets, from the start of the chunk on.
    Counter = 4,
}

impl Aggregate {
    /// All, in the order of the format.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Min, Self::Max, Self::Counter];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::Counter => "counter",
        }
    }
}

/// The parts of an aggregate chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateChunk<'a> {
    parts: [Option<(Encoding, &'a [u8])>; 5],
}

impl<'a> AggregateChunk<'a> {
    /// Takes a chunk's data apart; the data of the parts is not looked at.
    ///
    /// # Errors
    /// If it ends too soon or too late, or a part is of an encoding that is not known.
    pub fn parse(data: &'a [u8]) -> Result<Self, ChunkError> {
        let mut rest = data;
        let mut parts = [None; 5];
        for (aggregate, part) in Aggregate::ALL.into_iter().zip(&mut parts) {
            let wrong = |reason| ChunkError::Aggregate { aggregate: aggregate.name(), reason };
            let (length, after) = uvarint(rest).ok_or(wrong("its length is cut off or too large"))?;
            rest = after;
            if length == 0 {
                continue;
            }
            let (&encoding, after) = rest.split_first().ok_or(wrong("the chunk ends in front of it"))?;
            let length = usize::try_from(length).ok().filter(|length| *length <= after.len());
            let (data, after) = after.split_at(length.ok_or(wrong("the chunk ends inside of it"))?);
            let encoding = Encoding::from_byte(encoding).ok_or(wrong("its encoding is not known"))?;
            *part = Some((encoding, data));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(ChunkError::Aggregate { aggregate: "counter", reason: "there are bytes behind it" });
        }
        Ok(Self { parts })
    }

    /// One aggregate's encoding and data, if it is there.
    pub fn get(&self, aggregate: Aggregate) -> Option<(Encoding, &'a [u8])> {
        self.parts[aggregate as usize]
    }

    /// Sets one aggregate; without data it is left out.
    pub fn set(&mut self, aggregate: Aggregate, encoding: Encoding, data: &'a [u8]) {
        self.parts[aggregate as usize] = Some((encoding, data)).filter(|(_, data)| !data.is_empty());
    }

    /// Whether it is a chunk of native histograms: the counter is what tells.
    pub fn is_histogram(&self) -> bool {
        self.get(Aggregate::Counter).is_some_and(|(encoding, _)| encoding.is_histogram())
    }

    /// Number of samples as Thanos counts them, which is the number of windows; 0 if that cannot be told.
    pub fn sample_count(&self) -> usize {
        self.get(Aggregate::Count).and_then(|(encoding, data)| sample_count(encoding, data).ok()).unwrap_or(0)
    }

    /// Appends the chunk's data.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for part in &self.parts {
            let Some((encoding, data)) = part else {
                out.push(0);
                continue;
            };
            let mut length = data.len();
            while length >= 0x80 {
                out.push(length as u8 | 0x80);
                length >>= 7;
            }
            out.push(length as u8);
            out.push(*encoding as u8);
            out.extend_from_slice(data);
        }
    }
}

/// Appends the samples of a float counter's part as they are stored: the true first sample, the windows, the true last value
/// at the time of the last window. Times do not fall, but repeat.
pub fn decode_counter(encoding: Encoding, data: &[u8], out: &mut Floats) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor => crate::xor::decode_repeated(data, out),
        _ => Err(ChunkError::Aggregate { aggregate: "counter", reason: "it is no XOR chunk" }),
    }
}

/// Puts the counter parts of chunks that follow each other together to one counter that never falls.
#[derive(Clone, Copy, Debug, Default)]
pub struct CounterJoin {
    /// Time of the last sample given out, and the value the next one is compared with.
    last: Option<(i64, f64)>,
    total: f64,
}

impl CounterJoin {
    /// Takes the samples of [`decode_counter`] and appends those of the one counter, whose times rise.
    pub fn add(&mut self, stored: &Floats, out: &mut Floats) {
        for (&t, &v) in stored.t.iter().zip(&stored.v) {
            if v.is_nan() {
                continue;
            }
            match &mut self.last {
                // Times that fall are of a chunk that overlaps with the one before.
                Some((last_t, _)) if t < *last_t => continue,
                Some((last_t, last)) if t == *last_t => {
                    *last = v;
                    continue;
                }
                Some((_, last)) => self.total += if v >= *last { v - *last } else { v },
                None => self.total = v,
            }
            self.last = Some((t, v));
            out.push(t, self.total, 0);
        }
    }

    /// The true value of the last sample.
    pub fn last_value(&self) -> Option<f64> {
        self.last.map(|(_, v)| v)
    }
}

fn uvarint(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in data.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &data[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xor::XorEncoder;

    fn example() -> Vec<u8> {
        let mut counts = XorEncoder::new();
        for i in 0..140 {
            counts.append(299_999 + i * 300_000, 20.0).unwrap();
        }
        let long = vec![7; 300];
        let mut chunk = AggregateChunk::default();
        chunk.set(Aggregate::Count, Encoding::Xor, counts.data());
        chunk.set(Aggregate::Sum, Encoding::FloatHistogram, &long);
        chunk.set(Aggregate::Max, Encoding::Xor, &[]);
        chunk.set(Aggregate::Counter, Encoding::FloatHistogram, &[1]);
        let mut out = Vec::new();
        chunk.encode(&mut out);
        out
    }

    #[test]
    fn parts_come_back() {
        let data = example();
        let chunk = AggregateChunk::parse(&data).unwrap();
        assert_eq!(chunk.sample_count(), 140);
        assert!(chunk.is_histogram());
        assert_eq!(chunk.get(Aggregate::Sum), Some((Encoding::FloatHistogram, &[7; 300][..])));
        assert_eq!(chunk.get(Aggregate::Min), None);
        assert_eq!(chunk.get(Aggregate::Max), None);
        assert_eq!(chunk.get(Aggregate::Counter), Some((Encoding::FloatHistogram, &[1][..])));
    }

    #[test]
    fn a_counter_is_put_together_from_chunks() {
        // Of each chunk: the first sample, windows, the true last value once more.
        let chunks: [&[(i64, f64)]; 4] = [
            &[(10, 5.0), (99, 8.0), (199, 20.0), (199, 2.0)],
            // No reset between the chunks: 2 to 3.
            &[(210, 3.0), (299, 4.0), (299, 4.0)],
            // One sample alone, after a reset.
            &[(399, 1.0), (399, 1.0), (399, 1.0)],
            // Overlaps, and is not a number.
            &[(350, 70.0), (420, f64::NAN), (499, 2.0), (499, 2.0)],
        ];
        let (mut join, mut out) = (CounterJoin::default(), Floats::default());
        for samples in chunks {
            let mut encoder = XorEncoder::new();
            samples.iter().for_each(|(t, v)| encoder.append(*t, *v).unwrap());
            let mut stored = Floats::default();
            decode_counter(Encoding::Xor, encoder.data(), &mut stored).unwrap();
            assert_eq!(stored.t.len(), samples.len());
            join.add(&stored, &mut out);
        }
        assert_eq!(out.t, [10, 99, 199, 210, 299, 399, 499]);
        assert_eq!(out.v, [5.0, 8.0, 20.0, 21.0, 22.0, 23.0, 24.0]);
        assert_eq!(join.last_value(), Some(2.0));
    }

    #[test]
    fn layout() {
        let mut out = Vec::new();
        let mut chunk = AggregateChunk::default();
        chunk.set(Aggregate::Sum, Encoding::Xor, &[1, 2]);
        chunk.encode(&mut out);
        assert_eq!(out, [0, 2, 1, 1, 2, 0, 0, 0]);
    }

    #[test]
    fn every_cut_is_an_error() {
        let data = example();
        for end in 0..data.len() {
            assert!(AggregateChunk::parse(&data[..end]).is_err(), "cut at {end}");
        }
        let longer = [&data[..], &[0]].concat();
        assert!(AggregateChunk::parse(&longer).is_err());
    }

    #[test]
    fn no_flipped_bit_makes_it_panic() {
        let data = example();
        for bit in 0..data.len() * 8 {
            let mut data = data.clone();
            data[bit / 8] ^= 1 << (bit % 8);
            if let Ok(chunk) = AggregateChunk::parse(&data) {
                let _ = chunk.sample_count();
                let mut again = Vec::new();
                chunk.encode(&mut again);
                assert_eq!(AggregateChunk::parse(&again), Ok(chunk));
            }
        }
    }

    #[test]
    fn lengths_beyond_all_memory_are_errors() {
        for data in [&[0xff; 12][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1], &[0x80; 40]]
        {
            assert!(matches!(AggregateChunk::parse(data), Err(ChunkError::Aggregate { .. })));
        }
    }
}
