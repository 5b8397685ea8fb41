//! Files mapped into memory, read-only.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file::FileError;

/// A whole file as bytes. Clones share the mapping.
#[derive(Clone, Debug)]
pub struct Map {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// `None` for an empty file, which cannot be mapped.
    map: Option<memmap2::Mmap>,
}

impl Map {
    /// Maps `path`.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let wrap = |e| FileError::new("map", path, e);
        let file = File::open(path).map_err(wrap)?;
        let map = if file.metadata().map_err(wrap)?.len() == 0 {
            None
        } else {
            // SAFETY: the mapping is read-only and private; Prometheus never changes a published file in
            // place, and a file cut short under the map is turned into a failed read by the fault guard.
            #[allow(unsafe_code)]
            Some(unsafe { memmap2::Mmap::map(&file) }.map_err(wrap)?)
        };
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), map }) })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.inner.map.as_deref().unwrap_or(&[])
    }
}
