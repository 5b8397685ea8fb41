//! What can stop a query from outside: a deadline, an interrupt, a memory budget in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Why a query was stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The deadline has passed.
    #[error("query timed out in {stage}")]
    Timeout {
        /// What was being done, in upstream's words (`expression evaluation`).
        stage: &'static str,
    },
    /// The user interrupted.
    #[error("query was canceled in {stage}")]
    Canceled {
        /// What was being done.
        stage: &'static str,
    },
    /// The memory budget does not suffice.
    #[error(
        "query needs more memory than allowed: {what} asks for {asked} bytes, {used} of {limit} bytes are in use; raise --memory-budget, or narrow the selectors or the time range"
    )]
    Memory {
        /// What wanted the memory.
        what: &'static str,
        /// Bytes wanted.
        asked: u64,
        /// Bytes in use.
        used: u64,
        /// The budget.
        limit: u64,
    },
}

/// A flag that a signal handler may set.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks the query to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes a query may hold; clones share the account.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Account { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0) }))
    }

    /// A budget that only counts.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Takes `bytes` for `what`.
    ///
    /// # Errors
    /// If that would pass the limit; nothing is taken then.
    pub fn take(&self, what: &'static str, bytes: usize) -> Result<(), ControlError> {
        let bytes = bytes as u64;
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        if after > self.0.limit {
            self.0.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(ControlError::Memory { what, asked: bytes, used: before, limit: self.0.limit });
        }
        self.0.peak.fetch_max(after, Ordering::Relaxed);
        Ok(())
    }

    /// Gives `bytes` back.
    pub fn give(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Most bytes that were in use at once.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// The limit in bytes, `u64::MAX` for none.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }
}

/// Everything that can stop a query; cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Control {
    /// Set by ctrl-C.
    pub interrupt: Interrupt,
    /// Memory account.
    pub budget: Budget,
    deadline: Option<Instant>,
}

impl Default for Control {
    fn default() -> Self {
        Self { interrupt: Interrupt::default(), budget: Budget::unlimited(), deadline: None }
    }
}

impl Control {
    /// A control with a deadline `timeout` from now (`None`: never) and a budget.
    pub fn new(interrupt: Interrupt, budget: Budget, timeout: Option<Duration>) -> Self {
        Self { interrupt, budget, deadline: timeout.and_then(|t| Instant::now().checked_add(t)) }
    }

    /// Asks whether to go on.
    ///
    /// # Errors
    /// If the deadline has passed or the query was interrupted.
    pub fn check(&self, stage: &'static str) -> Result<(), ControlError> {
        if self.interrupt.is_set() {
            return Err(ControlError::Canceled { stage });
        }
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            return Err(ControlError::Timeout { stage });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_refuses_the_byte_above_its_limit() {
        let b = Budget::new(10);
        b.take("columns", 10).unwrap();
        assert!(matches!(
            b.take("columns", 1),
            Err(ControlError::Memory { asked: 1, used: 10, limit: 10, .. })
        ));
        b.give(4);
        b.take("columns", 4).unwrap();
        assert_eq!(b.peak(), 10);
    }
}
