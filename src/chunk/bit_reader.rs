//! Reading bits, most significant first, from bytes that may end anywhere.

/// The data ended before the bits that were asked for, or a varint was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// The 64 bits from bit position `pos` on, of which at least the first 57 are real; 0 at the end of `bytes`.
#[inline(always)]
pub(crate) fn window(bytes: &[u8], pos: usize) -> u64 {
    let at = pos >> 3;
    match bytes.get(at..at + 8) {
        Some(b) => u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) << (pos & 7),
        None => 0,
    }
}

/// `count` (1..=64) bits from bit position `pos` on; 16 bytes must follow `pos` for them to be real.
#[inline(always)]
pub(crate) fn wide(bytes: &[u8], pos: usize, count: u32) -> u64 {
    if count <= 57 {
        window(bytes, pos) >> (64 - count)
    } else {
        let high = window(bytes, pos) >> 32;
        let rest = count - 32;
        high << rest | window(bytes, pos + 32) >> (64 - rest)
    }
}

const VARBIT_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// The varbit number at bit position `pos` and how many bits it takes; 17 bytes must follow `pos` for it to be real.
#[inline(always)]
pub(crate) fn varbit_int_at(bytes: &[u8], pos: usize) -> (i64, usize) {
    let w = window(bytes, pos);
    let ones = (!w).leading_zeros().min(8);
    if ones == 0 {
        return (0, 1);
    }
    let width = VARBIT_WIDTHS[ones as usize];
    let prefix = (ones + 1).min(8);
    let value = wide(bytes, pos + prefix as usize, width);
    (signed(value, width), (prefix + width) as usize)
}

/// A number of `width` bits in the range −2^(width−1)+1 ..= 2^(width−1), without a branch that data could mislead.
#[inline(always)]
fn signed(value: u64, width: u32) -> i64 {
    if width == 64 {
        return value as i64;
    }
    let negative = value > (1 << width) >> 1;
    value.wrapping_sub(u64::from(negative) << width) as i64
}

/// A position in a bit stream.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> BitReader<'a> {
    /// Reads `bytes` from byte `at` on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, pos: at * 8 }
    }

    /// Position in bits from the beginning of the bytes.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Bits left to read.
    pub fn remaining(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.pos)
    }

    /// At least 57 bits from the position on, zeros after the end.
    #[inline]
    fn peek(&self) -> u64 {
        let at = self.pos >> 3;
        if at + 8 <= self.bytes.len() {
            return window(self.bytes, self.pos);
        }
        let mut last = [0u8; 8];
        if let Some(rest) = self.bytes.get(at..) {
            last[..rest.len()].copy_from_slice(rest);
        }
        u64::from_be_bytes(last) << (self.pos & 7)
    }

    #[inline]
    fn skip(&mut self, count: u32) -> Result<(), Ended> {
        let pos = self.pos + count as usize;
        if pos > self.bytes.len() * 8 {
            return Err(Ended);
        }
        self.pos = pos;
        Ok(())
    }

    /// The next bit.
    #[inline]
    pub fn bit(&mut self) -> Result<bool, Ended> {
        let bit = self.peek() >> 63 != 0;
        self.skip(1)?;
        Ok(bit)
    }

    /// The next `count` (0..=64) bits as a number.
    #[inline]
    pub fn bits(&mut self, count: u32) -> Result<u64, Ended> {
        if count == 0 {
            return Ok(0);
        }
        if count <= 57 {
            let value = self.peek() >> (64 - count);
            self.skip(count)?;
            return Ok(value);
        }
        let high = self.peek() >> 32;
        self.skip(32)?;
        let rest = count - 32;
        let low = self.peek() >> (64 - rest);
        self.skip(rest)?;
        Ok(high << rest | low)
    }

    /// An unsigned LEB128 number of up to ten bytes; what does not fit is cut off, as upstream does.
    pub fn uvarint(&mut self) -> Result<u64, Ended> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Ended)
    }

    /// A zigzag LEB128 number.
    pub fn varint(&mut self) -> Result<i64, Ended> {
        let value = self.uvarint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed number with a width prefix.
    #[inline]
    pub fn varbit_int(&mut self) -> Result<i64, Ended> {
        let (value, width) = self.varbit()?;
        Ok(signed(value, width))
    }

    /// An unsigned number with a width prefix.
    #[inline]
    pub fn varbit_uint(&mut self) -> Result<u64, Ended> {
        Ok(self.varbit()?.0)
    }

    #[inline]
    fn varbit(&mut self) -> Result<(u64, u32), Ended> {
        let window = self.peek();
        let ones = (!window).leading_zeros();
        if ones <= 6 {
            // The widths vary too much to branch on each of them.
            let width = VARBIT_WIDTHS[ones as usize];
            self.skip(ones + 1 + width)?;
            return Ok(((window << (ones + 1)) >> 1 >> (63 - width), width));
        }
        let width = if ones == 7 { 56 } else { 64 };
        self.skip(8)?;
        Ok((self.bits(width)?, width))
    }
}
