//! What appenders take and refuse, what of it the log has, and what a reader of the log gets.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::head::LoadReport;
use tsdbctl_head::live::shard::Piece;
use tsdbctl_head::live::{Appender, Committed, Head, LiveOptions, SeriesId};
use tsdbctl_head::{HeadOptions, Metadata, ReadHead};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::{Exemplar, MetricType, stale_nan};
use tsdbctl_model::{FloatHistogram, Histogram, Labels, Matcher, SymbolTable};
use tsdbctl_platform::disk::Disk;
use tsdbctl_platform::faulty::Faulty;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::append::Refusal;
use tsdbctl_storage::{Control, Querier, ReadStats, SelectHints, StorageError, TimeFilter};
use tsdbctl_wal::SegmentReader;
use tsdbctl_wal::record::{
    ExemplarEntry, MarkerEntry, MetadataEntry, SampleEntry, SeriesEntry, TombstoneEntry, Visitor, decode,
};

const HOUR: i64 = 3_600_000;

fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: LiveOptions) -> Arc<Head> {
    let (head, report): (Arc<Head>, LoadReport) =
        Head::open(disk, dir, options, i64::MIN, &Control::default()).unwrap();
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    head
}

fn open(dir: &Path, options: LiveOptions) -> Arc<Head> {
    open_on(Arc::new(RealDisk), dir, options)
}

fn window(out_of_order_window_ms: i64) -> LiveOptions {
    LiveOptions { out_of_order_window_ms, ..LiveOptions::default() }
}

fn series(appender: &mut Appender, name: &str) -> SeriesId {
    appender.series([("__name__", name), ("job", "test")].into_iter()).unwrap()
}

fn histogram(count: u64) -> Histogram {
    Histogram {
        schema: 1,
        count,
        sum: count as f64,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Histogram::default()
    }
}

fn float_histogram(count: f64) -> FloatHistogram {
    FloatHistogram {
        schema: 1,
        count,
        sum: count,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![count],
        ..FloatHistogram::default()
    }
}

/// What Prometheus would find after a restart: times with values (the sums of histograms) by name.
fn replayed(dir: &Path) -> BTreeMap<String, Vec<(i64, f64)>> {
    let control = Control::default();
    let Some(head) = ReadHead::open(dir, &HeadOptions::default(), &control).unwrap() else {
        return BTreeMap::new();
    };
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..Default::default() };
    let set = head.select(&hints, &[], &mut symbols, &control).unwrap();
    (0..set.len())
        .map(|i| {
            let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
            set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
            (symbols.labels(set.labels(i)).get("__name__").to_string(), flat(&columns))
        })
        .collect()
}

fn flat(columns: &SampleColumns) -> Vec<(i64, f64)> {
    let f = columns.floats.t.iter().copied().zip(columns.floats.v.iter().copied());
    let h = columns.histograms.t.iter().copied().zip(columns.histograms.h.iter().map(|h| h.sum));
    let mut all: Vec<(i64, f64)> = f.chain(h).collect();
    all.sort_by_key(|(t, _)| *t);
    all
}

/// Samples of a series in memory and in chunk files that a reader sees, times once each.
fn in_memory(head: &Head, id: SeriesId, visible: u64) -> Vec<(i64, f64)> {
    let mut pieces = Vec::new();
    head.shard_of(id).lock().unwrap().pieces(id, i64::MIN, i64::MAX, visible, &mut pieces);
    let mut all = BTreeMap::new();
    for piece in pieces {
        let (encoding, data, hidden) = match piece {
            Piece::Mapped { place, .. } => {
                let chunk = head.files.read(place).unwrap();
                (chunk.encoding, chunk.data, 0)
            }
            Piece::Memory { chunk, hidden, .. } => (chunk.encoding, chunk.data, hidden),
        };
        let mut columns = SampleColumns::default();
        tsdbctl_chunk::decode(encoding, &data, i64::MIN, i64::MAX, &mut columns).unwrap();
        let samples = flat(&columns);
        all.extend(samples[..samples.len() - hidden].iter().copied());
    }
    all.into_iter().collect()
}

/// The same of a reader that comes now.
fn visible_now(head: &Head, id: SeriesId) -> Vec<(i64, f64)> {
    in_memory(head, id, head.isolation.view().visible)
}

/// The records of a log as lines, samples by reference.
fn records(dir: &Path) -> Vec<String> {
    struct Lines(Vec<String>);
    impl Visitor for Lines {
        fn series(&mut self, e: SeriesEntry<'_>) {
            let name = e.labels.iter().find(|(n, _)| *n == b"__name__").unwrap().1;
            self.0.push(format!("series {} {}", e.series, String::from_utf8_lossy(name)));
        }
        fn sample(&mut self, e: SampleEntry<f64>) {
            self.0.push(format!("float {} {} {}", e.series, e.timestamp_ms, e.value));
        }
        fn histogram(&mut self, e: SampleEntry<Histogram>) {
            self.0.push(format!("histogram {} {} {}", e.series, e.timestamp_ms, e.value.sum));
        }
        fn float_histogram(&mut self, e: SampleEntry<FloatHistogram>) {
            self.0.push(format!("float histogram {} {} {}", e.series, e.timestamp_ms, e.value.sum));
        }
        fn tombstone(&mut self, e: TombstoneEntry) {
            self.0.push(format!("tombstone {} {} {}", e.series, e.mint, e.maxt));
        }
        fn exemplar(&mut self, e: ExemplarEntry<'_>) {
            self.0.push(format!("exemplar {} {} {}", e.series, e.timestamp_ms, e.value));
        }
        fn marker(&mut self, e: MarkerEntry) {
            self.0.push(format!("marker {} {}", e.series, e.chunk != 0));
        }
        fn metadata(&mut self, e: MetadataEntry<'_>) {
            self.0.push(format!("metadata {} {}", e.series, e.metric_type));
        }
    }
    let mut lines = Lines(Vec::new());
    let Ok(files) = std::fs::read_dir(dir) else { return lines.0 };
    let mut paths: Vec<_> = files.map(|f| f.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.file_name().unwrap().to_str().unwrap().parse::<u32>().is_ok()) {
        let bytes = std::fs::read(path).unwrap();
        let mut reader = SegmentReader::new(&bytes, 0);
        let mut record = Vec::new();
        while reader.next_into(&mut record).unwrap() {
            decode(&record, &mut lines).unwrap();
            record.clear();
        }
    }
    lines.0
}

fn is_full(error: &StorageError) -> bool {
    matches!(error, StorageError::File(e) if e.cause.kind() == std::io::ErrorKind::StorageFull)
}

