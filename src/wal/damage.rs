//! Why a log could not be read.

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
}
