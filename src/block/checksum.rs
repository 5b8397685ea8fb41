//! CRC-32C (Castagnoli), the checksum of everything in a block.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// The checksum of `data`.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    crc_fast::checksum(Crc32Iscsi, data) as u32
}

/// A checksum over data that comes in parts.
#[derive(Debug)]
pub(crate) struct Crc32c {
    digest: crc_fast::Digest,
    bytes: u64,
}

impl Default for Crc32c {
    fn default() -> Self {
        Self { digest: crc_fast::Digest::new(Crc32Iscsi), bytes: 0 }
    }
}

impl Crc32c {
    /// The next part.
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.digest.update(data);
        self.bytes += data.len() as u64;
    }

    /// The checksum of all parts.
    pub(crate) fn value(&self) -> u32 {
        self.digest.finalize() as u32
    }

    /// The checksum of `data` and then all parts.
    pub(crate) fn value_behind(&self, data: &[u8]) -> u32 {
        crc_fast::checksum_combine(Crc32Iscsi, u64::from(crc32c(data)), self.digest.finalize(), self.bytes)
            as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_give_the_same_as_the_whole() {
        let data: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        for cut in [0, 4, 255, 256, 999, 1000] {
            let mut sum = Crc32c::default();
            sum.update(&data[cut..]);
            assert_eq!(sum.value_behind(&data[..cut]), crc32c(&data), "{cut}");
            let mut sum = Crc32c::default();
            sum.update(&data[..cut]);
            sum.update(&data[cut..]);
            assert_eq!(sum.value(), crc32c(&data), "{cut}");
        }
    }
}
