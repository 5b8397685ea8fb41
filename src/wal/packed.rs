//! Records on their way into a log: compressed outside of its lock, framed under it.

use crate::compression::{Compression, Packer};

/// A record, compressed and ready to be framed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedRecord {
    /// How.
    pub how: Compression,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Packs records for [`LogGuard::append`](crate::LogGuard::append), outside of its lock. One per thread.
#[derive(Debug)]
pub struct RecordPacker {
    compression: Compression,
    packer: Packer,
    /// Buffers of records that were given back.
    spare: Vec<Vec<u8>>,
}

impl RecordPacker {
    /// A packer; zstd packs at level 3.
    pub fn new(compression: Compression) -> Self {
        Self { compression, packer: Packer::default(), spare: Vec::new() }
    }

    /// The record packed; as it is if it would not shrink.
    pub fn pack(&mut self, record: &[u8]) -> PackedRecord {
        let mut bytes = self.spare.pop().unwrap_or_default();
        let how = self.packer.pack(self.compression, record, &mut bytes);
        PackedRecord { how, bytes }
    }

    /// Takes the buffers of records that are written, for those to come.
    pub fn recycle(&mut self, records: &mut Vec<PackedRecord>) {
        self.spare.extend(records.drain(..).map(|r| r.bytes));
        self.spare.truncate(8);
    }
}
