//! SIGKILL at random times, several runs in one directory.

use std::fs;
use std::time::Duration;

use tsdbctl_testkit::scratch;

use crate::feed::{RUN_MS, Random, Run, START_MS, check, check_no_leftovers, count, start_and_stop};

#[test]
fn sigkill_at_any_time_loses_nothing_acknowledged() {
    let (kills, mut random) = (count("TSDBCTL_KILLS", 12), Random::seeded());
    let scratch = scratch();
    let mut acked = 0;
    // Fresh directories in between: what is checked grows with every run.
    for (batch, first) in (0..kills).step_by(10).enumerate() {
        let dir = scratch.path().join(format!("data{batch}"));
        let mut runs = Vec::new();
        for i in 0..(kills - first).min(10) {
            let run = Run::start(&dir, i, START_MS + i * RUN_MS, 60_000, scratch.path().join("errors"));
            std::thread::sleep(Duration::from_millis(random.below(400)));
            runs.push(run.kill());
            if random.below(3) == 0 {
                check(&dir, &runs, "after SIGKILL");
            }
        }
        start_and_stop(&dir);
        check_no_leftovers(&dir);
        check(&dir, &runs, "after the next start");
        acked += runs.iter().map(|r| r.acked).sum::<u64>();
        fs::remove_dir_all(&dir).unwrap();
    }
    println!("{kills} kills, {acked} samples acknowledged, none lost");
    assert!(acked > 0, "nothing was acknowledged at all");
}
