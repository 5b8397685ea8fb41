//! Chunk files, `chunks/000001` and on.
//!
//! ```text
//! file:  0x85bd40dd (4 bytes) | version 1 (1 byte) | padding (3 bytes) | chunks
//! chunk: length of data uvarint | encoding (1 byte) | data | CRC-32C of encoding and data (4 bytes)
//! ```
//! A reference is the position of the file in the sorted list, shifted left by 32, or'ed with the chunk's offset.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tsdbctl_chunk::Encoding;
use tsdbctl_platform::file;
use tsdbctl_platform::map::Map;
use tsdbctl_storage::{Loss, StorageError};

use crate::checksum::crc32c;
use crate::cursor::Cursor;

const MAGIC: u32 = 0x85bd_40dd;

/// What a file begins with.
pub(crate) const HEADER: [u8; 8] = [0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];

/// The chunk files of a block, mapped from the start: a running server may remove them while they are read.
#[derive(Debug)]
pub struct Segments {
    dir: PathBuf,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    map: Map,
    /// Set once the header was found sound.
    checked: OnceLock<()>,
}

/// A chunk in its file.
#[derive(Clone, Copy, Debug)]
pub struct StoredChunk<'a> {
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The encoded samples.
    pub data: &'a [u8],
}

/// A chunk in its file, its encoding not looked at.
#[derive(Clone, Copy, Debug)]
pub struct RawChunk<'a> {
    /// The encoding byte.
    pub encoding: u8,
    /// The encoded samples.
    pub data: &'a [u8],
}

impl Segments {
    /// Opens the chunk files in the `chunks` directory of a block; nothing of them is read.
    ///
    /// # Errors
    /// If the directory cannot be listed or a file not be mapped; a directory that does not exist has no files.
    pub fn open(block_dir: &Path) -> Result<Self, StorageError> {
        let dir = block_dir.join("chunks");
        let entries = match file::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.is_not_found() => Vec::new(),
            Err(e) => return Err(e.into()),
        };
        let mut files = Vec::new();
        for entry in entries.into_iter().filter(|e| !e.is_dir && e.name.parse::<u64>().is_ok()) {
            files.push(File { map: Map::open(&entry.path)?, checked: OnceLock::new() });
        }
        Ok(Self { dir, files })
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn map(&self, segment: usize) -> Result<&Map, StorageError> {
        let Some(File { map, checked }) = self.files.get(segment) else {
            let reason = format!("the index refers to chunk file {} of {}", segment + 1, self.files.len());
            return Err(Loss { file: self.dir.clone(), offset: 0, reason }.into());
        };
        if checked.get().is_some() {
            return Ok(map);
        }
        let path = map.path();
        let mut c = Cursor::at(map.bytes(), 0);
        let reason = match (c.be32(), c.u8(), c.take(3)) {
            (Some(MAGIC), Some(1), Some(_)) => {
                checked.get_or_init(|| ());
                return Ok(map);
            }
            (Some(MAGIC), Some(v), Some(_)) => {
                let reason = format!("chunk file version {v} is not supported, only 1 is");
                return Err(StorageError::Unsupported { file: path.to_owned(), reason });
            }
            (Some(MAGIC) | None, ..) => "chunk file is shorter than its header",
            (Some(_), ..) => "not a chunk file: wrong magic number",
        };
        Err(Loss { file: path.to_owned(), offset: 0, reason: reason.to_string() }.into())
    }

    /// The damage at a chunk reference.
    pub fn loss(&self, reference: u64, reason: impl Into<String>) -> Loss {
        let file = self.files.get((reference >> 32) as usize).map_or(&*self.dir, |f| f.map.path());
        Loss { file: file.to_owned(), offset: reference & 0xffff_ffff, reason: reason.into() }
    }

    /// Whether a chunk read from the file of `reference` can be trusted: it was not cut short under its map.
    ///
    /// # Errors
    /// If it was.
    pub fn check_intact(&self, reference: u64) -> Result<(), StorageError> {
        match self.files.get((reference >> 32) as usize) {
            Some(f) if f.map.has_faulted() => {
                Err(self.loss(reference, "the file was cut short while it was read").into())
            }
            _ => Ok(()),
        }
    }

    /// The chunk at a reference, its checksum verified.
    ///
    /// # Errors
    /// If there is no such file, or no sound chunk of a known encoding at that place.
    pub fn chunk(&self, reference: u64) -> Result<StoredChunk<'_>, StorageError> {
        let RawChunk { encoding, data } = self.raw_chunk(reference)?;
        match Encoding::from_byte(encoding) {
            Some(encoding) => Ok(StoredChunk { encoding, data }),
            None => Err(self.loss(reference, format!("unknown chunk encoding {encoding}")).into()),
        }
    }

    /// The chunk at a reference, its checksum verified, whatever its encoding.
    ///
    /// # Errors
    /// If there is no such file, or no sound chunk at that place.
    pub fn raw_chunk(&self, reference: u64) -> Result<RawChunk<'_>, StorageError> {
        let map = self.map((reference >> 32) as usize)?;
        let bad = |reason: &str| Err(StorageError::Corrupt(self.loss(reference, reason)));
        let offset = (reference & 0xffff_ffff) as usize;
        if offset < 8 {
            return bad("the index refers to a chunk inside the file's header");
        }
        let mut c = Cursor::at(map.bytes(), offset);
        let Some(len) = c.uvarint() else { return bad("chunk lies outside of its file") };
        let (Some(body), Some(sum)) = (len.checked_add(1).and_then(|l| c.take(l)), c.be32()) else {
            return bad("chunk is cut short");
        };
        if crc32c(body) != sum {
            self.check_intact(reference)?;
            return bad("checksum of chunk does not match");
        }
        Ok(RawChunk { encoding: body[0], data: &body[1..] })
    }
}
