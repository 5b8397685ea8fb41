//! Files mapped into memory, read-only.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fault::Guard;
use crate::file::FileError;

/// A whole file as bytes. Clones share the mapping.
#[derive(Clone, Debug)]
pub struct Map {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Before the map, so that it is dropped first.
    guard: Option<Guard>,
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
        let guard = map.as_deref().map(Guard::new);
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), guard, map }) })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.inner.map.as_deref().unwrap_or(&[])
    }

    /// Whether the file was cut short under the map and a read met the missing part, which then read as zeros. What
    /// was read since it was last asked must not be trusted.
    pub fn has_faulted(&self) -> bool {
        self.inner.guard.as_ref().is_some_and(Guard::has_faulted)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_cut_short_under_its_map_reads_as_zeros_and_says_so() {
        const LEN: usize = 1 << 20;
        let path = std::env::temp_dir().join(format!("tsdbctl-map-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        file.write_all(&[7; LEN]).unwrap();
        let (map, other) = (Map::open(&path).unwrap(), Map::open(&path).unwrap());
        assert_eq!((map.bytes()[0], map.bytes()[LEN - 1]), (7, 7));
        file.set_len(10).unwrap();
        assert_eq!(map.bytes()[5], 7);
        assert!(!map.has_faulted());
        assert_eq!(map.bytes()[LEN / 2..].iter().map(|b| u64::from(*b)).sum::<u64>(), 0);
        assert!(map.has_faulted() && !other.has_faulted());
        assert_eq!(map.bytes()[5], 7);
        drop(map);
        file.set_len(LEN as u64).unwrap();
        let again = Map::open(&path).unwrap();
        assert!(!again.has_faulted());
        assert_eq!(again.bytes()[LEN - 1], 0);
        assert!(!again.has_faulted());
        std::fs::remove_file(&path).unwrap();
    }
}
