//! Start timestamps inside XOR2 and histogram chunks.
//!
//! Byte 2 of such a chunk: bit 7 says that sample 0 has one (varint t0−st0 after the sample), bits 0–6 the index of the
//! first sample whose start timestamp differs (0: none). From that one on every sample is followed by a varbit number:
//! first t(i−1)−st(i), then by how much that difference changed. Index 127 is taken even without a change, as no later
//! one fits.

use crate::bit_reader::{BitReader, Ended};
use crate::bit_writer::BitWriter;

/// Where the byte stands.
pub(crate) const HEADER_AT: usize = 2;
const LAST_CHANGE: u16 = 0x7f;

/// Writes start timestamps.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartWriter {
    st: i64,
    difference: i64,
    change_on: u16,
}

impl StartWriter {
    /// Writes what belongs behind sample `index`.
    #[inline]
    pub fn write(&mut self, out: &mut BitWriter, index: u16, t: i64, t_before: i64, st: i64) {
        if index == 0 {
            if st != 0 {
                out.varint(t.wrapping_sub(st));
                out.bytes_mut()[HEADER_AT] = 0x80;
            }
        } else if self.change_on > 0 {
            let difference = t_before.wrapping_sub(st);
            out.varbit_int(difference.wrapping_sub(self.difference));
            self.difference = difference;
        } else if st != self.st || index == LAST_CHANGE {
            self.change_on = index;
            self.difference = t_before.wrapping_sub(st);
            out.bytes_mut()[HEADER_AT] |= (index & LAST_CHANGE) as u8;
            out.varbit_int(self.difference);
        }
        self.st = st;
    }
}

/// Reads start timestamps.
#[derive(Clone, Debug)]
pub(crate) struct StartReader {
    /// Start timestamp of the sample that was read last.
    pub st: i64,
    pub difference: i64,
    pub change_on: usize,
    pub first_known: bool,
}

impl StartReader {
    pub fn new(header: u8) -> Self {
        Self { st: 0, difference: 0, change_on: usize::from(header & 0x7f), first_known: header & 0x80 != 0 }
    }

    /// Reads what belongs behind sample `index`.
    #[inline]
    pub fn read(
        &mut self,
        reader: &mut BitReader<'_>,
        index: usize,
        t: i64,
        t_before: i64,
    ) -> Result<(), Ended> {
        if index == 0 {
            if self.first_known {
                self.st = t.wrapping_sub(reader.varint()?);
            }
        } else if self.change_on > 0 && index >= self.change_on {
            let value = reader.varbit_int()?;
            self.difference =
                if index == self.change_on { value } else { self.difference.wrapping_add(value) };
            self.st = t_before.wrapping_sub(self.difference);
        }
        Ok(())
    }
}
