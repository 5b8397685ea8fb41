//! Damage of the log as storage names it.

use std::path::Path;

use tsdbctl_storage::{Loss, StorageError};
use tsdbctl_wal::{Damage, WalError};

/// The same damage for a reader of samples.
pub fn loss(damage: Damage) -> Loss {
    Loss { file: damage.file, offset: damage.offset, reason: damage.reason }
}

/// The same error for a reader of samples.
pub fn storage_error(error: WalError) -> StorageError {
    match error {
        WalError::File(e) | WalError::NotDurable(e) | WalError::Refusing(e) => StorageError::File(e),
        WalError::Damage(d) => StorageError::Corrupt(loss(d)),
    }
}

/// The error for damage that a strict reader stops at: with what to do about it.
pub fn damaged(mut loss: Loss) -> StorageError {
    let parent = loss.file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let remedy = if parent == "chunks_head" {
        "query a copy of the directory without chunks_head, whose samples are in wal and wbl too"
    } else if parent.starts_with("checkpoint.") {
        "query the blocks alone, each given with -d; Prometheus does not start with this checkpoint either"
    } else {
        "query the blocks alone, each given with -d, or start Prometheus on a copy of the directory: it drops what the \
         log has from here on"
    };
    loss.reason =
        format!("{}; this release does not read around it, a later one will: {remedy}", loss.reason);
    StorageError::Corrupt(loss)
}

/// The error for a file that was cut short while it was mapped: its missing part read as zeros.
pub fn cut_short(file: &Path) -> StorageError {
    let reason = "the file was cut short while it was read; run the command again".to_string();
    StorageError::Corrupt(Loss { file: file.to_owned(), offset: 0, reason })
}

/// Losses met so far; a strict reader fails at the first.
#[derive(Debug, Default)]
pub struct Losses {
    /// Go on in spite of damage.
    pub tolerant: bool,
    /// What was left out.
    pub list: Vec<Loss>,
}

impl Losses {
    /// Notes a loss.
    ///
    /// # Errors
    /// If the reader is strict.
    pub fn add(&mut self, loss: Loss) -> Result<(), StorageError> {
        if !self.tolerant {
            return Err(damaged(loss));
        }
        self.list.push(loss);
        Ok(())
    }

    /// Notes damage of `file`.
    ///
    /// # Errors
    /// As [`Losses::add`].
    pub fn at(&mut self, file: &Path, offset: u64, reason: impl Into<String>) -> Result<(), StorageError> {
        self.add(Loss { file: file.to_owned(), offset, reason: reason.into() })
    }
}
