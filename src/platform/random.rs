//! Random numbers: the system's for seeds and identifiers, a small seeded generator for everything that must repeat.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::file::FileError;

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// If the system has none to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), FileError>;
}

/// The system's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), FileError> {
        let path = Path::new("/dev/urandom");
        let wrap = |e| FileError::new("read", path, e);
        File::open(path).map_err(wrap)?.read_exact(bytes).map_err(wrap)
    }
}

/// Random bytes that are the same for the same seed.
#[derive(Debug)]
pub struct SeededRandom(Mutex<Generator>);

impl SeededRandom {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Generator::new(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), FileError> {
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&generator.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

/// A fast generator (SplitMix64) that gives the same numbers for the same seed; no secrets from it.
#[derive(Clone, Debug)]
pub struct Generator(u64);

impl Generator {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_known_numbers() {
        let mut generator = Generator::new(0);
        assert_eq!(generator.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(generator.next(), 0x6e78_9e6a_a1b9_65f4);
        let mut bytes = [0; 11];
        SeededRandom::new(0).fill(&mut bytes).unwrap();
        assert_eq!(bytes, [0xaf, 0xcd, 0x1d, 0x7b, 0x39, 0xa8, 0x20, 0xe2, 0xf4, 0x65, 0xb9]);
    }

    #[test]
    fn numbers_stay_below_their_end_and_reach_all() {
        let mut generator = Generator::new(7);
        let mut met = [0; 10];
        for _ in 0..1000 {
            met[generator.below(10) as usize] += 1;
        }
        assert!(met.iter().all(|n| (50..200).contains(n)), "{met:?}");
        assert_eq!((generator.below(0), generator.below(1), generator.one_in(1)), (0, 0, true));
    }

    #[test]
    fn the_system_gives_others_each_time() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemRandom.fill(&mut a).unwrap();
        SystemRandom.fill(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
