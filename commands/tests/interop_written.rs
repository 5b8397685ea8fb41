//! Directories that `tsdbctl ingest` wrote, opened by a Prometheus server: equal dumps, equal answers, nothing to
//! complain about in its log; afterwards we read what it left.
//!
//! Runs where `TSDBCTL_PEER_PROMETHEUS` and `TSDBCTL_PEER_PROMTOOL` name the peer's programs (2.42 or newer), and skips
//! with a message elsewhere. What 2.42 does not know (zstd, XOR2, start timestamps, custom buckets) is not written here.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod peers;
mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use peers::{
    ask_both, assert_same, blocks, complaints, export, has_histogram, percent, promtool_dump, push, terminate,
};
use runs::{command, copy, ok, peer, text_of};
use tsdbctl_model::histogram::{BucketSpan, ConvertedHistogram, CounterResetHint};
use tsdbctl_model::sample::Exemplar;
use tsdbctl_model::{FloatHistogram, Histogram, Labels};
use tsdbctl_testkit::peer::Prometheus;
use tsdbctl_testkit::{TempDir, scratch};
use tsdbctl_wire::{HistogramSample, Sample, WriteRequestWriter, snappy};

/// When the first run begins, Unix ms; nothing else has this remainder, so no evaluation meets a sample.
const T: i64 = 1_700_000_000_000;
/// One sample of a series every so often.
const STEP_MS: i64 = 15_000;
/// Samples of a series in one run: more than a chunk holds.
const SAMPLES: i64 = 200;
/// From the beginning of a run to that of the next.
const RUN_MS: i64 = 50 * 60_000;
/// Runs; together more than three hours, so that the peer makes a block of their first two.
const RUNS: i64 = 5;

const STALE: u64 = 0x7ff0_0000_0000_0002;
const PAYLOAD: u64 = 0x7ff8_0000_dead_beef;

fn ingest(dir: &Path, scratch: &Path, name: &str, content: &[u8], args: &[&str]) {
    let file = scratch.join(name);
    fs::write(&file, content).unwrap();
    ok(&[&["ingest", "-d", text_of(dir), text_of(&file)], args].concat());
}