#[test]
fn floats_go_in_and_come_back_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let mut appender = Appender::new(Arc::clone(&head));
    let ids: Vec<SeriesId> = (0..1000).map(|i| series(&mut appender, &format!("m{i:04}"))).collect();
    for scrape in 0..300i64 {
        let samples: Vec<_> =
            ids.iter().map(|id| (*id, scrape * 15_000, f64::from(id.0) + scrape as f64)).collect();
        appender.append_floats(&samples, |i, refusal| panic!("{i}: {refusal}"));
        let done = appender.commit().unwrap();
        assert_eq!((done.stored, done.same, done.refused.total()), (1000, 0, 0));
        assert!(appender.is_empty());
        if scrape % 100 == 0 {
            appender.wait(&done).unwrap();
        }
    }
    assert_eq!(
        (head.min_time.load(Ordering::SeqCst), head.max_time.load(Ordering::SeqCst)),
        (0, 299 * 15_000)
    );
    let visible = head.isolation.view().visible;
    for id in [ids[0], ids[255], ids[256], ids[999]] {
        let want: Vec<_> = (0..300).map(|s| (s * 15_000, f64::from(id.0) + s as f64)).collect();
        assert_eq!(in_memory(&head, id, visible), want, "{id:?}");
    }
    head.close().unwrap();
    let found = replayed(dir.path());
    assert_eq!(found.len(), 1000);
    assert!(found.values().all(|samples| samples.len() == 300));
    assert_eq!(found["m0007"][299], (299 * 15_000, f64::from(ids[7].0) + 299.0));
}

/// Offers one sample to a series that has those before it; each stands in its own commit.
fn offered(
    options: LiveOptions,
    min_valid: i64,
    before: &[(&str, i64, f64)],
    (name, t, v): (&str, i64, f64),
) -> Result<Committed, Refusal> {
    let dir = tempfile::tempdir().unwrap();
    let (head, _) =
        Head::open(Arc::new(RealDisk), dir.path(), options, min_valid, &Control::default()).unwrap();
    let mut appender = Appender::new(head);
    for (name, t, v) in before {
        let id = series(&mut appender, name);
        appender.append_float(id, *t, *v, 0).unwrap();
        appender.commit().unwrap();
    }
    let id = series(&mut appender, name);
    appender.append_float(id, t, v, 0)?;
    Ok(appender.commit().unwrap())
}

#[test]
fn each_sample_is_refused_in_its_class() {
    use Refusal::*;
    let none = i64::MIN;
    let at = 10 * HOUR;
    let one: &[(&str, i64, f64)] = &[("a", at, 1.0)];
    let other: &[(&str, i64, f64)] = &[("a", at - 600_000, 1.0), ("b", at, 1.0)];
    type Case<'a> = (i64, i64, &'a [(&'a str, i64, f64)], (&'a str, i64, f64), Result<u64, Refusal>);
    let cases: &[Case<'_>] = &[
        // Window, blocks' end, before, the sample, stored out of order or refused.
        (0, none, &[], ("a", at, 1.0), Ok(0)),
        (0, at, &[], ("a", at, 1.0), Ok(0)),
        (0, at, &[], ("a", at - 1, 1.0), Err(OutOfBounds)),
        (0, none, one, ("a", at + 1, 1.0), Ok(0)),
        (0, none, one, ("a", at, 1.0), Ok(0)),
        (0, none, one, ("a", at, 2.0), Err(Duplicate)),
        (0, none, one, ("a", at - 1, 1.0), Err(OutOfOrder)),
        (0, none, one, ("a", at - HOUR, 1.0), Err(OutOfOrder)),
        (0, none, one, ("a", at - HOUR - 1, 1.0), Err(OutOfBounds)),
        // Another series in the same head may come behind, by half a chunk range.
        (0, none, one, ("b", at - HOUR, 1.0), Ok(0)),
        (0, none, one, ("b", at - HOUR - 1, 1.0), Err(OutOfBounds)),
        (0, at - 5, one, ("b", at - 5, 1.0), Ok(0)),
        (0, at - 5, one, ("b", at - 6, 1.0), Err(OutOfBounds)),
        (0, at - 5, one, ("a", at - 6, 1.0), Err(OutOfBounds)),
        // With a window the class is another, and the time is counted from the head's newest sample.
        (HOUR, none, one, ("a", at - 1, 1.0), Ok(1)),
        (HOUR, none, one, ("a", at - HOUR, 1.0), Ok(1)),
        (HOUR, none, one, ("a", at - HOUR - 1, 1.0), Err(TooOld)),
        (HOUR, none, one, ("a", at, 2.0), Err(Duplicate)),
        (600_000, none, other, ("a", at - 600_000, 1.0), Ok(0)),
        (600_000, none, other, ("a", at - 600_000, 2.0), Err(Duplicate)),
        (600_000, none, other, ("a", at - 600_001, 1.0), Err(TooOld)),
        (700_000, none, other, ("a", at - 700_000, 1.0), Ok(1)),
        // A series without samples goes in order where bounds allow, else out of order.
        (2 * HOUR, none, one, ("b", at - HOUR, 1.0), Ok(0)),
        (2 * HOUR, none, one, ("b", at - HOUR - 1, 1.0), Ok(1)),
        (2 * HOUR, none, one, ("b", at - 2 * HOUR, 1.0), Ok(1)),
        (2 * HOUR, none, one, ("b", at - 2 * HOUR - 1, 1.0), Err(TooOld)),
        (HOUR, at - 5, one, ("b", at - 6, 1.0), Ok(1)),
        // Bits decide what is the same.
        (0, none, &[("a", at, 0.0)], ("a", at, -0.0), Err(Duplicate)),
    ];
    for (window_ms, min_valid, before, sample, want) in cases {
        let got = offered(window(*window_ms), *min_valid, before, *sample);
        assert_eq!(got.map(|done| done.out_of_order), *want, "{window_ms} {min_valid} {before:?} {sample:?}");
    }
    let nan = offered(window(0), none, &[("a", at, f64::NAN)], ("a", at, f64::NAN)).unwrap();
    assert_eq!((nan.stored, nan.same), (0, 1));
}

#[test]
fn the_first_sample_sets_the_heads_time_whatever_becomes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let mut appender = Appender::new(Arc::clone(&head));
    let a = series(&mut appender, "a");
    appender.append_float(a, 10 * HOUR, 1.0, 0).unwrap();
    appender.rollback();
    assert_eq!(head.max_time.load(Ordering::SeqCst), 10 * HOUR);
    assert_eq!(appender.append_float(a, 9 * HOUR - 1, 1.0, 0), Err(Refusal::OutOfBounds));
    assert_eq!(appender.append_float(a, 9 * HOUR, 1.0, 0), Ok(()));
}

