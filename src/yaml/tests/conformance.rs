//! The files of upstream's tests: the same trees as serde_yaml's, and every scalar's place holds what the tree says.

#![allow(clippy::disallowed_methods, missing_docs, reason = "tests read files in place")]

use proptest::prelude::*;
use tsdbctl_yaml::{Dialect, Node, ScalarStyle, Source, Value, documents, first_document};

fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for name in ["rulefmt", "promtool", "prometheus-config", "alertmanager-config"] {
        let Some(directory) = tsdbctl_testkit::shared(&format!("conformance/{name}")) else { continue };
        let mut waiting = vec![directory];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory lists") {
                let path = entry.expect("a directory lists").path();
                if path.is_dir() {
                    waiting.push(path);
                } else if path.extension().is_some_and(|end| end == "yml" || end == "yaml")
                    && let Ok(text) = std::fs::read_to_string(&path)
                {
                    files.push((path.display().to_string(), text));
                }
            }
        }
    }
    files
}

fn walk<'n>(root: &'n Node, see: &mut dyn FnMut(&'n Node)) {
    let mut waiting = vec![root];
    while let Some(node) = waiting.pop() {
        see(node);
        match &node.value {
            Value::Sequence(nodes) => waiting.extend(nodes),
            Value::Mapping(entries) => {
                waiting.extend(entries.iter().flat_map(|entry| [&entry.key, &entry.value]))
            }
            Value::Scalar(_) => {}
        }
    }
}

#[test]
fn the_text_at_a_scalars_place_reads_as_the_scalar() {
    let mut scalars = 0;
    for (path, text) in files() {
        // The largest is seen by its first part: all its groups look alike.
        let cut = text[..text.len().min(100_000)].rfind("\n- ").filter(|_| text.len() > 100_000);
        let text = cut.map_or(text.clone(), |cut| text[..cut].to_owned());
        let source = Source::new(path.as_str(), text.as_str());
        let Ok(roots) = documents(&source) else { continue };
        for root in &roots {
            walk(root, &mut |node| {
                let Some(scalar) = node.scalar().filter(|_| !node.is_alias(&source)) else { return };
                let written = &text[node.span.start as usize..node.span.end as usize];
                // An indicated indentation counts from the parent's, which is not there alone.
                if written.starts_with(['|', '>']) && written[1..].starts_with(|c: char| c.is_ascii_digit()) {
                    return;
                }
                let alone = Source::new("alone", written);
                let (read, more) =
                    first_document(&alone).unwrap_or_else(|e| panic!("{path}: {written:?}: {e}"));
                assert!(!more, "{path}: {written:?}");
                match read {
                    Some(read) => {
                        let read = read.scalar().unwrap_or_else(|| panic!("{path}: {written:?}"));
                        assert_eq!(
                            (&read.text, read.style),
                            (&scalar.text, scalar.style),
                            "{path}: {written:?}"
                        );
                    }
                    None => assert_eq!((scalar.text.as_str(), written), ("", ""), "{path}"),
                }
                // Every character of the value leads back to one that wrote it, in order.
                let mut last = 0;
                for (offset, c) in scalar.text.char_indices() {
                    let at = node.source_offset(&source, offset);
                    assert!(at >= last, "{path}: {written:?}");
                    last = at;
                    let there = text[at..].chars().next();
                    let folded = matches!(c, ' ' | '\n') && matches!(there, Some('\n' | '\r' | '\\'));
                    let escaped = there == Some('\\') && scalar.style == ScalarStyle::DoubleQuoted;
                    assert!(
                        there == Some(c) || folded || escaped,
                        "{path}: {written:?} byte {offset}: {c:?} {there:?}"
                    );
                }
                scalars += 1;
            });
        }
    }
    assert!(scalars == 0 || scalars > 10_000, "{scalars} scalars");
}