/// Feeds text from a pipe and ends with SIGKILL once all of it is acknowledged.
fn ingest_and_kill(dir: &Path, text: &str, samples: u64, args: &[&str]) {
    let mut child = command(&[&["ingest", "-", "--ack", "-d", text_of(dir)], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    let text = text.to_owned();
    // The pipe stays open: the end of the input would be the end of the command.
    let writer = std::thread::spawn(move || {
        input.write_all(text.as_bytes()).unwrap();
        input
    });
    let acked = acks.find_map(|line| line.unwrap().parse::<u64>().ok().filter(|n| *n >= samples));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(writer.join().unwrap());
    assert_eq!(acked, Some(samples));
}

/// Times of the samples of a run.
fn times(run: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..SAMPLES).map(move |i| (i, T + run * RUN_MS + i * STEP_MS))
}

/// Gauges, counters and what is peculiar about values and labels, in the text format.
fn text(run: i64) -> (String, u64) {
    let values =
        ["NaN", "+Inf", "-Inf", "-0", "5e-324", "1.7976931348623157e+308", "0.1", "9007199254740993"];
    let (mut text, mut samples) = (String::new(), 0);
    for (i, t) in times(run) {
        let mut add = |series: &str, value: String| {
            text += &format!("{series} {value} {t}\n");
            samples += 1;
        };
        for s in 0..10 {
            add(&format!("gauge{{s=\"{s}\",run=\"{run}\"}}"), format!("{}", ((i * 7 + s) % 31) as f64 / 7.0));
            add(&format!("requests_total{{s=\"{s}\"}}"), (run * 1000 + i * (s + 1)).to_string());
        }
        add("peculiar", values[(i as usize) % values.len()].to_owned());
        add("constant", "42".to_owned());
        add("escaped{v=\"a\\\\b\\n\\\"c\\\"\"}", i.to_string());
        add("{\"temperatur.°C\",v=\"größe ✓\"}", format!("{i}.5"));
    }
    (text, samples)
}

/// Counters and classic histograms with exemplars, in OpenMetrics.
fn openmetrics(run: i64) -> String {
    let mut text = String::new();
    for (i, t) in times(run) {
        let t = t as f64 / 1000.0;
        text += "# TYPE seen counter\n";
        for s in 0..3 {
            text +=
                &format!("seen_total{{s=\"{s}\"}} {i} {t} # {{trace_id=\"r{run}-{s}-{i}\"}} {i}.25 {t}\n");
        }
        text += "# TYPE latency histogram\n";
        for (le, count) in [("0.1", i), ("1.0", 2 * i), ("+Inf", 3 * i)] {
            text += &format!("latency_bucket{{le=\"{le}\"}} {count} {t}");
            text +=
                &if i % 10 == 0 { format!(" # {{trace_id=\"{le}-{i}\"}} 0.05\n") } else { "\n".to_owned() };
        }
        text += &format!("latency_sum {i}.5 {t}\nlatency_count {} {t}\n# EOF\n", 3 * i);
    }
    text
}

fn field(key: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![key];
    varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn number(key: u8, v: u64) -> Vec<u8> {
    let mut out = vec![key];
    varint(&mut out, v);
    out
}

fn double(key: u8, v: f64) -> Vec<u8> {
    [&[key][..], &v.to_le_bytes()].concat()
}

/// A gauge and a native histogram in the protobuf format; the histogram restarts half-way.
fn protobuf(run: i64) -> Vec<u8> {
    let mut body = Vec::new();
    for (i, t) in times(run) {
        let time = number(0x30, t as u64);
        let metric = [field(0x12, &double(9, i as f64 / 3.0)), time.clone()].concat();
        let gauge = [field(0x0a, b"scraped_gauge"), number(0x18, 1), field(0x22, &metric)].concat();
        // Two positive buckets, a zero bucket, one negative bucket; deltas are zigzag.
        let n = (i % (SAMPLES / 2)) as u64;
        let span = |offset: u64, length: u64| [number(0x08, offset), number(0x10, length)].concat();
        let histogram = [
            number(0x08, 4 * n + 1),
            double(0x11, n as f64 * 1.5),
            number(0x28, 6), // schema 3
            double(0x31, 1e-128),
            number(0x38, 1),
            field(0x4a, &span(2, 1)),
            field(0x52, &{
                let mut deltas = Vec::new();
                varint(&mut deltas, 2 * n);
                deltas
            }),
            field(0x62, &span(0, 2)),
            field(0x6a, &{
                let mut deltas = Vec::new();
                varint(&mut deltas, 2 * n);
                varint(&mut deltas, 2 * n);
                deltas
            }),
        ]
        .concat();
        let metric = [field(0x3a, &histogram), time].concat();
        let native = [field(0x0a, b"scraped_native"), number(0x18, 4), field(0x22, &metric)].concat();
        for family in [gauge, native] {
            varint(&mut body, family.len() as u64);
            body.extend_from_slice(&family);
        }
    }
    body
}

fn integer_histogram(i: i64) -> Histogram {
    let n = (i % 70) as u64;
    Histogram {
        counter_reset_hint: CounterResetHint::Unknown,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: n,
        count: 5 * n,
        sum: n as f64 * 18.4,
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }, BucketSpan { offset: 2, length: 1 }],
        negative_spans: vec![BucketSpan { offset: -3, length: 1 }],
        positive_buckets: vec![n as i64, 0],
        negative_buckets: vec![2 * n as i64],
        custom_values: None,
    }
}

