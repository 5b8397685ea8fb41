//! XOR chunks (encoding 1): floats, Gorilla-like.
//!
//! ```text
//! u16 count | varint t0 | f64 v0 | uvarint t1−t0 | xor(v1) | { dod | xor(v) }…
//! dod: 0 → same step · 10 + 14 bits · 110 + 17 bits · 1110 + 20 bits · 1111 + 64 bits
//! xor: 0 → same value · 10 + bits in the window of before · 11 + 5 bits leading zeros + 6 bits length (0 = 64) + bits
//! ```
//! A dod of n bits holds −2^(n−1)+1 ..= 2^(n−1).

use crate::bit_reader::{BitReader, Ended, wide, window};
use crate::bit_writer::{BitSink, BitWriter};
use crate::columns::Floats;
use crate::error::ChunkError;

/// Bytes in front of the first sample.
pub(crate) const HEADER: usize = 2;
/// No sample reads further than this many bytes from the byte it begins in (145 bits, windows of 8 bytes).
const REACH: usize = 32;

/// What XOR coding remembers of one value: its bits and the window of the last difference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct XorValue {
    pub bits: u64,
    /// Leading zeros of the window, 0xff before there is one.
    leading: u32,
    trailing: u32,
}

impl XorValue {
    /// A value that stands in full in the chunk.
    pub fn first(value: f64) -> Self {
        Self { bits: value.to_bits(), leading: 0xff, trailing: 0 }
    }

    /// As [`XorValue::first`], for reading: chunks that were continued after a restart may use a window of all 64 bits
    /// without having set it.
    pub fn first_read(bits: u64) -> Self {
        Self { bits, leading: 0, trailing: 0 }
    }

    /// Reads the next value.
    #[inline]
    pub fn read(&mut self, reader: &mut BitReader<'_>) -> Result<(), Ended> {
        if !reader.bit()? {
            return Ok(());
        }
        if reader.bit()? {
            let window = reader.bits(11)? as u32;
            let length = (window & 63).wrapping_sub(1) & 63;
            self.leading = window >> 6;
            // No encoder writes a window of more than 64 bits; like upstream, take nothing from it.
            self.trailing = 63u32.wrapping_sub(self.leading).wrapping_sub(length);
        }
        let length = 64u32.wrapping_sub(self.leading).wrapping_sub(self.trailing);
        let difference = reader.bits(length)?;
        self.bits ^= difference.checked_shl(self.trailing).unwrap_or(0);
        Ok(())
    }

    pub fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// Writes the difference to `value`, which takes the place of the old one.
    #[inline]
    pub fn write(&mut self, out: &mut impl BitSink, value: f64) {
        let difference = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if difference == 0 {
            out.bit(false);
        } else if self.window_holds(difference) {
            out.bits(0b10, 2);
            self.write_in_window(out, difference);
        } else {
            out.bits(0b11, 2);
            self.write_with_window(out, difference);
        }
    }

    /// Whether the window of before has room for a difference that is not 0.
    #[inline]
    pub fn window_holds(&self, difference: u64) -> bool {
        self.leading != 0xff
            && difference.leading_zeros().min(31) >= self.leading
            && difference.trailing_zeros() >= self.trailing
    }

    #[inline]
    pub fn write_in_window(&self, out: &mut impl BitSink, difference: u64) {
        out.bits(difference >> self.trailing, 64 - self.leading - self.trailing);
    }

    #[inline]
    pub fn write_with_window(&mut self, out: &mut impl BitSink, difference: u64) {
        self.leading = difference.leading_zeros().min(31);
        self.trailing = difference.trailing_zeros();
        let length = 64 - self.leading - self.trailing;
        out.bits(u64::from(self.leading) << 6 | u64::from(length & 63), 11);
        out.bits(difference >> self.trailing, length);
    }
}

/// What the end of an XOR chunk must be known of to append to it.
#[derive(Clone, Copy, Debug)]
pub struct XorState {
    /// Time of the last sample.
    pub t: i64,
    /// Last step.
    pub step: i64,
    /// Number of samples.
    pub samples: u16,
    value: XorValue,
}

impl Default for XorState {
    fn default() -> Self {
        Self { t: i64::MIN, step: 0, samples: 0, value: XorValue::first(0.0) }
    }
}

impl XorState {
    /// The state behind `samples` samples, the last one at `t`; `value` and `window` as [`XorState::value`] and
    /// [`XorState::window`] gave them.
    #[inline]
    pub fn resume(t: i64, step: i64, samples: u16, value: u64, window: u16) -> Self {
        let value =
            XorValue { bits: value, leading: u32::from(window >> 8), trailing: u32::from(window & 0xff) };
        Self { t, step, samples, value }
    }