fn same(path: &str, ours: &Node, theirs: &serde_yaml::Value) {
    let theirs = match theirs {
        serde_yaml::Value::Tagged(tagged) => &tagged.value,
        theirs => theirs,
    };
    match (&ours.value, theirs) {
        (Value::Sequence(nodes), serde_yaml::Value::Sequence(values)) => {
            assert_eq!(nodes.len(), values.len(), "{path}");
            nodes.iter().zip(values).for_each(|(node, value)| same(path, node, value));
        }
        (Value::Mapping(entries), serde_yaml::Value::Mapping(pairs)) => {
            assert_eq!(entries.len(), pairs.len(), "{path}");
            for (key, value) in pairs {
                let written = match key {
                    serde_yaml::Value::String(text) => text.clone(),
                    other => serde_yaml::to_string(other).expect("a value prints").trim_end().to_owned(),
                };
                let found = ours.get(&written).unwrap_or_else(|| panic!("{path}: no key {written}"));
                same(path, found, value);
            }
        }
        (Value::Scalar(scalar), serde_yaml::Value::String(text)) => assert_eq!(&scalar.text, text, "{path}"),
        (
            Value::Scalar(_),
            serde_yaml::Value::Null | serde_yaml::Value::Bool(_) | serde_yaml::Value::Number(_),
        ) => {}
        (ours, theirs) => panic!("{path}: {ours:?} and {theirs:?}"),
    }
}

#[test]
fn trees_are_serde_yamls() {
    let mut compared = 0;
    for (path, text) in files() {
        let source = Source::new(path.as_str(), text.as_str()).with_dialect(Dialect::V2);
        let ours = documents(&source);
        let mut theirs = Vec::new();
        let mut refused = None;
        for document in serde_yaml::Deserializer::from_str(&text) {
            match <serde_yaml::Value as serde::Deserialize>::deserialize(document) {
                Ok(mut value) => {
                    value.apply_merge().expect("merges are sound");
                    theirs.push(value);
                }
                Err(error) => {
                    refused = Some(error.to_string());
                    break;
                }
            }
        }
        let ours = match (ours, refused) {
            (Ok(ours), None) => ours,
            // serde_yaml refuses repeated keys here, our tree keeps them for the decoder.
            (Ok(_), Some(error)) if error.contains("duplicate entry") => continue,
            (Err(_), Some(_)) => continue,
            (ours, refused) => panic!("{path}: {ours:?} and {refused:?}"),
        };
        // It makes a null document of a text without one.
        if ours.is_empty() {
            continue;
        }
        assert_eq!(ours.len(), theirs.len(), "{path}");
        ours.iter().zip(&theirs).for_each(|(ours, theirs)| same(&path, ours, theirs));
        compared += 1;
    }
    assert!(compared == 0 || compared > 200, "{compared} files");
}

#[test]
fn hostile_texts_are_errors() {
    let bomb = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
        let before = format!("*a{}", i - 1);
        format!("{text}a{i}: &a{i} [{}]\n", [before.as_str(); 9].join(", "))
    });
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 16), vec!["*a"; 4000].join(", "));
    // Each list is no deeper than is allowed, but for the one within it.
    let deep = (1..40).fold("a0: &a0 x\n".to_owned(), |text, i| {
        let (open, close) = ("[".repeat(100), "]".repeat(100));
        format!("{text}a{i}: &a{i} {open}*a{}{close}\n", i - 1)
    });
    for (text, message) in [
        (deep, "line 4: exceeded max depth of 256"),
        ("[".repeat(100_000), "exceeded max depth of 256"),
        ("- ".repeat(100_000), "exceeded max depth of 256"),
        ("{a: ".repeat(100_000), "exceeded max depth of 256"),
        ("? ".repeat(100_000), "exceeded max depth of 256"),
        (bomb, "document contains excessive aliasing"),
        (long, "document contains excessive aliasing"),
        ("a: &x [*x]".to_owned(), "anchor 'x' value contains itself"),
        ("a: *x".to_owned(), "unknown anchor 'x' referenced"),
    ] {
        let error = documents(&Source::new("t", text)).expect_err(message);
        assert!(error.message.ends_with(message), "{error}");
    }
    // Repeated keys without end, and anchors without aliases, cost no more than they are long.
    let keys = "a: 1\n".repeat(20_000);
    assert_eq!(documents(&Source::new("t", keys)).expect("it is YAML")[0].entries().len(), 20_000);
    let anchors: String = (0..20_000).map(|i| format!("- &a{i} x\n")).collect();
    assert_eq!(documents(&Source::new("t", anchors)).expect("it is YAML")[0].elements().len(), 20_000);
}

