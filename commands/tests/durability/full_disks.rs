//! Full disks.

use std::process::Command;
use std::time::{Duration, Instant};

use tsdbctl_testkit::scratch;

use crate::feed::{Random, Run, START_MS, check, check_no_leftovers, count, start_and_stop};
use crate::mount::Mount;

#[test]
fn a_full_disk_loses_nothing_acknowledged_and_ingest_goes_on_when_there_is_room() {
    let disks = count("TSDBCTL_FULL_DISKS", 0);
    if disks == 0 {
        println!("skipped: TSDBCTL_FULL_DISKS is not set");
        return;
    }
    let mut random = Random::seeded();
    let scratch = scratch();
    for i in 0..disks {
        let bytes = 300_000 + random.below(3_000_000);
        let disk = Mount::new(
            scratch.path().join("disk"),
            &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"],
        );
        let dir = disk.0.join("data");
        let mut run = Run::start(&dir, 0, START_MS, 99_000, scratch.path().join("errors"));
        let began = Instant::now();
        let mut stuck = (0, Instant::now());
        // Full: nothing new is called safe for a while.
        while stuck.1.elapsed() < Duration::from_millis(700) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
            if run.acked() != stuck.0 {
                stuck = (run.acked(), Instant::now());
            }
        }
        let full = run.acked();
        assert!(run.process.try_wait().unwrap().is_none(), "disk {i}: it ended: {}", run.errors());
        let room = Command::new("mount").args(["-o", "remount,size=200m"]).arg(&disk.0).status().unwrap();
        assert!(room.success());
        let fed = if i % 3 == 2 {
            std::mem::replace(
                &mut run,
                Run::start(&scratch.path().join("other"), 0, 0, 1, scratch.path().join("e2")),
            )
            .kill()
        } else {
            run.finish()
        };
        if i % 3 != 2 {
            assert_eq!(fed.acked, 99_000, "disk {i} of {bytes} bytes, full at {full}: {}", run.errors());
        }
        check(&dir, &[fed], "after a full disk");
        start_and_stop(&dir);
        check_no_leftovers(&dir);
        check(&dir, &[fed], "after the start behind a full disk");
    }
    println!("{disks} full disks, none lost anything");
}
