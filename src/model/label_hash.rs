//! The hash of a label set that `limit_ratio` samples by: xxHash64 of the set in upstream's packed form.
//!
//! ```text
//! for every label in name order: string name, string value
//! string: length < 255: u8 length;  else: 255, u24 little-endian length;  then the bytes
//! ```

use xxhash_rust::xxh64::xxh64;

/// `Labels.Hash` upstream (of its default build) of labels given in name order.
pub fn packed_hash<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut packed = Vec::with_capacity(256);
    packed_hash_into(&mut packed, labels)
}

/// As [`packed_hash`], with a buffer to be used again.
pub fn packed_hash_into<'a>(
    packed: &mut Vec<u8>,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> u64 {
    packed.clear();
    for (name, value) in labels {
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(short) if short < 255 => packed.push(short),
                // Lengths beyond 24 bits lose their upper bits, as upstream's do.
                _ => {
                    packed.push(255);
                    packed.extend_from_slice(&text.len().to_le_bytes()[..3]);
                }
            }
            packed.extend_from_slice(text.as_bytes());
        }
    }
    xxh64(packed, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_upstream() {
        let x254 = "x".repeat(254);
        let x255 = "x".repeat(255);
        let y70000 = "y".repeat(70_000);
        let cases: &[(&[(&str, &str)], u64)] = &[
            (&[], 0xef46_db37_51d8_e999),
            (&[("__name__", "up")], 0xecd7_5f13_400a_bdf5),
            (
                &[("__name__", "up"), ("instance", "localhost:9090"), ("job", "prometheus")],
                0x70e9_2580_4125_4325,
            ),
            (&[("a", &x254)], 0xd595_c508_2328_667a),
            (&[("a", &x255)], 0x6cdb_059d_acbe_544e),
            (&[("é", &y70000)], 0xe09a_645c_290e_5946),
            (&[("my label", "a\"b\n"), ("n.x", "é\u{a0}")], 0xdd5e_4d88_62aa_11b5),
        ];
        for (labels, want) in cases {
            assert_eq!(packed_hash(labels.iter().copied()), *want, "{} labels", labels.len());
        }
    }
}
