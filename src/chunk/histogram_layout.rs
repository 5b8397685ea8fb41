//! What the four histogram encodings share: the header and the layout all samples of a chunk have.
//!
//! ```text
//! plain:      u16 count | u8 counter reset in the two high bits
//! with start: u16 counter reset in the two high bits, count in the others | u8 start timestamp byte
//! layout:     zero threshold | varbit schema | spans, positive | spans, negative | bounds, for schema −53
//! threshold:  0 → 0 · 2^e for −243 ≤ e ≤ 10 → e + 244 · others → 255 + f64
//! spans:      varbit count | { varbit length | varbit offset }…
//! bounds:     varbit count | { varbit 1000 x + 1, where that is whole and no more than 33554431 | 0 bit + f64 }…
//! ```
//! Counter reset: 00 unknown, 01 no reset, 10 reset, 11 gauge.

use std::sync::Arc;

use tsdbctl_model::CounterResetHint;
use tsdbctl_model::histogram::BucketSpan;

use crate::bit_reader::{BitReader, Ended};
use crate::bit_writer::BitWriter;
use crate::error::ChunkError;

/// Bytes in front of the layout.
pub(crate) const HEADER: usize = 3;
/// Samples a chunk with start timestamps can count.
pub(crate) const MAX_SAMPLES_ST: u16 = 0x3fff;
/// The schema of custom buckets.
pub(crate) const CUSTOM_BUCKETS: i32 = -53;
/// The finest schema that is computed with; finer ones are made coarser when read.
const FINEST: i32 = 8;

/// Sample count and counter reset of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub count: u16,
    pub reset: CounterResetHint,
}

impl Header {
    pub fn read(data: &[u8], st: bool) -> Result<(Self, u8), ChunkError> {
        let Some(header) = data.first_chunk::<HEADER>() else {
            return Err(ChunkError::NoHeader { len: data.len(), header: HEADER });
        };
        let count = u16::from_be_bytes([header[0], header[1]]);
        let (count, reset, start) =
            if st { (count & MAX_SAMPLES_ST, header[0], header[2]) } else { (count, header[2], 0) };
        let reset = match reset >> 6 {
            0b00 => CounterResetHint::Unknown,
            0b01 => CounterResetHint::NotCounterReset,
            0b10 => CounterResetHint::CounterReset,
            _ => CounterResetHint::Gauge,
        };
        Ok((Self { count, reset }, start))
    }

    pub fn write(self, data: &mut [u8], st: bool) {
        let reset = match self.reset {
            CounterResetHint::Unknown => 0b00,
            CounterResetHint::NotCounterReset => 0b01,
            CounterResetHint::CounterReset => 0b10,
            CounterResetHint::Gauge => 0b11,
        };
        let [high, low] = self.count.to_be_bytes();
        if let Some(header) = data.first_chunk_mut::<HEADER>() {
            if st {
                [header[0], header[1]] = [high | reset << 6, low];
            } else {
                *header = [high, low, header[2] & 0x3f | reset << 6];
            }
        }
    }

    /// The hint of sample `index`, as far as one chunk alone can tell.
    pub fn hint(self, index: usize) -> CounterResetHint {
        match self.reset {
            CounterResetHint::Gauge => CounterResetHint::Gauge,
            _ if index > 0 => CounterResetHint::NotCounterReset,
            // The chunk before this one may be gone, or another one may have come between.
            _ => CounterResetHint::Unknown,
        }
    }
}

/// What all samples of a chunk have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layout {
    pub schema: i32,
    pub zero_threshold: f64,
    pub positive_spans: Vec<BucketSpan>,
    pub negative_spans: Vec<BucketSpan>,
    pub custom_values: Option<Arc<[f64]>>,
}

impl Layout {
    /// Bytes on the heap; shared bounds count in full.
    pub fn heap_bytes(&self) -> usize {
        (self.positive_spans.capacity() + self.negative_spans.capacity()) * size_of::<BucketSpan>()
            + self.custom_values.as_ref().map_or(0, |bounds| bounds.len() * 8)
    }