    /// Bits of the last value.
    #[inline]
    pub fn value(&self) -> u64 {
        self.value.bits
    }

    /// The window of the last difference: leading zeros (0xff: none yet) in the upper byte, trailing zeros in the lower.
    #[inline]
    pub fn window(&self) -> u16 {
        (self.value.leading as u16) << 8 | self.value.trailing as u16
    }

    /// Writes a sample: at most 157 bits, 145 from the third on. The caller keeps the order of time.
    ///
    /// # Errors
    /// If the chunk has as many samples as its header can say.
    #[inline]
    pub fn append(&mut self, out: &mut impl BitSink, t: i64, v: f64) -> Result<(), ChunkError> {
        match self.samples {
            0 => {
                out.varint(t);
                out.bits(v.to_bits(), 64);
                self.value = XorValue::first(v);
            }
            u16::MAX => return Err(ChunkError::Full),
            1 => {
                self.step = t.wrapping_sub(self.t);
                out.uvarint(self.step as u64);
                self.value.write(out, v);
            }
            _ => {
                let step = t.wrapping_sub(self.t);
                let dod = step.wrapping_sub(self.step);
                self.step = step;
                match dod {
                    0 => out.bit(false),
                    -8191..=8192 => out.bits(0b10 << 14 | dod as u64 & 0x3fff, 16),
                    -65535..=65536 => out.bits(0b110 << 17 | dod as u64 & 0x1_ffff, 20),
                    -524_287..=524_288 => out.bits(0b1110 << 20 | dod as u64 & 0xf_ffff, 24),
                    _ => {
                        out.bits(0b1111, 4);
                        out.bits(dod as u64, 64);
                    }
                }
                self.value.write(out, v);
            }
        }
        self.t = t;
        self.samples += 1;
        Ok(())
    }
}

/// Writes one XOR chunk.
#[derive(Clone, Debug)]
pub struct XorEncoder {
    out: BitWriter,
    state: XorState,
}

impl Default for XorEncoder {
    fn default() -> Self {
        Self { out: BitWriter::with_header(HEADER), state: XorState::default() }
    }
}

impl XorEncoder {
    /// An empty chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a sample; the caller keeps the order of time.
    pub fn append(&mut self, t: i64, v: f64) -> Result<(), ChunkError> {
        self.state.append(&mut self.out, t, v)?;
        let count = self.state.samples.to_be_bytes();
        self.out.bytes_mut()[..2].copy_from_slice(&count);
        Ok(())
    }

    /// The chunk's data so far.
    pub fn data(&self) -> &[u8] {
        self.out.bytes()
    }

    /// Takes the chunk's data out.
    pub fn take(&mut self) -> Vec<u8> {
        self.out.take()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.out.capacity()
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        usize::from(self.state.samples)
    }
}

struct State {
    pos: usize,
    t: i64,
    step: i64,
    bits: u64,
    length: u32,
    trailing: u32,
}

/// How a run of samples ended.
pub(crate) enum Stop {
    /// The bytes of this pass are used up.
    Continue,
    /// All samples are read, or one is later than `maxt`.
    Done,
}

/// Appends the samples with `mint <= t <= maxt`. Those before a fault stay in `out`.
pub(crate) fn decode(data: &[u8], mint: i64, maxt: i64, out: &mut Floats) -> Result<(), ChunkError> {
    decode_with::<false>(data, mint, maxt, out)
}

/// [`decode`] of all samples, where a time may be there more than once.
pub(crate) fn decode_repeated(data: &[u8], out: &mut Floats) -> Result<(), ChunkError> {
    decode_with::<true>(data, i64::MIN, i64::MAX, out)
}

