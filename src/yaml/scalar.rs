//! Texts written as YAML scalars, so that every reader of YAML 1.1 and 1.2 gets the same text back.

use crate::resolve::{old_bool, plain};
use crate::{Dialect, ScalarStyle};

/// A text as a scalar on one line, for a value of a block collection: in the wished style where that can hold it,
/// plain only where no reader takes it for anything but this text. A wish for a block style counts as one for
/// plain: see [`block_scalar`].
pub fn quoted(text: &str, wish: ScalarStyle) -> String {
    write(text, wish, false)
}

/// As [`quoted`], for a key, or within brackets and braces.
pub fn quoted_in_flow(text: &str, wish: ScalarStyle) -> String {
    write(text, wish, true)
}

/// A text as a literal block scalar whose lines are indented by `indent` blanks; it begins with `|` and ends with a
/// line break. `None` where a literal cannot hold it, or only with an indication of indentation.
pub fn block_scalar(text: &str, indent: usize) -> Option<String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let sound = |line: &str| line.is_empty() || !line.trim_matches([' ', '\t']).is_empty();
    let first = body.split('\n').find(|line| !line.is_empty())?;
    if first.starts_with([' ', '\t'])
        || body.ends_with('\n')
        || !body.split('\n').all(sound)
        || !text.chars().all(|c| c == '\n' || is_printable(c))
    {
        return None;
    }
    let mut out = String::from(if body.len() == text.len() { "|-\n" } else { "|\n" });
    for line in body.split('\n') {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push('\n');
    }
    Some(out)
}

fn write(text: &str, wish: ScalarStyle, flow: bool) -> String {
    let one_line = text.chars().all(is_printable);
    match wish {
        ScalarStyle::SingleQuoted if one_line => single(text),
        ScalarStyle::DoubleQuoted | ScalarStyle::SingleQuoted => double(text),
        _ if is_plain(text, flow) => text.to_owned(),
        _ if one_line && text.contains(['"', '\\']) => single(text),
        _ => double(text),
    }
}

