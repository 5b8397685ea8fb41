//! Writing bits, most significant first, into bytes.

/// Where bits go.
pub trait BitSink {
    /// Writes the low `count` (1..=64) bits of `value`.
    fn bits(&mut self, value: u64, count: u32);

    /// Writes one bit.
    #[inline]
    fn bit(&mut self, bit: bool) {
        self.bits(u64::from(bit), 1);
    }

    /// Writes an unsigned LEB128 number at whatever bit position the stream is.
    #[inline]
    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }

    /// Writes a zigzag LEB128 number.
    #[inline]
    fn varint(&mut self, value: i64) {
        self.uvarint(((value << 1) ^ (value >> 63)) as u64);
    }
}

impl BitSink for BitWriter {
    #[inline]
    fn bits(&mut self, value: u64, count: u32) {
        self.bits(value, count);
    }
}

/// A growing stream of bits; the last byte is filled up with zeros.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Unused low bits of the last byte.
    free: u32,
}

impl BitWriter {
    /// A stream that begins with `header` zero bytes.
    pub fn with_header(header: usize) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.resize(header, 0);
        Self { bytes, free: 0 }
    }

    /// Continues `bytes`, of whose last byte the `free` low bits are unused.
    pub fn resume(bytes: Vec<u8>, free: u32) -> Self {
        Self { bytes, free: free & 7 }
    }

    /// All bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All bytes so far, to change header bytes in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Takes the bytes out; the writer is empty after that.
    pub fn take(&mut self) -> Vec<u8> {
        self.free = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Number of bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that are reserved.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether nothing was written, not even a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes the low `count` (1..=64) bits of `value`.
    #[inline]
    pub fn bits(&mut self, value: u64, count: u32) {
        debug_assert!((1..=64).contains(&count));
        let mut value = value << (64 - count);
        let mut count = count;
        if self.free > 0 {
            if let Some(last) = self.bytes.last_mut() {
                *last |= (value >> (64 - self.free)) as u8;
            }
            if count < self.free {
                self.free -= count;
                return;
            }
            value <<= self.free;
            count -= self.free;
        }
        let whole = count.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&value.to_be_bytes()[..whole]);
        self.free = (8 - (count & 7)) & 7;
    }

    /// Writes one bit.
    #[inline]
    pub fn bit(&mut self, bit: bool) {
        self.bits(u64::from(bit), 1);
    }

    /// Writes an unsigned LEB128 number at whatever bit position the stream is.
    pub fn uvarint(&mut self, value: u64) {
        BitSink::uvarint(self, value);
    }

    /// Writes a zigzag LEB128 number.
    pub fn varint(&mut self, value: i64) {
        BitSink::varint(self, value);
    }

    /// Writes a signed number with a prefix that tells its width: 0, 3, 6, 9, 12, 18, 25, 56 or 64 bits.
    pub fn varbit_int(&mut self, value: i64) {
        // The ranges are shifted by one against two's complement: width 3 holds −3..=4.
        let magnitude = if value > 0 { (value - 1) as u64 } else { value.unsigned_abs() };
        let needed = if value == 0 { 0 } else { 65 - magnitude.leading_zeros() };
        self.varbit(value as u64, needed);
    }

    /// Writes an unsigned number with a prefix that tells its width, as [`BitWriter::varbit_int`].
    pub fn varbit_uint(&mut self, value: u64) {
        self.varbit(value, 64 - value.leading_zeros());
    }

    fn varbit(&mut self, value: u64, needed: u32) {
        let (prefix, prefix_bits, width) = match needed {
            0 => return self.bit(false),
            1..=3 => (0b10, 2, 3),
            4..=6 => (0b110, 3, 6),
            7..=9 => (0b1110, 4, 9),
            10..=12 => (0b1_1110, 5, 12),
            13..=18 => (0b11_1110, 6, 18),
            19..=25 => (0b111_1110, 7, 25),
            26..=56 => (0b1111_1110, 8, 56),
            _ => {
                self.bits(0xff, 8);
                return self.bits(value, 64);
            }
        };
        self.bits(prefix << width | value & ((1 << width) - 1), prefix_bits + width);
    }
}
