//! Appenders that bring samples of the same series at the same time: what was stored is there after loading, although the
//! log and the memory were written by several threads.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::select::LiveQuerier;
use tsdbctl_head::live::{Appender, Head, LiveOptions};
use tsdbctl_model::sample::Exemplar;
use tsdbctl_model::{Histogram, Labels, SymbolTable};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{Control, Querier, ReadStats, SelectHints, TimeFilter};
use tsdbctl_wal::SyncPolicy;

fn open(dir: &Path, window_ms: i64) -> Arc<Head> {
    let mut options =
        LiveOptions { out_of_order_window_ms: window_ms, max_exemplars: 1000, ..LiveOptions::default() };
    options.log.sync = SyncPolicy::Os;
    Head::open(Arc::new(RealDisk), dir, options, i64::MIN, &Control::default()).unwrap().0
}

fn samples(head: &Arc<Head>) -> BTreeMap<String, Vec<i64>> {
    let querier = LiveQuerier::new(Arc::clone(head), i64::MIN, i64::MAX);
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
    let set = querier.select(&hints, &[], &mut symbols, &Control::default()).unwrap();
    let mut found = BTreeMap::new();
    for i in 0..set.len() {
        let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
        set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
        let mut times = columns.floats.t;
        times.extend(columns.histograms.t);
        times.sort_unstable();
        found.insert(symbols.labels(set.labels(i)).to_string(), times);
    }
    found
}

#[test]
fn what_was_stored_is_there_after_loading() {
    for window_ms in [0, 1_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), window_ms);
        let next = AtomicI64::new(1);
        let stored = AtomicI64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut appender = Appender::new(Arc::clone(&head));
                    for _ in 0..100 {
                        let t = next.fetch_add(1, Ordering::Relaxed);
                        for i in 0..700 {
                            let name = format!("m{i}");
                            let labels = [("__name__", name.as_str())];
                            let id = appender.series(labels.into_iter()).unwrap();
                            // One that is late already is refused or goes out of order.
                            if i % 7 == 3 {
                                let count = t as u64;
                                let h = Histogram { count, zero_count: count, ..Histogram::default() };
                                let _ = appender.append_histogram(id, t, &h, 0);
                            } else {
                                let _ = appender.append_float(id, t, t as f64, 0);
                            }
                            if i == 0 {
                                let labels = Labels::empty();
                                let exemplar = Exemplar { labels, value: t as f64, timestamp_ms: t };
                                let _ = appender.append_exemplar(id, &exemplar);
                            }
                        }
                        let done = appender.commit().unwrap();
                        stored.fetch_add(done.stored as i64, Ordering::Relaxed);
                    }
                });
            }
        });
        let before = samples(&head);
        assert_eq!(before.values().map(Vec::len).sum::<usize>() as i64, stored.into_inner());
        let exemplars = |head: &Head| -> Vec<i64> {
            let found = head.exemplars_in(i64::MIN, i64::MAX, |_| true);
            found.iter().flat_map(|(_, list)| list.iter().map(|e| e.timestamp_ms)).collect()
        };
        let with_exemplars = exemplars(&head);
        assert!(with_exemplars.len() > 50);
        // As a killed process leaves it.
        drop(head);
        let head = open(dir.path(), window_ms);
        assert_eq!(exemplars(&head), with_exemplars);
        let after = samples(&head);
        for (name, times) in &before {
            let lost: Vec<_> = times.iter().filter(|t| after[name].binary_search(t).is_err()).collect();
            assert!(lost.is_empty(), "window {window_ms}: {name} lost {lost:?} of {}", times.len());
        }
    }
}

#[test]
fn what_a_commit_stored_is_seen_by_who_looks_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), 0);
    // A commit of somebody else that takes its time.
    let other = head.isolation.begin_commit();
    std::thread::scope(|scope| {
        let (told, done) = std::sync::mpsc::channel();
        let committed = Arc::clone(&head);
        scope.spawn(move || {
            let mut appender = Appender::new(Arc::clone(&committed));
            let id = appender.series([("__name__", "a")].into_iter()).unwrap();
            appender.append_float(id, 1, 1.0, 0).unwrap();
            appender.commit().unwrap();
            told.send(samples(&committed)).unwrap();
        });
        let early = done.recv_timeout(std::time::Duration::from_millis(50)).ok();
        head.isolation.finish_commit(other);
        let seen = early.unwrap_or_else(|| done.recv().unwrap());
        assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 1, "{seen:?}");
    });
}