/// It can stand in a scalar as it is: neither a break nor what readers refuse.
fn is_printable(c: char) -> bool {
    matches!(c, '\t' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Every reader takes it for this text where it stands without quotes.
fn is_plain(text: &str, flow: bool) -> bool {
    let Some(first) = text.chars().next() else { return false };
    if "-?:,[]{}#&*!|>'\"%@`=<".contains(first)
        || text.starts_with("...")
        || !text.chars().all(is_printable)
        || text.contains('\t')
        || text.starts_with(char::is_whitespace)
        || text.ends_with(char::is_whitespace)
        || text.contains(": ")
        || text.contains(" #")
        || text.ends_with(':')
        || (flow && text.contains([',', '[', ']', '{', '}', '?', ':']))
    {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    let word =
        matches!(lower.as_str(), "null" | "~" | "true" | "false" | ".inf" | ".nan" | "+.inf" | "-.inf")
            || old_bool(&lower).is_some();
    // Whole numbers and floats of all dialects, times of day in base 60, dates.
    let numeric = first.is_ascii_digit() || matches!(first, '+' | '.');
    let numeric = numeric
        && text.contains(|c: char| c.is_ascii_digit())
        && lower.bytes().all(|b| b.is_ascii_hexdigit() || b"xo_.,:+-tz ".contains(&b));
    !word
        && !numeric
        && [Dialect::V2, Dialect::V3].iter().all(|dialect| plain(*dialect, "", text).0 == "!!str")
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn double(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, first_document};
    use proptest::prelude::*;

    const STYLES: [ScalarStyle; 5] = [
        ScalarStyle::Plain,
        ScalarStyle::SingleQuoted,
        ScalarStyle::DoubleQuoted,
        ScalarStyle::Literal,
        ScalarStyle::Folded,
    ];

    /// serde_yaml and this crate, in both dialects, read `document` as `{k: text}` or a list of it.
    fn reads_as(document: &str, text: &str) {
        let theirs: serde_yaml::Value =
            serde_yaml::from_str(document).unwrap_or_else(|e| panic!("{document:?}: {e}"));
        let theirs = theirs.get("k").or_else(|| theirs.get(0)).expect("the value is there");
        assert_eq!(theirs.as_str(), Some(text), "{document:?}");
        for dialect in [Dialect::V2, Dialect::V3] {
            let source = Source::new("t", document).with_dialect(dialect);
            let (root, _) = first_document(&source).unwrap_or_else(|e| panic!("{document:?}: {e}"));
            let root = root.expect("it is not empty");
            let node = root.get("k").or_else(|| root.elements().first()).expect("the value is there");
            let scalar = node.scalar().expect("a scalar");
            let (tag, _) = crate::resolve::resolve(dialect, scalar).expect("it resolves");
            assert_eq!((scalar.text.as_str(), &*tag), (text, "!!str"), "{document:?}");
        }
    }

    fn round_trip(text: &str) {
        for style in STYLES {
            reads_as(&format!("k: {}\n", quoted(text, style)), text);
            reads_as(&format!("k: {}  # c\nl: 1\n", quoted(text, style)), text);
            reads_as(&format!("[{}, 2]\n", quoted_in_flow(text, style)), text);
            reads_as(&format!("- {}\n- 1\n", quoted(text, style)), text);
        }
        if let Some(block) = block_scalar(text, 4) {
            reads_as(&format!("k: {block}l: 1\n"), text);
            reads_as(&format!("k: {block}\n# c\n"), text);
        }
    }

    #[test]
    fn what_would_be_something_else_gets_quotes() {
        for text in [
            "",
            " ",
            "~",
            "null",
            "NULL",
            "yes",
            "No",
            "y",
            "on",
            "TRUE",
            "1",
            "-1",
            "0x1F",
            "0o17",
            "017",
            "1_000",
            "1e3",
            "1.",
            ".5",
            ".inf",
            "-.INF",
            ".nan",
            "2026-01-01",
            "2026-01-01 10:00:00",
            "2026-01-01T10:00:00Z",
            "12:30",
            "1:30:00",
            "<<",
            "=",
            "---",
            "...",
            "- a",
            "-",
            "? a",
            "a: b",
            "a:",
            ": a",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "'a'",
            "\"a\"",
            "%a",
            "@a",
            "`a`",
            "{{ $value }}",
            "[a]",
            " a",
            "a ",
            "a\tb",
            "a\nb",
            "\u{85}",
            "\u{feff}a",
            "\u{2028}",
            "\0",
            "\u{7f}",
            "\u{9f}",
            "\u{ffff}",
        ] {
            assert_ne!(quoted(text, ScalarStyle::Plain), text, "{text:?}");
            round_trip(text);
        }
    }

    #[test]
    fn what_is_clear_stays_plain() {
        for text in [
            "up == 0",
            "rate(foo{a=\"b\"}[5m]) > 1",
            "job:up:sum",
            "a b",
            "page",
            "http://x/y",
            "it's",
            "5m",
            "1h30m",
            "é",
            "a#b",
            "sum by (job) (up)",
            "a, b",
            "10 apples",
            "n/a",
        ] {
            assert_eq!(quoted(text, ScalarStyle::Plain), text);
            round_trip(text);
        }
        assert_eq!(quoted("say \"{{ x }}\": no", ScalarStyle::Plain), "'say \"{{ x }}\": no'");
        assert_eq!(block_scalar("a\n\n b\n", 2).as_deref(), Some("|\n  a\n\n   b\n"));
        assert_eq!(block_scalar(" a\n", 2), None);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            round_trip(&text);
        }

        #[test]
        fn texts_of_indicators_come_back(text in "[-?:,\\[\\]{}#&*!|>'\"%@`<=~ .+0-9a-fxoyn_\\\\\\n\t]{0,12}") {
            round_trip(&text);
        }
    }
}
