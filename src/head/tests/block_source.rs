//! The head as a source for blocks: the chunks are those that upstream's head would have cut, which is what a
//! `SeriesAppender` fed with the same samples makes.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_chunk::{AppenderOptions, Chunk, SampleColumns, SeriesAppender, decode};
use tsdbctl_head::live::{Appender, Head, HeadSource, LiveOptions};
use tsdbctl_head::{StartTimes, start_times};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{Histogram, Labels, Matcher};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control};

const HOUR: i64 = 3_600_000;
const WIDTH: i64 = 2 * HOUR;
const START: i64 = 1_700_000_000_000 / WIDTH * WIDTH;
const STEP: i64 = 15_000;

type Chunks = BTreeMap<String, Vec<(u8, i64, i64, Vec<u8>)>>;

fn open(dir: &Path, change: impl Fn(&mut LiveOptions)) -> Arc<Head> {
    let mut options = LiveOptions { out_of_order_window_ms: 24 * HOUR, ..LiveOptions::default() };
    change(&mut options);
    Head::open(Arc::new(RealDisk), dir, options, i64::MIN, &Control::default()).unwrap().0
}

/// Numbers that repeat from run to run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn histogram(n: u64) -> Histogram {
    let buckets = 1 + n / 200 % 5;
    Histogram {
        schema: 2,
        count: n * buckets,
        sum: n as f64 / 3.0,
        positive_spans: vec![BucketSpan { offset: 0, length: buckets as u32 }],
        positive_buckets: std::iter::once(n as i64).chain((1..buckets).map(|_| 0)).collect(),
        ..Histogram::default()
    }
}

/// What the source has, in its order; checks that this is label order.
fn read(mut source: HeadSource) -> Chunks {
    let mut strings = Vec::new();
    source
        .symbols(&mut |s| {
            strings.push(s.to_string());
            Ok(())
        })
        .unwrap();
    assert!(strings.windows(2).all(|w| w[0] < w[1]), "{strings:?}");
    let (mut out, mut before) = (Chunks::new(), None);
    let mut batch = ChunkBatch::default();
    while source.next().unwrap() {
        let labels = source.labels();
        let labels = labels.iter().map(|(n, v)| (strings[*n as usize].as_str(), &*strings[*v as usize]));
        let labels = Labels::from_pairs(labels);
        assert!(before.as_ref().is_none_or(|b| *b < labels), "{labels}");
        batch.clear();
        source.chunks(&mut batch).unwrap();
        let chunks = batch.iter().map(|c| (c.encoding, c.mint, c.maxt, c.data.to_vec()));
        out.insert(labels.get("__name__").to_string(), chunks.collect());
        before = Some(labels);
    }
    out
}

fn of(chunks: Vec<Chunk>, (mint, maxt): (i64, i64)) -> Vec<(u8, i64, i64, Vec<u8>)> {
    let inside = chunks.into_iter().filter(|c| c.mint <= maxt && c.maxt >= mint);
    inside.map(|c| (c.encoding as u8, c.mint, c.maxt, c.data)).collect()
}

/// Hours of samples of all kinds; what a [`SeriesAppender`] makes of each series.
fn fill(head: &Arc<Head>, options: AppenderOptions, spills: bool) -> BTreeMap<String, SeriesAppender> {
    let mut numbers = Numbers(7);
    let mut wanted: BTreeMap<String, SeriesAppender> = BTreeMap::new();
    let mut appender = Appender::new(Arc::clone(head));
    let mut count = 0;
    for step in 0..6 * HOUR / STEP {
        if spills && numbers.below(150) == 0 {
            head.spill(2);
        }
        for i in 0..30u64 {
            let name = format!("m{i:02}");
            // Some are scraped by another clock, some have gaps, some begin late.
            let t = START + step * STEP + if i % 3 == 0 { numbers.below(900) as i64 } else { i as i64 };
            if (i % 5 == 4 && numbers.below(6) == 0) || (i == 9 && step < 700) {
                continue;
            }
            let labels = [("__name__", name.as_str()), ("parity", if i % 2 == 0 { "even" } else { "odd" })];
            let id = appender.series(labels.into_iter()).unwrap();
            let want = wanted.entry(name.clone()).or_insert_with(|| SeriesAppender::new(options));
            count = if numbers.below(3_000) == 0 { 1 } else { count + 1 };
            match i {
                0..6 => {
                    // Values without anything in common fill 256 bytes soon.
                    let v = f64::from_bits(numbers.below(u64::MAX) << 20 | 0x3ff << 52);
                    appender.append_float(id, t, v, 0).unwrap();
                    want.append_float(t, v, 0).unwrap();
                }
                6..20 => {
                    let v = if i == 19 && numbers.below(50) == 0 { stale_nan() } else { (count / 30) as f64 };
                    appender.append_float(id, t, v, 0).unwrap();
                    want.append_float(t, v, 0).unwrap();
                }
                20..25 => {
                    let h = histogram(count / 30);
                    appender.append_histogram(id, t, &h, 0).unwrap();
                    want.append_histogram(t, &h, 0).unwrap();
                }
                25..29 => {
                    let h = histogram(count / 30).to_float();
                    appender.append_float_histogram(id, t, &h, 0).unwrap();
                    want.append_float_histogram(t, &h, 0).unwrap();
                }
                _ if step % 100 < 50 => {
                    appender.append_float(id, t, step as f64, 0).unwrap();
                    want.append_float(t, step as f64, 0).unwrap();
                }
                _ => {
                    let h = histogram(count / 30);
                    appender.append_histogram(id, t, &h, 0).unwrap();
                    want.append_histogram(t, &h, 0).unwrap();
                }
            }
        }
        appender.commit().unwrap();
    }
    wanted
}

