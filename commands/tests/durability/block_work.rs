//! `compact --flush-head`, `compact`, `downsample --tiers` and `ingest --blocks` ended at random times by SIGKILL, and on
//! disks that are full: every sample stays there once, raw or in one window, and the next run does the rest.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tsdbctl_testkit::scratch;

use crate::feed::{Random, check_no_leftovers, count};
use crate::mount::Mount;

const HOUR_MS: i64 = 3_600_000;
/// Ages are counted from the newest block, so any time will do: at full six hours in 2023.
const START_MS: i64 = 1_700_000_000_000 / (6 * HOUR_MS) * (6 * HOUR_MS);
/// Longer blocks could reach over times whose raw samples went, and what of such is not downsampled yet stays raw.
const LONGEST: &str = "--max-block-duration=6h";
const SERIES: i64 = 6;
/// A sample of each series every so often, none of them where windows meet.
const STEP_MS: i64 = 120_000;
const OFFSET_MS: i64 = 30_000;
/// Hours of blocks that a directory begins with: what is downsampled is older than 40.
const HISTORY_HOURS: i64 = 48;
/// Commands that are ended in one directory: what is checked grows.
const TURNS: u64 = 12;

/// What is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flush,
    Compact,
    Downsample,
    Backfill,
}

const KINDS: [Kind; 4] = [Kind::Flush, Kind::Compact, Kind::Downsample, Kind::Backfill];

fn tsdbctl(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsdbctl"));
    command.args(args).arg("-d").arg(dir).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(mut command: Command, what: &str) -> Output {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{what}: {command:?}: {}: {}", output.status, text(&output.stderr));
    output
}

/// Every raw sample; where only windows are left, the command says so.
fn export(dir: &Path, what: &str) -> Output {
    let output = tsdbctl(&["export"], dir).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = text(&output.stderr);
    let is_told = output.status.code() == Some(4) && said.contains("only downsampled samples are left");
    assert!(output.status.success() || is_told, "{what}: export: {}: {said}", output.status);
    output
}

/// The samples from one time to another, in lines of the text format.
fn lines(from: i64, to: i64) -> String {
    let mut lines = String::new();
    for t in (from + OFFSET_MS..to).step_by(STEP_MS as usize) {
        for s in 0..SERIES {
            lines.push_str(&format!("d{{s=\"{s}\"}} {} {t}\n", value(s, t)));
        }
    }
    lines
}

fn value(s: i64, t: i64) -> i64 {
    (t - START_MS) / STEP_MS * 10 + s
}

/// A directory and what was put into it.
struct Place {
    root: PathBuf,
    dir: PathBuf,
    /// The samples are those from here …
    from: i64,
    /// … to here.
    to: i64,
}

impl Place {
    fn new(root: &Path) -> Self {
        let mut place = Self { root: root.to_owned(), dir: root.join("data"), from: START_MS, to: START_MS };
        place.from -= HISTORY_HOURS * HOUR_MS;
        run(place.backfill(place.from, place.to), "history");
        place
    }

    fn backfill(&self, from: i64, to: i64) -> Command {
        let input = self.root.join("input");
        fs::write(&input, lines(from, to)).unwrap();
        let args = ["ingest", "--blocks", "--allow-overlap", "--format", "text"];
        let mut command = tsdbctl(&args, &self.dir);
        command.arg(input);
        command
    }

    /// More samples for the head.
    fn feed(&mut self, hours: i64) {
        let end = self.to + hours * HOUR_MS;
        let mut command = tsdbctl(&["ingest", "-", "--format", "text"], &self.dir);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines(self.to, end).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        self.to = end;
    }

    /// Sees to it that there is something to do; what does it, and from where on samples may be there then.
    fn prepare(&mut self, kind: Kind) -> (Command, i64) {
        match kind {
            Kind::Flush => self.feed(4),
            Kind::Compact | Kind::Downsample => {
                self.feed(6);
                let args = ["compact", "--flush-head", "--max-block-duration=2h"];
                run(tsdbctl(&args, &self.dir), "flush");
            }
            Kind::Backfill => {}
        }
        let command = match kind {
            Kind::Flush => tsdbctl(&["compact", "--flush-head", LONGEST], &self.dir),
            Kind::Compact => tsdbctl(&["compact", LONGEST], &self.dir),
            Kind::Downsample => tsdbctl(&["downsample", "--tiers", "raw=42h"], &self.dir),
            Kind::Backfill => {
                let from = self.from - 6 * HOUR_MS;
                return (self.backfill(from, self.from), from);
            }
        };
        (command, self.from)
    }

    /// Everything is there once; so may be what is between `maybe_from` and the first sample.
    fn check(&self, maybe_from: i64, what: &str) {
        let output = export(&self.dir, what);
        let (mut raw, mut before) = (BTreeSet::new(), 0);
        for line in text(&output.stdout).lines() {
            let words: Vec<&str> = line.rsplitn(3, ' ').collect();
            let s: i64 =
                words[2].split("s=\"").nth(1).and_then(|s| s.split('"').next()).unwrap().parse().unwrap();
            let t: i64 = words[0].parse().unwrap();
            assert_eq!(words[1].parse::<f64>().unwrap(), value(s, t) as f64, "{what}: {line}");
            assert!((maybe_from..self.to).contains(&t), "{what}: {line}");
            assert!(raw.insert((s, t)), "{what}: {line} is there twice");
            before += u64::from(t < self.from);
        }
        // Of raw samples or windows, in two hours each.
        let seconds = |t: i64| (t / 1000).to_string();
        let mut command = tsdbctl(
            &[
                "query",
                "sum(count_over_time(d[2h]))",
                "-o",
                "json",
                "--step=2h",
                "--max-source-resolution=5m",
            ],
            &self.dir,
        );
        command.args(["--start", &seconds(maybe_from + 2 * HOUR_MS), "--end", &seconds(self.to)]);
        let output = run(command, what);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let points = answer["data"]["result"][0]["values"].as_array().unwrap();
        let whole = 2 * HOUR_MS / STEP_MS * SERIES;
        let mut end = self.from;
        for point in points {
            let t = (point[0].as_f64().unwrap() * 1000.0) as i64;
            let found: f64 = point[1].as_str().unwrap().parse().unwrap();
            assert_eq!(found as i64, whole, "{what}: in the two hours up to {t} of {points:?}");
            if t > self.from {
                end += 2 * HOUR_MS;
                assert_eq!(t, end, "{what}: two hours are missing");
            }
        }
        assert_eq!(end, self.to, "{what}");
        if maybe_from == self.from {
            assert_eq!(before, 0, "{what}");
        }
    }
}

#[test]
fn sigkill_of_what_works_on_blocks_loses_and_doubles_nothing() {
    let (wanted, mut random) = (count("TSDBCTL_COMPACT_KILLS", 8), Random::seeded());
    let scratch = scratch();
    // What a run takes, about.
    let mut typical = [Duration::from_millis(40); KINDS.len()];
    let (mut kills, mut in_time, mut samples) = ([0; KINDS.len()], 0, 0);
    'all: for batch in 0.. {
        let root = scratch.path().join(format!("{batch}"));
        fs::create_dir(&root).unwrap();
        let mut place = Place::new(&root);
        for turn in 0..TURNS {
            let number = random.below(KINDS.len() as u64) as usize;
            let kind = KINDS[number];
            let what = format!("directory {batch}, turn {turn}, {kind:?}");
            let (mut command, maybe_from) = place.prepare(kind);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let whole = u64::try_from(typical[number].as_micros()).unwrap();
            std::thread::sleep(Duration::from_micros(random.below(whole + whole / 20)));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                kills[number] += 1;
            } else {
                in_time += 1;
            }
            child.wait().unwrap();
            place.check(maybe_from, &format!("{what}, killed"));
            let began = Instant::now();
            run(command, &what);
            typical[number] = (typical[number] * 3 + began.elapsed()) / 4;
            place.from = maybe_from;
            place.check(maybe_from, &format!("{what}, done"));
            check_no_leftovers(&place.dir);
            if kills.iter().sum::<u64>() >= wanted {
                break 'all;
            }
        }
        samples += (place.to - place.from) / STEP_MS * SERIES;
        fs::remove_dir_all(&root).unwrap();
    }
    println!(
        "{} kills ({KINDS:?}: {kills:?}; {in_time} were done in time), {samples} samples, none lost, none twice",
        kills.iter().sum::<u64>()
    );
}

