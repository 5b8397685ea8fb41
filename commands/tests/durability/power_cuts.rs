//! Power cuts: the image of a file system, copied while it is written to, and opened.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tsdbctl_testkit::scratch;

use crate::feed::{Fed, RUN_MS, Random, Run, START_MS, check, check_no_leftovers, count, start_and_stop};
use crate::mount::Mount;

/// Copies an image of a file system as a power cut leaves it: what was submitted to the disk by now. The disk may be
/// written to meanwhile, so it is copied until two copies are equal.
fn cut(image: &Path, copy: &Path) {
    let mut before = fs::read(image).unwrap();
    loop {
        let after = fs::read(image).unwrap();
        if before == after {
            fs::write(copy, &after).unwrap();
            return;
        }
        before = after;
    }
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    let cuts = count("TSDBCTL_POWER_CUTS", 0);
    if cuts == 0 {
        println!("skipped: TSDBCTL_POWER_CUTS is not set");
        return;
    }
    let mut random = Random::seeded();
    let scratch = scratch();
    let image = scratch.path().join("disk.img");
    let mut acked = 0;
    let mut done = 0;
    while done < cuts {
        fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status().unwrap();
        assert!(made.success());
        let disk = Mount::new(scratch.path().join("disk"), &["-o", "loop", image.to_str().unwrap()]);
        let dir = disk.0.join("data");
        let mut runs: Vec<Fed> = Vec::new();
        for i in 0..10.min(cuts - done) {
            let run = Run::start(&dir, i, START_MS + i * RUN_MS, 90_000, scratch.path().join("errors"));
            std::thread::sleep(Duration::from_millis(20 + random.below(700)));
            // What was called safe before the cut must be in the image; what is fed later may be.
            let before = run.acked();
            let pid = run.process.id().to_string();
            assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
            let copy = scratch.path().join("copy.img");
            cut(&image, &copy);
            let fed = run.kill();
            acked += before;
            let here = Mount::new(scratch.path().join("copy"), &["-o", "loop", copy.to_str().unwrap()]);
            let mut expected = runs.clone();
            expected.push(Fed { acked: before, ..fed });
            let found = here.0.join("data");
            if found.join("wal").is_dir() {
                check(&found, &expected, "after a power cut");
                start_and_stop(&found);
                check_no_leftovers(&found);
                check(&found, &expected, "after the start behind a power cut");
            } else {
                assert!(expected.iter().all(|r| r.acked == 0), "the directory is gone: {expected:?}");
            }
            drop(here);
            runs.push(fed);
            done += 1;
        }
        drop(disk);
    }
    println!("{cuts} power cuts, {acked} samples acknowledged, none lost");
    assert!(acked > 0, "nothing was acknowledged at all");
}