#[test]
fn labels_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut appender = Appender::new(open(dir.path(), LiveOptions::default()));
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[], false),
        (&[("a", "")], false),
        (&[("", "x")], false),
        (&[("a", "1"), ("a", "2")], false),
        (&[("b", "1"), ("a", "2")], false),
        (&[("a", "1"), ("b", "")], true),
        (&[("a", "1")], true),
        (&[("ü", "1")], true),
    ];
    for (labels, ok) in cases {
        let got = appender.series(labels.iter().copied());
        assert_eq!(got.is_ok(), *ok, "{labels:?}");
        assert!(*ok || got == Err(Refusal::InvalidLabels));
    }
    // An empty value is as good as none.
    let pairs = [("a", "1")];
    let (id, same) = (
        appender.series(pairs.into_iter()).unwrap(),
        appender.series([("a", "1"), ("b", "")].into_iter()).unwrap(),
    );
    assert_eq!(id, same);
    assert_eq!(appender.labels(id), Labels::from_pairs(pairs));
    assert_eq!(appender.append_float(SeriesId(77), 1, 1.0, 0), Err(Refusal::UnknownSeries));
}

#[test]
fn what_clashes_inside_a_batch_shows_at_commit() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let mut appender = Appender::new(Arc::clone(&head));
    let a = series(&mut appender, "a");
    for (t, v) in [(10, 1.0), (20, 2.0), (15, 3.0), (20, 2.0), (20, 4.0), (30, 5.0)] {
        appender.append_float(a, t, v, 0).unwrap();
    }
    assert_eq!(appender.len(), 6);
    let done = appender.commit().unwrap();
    assert_eq!((done.stored, done.same), (3, 1));
    assert_eq!((done.refused.get(Refusal::OutOfOrder), done.refused.get(Refusal::Duplicate)), (1, 1));
    head.close().unwrap();
    // The log has them all; replay takes what is in order.
    assert_eq!(records(&dir.path().join("wal")).len(), 7);
    assert_eq!(replayed(dir.path())["a"], [(10, 1.0), (20, 2.0), (30, 5.0)]);
}

#[test]
fn records_stand_in_upstreams_order_and_kinds_in_the_order_of_samples() {
    let dir = tempfile::tempdir().unwrap();
    let options = LiveOptions { max_exemplars: 10, metadata_records: true, ..LiveOptions::default() };
    let head = open(dir.path(), options);
    let mut appender = Appender::new(Arc::clone(&head));
    let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
    let exemplar = |t| Exemplar { labels: Labels::from_pairs([("id", "x")]), value: 0.5, timestamp_ms: t };
    appender.append_exemplar(a, &exemplar(1)).unwrap();
    appender.append_histogram(a, 1, &histogram(1), 0).unwrap();
    appender.append_float(b, 1, 2.0, 0).unwrap();
    appender.append_float_histogram(b, 2, &float_histogram(3.0), 0).unwrap();
    appender.set_metadata(a, MetricType::Histogram, "s", "Help.");
    appender.append_float(a, 2, 4.0, 0).unwrap();
    appender.append_float_histogram(a, 3, &float_histogram(5.0), 0).unwrap();
    let custom = Histogram {
        schema: -53,
        count: 6,
        sum: 6.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![6],
        custom_values: Some(vec![1.0].into()),
        ..Histogram::default()
    };
    appender.append_histogram(b, 3, &custom, 0).unwrap();
    let done = appender.commit().unwrap();
    assert_eq!((done.stored, done.exemplars, done.refused.total()), (6, 1, 0));
    // Once known, metadata is not logged again.
    appender.set_metadata(a, MetricType::Histogram, "s", "Help.");
    assert_eq!(appender.commit().unwrap(), Committed::default());
    head.close().unwrap();
    assert_eq!(
        records(&dir.path().join("wal")),
        [
            "series 1 a",
            "series 2 b",
            "metadata 1 3",
            "float 2 1 2",
            "histogram 1 1 1",
            "float histogram 2 2 3",
            "exemplar 1 1 0.5",
            "float 1 2 4",
            "histogram 2 3 6",
            "float histogram 1 3 5",
        ]
    );
    let found = replayed(dir.path());
    assert_eq!(found["a"], [(1, 1.0), (2, 4.0), (3, 5.0)]);
    assert_eq!(found["b"], [(1, 2.0), (2, 3.0), (3, 6.0)]);
    assert_eq!(visible_now(&head, a), found["a"]);
    assert_eq!(visible_now(&head, b), found["b"]);
    let known = ReadHead::open(dir.path(), &HeadOptions::default(), &Control::default()).unwrap().unwrap();
    let metadata = Metadata { kind: MetricType::Histogram, unit: "s".into(), help: "Help.".into() };
    assert_eq!(known.metadata(), [(Labels::from_pairs([("__name__", "a"), ("job", "test")]), metadata)]);
}

#[test]
fn a_stale_marker_takes_the_kind_of_its_series() {
    for in_one_batch in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), LiveOptions::default());
        let mut appender = Appender::new(Arc::clone(&head));
        let ids = ["f", "h", "fh"].map(|name| series(&mut appender, name));
        appender.append_float(ids[0], 1, 1.0, 0).unwrap();
        appender.append_histogram(ids[1], 1, &histogram(2), 0).unwrap();
        appender.append_float_histogram(ids[2], 1, &float_histogram(3.0), 0).unwrap();
        if !in_one_batch {
            appender.commit().unwrap();
        }
        for id in ids {
            appender.append_float(id, 2, stale_nan(), 0).unwrap();
        }
        let done = appender.commit().unwrap();
        assert_eq!((done.stored, done.refused.total()), (if in_one_batch { 6 } else { 3 }, 0));
        for id in ids {
            let mut pieces = Vec::new();
            head.shard_of(id).lock().unwrap().pieces(
                id,
                i64::MIN,
                i64::MAX,
                head.isolation.view().visible,
                &mut pieces,
            );
            assert_eq!(pieces.len(), 1, "no chunk was cut for the marker of {id:?}");
            assert_eq!(visible_now(&head, id)[1].1.to_bits(), stale_nan().to_bits());
        }
        head.close().unwrap();
        for samples in replayed(dir.path()).values() {
            assert_eq!((samples.len(), samples[1].1.to_bits()), (2, stale_nan().to_bits()));
        }
    }
}