fn compare(change: impl Fn(&mut LiveOptions), options: AppenderOptions, spills: bool) {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), change);
    let wanted = fill(&head, options, spills);
    let small = wanted.values().flat_map(|w| w.chunks()).filter(|c| c.data.len() > 300).count();
    assert!(small > 50, "{small}: nothing was to be joined");
    for range in 0..3 {
        let (mint, maxt) = (START + range * WIDTH, START + (range + 1) * WIDTH - 1);
        head.end_in_order(maxt + 1);
        let found = read(HeadSource::in_order(&head, mint, maxt));
        assert_eq!(
            found.len(),
            wanted.values().filter(|w| w.chunks().any(|c| c.mint <= maxt && c.maxt >= mint)).count()
        );
        for (name, want) in &wanted {
            let want = of(want.clone().into_chunks(), (mint, maxt));
            let found = found.get(name).cloned().unwrap_or_default();
            let times = |c: &[(u8, i64, i64, Vec<u8>)]| -> Vec<_> {
                c.iter().map(|c| (c.0, c.1 - START, c.2 - START, c.3.len())).collect()
            };
            // What a chunk of histograms had in front of a new bucket is not known any more, so that it may end elsewhere.
            if spills && want.iter().any(|c| c.0 != 1 && c.0 != 4) {
                assert_eq!(samples(&found), samples(&want), "{name}, range {range}");
                assert!(found.len() <= want.len() + 1, "{name}, range {range}: {:?}", times(&found));
                continue;
            }
            assert_eq!(times(&found), times(&want), "{name}, range {range}");
            assert!(found == want, "{name}, range {range}: other bytes");
        }
        head.truncate(maxt + 1).unwrap();
    }
}

#[test]
fn chunks_are_as_upstream_cuts_them() {
    compare(|_| {}, AppenderOptions::default(), false);
}

#[test]
fn chunks_that_were_ended_for_want_of_memory_are_joined() {
    compare(|_| {}, AppenderOptions::default(), true);
}

#[test]
fn chunks_of_xor2_are_too() {
    let xor2 = AppenderOptions { xor2: true, ..AppenderOptions::default() };
    compare(|o| o.rules.xor2 = true, xor2, true);
}

/// All samples as text; of chunks of histograms also whether counters were reset in front.
fn samples(chunks: &[(u8, i64, i64, Vec<u8>)]) -> Vec<(i64, String)> {
    let mut out = Vec::new();
    for (encoding, .., data) in chunks {
        let encoding = tsdbctl_chunk::Encoding::from_byte(*encoding).unwrap();
        let mut one = SampleColumns::default();
        decode(encoding, data, i64::MIN, i64::MAX, &mut one).unwrap();
        out.extend(one.floats.t.iter().zip(&one.floats.v).map(|(t, v)| (*t, format!("{:x}", v.to_bits()))));
        out.extend(one.histograms.t.iter().zip(&one.histograms.h).map(|(t, h)| (*t, h.to_string())));
    }
    out
}

/// Times and values of the floats of a series.
fn floats(chunks: &[(u8, i64, i64, Vec<u8>)]) -> Vec<(i64, f64)> {
    let mut out = SampleColumns::default();
    for (encoding, mint, maxt, data) in chunks {
        let encoding = tsdbctl_chunk::Encoding::from_byte(*encoding).unwrap();
        let mut one = SampleColumns::default();
        decode(encoding, data, i64::MIN, i64::MAX, &mut one).unwrap();
        assert_eq!((one.floats.t.first(), one.floats.t.last()), (Some(mint), Some(maxt)));
        one.floats.t.iter().zip(&one.floats.v).for_each(|(t, v)| out.floats.push(*t, *v, 0));
    }
    out.floats.t.into_iter().zip(out.floats.v).collect()
}

