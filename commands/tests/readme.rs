//! What README.md shows is what happens: its examples are run and their output compared.
//!
//! In a block marked `console`, a line `$ tsdbctl …` or `$ cargo run --release -- …` is a command, and what follows up
//! to the next one is its output (of stderr, if it prints nothing to stdout). `UPDATE=1 cargo test` rewrites it.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::path::Path;
use std::process::Command;

const PROMPTS: [&str; 2] = ["$ tsdbctl ", "$ cargo run --release -- "];

/// The words of a command line: split at spaces, with single and double quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn run(arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tsdbctl"))
        .args(words(arguments))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap_or_else(|e| panic!("{arguments}: {e}"));
    let shown = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8(shown).unwrap_or_else(|e| panic!("{arguments}: {e}"))
}

/// The text with the output of every example as it is now, and how many examples there are.
fn rewritten(text: &str) -> (String, usize) {
    let (mut out, mut examples, mut inside) = (String::new(), 0, false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if line.starts_with("```") {
            inside = line == "```console";
        }
        let Some(arguments) = PROMPTS.iter().find_map(|p| line.strip_prefix(p)).filter(|_| inside) else {
            continue;
        };
        while lines.next_if(|next| !next.starts_with("```") && !next.starts_with("$ ")).is_some() {}
        examples += 1;
        for shown in run(arguments).lines() {
            out.push_str(shown.trim_end());
            out.push('\n');
        }
        // An empty line between two examples.
        if lines.peek().is_some_and(|next| next.starts_with("$ ")) {
            out.push('\n');
        }
    }
    (out, examples)
}

#[test]
fn examples_of_the_readme_show_what_happens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).unwrap();
    // What examples write, they write here, and into nothing.
    let _ = std::fs::remove_dir_all(path.with_file_name("target/readme"));
    let (now, examples) = rewritten(&text);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    assert!(examples >= 5, "{examples} examples found");
    for (n, (shown, happens)) in text.lines().zip(now.lines()).enumerate() {
        assert_eq!(shown, happens, "README.md:{}: `UPDATE=1 cargo test --test readme` rewrites it", n + 1);
    }
    assert_eq!(text.lines().count(), now.lines().count(), "README.md is shorter or longer than what happens");
}

#[test]
fn words_are_split_as_a_shell_does() {
    assert_eq!(words("query 'sum by (a) (b)' -d x"), ["query", "sum by (a) (b)", "-d", "x"]);
    assert_eq!(words("a \"b 'c'\"  ''"), ["a", "b 'c'", ""]);
}
