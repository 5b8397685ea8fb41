//! `tsdbctl slice`, run as a user runs it: what is exported of the result is the filtered export of the input.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use runs::{assert_same_lines, exported, ok, text_of, tsdbctl};
use tsdbctl_testkit::{scratch, unpack_directory};

/// All bytes of all files below a directory.
fn bytes_of(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        all.extend(if path.is_dir() { bytes_of(&path) } else { fs::read(&path).unwrap() });
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// Slices of a real directory.
fn slices(name: &str, cases: &[&[&str]]) {
    let Some((scratch, dir)) = unpack_directory(&format!("data/{name}.tar.zst")) else { return };
    let mut found = 0;
    for (n, args) in cases.iter().enumerate() {
        let into = scratch.path().join(n.to_string());
        let want = exported(&dir, args);
        ok(&[&["slice", "-d", text_of(&dir), "--into", text_of(&into)], *args].concat());
        if want.is_empty() {
            assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "{args:?}");
            continue;
        }
        assert_same_lines(&exported(&into, &[]), &want, &format!("{name} {args:?}"));
        found += 1;
    }
    assert!(found >= cases.len() - 1, "{name}: most slices have samples");
}

#[test]
fn slices_of_2_42() {
    slices(
        "prometheus-2.42-crashed",
        &[
            &["--match", "up"],
            &["--match", "{job=~\".+\"}", "--start", "newest-17m", "--end", "newest-3m"],
            &[
                "--start",
                "newest-7m7s",
                "--match",
                "{__name__=~\"node.*\"}",
                "--match",
                "{__name__=~\".*_total\"}",
            ],
            &["--match", "nothing_is_called_so"],
        ],
    );
}

#[test]
fn slices_of_3_14() {
    slices(
        "prometheus-3.14-crashed",
        &[
            &["--start", "newest-21m", "--end", "newest-11m"],
            &["--match", "{__name__!~\".*_bucket\"}", "--end", "newest-25m"],
            &["--start", "newest-20m30s", "--end", "newest-20m", "--match", "{job=~\".+\"}", "--match", "up"],
            &["--end", "1970-01-01T00:00:10Z"],
        ],
    );
}

#[test]
fn slices_of_new_encodings() {
    slices(
        "prometheus-3.14-xor2-crashed",
        &[&["--start", "newest-21m", "--end", "newest-11m"], &["--match", "{__name__=~\".*_total\"}"]],
    );
}

/// Labels and samples of an exported line.
fn parts(line: &str) -> (&str, &str) {
    let end = line.rfind("\"} ").map_or(1, |i| i + 1);
    line.split_at(end)
}

