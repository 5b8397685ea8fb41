//! Regular expressions that look anywhere in a text: Go's `MatchString` and `ReplaceAllString`.

use std::sync::Arc;

use regex_automata::{Input, meta};

use super::parse::{Parsed, parse};
use super::{RegexpError, automaton, template, too_large};

/// A compiled expression without anchors; the leftmost match counts, of those the one that Perl would find.
#[derive(Clone, Debug)]
pub struct Search {
    regex: Arc<meta::Regex>,
    names: Arc<[String]>,
}

impl Search {
    /// Compiles `source` as Go's `regexp.Compile` does: `.` matches no line break.
    ///
    /// # Errors
    /// If Go's `regexp/syntax` would refuse it, or its automaton would be too large.
    pub fn new(source: &str) -> Result<Self, RegexpError> {
        let Parsed { hir, names } = parse(source, false, true).map_err(|message| RegexpError { message })?;
        let regex = automaton::anywhere(&hir).ok_or_else(|| too_large(source))?;
        Ok(Self { regex: Arc::new(regex), names: names.into() })
    }

    /// Whether `text` contains a match.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Go's `ReplaceAllString`; `None` once the result is longer than `limit_bytes`.
    pub fn replace_all(&self, text: &str, replacement: &str, limit_bytes: usize) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut captures = self.regex.create_captures();
        let (mut copied, mut from, mut last_end) = (0, 0, None);
        while from <= text.len() {
            self.regex.captures(Input::new(text).range(from..), &mut captures);
            let Some(found) = captures.get_match() else { break };
            out.push_str(text.get(copied..found.start()).unwrap_or_default());
            copied = found.end();
            // No empty match right behind another match.
            if last_end != Some(found.start()) || !found.is_empty() {
                let group = |group| text.get(captures.get_group(group)?.range());
                out.push_str(&template::expand(replacement, &self.names, group));
            }
            last_end = Some(found.end());
            if out.len() > limit_bytes {
                return None;
            }
            from = if found.end() > from {
                found.end()
            } else {
                from + text.get(from..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8)
            };
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_replaced_as_go_does() {
        for (source, text, replacement, want) in [
            ("a*", "baac", "x", "xbxcx"),
            ("(.)b", "abab", "${1}x", "axax"),
            ("(.)b", "abab", "$1x", ""),
            ("", "é€", "-", "-é-€-"),
            ("^a", "aaa", "b", "baa"),
            ("b|", "abc", "x", "xaxcx"),
            ("\\b", "ab cd", "|", "|ab| |cd|"),
            ("(?i)K", "k\u{212a}", "x", "xx"),
            ("a.c", "a\nc abc", "x", "a\nc x"),
            ("x", "", "y", ""),
            ("", "", "y", "y"),
        ] {
            let search = Search::new(source).expect(source);
            assert_eq!(
                search.replace_all(text, replacement, 1000).as_deref(),
                Some(want),
                "{source} in {text}"
            );
        }
        assert_eq!(Search::new("").expect("sound").replace_all("aaaa", "0123456789", 20), None);
    }

    #[test]
    fn matches_are_looked_for_anywhere() {
        let search = Search::new("a.*").expect("sound");
        assert!(search.is_match("xabc") && !search.is_match("xbc"));
        assert_eq!(
            Search::new("(").expect_err("open").to_string(),
            "error parsing regexp: missing closing ): `(`"
        );
    }
}