#[test]
fn long_texts_cost_what_they_are_long() {
    let long = "x y\n  ".repeat(1 << 18);
    for text in [
        format!("a: {long}\n"),
        format!("a: '{long}'\n"),
        format!("a: \"{long}\"\n"),
        format!("a: |\n  {long}\n"),
        format!("a: >\n  {long}\n"),
        format!("a: \"{}\"\n", "\\u00e9".repeat(1 << 18)),
        format!("a: {}\n", "?".repeat(1 << 20)),
        format!("a: [{}]\n", "x, ".repeat(1 << 16)),
        format!("a: b\n{}", "# c\n".repeat(1 << 18)),
        format!("a: b{}", "\n".repeat(1 << 20)),
        format!("? {}\n: b\n", "x".repeat(1 << 20)),
        format!("a: !{} b\n", "x".repeat(1 << 18)),
        format!("a: &{0} b\nc: *{0}\n", "x".repeat(1 << 18)),
    ] {
        let shown = text[..20].to_owned();
        let source = Source::from_bytes("t", text.into_bytes());
        let roots = documents(&source).unwrap_or_else(|e| panic!("{shown}: {e}"));
        assert_eq!(roots.len(), 1, "{shown}");
        // All of it lies at places of the text.
        walk(&roots[0], &mut |node| assert!(node.span.end as usize <= source.text.len()));
    }
    // More colons before brackets than are looked at again and again.
    let colons = format!("[{}]\n", "a:, ".repeat(50));
    assert_eq!(
        documents(&Source::new("t", colons)).expect("it is YAML")[0].elements()[49]
            .scalar()
            .map(|s| s.text.as_str()),
        Some("a:")
    );
    let colons = format!("[{}]\n", "a:, ".repeat(20_000));
    let error = documents(&Source::new("t", colons)).expect_err("too many");
    assert_eq!(error.message, "yaml: found unexpected ':'");
}

fn never_panics(text: &str) {
    for dialect in [Dialect::V2, Dialect::V3] {
        let source = Source::new("t", text).with_dialect(dialect);
        let _ = first_document(&source);
        match documents(&source) {
            Ok(roots) => roots.iter().for_each(|root| {
                walk(root, &mut |node| {
                    assert!(text.get(node.span.start as usize..node.span.end as usize).is_some(), "{text:?}");
                    let len = node.scalar().map_or(0, |scalar| scalar.text.len());
                    for offset in 0..=len.min(20) {
                        assert!(node.source_offset(&source, offset) <= text.len(), "{text:?}");
                    }
                    let _ = (node.source_span(&source, 0, len), node.is_flow(&source));
                    let mut decoder = tsdbctl_yaml::Decoder::new(&source, false);
                    let fields = decoder.fields(node, "T");
                    decoder.finish(fields);
                    let _ =
                        (decoder.string(node), decoder.bool(node), decoder.int(node), decoder.float(node));
                    let _ = (decoder.list(node, "T"), decoder.string_map(node));
                });
            }),
            Err(error) => {
                assert!(error.message.starts_with("yaml: "), "{error}");
                assert!(
                    text.get(error.span.start as usize..error.span.end as usize).is_some(),
                    "{text:?}: {error:?}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        never_panics(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_soup_of_syntax_is_read_or_refused(
        parts in proptest::collection::vec("[-:?#&*!|>'\"%@,\\[\\]{}<~a1é \\n\\r\\t\\\\]{1,3}|- |: |  |\n|a: |<<: |\\*a|&a |\u{feff}|\u{85}|\u{2028}", 0..40)
    ) {
        never_panics(&parts.concat());
    }
}
