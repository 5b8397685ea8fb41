//! Protobuf's wire format, read in place.
//!
//! ```text
//! message  = { key value }           key = varint (field number << 3 | wire type)
//! value    = varint (0) | 8 bytes (1) | varint length, bytes (2) | 4 bytes (5); groups (3, 4) are passed over
//! ```

/// The fields of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'b> {
    bytes: &'b [u8],
    at: usize,
    /// The message's name, for errors.
    name: &'static str,
}

/// One field's key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) number: u32,
    wire: u8,
    start: usize,
}

const OVERFLOW: &str = "proto: integer overflow";
const NEGATIVE_LENGTH: &str = "proto: negative length found during unmarshaling";
const UNEXPECTED_EOF: &str = "unexpected EOF";

/// A base-128 number at the start of `bytes`, and how many bytes it takes. Bits above 64 are lost, as upstream
/// loses them.
pub(crate) fn varint(bytes: &[u8]) -> Result<(u64, usize), &'static str> {
    let mut value = 0u64;
    for i in 0..10 {
        let b = *bytes.get(i).ok_or(UNEXPECTED_EOF)?;
        value |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            return Ok((value, i + 1));
        }
    }
    Err(OVERFLOW)
}

fn zigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

impl<'b> Message<'b> {
    pub(crate) fn new(bytes: &'b [u8], name: &'static str) -> Self {
        Self { bytes, at: 0, name }
    }

    /// The next field's key.
    pub(crate) fn key(&mut self) -> Result<Option<Key>, String> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let key = self.number()?;
        let (number, wire) = ((key >> 3) as i32, (key & 7) as u8);
        if wire == 4 {
            return Err(format!("proto: {}: wiretype end group for non-group", self.name));
        }
        if number <= 0 {
            return Err(format!("proto: {}: illegal tag {number} (wire type {key})", self.name));
        }
        Ok(Some(Key { number: number as u32, wire, start }))
    }

    fn number(&mut self) -> Result<u64, String> {
        let (value, length) = varint(&self.bytes[self.at..])?;
        self.at += length;
        Ok(value)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], String> {
        let taken = self.bytes[self.at..].get(..length).ok_or(UNEXPECTED_EOF)?;
        self.at += length;
        Ok(taken)
    }

    fn expect(key: Key, wire: u8, field: &str) -> Result<(), String> {
        if key.wire == wire {
            Ok(())
        } else {
            Err(format!("proto: wrong wireType = {} for field {field}", key.wire))
        }
    }

    /// Where the field's bytes begin and the bytes.
    pub(crate) fn bytes(&mut self, key: Key, field: &str) -> Result<&'b [u8], String> {
        Self::expect(key, 2, field)?;
        let length = self.number()?;
        if length > i64::MAX as u64 {
            return Err(NEGATIVE_LENGTH.to_owned());
        }
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(crate) fn double(&mut self, key: Key, field: &str) -> Result<f64, String> {
        Self::expect(key, 1, field)?;
        self.fixed()
    }

    fn fixed(&mut self) -> Result<f64, String> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        Ok(f64::from_le_bytes(word))
    }

    pub(crate) fn unsigned(&mut self, key: Key, field: &str) -> Result<u64, String> {
        Self::expect(key, 0, field)?;
        self.number()
    }

    pub(crate) fn signed(&mut self, key: Key, field: &str) -> Result<i64, String> {
        Ok(zigzag(self.unsigned(key, field)?))
    }

    /// A repeated `sint64`, packed or not.
    pub(crate) fn signed_repeated(
        &mut self,
        key: Key,
        field: &str,
        into: &mut Vec<i64>,
    ) -> Result<(), String> {
        if key.wire == 0 {
            into.push(zigzag(self.number()?));
            return Ok(());
        }
        let mut packed = Message::new(self.bytes(key, field)?, "");
        while packed.at < packed.bytes.len() {
            into.push(zigzag(packed.number()?));
        }
        Ok(())
    }

    /// A repeated `double`, packed or not.
    pub(crate) fn double_repeated(
        &mut self,
        key: Key,
        field: &str,
        into: &mut Vec<f64>,
    ) -> Result<(), String> {
        if key.wire == 1 {
            into.push(self.fixed()?);
            return Ok(());
        }
        let mut packed = Message::new(self.bytes(key, field)?, "");
        while packed.at < packed.bytes.len() {
            into.push(packed.fixed()?);
        }
        Ok(())
    }

    /// Passes over a field that nobody asks for.
    pub(crate) fn skip(&mut self, key: Key) -> Result<(), String> {
        self.at = key.start;
        let mut depth = 0usize;
        loop {
            if self.at >= self.bytes.len() {
                return Err(UNEXPECTED_EOF.to_owned());
            }
            match self.number()? & 7 {
                0 => drop(self.number()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = self.number()?;
                    if length > i64::MAX as u64 {
                        return Err(NEGATIVE_LENGTH.to_owned());
                    }
                    self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                }
                3 => depth += 1,
                4 => depth = depth.checked_sub(1).ok_or("proto: unexpected end of group")?,
                5 => drop(self.take(4)?),
                wire => return Err(format!("proto: illegal wireType {wire}")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_or_are_refused() {
        assert_eq!(varint(&[0xac, 0x02, 9]), Ok((300, 2)));
        assert_eq!(varint(&[0x80]), Err(UNEXPECTED_EOF));
        assert_eq!(varint(&[0xff; 11]), Err(OVERFLOW));
        assert_eq!([zigzag(0), zigzag(1), zigzag(2), zigzag(u64::MAX)], [0, -1, 1, i64::MIN]);
    }

    #[test]
    fn unknown_fields_are_passed_over_groups_too() {
        let mut m = Message::new(&[0x53, 0x08, 0x01, 0x54, 0x08, 0x07], "Metric");
        let key = m.key().unwrap().unwrap();
        m.skip(key).unwrap();
        let key = m.key().unwrap().unwrap();
        assert_eq!((key.number, m.unsigned(key, "X")), (1, Ok(7)));
    }
}