#[test]
fn what_is_deleted_or_out_of_range_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), |_| {});
    let mut appender = Appender::new(Arc::clone(&head));
    let id = appender.series([("__name__", "m")].into_iter()).unwrap();
    let other = appender.series([("__name__", "gone")].into_iter()).unwrap();
    for step in 0..600 {
        appender.append_float(id, START + step * STEP, step as f64, 0).unwrap();
        if step < 100 {
            appender.append_float(other, START + step * STEP, 1.0, 0).unwrap();
        }
        appender.commit().unwrap();
    }
    let control = Control::default();
    let delete = |from: i64, to: i64, name: &str| {
        let matchers = [Matcher::equal("__name__", name)];
        head.delete(START + from * STEP, START + to * STEP, &matchers, &control).unwrap();
    };
    delete(0, 3, "m");
    delete(100, 260, "m");
    delete(300, 300, "m");
    delete(0, 1000, "gone");
    let found = read(HeadSource::in_order(&head, START + 2 * STEP, START + 450 * STEP));
    let want: Vec<(i64, f64)> =
        (4..100).chain(261..300).chain(301..451).map(|step| (START + step * STEP, step as f64)).collect();
    assert_eq!(floats(&found["m"]), want);
    assert_eq!(found["gone"], []);
}

#[test]
fn late_samples_are_sealed_merged_and_taken_out_up_to_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let head = open(dir.path(), |_| {});
    let mut appender = Appender::new(Arc::clone(&head));
    let id = appender.series([("__name__", "m")].into_iter()).unwrap();
    appender.append_float(id, START + 5 * HOUR, 0.0, 0).unwrap();
    appender.commit().unwrap();
    assert!(Arc::clone(&head).seal_out_of_order().unwrap().is_none());
    // Three runs that overlap, each of more than a chunk.
    let mut want = BTreeMap::new();
    for run in 0..3i64 {
        for i in 0..80 {
            let t = START + i * 100_000 + run;
            appender.append_float(id, t, (run * 1000 + i) as f64, 0).unwrap();
            want.insert(t, (run * 1000 + i) as f64);
        }
        appender.commit().unwrap();
    }
    let (deleted_from, deleted_to) = (START + 1_000_000, START + 1_500_000);
    let matchers = [Matcher::equal("__name__", "m")];
    head.delete(deleted_from, deleted_to, &matchers, &Control::default()).unwrap();
    want.retain(|t, _| !(deleted_from..=deleted_to).contains(t));
    let late = head.seal_out_of_order().unwrap().unwrap();
    assert_eq!((late.mint, late.maxt), (START, START + 7_900_002));
    // One that comes later is not among them.
    appender.append_float(id, START + 50, -1.0, 0).unwrap();
    appender.commit().unwrap();
    assert_eq!(late.ranges(WIDTH), [(START, START + WIDTH), (START + WIDTH, START + 2 * WIDTH)]);
    let mut found = Vec::new();
    for (mint, maxt) in late.ranges(WIDTH) {
        let chunks = read(late.source(mint, maxt - 1));
        assert!(chunks["m"].iter().all(|c| c.1 >= mint && c.2 < maxt));
        found.extend(floats(&chunks["m"]));
    }
    assert_eq!(found, want.into_iter().collect::<Vec<_>>());
    late.take_out().unwrap();
    let rest = head.seal_out_of_order().unwrap().unwrap();
    assert_eq!(floats(&read(rest.source(i64::MIN, i64::MAX))["m"]), [(START + 50, -1.0)]);
    rest.take_out().unwrap();
    assert!(head.seal_out_of_order().unwrap().is_none());
}

#[test]
fn logs_tell_whether_they_have_start_timestamps() {
    for (on, want) in [(false, StartTimes::default()), (true, StartTimes { floats: true, histograms: true })]
    {
        let dir = tsdbctl_testkit::scratch();
        let head = open(dir.path(), |o| o.rules.start_timestamps = on);
        let mut appender = Appender::new(Arc::clone(&head));
        let id = appender.series([("__name__", "a")].into_iter()).unwrap();
        appender.append_float(id, START, 1.0, START - 1).unwrap();
        let id = appender.series([("__name__", "b")].into_iter()).unwrap();
        appender.append_histogram(id, START, &histogram(7), START - 1).unwrap();
        appender.commit().unwrap();
        head.close().unwrap();
        assert_eq!(start_times(dir.path(), &Control::default()).unwrap(), want, "{on}");
    }
    assert_eq!(start_times(Path::new("nowhere"), &Control::default()).unwrap(), StartTimes::default());
}
