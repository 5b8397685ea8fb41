//! Files that are generated from the command line's definition and kept in the tree: completions and manual pages.
//!
//! `TSDBCTL_REGENERATE=1 cargo test --test generated` writes them anew.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::path::{Path, PathBuf};

use tsdbctl::completions::{CompletedShell, script};
use tsdbctl::man::pages;

fn check(dir: &str, files: Vec<(String, Vec<u8>)>) {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let regenerate = std::env::var_os("TSDBCTL_REGENERATE").is_some();
    if regenerate {
        std::fs::create_dir_all(&dir).unwrap();
        for (name, content) in &files {
            std::fs::write(dir.join(name), content).unwrap();
        }
    }
    for (name, content) in &files {
        let have = std::fs::read(dir.join(name)).unwrap_or_default();
        assert!(have == *content, "{} is stale; run TSDBCTL_REGENERATE=1 cargo test --test generated", name);
    }
    let kept = std::fs::read_dir(&dir).unwrap().count();
    assert_eq!(kept, files.len(), "{} holds files that nothing generates", dir.display());
}

#[test]
fn completions_are_up_to_date() {
    let files = CompletedShell::ALL.map(|(shell, name)| (name.to_string(), script(shell)));
    check("completions", files.to_vec());
}

#[test]
fn manual_pages_are_up_to_date() {
    check("man", pages().unwrap());
}
