//! Every good rule file of the reference projects formatted: it says the same, has its comments, and formatting it
//! again changes nothing.

#![allow(clippy::disallowed_methods, reason = "tests read the shared files")]

use std::path::PathBuf;
use std::sync::Arc;

use tsdbctl_rules::file::{ReadOptions, RuleFile, read};
use tsdbctl_rules::format::{FormatOptions, format};
use tsdbctl_testkit::shared;
use tsdbctl_yaml::Source;

fn files() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for dir in ["conformance/rulefmt", "conformance/promtool", "bench", "data"] {
        let Some(dir) = shared(dir) else { continue };
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

/// All that counts of a file, as text.
fn meaning(file: &RuleFile) -> String {
    let mut out = String::new();
    for group in &file.groups {
        let labels: Vec<_> = group.labels.iter().map(|(k, v)| (&k.value, &v.value)).collect();
        out += &format!(
            "{:?} {:?} {:?} {} {labels:?}\n",
            group.name.value, group.interval_ms, group.query_offset_ms, group.limit
        );
        for rule in &group.rules {
            let pairs = |p: &[(tsdbctl_yaml::Spanned<String>, tsdbctl_yaml::Spanned<String>)]| {
                p.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect::<Vec<_>>()
            };
            out += &format!(
                "  {:?} {:?} {:?} {} {} {:?} {:?}\n",
                rule.kind,
                rule.name.value,
                rule.expr.printed,
                rule.for_ms,
                rule.keep_firing_for_ms,
                pairs(&rule.labels),
                pairs(&rule.annotations)
            );
        }
    }
    out
}

#[test]
fn every_good_file_keeps_its_meaning() {
    let mut formatted = 0;
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        // The large file repeats one rule ten thousand times.
        let large = text.len() > 200_000;
        let options = ReadOptions { ignore_unknown_fields: true, ..ReadOptions::default() };
        let source = Arc::new(Source::new(path.display().to_string(), text));
        let Ok(before) = read(Arc::clone(&source), &options) else { continue };
        for sort_keys in [false, true] {
            if large && sort_keys {
                continue;
            }
            let options = FormatOptions { read: options.clone(), sort_keys };
            let name = path.display();
            let once = format(&source, &options)
                .unwrap_or_else(|f| panic!("{name}: {}: {}", f[0].place(), f[0].message));
            let written = Arc::new(Source::new(source.name.clone(), once.clone()));
            let after = read(Arc::clone(&written), &options.read)
                .unwrap_or_else(|f| panic!("{name}: {}", f[0].message));
            assert_eq!(meaning(&before), meaning(&after), "{name}");
            if !large {
                assert_eq!(format(&written, &options).ok(), Some(once), "{name}: a second time");
            }
            formatted += 1;
        }
    }
    // Without the shared files there is nothing to see.
    assert!(formatted == 0 || formatted > 30, "{formatted} files");
}
