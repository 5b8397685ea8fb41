//! Pseudonyms of label values: a keyed hash (SipHash-2-4, 128 bit), so that equal values get equal pseudonyms wherever
//! the same key is used, and nobody without the key can try values out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

/// Labels whose values stay unless told otherwise: the metric's name, type and unit, and what functions compute with.
pub const KEPT_BY_DEFAULT: [&str; 5] = ["__name__", "__type__", "__unit__", "le", "quantile"];

/// In front of each pseudonym, so that none looks like a number.
const PREFIX: &str = "p-";
/// Letters of a pseudonym, 5 bits each: base 32 without what looks like something else.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Bits of the hash that a pseudonym shows.
const SHOWN_BITS: u32 = 80;

/// Two values have the same pseudonym, which the key makes so rare that it points to another fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two label values have the same pseudonym {0}; use another key")]
pub struct Collision(String);

/// Gives label values their pseudonyms. Shared by threads.
pub struct Pseudonyms {
    key: [u8; 16],
    kept: Vec<String>,
    /// What of the hash is not shown, by what is.
    met: Mutex<HashMap<u128, u64, foldhash::fast::FixedState>>,
    /// Values by pseudonym, if they are to be told.
    table: Option<Mutex<BTreeMap<String, String>>>,
}

impl std::fmt::Debug for Pseudonyms {
    /// The key is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pseudonyms").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Pseudonyms {
    /// Pseudonyms by a secret key; values of the labels in `kept` stay. With `with_table` it is remembered what each
    /// stands for.
    pub fn new(key: [u8; 16], kept: Vec<String>, with_table: bool) -> Self {
        let table = with_table.then(Mutex::default);
        Self { key, kept, met: Mutex::default(), table }
    }

    /// Whether the values of a label stay.
    pub fn keeps(&self, name: &str) -> bool {
        self.kept.iter().any(|kept| kept == name)
    }

    /// What takes the place of a value.
    ///
    /// # Errors
    /// If another value has it already.
    pub fn of(&self, value: &str) -> Result<String, Collision> {
        let hash = sip_hash_128(self.key, value.as_bytes());
        let shown = hash >> (128 - SHOWN_BITS);
        let hidden = (hash & ((1 << (128 - SHOWN_BITS)) - 1)) as u64;
        let mut pseudonym = PREFIX.to_owned();
        for i in (0..SHOWN_BITS / 5).rev() {
            pseudonym.push(char::from(ALPHABET[(shown >> (5 * i)) as usize & 31]));
        }
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if *met.entry(shown).or_insert(hidden) != hidden {
            return Err(Collision(pseudonym));
        }
        if let Some(table) = &self.table {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            table.insert(pseudonym.clone(), value.to_owned());
        }
        Ok(pseudonym)
    }

    /// Tells keys and kept labels apart without telling the key.
    pub fn fingerprint(&self) -> String {
        let text = format!("fingerprint of the key\n{}", self.kept.join("\n"));
        format!("{:032x}", sip_hash_128(self.key, text.as_bytes()))
    }

    /// How many values got one.
    pub fn len(&self) -> usize {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none did.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What each pseudonym stands for, if that was remembered.
    pub fn table(&self) -> BTreeMap<String, String> {
        self.table
            .as_ref()
            .map(|t| t.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }
}

/// SipHash-2-4 with 128 bits; bytes of the result in the order of the reference's output, the first one highest.
fn sip_hash_128(key: [u8; 16], bytes: &[u8]) -> u128 {
    let word = |b: &[u8]| {
        let mut word = [0; 8];
        word[..b.len()].copy_from_slice(b);
        u64::from_le_bytes(word)
    };
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let parts = bytes.chunks_exact(8);
    let last = word(parts.remainder()) | (bytes.len() as u64) << 56;
    for m in parts.map(word).chain([last]) {
        v[3] ^= m;
        rounds(&mut v, 2);
        v[0] ^= m;
    }
    v[2] ^= 0xee;
    rounds(&mut v, 4);
    let first = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(&mut v, 4);
    let second = v[0] ^ v[1] ^ v[2] ^ v[3];
    u128::from(first.swap_bytes()) << 64 | u128::from(second.swap_bytes())
}

fn rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's `vectors_sip128`.
    #[test]
    fn the_hash_is_the_reference_s() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let input: Vec<u8> = (0..64).collect();
        for (len, want) in [
            (0, "a3817f04ba25a8e66df67214c7550293"),
            (1, "da87c1d86b99af44347659119b22fc45"),
            (2, "8177228da4a45dc7fca38bdef60affe4"),
        ] {
            assert_eq!(format!("{:032x}", sip_hash_128(key, &input[..len])), want, "{len}");
        }
    }

    #[test]
    fn a_pseudonym_is_the_key_s_and_the_value_s() {
        let kept = || vec!["le".to_owned()];
        let a = Pseudonyms::new([1; 16], kept(), true);
        let again = Pseudonyms::new([1; 16], kept(), false);
        let other = Pseudonyms::new([2; 16], kept(), false);
        let p = a.of("host-1").unwrap();
        assert_eq!(a.of("host-1").unwrap(), p);
        assert_eq!(again.of("host-1").unwrap(), p);
        assert_ne!(other.of("host-1").unwrap(), p);
        assert_ne!(a.of("host-2").unwrap(), p);
        assert_eq!(p.len(), PREFIX.len() + 16);
        assert_eq!((a.len(), again.len()), (2, 1));
        assert_eq!(a.table().get(&p).map(String::as_str), Some("host-1"));
        assert!(again.table().is_empty());
        assert!(a.keeps("le") && !a.keeps("job"));
    }

    #[test]
    fn another_value_behind_the_same_pseudonym_is_refused() {
        let p = Pseudonyms::new([1; 16], Vec::new(), false);
        let shown = sip_hash_128([1; 16], b"x") >> (128 - SHOWN_BITS);
        p.met.lock().unwrap().insert(shown, u64::MAX);
        assert!(p.of("x").is_err());
    }
}