/// Histograms of all kinds, staleness and NaN with a payload, in a body of remote write.
fn remote_write(run: i64) -> Vec<u8> {
    let mut w = WriteRequestWriter::default();
    let labels = |name: &str| Labels::from_pairs([("__name__", name), ("job", "pushed")]);
    let at = |value, timestamp_ms| Sample { value, timestamp_ms, start_timestamp_ms: 0 };
    let floats: Vec<Sample> = times(run).map(|(i, t)| at(i as f64 * 0.1, t)).collect();
    let exemplars: Vec<Exemplar> = times(run)
        .step_by(20)
        .map(|(i, t)| Exemplar {
            labels: Labels::from_pairs([("id", i.to_string().as_str())]),
            value: 1.0,
            timestamp_ms: t,
        })
        .collect();
    w.series(&labels("pushed"), &floats, &exemplars, &[]);
    let ends: Vec<Sample> =
        times(run).map(|(i, t)| at(if i == SAMPLES - 1 { f64::from_bits(STALE) } else { 1.0 }, t)).collect();
    w.series(&labels("ended"), &ends, &[], &[]);
    let odd: Vec<Sample> = times(run)
        .map(|(i, t)| at(if i == SAMPLES - 1 { f64::from_bits(PAYLOAD) } else { -0.0 }, t))
        .collect();
    w.series(&labels("odd"), &odd, &[], &[]);
    let histograms = |gauge: bool, float: bool, stale: bool| -> Vec<HistogramSample> {
        times(run)
            .map(|(i, timestamp_ms)| {
                let mut h = integer_histogram(i);
                if gauge {
                    h.counter_reset_hint = CounterResetHint::Gauge;
                }
                let mut histogram = ConvertedHistogram::Integer(h.clone());
                if float {
                    let mut f: FloatHistogram = h.to_float();
                    f.sum /= 3.0;
                    histogram = ConvertedHistogram::Float(f);
                }
                if stale && i == SAMPLES - 1 {
                    match &mut histogram {
                        ConvertedHistogram::Integer(h) => h.sum = f64::from_bits(STALE),
                        ConvertedHistogram::Float(h) => h.sum = f64::from_bits(STALE),
                    }
                }
                HistogramSample { timestamp_ms, start_timestamp_ms: 0, histogram }
            })
            .collect()
    };
    for (name, gauge, float, stale) in [
        ("native", false, false, false),
        ("native_float", false, true, false),
        ("native_gauge", true, false, false),
        ("native_ended", false, false, true),
        ("native_float_ended", false, true, true),
    ] {
        w.series(&labels(name), &[], &[], &histograms(gauge, float, stale));
    }
    snappy::compress(&w.finish()).unwrap()
}

/// Samples that lie up to an hour and a half behind the newest, some of them in series that have newer ones.
fn late(run: i64) -> String {
    let mut text = String::new();
    for (i, t) in times(run) {
        text += &format!("constant {i} {}\n", t - 7_000);
        // Backwards, so that every chunk is out of order in itself.
        text += &format!("late{{s=\"{}\"}} {i} {}\n", i % 2, T + RUN_MS * run + (SAMPLES - i) * 9_000 + 3);
    }
    text
}

/// What a directory has besides floats.
#[derive(Clone, Copy)]
struct Content {
    histograms: bool,
    late: bool,
}

/// A directory written in all ways; `args` go to every run.
fn written(content: Content, args: &[&str]) -> (TempDir, PathBuf) {
    let place = scratch();
    let dir = place.path().join("data");
    let exemplars = [args, &["--enable-feature", "exemplar-storage"]].concat();
    let (body, _) = text(0);
    ingest(&dir, place.path(), "0.txt", body.as_bytes(), args);
    let (body, samples) = text(1);
    ingest_and_kill(&dir, &body, samples, args);
    ingest(&dir, place.path(), "2.om", openmetrics(2).as_bytes(), &exemplars);
    if content.histograms {
        let native = [&exemplars[..], &["--scrape-native-histograms"]].concat();
        ingest(&dir, place.path(), "3.pb", &protobuf(3), &native);
        ingest(&dir, place.path(), "4.rw", &remote_write(4), &exemplars);
    }
    if content.late {
        let window = [&exemplars[..], &["--out-of-order-time-window", "4h", "--sort", "never"]].concat();
        ingest(&dir, place.path(), "late.txt", late(2).as_bytes(), &window);
    }
    (place, dir)
}

