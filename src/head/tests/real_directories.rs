//! The heads of directories that real servers left behind, against every sample these servers answer.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod loaded;

use std::collections::HashSet;
use std::path::Path;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::LiveOptions;
use tsdbctl_head::{HeadOptions, ReadHead, newest_sample_time};
use tsdbctl_model::float_text::format_g;
use tsdbctl_model::{FloatHistogram, Histogram, Matcher, SymbolTable};
use tsdbctl_storage::{Control, Querier, ReadStats, SelectHints, TimeFilter};
use tsdbctl_testkit::{read_text, unpack_directory};

/// All samples of a head as dump lines.
fn lines(head: &ReadHead, matchers: &[Matcher], mint: i64, maxt: i64) -> Vec<String> {
    let control = Control::default();
    let mut symbols = SymbolTable::new();
    let hints = SelectHints { start: mint, end: maxt, ..Default::default() };
    let set = head.select(&hints, matchers, &mut symbols, &control).unwrap();
    let (mut lines, mut stats) = (Vec::new(), ReadStats::default());
    for i in 0..set.len() {
        let labels = symbols.labels(set.labels(i)).to_string();
        let mut columns = SampleColumns::default();
        set.read(i, &TimeFilter::all_between(mint, maxt), &mut columns, &mut stats).unwrap();
        add_lines(&labels, &columns, &mut lines);
    }
    assert!(stats.samples >= lines.len() as u64);
    lines
}

/// Samples of a series as dump lines.
fn add_lines(labels: &str, columns: &SampleColumns, lines: &mut Vec<String>) {
    for (j, t) in columns.floats.t.iter().enumerate() {
        lines.push(format!("{labels} {} {t}", format_g(columns.floats.v[j])));
    }
    for (j, t) in columns.histograms.t.iter().enumerate() {
        let h = &columns.histograms.h[j];
        let text = if columns.histograms.integer[j] { integer(h).to_string() } else { h.to_string() };
        lines.push(format!("{labels} {text} {t}"));
    }
}

/// What a head that is loaded to be appended to has is the same, also when it is loaded once more with the chunks that
/// it wrote. Changes the directory.
fn check_live(dir: &Path, got: &[String], min_valid_time: i64, mut options: LiveOptions) {
    options.snapshot_on_close = true;
    for attempt in ["once", "twice"] {
        let head = loaded::load_in(dir, &options, min_valid_time);
        let all = loaded::series(&head);
        let count: usize = all.iter().map(|(_, c)| c.floats.len() + c.histograms.len()).sum();
        assert_eq!(count, got.len(), "loaded {attempt}");
        let mut lines = Vec::new();
        // Text takes long.
        for (labels, columns) in all.iter().filter(|_| attempt == "once") {
            add_lines(&labels.to_string(), columns, &mut lines);
        }
        let differing = lines.iter().zip(got).filter(|(a, b)| a != b).take(9).collect::<Vec<_>>();
        assert!(differing.is_empty(), "{differing:#?}");
        assert!(head.report.losses.is_empty() && head.wbl_damage.is_empty(), "{:?}", head.report.losses);
        let highest = head.index.ids().map(|id| {
            let shard = head.shards[(id.0 >> 8) as usize % head.shards.len()].lock().unwrap();
            shard.record(id).unwrap().series_ref
        });
        assert!(head.next_ref > highest.max().unwrap());
        head.files.flush().unwrap();
    }
}

/// The histogram with integer counts that `h` was made of.
fn integer(h: &FloatHistogram) -> Histogram {
    let deltas = |counts: &[f64]| {
        let before = std::iter::once(&0.0).chain(counts);
        counts.iter().zip(before).map(|(c, b)| *c as i64 - *b as i64).collect()
    };
    Histogram {
        counter_reset_hint: h.counter_reset_hint,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count as u64,
        count: h.count as u64,
        sum: h.sum,
        positive_spans: h.positive_spans.clone(),
        negative_spans: h.negative_spans.clone(),
        positive_buckets: deltas(&h.positive_buckets),
        negative_buckets: deltas(&h.negative_buckets),
        custom_values: h.custom_values.clone(),
    }
}

/// End of the newest block that is not made of out-of-order samples, and the range of one that is.
fn block_ends(dir: &Path) -> (i64, Option<(i64, i64)>) {
    let (mut end, mut late) = (i64::MIN, None);
    for entry in std::fs::read_dir(dir).unwrap() {
        let Ok(meta) = std::fs::read_to_string(entry.unwrap().path().join("meta.json")) else { continue };
        let number = |key: &str| -> i64 {
            let at = meta.find(key).unwrap() + key.len();
            meta[at..]
                .chars()
                .skip_while(|c| !c.is_ascii_digit())
                .take_while(char::is_ascii_digit)
                .collect::<String>()
                .parse()
                .unwrap()
        };
        let range = (number("\"minTime\""), number("\"maxTime\""));
        if meta.contains("from-out-of-order") {
            late = Some(range);
        } else {
            end = end.max(range.1);
        }
    }
    (end, late)
}

