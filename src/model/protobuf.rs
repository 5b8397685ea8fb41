//! Protobuf's wire format, read in place. Errors are worded as upstream's generated code words them.
//!
//! ```text
//! message  = { key value }           key = varint (field number << 3 | wire type)
//! value    = varint (0) | 8 bytes (1) | varint length, bytes (2) | 4 bytes (5); groups (3, 4) are passed over
//! ```

/// The fields of one message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Where its bytes begin in the outermost one.
    base: usize,
    /// The message's name, for errors.
    name: &'static str,
}

/// One field's key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The field's number.
    pub number: u32,
    wire: u8,
    start: usize,
}

const OVERFLOW: &str = "proto: integer overflow";
const NEGATIVE_LENGTH: &str = "proto: negative length found during unmarshaling";
const UNEXPECTED_EOF: &str = "unexpected EOF";

/// A base-128 number at the start of `bytes`, and how many bytes it takes. Bits above 64 are lost, as upstream
/// loses them.
///
/// # Errors
/// If it is not complete, or longer than ten bytes.
#[inline]
pub fn varint(bytes: &[u8]) -> Result<(u64, usize), &'static str> {
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

fn to_zigzag(v: i64) -> u64 {
    (v << 1 ^ v >> 63) as u64
}

impl<'b> Message<'b> {
    /// A message called `name`.
    pub fn new(bytes: &'b [u8], name: &'static str) -> Self {
        Self { bytes, at: 0, base: 0, name }
    }

    /// Where reading stands, from the start of the outermost message.
    pub fn offset(&self) -> usize {
        self.base + self.at
    }

    /// Whether all of it was read.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// A field that is a message called `name`.
    ///
    /// # Errors
    /// If the field is none, or goes on behind the end.
    #[inline]
    pub fn nested(&mut self, key: Key, field: &str, name: &'static str) -> Result<Self, String> {
        let bytes = self.bytes(key, field)?;
        Ok(Self { bytes, at: 0, base: self.offset() - bytes.len(), name })
    }

    /// The next field's key.
    ///
    /// # Errors
    /// If there is none though the message goes on.
    #[inline]
    pub fn key(&mut self) -> Result<Option<Key>, String> {
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

    #[inline]
    fn number(&mut self) -> Result<u64, String> {
        let (value, length) = varint(&self.bytes[self.at..])?;
        self.at += length;
        Ok(value)
    }

    #[inline]
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

    /// The field's bytes.
    ///
    /// # Errors
    /// If the field has none, or they go on behind the end.
    #[inline]
    pub fn bytes(&mut self, key: Key, field: &str) -> Result<&'b [u8], String> {
        Self::expect(key, 2, field)?;
        let length = self.number()?;
        if length > i64::MAX as u64 {
            return Err(NEGATIVE_LENGTH.to_owned());
        }
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A `double`.
    ///
    /// # Errors
    /// If the field is of another kind, or goes on behind the end.
    #[inline]
    pub fn double(&mut self, key: Key, field: &str) -> Result<f64, String> {
        Self::expect(key, 1, field)?;
        self.fixed()
    }

    fn fixed(&mut self) -> Result<f64, String> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        Ok(f64::from_le_bytes(word))
    }

    /// A `uint64`, `int64` or enum.
    ///
    /// # Errors
    /// If the field is of another kind, or goes on behind the end.
    #[inline]
    pub fn unsigned(&mut self, key: Key, field: &str) -> Result<u64, String> {
        Self::expect(key, 0, field)?;
        self.number()
    }

    /// A `sint64`.
    ///
    /// # Errors
    /// If the field is of another kind, or goes on behind the end.
    #[inline]
    pub fn signed(&mut self, key: Key, field: &str) -> Result<i64, String> {
        Ok(zigzag(self.unsigned(key, field)?))
    }

    /// A repeated `sint64`, packed or not.
    ///
    /// # Errors
    /// As of one.
    pub fn signed_repeated(&mut self, key: Key, field: &str, into: &mut Vec<i64>) -> Result<(), String> {
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

    /// A repeated `uint32`, packed or not; bits above 32 are lost, as upstream loses them.
    ///
    /// # Errors
    /// As of one.
    pub fn unsigned_repeated(&mut self, key: Key, field: &str, into: &mut Vec<u32>) -> Result<(), String> {
        if key.wire == 0 {
            into.push(self.number()? as u32);
            return Ok(());
        }
        let mut packed = Message::new(self.bytes(key, field)?, "");
        while packed.at < packed.bytes.len() {
            into.push(packed.number()? as u32);
        }
        Ok(())
    }

    /// A repeated `double`, packed or not.
    ///
    /// # Errors
    /// As of one.
    pub fn double_repeated(&mut self, key: Key, field: &str, into: &mut Vec<f64>) -> Result<(), String> {
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
    ///
    /// # Errors
    /// If it does not end.
    pub fn skip(&mut self, key: Key) -> Result<(), String> {
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

/// Writes one message field by field. Zeros are left out, as proto3 does.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Forgets what was written and keeps the space.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.bytes.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.bytes.push(v as u8);
    }

    fn key(&mut self, number: u32, wire: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire));
    }

