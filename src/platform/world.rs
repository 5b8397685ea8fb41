//! What making files with names of their own needs of the outside: a disk, a clock, random bytes.

use std::fmt;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::disk::Disk;
use crate::random::{Random, SystemRandom};
use crate::real::RealDisk;

/// The outside world, or a test's.
#[derive(Clone)]
pub struct World {
    /// Where files are written.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where identifiers come from.
    pub random: Arc<dyn Random>,
}

impl World {
    /// The machine's own.
    pub fn real() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("disk", &self.disk).finish_non_exhaustive()
    }
}
