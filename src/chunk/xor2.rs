//! XOR2 chunks (encoding 4): floats with joint control bits and optional start timestamps.
//!
//! ```text
//! u16 count | start timestamp byte | varint t0 | f64 v0 | uvarint t1−t0 | value(v1) | sample…
//! sample: 0 same step, same value · 10 same step + (0 bits in the window | 1 new window) · 110 + 13 bits dod + value
//!         1110 + 20 bits dod + value · 11110 + 64 bits dod + value · 11111 same step, stale
//! value:  0 same · 10 bits in the window · 110 new window · 111 stale
//! ```
//! A dod is in two's complement. A stale marker is not what the next value is compared with: the value before it is.
//! Start timestamps stand behind the samples, see `start_timestamp`.

use tsdbctl_model::sample::{STALE_NAN_BITS, is_stale};

use crate::bit_reader::{BitReader, varbit_int_at, wide, window};
use crate::bit_writer::BitWriter;
use crate::columns::Floats;
use crate::error::ChunkError;
use crate::start_timestamp::{HEADER_AT, StartReader, StartWriter};
use crate::xor::{Stop, XorValue, finish};

/// Bytes in front of the first sample.
pub(crate) const HEADER: usize = 3;
/// No sample reads further than this many bytes from the byte it begins in (219 bits, windows of 8 bytes).
const REACH: usize = 40;

/// Writes one XOR2 chunk.
#[derive(Clone, Debug)]
pub struct Xor2Encoder {
    out: BitWriter,
    samples: u16,
    t: i64,
    step: i64,
    value: XorValue,
    start: StartWriter,
}

impl Default for Xor2Encoder {
    fn default() -> Self {
        Self {
            out: BitWriter::with_header(HEADER),
            samples: 0,
            t: i64::MIN,
            step: 0,
            value: XorValue::first(0.0),
            start: StartWriter::default(),
        }
    }
}

impl Xor2Encoder {
    /// An empty chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a sample with its start timestamp, 0 for none; the caller keeps the order of time.
    pub fn append(&mut self, t: i64, v: f64, st: i64) -> Result<(), ChunkError> {
        match self.samples {
            0 => {
                self.out.varint(t);
                self.out.bits(v.to_bits(), 64);
                if !is_stale(v) {
                    self.value = XorValue::first(v);
                }
            }
            u16::MAX => return Err(ChunkError::Full),
            1 => {
                self.step = t.wrapping_sub(self.t);
                self.out.uvarint(self.step as u64);
                self.write_value(v);
            }
            _ => {
                let step = t.wrapping_sub(self.t);
                let dod = step.wrapping_sub(self.step);
                self.step = step;
                self.write_joint(dod, v);
            }
        }
        self.start.write(&mut self.out, self.samples, t, self.t, st);
        self.t = t;
        self.samples += 1;
        let count = self.samples.to_be_bytes();
        self.out.bytes_mut()[..2].copy_from_slice(&count);
        Ok(())
    }

    #[inline]
    fn write_joint(&mut self, dod: i64, v: f64) {
        match dod {
            0 => {
                if is_stale(v) {
                    return self.out.bits(0b1_1111, 5);
                }
                let difference = v.to_bits() ^ self.value.bits;
                self.value.bits = v.to_bits();
                if difference == 0 {
                    self.out.bit(false);
                } else if self.value.window_holds(difference) {
                    self.out.bits(0b100, 3);
                    self.value.write_in_window(&mut self.out, difference);
                } else {
                    self.out.bits(0b101, 3);
                    self.value.write_with_window(&mut self.out, difference);
                }
                return;
            }
            -4096..=4095 => self.out.bits(0b110 << 13 | dod as u64 & 0x1fff, 16),
            -524_288..=524_287 => self.out.bits(0b1110 << 20 | dod as u64 & 0xf_ffff, 24),
            _ => {
                self.out.bits(0b1_1110, 5);
                self.out.bits(dod as u64, 64);
            }
        }
        self.write_value(v);
    }

    #[inline]
    fn write_value(&mut self, v: f64) {
        if is_stale(v) {
            return self.out.bits(0b111, 3);
        }
        let difference = v.to_bits() ^ self.value.bits;
        self.value.bits = v.to_bits();
        if difference == 0 {
            self.out.bit(false);
        } else if self.value.window_holds(difference) {
            self.out.bits(0b10, 2);
            self.value.write_in_window(&mut self.out, difference);
        } else {
            self.out.bits(0b110, 3);
            self.value.write_with_window(&mut self.out, difference);
        }
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
        usize::from(self.samples)
    }
}

struct State {
    pos: usize,
    t: i64,
    step: i64,
    /// The last value that was no stale marker.
    bits: u64,
    length: u32,
    trailing: u32,
    st: i64,
    st_difference: i64,
}

