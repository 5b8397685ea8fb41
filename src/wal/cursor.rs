//! Numbers and strings of records (`encoding.Decbuf` and `Encbuf` upstream): big-endian fixed width, LEB128
//! varints (signed ones zigzag), byte strings with a varint length in front.

/// The bytes end before the value does, or a varint is longer than 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value ends behind the end of its record")]
pub struct ShortRecord;

/// A position in borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Number of bytes left.
    #[inline]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    ///
    /// # Errors
    /// If none is left.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, ShortRecord> {
        let (first, rest) = self.rest.split_first().ok_or(ShortRecord)?;
        self.rest = rest;
        Ok(*first)
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], ShortRecord> {
        if n > self.rest.len() {
            return Err(ShortRecord);
        }
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian 64-bit number.
    ///
    /// # Errors
    /// If fewer than 8 bytes are left.
    #[inline]
    pub fn be64(&mut self) -> Result<u64, ShortRecord> {
        let (word, rest) = self.rest.split_first_chunk::<8>().ok_or(ShortRecord)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*word))
    }

    /// A big-endian signed 64-bit number.
    ///
    /// # Errors
    /// As [`Cursor::be64`].
    #[inline]
    pub fn be64_signed(&mut self) -> Result<i64, ShortRecord> {
        Ok(self.be64()? as i64)
    }

    /// The bits of a float, big-endian.
    ///
    /// # Errors
    /// As [`Cursor::be64`].
    #[inline]
    pub fn float(&mut self) -> Result<f64, ShortRecord> {
        Ok(f64::from_bits(self.be64()?))
    }

    /// An unsigned varint.
    ///
    /// # Errors
    /// If it does not end, or does not fit 64 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u64, ShortRecord> {
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                return Ok(u64::from(a));
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                return Ok(u64::from(a & 0x7f) | u64::from(b) << 7);
            }
            _ => {}
        }
        self.uvarint_long()
    }

    fn uvarint_long(&mut self) -> Result<u64, ShortRecord> {
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && *byte > 1 {
                return Err(ShortRecord);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(ShortRecord)
    }

    /// A signed varint.
    ///
    /// # Errors
    /// As [`Cursor::uvarint`].
    #[inline]
    pub fn varint(&mut self) -> Result<i64, ShortRecord> {
        let z = self.uvarint()?;
        Ok((z >> 1) as i64 ^ -((z & 1) as i64))
    }

    /// Bytes with their length in front.
    ///
    /// # Errors
    /// If the length is more than what is left.
    #[inline]
    pub fn string(&mut self) -> Result<&'a [u8], ShortRecord> {
        let n = self.uvarint()?;
        self.take(usize::try_from(n).map_err(|_| ShortRecord)?)
    }

    /// A number of items that take at least `size` bytes each, so that nothing is allocated for items that
    /// cannot be there.
    ///
    /// # Errors
    /// If so many cannot follow.
    #[inline]
    pub fn count(&mut self, size: usize) -> Result<usize, ShortRecord> {
        let n = usize::try_from(self.uvarint()?).map_err(|_| ShortRecord)?;
        if n > self.rest.len() / size.max(1) { Err(ShortRecord) } else { Ok(n) }
    }
}

/// Appends an unsigned varint.
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed varint.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, (value << 1 ^ value >> 63) as u64);
}

/// Appends a big-endian 64-bit number.
pub fn put_be64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a float's bits, big-endian.
pub fn put_float(out: &mut Vec<u8>, value: f64) {
    put_be64(out, value.to_bits());
}

/// Appends bytes with their length in front.
pub fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_long_ones_are_refused() {
        for v in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, 1 << 40, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, v);
            let mut c = Cursor::new(&out);
            assert_eq!(c.varint(), Ok(v));
            assert!(c.is_empty());
            for cut in 0..out.len() {
                assert_eq!(Cursor::new(&out[..cut]).varint(), Err(ShortRecord), "{v} cut at {cut}");
            }
        }
        assert_eq!(
            Cursor::new(&[0xff; 9].iter().copied().chain([2]).collect::<Vec<_>>()).uvarint(),
            Err(ShortRecord)
        );
        assert_eq!(Cursor::new(&[0xff; 11]).uvarint(), Err(ShortRecord));
    }

    #[test]
    fn counts_beyond_the_bytes_left_are_refused() {
        assert_eq!(Cursor::new(&[2, 0, 0]).count(1), Ok(2));
        assert_eq!(Cursor::new(&[3, 0, 0]).count(1), Err(ShortRecord));
        assert_eq!(Cursor::new(&[2, 0, 0]).count(2), Err(ShortRecord));
    }
}
