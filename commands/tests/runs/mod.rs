//! Runs of the binary as a user makes them: what came of one, the place it works in, what is exported of its result.
//!
//! `TSDBCTL_PEER_PROMETHEUS` and `TSDBCTL_PEER_PROMTOOL` name the peer's programs (2.42 or newer).

#![allow(dead_code, reason = "each of the tests uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tsdbctl_testkit::{TempDir, scratch};

/// How a program ended, and all that it wrote.
pub struct Ran {
    /// Exit status; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// `tsdbctl`, to be run.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tsdbctl"));
    command.args(args);
    command
}

/// `tsdbctl rules test` in a directory, to be run.
pub fn rules_test_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = command(&["rules", "test"]);
    command.args(args).current_dir(dir);
    command
}

/// Runs `tsdbctl rules test` in a directory.
pub fn rules_test(dir: &Path, args: &[&str]) -> Ran {
    ran(&mut rules_test_command(dir, args))
}

/// Runs a program to its end.
pub fn ran(command: &mut Command) -> Ran {
    let done = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: done.status.code().unwrap_or(-1), out: text(done.stdout), err: text(done.stderr) }
}

/// Runs `tsdbctl`.
pub fn tsdbctl(args: &[&str]) -> Ran {
    ran(&mut command(args))
}

/// What `tsdbctl` prints; it succeeds.
pub fn ok(args: &[&str]) -> String {
    let ran = tsdbctl(args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    ran.out
}

/// The peer's program, if the variable names one; else that is said.
pub fn peer(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|v| !v.is_empty());
    if found.is_none() {
        skipped(variable);
    }
    found
}

#[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
fn skipped(variable: &str) {
    eprintln!("skipped: {variable} is not set");
}

/// A path as text.
pub fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let into = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &into)
        } else {
            fs::copy(entry.path(), into).map(drop).unwrap()
        }
    }
}

/// Lines in order.
pub fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// What is exported of a directory, in order.
pub fn exported(dir: &Path, args: &[&str]) -> Vec<String> {
    sorted(&ok(&[&["export", "-d", text_of(dir)], args].concat()))
}

/// Two exports are the same; else the first line that differs is told.
pub fn assert_same_lines(got: &[String], want: &[String], what: &str) {
    if let Some(i) = (0..want.len().max(got.len())).find(|i| want.get(*i) != got.get(*i)) {
        let (lines, wanted) = (got.len(), want.len());
        panic!(
            "{what}: {lines} lines, {wanted} expected; line {i}:\n want {:?}\n got  {:?}",
            want.get(i),
            got.get(i)
        );
    }
}

/// A scratch directory with inputs and data directories in it.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        Self { dir: scratch() }
    }

    /// Where something of that name is, or will be.
    pub fn within(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// That as text.
    pub fn path(&self, name: &str) -> String {
        text_of(&self.within(name)).to_owned()
    }

    /// Writes a file, and tells its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.within(name), content).unwrap();
        self.path(name)
    }

    /// What is exported of a data directory.
    pub fn dump(&self, name: &str) -> String {
        ok(&["export", "-d", &self.path(name)])
    }
}