const EXPRESSIONS: &[&str] = &[
    "gauge",
    "sum by (s) (gauge)",
    "sum by (run) (rate(requests_total[5m]))",
    "peculiar",
    "constant",
    "escaped",
    "{__name__=\"temperatur.°C\"}",
    "sum by (s) (count_over_time({__name__=~\"gauge|requests_total\", s=~\"[0-4]\"}[10m]))",
    "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))",
    "sum by (s) (increase(seen_total[10m]))",
    "scraped_gauge",
    "scraped_native",
    "pushed",
    "ended",
    "odd",
    "native",
    "native_float",
    "native_gauge",
    "native_ended or native_float_ended",
    "histogram_count(native) - histogram_sum(native)",
    "late",
    "last_over_time(late[1h])",
    "count({__name__=~\".+\"})",
];

/// Everything that is asked of a directory, of a server on a copy of it and of us.
fn compare(server: &Prometheus, dir: &Path) {
    let seconds = |ms: i64| format!("{}.137", ms / 1000);
    let (start, end) = (seconds(T), seconds(T + RUNS * RUN_MS + 60_000));
    let (mut wrong, mut bytes) = (Vec::new(), 0);
    let mut check = |path: &str, args: &[&str]| {
        let (differs, size) = ask_both(server, dir, path, args);
        wrong.extend(differs);
        bytes += size;
    };
    for expression in EXPRESSIONS {
        let query = percent(expression);
        for run in 0..RUNS {
            // In the middle of a run, and behind its last sample.
            for offset in [RUN_MS / 3, (SAMPLES - 1) * STEP_MS] {
                let time = seconds(T + run * RUN_MS + offset);
                let path = format!("/api/v1/query?query={query}&time={time}");
                check(&path, &["query", expression, "--time", &time]);
            }
        }
        let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=61");
        check(&path, &["query", expression, "--start", &start, "--end", &end, "--step", "61"]);
    }
    let range = format!("start={start}&end={end}");
    let times = ["--start", &start, "--end", &end];
    for selector in ["{__name__=~\".+\"}", "gauge{s=\"3\"}", "{job=\"pushed\"}"] {
        let path = format!("/api/v1/series?{range}&match[]={}", percent(selector));
        check(&path, &[&["inspect", "series", "--match", selector], &times[..]].concat());
    }
    check(&format!("/api/v1/labels?{range}"), &[&["inspect", "labels"], &times[..]].concat());
    for label in ["__name__", "s", "le", "v", "nobody"] {
        let path = format!("/api/v1/label/{label}/values?{range}");
        check(&path, &[&["inspect", "labels", "--values", label], &times[..]].concat());
    }
    for expression in ["seen_total", "latency_bucket + on (le) seen_total", "pushed", "gauge"] {
        let path = format!("/api/v1/query_exemplars?{range}&query={}", percent(expression));
        check(&path, &[&["inspect", "exemplars", expression], &times[..]].concat());
    }
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    assert!(bytes > 200_000, "the peer answered with {bytes} bytes only");
}

const FEATURES: &str = "--enable-feature=exemplar-storage,native-histograms";

#[test]
fn promtool_dumps_what_was_ingested() {
    let Some(promtool) = peer("TSDBCTL_PEER_PROMTOOL") else { return };
    for args in [&[][..], &["--wal-compression", "none"]] {
        let (place, dir) = written(Content { histograms: true, late: false }, args);
        assert!(dir.join("chunks_head").read_dir().unwrap().count() > 0, "full chunks are in files");
        let copied = place.path().join("copy");
        copy(&dir, &copied);
        let (theirs, said) = promtool_dump(&promtool, &copied);
        assert_eq!(complaints(&said), Vec::<String>::new());
        // 2.42 dumps no histograms.
        let floats = |lines: &BTreeSet<String>| lines.iter().filter(|l| !has_histogram(l)).cloned().collect();
        assert_same(&floats(&export(&dir)), &floats(&theirs), "floats");
        assert_eq!(theirs.len(), 12_000);
    }
}