#[test]
fn histograms_are_checked_and_too_fine_ones_reduced() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let mut appender = Appender::new(Arc::clone(&head));
    let a = series(&mut appender, "a");
    let wrong = Histogram { count: 7, ..histogram(5) };
    assert_eq!(appender.append_histogram(a, 1, &wrong, 0), Err(Refusal::InvalidHistogram));
    assert_eq!(
        appender.append_float_histogram(a, 1, &FloatHistogram { count: -1.0, ..float_histogram(5.0) }, 0),
        Err(Refusal::InvalidHistogram)
    );
    assert_eq!(
        appender.append_histogram(a, 1, &Histogram { schema: 60, ..histogram(1) }, 0),
        Err(Refusal::InvalidHistogram)
    );
    appender.append_histogram(a, 1, &Histogram { schema: 9, ..histogram(5) }, 0).unwrap();
    appender.append_float_histogram(a, 2, &FloatHistogram { schema: 10, ..float_histogram(5.0) }, 0).unwrap();
    assert_eq!(appender.commit().unwrap().stored, 2);
    assert_eq!(appender.append_histogram(a, 2, &histogram(5), 0), Err(Refusal::Duplicate));
    assert_eq!(appender.append_float(a, 2, 5.0, 0), Err(Refusal::Duplicate));
    appender.append_float_histogram(a, 2, &FloatHistogram { schema: 8, ..float_histogram(5.0) }, 0).unwrap();
    assert_eq!(appender.commit().unwrap().same, 1);
    head.close().unwrap();
    assert_eq!(replayed(dir.path())["a"], [(1, 5.0), (2, 5.0)]);
}

#[test]
fn who_commits_first_logs_the_series_once() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let (mut a, mut b) = (Appender::new(Arc::clone(&head)), Appender::new(Arc::clone(&head)));
    let id = series(&mut a, "x");
    a.append_float(id, 1, 1.0, 0).unwrap();
    assert_eq!(series(&mut b, "x"), id);
    b.append_float(id, 2, 2.0, 0).unwrap();
    assert_eq!(b.commit().unwrap().stored, 1);
    let late = a.commit().unwrap();
    assert_eq!((late.stored, late.refused.get(Refusal::OutOfOrder)), (0, 1));
    head.close().unwrap();
    assert_eq!(records(&dir.path().join("wal")), ["series 1 x", "float 1 2 2", "float 1 1 1"]);
}

#[test]
fn no_sample_precedes_its_series_however_appenders_race() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let (threads, rounds, per_round) = (4, 8, 200);
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (head, barrier) = (&head, &barrier);
            scope.spawn(move || {
                let mut appender = Appender::new(Arc::clone(head));
                for round in 0..rounds {
                    barrier.wait();
                    let ids: Vec<_> =
                        (0..per_round)
                            // Half of the series are everybody's, each meets them in its own order.
                            .map(|i| {
                                if i % 2 == 0 {
                                    (i * (thread * 2 + 1)) % per_round
                                } else {
                                    i + thread * 1000
                                }
                            })
                            .map(|i| series(&mut appender, &format!("r{round}i{i}")))
                            .collect();
                    barrier.wait();
                    for id in ids {
                        appender.append_float(id, round as i64, 1.0, 0).unwrap();
                    }
                    barrier.wait();
                    if thread == round % threads {
                        appender.rollback();
                    } else {
                        appender.commit().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(head.open_batches.load(Ordering::SeqCst), 0);
    let count = head.index.read().unwrap().len();
    for id in 0..count as u32 {
        let shard = head.shard_of(SeriesId(id)).lock().unwrap();
        assert_eq!(shard.record(SeriesId(id)).unwrap().pending, 0);
    }
    head.close().unwrap();
    let (mut known, mut names) = (BTreeSet::new(), BTreeSet::new());
    for line in records(&dir.path().join("wal")) {
        let mut words = line.split(' ');
        let (kind, reference) = (words.next().unwrap(), words.next().unwrap().to_string());
        if kind == "series" {
            assert!(known.insert(reference), "twice: {line}");
            assert!(names.insert(words.next().unwrap().to_string()), "two references: {line}");
        } else {
            assert!(known.contains(&reference), "before its series: {line}");
        }
    }
    assert_eq!(known.len(), count);
}

#[test]
fn rollback_keeps_and_logs_series_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let mut appender = Appender::new(Arc::clone(&head));
    let a = series(&mut appender, "a");
    appender.append_float(a, 1, 1.0, 0).unwrap();
    appender.append_histogram(a, 2, &histogram(1), 0).unwrap();
    appender.rollback();
    assert!(appender.is_empty());
    assert_eq!(appender.commit().unwrap(), Committed::default());
    let b = series(&mut appender, "b");
    appender.append_float(b, 5, 1.0, 0).unwrap();
    drop(appender);
    assert_eq!(visible_now(&head, a), []);
    for id in [a, b] {
        assert_eq!(head.shard_of(id).lock().unwrap().record(id).unwrap().pending, 0);
    }
    head.close().unwrap();
    assert_eq!(records(&dir.path().join("wal")), ["series 1 a", "series 2 b"]);
}

#[test]
fn a_full_disk_fails_the_commit_which_can_be_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Arc::new(RealDisk)).only_in("wal");
    let head = open_on(Arc::new(disk.clone()), dir.path(), LiveOptions::default());
    let mut appender = Appender::new(Arc::clone(&head));
    let a = series(&mut appender, "a");
    appender.append_float(a, 1, 1.0, 0).unwrap();
    disk.fill_after(10);
    assert!(is_full(&appender.commit().unwrap_err()));
    assert_eq!((appender.len(), appender.partly()), (1, Committed::default()));
    assert_eq!(visible_now(&head, a), []);
    let b = series(&mut appender, "b");
    appender.append_float(b, 1, 1.0, 0).unwrap();
    // Nobody may ever append to this one: it goes, and the log does not know it.
    let c = series(&mut appender, "c");
    appender.rollback();
    assert_eq!(head.collect_garbage().series, 3);
    assert_eq!((visible_now(&head, c), head.collection.retired_count()), (vec![], 0));
    disk.free();
    let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
    appender.append_float(b, 2, 2.0, 0).unwrap();
    appender.append_float(a, 3, 3.0, 0).unwrap();
    let done = appender.commit().unwrap();
    appender.wait(&done).unwrap();
    head.close().unwrap();
    assert_eq!(
        records(&dir.path().join("wal")),
        ["series 4 a", "series 5 b", "float 5 2 2", "float 4 3 3"],
        "each series once, in front of its first sample"
    );
    assert_eq!(replayed(dir.path())["a"], [(3, 3.0)]);
}

