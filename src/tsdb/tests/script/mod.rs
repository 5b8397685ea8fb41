//! A language for what is done to a head, one operation a line. Upstream's answers to scripts in it are recorded beside
//! the tests; the answers are lines too.
//!
//! ```text
//! script NAME                         begins one, in an empty directory
//! opt ooo=MS ex=N xor2=1 st=1 meta=1 snap=1 comp=zstd|none api=1|2  as upstream's options; which of its appenders
//! open
//! F APP LABELS T ST BITS [T;BITS;LABELS]...            a float with exemplars; bits are hexadecimal
//! H APP LABELS T ST HISTOGRAM [T;BITS;LABELS]...       an integer histogram, buckets as deltas
//! G APP LABELS T ST HISTOGRAM [T;BITS;LABELS]...       a float histogram
//! M APP LABELS TYPE UNIT HELP         metadata of a known series
//! C APP, R APP                        commit, rollback
//! D MINT MAXT NAME=VALUE              delete
//! T MINT                              truncate
//! K [OPT=...]..., Z [OPT=...]...      killed, or closed, and opened again
//! X, B, N, V                          samples and exemplars; the head's times; how many series; label values
//! S DIR, L DIR                        the directory copied to DIR, or a copy of DIR opened
//! HISTOGRAM = schema:zero threshold:zero count:count:sum's bits:hint:spans:buckets:spans:buckets:bounds
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use std::collections::HashMap;
use tsdbctl_chunk::SampleColumns;
use tsdbctl_head::live::{Appender, LiveOptions};
use tsdbctl_model::histogram::{BucketSpan, CounterResetHint};
use tsdbctl_model::sample::{Exemplar, MetricType, is_stale};
use tsdbctl_model::{FloatHistogram, Histogram, Labels, Matcher, SymbolTable};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::{Control, Queryable, ReadStats, Refusal, SelectHints, TimeFilter};
use tsdbctl_testkit::{TempDir, scratch};
use tsdbctl_tsdb::LiveDatabase;
use tsdbctl_wal::{Compression, SyncPolicy};

