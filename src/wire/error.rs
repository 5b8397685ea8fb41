//! What is wrong with a body, and where.

/// A body that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {reason}")]
pub struct WireError {
    /// Byte offset in the decompressed message; in the body itself if that cannot be decompressed.
    pub offset: usize,
    /// The reason, as upstream words it where upstream has it.
    pub reason: String,
}

impl WireError {
    pub(crate) fn new(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }
}