#[test]
fn a_server_answers_what_was_ingested_and_leaves_it_readable() {
    let Some(prometheus) = peer("TSDBCTL_PEER_PROMETHEUS") else { return };
    let (place, dir) = written(Content { histograms: true, late: true }, &[]);
    let ours = export(&dir);
    let copied = place.path().join("copy");
    copy(&dir, &copied);
    let server = Prometheus::start(
        &prometheus,
        &copied,
        place.path(),
        &[FEATURES, "--web.enable-remote-write-receiver"],
    );
    compare(&server, &dir);
    // A later sample makes it compact: then the block, the rest of its head and the blocks of late samples are ours.
    let newest = T + RUNS * RUN_MS;
    push(&server, "afterwards", newest);
    for _ in 0..300 {
        if server.log().contains("Head GC completed") && !copied.join("wbl/00000000").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = terminate(server);
    assert_eq!(complaints(&log), Vec::<String>::new());
    assert!(blocks(&copied) > 0, "nothing was compacted: {log}");
    let mut want = ours;
    want.insert(format!("{{__name__=\"afterwards\"}} 7 {newest}"));
    assert_same(&export(&copied), &want, "after it was closed");
    // And on we go.
    let line = format!("afterwards 8 {}\n", newest + 1);
    ingest(&copied, place.path(), "on.txt", line.as_bytes(), &[]);
    want.insert(format!("{{__name__=\"afterwards\"}} 8 {}", newest + 1));
    assert_same(&export(&copied), &want, "after more was ingested");
}

#[test]
fn a_server_takes_the_snapshot_that_was_left() {
    let Some(prometheus) = peer("TSDBCTL_PEER_PROMETHEUS") else { return };
    // 2.42 makes no snapshots where it has native histograms.
    let content = Content { histograms: false, late: false };
    let (place, dir) = written(content, &["--enable-feature", "memory-snapshot-on-shutdown"]);
    let snapshots = |dir: &Path| -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with("chunk_snapshot.")).collect()
    };
    assert_eq!(snapshots(&dir).len(), 1, "{:?}", snapshots(&dir));
    let copied = place.path().join("copy");
    copy(&dir, &copied);
    let features = "--enable-feature=exemplar-storage,memory-snapshot-on-shutdown";
    let server = Prometheus::start(&prometheus, &copied, place.path(), &[features]);
    assert!(server.log().contains("Chunk snapshot loading time"), "{}", server.log());
    compare(&server, &dir);
    let log = terminate(server);
    assert_eq!(complaints(&log), Vec::<String>::new());
    // Its snapshot, and its log.
    assert_same(&export(&copied), &export(&dir), "its snapshot");
    for snapshot in snapshots(&copied) {
        fs::remove_dir_all(copied.join(snapshot)).unwrap();
    }
    assert_same(&export(&copied), &export(&dir), "its log");
}

#[test]
fn one_of_both_has_the_directory() {
    let Some(prometheus) = peer("TSDBCTL_PEER_PROMETHEUS") else { return };
    let place = scratch();
    let dir = place.path().join("data");
    let file = place.path().join("in.txt");
    fs::write(&file, format!("a 1 {T}\n")).unwrap();
    ok(&["ingest", "-d", text_of(&dir), text_of(&file)]);
    // Debian's takes the lock only if it is told to, upstream's unless it is told not to.
    let help = Command::new(&prometheus).arg("--help").output().unwrap();
    let help = String::from_utf8([help.stdout, help.stderr].concat()).unwrap();
    let lock: &[&str] =
        if help.contains("tsdb.use-lockfile") { &["--storage.tsdb.use-lockfile"] } else { &[] };
    let server = Prometheus::start(&prometheus, &dir, place.path(), lock);
    let refused = command(&["ingest", "-d", text_of(&dir), text_of(&file)]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains(&server.pid().to_string()), "names its holder {}: {said}", server.pid());
    server.kill();

    let mut child = command(&["ingest", "-", "--ack", "-d", text_of(&dir)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "b 1 {T}").unwrap();
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(acks.next().unwrap().unwrap(), "1");
    let output = Command::new(&prometheus)
        .arg(format!("--config.file={}", place.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .args(lock)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("lock DB directory"), "{said}");
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(export(&dir).len(), 2);
}