/// What runs scripts.
pub struct Machine {
    root: TempDir,
    directories: u32,
    dir: PathBuf,
    options: HashMap<String, String>,
    db: Option<LiveDatabase>,
    appenders: HashMap<String, Appender>,
    /// The answers.
    pub out: String,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            root: scratch(),
            directories: 0,
            dir: PathBuf::new(),
            options: HashMap::new(),
            db: None,
            appenders: HashMap::new(),
            out: String::new(),
        }
    }

    fn fresh(&mut self) -> PathBuf {
        self.directories += 1;
        self.root.path().join(self.directories.to_string())
    }

    fn number(&self, name: &str) -> i64 {
        self.options.get(name).map_or(0, |v| v.parse().unwrap())
    }

    fn set_options<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for (name, value) in words.map(|w| w.split_once('=').unwrap()) {
            self.options.insert(name.into(), value.into());
        }
    }

    fn open(&mut self) {
        let mut options = LiveOptions {
            out_of_order_window_ms: self.number("ooo"),
            max_exemplars: self.number("ex") as usize,
            metadata_records: self.number("meta") > 0,
            snapshot_on_close: self.number("snap") > 0,
            ..LiveOptions::default()
        };
        options.rules.start_timestamps = self.number("st") > 0;
        options.rules.histogram_start_timestamps = self.number("st") > 0;
        options.rules.xor2 = self.number("xor2") > 0 || self.number("st") > 0;
        options.log.sync = SyncPolicy::Os;
        options.log.compression = match self.options.get("comp").map(|s| &**s) {
            Some("zstd") => Compression::Zstd,
            Some("none") => Compression::None,
            _ => Compression::Snappy,
        };
        let (db, report) =
            LiveDatabase::open(Arc::new(RealDisk), &self.dir, options, &Control::default()).unwrap();
        for loss in report.losses {
            writeln!(self.out, "loss {loss:?}").unwrap();
        }
        self.db = Some(db);
    }

    /// Lets go of the directory as a killed program does, but for what its appenders say to a log that is gone.
    fn drop_all(&mut self) {
        self.db = None;
        self.appenders.clear();
    }

    /// Runs one line.
    pub fn run(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { return };
        let rest: Vec<&str> = words.collect();
        match first {
            "script" => {
                self.drop_all();
                let _ = std::fs::remove_dir_all(&self.dir);
                self.options.clear();
                self.dir = self.fresh();
                writeln!(self.out, "{line}").unwrap();
            }
            "opt" => self.set_options(rest.into_iter()),
            "open" => self.open(),
            "F" | "H" | "G" => self.append(first, &rest),
            "M" => {
                let [name, labels, kind, unit, help] = rest[..] else { panic!("{line}") };
                let db = self.db.as_ref().unwrap();
                let appender = self.appenders.entry(name.to_string()).or_insert_with(|| db.appender());
                // The series is known.
                let id = appender.series(pairs(labels).into_iter()).unwrap();
                let kind = match kind {
                    "counter" => MetricType::Counter,
                    "gauge" => MetricType::Gauge,
                    "histogram" => MetricType::Histogram,
                    _ => MetricType::Unknown,
                };
                appender.set_metadata(id, kind, unit, help);
                self.out.push_str("ok\n");
            }
            "C" | "R" => {
                let Some(mut appender) = self.appenders.remove(rest[0]) else {
                    return self.out.push_str("nothing\n");
                };
                if first == "R" {
                    appender.rollback();
                    return self.out.push_str("rolled\n");
                }
                let done = appender.commit().unwrap();
                writeln!(self.out, "stored {} late {}", done.stored, done.out_of_order).unwrap();
            }
            "K" => {
                let to = self.fresh();
                copy(&self.dir, &to);
                self.drop_all();
                let _ = std::fs::remove_dir_all(&self.dir);
                self.dir = to;
                self.set_options(rest.into_iter());
                self.open();
            }
            "Z" => {
                self.appenders.clear();
                self.db.take().unwrap().close().unwrap();
                self.set_options(rest.into_iter());
                self.open();
            }
            "P" => self.db.as_ref().unwrap().maintain().unwrap(),
            "D" => {
                let (name, value) = rest[2].split_once('=').unwrap();
                let (mint, maxt) = (rest[0].parse().unwrap(), rest[1].parse().unwrap());
                let head = self.db.as_ref().unwrap().head();
                head.delete(mint, maxt, &[Matcher::equal(name, value)], &Control::default()).unwrap();
            }
            "T" => {
                self.db.as_ref().unwrap().head().truncate(rest[0].parse().unwrap()).unwrap();
            }
            "X" => self.dump(),
            "B" => {
                let head = self.db.as_ref().unwrap().head();
                let time = |t: &std::sync::atomic::AtomicI64| t.load(Ordering::Acquire);
                let (a, b) = (time(&head.min_time), time(&head.max_time));
                let (c, d) = (time(&head.min_out_of_order_time), time(&head.max_out_of_order_time));
                writeln!(self.out, "times {a} {b} {c} {d}").unwrap();
            }
            "N" => {
                let head = self.db.as_ref().unwrap().head();
                let series = head.shards.iter().map(|s| s.lock().unwrap().ids().count()).sum::<usize>();
                writeln!(self.out, "series {series}").unwrap();
            }
            "V" => {
                let control = Control::default();
                let db = self.db.as_ref().unwrap();
                let querier = db.querier(i64::MIN, i64::MAX, &[Vec::new()], &control).unwrap();
                let names = querier.label_names(&[], &control).unwrap();
                let values = names.iter().map(|n| querier.label_values(n, &[], &control).unwrap().join(","));
                writeln!(self.out, "labels {}", values.collect::<Vec<_>>().join(";")).unwrap();
            }
            "S" => {
                let _ = std::fs::remove_dir_all(rest[0]);
                copy(&self.dir, Path::new(rest[0]));
            }
            "L" => {
                self.dir = self.fresh();
                copy(Path::new(rest[0]), &self.dir.clone());
                self.open();
            }
            "W" | "#" => {}
            _ => panic!("{line}"),
        }
    }

    fn append(&mut self, kind: &str, words: &[&str]) {
        let [name, labels, t, st, value, exemplars @ ..] = words else { panic!("{words:?}") };
        let (t, st): (i64, i64) = (t.parse().unwrap(), st.parse().unwrap());
        let db = self.db.as_ref().unwrap();
        let v2 = self.options.get("api").is_some_and(|v| v == "2");
        let appender = self.appenders.entry((*name).to_string()).or_insert_with(|| db.appender());
        let pairs = pairs(labels);
        let mut stale = false;
        let mut add = || -> Result<_, Refusal> {
            let bounds = appender.bounds();
            let is_invalid = match kind {
                "H" => histogram(value).validate().is_err(),
                "G" => float_histogram(value).validate().is_err(),
                _ => false,
            };
            // Upstream looks at time and histogram first.
            let is_out_of_bounds = bounds.window_ms == 0 && t < bounds.min_valid_ms;
            if is_out_of_bounds && appender.is_empty() && !(v2 && is_invalid) {
                return Err(Refusal::OutOfBounds);
            }
            let id = match appender.series(pairs.iter().copied()) {
                Err(_) if is_out_of_bounds && !(v2 && is_invalid) => return Err(Refusal::OutOfBounds),
                Err(_) if is_invalid => return Err(Refusal::InvalidHistogram),
                id => id?,
            };
            match kind {
                "F" => {
                    stale = is_stale(bits(value));
                    appender.append_float(id, t, bits(value), st)?;
                }
                "H" => {
                    let h = histogram(value);
                    stale = h.is_stale();
                    appender.append_histogram(id, t, &h, st)?;
                }
                _ => {
                    let h = float_histogram(value);
                    stale = h.is_stale();
                    appender.append_float_histogram(id, t, &h, st)?;
                }
            }
            Ok(id)
        };
        match add() {
            Err(refusal) => self.out.push_str(class(refusal)),
            Ok(id) => {
                self.out.push_str("ok");
                for e in exemplars.iter().filter(|_| !(stale && v2)) {
                    let parts: Vec<&str> = e.split(';').collect();
                    let labels = match parts[2] {
                        "-" => Labels::empty(),
                        list => Labels::from_pairs(list.split(',').map(|l| l.split_once('=').unwrap())),
                    };
                    let exemplar =
                        Exemplar { labels, value: bits(parts[1]), timestamp_ms: parts[0].parse().unwrap() };
                    match appender.append_exemplar(id, &exemplar) {
                        Ok(()) => {}
                        Err(Refusal::InvalidLabels) => self.out.push_str(" exlabels"),
                        Err(refusal) => write!(self.out, " {}", class(refusal)).unwrap(),
                    }
                }
            }
        }
        self.out.push('\n');
    }

    fn dump(&mut self) {
        let db = self.db.as_ref().unwrap();
        let (control, all) = (Control::default(), [Matcher::equal("", "")]);
        let querier = db.querier(i64::MIN, i64::MAX, &[all.to_vec()], &control).unwrap();
        let mut symbols = SymbolTable::new();
        let hints = SelectHints { start: i64::MIN, end: i64::MAX, ..SelectHints::default() };
        let set = querier.select(&hints, &[], &mut symbols, &control).unwrap();
        let (mut columns, mut stats) = (SampleColumns::default(), ReadStats::default());
        let mut found = Vec::new();
        for i in 0..set.len() {
            columns.clear();
            set.read(i, &TimeFilter::all_between(i64::MIN, i64::MAX), &mut columns, &mut stats).unwrap();
            let (floats, histograms) = (&columns.floats, &columns.histograms);
            let mut lines: Vec<(i64, String)> = Vec::new();
            for (i, (t, v)) in floats.t.iter().zip(&floats.v).enumerate() {
                let st = floats.st.get(i).copied().unwrap_or(0);
                lines.push((*t, format!(" f {t} {st} {:x}", v.to_bits())));
            }
            for (i, (t, h)) in histograms.t.iter().zip(&histograms.h).enumerate() {
                let st = histograms.st.get(i).copied().unwrap_or(0);
                let kind = if histograms.integer[i] { 'h' } else { 'g' };
                lines.push((*t, format!(" {kind} {t} {st} {}", text(h))));
            }
            lines.sort();
            if !lines.is_empty() {
                found.push((symbols.labels(set.labels(i)), lines));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        for (labels, lines) in found {
            writeln!(self.out, "S {labels}").unwrap();
            lines.iter().for_each(|(_, line)| writeln!(self.out, "{line}").unwrap());
        }
        if self.number("ex") > 0 {
            for series in querier.exemplars(i64::MIN, i64::MAX, &[Vec::new()], &control).unwrap() {
                writeln!(self.out, "E {}", series.series).unwrap();
                for e in series.exemplars {
                    writeln!(self.out, " {} {:x} {}", e.timestamp_ms, e.value.to_bits(), e.labels).unwrap();
                }
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn pairs(labels: &str) -> Vec<(&str, &str)> {
    if labels == "-" {
        return Vec::new();
    }
    let mut pairs: Vec<(&str, &str)> = labels.split(',').map(|l| l.split_once('=').unwrap()).collect();
    pairs.sort_unstable();
    pairs
}

fn class(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::OutOfBounds => "oob",
        Refusal::OutOfOrder => "ooo",
        Refusal::TooOld => "old",
        Refusal::Duplicate => "dup",
        Refusal::InvalidLabels => "labels",
        Refusal::InvalidHistogram => "hist",
        Refusal::OutOfOrderExemplar => "oooex",
        Refusal::UnknownSeries => "unknown",
        _ => "other",
    }
}

fn bits(word: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(word, 16).unwrap())
}

fn list<T: std::str::FromStr<Err: std::fmt::Debug>>(word: &str) -> Vec<T> {
    word.split(',').filter(|w| !w.is_empty()).map(|w| w.parse().unwrap()).collect()
}

fn spans(word: &str) -> Vec<BucketSpan> {
    let span = |w: &str| {
        let (offset, length) = w.split_once('/').unwrap();
        BucketSpan { offset: offset.parse().unwrap(), length: length.parse().unwrap() }
    };
    word.split(',').filter(|w| !w.is_empty()).map(span).collect()
}

fn hint(word: &str) -> CounterResetHint {
    use CounterResetHint::*;
    [Unknown, CounterReset, NotCounterReset, Gauge][word.parse::<usize>().unwrap()]
}

fn bounds(word: &str) -> Option<Arc<[f64]>> {
    (!word.is_empty()).then(|| list(word).into())
}

fn histogram(word: &str) -> Histogram {
    let f: Vec<&str> = word.split(':').collect();
    Histogram {
        schema: f[0].parse().unwrap(),
        zero_threshold: f[1].parse().unwrap(),
        zero_count: f[2].parse().unwrap(),
        count: f[3].parse().unwrap(),
        sum: bits(f[4]),
        counter_reset_hint: hint(f[5]),
        positive_spans: spans(f[6]),
        positive_buckets: list(f[7]),
        negative_spans: spans(f[8]),
        negative_buckets: list(f[9]),
        custom_values: bounds(f[10]),
    }
}

fn float_histogram(word: &str) -> FloatHistogram {
    let f: Vec<&str> = word.split(':').collect();
    FloatHistogram {
        schema: f[0].parse().unwrap(),
        zero_threshold: f[1].parse().unwrap(),
        zero_count: f[2].parse().unwrap(),
        count: f[3].parse().unwrap(),
        sum: bits(f[4]),
        counter_reset_hint: hint(f[5]),
        positive_spans: spans(f[6]),
        positive_buckets: list(f[7]),
        negative_spans: spans(f[8]),
        negative_buckets: list(f[9]),
        custom_values: bounds(f[10]),
    }
}

fn text(h: &FloatHistogram) -> String {
    let hex = |v: f64| format!("{:x}", v.to_bits());
    let mut out = format!(
        "{} {} {} {} {} hint{}",
        h.schema,
        hex(h.zero_threshold),
        hex(h.zero_count),
        hex(h.count),
        hex(h.sum),
        h.counter_reset_hint as u8
    );
    for spans in [&h.positive_spans, &h.negative_spans] {
        out.push_str(" [");
        spans.iter().for_each(|s| write!(out, "{}/{},", s.offset, s.length).unwrap());
        out.push(']');
    }
    for values in [&h.positive_buckets[..], &h.negative_buckets, h.custom_bounds()] {
        out.push_str(" [");
        values.iter().for_each(|v| write!(out, "{},", hex(*v)).unwrap());
        out.push(']');
    }
    out
}