/// Appends the samples with `mint <= t <= maxt`. Those before a fault stay in `out`.
pub(crate) fn decode(data: &[u8], mint: i64, maxt: i64, out: &mut Floats) -> Result<(), ChunkError> {
    let Some(header) = data.first_chunk::<HEADER>() else {
        return Err(ChunkError::NoHeader { len: data.len(), header: HEADER });
    };
    let count = usize::from(u16::from_be_bytes([header[0], header[1]]));
    if count == 0 {
        return Ok(());
    }
    let truncated = |sample| ChunkError::Truncated { sample, count };
    let mut start = StartReader::new(header[HEADER_AT]);
    let mut reader = BitReader::new(data, HEADER);
    let t = reader.varint().map_err(|_| truncated(0))?;
    let bits = reader.bits(64).map_err(|_| truncated(0))?;
    start.read(&mut reader, 0, t, t).map_err(|_| truncated(0))?;
    if t > maxt {
        return Ok(());
    }

    // Every sample but the first takes a bit or more: the header alone must not make us allocate.
    let room = count.min(1 + data.len() * 8);
    let base = out.t.len();
    let starts = start.first_known || start.change_on > 0;
    out.t.resize(base + room, 0);
    out.v.resize(base + room, 0.0);
    if starts {
        // What lies before has no start timestamps; what is read here has at least the first one.
        out.st.resize(base, 0);
        out.st.resize(base + room, start.st);
    }
    let (ts, vs) = (&mut out.t[base..], &mut out.v[base..]);
    let sts = if starts { &mut out.st[base..] } else { &mut [][..] };
    ts[0] = t;
    vs[0] = f64::from_bits(bits);
    let mut read = 1;
    let result = (|| {
        if count == 1 {
            return Ok(());
        }
        let step = reader.uvarint().map_err(|_| truncated(1))? as i64;
        let bits = if bits == STALE_NAN_BITS { 0 } else { bits };
        let mut state = State {
            pos: reader.position(),
            t,
            step,
            bits,
            length: 64,
            trailing: 0,
            st: start.st,
            st_difference: 0,
        };
        let on = start.change_on;
        let mut run = |tail: bool, bytes: &[u8], limit: usize, state: &mut State| {
            let columns = (&mut *ts, &mut *vs, &mut *sts);
            match (tail, on > 0) {
                (false, false) => {
                    run::<false, false>(state, bytes, limit, columns, &mut read, maxt, count, on)
                }
                (false, true) => run::<false, true>(state, bytes, limit, columns, &mut read, maxt, count, on),
                (true, false) => run::<true, false>(state, bytes, limit, columns, &mut read, maxt, count, on),
                (true, true) => run::<true, true>(state, bytes, limit, columns, &mut read, maxt, count, on),
            }
        };
        if let Some(limit) = data.len().checked_sub(REACH)
            && let Stop::Done = run(false, data, limit * 8, &mut state)?
        {
            return Ok(());
        }
        // The last bytes once more with zeros behind them, so that windows need no care about the end.
        let from = (state.pos >> 3).min(data.len());
        let mut tail = [0u8; 2 * REACH + 8];
        let rest = &data[from..];
        tail[..rest.len()].copy_from_slice(rest);
        state.pos -= from * 8;
        run(true, &tail, rest.len() * 8, &mut state)?;
        Ok(())
    })();
    finish(out, base, read, mint);
    // Index 127 carries a start timestamp even where no sample has one.
    if starts && out.st.iter().all(|st| *st == 0) {
        out.st.clear();
    }
    result
}