#[test]
fn late_samples_are_in_both_logs_with_markers_in_front() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = window(HOUR);
    options.rules.out_of_order_cap = 4;
    let head = open(dir.path(), options);
    let mut appender = Appender::new(Arc::clone(&head));
    let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
    appender.append_float(a, 1000, 0.0, 0).unwrap();
    appender.append_float(b, 1000, 0.0, 0).unwrap();
    let done = appender.commit().unwrap();
    assert_eq!(done.wbl.0, 0);
    assert!(!dir.path().join("wbl").exists());
    for (id, t) in [(a, 10), (a, 5), (b, 7), (a, 20), (a, 15), (a, 8), (b, 7)] {
        appender.append_float(id, t, t as f64, 0).unwrap();
    }
    let done = appender.commit().unwrap();
    assert_eq!((done.stored, done.out_of_order, done.same), (6, 6, 1));
    appender.wait(&done).unwrap();
    appender.append_histogram(b, 9, &histogram(9), 0).unwrap();
    assert_eq!(appender.commit().unwrap().out_of_order, 1);
    let times = |t: &std::sync::atomic::AtomicI64| t.load(Ordering::SeqCst);
    assert_eq!((times(&head.min_out_of_order_time), times(&head.max_out_of_order_time)), (5, 20));
    assert_eq!((times(&head.min_time), times(&head.max_time)), (1000, 1000));
    head.close().unwrap();
    assert_eq!(records(&dir.path().join("wal")).len(), 2 + 2 + 7 + 1);
    assert_eq!(
        records(&dir.path().join("wbl")),
        [
            "marker 1 false",
            "marker 2 false",
            "float 1 10 10",
            "float 1 5 5",
            "float 2 7 7",
            "float 1 20 20",
            "float 1 15 15",
            "marker 1 true",
            "float 1 8 8",
            "histogram 2 9 9",
        ]
    );
    let found = replayed(dir.path());
    let floats = |times: &[i64]| -> Vec<(i64, f64)> { times.iter().map(|t| (*t, *t as f64)).collect() };
    assert_eq!(found["a"][..5], floats(&[5, 8, 10, 15, 20]));
    assert_eq!(found["b"][..2], floats(&[7, 9]));
    assert_eq!(visible_now(&head, a)[..5], floats(&[5, 8, 10, 15, 20]));
}

#[test]
fn of_two_late_values_of_a_time_the_first_stays_and_the_second_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), window(HOUR));
    let mut appender = Appender::new(Arc::clone(&head));
    let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
    appender.append_float(a, 1000, 0.0, 0).unwrap();
    appender.append_float(b, 1000, 0.0, 0).unwrap();
    appender.append_float(a, 10, 0.0, 0).unwrap();
    appender.append_histogram(b, 10, &histogram(9), 0).unwrap();
    assert_eq!(appender.commit().unwrap().out_of_order, 2);
    let mut offer = |add: &dyn Fn(&mut Appender)| {
        add(&mut appender);
        let done = appender.commit().unwrap();
        (done.stored, done.same, done.refused.get(Refusal::Duplicate))
    };
    assert_eq!(offer(&|to| to.append_float(a, 10, 0.0, 0).unwrap()), (0, 1, 0));
    assert_eq!(offer(&|to| to.append_float(a, 10, -0.0, 0).unwrap()), (0, 0, 1));
    assert_eq!(offer(&|to| to.append_histogram(b, 10, &histogram(9), 0).unwrap()), (0, 1, 0));
    assert_eq!(offer(&|to| to.append_histogram(b, 10, &histogram(8), 0).unwrap()), (0, 0, 1));
    assert_eq!(offer(&|to| to.append_float(b, 10, 9.0, 0).unwrap()), (0, 0, 1));
    head.close().unwrap();
    assert_eq!(
        records(&dir.path().join("wbl")),
        ["marker 1 false", "marker 2 false", "float 1 10 0", "histogram 2 10 9"]
    );
}

#[test]
fn a_range_is_deleted_behind_what_the_late_log_still_owes() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Arc::new(RealDisk)).only_in("wbl");
    let head = open_on(Arc::new(disk.clone()), dir.path(), window(HOUR));
    let mut appender = Appender::new(Arc::clone(&head));
    let a = series(&mut appender, "a");
    appender.append_float(a, 1000, 0.0, 0).unwrap();
    appender.append_float(a, 10, 1.0, 0).unwrap();
    appender.commit().unwrap();
    appender.append_float(a, 20, 2.0, 0).unwrap();
    disk.fill_after(10);
    assert!(is_full(&appender.commit().unwrap_err()));
    let delete = || head.delete(15, 25, &[Matcher::equal("job", "test")], &Control::default());
    assert!(is_full(&delete().unwrap_err()));
    assert!(head.tombstones.read().unwrap().is_empty());
    disk.free();
    assert_eq!(delete().unwrap(), 1);
    assert_eq!(records(&dir.path().join("wbl")), ["marker 1 false", "float 1 10 1", "float 1 20 2"]);
}

#[test]
fn what_the_late_log_could_not_take_is_not_answered_for_until_it_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new(Arc::new(RealDisk)).only_in("wbl");
    let head = open_on(Arc::new(disk.clone()), dir.path(), window(HOUR));
    let mut appender = Appender::new(Arc::clone(&head));
    let a = series(&mut appender, "a");
    appender.append_float(a, 1000, 0.0, 0).unwrap();
    appender.append_float(a, 10, 1.0, 0).unwrap();
    appender.commit().unwrap();
    let offer = |appender: &mut Appender, t: i64| {
        appender.append_float(a, t, t as f64, 0).unwrap();
        appender.append_float(a, 2000, 0.0, 0).unwrap();
        appender.commit()
    };
    disk.fill_after(10);
    assert!(is_full(&offer(&mut appender, 20).unwrap_err()));
    assert_eq!((appender.len(), appender.partly().stored), (1, 1));
    // It is in memory already, and still not in the log; with it waits what comes now.
    assert!(is_full(&offer(&mut appender, 20).unwrap_err()));
    assert!(is_full(&offer(&mut appender, 30).unwrap_err()));
    disk.free();
    let done = offer(&mut appender, 20).unwrap();
    assert_eq!((done.stored, done.out_of_order, done.same), (3, 2, 5));
    appender.wait(&done).unwrap();
    // Given up, the debt stays, for the close.
    disk.fill_after(10);
    assert!(is_full(&offer(&mut appender, 40).unwrap_err()));
    appender.rollback();
    assert!(appender.is_empty());
    disk.free();
    head.close().unwrap();
    assert_eq!(
        records(&dir.path().join("wbl")),
        ["marker 1 false", "float 1 10 1", "float 1 20 20", "float 1 30 30", "float 1 40 40"]
    );
    // What was in order is stored although the commit failed.
    assert_eq!(
        replayed(dir.path())["a"],
        [(10, 1.0), (20, 20.0), (30, 30.0), (40, 40.0), (1000, 0.0), (2000, 0.0)]
    );
}

