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
        WalError::File(e) => StorageError::File(e),
        WalError::Damage(d) => StorageError::Corrupt(loss(d)),
    }
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
            return Err(StorageError::Corrupt(loss));
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
