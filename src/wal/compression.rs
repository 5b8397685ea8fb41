//! How single records are compressed: not at all, snappy (block format), zstd.

use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// The compression of one record, a bit in its fragments' headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Bytes as they are.
    None,
    /// Snappy's block format.
    #[default]
    Snappy,
    /// One zstd frame.
    Zstd,
}

/// No record is longer; what says otherwise is not unpacked, or no further.
const MAX_RECORD_BYTES: usize = 1 << 30;
/// Snappy's densest element: 3 bytes for 64.
const SNAPPY_MAX_RATIO: usize = 22;

/// The first byte of a packed record, which is its type, where it can be told without unpacking: a snappy block
/// begins with its length and a literal.
pub fn first_byte(how: Compression, packed: &[u8]) -> Option<u8> {
    match how {
        Compression::None => packed.first().copied(),
        Compression::Snappy => {
            let tag = packed.iter().position(|b| *b < 0x80)? + 1;
            let literal = *packed.get(tag)?;
            // The length of a literal of more than 60 bytes takes 1 to 4 bytes more.
            let length_bytes = usize::from(literal >> 2).saturating_sub(59);
            (literal & 3 == 0).then(|| packed.get(tag + 1 + length_bytes).copied())?
        }
        Compression::Zstd => None,
    }
}

/// Unpacks records; keeps its buffers between them.
pub struct Unpacker {
    snappy: snap::raw::Decoder,
    zstd: Option<ZstdDecoder<'static>>,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self::new()
    }
}

impl Unpacker {
    /// A fresh one.
    pub fn new() -> Self {
        Self { snappy: snap::raw::Decoder::new(), zstd: None }
    }

    /// Appends the unpacked bytes of one record to `out`.
    ///
    /// # Errors
    /// If the bytes are not what `compression` makes; `out` may have grown then.
    pub fn unpack(
        &mut self,
        compression: Compression,
        packed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match compression {
            Compression::None if packed.len() > MAX_RECORD_BYTES => {
                return Err(format!("a record of {} bytes", packed.len()));
            }
            Compression::None => out.extend_from_slice(packed),
            Compression::Snappy => {
                let len = snap::raw::decompress_len(packed).map_err(|e| e.to_string())?;
                if len > packed.len().saturating_mul(SNAPPY_MAX_RATIO) || len > MAX_RECORD_BYTES {
                    return Err(format!("snappy: {} bytes cannot hold {len}", packed.len()));
                }
                let start = out.len();
                out.resize(start + len, 0);
                self.snappy.decompress(packed, &mut out[start..]).map_err(|e| e.to_string())?;
            }
            Compression::Zstd => self.unpack_zstd(packed, out)?,
        }
        Ok(())
    }

    fn unpack_zstd(&mut self, packed: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let decoder = match &mut self.zstd {
            Some(d) => d,
            None => self.zstd.insert(ZstdDecoder::new().map_err(|e| e.to_string())?),
        };
        decoder.reinit().map_err(|e| e.to_string())?;
        let start = out.len();
        let mut input = InBuffer::around(packed);
        let mut room = packed.len().saturating_mul(4).max(1024);
        loop {
            let from = out.len();
            if from - start > MAX_RECORD_BYTES {
                return Err(format!("zstd: more than {MAX_RECORD_BYTES} bytes in one record"));
            }
            out.resize(from + room, 0);
            let mut output = OutBuffer::around(&mut out[from..]);
            let hint = decoder.run(&mut input, &mut output).map_err(|e| format!("zstd: {e}"))?;
            let written = output.pos();
            out.truncate(from + written);
            if hint == 0 && input.pos() == packed.len() {
                return Ok(());
            }
            if written < room && input.pos() == packed.len() && hint != 0 {
                return Err("zstd: the frame is incomplete".to_string());
            }
            room = room.saturating_mul(2).min(1 << 24);
        }
    }
}

/// Packs records.
pub struct Packer {
    snappy: snap::raw::Encoder,
    /// Made when it is needed first: it takes more than a megabyte.
    zstd: Option<zstd::bulk::Compressor<'static>>,
    level: i32,
}

impl Default for Packer {
    fn default() -> Self {
        Self::new(3)
    }
}

impl Packer {
    /// A packer with the given zstd level.
    pub fn new(level: i32) -> Self {
        Self { snappy: snap::raw::Encoder::new(), zstd: None, level }
    }

    /// The record packed, and how: records that would not shrink stay as they are.
    pub fn pack(&mut self, compression: Compression, record: &[u8], out: &mut Vec<u8>) -> Compression {
        out.clear();
        let done = match compression {
            Compression::None => false,
            Compression::Snappy => {
                out.resize(snap::raw::max_compress_len(record.len()), 0);
                match self.snappy.compress(record, out) {
                    Ok(n) => {
                        out.truncate(n);
                        true
                    }
                    Err(_) => false,
                }
            }
            Compression::Zstd => self.pack_zstd(record, out).is_ok(),
        };
        if done && out.len() < record.len() {
            return compression;
        }
        out.clear();
        out.extend_from_slice(record);
        Compression::None
    }

    fn pack_zstd(&mut self, record: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            None => self.zstd.insert(zstd::bulk::Compressor::new(self.level)?),
        };
        out.reserve(zstd::zstd_safe::compress_bound(record.len()));
        zstd.compress_to_buffer(record, out).map(|_| ())
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("level", &self.level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_what_does_not_shrink_stays() {
        let long: Vec<u8> = (0..300_000u32).map(|i| (i / 100) as u8).collect();
        for (how, record) in
            [(Compression::Snappy, long.as_slice()), (Compression::Zstd, &long), (Compression::None, &long)]
        {
            let (mut packed, mut back) = (Vec::new(), b"before".to_vec());
            assert_eq!(Packer::default().pack(how, record, &mut packed), how);
            assert_eq!(first_byte(how, &packed), (how != Compression::Zstd).then_some(record[0]));
            assert!(how == Compression::None || packed.len() < record.len() / 4);
            let mut unpacker = Unpacker::new();
            for _ in 0..2 {
                back.truncate(6);
                unpacker.unpack(how, &packed, &mut back).unwrap();
                assert!(back.starts_with(b"before") && &back[6..] == record);
            }
            if how != Compression::None {
                assert!(unpacker.unpack(how, &packed[..packed.len() - 1], &mut back).is_err());
            }
        }
        let mut packed = Vec::new();
        assert_eq!(Packer::default().pack(Compression::Snappy, b"abc", &mut packed), Compression::None);
        assert_eq!(packed, b"abc");
    }

    #[test]
    fn the_first_byte_is_told_whatever_the_length_of_its_literal() {
        for n in [1, 2, 59, 60, 61, 62, 255, 256, 257, 65_535, 65_536, 70_000u32] {
            let record: Vec<u8> =
                (0..n).map(|i| (i.wrapping_add(7).wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let packed = snap::raw::Encoder::new().compress_vec(&record).unwrap();
            assert_eq!(first_byte(Compression::Snappy, &packed), Some(record[0]), "{n}");
        }
        for packed in [&b""[..], b"\x80", b"\x05", b"\x05\x01", b"\x05\x00", b"\xff\x0f\xfc\x01"] {
            assert_eq!(first_byte(Compression::Snappy, packed), None, "{packed:?}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_anything_is_allocated() {
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(Unpacker::new().unpack(Compression::Snappy, &bomb, &mut Vec::new()).is_err());
    }
}