    pub fn write(&self, out: &mut BitWriter) {
        write_zero_threshold(out, self.zero_threshold);
        out.varbit_int(i64::from(self.schema));
        for spans in [&self.positive_spans, &self.negative_spans] {
            out.varbit_uint(spans.len() as u64);
            for span in spans {
                out.varbit_uint(u64::from(span.length));
                out.varbit_int(i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS {
            let bounds = self.custom_values.as_deref().unwrap_or_default();
            out.varbit_uint(bounds.len() as u64);
            for bound in bounds {
                write_custom_bound(out, *bound);
            }
        }
    }

    /// Reads the layout and how many positive and negative buckets it has; `min_bits` is the least a bucket takes.
    pub fn read(
        reader: &mut BitReader<'_>,
        count: usize,
        min_bits: usize,
    ) -> Result<(Self, usize, usize), ChunkError> {
        let truncated = |_: Ended| ChunkError::Truncated { sample: 0, count };
        let zero_threshold = read_zero_threshold(reader).map_err(truncated)?;
        let schema = reader.varbit_int().map_err(truncated)? as i32;
        let positive_spans = read_spans(reader).map_err(truncated)?;
        let negative_spans = read_spans(reader).map_err(truncated)?;
        let mut custom_values = None;
        if schema == CUSTOM_BUCKETS {
            let bounds = read_custom_bounds(reader).map_err(truncated)?;
            custom_values = (!bounds.is_empty()).then(|| bounds.into());
        } else if !(-9..=52).contains(&schema) {
            return Err(ChunkError::UnknownSchema(schema));
        }
        let positive = bucket_count(&positive_spans);
        let negative = bucket_count(&negative_spans);
        let buckets = positive.saturating_add(negative);
        // All buckets of the first sample are still to come: a span alone must not make us allocate.
        if buckets > (reader.remaining() / min_bits) as u64 {
            return Err(ChunkError::Truncated { sample: 0, count });
        }
        // Nor may empty spans, which every sample would get a copy of.
        if (positive_spans.len() + negative_spans.len()) as u64 > 2 * buckets + 16 {
            return Err(ChunkError::Invalid { sample: 0, reason: "more spans than buckets" });
        }
        let layout = Self { schema, zero_threshold, positive_spans, negative_spans, custom_values };
        Ok((layout, positive as usize, negative as usize))
    }

    /// Whether the schema is finer than what is computed with.
    pub fn is_too_fine(&self) -> bool {
        self.schema > FINEST
    }
}

/// Buckets the spans stand for.
pub(crate) fn bucket_count(spans: &[BucketSpan]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

/// Spans and absolute counts of `counts` in the finest schema that is computed with.
pub(crate) fn coarsen<C: Copy>(
    spans: &[BucketSpan],
    counts: &[C],
    schema: i32,
    add: fn(C, C) -> C,
) -> (Vec<BucketSpan>, Vec<C>) {
    let (mut out_spans, mut out_counts) = (Vec::<BucketSpan>::new(), Vec::<C>::new());
    let shift = (schema - FINEST).clamp(0, 63);
    let (mut index, mut last) = (0i64, 0i64);
    let mut counts = counts.iter();
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            let target = ((index - 1) >> shift) + 1;
            index += 1;
            match (out_spans.last_mut(), out_counts.last_mut()) {
                (Some(_), Some(sum)) if target == last => *sum = add(*sum, *count),
                (Some(open), _) if target == last + 1 => {
                    open.length += 1;
                    out_counts.push(*count);
                }
                (open, _) => {
                    let offset = if open.is_some() { target - last - 1 } else { target };
                    out_spans.push(BucketSpan { offset: offset as i32, length: 1 });
                    out_counts.push(*count);
                }
            }
            last = target;
        }
    }
    (out_spans, out_counts)
}

/// The schema [`coarsen`] ends in.
pub(crate) const COARSENED: i32 = FINEST;

fn read_spans(reader: &mut BitReader<'_>) -> Result<Vec<BucketSpan>, Ended> {
    let count = reader.varbit_uint()?;
    let mut spans = Vec::new();
    for _ in 0..count {
        let length = reader.varbit_uint()? as u32;
        let offset = reader.varbit_int()? as i32;
        spans.push(BucketSpan { offset, length });
    }
    spans.shrink_to_fit();
    Ok(spans)
}

fn read_custom_bounds(reader: &mut BitReader<'_>) -> Result<Vec<f64>, Ended> {
    let count = reader.varbit_uint()?;
    let mut bounds = Vec::new();
    for _ in 0..count {
        bounds.push(match reader.varbit_uint()? {
            0 => f64::from_bits(reader.bits(64)?),
            bound => (bound - 1) as f64 / 1000.0,
        });
    }
    Ok(bounds)
}

fn write_custom_bound(out: &mut BitWriter, bound: f64) {
    let scaled = bound * 1000.0;
    let whole = scaled.round() as u64 as f64 / 1000.0 == bound;
    if !(0.0..=33_554_430.0).contains(&scaled) || !whole {
        out.bit(false);
        out.bits(bound.to_bits(), 64);
    } else {
        out.varbit_uint(scaled.round() as u64 + 1);
    }
}

fn write_zero_threshold(out: &mut BitWriter, threshold: f64) {
    let bits = threshold.to_bits();
    let exponent = (bits >> 52) as i64 - 1022;
    if threshold == 0.0 {
        out.bits(0, 8);
    } else if bits << 12 == 0 && (-242..=11).contains(&exponent) {
        // A power of two, positive and not denormal: 0.5 · 2^exponent.
        out.bits((exponent + 243) as u64, 8);
    } else {
        out.bits(255, 8);
        out.bits(bits, 64);
    }
}

fn read_zero_threshold(reader: &mut BitReader<'_>) -> Result<f64, Ended> {
    Ok(match reader.bits(8)? {
        0 => 0.0,
        255 => f64::from_bits(reader.bits(64)?),
        // 0.5 · 2^(byte − 243)
        byte => f64::from_bits((byte + 1022 - 243) << 52),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut BitWriter)) -> Vec<u8> {
        let mut out = BitWriter::default();
        write(&mut out);
        out.take()
    }

    #[test]
    fn zero_thresholds() {
        for (threshold, bytes) in [
            (0.0, &[0u8][..]),
            (f64::from_bits((1023 - 128) << 52), &[116]),
            (2f64.powi(-243), &[1]),
            (1024.0, &[254]),
            (2048.0, &[255, 0x40, 0xa0, 0, 0, 0, 0, 0, 0]),
            (2f64.powi(-244), &[255, 0x30, 0xb0, 0, 0, 0, 0, 0, 0]),
            (0.001, &[255, 0x3f, 0x50, 0x62, 0x4d, 0xd2, 0xf1, 0xa9, 0xfc]),
            (-1.0, &[255, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(written(|out| write_zero_threshold(out, threshold)), bytes, "{threshold}");
            assert_eq!(read_zero_threshold(&mut BitReader::new(bytes, 0)), Ok(threshold));
        }
    }

    #[test]
    fn custom_bounds() {
        for (bound, bits) in [
            (0.0, 5),
            (0.001, 5),
            (0.006, 5),
            (0.007, 9),
            (33_554.430, 32),
            (33_554.431, 65),
            (0.0005, 65),
            (-1.0, 65),
            (f64::INFINITY, 65),
            (1e300, 65),
        ] {
            let layout =
                Layout { schema: CUSTOM_BUCKETS, custom_values: Some([bound].into()), ..Layout::default() };
            let bytes = written(|out| layout.write(out));
            // Threshold 8, schema 13, no spans twice 1, one bound 5.
            assert_eq!(bytes.len(), (8 + 13 + 2 + 5 + bits as usize).div_ceil(8), "{bound}");
            let read = Layout::read(&mut BitReader::new(&bytes, 0), 1, 1).unwrap().0;
            assert_eq!(read, layout);
        }
    }

    #[test]
    fn announced_buckets_must_fit_into_the_data() {
        let spans = vec![BucketSpan { offset: 0, length: u32::MAX }; 3];
        let layout = Layout { positive_spans: spans, ..Layout::default() };
        let bytes = written(|out| layout.write(out));
        let error = Layout::read(&mut BitReader::new(&bytes, 0), 7, 1).unwrap_err();
        assert_eq!(error, ChunkError::Truncated { sample: 0, count: 7 });
        let layout = Layout { positive_spans: vec![BucketSpan::default(); 17], ..Layout::default() };
        let bytes = written(|out| layout.write(out));
        let error = Layout::read(&mut BitReader::new(&bytes, 0), 7, 1).unwrap_err();
        assert!(matches!(error, ChunkError::Invalid { .. }));
    }

    #[test]
    fn schemas_are_checked() {
        for (schema, known) in [(-54, false), (-53, true), (-10, false), (-9, true), (52, true), (53, false)]
        {
            let bytes = written(|out| Layout { schema, ..Layout::default() }.write(out));
            let read = Layout::read(&mut BitReader::new(&bytes, 0), 1, 1);
            assert_eq!(read.is_ok(), known, "{schema}");
        }
    }

    #[test]
    fn coarser_buckets() {
        // Schema 9 to 8 pairs (1,2) (3,4)…
        let spans = [BucketSpan { offset: 1, length: 3 }, BucketSpan { offset: 4, length: 1 }];
        let (spans, counts) = coarsen(&spans, &[1, 2, 3, 4], 9, |a, b| a + b);
        assert_eq!(counts, [3, 3, 4]);
        assert_eq!(spans, [BucketSpan { offset: 1, length: 2 }, BucketSpan { offset: 1, length: 1 }]);
    }
}
