//! One directory used in turn by Prometheus and by us, each killed with SIGKILL.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use tsdbctl_testkit::peer::Prometheus;
use tsdbctl_testkit::scratch;

use crate::feed::{Fed, RUN_MS, Random, Run, SERIES, START_MS, check, check_no_leftovers, count};

/// Sends numbered samples as `Run` does until the time is up, then SIGKILL.
fn feed(peer: Prometheus, run: u64, first_ms: u64, time: Duration) -> Fed {
    let began = Instant::now();
    let (mut fed, mut acked) = (0, 0);
    while began.elapsed() < time && fed < 90_000 {
        let body = write_request(run, first_ms, fed..fed + 500);
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        let mut request = format!(
            "POST /api/v1/write HTTP/1.0\r\nContent-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
             X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        fed += 500;
        let answer = peer.ask(&request).unwrap_or_default();
        assert!(answer.starts_with("HTTP/1.0 2"), "remote write answers {answer}");
        acked = fed;
    }
    peer.kill();
    Fed { run, fed, acked }
}

fn uvarint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn field(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    out.push(number << 3 | 2);
    uvarint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// A remote-write 1.0 request with the samples `numbers` of a run.
fn write_request(run: u64, first_ms: u64, numbers: std::ops::Range<u64>) -> Vec<u8> {
    let mut request = Vec::new();
    for s in 0..SERIES {
        let mut series = Vec::new();
        let run = run.to_string();
        for (name, value) in [("__name__", "d"), ("run", run.as_str()), ("s", &s.to_string())] {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        for n in numbers.clone().filter(|n| n % SERIES == s) {
            let mut sample = vec![0x09];
            sample.extend_from_slice(&(n as f64).to_le_bytes());
            sample.push(0x10);
            uvarint(&mut sample, first_ms + n);
            field(&mut series, 2, &sample);
        }
        field(&mut request, 1, &series);
    }
    request
}

#[test]
fn a_directory_changes_hands_with_every_sample_once() {
    let Ok(program) = std::env::var("TSDBCTL_PEER_PROMETHEUS") else {
        println!("skipped: TSDBCTL_PEER_PROMETHEUS is not set");
        return;
    };
    let (turns, mut random) = (count("TSDBCTL_HANDOVERS", 10), Random::seeded());
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let mut runs: Vec<Fed> = Vec::new();
    for i in 0..turns {
        let first_ms = START_MS + i * RUN_MS;
        let time = Duration::from_millis(100 + random.below(900));
        let fed = if i % 2 == 0 {
            let peer =
                Prometheus::start(&program, &dir, scratch.path(), &["--web.enable-remote-write-receiver"]);
            feed(peer, i, first_ms, time)
        } else {
            let run = Run::start(&dir, i, first_ms, 90_000, scratch.path().join("errors"));
            std::thread::sleep(time);
            run.kill()
        };
        assert!(fed.acked > 0 || i % 2 == 1, "{fed:?}");
        runs.push(fed);
        check(&dir, &runs, &format!("after turn {i}"));
        let log = fs::read_to_string(scratch.path().join("peer.log")).unwrap();
        let complaint = log.lines().find(|l| l.contains("level=error") || l.contains("orrupt"));
        assert_eq!(complaint, None, "turn {i}");
    }
    // Both see the same in the end.
    let promtool = std::env::var("TSDBCTL_PEER_PROMTOOL").unwrap_or_else(|_| "promtool".to_string());
    let dump = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut lines: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_string).collect();
        lines.sort_unstable();
        lines
    };
    let mut ours = Command::new(env!("CARGO_BIN_EXE_tsdbctl"));
    ours.args(["export", "-d"]).arg(&dir);
    let mut theirs = Command::new(promtool);
    theirs.args(["tsdb", "dump"]).arg(&dir);
    let (ours, theirs) = (dump(ours), dump(theirs));
    assert_eq!(ours.len(), theirs.len());
    assert!(ours == theirs, "the dumps differ");
    let opened = Command::new(env!("CARGO_BIN_EXE_tsdbctl"))
        .args(["ingest", "/dev/null", "-d"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(opened.status.success());
    check_no_leftovers(&dir);
    println!("{turns} turns, {} samples acknowledged, none lost", runs.iter().map(|r| r.acked).sum::<u64>());
}
