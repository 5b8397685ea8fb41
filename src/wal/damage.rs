//! Why a log could not be read.

use std::io::ErrorKind;
use std::path::PathBuf;

use tsdbctl_platform::file::FileError;

/// Bytes of a log that are not what a writer wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file, or the one that is missing.
    pub file: PathBuf,
    /// Offset of the damaged fragment or record in the file, bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is damaged or missing.
    #[error("{}: at byte {}: {}", .0.file.display(), .0.offset, .0.reason)]
    Damage(Damage),
    /// What was written could not be made durable: a crash may lose it.
    #[error("what was written to the log may be lost: {0}")]
    NotDurable(FileError),
    /// The disk failed twice in a row; it is asked again once per second.
    #[error("the log takes nothing until its disk answers again: {0}")]
    Refusing(FileError),
}

impl WalError {
    /// What the system said, if it said something.
    pub fn file_error(&self) -> Option<&FileError> {
        match self {
            Self::File(e) | Self::NotDurable(e) | Self::Refusing(e) => Some(e),
            Self::Damage(_) => None,
        }
    }

    /// Whether the disk, or the share of it that the process may use, is full: it may be freed.
    pub fn is_no_space(&self) -> bool {
        self.file_error().is_some_and(|e| {
            matches!(e.cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::WriteZero)
        })
    }
}