#[test]
fn a_full_disk_stops_what_works_on_blocks_and_no_more() {
    let disks = count("TSDBCTL_FULL_DISKS", 0);
    if disks == 0 {
        println!("skipped: TSDBCTL_FULL_DISKS is not set");
        return;
    }
    let mut random = Random::seeded();
    let scratch = scratch();
    let (mut stopped, mut room_enough) = ([0; KINDS.len()], 0);
    for disk in 0..disks {
        let number = random.below(KINDS.len() as u64) as usize;
        let kind = KINDS[number];
        let mount = Mount::new(scratch.path().join("disk"), &["-t", "tmpfs", "-o", "size=16m", "tmpfs"]);
        let mut place = Place::new(scratch.path());
        // The input is no part of the disk.
        let on_disk = mount.0.join("data");
        assert!(Command::new("cp").arg("-r").arg(&place.dir).arg(&on_disk).status().unwrap().success());
        fs::remove_dir_all(&place.dir).unwrap();
        place.dir = on_disk;
        let (mut command, maybe_from) = place.prepare(kind);
        // All but a few pages.
        let filler = mount.0.join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write(&[1; 4096]).is_ok_and(|n| n > 0) {}
        let left = random.below(60) * 4096;
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left)).unwrap();
        let what = format!("disk {disk}, {kind:?}, {left} bytes left");
        let output = command.output().unwrap();
        if output.status.success() {
            room_enough += 1;
        } else {
            assert!(output.status.code().is_some(), "{what}: {}", text(&output.stderr));
            stopped[number] += 1;
        }
        place.check(maybe_from, &format!("{what}, full"));
        drop(file);
        fs::remove_file(&filler).unwrap();
        run(command, &what);
        place.from = maybe_from;
        place.check(maybe_from, &format!("{what}, with room"));
        check_no_leftovers(&place.dir);
        fs::remove_dir_all(&place.dir).unwrap();
    }
    println!(
        "{disks} full disks stopped {KINDS:?} {stopped:?} times, {room_enough} had room enough; none lost anything"
    );
}