/// Reads samples as long as they begin at `limit` bits or before; in the tail none may end after it.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn run<const TAIL: bool, const STARTS: bool>(
    state: &mut State,
    bytes: &[u8],
    limit: usize,
    (ts, vs, sts): (&mut [i64], &mut [f64], &mut [i64]),
    read: &mut usize,
    maxt: i64,
    count: usize,
    change_on: usize,
) -> Result<Stop, ChunkError> {
    let State {
        mut pos,
        mut t,
        mut step,
        bits: mut value,
        mut length,
        mut trailing,
        mut st,
        mut st_difference,
    } = *state;
    let mut i = *read;
    let mut stop = Ok(Stop::Continue);
    'samples: while i < count && pos <= limit {
        let (Some(t_out), Some(v_out)) = (ts.get_mut(i), vs.get_mut(i)) else {
            stop = Err(ChunkError::Truncated { sample: i, count });
            break;
        };
        let mut w = window(bytes, pos);
        let stale = 'value: {
            // Control bits in front of the difference, and whether a window stands between them.
            let (mut control, new);
            if i != 1 && w >> 63 == 0 {
                pos += 1;
                break 'value false;
            } else if i != 1 && w >> 62 == 0b10 {
                (control, new) = (3, w << 2 >> 63 != 0);
            } else {
                if i != 1 {
                    let (prefix, width) = match (!w).leading_zeros() {
                        2 => (3, 13),
                        3 => (4, 20),
                        4 => (5, 64),
                        _ => {
                            pos += 5;
                            break 'value true;
                        }
                    };
                    let dod = if width == 64 {
                        wide(bytes, pos + 5, 64) as i64
                    } else {
                        ((w << prefix) as i64) >> (64 - width)
                    };
                    step = step.wrapping_add(dod);
                    pos += prefix + width;
                    w = window(bytes, pos);
                }
                match w >> 61 {
                    0b000..=0b011 => {
                        pos += 1;
                        break 'value false;
                    }
                    0b100 | 0b101 => (control, new) = (2, false),
                    0b110 => (control, new) = (3, true),
                    _ => {
                        pos += 3;
                        break 'value true;
                    }
                }
            }
            if new {
                let leading = (w << control >> 59) as u32;
                length = (((w << (control + 5) >> 58) as u32).wrapping_sub(1) & 63) + 1;
                if leading + length > 64 {
                    stop = Err(if TAIL && pos + control as usize + 11 > limit {
                        ChunkError::Truncated { sample: i, count }
                    } else {
                        ChunkError::Invalid { sample: i, reason: "value wider than 64 bits" }
                    });
                    break 'samples;
                }
                trailing = 64 - leading - length;
                control += 11;
            }
            // 57 bits of `w` are real.
            let difference = if control + length <= 57 {
                w << control >> (64 - length)
            } else {
                wide(bytes, pos + control as usize, length)
            };
            value ^= difference << trailing;
            pos += (control + length) as usize;
            false
        };
        if STARTS && i >= change_on {
            let (number, bits) = varbit_int_at(bytes, pos);
            pos += bits;
            st_difference = if i == change_on { number } else { st_difference.wrapping_add(number) };
            st = t.wrapping_sub(st_difference);
        }
        if TAIL && pos > limit {
            stop = Err(ChunkError::Truncated { sample: i, count });
            break;
        }
        let next = t.wrapping_add(step);
        if next <= t {
            stop = Err(ChunkError::NotRising { sample: i });
            break;
        }
        t = next;
        if t > maxt {
            stop = Ok(Stop::Done);
            break;
        }
        *t_out = t;
        *v_out = f64::from_bits(if stale { STALE_NAN_BITS } else { value });
        if STARTS && let Some(st_out) = sts.get_mut(i) {
            *st_out = st;
        }
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
    *state = State { pos, t, step, bits: value, length, trailing, st, st_difference };
    stop
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sample = (i64, u64, i64);

    fn encode(samples: &[Sample]) -> Vec<u8> {
        let mut encoder = Xor2Encoder::new();
        for (t, v, st) in samples {
            encoder.append(*t, f64::from_bits(*v), *st).unwrap();
        }
        encoder.take()
    }

    fn read(data: &[u8], mint: i64, maxt: i64) -> Result<Vec<Sample>, ChunkError> {
        let mut out = Floats::default();
        decode(data, mint, maxt, &mut out)?;
        Ok((0..out.len()).map(|i| (out.t[i], out.v[i].to_bits(), out.start_timestamp(i))).collect())
    }

    fn irregular(count: usize, starts: fn(usize, i64) -> i64) -> Vec<Sample> {
        let (mut t, mut x) = (1_700_000_000_000i64, 88_172_645_463_325_252u64);
        (0..count)
            .map(|i| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                t += match x % 11 {
                    0 => 7,
                    1 => 18_000,
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
                (t, v.to_bits(), starts(i, t))
            })
            .collect()
    }

    const STARTS: [fn(usize, i64) -> i64; 6] = [
        |_, _| 0,
        |_, _| 1_600_000_000_000,
        |i, _| if i < 60 { 1_600_000_000_000 } else { 1_600_000_900_000 },
        |_, t| t - 15_000,
        |i, t| if i == 0 { 0 } else { t - (i as i64 * 7919) % 50_000 },
        |i, _| i64::from(i > 126),
    ];

    #[test]
    fn round_trips_at_every_length() {
        for starts in STARTS {
            for count in 0..300 {
                let samples = irregular(count, starts);
                assert_eq!(read(&encode(&samples), i64::MIN, i64::MAX).unwrap(), samples, "{count}");
            }
        }
    }

    #[test]
    fn reads_only_the_range() {
        for starts in STARTS {
            let samples = irregular(130, starts);
            let data = encode(&samples);
            for (from, to) in [(0, 0), (0, 129), (5, 5), (100, 129), (17, 90)] {
                assert_eq!(read(&data, samples[from].0, samples[to].0).unwrap(), samples[from..=to]);
            }
        }
    }

    #[test]
    fn start_timestamps_align_after_chunks_without() {
        let mut out = Floats::default();
        let plain = irregular(3, STARTS[0]);
        decode(&encode(&plain), i64::MIN, i64::MAX, &mut out).unwrap();
        assert!(out.st.is_empty());
        decode(&encode(&irregular(4, STARTS[1])), i64::MIN, i64::MAX, &mut out).unwrap();
        decode(&encode(&plain), i64::MIN, i64::MAX, &mut out).unwrap();
        let st = 1_600_000_000_000;
        assert_eq!(out.st, [0, 0, 0, st, st, st, st, 0, 0, 0]);
    }

    #[test]
    fn truncated_chunks_are_told() {
        for starts in STARTS {
            let data = encode(&irregular(130, starts));
            for len in 0..data.len() {
                let error = read(&data[..len], i64::MIN, i64::MAX).unwrap_err();
                assert!(
                    matches!(error, ChunkError::Truncated { count: 130, .. } | ChunkError::NoHeader { .. }),
                    "{len}: {error}"
                );
            }
        }
    }
}