#[test]
fn pseudonyms_hide_values_and_nothing_else() {
    let Some((scratch, dir)) = unpack_directory("data/prometheus-3.14-crashed.tar.zst") else { return };
    let (into, key, table) =
        (scratch.path().join("into"), scratch.path().join("key"), scratch.path().join("table"));
    let with_key = format!("--pseudonyms={}", text_of(&key));
    let args = ["--match", "{job=~\".+\"}", "--start", "newest-2m"];
    let hide = |into: &Path, more: &[&str]| {
        let first = ["slice", "-d", text_of(&dir), "--into", text_of(into)];
        tsdbctl(&[&first[..], &args, more].concat())
    };
    let ran = hide(&into, &[&with_key, "--pseudonyms-table", text_of(&table)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let (want, got) = (exported(&dir, &args), exported(&into, &[]));
    assert!(want.len() > 1000);
    // Put back what the table says, the result is the input.
    let values: BTreeMap<String, String> = fs::read_to_string(&table)
        .unwrap()
        .lines()
        .map(|l| l.split_once('\t').unwrap())
        .map(|(p, v)| (p.to_owned(), v.to_owned()))
        .collect();
    let back = |line: &String| {
        let mut line = line.clone();
        while let Some(at) = line.find("\"p-") {
            let end = at + 1 + line[at + 1..].find('"').unwrap();
            let value = &values[&line[at + 1..end]];
            line.replace_range(at..=end, value);
        }
        line
    };
    let mut restored: Vec<String> = got.iter().map(back).collect();
    restored.sort_unstable();
    assert_same_lines(&restored, &want, "restored");
    let series =
        |lines: &[String]| lines.iter().map(|l| parts(l).0.to_owned()).collect::<BTreeSet<_>>().len();
    assert_eq!(series(&got), series(&want));
    // No value is left in any file. Short ones and those that are in names too may be there.
    let bytes = bytes_of(&into);
    let mut kept = BTreeSet::new();
    for labels in want.iter().map(|l| parts(l).0) {
        let names = labels.split("=\"").filter_map(|part| part.rsplit([' ', '{']).next());
        kept.extend(names.map(str::to_owned));
        let metric = labels.split_once("__name__=\"").and_then(|(_, rest)| rest.split_once('"'));
        kept.extend(metric.map(|(name, _)| name.to_owned()));
    }
    let mut looked_for = 0;
    for value in values.values() {
        let value: String = serde_json::from_str(value).unwrap();
        if value.len() >= 6 && !value.chars().all(|c| c.is_ascii_digit() || ".+-e".contains(c)) {
            let in_name = kept.iter().any(|name| name.contains(&value));
            assert!(in_name || !holds(&bytes, &value), "{value:?} is in the result");
            looked_for += u32::from(!in_name);
        }
    }
    assert!(looked_for > 10);
    assert!(got.iter().any(|l| l.contains("le=\"+Inf\"")), "le stays as it is");
    // The same key gives the same pseudonyms, another key others, and none is as good as another.
    let (again, other, kept) =
        (scratch.path().join("again"), scratch.path().join("other"), scratch.path().join("kept"));
    assert_eq!(hide(&again, &[&with_key]).code, 0);
    assert_same_lines(&exported(&again, &[]), &got, "again");
    assert_eq!(hide(&other, &["--pseudonyms"]).code, 0);
    assert_ne!(exported(&other, &[]), got);
    assert_eq!(hide(&kept, &["--pseudonyms", "--pseudonyms-keep", "job"]).code, 0);
    let has_job = |lines: &[String]| {
        lines
            .iter()
            .filter_map(|l| l.split_once("job=\"").and_then(|(_, rest)| rest.split_once('"')))
            .map(|(job, _)| job.to_owned())
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(has_job(&exported(&kept, &[])), has_job(&want));
    // A file that is no key is not overwritten.
    fs::write(&key, "x").unwrap();
    let refused = hide(&scratch.path().join("none"), &[&with_key]);
    assert!(refused.code == 2 && refused.err.contains("is no key of pseudonyms"), "{}", refused.err);
    assert_eq!(fs::read(&key).unwrap(), b"x");
}

const T: i64 = 1_700_000_000_000;

fn ingested(root: &Path, name: &str, text: &str) -> PathBuf {
    let (dir, file) = (root.join(name), root.join(format!("{name}.prom")));
    fs::write(&file, text).unwrap();
    ok(&["ingest", "-d", text_of(&dir), text_of(&file)]);
    dir
}

#[test]
fn both_ends_belong_to_the_range_and_others_strings_do_not() {
    let scratch = scratch();
    let text: String = (0..100)
        .map(|i| format!("up{{job=\"wanted\"}} {i} {0}\nup{{job=\"secret\"}} {i} {0}\n", T + i * 1000))
        .collect();
    let dir = ingested(scratch.path(), "in", &text);
    // The same data as blocks.
    let whole = scratch.path().join("whole");
    ok(&["merge", text_of(&dir), "--into", text_of(&whole)]);
    for (n, from) in [&dir, &whole].into_iter().enumerate() {
        let into = scratch.path().join(format!("into{n}"));
        let (start, end) = ((T / 1000 + 17).to_string(), (T / 1000 + 42).to_string());
        let args = ["--match", "{job=\"wanted\"}", "--start", &start, "--end", &end];
        ok(&[&["slice", "-d", text_of(from), "--into", text_of(&into)], &args[..]].concat());
        let want: Vec<String> =
            (17..=42).map(|i| format!("{{__name__=\"up\", job=\"wanted\"}} {i} {}", T + i * 1000)).collect();
        assert_same_lines(&exported(&into, &[]), &want, "cut");
        assert!(!holds(&bytes_of(&into), "secret"));
    }
    // Several directories are one.
    let more = ingested(scratch.path(), "more", &format!("up{{job=\"wanted\"}} 7 {}\n", T + 500_000));
    let both = scratch.path().join("both");
    let args = ["slice", "-d", text_of(&whole), "-d", text_of(&more), "--into", text_of(&both)];
    ok(&[&args[..], &["--match", "{job=\"wanted\"}"]].concat());
    assert_eq!(exported(&both, &[]).len(), 101);
}

#[test]
fn wrong_usage_makes_nothing() {
    let scratch = scratch();
    let dir = ingested(scratch.path(), "in", &format!("up 1 {T}\n"));
    let into = scratch.path().join("into");
    let (d, i) = (text_of(&dir), text_of(&into));
    for (args, want) in [
        (vec!["-d", d, "--into", i, "--match", "up{"], "parse error"),
        (vec!["-d", d, "--into", i, "--start", "2", "--end", "1"], "later than --end"),
        (vec!["-d", d, "--into", i, "--start", "x"], "is no time"),
        (vec!["-d", d, "--into", i, "--pseudonyms-keep", "job"], "--pseudonyms"),
        (vec!["-d", d, "--into", d], "cannot be written"),
    ] {
        let ran = tsdbctl(&[&["slice"], &args[..]].concat());
        assert_eq!(ran.code, 2, "{args:?} {}", ran.err);
        assert!(ran.err.contains(want), "{args:?} {}", ran.err);
    }
    assert!(!into.exists());
    // A directory is not written into itself, however it is called.
    #[cfg(unix)]
    {
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        let (inside, l) = (link.join("wal/deep"), text_of(&link));
        for (from, to) in [(d, l), (l, d), (d, text_of(&inside)), (text_of(&inside), d)] {
            let ran = tsdbctl(&["slice", "-d", from, "--into", to]);
            assert_eq!(ran.code, 2, "{from} {to}: {}", ran.err);
        }
        assert!(!inside.exists());
    }
}