#[test]
fn deleted_ranges_are_logged_and_joined() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let mut appender = Appender::new(Arc::clone(&head));
    let control = Control::default();
    let all = [Matcher::equal("job", "test")];
    assert_eq!(head.delete(i64::MIN, i64::MAX, &all, &control).unwrap(), 0);
    let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
    for t in 0..10 {
        appender.append_float(a, t * 10, 1.0, 0).unwrap();
        appender.append_float(b, 1000 + t * 10, 1.0, 0).unwrap();
    }
    appender.commit().unwrap();
    assert_eq!(head.delete(15, 35, &all, &control).unwrap(), 1);
    assert_eq!(head.delete(36, 40, &[Matcher::equal("__name__", "a")], &control).unwrap(), 1);
    assert_eq!(head.delete(1050, i64::MAX, &all, &control).unwrap(), 1);
    assert_eq!(head.delete(100, 999, &all, &control).unwrap(), 0);
    let stones = head.tombstones.read().unwrap();
    assert_eq!((&stones[&a][..], &stones[&b][..]), (&[(15, 40)][..], &[(1050, 1090)][..]));
    head.close().unwrap();
    let stones: Vec<String> =
        records(&dir.path().join("wal")).into_iter().filter(|l| l.starts_with("tombstone")).collect();
    assert_eq!(stones, ["tombstone 1 15 35", "tombstone 1 36 40", "tombstone 2 1050 1090"]);
    let found = replayed(dir.path());
    assert_eq!(found["a"].iter().map(|s| s.0).collect::<Vec<_>>(), [0, 10, 50, 60, 70, 80, 90]);
    assert_eq!(found["b"].len(), 5);
}

#[test]
fn exemplars_are_taken_as_upstream_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let options = LiveOptions { max_exemplars: 3, out_of_order_window_ms: 10, ..LiveOptions::default() };
    let head = open(dir.path(), options);
    let mut appender = Appender::new(Arc::clone(&head));
    let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
    let exemplar = |t, value| Exemplar { labels: Labels::from_pairs([("id", "x")]), value, timestamp_ms: t };
    let mut offer = |id, t, value| {
        appender.append_exemplar(id, &exemplar(t, value))?;
        Ok(appender.commit().unwrap().exemplars)
    };
    let cases = [
        (a, 100, 1.0, Ok(1)),
        (a, 100, 1.0, Ok(0)),
        (a, 100, 0.5, Err(Refusal::OutOfOrderExemplar)),
        (a, 100, 2.0, Ok(1)),
        (a, 90, 2.0, Err(Refusal::OutOfOrderExemplar)),
        (a, 91, 3.0, Ok(1)),
        (SeriesId(99), 91, 3.0, Err(Refusal::UnknownSeries)),
        (b, 5, 9.0, Ok(1)),
    ];
    for (id, t, value, want) in cases {
        assert_eq!(offer(id, t, value), want, "{id:?} {t} {value}");
    }
    let long =
        Exemplar { labels: Labels::from_pairs([("id", "x".repeat(127))]), value: 1.0, timestamp_ms: 200 };
    assert_eq!(appender.append_exemplar(a, &long), Err(Refusal::InvalidLabels));
    let found: Vec<_> = head
        .exemplars_in(0, 1000, |_| true)
        .into_iter()
        .map(|(id, list)| (id, list.iter().map(|e| (e.timestamp_ms, e.value)).collect::<Vec<_>>()))
        .collect();
    // The oldest arrival made room.
    assert_eq!(found, [(a, vec![(91, 3.0), (100, 2.0)]), (b, vec![(5, 9.0)])]);
    assert!(
        head.exemplars_in(0, 1000, |id| id == b).len() == 1 && head.exemplars_in(6, 90, |_| true).is_empty()
    );
}

#[test]
fn a_reader_sees_all_of_a_scrape_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let writers = 3u32;
    let per_scrape = 300u32;
    let scrapes = 60i64;
    let mut first = Appender::new(Arc::clone(&head));
    let ids: Vec<SeriesId> =
        (0..writers * per_scrape).map(|i| series(&mut first, &format!("m{i}"))).collect();
    first.commit().unwrap();
    let running = AtomicBool::new(true);
    let partial: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        let handles: Vec<_> = ids
            .chunks(per_scrape as usize)
            .map(|own| {
                let head = &head;
                scope.spawn(move || {
                    let mut appender = Appender::new(Arc::clone(head));
                    for t in 0..scrapes {
                        let samples: Vec<_> = own.iter().map(|id| (*id, t, t as f64)).collect();
                        appender.append_floats(&samples, |i, refusal| panic!("{i}: {refusal}"));
                        assert_eq!(appender.commit().unwrap().stored, u64::from(per_scrape));
                    }
                })
            })
            .collect();
        for reader in 0..2 {
            let (head, running, partial, ids) = (&head, &running, &partial, &ids);
            scope.spawn(move || {
                while running.load(Ordering::SeqCst) {
                    let view = head.isolation.view();
                    for own in ids.chunks(per_scrape as usize) {
                        let seen: BTreeSet<usize> = own
                            .iter()
                            .step_by(7 + reader)
                            .map(|id| in_memory(head, *id, view.visible).len())
                            .collect();
                        if seen.len() != 1 {
                            partial.lock().unwrap().push(format!("{seen:?} at {}", view.visible));
                        }
                    }
                }
            });
        }
        for handle in handles {
            handle.join().unwrap();
        }
        running.store(false, Ordering::SeqCst);
    });
    assert_eq!(*partial.lock().unwrap(), Vec::<String>::new());
    let view = head.isolation.view();
    assert!(ids.iter().all(|id| in_memory(&head, *id, view.visible).len() == scrapes as usize));
}

#[test]
fn over_the_memory_limit_no_new_series_are_taken_and_old_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = LiveOptions { memory_limit: 1, ..LiveOptions::default() };
    let head = open(dir.path(), options);
    let mut appender = Appender::new(Arc::clone(&head));
    let mut ids = Vec::new();
    let refused = (0..5000).find_map(|i| {
        let name = format!("m{i}");
        match appender.series([("__name__", name.as_str())].into_iter()) {
            Ok(id) => {
                ids.push(id);
                None
            }
            Err(refusal) => Some(refusal),
        }
    });
    assert_eq!(refused, Some(Refusal::Limit));
    for t in 0..200 {
        let samples: Vec<_> = ids.iter().map(|id| (*id, t, t as f64)).collect();
        appender.append_floats(&samples, |i, refusal| panic!("{i}: {refusal}"));
        assert_eq!(appender.commit().unwrap().stored, ids.len() as u64);
    }
    assert_eq!(visible_now(&head, ids[3]).len(), 200);
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A series as the rules have it, without any cleverness.
#[derive(Default)]
struct Model {
    last: Option<(i64, u64)>,
    samples: BTreeMap<i64, f64>,
}

enum Fate {
    InOrder,
    Same,
    Late,
}

impl Model {
    fn judge(&self, t: i64, v: f64, (min_valid, newest, window): (i64, i64, i64)) -> Result<Fate, Refusal> {
        if t >= min_valid {
            match self.last {
                None => return Ok(Fate::InOrder),
                Some((last, _)) if t > last => return Ok(Fate::InOrder),
                Some((last, bits)) if t == last => {
                    return if bits == v.to_bits() { Ok(Fate::Same) } else { Err(Refusal::Duplicate) };
                }
                Some(_) => {}
            }
        }
        match window {
            0 if t < min_valid => Err(Refusal::OutOfBounds),
            0 => Err(Refusal::OutOfOrder),
            _ if t >= newest - window => Ok(Fate::Late),
            _ => Err(Refusal::TooOld),
        }
    }
}

