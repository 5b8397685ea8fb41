//! An `ingest` that is fed numbered samples, and what must be found of them afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Series of one run of `ingest`.
pub const SERIES: u64 = 50;
/// Time of the first sample, Unix ms.
pub const START_MS: u64 = 1_795_000_000_000;

/// How often something is done, from the environment.
pub fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{variable}={v}")))
}

/// A small generator of numbers; the seed is printed so that a failure can be repeated.
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Self {
        let seed = count("TSDBCTL_SEED", u64::from(std::process::id()));
        println!("TSDBCTL_SEED={seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// An `ingest` that is fed samples for as long as it lives. Sample `n` of run `run` has the value `n`, belongs to
/// series `n % SERIES` and lies at `first_ms + n`.
pub struct Run {
    run: u64,
    pub process: Child,
    fed: Arc<AtomicU64>,
    acked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    errors: PathBuf,
}

impl Run {
    pub fn start(dir: &Path, run: u64, first_ms: u64, samples: u64, errors: PathBuf) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tsdbctl"))
            .args(["ingest", "-", "--ack", "--format", "text", "-d"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let (fed, acked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut to = process.stdin.take().unwrap();
        let from = BufReader::new(process.stdout.take().unwrap());
        let counter = fed.clone();
        let feeder = std::thread::spawn(move || {
            let mut text = String::new();
            for n in 0..samples {
                let s = n % SERIES;
                text.push_str(&format!("d{{run=\"{run}\",s=\"{s}\"}} {n} {}\n", first_ms + n));
                if n % 250 == 249 || n + 1 == samples {
                    counter.store(n + 1, Ordering::SeqCst);
                    if to.write_all(text.as_bytes()).is_err() {
                        return;
                    }
                    text.clear();
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        let counter = acked.clone();
        let listener = std::thread::spawn(move || {
            for line in from.lines() {
                let Ok(line) = line else { return };
                let digits = line.rsplit(|c: char| !c.is_ascii_digit()).find(|w| !w.is_empty());
                if let Some(n) = digits.and_then(|d| d.parse().ok()) {
                    counter.fetch_max(n, Ordering::SeqCst);
                }
            }
        });
        Self { run, process, fed, acked, threads: vec![feeder, listener], errors }
    }

    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::SeqCst)
    }

    /// SIGKILL, and everything it had printed is read.
    pub fn kill(mut self) -> Fed {
        let _ = self.process.kill();
        self.finish()
    }

    /// Waits until the input was taken.
    pub fn finish(&mut self) -> Fed {
        let _ = self.process.wait();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        Fed { run: self.run, fed: self.fed.load(Ordering::SeqCst), acked: self.acked() }
    }

    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a run was given and what it called safe.
#[derive(Clone, Copy, Debug)]
pub struct Fed {
    pub run: u64,
    pub fed: u64,
    pub acked: u64,
}

/// The samples of a directory: per run the numbers found, ascending.
pub fn found(dir: &Path) -> BTreeMap<u64, Vec<u64>> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tsdbctl")).args(["export", "-d"]).arg(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: not readable: {errors}", dir.display());
    assert!(errors.is_empty(), "{}: {errors}", dir.display());
    let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let label = |name: &str| -> u64 {
            let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{line}"));
            rest.split('"').next().unwrap().parse().unwrap()
        };
        let mut words = line.rsplit(' ');
        let t: u64 = words.next().unwrap().parse().unwrap();
        let n: u64 = words.next().unwrap().parse::<f64>().unwrap() as u64;
        assert_eq!(n % SERIES, label("s"), "{line}");
        let run = label("run");
        assert_eq!(t % 1_000_000_000, (START_MS + run * RUN_MS + n) % 1_000_000_000, "{line}");
        all.entry(run).or_default().push(n);
    }
    for numbers in all.values_mut() {
        numbers.sort_unstable();
    }
    all
}

/// Distance between the first samples of two runs.
pub const RUN_MS: u64 = 100_000;

/// Every acknowledged sample is there, once, and nothing that was not given.
pub fn check(dir: &Path, runs: &[Fed], what: &str) {
    let all = found(dir);
    for run in runs {
        let numbers = all.get(&run.run).map_or(&[][..], Vec::as_slice);
        let doubled = numbers.windows(2).find(|w| w[0] == w[1]);
        assert_eq!(doubled, None, "{what}: {run:?}: a sample is there twice");
        let safe = numbers.iter().filter(|n| **n < run.acked).count() as u64;
        assert_eq!(safe, run.acked, "{what}: {run:?}: acknowledged samples are missing");
        assert!(numbers.last().is_none_or(|n| *n < run.fed), "{what}: {run:?}: {:?}", numbers.last());
    }
    let given: u64 = runs.iter().map(|r| r.run).max().unwrap_or(0);
    assert!(all.keys().all(|run| *run <= given), "{what}: runs that never were");
}

/// What a start must have cleared away.
pub fn check_no_leftovers(dir: &Path) {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!name.contains(".tmp"), "{} is left over", path.display());
            if path.is_dir() && name != "quarantine" {
                open.push(path);
            }
        }
    }
}

/// Opens and closes a directory for writing, as the next start does.
pub fn start_and_stop(dir: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_tsdbctl"))
        .args(["ingest", "/dev/null", "-d"])
        .arg(dir)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: does not open: {errors}", dir.display());
}
