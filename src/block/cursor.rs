//! Big-endian integers, varints and byte strings from a slice; `None` where it ends or a varint is too long.

/// A place in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    data: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at `pos`, which may lie outside.
    #[inline]
    pub(crate) fn at(data: &'a [u8], pos: usize) -> Self {
        Self { data, pos: pos.min(data.len()) }
    }

    /// Where the cursor is.
    #[inline]
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Number of bytes that are left.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.data.len() - self.pos
    }

    /// Whether nothing is left.
    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.pos >= self.data.len()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let b = *self.data.get(self.pos)?;
        self.pos += 1;
        Some(b)
    }

    #[inline]
    pub(crate) fn be32(&mut self) -> Option<u32> {
        let b = self.data.get(self.pos..)?.first_chunk::<4>()?;
        self.pos += 4;
        Some(u32::from_be_bytes(*b))
    }

    #[inline]
    pub(crate) fn be64(&mut self) -> Option<u64> {
        let b = self.data.get(self.pos..)?.first_chunk::<8>()?;
        self.pos += 8;
        Some(u64::from_be_bytes(*b))
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let first = *self.data.get(self.pos)?;
        if first < 0x80 {
            self.pos += 1;
            return Some(u64::from(first));
        }
        self.long_uvarint()
    }

    fn long_uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (i, b) in self.data[self.pos..].iter().take(10).enumerate() {
            if *b < 0x80 {
                if i == 9 && *b > 1 {
                    return None;
                }
                self.pos += i + 1;
                return Some(value | u64::from(*b) << (7 * i));
            }
            value |= u64::from(b & 0x7f) << (7 * i);
        }
        None
    }

    /// A zigzag varint.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<i64> {
        let u = self.uvarint()?;
        Some((u >> 1) as i64 ^ -((u & 1) as i64))
    }

    #[inline]
    pub(crate) fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok()?;
        let bytes = self.data.get(self.pos..self.pos.checked_add(len)?)?;
        self.pos += len;
        Some(bytes)
    }

    /// A length as varint, then that many bytes.
    #[inline]
    pub(crate) fn uvarint_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.uvarint()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_end_where_they_should() {
        let cases: [(&[u8], Option<u64>); 6] = [
            (&[0x7f], Some(127)),
            (&[0x80, 0x01], Some(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some(u64::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], None),
            (&[0x80], None),
            (&[], None),
        ];
        for (bytes, want) in cases {
            assert_eq!(Cursor::at(bytes, 0).uvarint(), want, "{bytes:?}");
        }
        assert_eq!(Cursor::at(&[0x03], 0).varint(), Some(-2));
        assert_eq!(Cursor::at(&[0x02, b'a'], 0).uvarint_bytes(), None);
        assert_eq!(Cursor::at(&[1], 99).u8(), None);
    }
}