fn decode_with<const REPEATED: bool>(
    data: &[u8],
    mint: i64,
    maxt: i64,
    out: &mut Floats,
) -> Result<(), ChunkError> {
    let Some(count) = data.first_chunk::<HEADER>() else {
        return Err(ChunkError::NoHeader { len: data.len(), header: HEADER });
    };
    let count = usize::from(u16::from_be_bytes(*count));
    if count == 0 {
        return Ok(());
    }
    let truncated = |sample| ChunkError::Truncated { sample, count };
    let mut reader = BitReader::new(data, HEADER);
    let t = reader.varint().map_err(|_| truncated(0))?;
    let bits = reader.bits(64).map_err(|_| truncated(0))?;
    if t > maxt {
        return Ok(());
    }

    // Every sample but the first takes two bits or more: the header alone must not make us allocate.
    let room = count.min(1 + data.len() * 4);
    let base = out.t.len();
    out.t.resize(base + room, 0);
    out.v.resize(base + room, 0.0);
    let (ts, vs) = (&mut out.t[base..], &mut out.v[base..]);
    ts[0] = t;
    vs[0] = f64::from_bits(bits);
    let mut read = 1;
    let result = (|| {
        if count == 1 {
            return Ok(());
        }
        let step = reader.uvarint().map_err(|_| truncated(1))? as i64;
        let mut state = State { pos: reader.position(), t, step, bits, length: 64, trailing: 0 };
        if let Some(limit) = data.len().checked_sub(REACH)
            && let Stop::Done =
                run::<false, REPEATED>(&mut state, data, limit * 8, ts, vs, &mut read, maxt, count)?
        {
            return Ok(());
        }
        // The last bytes once more with zeros behind them, so that windows need no care about the end.
        let from = (state.pos >> 3).min(data.len());
        let mut tail = [0u8; 2 * REACH + 8];
        let rest = &data[from..];
        tail[..rest.len()].copy_from_slice(rest);
        state.pos -= from * 8;
        run::<true, REPEATED>(&mut state, &tail, rest.len() * 8, ts, vs, &mut read, maxt, count)?;
        Ok(())
    })();

    finish(out, base, read, mint);
    result
}

/// Cuts the columns from `base` on to the `read` samples that were filled in, and of these to those from `mint` on.
pub(crate) fn finish(out: &mut Floats, base: usize, read: usize, mint: i64) {
    let early = out.t[base..base + read].partition_point(|t| *t < mint);
    out.t.truncate(base + read);
    out.v.truncate(base + read);
    if early > 0 {
        out.t.drain(base..base + early);
        out.v.drain(base..base + early);
    }
    if !out.st.is_empty() {
        out.st.resize(base + read, 0);
        if early > 0 {
            out.st.drain(base..base + early);
        }
    }
}

