//! How much may happen beside what happens anyway: one number of permits for all groups, taken without waiting.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of permits.
#[derive(Debug)]
pub(crate) struct Permits {
    free: AtomicUsize,
}

/// One permit; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    of: &'a Permits,
}

impl Permits {
    /// So many.
    pub(crate) fn new(count: usize) -> Self {
        Self { free: AtomicUsize::new(count) }
    }

    /// One of them, if one is free.
    pub(crate) fn try_take(&self) -> Option<Permit<'_>> {
        let less = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).ok().map(|_| Permit { of: self })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.of.free.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_permits_are_out_than_there_are() {
        let permits = Permits::new(2);
        let (first, second) = (permits.try_take(), permits.try_take());
        assert!(first.is_some() && second.is_some() && permits.try_take().is_none());
        drop(first);
        let third = permits.try_take();
        assert!(third.is_some() && permits.try_take().is_none());
        assert!(Permits::new(0).try_take().is_none());
        // Also of a thread that panics.
        let panics = || {
            let _second = second;
            panic!("as it is told");
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert!(permits.try_take().is_some());
    }
}
