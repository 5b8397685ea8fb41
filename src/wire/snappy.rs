//! Bodies compressed as one snappy block.
//!
//! ```text
//! block = varint length of the decompressed bytes, elements
//! ```

use crate::error::WireError;

/// The most bytes that a body may have decompressed, unless the reader says otherwise (upstream's receiver limit).
pub const DECODED_BYTES_MAX: usize = 32 << 20;

/// An element of three bytes makes at most 64.
const EXPANSION_MAX: usize = 22;

/// Decompresses a block of at most `limit` decompressed bytes.
///
/// # Errors
/// If it is none, or longer.
pub fn decompress(body: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    // The text begins with the name.
    let wrong = |e: snap::Error| WireError::new(0, e.to_string());
    let length = snap::raw::decompress_len(body).map_err(wrong)?;
    if length > limit {
        return Err(WireError::new(0, format!("snappy: {length} decompressed bytes, more than {limit}")));
    }
    // A short body that claims to be long would make us allocate for nothing.
    if length > body.len().saturating_mul(EXPANSION_MAX) {
        return Err(WireError::new(0, format!("snappy: {} bytes cannot hold {length}", body.len())));
    }
    let mut bytes = vec![0; length];
    let written = snap::raw::Decoder::new().decompress(body, &mut bytes).map_err(wrong)?;
    bytes.truncate(written);
    Ok(bytes)
}

/// Compresses a message.
///
/// # Errors
/// If it is longer than a block can be (4 GiB).
pub fn compress(message: &[u8]) -> Result<Vec<u8>, WireError> {
    let wrong = |e: snap::Error| WireError::new(0, e.to_string());
    snap::raw::Encoder::new().compress_vec(message).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_round_within_the_limit() {
        for message in [&b""[..], b"x", &[7; 100_000]] {
            let block = compress(message).unwrap();
            assert_eq!(decompress(&block, message.len()).as_deref(), Ok(message));
            if !message.is_empty() {
                let error = decompress(&block, message.len() - 1).unwrap_err();
                assert!(error.reason.contains("more than"), "{error}");
                for cut in 0..block.len().min(20) {
                    assert!(decompress(&block[..cut], 1 << 20).is_err());
                }
            }
        }
    }

    #[test]
    fn a_length_that_is_only_claimed_is_not_allocated() {
        let error = decompress(&[0x80, 0x80, 0x80, 0x0f, 0], DECODED_BYTES_MAX).unwrap_err();
        assert_eq!(error.to_string(), "at byte 0: snappy: 5 bytes cannot hold 31457280");
        assert!(decompress(&[0xff; 12], DECODED_BYTES_MAX).is_err());
    }
}
