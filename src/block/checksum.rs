//! CRC-32C (Castagnoli), the checksum of everything in a block.

/// The checksum of `data`.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data) as u32
}
