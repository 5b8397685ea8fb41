//! Chunks of files in any order of their places, for who reads many of them: through maps of the files, checked, copied
//! only where they are wanted. What is not in a map (it is not written yet, or was after the file was mapped) is read by
//! itself.

use tsdbctl_chunk::Encoding;
use tsdbctl_platform::map::Map;
use tsdbctl_storage::StorageError;

use crate::live::chunk_files::{ChunkFiles, ChunkPlace};
use crate::loss::cut_short;
use crate::mapped::{Scan, Scanned};

/// Where the data of a chunk is.
#[derive(Clone, Debug)]
enum Data {
    /// Map, offset, length.
    Map(usize, usize, usize),
    Own(Vec<u8>),
}

/// A chunk that was found, and is sound.
#[derive(Clone, Debug)]
pub(super) struct FoundChunk {
    pub encoding: Encoding,
    pub mint: i64,
    pub maxt: i64,
    data: Data,
}

impl FoundChunk {
    /// One that is in no file.
    pub fn in_memory(chunk: tsdbctl_chunk::Chunk) -> Self {
        Self { encoding: chunk.encoding, mint: chunk.mint, maxt: chunk.maxt, data: Data::Own(chunk.data) }
    }
}

/// Maps of files of chunks. While they are held no file may be written in place, only behind what it has.
#[derive(Debug, Default)]
pub(super) struct ChunkMaps {
    /// By number, in the order in which they were asked for.
    maps: Vec<(u32, Map)>,
    /// That of the last chunk.
    last: usize,
}

impl ChunkMaps {
    /// Finds a chunk and checks it.
    ///
    /// # Errors
    /// If it is damaged or gone.
    pub fn find(&mut self, files: &ChunkFiles, place: ChunkPlace) -> Result<FoundChunk, StorageError> {
        if files.is_written(place) {
            let map = self.map(files, place.file)?;
            let bytes = self.maps[map].1.bytes();
            let chunk = Scan::new(bytes, 0, place.offset as usize).next();
            if let Ok(Some(Scanned { chunk: Some(chunk), .. })) = chunk {
                let data = Data::Map(map, chunk.offset as usize, chunk.len as usize);
                return Ok(FoundChunk { encoding: chunk.encoding, mint: chunk.mint, maxt: chunk.maxt, data });
            }
        }
        let chunk = files.read(place)?;
        let (encoding, mint, maxt) = (chunk.encoding, chunk.mint, chunk.maxt);
        Ok(FoundChunk { encoding, mint, maxt, data: Data::Own(chunk.data) })
    }

    /// The data of a chunk that was found.
    pub fn data<'a>(&'a self, chunk: &'a FoundChunk) -> &'a [u8] {
        match &chunk.data {
            Data::Own(data) => data,
            Data::Map(map, start, len) => {
                let bytes = self.maps.get(*map).map_or(&[][..], |m| m.1.bytes());
                bytes.get(*start..*start + *len).unwrap_or(&[])
            }
        }
    }

    /// Asks whether what was read of a chunk's data can be trusted.
    ///
    /// # Errors
    /// If its file was cut short under the map and a read met the missing part.
    pub fn check_intact(&self, chunk: &FoundChunk) -> Result<(), StorageError> {
        let Data::Map(map, ..) = chunk.data else { return Ok(()) };
        match self.maps.get(map).filter(|m| m.1.has_faulted()) {
            Some((_, map)) => Err(cut_short(map.path())),
            None => Ok(()),
        }
    }

    /// The place of a file's map.
    fn map(&mut self, files: &ChunkFiles, file: u32) -> Result<usize, StorageError> {
        if self.maps.get(self.last).is_none_or(|m| m.0 != file) {
            self.last = match self.maps.iter().position(|m| m.0 == file) {
                Some(at) => at,
                None => {
                    let path = files.path(file);
                    self.maps.push((file, Map::open(&path)?));
                    self.maps.len() - 1
                }
            };
        }
        Ok(self.last)
    }
}