/// What a random run is made of.
#[derive(Clone, Copy, Debug)]
struct Run {
    seed: u64,
    window_ms: i64,
    /// One step in this many closes the head, or leaves it as a killed process does, and opens it again; 0 for none.
    reopen: u64,
    snapshots: bool,
}

fn names(appender: &mut Appender) -> Vec<SeriesId> {
    (0..600).map(|i| series(appender, &format!("m{i:03}"))).collect()
}

/// Random batches of two appenders against the rules, what memory has and what the log has.
fn random_run(run: Run) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = window(run.window_ms);
    options.rules.chunk_range_ms = 100_000;
    options.rules.out_of_order_cap = 5;
    options.snapshot_on_close = run.snapshots;
    let mut head = open(dir.path(), options);
    let mut random = Random(run.seed);
    let mut appenders = [Appender::new(Arc::clone(&head)), Appender::new(Arc::clone(&head))];
    let mut ids = names(&mut appenders[0]);
    let mut models: Vec<Model> = ids.iter().map(|_| Model::default()).collect();
    let mut newest = None::<i64>;
    let mut batches: [Vec<(usize, i64, f64)>; 2] = Default::default();
    let mut bounds = [None, None];
    let mut now = 1_000_000i64;
    // Of two values at one time, one of them late, either may be shown.
    let value = |v: f64| if run.window_ms == 0 { v } else { v.floor() };
    let shown = |samples: &[(i64, f64)]| -> Vec<(i64, f64)> {
        samples.iter().map(|(t, v)| (*t, value(*v))).collect()
    };
    let check = |head: &Head, ids: &[SeriesId], models: &[Model]| {
        for (id, model) in ids.iter().zip(models) {
            let want: Vec<(i64, f64)> = model.samples.iter().map(|(t, v)| (*t, value(*v))).collect();
            assert_eq!(shown(&visible_now(head, *id)), want, "{run:?} {id:?}");
        }
    };
    for _ in 0..4000 {
        let which = random.below(2) as usize;
        if run.reopen > 0 && random.below(run.reopen) == 0 {
            batches.iter_mut().for_each(Vec::clear);
            bounds = [None, None];
            if random.below(2) == 0 {
                appenders.iter_mut().for_each(Appender::rollback);
                head.close().unwrap();
            }
            drop((appenders, head));
            head = open(dir.path(), options);
            appenders = [Appender::new(Arc::clone(&head)), Appender::new(Arc::clone(&head))];
            ids = names(&mut appenders[0]);
            check(&head, &ids, &models);
            let in_order = models.iter().filter_map(|m| m.last).map(|l| l.0).max();
            assert_eq!(head.max_time.load(Ordering::SeqCst), in_order.unwrap_or(i64::MIN), "{run:?}");
            newest = in_order;
            continue;
        }
        match random.below(20) {
            0 => {
                let done = appenders[which].commit().unwrap();
                let mut want = Committed::default();
                let (mut in_order, mut late) = (i64::MIN, 0);
                for (i, t, v) in batches[which].drain(..) {
                    let model = &mut models[i];
                    match model.judge(t, v, bounds[which].unwrap()) {
                        Ok(Fate::InOrder) => {
                            model.last = Some((t, v.to_bits()));
                            model.samples.insert(t, v);
                            in_order = in_order.max(t);
                            want.stored += 1;
                        }
                        Ok(Fate::Same) => want.same += 1,
                        Ok(Fate::Late) => {
                            // Whether it is known as the same or another depends on chunks.
                            want.stored += 1;
                            late += 1;
                            model.samples.entry(t).or_insert(v);
                        }
                        Err(refusal) => want.refused.add(refusal),
                    }
                }
                let clashes = |d: &Committed| d.refused.get(Refusal::Duplicate);
                let clashed = clashes(&done).saturating_sub(clashes(&want)).min(late);
                want.stored -= clashed;
                (0..clashed).for_each(|_| want.refused.add(Refusal::Duplicate));
                assert_eq!((done.stored + done.same, done.refused), (want.stored + want.same, want.refused));
                newest = newest.map(|n| n.max(in_order));
                bounds[which] = None;
            }
            1 if random.below(4) == 0 => {
                appenders[which].rollback();
                batches[which].clear();
                bounds[which] = None;
            }
            _ => {
                now += random.below(300) as i64;
                let i = random.below(600) as usize;
                let back = [0, 0, 0, 5_000, 50_000, 200_000][random.below(6) as usize];
                let t = now - random.below(back + 1) as i64;
                let t = if random.below(8) == 0 { models[i].last.map_or(t, |l| l.0) } else { t };
                // Values depend on the time alone, but for a few.
                let is_last = models[i].last.is_some_and(|l| l.0 == t);
                let v = (t % 977) as f64 + if is_last && random.below(2) == 0 { 0.5 } else { 0.0 };
                newest.get_or_insert(t);
                let bounds =
                    *bounds[which].get_or_insert((newest.unwrap() - 50_000, newest.unwrap(), run.window_ms));
                let got = appenders[which].append_float(ids[i], t, v, 0);
                assert_eq!(got, models[i].judge(t, v, bounds).map(|_| ()), "{run:?}: {i} {t} {v}");
                if got.is_ok() {
                    batches[which].push((i, t, v));
                }
            }
        }
    }
    drop(appenders);
    check(&head, &ids, &models);
    head.close().unwrap();
    let found = replayed(dir.path());
    for (i, model) in models.iter().enumerate() {
        let want: Vec<(i64, f64)> = model.samples.iter().map(|(t, v)| (*t, value(*v))).collect();
        let got = found.get(&format!("m{i:03}")).cloned().unwrap_or_default();
        assert_eq!(shown(&got), want, "{run:?}, series {i}, replayed");
    }
}

#[test]
fn random_batches_of_two_appenders_do_as_the_rules_say() {
    for (seed, window_ms) in [(1, 0), (2, 0), (3, 30_000), (4, 600_000)] {
        random_run(Run { seed, window_ms, reopen: 0, snapshots: false });
    }
}

#[test]
fn a_head_goes_on_where_it_was_closed_or_killed() {
    for (seed, window_ms, snapshots) in
        [(5, 0, false), (6, 30_000, false), (7, 600_000, false), (8, 0, true), (9, 600_000, true)]
    {
        random_run(Run { seed, window_ms, reopen: 400, snapshots });
    }
}

