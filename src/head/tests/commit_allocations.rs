//! What a commit asks the allocator for: nothing, once its buffers have grown.

#![allow(
    clippy::disallowed_methods,
    unsafe_code,
    reason = "tests make their own files, and count allocations"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use tsdbctl_head::live::{Appender, Head, LiveOptions, SeriesId};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::Control;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's allocator does it all; only a number of this thread is changed beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn commits_in_the_steady_state_allocate_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) =
        Head::open(Arc::new(RealDisk), dir.path(), LiveOptions::default(), i64::MIN, &Control::default())
            .unwrap();
    let mut appender = Appender::new(Arc::clone(&head));
    let ids: Vec<SeriesId> = (0..500)
        .map(|i| appender.series([("__name__", "m"), ("i", i.to_string().as_str())].into_iter()).unwrap())
        .collect();
    let mut samples = Vec::new();
    let mut counts = Vec::new();
    for n in 0..100i64 {
        samples.clear();
        samples.extend(ids.iter().map(|id| (*id, n * 15_000, (n * n) as f64)));
        let before = ALLOCATIONS.get();
        appender.append_floats(&samples, |i, refusal| panic!("{i}: {refusal}"));
        let done = appender.commit().unwrap();
        counts.push(ALLOCATIONS.get() - before);
        assert_eq!(done.stored, 500);
        appender.wait(&done).unwrap();
    }
    // Where samples lie grows now and then.
    let none = counts[20..].iter().filter(|n| **n == 0).count();
    let total: u64 = counts[20..].iter().sum();
    assert!(none >= 60 && total <= 80, "{counts:?}");
}
