//! The open chunk of floats: the bit stream of an XOR chunk without its two bytes of count, in a chain of blocks.

use tsdbctl_chunk::append::{chunk_end, range_end};
use tsdbctl_chunk::bit_buffer::BitBuffer;
use tsdbctl_chunk::{ChunkError, XorState};

use crate::live::memory::{BLOCK_DATA, BlockPool, NONE};
use crate::live::record::Record;
use crate::live::shard::ChunkRules;

/// No chunk grows beyond this, whatever the rules say (upstream: 1024 bytes less the largest sample).
const MAX_SEAL_BYTES: u32 = 1005;

/// Whether a sample at `t`, behind the last, has to begin a new chunk: where upstream cuts, and at `seal_bytes`.
#[inline]
pub(super) fn is_full(record: &mut Record, t: i64, rules: &ChunkRules) -> bool {
    let samples = u32::from(record.samples);
    if samples == rules.samples_per_chunk / 4 {
        let start = record.base_t;
        let max = start.saturating_add(i64::from(record.cut_dt));
        let end = chunk_end(start, start + i64::from(record.last_dt), max, 4.0);
        record.cut_dt = u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX);
    }
    let dt = t.wrapping_sub(record.base_t) as u64;
    let bytes = 2 + u32::from(record.bits).div_ceil(8);
    dt >= u64::from(record.cut_dt)
        || samples >= rules.samples_per_chunk.saturating_mul(2).min(255)
        || bytes >= rules.seal_bytes.min(MAX_SEAL_BYTES)
}

/// Begins a chunk with a sample at `t`; there is none before.
#[inline]
pub(super) fn begin(record: &mut Record, t: i64, rules: &ChunkRules) {
    record.base_t = t;
    record.last_dt = 0;
    record.delta = 0;
    let end = range_end(t, rules.chunk_range_ms.max(1));
    record.cut_dt = u32::try_from(end.saturating_sub(t)).unwrap_or(u32::MAX);
    record.chunk = NONE;
    record.bits = 0;
    record.window = 0xff00;
    record.samples = 0;
}

/// Appends a sample for which there is room.
#[inline]
pub(super) fn append(pool: &mut BlockPool, record: &mut Record, t: i64, v: f64) -> Result<(), ChunkError> {
    let last = record.base_t.wrapping_add(i64::from(record.last_dt));
    let mut state = XorState::resume(
        last,
        i64::from(record.delta),
        u16::from(record.samples),
        record.last_v,
        record.window,
    );
    let (first, used) = (usize::from(record.bits >> 3), usize::from(record.bits & 7));
    let mut at = first % BLOCK_DATA;
    let partial = if used == 0 { 0 } else { pool.get(record.chunk).data[at] };
    let mut buffer = BitBuffer::after(partial, used);
    state.append(&mut buffer, t, v)?;
    let mut bytes = buffer.bytes();
    if at == 0 && used == 0 {
        record.chunk = pool.take(record.chunk);
    }
    loop {
        let n = bytes.len().min(BLOCK_DATA - at);
        pool.get_mut(record.chunk).data[at..at + n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        if bytes.is_empty() {
            break;
        }
        record.chunk = pool.take(record.chunk);
        at = 0;
    }
    record.bits = (first * 8 + buffer.bits()) as u16;
    record.delta = state.step as u32;
    record.last_dt = t.wrapping_sub(record.base_t) as u32;
    record.last_v = state.value();
    record.window = state.window();
    record.samples += 1;
    Ok(())
}

/// The data of the chunk, as an XOR chunk has it.
pub(super) fn copy(pool: &BlockPool, record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    let length = usize::from(record.bits).div_ceil(8);
    out.resize(start + 2 + length, 0);
    let out = &mut out[start..];
    out[..2].copy_from_slice(&u16::from(record.samples).to_be_bytes());
    let data = &mut out[2..];
    let (mut block, mut end) = (record.chunk, length);
    while end > 0 && block != NONE {
        let from = (end - 1) / BLOCK_DATA * BLOCK_DATA;
        let place = pool.get(block);
        data[from..end].copy_from_slice(&place.data[..end - from]);
        (block, end) = (place.before, from);
    }
}

/// Puts the data of an XOR chunk into an empty chain. Nothing can be appended to it, as it is not known where its last
/// byte ends.
pub(super) fn put(pool: &mut BlockPool, record: &mut Record, data: &[u8]) {
    let data = data.get(2..).unwrap_or(&[]);
    record.chunk = NONE;
    for part in data.chunks(BLOCK_DATA) {
        record.chunk = pool.take(record.chunk);
        pool.get_mut(record.chunk).data[..part.len()].copy_from_slice(part);
    }
    record.bits = (data.len() * 8) as u16;
}
