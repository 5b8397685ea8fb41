//! The shape of the workspace: who may depend on whom, what only some crates may touch, how files look.
//!
//! The table of crates in ARCHITECTURE.md is the rule; this test reads it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest a source file may be, tests at its foot included.
const LINES_MAX: usize = 1500;
/// May be used by every crate, so the table does not repeat it.
const EVERYWHERE: &str = "platform";
/// Exists for tests.
const FOR_TESTS: &str = "testkit";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace root")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Folders of `src/`.
fn crates() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("src")).expect("src/ lists");
    let folders = entries.map(|e| e.expect("src/ lists")).filter(|e| e.path().is_dir());
    folders.map(|e| e.file_name().into_string().expect("a plain name")).collect()
}

/// What the table of ARCHITECTURE.md allows each crate, from the lines ``| `name` | … | a, b |``.
fn allowed(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let Some((name, rest)) = line.strip_prefix("| `").and_then(|l| l.split_once("` |")) else { continue };
        let cells: Vec<&str> = rest.trim_end_matches(' ').trim_end_matches('|').split('|').collect();
        let edges = cells.last().expect("split gives one at least").split(',').map(|e| e.trim().to_owned());
        let edges = edges.filter(|e| e != "-" && !e.is_empty()).collect();
        assert!(table.insert(name.to_owned(), edges).is_none(), "{name} stands twice in the table");
    }
    table
}

/// The names under `[dependencies]` (or another section, `[target.….dependencies]` counts too), with whether
/// the version comes from the workspace.
fn dependencies(manifest: &str, section: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = header == section
                || (header.starts_with("target.") && header.ends_with(&format!(".{section}")));
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let key = line.split(['=', ' ']).next().expect("split gives one at least");
            let name = key.strip_suffix(".workspace").unwrap_or(key);
            found.push((name.to_owned(), line.contains("workspace = true")));
        }
    }
    found
}

/// All Rust files below the source folders.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder lists").path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    walk(&root().join("commands"), &mut files);
    files.sort();
    files
}

/// A path as it is shown: from the root of the workspace.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Whether a file holds nothing but tests or benchmarks.
fn is_for_tests(path: &str) -> bool {
    path.contains("/tests/")
        || path.contains("/benches/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
        || path.starts_with("src/testkit/")
}

/// What stands before a module of tests.
const TEST_ONLY: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test, unix))]"];

/// The lines of a file that are in the product, with their numbers: no comments, no test module at the foot.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let opens_module = |from: usize| {
        let item = lines[from..].iter().find(|l| !l.trim_start().starts_with("#["));
        item.is_some_and(|l| l.contains("mod ") && l.trim_end().ends_with('{'))
    };
    let foot = (0..lines.len()).find(|&n| TEST_ONLY.contains(&lines[n].trim()) && opens_module(n));
    let product = lines.into_iter().enumerate().take(foot.unwrap_or(usize::MAX));
    product.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(n, line)| (n + 1, line))
}

/// Whether `word` occurs with no identifier character before or after it.
fn mentions(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part)
            && !line[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn every_crate_stands_in_the_table_and_nothing_else_does() {
    let table = allowed(&read(&root().join("ARCHITECTURE.md")));
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), crates());
    for (name, edges) in &table {
        for edge in edges {
            assert!(table.contains_key(edge), "{name} may depend on {edge}, which is no crate");
        }
    }
}

#[test]
fn the_table_has_no_cycles() {
    let mut rest = allowed(&read(&root().join("ARCHITECTURE.md")));
    while !rest.is_empty() {
        let free: Vec<String> = rest.iter().filter(|(_, e)| e.is_empty()).map(|(n, _)| n.clone()).collect();
        assert!(!free.is_empty(), "these depend on each other in a circle: {:?}", rest.keys());
        for name in &free {
            rest.remove(name);
            rest.values_mut().for_each(|edges| {
                edges.remove(name);
            });
        }
    }
}