#[test]
fn the_state_file_is_kept_true_where_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal/series_state.json");
    let head = open(dir.path(), LiveOptions::default());
    head.close().unwrap();
    assert!(!path.exists());
    std::fs::write(&path, r#"{"last_series_id":0,"last_wal_segment":0,"clean_shutdown":true}"#).unwrap();
    let head = open(dir.path(), LiveOptions::default());
    let text = || std::fs::read_to_string(&path).unwrap();
    let segment = head.wal.segment();
    let want = |last: u64, clean: bool| {
        format!("{{\"last_series_id\":{last},\"last_wal_segment\":{segment},\"clean_shutdown\":{clean}}}\n")
    };
    assert_eq!(text(), want(0, false));
    let mut appender = Appender::new(Arc::clone(&head));
    for name in ["a", "b"] {
        series(&mut appender, name);
    }
    appender.rollback();
    head.close().unwrap();
    assert_eq!(text(), want(2, true));
}

#[test]
fn start_timestamps_are_logged_where_they_are_stored_and_left_out_elsewhere() {
    for stored in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = window(HOUR);
        options.rules.start_timestamps = stored;
        options.rules.histogram_start_timestamps = stored;
        options.rules.xor2 = stored;
        let head = open(dir.path(), options);
        let mut appender = Appender::new(Arc::clone(&head));
        let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
        appender.append_float(a, 100, 1.0, 50).unwrap();
        appender.append_float(a, 200, 2.0, 0).unwrap();
        appender.append_histogram(b, 100, &histogram(1), 60).unwrap();
        appender.commit().unwrap();
        appender.append_float(a, 150, 3.0, 70).unwrap();
        assert_eq!(appender.commit().unwrap().out_of_order, 1);
        head.close().unwrap();
        let starts = |log: &str| -> Vec<(u64, i64, i64)> {
            struct Starts(Vec<(u64, i64, i64)>);
            impl Visitor for Starts {
                fn sample(&mut self, e: SampleEntry<f64>) {
                    self.0.push((e.series, e.timestamp_ms, e.start_timestamp_ms));
                }
                fn histogram(&mut self, e: SampleEntry<Histogram>) {
                    self.0.push((e.series, e.timestamp_ms, e.start_timestamp_ms));
                }
            }
            let mut found = Starts(Vec::new());
            let bytes = std::fs::read(dir.path().join(log)).unwrap();
            let (mut reader, mut record) = (SegmentReader::new(&bytes, 0), Vec::new());
            while reader.next_into(&mut record).unwrap() {
                decode(&record, &mut found).unwrap();
                record.clear();
            }
            found.0
        };
        let kept = |st: i64| if stored { st } else { 0 };
        assert_eq!(
            starts("wal/00000000"),
            [(1, 100, kept(50)), (1, 200, 0), (2, 100, kept(60)), (1, 150, kept(70))]
        );
        assert_eq!(starts("wbl/00000000"), [(1, 150, kept(70))]);
    }
}

#[test]
fn late_samples_of_racing_appenders_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = window(1000 * HOUR);
    options.rules.out_of_order_cap = 4;
    let head = open(dir.path(), options);
    let mut first = Appender::new(Arc::clone(&head));
    let ids: Vec<SeriesId> = (0..300).map(|i| series(&mut first, &format!("m{i:03}"))).collect();
    for id in &ids {
        first.append_float(*id, 1000 * HOUR, 0.0, 0).unwrap();
    }
    first.commit().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3i64 {
            let (head, ids) = (&head, &ids);
            scope.spawn(move || {
                let mut appender = Appender::new(Arc::clone(head));
                let mut random = Random(thread as u64);
                for round in 0..30 {
                    for _ in 0..100 {
                        let id = ids[random.below(ids.len() as u64) as usize];
                        let t = random.below(900) as i64 * HOUR + round * 3 + thread;
                        appender.append_float(id, t, t as f64, 0).unwrap();
                    }
                    let done = appender.commit().unwrap();
                    assert_eq!(done.stored + done.same, 100);
                    appender.wait(&done).unwrap();
                }
            });
        }
    });
    let before: Vec<_> = ids.iter().map(|id| visible_now(&head, *id)).collect();
    assert!(before.iter().map(Vec::len).sum::<usize>() > 9000);
    // As a killed process leaves it.
    drop((first, head));
    let head = open(dir.path(), options);
    let mut appender = Appender::new(Arc::clone(&head));
    let after: Vec<_> =
        (0..300).map(|i| visible_now(&head, series(&mut appender, &format!("m{i:03}")))).collect();
    assert_eq!(after, before);
    head.close().unwrap();
    let found = replayed(dir.path());
    assert!(before.iter().enumerate().all(|(i, samples)| found[&format!("m{i:03}")] == *samples));
}

#[test]
fn appenders_go_to_other_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<Appender>();
    assert_send::<Arc<Head>>();
}

#[test]
fn times_at_the_ends_of_the_range_are_taken_or_refused_but_break_nothing() {
    for window_ms in [0, HOUR, i64::MAX] {
        for first in [i64::MIN + 2, -1, 1, i64::MAX - 2] {
            let dir = tempfile::tempdir().unwrap();
            let head = open(dir.path(), window(window_ms));
            let mut appender = Appender::new(Arc::clone(&head));
            let (a, b) = (series(&mut appender, "a"), series(&mut appender, "b"));
            let mut stored = 0;
            for t in [first, i64::MAX, 0, i64::MIN, i64::MIN + 1, i64::MAX - 1, 7] {
                for id in [a, b] {
                    let _ = appender.append_float(id, t, t as f64, 0);
                }
                stored += appender.commit().unwrap().stored as usize;
            }
            let found = visible_now(&head, a).len() + visible_now(&head, b).len();
            assert_eq!(found, stored, "{window_ms} {first}");
            head.delete(i64::MIN, i64::MAX, &[Matcher::equal("job", "test")], &Control::default()).unwrap();
            head.close().unwrap();
        }
    }
}

#[test]
fn over_the_memory_limit_open_chunks_go_to_files() {
    let run = |memory_limit| {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), LiveOptions { memory_limit, ..LiveOptions::default() });
        let mut appender = Appender::new(Arc::clone(&head));
        let ids: Vec<_> = (0..4000).map(|i| series(&mut appender, &format!("m{i:04}"))).collect();
        for t in 0..40i64 {
            let samples: Vec<_> = ids.iter().map(|id| (*id, t * 15_000, (t * 7919 % 1013) as f64)).collect();
            appender.append_floats(&samples, |i, refusal| panic!("{i}: {refusal}"));
            appender.commit().unwrap();
        }
        assert!(ids.iter().all(|id| visible_now(&head, *id).len() == 40));
        (head.files.current() > 0, head.bytes())
    };
    let (spilled, bytes) = run(u64::MAX);
    assert!(!spilled);
    assert!(run(bytes / 10 * 8).0);
}

#[test]
fn an_out_of_order_log_without_segments_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    // As a crash leaves it between the making of the directory and of the segment.
    std::fs::create_dir(dir.path().join("wbl")).unwrap();
    open(dir.path(), window(HOUR)).close().unwrap();
    assert!(dir.path().join("wbl/00000000").exists());
}
