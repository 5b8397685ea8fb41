//! Chunks without their early samples.

use tsdbctl_chunk::{ChunkError, Encoding};
use tsdbctl_storage::{ChunkBatch, EncodedChunk};

use crate::chunk_merge::without_samples;

/// Appends a chunk's samples from `mint` (Unix ms) on, in its encoding; nothing if there are none. Aggregate chunks are
/// appended whole.
///
/// # Errors
/// If the chunk is damaged.
pub fn push_from(chunk: EncodedChunk<'_>, mint: i64, out: &mut ChunkBatch) -> Result<(), ChunkError> {
    match Encoding::from_byte(chunk.encoding) {
        Some(encoding) if chunk.mint < mint => without_samples(encoding, chunk.data, |t| t < mint, out),
        _ => {
            out.push(chunk);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_chunk::{AppenderOptions, Floats, SeriesAppender, decode_floats_fast};

    use super::*;

    #[test]
    fn samples_from_a_time_on() {
        let mut appender = SeriesAppender::new(AppenderOptions::default());
        for t in [10, 20, 30] {
            appender.append_float(t, t as f64, 0).unwrap();
        }
        let whole = appender.into_chunks().remove(0);
        let chunk = EncodedChunk { encoding: whole.encoding as u8, data: &whole.data, mint: 10, maxt: 30 };
        for (mint, want) in
            [(5, &[10, 20, 30][..]), (10, &[10, 20, 30]), (11, &[20, 30]), (30, &[30]), (31, &[])]
        {
            let mut out = ChunkBatch::default();
            push_from(chunk, mint, &mut out).unwrap();
            let mut floats = Floats::default();
            for c in out.iter() {
                assert_eq!((Some(&c.mint), Some(&c.maxt)), (want.first(), want.last()));
                decode_floats_fast(Encoding::Xor, c.data, i64::MIN, i64::MAX, &mut floats).unwrap();
            }
            assert_eq!(floats.t, want, "{mint}");
        }
        let mut out = ChunkBatch::default();
        push_from(EncodedChunk { encoding: 0xff, ..chunk }, 25, &mut out).unwrap();
        assert_eq!(out.get(0).data, whole.data);
        push_from(EncodedChunk { data: &[0, 9, 1], ..chunk }, 25, &mut out).unwrap_err();
    }
}