/// Reads samples as long as they begin at `limit` bits or before; in the tail none may end after it.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn run<const TAIL: bool, const REPEATED: bool>(
    state: &mut State,
    bytes: &[u8],
    limit: usize,
    ts: &mut [i64],
    vs: &mut [f64],
    read: &mut usize,
    maxt: i64,
    count: usize,
) -> Result<Stop, ChunkError> {
    let State { mut pos, mut t, mut step, bits: mut value, mut length, mut trailing } = *state;
    let mut i = *read;
    let mut stop = Ok(Stop::Continue);
    let mut first = i == 1;
    while i < count && pos <= limit {
        let (Some(t_out), Some(v_out)) = (ts.get_mut(i), vs.get_mut(i)) else {
            stop = Err(ChunkError::Truncated { sample: i, count });
            break;
        };
        let mut w = window(bytes, pos);
        if first {
            // Sample 1 has no dod; its step was read in front of the run.
            first = false;
        } else if w >> 63 == 0 {
            pos += 1;
            w <<= 1;
        } else {
            let (prefix, width) = match (!w).leading_zeros() {
                1 => (2, 14),
                2 => (3, 17),
                3 => (4, 20),
                _ => (4, 64),
            };
            let dod = if width == 64 {
                wide(bytes, pos + 4, 64) as i64
            } else {
                let raw = ((w << prefix) >> (64 - width)) as i64;
                if raw > 1 << (width - 1) { raw - (1 << width) } else { raw }
            };
            step = step.wrapping_add(dod);
            pos += (prefix + width) as usize;
            w = window(bytes, pos);
        }
        // 56 bits of `w` or more are real here.
        if w >> 63 == 0 {
            pos += 1;
        } else {
            let mut control = 2;
            if w >> 62 == 0b11 {
                let leading = (w << 2 >> 59) as u32;
                length = (((w << 7 >> 58) as u32).wrapping_sub(1) & 63) + 1;
                if leading + length > 64 {
                    stop = Err(if TAIL && pos + 13 > limit {
                        ChunkError::Truncated { sample: i, count }
                    } else {
                        ChunkError::Invalid { sample: i, reason: "value wider than 64 bits" }
                    });
                    break;
                }
                trailing = 64 - leading - length;
                control = 13;
            }
            let difference = if control + length <= 56 {
                w << control >> (64 - length)
            } else {
                wide(bytes, pos + control as usize, length)
            };
            value ^= difference << trailing;
            pos += (control + length) as usize;
        }
        if TAIL && pos > limit {
            stop = Err(ChunkError::Truncated { sample: i, count });
            break;
        }
        let next = t.wrapping_add(step);
        if next < t || !REPEATED && next == t {
            stop = Err(ChunkError::NotRising { sample: i });
            break;
        }
        t = next;
        if t > maxt {
            stop = Ok(Stop::Done);
            break;
        }
        *t_out = t;
        *v_out = f64::from_bits(value);
        i += 1;
    }
    if matches!(stop, Ok(Stop::Continue)) {
        if i == count {
            stop = Ok(Stop::Done);
        } else if TAIL {
            stop = Err(ChunkError::Truncated { sample: i, count });
        }
    }
    *read = i;
    *state = State { pos, t, step, bits: value, length, trailing };
    stop
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut encoder = XorEncoder::new();
        for (t, v) in samples {
            encoder.append(*t, *v).unwrap();
        }
        encoder.take()
    }

    fn read(data: &[u8], mint: i64, maxt: i64) -> Result<Vec<(i64, u64)>, ChunkError> {
        let mut out = Floats::default();
        decode(data, mint, maxt, &mut out)?;
        Ok(out.t.iter().copied().zip(out.v.iter().map(|v| v.to_bits())).collect())
    }

    fn irregular(count: usize) -> Vec<(i64, f64)> {
        let (mut t, mut x) = (1_700_000_000_000i64, 88_172_645_463_325_252u64);
        (0..count)
            .map(|i| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                t += match x % 11 {
                    0 => 7,
                    1 => 40_000,
                    2 => 300_000,
                    3 => 1 << 40,
                    _ => 15_000,
                };
                let v = match x % 7 {
                    0 => f64::from_bits(x),
                    1 => f64::INFINITY,
                    2 => tsdbctl_model::sample::stale_nan(),
                    3 | 4 => i as f64,
                    _ => 17.5,
                };
                (t, v)
            })
            .collect()
    }

    #[test]
    fn literal_chunks() {
        assert_eq!(encode(&[]), [0, 0]);
        assert_eq!(encode(&[(1, 1.0)]), [0, 1, 2, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        // Step 1000, same value: 1 bit; then same step and value: 2 bits.
        assert_eq!(
            encode(&[(0, 0.0), (1000, 0.0), (2000, 0.0)]),
            [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe8, 7, 0]
        );
        // xor 0x3ff0…: leading 2, length 10: 11 00010 001010 1111111111.
        assert_eq!(
            encode(&[(0, 0.0), (1, 1.0)]),
            [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0b1100_0100, 0b0101_0111, 0b1111_1110]
        );
    }

    #[test]
    fn round_trips_at_every_length() {
        for count in 0..300 {
            let samples = irregular(count);
            let wanted: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
            assert_eq!(read(&encode(&samples), i64::MIN, i64::MAX).unwrap(), wanted, "{count}");
        }
    }

    #[test]
    fn reads_only_the_range() {
        let samples = irregular(130);
        let data = encode(&samples);
        for (from, to) in [(0, 0), (0, 129), (5, 5), (100, 129), (17, 90)] {
            let got = read(&data, samples[from].0, samples[to].0).unwrap();
            assert_eq!(got.len(), to - from + 1);
            assert_eq!((got[0].0, got[got.len() - 1].0), (samples[from].0, samples[to].0));
        }
        assert_eq!(read(&data, i64::MIN, samples[0].0 - 1).unwrap(), []);
        assert_eq!(read(&data, samples[129].0 + 1, i64::MAX).unwrap(), []);
    }

    #[test]
    fn resumed_at_every_sample_gives_the_same_bytes() {
        use crate::bit_buffer::BitBuffer;
        let samples = irregular(300);
        let (mut bytes, mut bits) = (Vec::<u8>::new(), 0usize);
        let (mut t, mut step, mut value, mut window) = (0, 0, 0, 0);
        let mut longest = 0;
        for (i, (time, v)) in samples.iter().enumerate() {
            let mut state = XorState::resume(t, step, i as u16, value, window);
            let partial = if bits & 7 == 0 { 0 } else { bytes.pop().unwrap() };
            let mut buffer = BitBuffer::after(partial, bits & 7);
            state.append(&mut buffer, *time, *v).unwrap();
            longest = longest.max(buffer.bits() - (bits & 7));
            bits += buffer.bits() - (bits & 7);
            bytes.extend_from_slice(buffer.bytes());
            (t, step, value, window) = (state.t, state.step, state.value(), state.window());
            assert_eq!(bytes, encode(&samples[..=i])[HEADER..], "{i}");
        }
        assert!(longest > 128, "{longest}");
    }

    #[test]
    fn truncated_chunks_are_told() {
        let data = encode(&irregular(130));
        for len in 0..data.len() {
            let error = read(&data[..len], i64::MIN, i64::MAX).unwrap_err();
            assert!(
                matches!(error, ChunkError::Truncated { count: 130, .. } | ChunkError::NoHeader { .. }),
                "{len}: {error}"
            );
        }
    }
}
