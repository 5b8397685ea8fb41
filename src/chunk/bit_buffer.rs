//! The bits of one sample before they go into a chunk that is kept in pieces.

use crate::bit_writer::BitSink;

/// More than the largest sample of an XOR chunk takes (157 bits behind 7), and room for a store of 16 bytes.
const BYTES: usize = 40;

/// A few bits in registers and one cache line; begins with the bits of an unfinished byte.
#[derive(Clone, Copy, Debug)]
pub struct BitBuffer {
    bytes: [u8; BYTES],
    bits: usize,
}

impl BitBuffer {
    /// Begins with the upper `bits` (0..=7) bits of `byte`, the others of which must be 0.
    #[inline]
    pub fn after(byte: u8, bits: usize) -> Self {
        let mut bytes = [0; BYTES];
        bytes[0] = byte;
        Self { bytes, bits: bits & 7 }
    }

    /// Number of bits, the first ones included.
    #[inline]
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The bytes so far, the last one filled up with zeros.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.bits.div_ceil(8)]
    }
}

impl BitSink for BitBuffer {
    #[inline]
    fn bits(&mut self, value: u64, count: u32) {
        debug_assert!((1..=64).contains(&count));
        let (at, used) = (self.bits >> 3, self.bits & 7);
        let new = (u128::from(value) << (128 - count)) >> used;
        let old = u128::from(self.bytes[at]) << 120;
        self.bytes[at..at + 16].copy_from_slice(&(old | new).to_be_bytes());
        self.bits += count as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bit_writer::BitWriter;

    #[test]
    fn writes_what_the_bit_writer_writes() {
        for first in 0..8u32 {
            let mut wanted = BitWriter::default();
            let byte = if first == 0 { 0 } else { 0xffu8 << (8 - first) };
            if first > 0 {
                wanted.bits(u64::from(byte >> (8 - first)), first);
            }
            let mut got = BitBuffer::after(byte, first as usize);
            for (value, count) in
                [(1u64, 1), (0x1234_5678_9abc_def0, 64), (u64::MAX, 13), (5, 3), (u64::MAX, 64)]
            {
                wanted.bits(value, count);
                BitSink::bits(&mut got, value, count);
                assert_eq!(got.bytes(), wanted.bytes(), "{first} {count}");
            }
        }
    }
}
