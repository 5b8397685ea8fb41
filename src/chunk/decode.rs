//! From a chunk's encoding and data to columns of samples.

use std::sync::Arc;

use tsdbctl_model::{FloatHistogram, Histogram};

use crate::columns::{Floats, SampleColumns};
use crate::encoding::Encoding;
use crate::error::ChunkError;
use crate::float_histogram::FloatHistogramReader;
use crate::histogram::HistogramReader;
use crate::{xor, xor2};

/// Appends the chunk's samples with `mint <= t <= maxt` to `out`.
///
/// Hints of histograms are upstream's: gauge for all of a gauge chunk; else unknown for the chunk's first one, whatever
/// the header says, and no reset for the others. Samples before a fault stay in `out`.
pub fn decode(
    encoding: Encoding,
    data: &[u8],
    mint: i64,
    maxt: i64,
    out: &mut SampleColumns,
) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => decode_floats_fast(encoding, data, mint, maxt, &mut out.floats),
        Encoding::Histogram | Encoding::HistogramSt => {
            let mut reader = HistogramReader::new(encoding, data)?;
            out.histograms.reserve(reader.samples().min(data.len()));
            while reader.advance()? {
                if reader.t() > maxt {
                    break;
                }
                if reader.t() >= mint {
                    out.histograms.add(reader.t(), Arc::new(reader.float_histogram()), true, reader.st());
                }
            }
            Ok(())
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let mut reader = FloatHistogramReader::new(encoding, data)?;
            out.histograms.reserve(reader.samples().min(data.len()));
            while reader.advance()? {
                if reader.t() > maxt {
                    break;
                }
                if reader.t() >= mint {
                    out.histograms.add(reader.t(), Arc::new(reader.float_histogram()), false, reader.st());
                }
            }
            Ok(())
        }
    }
}

/// All samples of a chunk of integer histograms: time, start timestamp (0 for none) and histogram.
pub fn decode_histograms(encoding: Encoding, data: &[u8]) -> Result<Vec<(i64, i64, Histogram)>, ChunkError> {
    let mut reader = HistogramReader::new(encoding, data)?;
    let mut out = Vec::with_capacity(reader.samples().min(data.len()));
    while reader.advance()? {
        out.push((reader.t(), reader.st(), reader.histogram()));
    }
    Ok(out)
}

/// All samples of a chunk of float histograms: time, start timestamp (0 for none) and histogram.
pub fn decode_float_histograms(
    encoding: Encoding,
    data: &[u8],
) -> Result<Vec<(i64, i64, FloatHistogram)>, ChunkError> {
    let mut reader = FloatHistogramReader::new(encoding, data)?;
    let mut out = Vec::with_capacity(reader.samples().min(data.len()));
    while reader.advance()? {
        out.push((reader.t(), reader.st(), reader.float_histogram()));
    }
    Ok(out)
}

/// [`decode`] for the float encodings only: allocates nothing where `out` has room.
pub fn decode_floats_fast(
    encoding: Encoding,
    data: &[u8],
    mint: i64,
    maxt: i64,
    out: &mut Floats,
) -> Result<(), ChunkError> {
    match encoding {
        Encoding::Xor => xor::decode(data, mint, maxt, out),
        Encoding::Xor2 => xor2::decode(data, mint, maxt, out),
        _ => Err(ChunkError::Invalid { sample: 0, reason: "not a chunk of floats" }),
    }
}

/// Number of samples by the chunk's header.
pub fn sample_count(encoding: Encoding, data: &[u8]) -> Result<usize, ChunkError> {
    let header = match encoding {
        Encoding::Xor => 2,
        _ => 3,
    };
    match data.first_chunk::<2>() {
        Some(count) if data.len() >= header => {
            let count = usize::from(u16::from_be_bytes(*count));
            Ok(match encoding {
                // The two high bits say what is known about a counter reset.
                Encoding::HistogramSt | Encoding::FloatHistogramSt => count & 0x3fff,
                _ => count,
            })
        }
        _ => Err(ChunkError::NoHeader { len: data.len(), header }),
    }
}
