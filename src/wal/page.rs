//! Pages and fragments.
//!
//! A segment is a run of pages of 32 KiB. A page holds fragments; what is left of it, if that is less than a
//! fragment header, or if the segment was ended, is zero. A record is one fragment (`full`) or several
//! (`first`, `middle`…, `last`), never crosses a segment, and a fragment never crosses a page.
//!
//! ```text
//! fragment: flags (1) · length of data (2, big-endian) · CRC-32C of data (4, big-endian) · data
//! flags:    bits 0-2 kind (0 end of page, 1 full, 2 first, 3 middle, 4 last) · bit 3 snappy · bit 4 zstd
//! ```

use crc_fast::CrcAlgorithm;

use crate::compression::Compression;

/// Length of a page, bytes.
pub const PAGE_BYTES: usize = 32 * 1024;
/// Length of a fragment's header, bytes.
pub const HEADER_BYTES: usize = 7;
/// Most data bytes a fragment can have.
pub const MAX_FRAGMENT_BYTES: usize = PAGE_BYTES - HEADER_BYTES;
/// Length at which upstream begins a new segment, bytes.
pub const SEGMENT_BYTES: usize = 128 * 1024 * 1024;

const SNAPPY_BIT: u8 = 8;
const ZSTD_BIT: u8 = 16;

/// The part of its record that a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FragmentKind {
    /// The whole record.
    Full = 1,
    /// Its beginning.
    First = 2,
    /// More of it.
    Middle = 3,
    /// Its end.
    Last = 4,
}

/// One fragment, checked.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// Which part.
    pub kind: FragmentKind,
    /// Compression of the whole record.
    pub compression: Compression,
    /// The data.
    pub data: &'a [u8],
}

/// What lies at an offset of a segment.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A fragment that ends before `end`.
    Fragment(Fragment<'a>, usize),
    /// Padding up to the given offset, which may lie behind the end of the file.
    Padding(usize),
    /// Nothing: the file ends here.
    End,
}

/// Why no fragment can be read at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFragment(pub String);

/// CRC-32C (Castagnoli) of some bytes.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Reads what lies at `offset` of a segment's bytes.
///
/// # Errors
/// If that is neither a sound fragment nor padding.
pub fn read_place(bytes: &[u8], offset: usize) -> Result<Place<'_>, BadFragment> {
    let Some(&flags) = bytes.get(offset) else { return Ok(Place::End) };
    let page_end = (offset / PAGE_BYTES + 1) * PAGE_BYTES;
    let page = &bytes[offset..page_end.min(bytes.len())];
    let bad = |reason: String| Err(BadFragment(reason));
    let kind = match flags & 7 {
        0 => {
            return if page[1..].iter().all(|b| *b == 0) {
                Ok(Place::Padding(page_end))
            } else {
                bad("the padding of a page is not zero".to_string())
            };
        }
        1 => FragmentKind::Full,
        2 => FragmentKind::First,
        3 => FragmentKind::Middle,
        4 => FragmentKind::Last,
        other => return bad(format!("unknown fragment kind {other}")),
    };
    if page_end - offset < HEADER_BYTES {
        return bad("a fragment header does not fit its page".to_string());
    }
    let Some((header, rest)) = page.split_first_chunk::<HEADER_BYTES>() else {
        return bad("the file ends inside a fragment header".to_string());
    };
    let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
    if len > page_end - offset - HEADER_BYTES {
        return bad(format!("a fragment of {len} bytes does not fit its page"));
    }
    let Some(data) = rest.get(..len) else {
        return bad("the file ends inside a fragment".to_string());
    };
    let (want, have) = (u32::from_be_bytes([header[3], header[4], header[5], header[6]]), crc32c(data));
    if want != have {
        return bad(format!("checksum mismatch: stored {want:08x}, computed {have:08x}"));
    }
    let compression = match (flags & SNAPPY_BIT != 0, flags & ZSTD_BIT != 0) {
        (true, _) => Compression::Snappy,
        (false, true) => Compression::Zstd,
        (false, false) => Compression::None,
    };
    Ok(Place::Fragment(Fragment { kind, compression, data }, offset + HEADER_BYTES + len))
}

/// Appends a fragment's header and data.
pub fn write_fragment(out: &mut Vec<u8>, kind: FragmentKind, compression: Compression, data: &[u8]) {
    debug_assert!(data.len() <= MAX_FRAGMENT_BYTES);
    let bit = match compression {
        Compression::None => 0,
        Compression::Snappy => SNAPPY_BIT,
        Compression::Zstd => ZSTD_BIT,
    };
    out.push(kind as u8 | bit);
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(&crc32c(data).to_be_bytes());
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