    /// A `uint64`, `int64` or enum.
    pub fn unsigned(&mut self, number: u32, v: u64) {
        if v != 0 {
            self.present_unsigned(number, v);
        }
    }

    /// As [`Writer::unsigned`], zero too: the member of a `oneof`.
    pub fn present_unsigned(&mut self, number: u32, v: u64) {
        self.key(number, 0);
        self.varint(v);
    }

    /// A `sint64`.
    pub fn signed(&mut self, number: u32, v: i64) {
        self.unsigned(number, to_zigzag(v));
    }

    /// A `double`; only positive zero is left out.
    pub fn double(&mut self, number: u32, v: f64) {
        if v.to_bits() != 0 {
            self.present_double(number, v);
        }
    }

    /// As [`Writer::double`], zero too.
    pub fn present_double(&mut self, number: u32, v: f64) {
        self.key(number, 1);
        self.bytes.extend_from_slice(&v.to_le_bytes());
    }

    /// Bytes, empty ones too.
    pub fn bytes(&mut self, number: u32, v: &[u8]) {
        self.key(number, 2);
        self.varint(v.len() as u64);
        self.bytes.extend_from_slice(v);
    }

    /// A string; an empty one is left out.
    pub fn string(&mut self, number: u32, v: &str) {
        if !v.is_empty() {
            self.bytes(number, v.as_bytes());
        }
    }

    /// A message, written by `content`.
    pub fn message(&mut self, number: u32, content: impl FnOnce(&mut Self)) {
        self.key(number, 2);
        let start = self.bytes.len();
        content(self);
        // Its length goes in front of it once it is known.
        let length = self.bytes.len() - start;
        self.varint(length as u64);
        self.bytes[start..].rotate_left(length);
    }

    /// A packed repeated `sint64`.
    pub fn signed_repeated(&mut self, number: u32, values: &[i64]) {
        self.packed(number, values.is_empty(), |w| values.iter().for_each(|v| w.varint(to_zigzag(*v))));
    }

    /// A packed repeated `uint32`.
    pub fn unsigned_repeated(&mut self, number: u32, values: &[u32]) {
        self.packed(number, values.is_empty(), |w| values.iter().for_each(|v| w.varint(u64::from(*v))));
    }

    /// A packed repeated `double`.
    pub fn double_repeated(&mut self, number: u32, values: &[f64]) {
        self.packed(number, values.is_empty(), |w| {
            values.iter().for_each(|v| w.bytes.extend_from_slice(&v.to_le_bytes()));
        });
    }

    fn packed(&mut self, number: u32, is_empty: bool, content: impl FnOnce(&mut Self)) {
        if !is_empty {
            self.message(number, content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        w.unsigned(1, 0);
        w.unsigned(1, 300);
        w.signed(2, -3);
        w.double(3, -0.0);
        w.message(4, |w| w.string(1, &"x".repeat(200)));
        w.signed_repeated(5, &[1, -1]);
        w.unsigned_repeated(6, &[1, u32::MAX]);
        w.double_repeated(7, &[0.5]);
        w.signed_repeated(8, &[]);
        let bytes = w.into_bytes();
        let mut m = Message::new(&bytes, "M");
        let mut seen = Vec::new();
        while let Some(key) = m.key().unwrap() {
            seen.push(match key.number {
                1 => m.unsigned(key, "a").unwrap().to_string(),
                2 => m.signed(key, "b").unwrap().to_string(),
                3 => format!("{:?}", m.double(key, "c").unwrap()),
                4 => {
                    let mut inner = m.nested(key, "d", "N").unwrap();
                    let at = inner.offset();
                    let key = inner.key().unwrap().unwrap();
                    format!("{at} {}", inner.bytes(key, "e").unwrap().len())
                }
                5 => {
                    let mut all = Vec::new();
                    m.signed_repeated(key, "f", &mut all).unwrap();
                    format!("{all:?}")
                }
                6 => {
                    let mut all = Vec::new();
                    m.unsigned_repeated(key, "g", &mut all).unwrap();
                    format!("{all:?}")
                }
                _ => {
                    let mut all = Vec::new();
                    m.double_repeated(key, "h", &mut all).unwrap();
                    format!("{all:?}")
                }
            });
        }
        assert_eq!(seen, ["300", "-3", "-0.0", "17 200", "[1, -1]", "[1, 4294967295]", "[0.5]"]);
        assert!(m.is_at_end());
    }

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