#[test]
fn crates_depend_on_what_the_table_allows() {
    let table = allowed(&read(&root().join("ARCHITECTURE.md")));
    let mut wrong = Vec::new();
    for name in crates() {
        let manifest = read(&root().join("src").join(&name).join("Cargo.toml"));
        for (dependency, _) in dependencies(&manifest, "dependencies") {
            let Some(edge) = dependency.strip_prefix("tsdbctl-") else { continue };
            if edge != EVERYWHERE && !table.get(&name).is_some_and(|edges| edges.contains(edge)) {
                wrong.push(format!("{name} -> {edge}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not in the table of ARCHITECTURE.md: {wrong:?}");
}

#[test]
fn the_testkit_is_for_tests() {
    for manifest in manifests() {
        let depends = dependencies(&read(&manifest), "dependencies");
        let uses = depends.iter().any(|(d, _)| d.strip_prefix("tsdbctl-") == Some(FOR_TESTS));
        assert!(!uses, "{}: {FOR_TESTS} belongs to dev-dependencies", shown(&manifest));
    }
}

#[test]
fn versions_stand_in_the_root_manifest() {
    for manifest in manifests() {
        let text = read(&manifest);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, from_workspace) in dependencies(&text, section) {
                assert!(
                    from_workspace,
                    "{}: {dependency} takes no version from the workspace",
                    shown(&manifest)
                );
            }
        }
    }
}

#[test]
fn the_core_is_synchronous() {
    const NETWORK: [&str; 10] = [
        "tokio",
        "async-std",
        "futures",
        "hyper",
        "axum",
        "tonic",
        "reqwest",
        "kube",
        "rustls",
        "object_store",
    ];
    // Where the network edges will be; today there are none.
    const EDGES: [&str; 8] =
        ["http", "scrape", "discovery", "remote", "objstore", "alertmanager", "pushgateway", "server"];
    for name in crates().iter().filter(|name| !EDGES.contains(&name.as_str())) {
        let manifest = read(&root().join("src").join(name).join("Cargo.toml"));
        for (dependency, _) in dependencies(&manifest, "dependencies") {
            assert!(!NETWORK.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

fn manifests() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        crates().iter().map(|c| root().join("src").join(c).join("Cargo.toml")).collect();
    all.push(root().join("Cargo.toml"));
    all
}

/// Names that only some crates may use, and where instead.
const BANNED: [(&str, &[&str], &str); 7] = [
    ("std::fs", &["src/platform/"], "platform::file or platform::map"),
    ("SystemTime::now", &["src/platform/"], "platform::clock"),
    ("rand", &["src/platform/"], "randomness that is passed in"),
    ("std::env", &["src/platform/", "commands/"], "an argument"),
    ("process::exit", &[], "a returned ExitStatus"),
    ("println!", &[], "a returned value, or Ui in commands/"),
    ("eprintln!", &[], "a returned value, or Ui in commands/"),
];

#[test]
fn the_outside_world_is_reached_through_platform() {
    let mut wrong = Vec::new();
    for path in sources() {
        let name = shown(&path);
        if is_for_tests(&name) {
            continue;
        }
        for (n, line) in product_lines(&read(&path)) {
            for (word, homes, instead) in BANNED {
                // `use std::{fs, …}` would slip by, so it is refused as such.
                let grouped = word == "std::fs" && line.contains("std::{") && mentions(line, "fs");
                if (mentions(line, word) || grouped) && !homes.iter().any(|home| name.starts_with(home)) {
                    wrong.push(format!("{name}:{n}: {word}; use {instead}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_answer_for() {
    for path in sources() {
        let text = read(&path);
        let opening = text.lines().next().unwrap_or_default();
        let says = opening.strip_prefix("//! ").is_some_and(|s| s.trim().len() > 10);
        assert!(says, "{}: the first line is not a `//!` sentence", shown(&path));
    }
}

#[test]
fn files_stay_readable() {
    const DRAWERS: [&str; 6] = ["util", "utils", "helper", "helpers", "common", "misc"];
    for path in sources() {
        let (name, text) = (shown(&path), read(&path));
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name}: {lines} lines, more than {LINES_MAX}");
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        assert!(!DRAWERS.contains(&stem), "{name}: name the thing it holds");
        assert!(text.ends_with('\n'), "{name}: no newline at its end");
        for (n, line) in text.lines().enumerate() {
            assert!(line.trim_end() == line, "{name}:{}: space at the end of the line", n + 1);
            assert!(!line.contains('\t'), "{name}:{}: a tab", n + 1);
            let leftover = ["FIX", "XXX"].iter().any(|w| mentions(line, &format!("{w}ME")));
            assert!(!leftover, "{name}:{}: unfinished business", n + 1);
        }
    }
}

#[test]
fn what_this_test_reads_it_reads_right() {
    let table =
        allowed("| crate | x | y |\n|---|---|---|\n| `a` | does, things | - |\n| `b` | more | a, c |\n");
    assert_eq!(table["a"], BTreeSet::new());
    assert_eq!(table["b"], BTreeSet::from(["a".to_owned(), "c".to_owned()]));

    let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = { workspace = true }\n\
                    [target.'cfg(unix)'.dependencies]\nd = \"2\"\n";
    let names = |section| dependencies(manifest, section).into_iter().collect::<Vec<_>>();
    let entry = |name: &str, from_workspace| (name.to_owned(), from_workspace);
    assert_eq!(names("dependencies"), [entry("a", true), entry("b", false), entry("d", false)]);
    assert_eq!(names("dev-dependencies"), [entry("c", true)]);

    assert!(mentions("use std::fs::File;", "std::fs"));
    assert!(!mentions("use operand;", "rand"));
    let text = "a\n// b\n#[cfg(test)]\nmod tests;\nc\n#[cfg(test)]\n#[allow(x)]\nmod tests {\nd\n";
    let kept: Vec<&str> = product_lines(text).map(|(_, line)| line).collect();
    assert_eq!(kept, ["a", "#[cfg(test)]", "mod tests;", "c"]);
}