/// Every sample of the head is in the dump, and every sample of the dump behind the blocks in the head, but for
/// `in_late_block` that lie in a block of out-of-order samples.
fn check(name: &str, dump: &str, in_late_block: usize) {
    let Some((_keep, dir)) = unpack_directory(&format!("data/{name}.tar.zst")) else { return };
    let Some(dump) = read_text(&format!("data/{dump}.dump.zst")) else { return };
    let (min_valid_time, late) = block_ends(&dir);
    let control = Control::default();
    let options = HeadOptions { min_valid_time, ..Default::default() };
    let head = ReadHead::open(&dir, &options, &control).unwrap().unwrap();
    let got = lines(&head, &[], i64::MIN, i64::MAX);
    let mut all = HashSet::new();
    let mut newer = Vec::new();
    for line in dump.lines() {
        let t: i64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        if t >= min_valid_time {
            newer.push((line.to_string(), t));
        }
        all.insert(line.to_string());
    }
    let seen: HashSet<&String> = got.iter().collect();
    assert_eq!(seen.len(), got.len(), "{name}: no sample twice");
    let wrong: Vec<_> = got.iter().filter(|l| !all.contains(*l)).collect();
    assert!(
        wrong.is_empty(),
        "{name}: {} of {} wrong, such as {:#?}",
        wrong.len(),
        got.len(),
        &wrong[..wrong.len().min(9)]
    );
    let missing: Vec<_> = newer.iter().filter(|(l, _)| !seen.contains(l)).collect();
    let outside = missing.iter().filter(|(_, t)| late.is_none_or(|(a, b)| *t < a || *t >= b)).count();
    assert_eq!(
        (missing.len(), outside),
        (in_late_block, 0),
        "{name}: but for the out-of-order block all is found; missing such as {:#?}",
        &missing[..missing.len().min(9)]
    );
    let newest = newer.iter().map(|(_, t)| *t).max();
    assert_eq!(newest_sample_time(&dir, &control).unwrap(), newest);
    assert_eq!(head.times().unwrap().1, newest.unwrap());

    // One metric, a short range: the same samples from a head that loaded nothing else.
    for (metric, series_at_most) in [("up", 40), ("prometheus_http_request_duration_seconds", 80)] {
        let selection = vec![Matcher::equal("__name__", metric)];
        let (mint, maxt) = (newest.unwrap() - 120_000, newest.unwrap() - 20_000);
        let options = HeadOptions { selections: std::slice::from_ref(&selection), mint, maxt, ..options };
        let narrow = ReadHead::open(&dir, &options, &control).unwrap().unwrap();
        assert!(narrow.series_count() <= series_at_most, "{}", narrow.series_count());
        assert_eq!(
            lines(&narrow, &selection, mint, maxt),
            lines(&head, &selection, mint, maxt),
            "{name} {metric}"
        );
    }
    drop(head);
    assert_eq!(control.budget.used(), 0);
    let options = if name.contains("xor2") { loaded::options() } else { LiveOptions::default() };
    check_live(&dir, &got, min_valid_time, options);
}

#[test]
fn prometheus_2_42_crashed() {
    check("prometheus-2.42-crashed", "prometheus-2.42-crashed", 0);
}

#[test]
fn prometheus_3_14_crashed() {
    check("prometheus-3.14-crashed", "prometheus-3.14-crashed", 15);
}

#[test]
fn prometheus_3_14_xor2_crashed() {
    check("prometheus-3.14-xor2-crashed", "prometheus-3.14-xor2-crashed", 15);
}

#[test]
fn prometheus_3_14_xor2_stopped_with_a_snapshot() {
    check("prometheus-3.14-xor2-snapshot", "prometheus-3.14-xor2-crashed", 15);
}

#[test]
fn a_real_snapshot_is_used() {
    let Some((_keep, dir)) = unpack_directory("data/prometheus-3.14-xor2-snapshot.tar.zst") else { return };
    let control = Control::default();
    let count = || {
        let selection = [Matcher::equal("__name__", "up")];
        let head = ReadHead::open(&dir, &HeadOptions::default(), &control).unwrap().unwrap();
        lines(&head, &selection, i64::MIN, i64::MAX).len()
    };
    let with_log = count();
    for entry in std::fs::read_dir(dir.join("wal")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().is_some_and(|n| n < "00000010") {
            std::fs::write(path, b"not read").unwrap();
        }
    }
    assert!(with_log > 100);
    assert_eq!(count(), with_log);
}
