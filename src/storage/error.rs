//! Why a read failed, and what a tolerant reader had to leave out.

use std::path::PathBuf;

use tsdbctl_platform::file::FileError;

use crate::control::ControlError;

/// Bytes that could not be used: which file, where, and why. Readers collect these; strict callers turn the
/// first into [`StorageError::Corrupt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The damaged file.
    pub file: PathBuf,
    /// Offset of the damaged item in the file, bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file's bytes are damaged.
    #[error("{}: at byte {}: {}", .0.file.display(), .0.offset, .0.reason)]
    Corrupt(Loss),
    /// A file's format or a directory's layout is not supported, or not what it says it is.
    #[error("{}: {reason}", file.display())]
    Unsupported {
        /// Which file or directory.
        file: PathBuf,
        /// What is not supported and what to do about it.
        reason: String,
    },
    /// A limit was reached or the query was interrupted.
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl StorageError {
    /// Whether the same may succeed later: [`FileError::may_pass`].
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::File(e) if e.may_pass())
    }
}

impl From<Loss> for StorageError {
    fn from(loss: Loss) -> Self {
        Self::Corrupt(loss)
    }
}
