//! Full disks: tmpfs of random sizes, file systems without inodes, ext4 filled up; what fills is waited for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tsdbctl_testkit::scratch;

use crate::feed::{Fed, Random, Run, START_MS, check, check_no_leftovers, count, start_and_stop};
use crate::mount::Mount;

/// Samples that are fed: more than any of the disks takes.
const SAMPLES: u64 = 99_000;

/// A disk that fills up.
enum Disk {
    /// Of so many bytes.
    Small(Mount),
    /// Of so many files.
    FewFiles(Mount),
    /// Nearly filled by a file.
    Shared(Mount, PathBuf),
}

impl Disk {
    fn new(scratch: &Path, random: &mut Random) -> (Self, String) {
        let at = scratch.join("disk");
        let tmpfs = |options: &str| Mount::new(at.clone(), &["-t", "tmpfs", "-o", options, "tmpfs"]);
        match random.below(8) {
            0 => {
                let files = 3 + random.below(6);
                (Self::FewFiles(tmpfs(&format!("size=200m,nr_inodes={files}"))), format!("{files} files"))
            }
            1 => {
                let image = scratch.join("ext4.img");
                fs::File::create(&image).unwrap().set_len(12 << 20).unwrap();
                let mut mkfs = Command::new("mkfs.ext4");
                mkfs.args(["-q", "-F", "-m", "0", "-O", "^has_journal"]).arg(&image);
                assert!(mkfs.status().unwrap().success());
                let mount = Mount::new(at, &["-o", "loop", image.to_str().unwrap()]);
                let (ballast, room) = (mount.0.join("ballast"), 100_000 + random.below(450_000));
                // All there is, then as much as is to be free is given back.
                let chunk = vec![1; 4096];
                let mut file = fs::File::create(&ballast).unwrap();
                let mut bytes = 0;
                while std::io::Write::write_all(&mut file, &chunk).is_ok() {
                    bytes += 4096;
                }
                file.set_len(bytes - room).unwrap();
                file.sync_all().unwrap();
                (Self::Shared(mount, ballast), format!("ext4 with {room} bytes"))
            }
            _ => {
                let bytes = 60_000 + random.below(500_000);
                (Self::Small(tmpfs(&format!("size={bytes}"))), format!("{bytes} bytes"))
            }
        }
    }

    fn dir(&self) -> PathBuf {
        let (Self::Small(mount) | Self::FewFiles(mount) | Self::Shared(mount, _)) = self;
        mount.0.join("data")
    }

    fn make_room(&self) {
        match self {
            Self::Small(mount) | Self::FewFiles(mount) => {
                let mut remount = Command::new("mount");
                remount.args(["-o", "remount,size=200m,nr_inodes=1000"]).arg(&mount.0);
                assert!(remount.status().unwrap().success());
            }
            Self::Shared(_, ballast) => fs::remove_file(ballast).unwrap(),
        }
    }
}

/// Waits until the disk is full, which is told, or the run ends.
fn wait_until_stuck(run: &mut Run) {
    let began = Instant::now();
    while !run.errors().contains("wait until the disk takes them") {
        assert!(began.elapsed() < Duration::from_secs(120), "neither full nor done: {}", run.errors());
        if run.process.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // What was logged before is acknowledged by now, if it ever will be.
    std::thread::sleep(Duration::from_millis(100));
}

fn interrupt(run: &Run) {
    let pid = run.process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

/// A start on the full disk: it works, or is refused with the reason, and harms nothing.
fn start_on_full(dir: &Path, what: &str) {
    let mut start = Command::new(env!("CARGO_BIN_EXE_tsdbctl"));
    let output = start.args(["ingest", "/dev/null", "-d"]).arg(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || errors.contains("No space left"), "{what}: {errors}");
}

#[test]
fn a_full_disk_loses_nothing_acknowledged_and_ingest_goes_on_when_there_is_room() {
    let disks = count("TSDBCTL_FULL_DISKS", 0);
    if disks == 0 {
        println!("skipped: TSDBCTL_FULL_DISKS is not set");
        return;
    }
    let mut random = Random::seeded();
    let scratch = scratch();
    let (mut full, mut went_on, mut killed, mut interrupted, mut not_begun) = (0, 0, 0, 0, 0);
    for i in 0..disks {
        let (disk, name) = Disk::new(scratch.path(), &mut random);
        let (dir, what) = (disk.dir(), format!("disk {i}, {name}"));
        let mut run = Run::start(&dir, 0, START_MS, SAMPLES, scratch.path().join("errors"));
        wait_until_stuck(&mut run);
        let before = run.acked();
        if let Some(status) = run.process.try_wait().unwrap() {
            let fed = run.finish();
            let errors = run.errors();
            if fed.acked == SAMPLES {
                assert!(status.success(), "{what}: {errors}");
            } else {
                // It could not even begin.
                assert!(fed.acked == 0 && errors.contains("No space left"), "{what}: {errors}");
                not_begun += 1;
            }
            disk.make_room();
            start_and_stop(&dir);
            check_no_leftovers(&dir);
            check(&dir, &[fed], &what);
            continue;
        }
        full += 1;
        // Reading needs no space.
        check(&dir, &[Fed { run: 0, fed: SAMPLES, acked: before }], &format!("{what}, while it is full"));
        let fed = match random.below(5) {
            0 => {
                killed += 1;
                let fed = run.kill();
                start_on_full(&dir, &what);
                check(&dir, &[fed], &format!("{what}, after a start on it"));
                disk.make_room();
                fed
            }
            1 => {
                interrupted += 1;
                interrupt(&run);
                let fed = run.finish();
                let (errors, status) = (run.errors(), run.process.wait().unwrap());
                assert_eq!(status.code(), Some(1), "{what}: {errors}");
                assert!(errors.contains("lost ") && errors.contains("interrupted"), "{what}: {errors}");
                check(&dir, &[fed], &format!("{what}, interrupted"));
                start_on_full(&dir, &what);
                disk.make_room();
                fed
            }
            2 => {
                killed += 1;
                disk.make_room();
                std::thread::sleep(Duration::from_millis(random.below(1500)));
                run.kill()
            }
            _ => {
                went_on += 1;
                disk.make_room();
                let fed = run.finish();
                let (errors, status) = (run.errors(), run.process.wait().unwrap());
                assert!(fed.acked == SAMPLES && status.success(), "{what}, full at {before}: {errors}");
                assert_eq!(errors.matches("No space left").count(), 1, "{what}: told once: {errors}");
                assert_eq!(errors.matches("takes data again").count(), 1, "{what}: {errors}");
                fed
            }
        };
        check(&dir, &[fed], &what);
        start_and_stop(&dir);
        check_no_leftovers(&dir);
        check(&dir, &[fed], &format!("{what}, after the next start"));
    }
    println!(
        "{disks} full disks, none lost anything: {full} filled up ({went_on} went on, {killed} killed, {interrupted} \
         interrupted), {not_begun} refused at the start, {} never hindered",
        disks - full - not_begun
    );
}
