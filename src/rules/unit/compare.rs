//! What was expected against what came: upstream's equality, and ours for `match`, `present` and `absent`.

use tsdbctl_model::float_text::{format_e, format_g, go_quote};
use tsdbctl_model::labels::{METRIC_NAME, is_legacy_metric_name, write_label_name};
use tsdbctl_model::regexp::Regexp;

use super::file::Matching;

/// Names and values, by name. Empty values are kept: upstream compares them.
pub type Pairs = Vec<(String, String)>;

/// An alert as tests see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertText {
    /// Labels with `alertname`.
    pub labels: Pairs,
    /// Annotations.
    pub annotations: Pairs,
}

/// A sample as tests see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleText {
    /// Its labels.
    pub labels: Pairs,
    /// Its value where there is no histogram.
    pub value: f64,
    /// The histogram in the notation of tests, or empty.
    pub histogram: String,
}

/// Sorts pairs by name; of equal names the last stays.
pub fn pairs<N: Into<String>, V: Into<String>>(list: impl IntoIterator<Item = (N, V)>) -> Pairs {
    let map: std::collections::BTreeMap<String, String> =
        list.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
    map.into_iter().collect()
}

/// `{a="b", c="d"}`
pub fn pairs_text(pairs: &[(String, String)]) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write_label_name(&mut out, name);
        out.push('=');
        out.push_str(&go_quote(value));
    }
    out.push('}');
    out
}

/// `name{a="b"}`: as a series is written.
pub fn series_text(pairs: &[(String, String)]) -> String {
    let name = pairs.iter().find(|(n, v)| n == METRIC_NAME && is_legacy_metric_name(v));
    let Some((_, name)) = name else { return pairs_text(pairs) };
    let rest: Pairs = pairs.iter().filter(|(n, _)| n != METRIC_NAME).cloned().collect();
    if rest.is_empty() { name.clone() } else { format!("{name}{}", pairs_text(&rest)) }
}

impl SampleText {
    /// As people write it: `name{a="b"} 18`.
    pub fn plain(&self) -> String {
        let value = if self.histogram.is_empty() { format_g(self.value) } else { self.histogram.clone() };
        format!("{} {value}", series_text(&self.labels))
    }

    /// Upstream's text.
    pub fn text(&self) -> String {
        let value = if self.histogram.is_empty() {
            format_e(self.value).replace('e', "E")
        } else {
            self.histogram.clone()
        };
        format!("{} {value}", pairs_text(&self.labels))
    }

    /// Upstream's equality.
    pub fn equals(&self, other: &Self, fuzzy: bool) -> bool {
        self.labels == other.labels
            && self.histogram == other.histogram
            && floats_equal(self.value, other.value, fuzzy)
    }
}

/// Equal, or neighbours if `fuzzy`. NaN equals nothing.
pub fn floats_equal(a: f64, b: f64, fuzzy: bool) -> bool {
    a == b || (fuzzy && (a.next_down() == b || a.next_up() == b))
}

/// Whether `got` has what `expected` names.
pub fn pairs_match(expected: &[(String, String)], got: &[(String, String)], matching: Matching) -> bool {
    if matching == Matching::Exact {
        return expected == got;
    }
    expected.iter().all(|(name, value)| {
        let found = got.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
        match matching {
            Matching::Regex => Regexp::new(value).is_ok_and(|re| re.is_match(found)),
            _ => found == value,
        }
    })
}

/// The first pattern that is no regular expression.
pub fn bad_pattern(expected: &[(String, String)]) -> Option<String> {
    expected.iter().find_map(|(name, value)| Regexp::new(value).err().map(|e| format!("{name}: {e}")))
}

/// Pairs each expectation with one that came: a largest matching, so that a loose expectation does not take what a
/// strict one needs. The answer holds, for each expectation, which one it took.
pub fn assign(expected: usize, got: usize, fits: impl Fn(usize, usize) -> bool) -> Vec<Option<usize>> {
    fn place(
        e: usize,
        fits: &impl Fn(usize, usize) -> bool,
        taken: &mut [Option<usize>],
        seen: &mut [bool],
    ) -> bool {
        for g in 0..taken.len() {
            if seen[g] || !fits(e, g) {
                continue;
            }
            seen[g] = true;
            let free = match taken[g] {
                None => true,
                Some(other) => place(other, fits, taken, seen),
            };
            if free {
                taken[g] = Some(e);
                return true;
            }
        }
        false
    }
    let mut taken = vec![None; got];
    for e in 0..expected {
        place(e, &fits, &mut taken, &mut vec![false; got]);
    }
    let mut out = vec![None; expected];
    for (g, e) in taken.iter().enumerate() {
        if let Some(e) = e {
            out[*e] = Some(g);
        }
    }
    out
}

/// How far two texts are apart, for choosing what to show beside each other: pairs that differ.
pub fn distance(a: &[(String, String)], b: &[(String, String)]) -> usize {
    let missing =
        |a: &[(String, String)], b: &[(String, String)]| a.iter().filter(|p| !b.contains(p)).count();
    missing(a, b) + missing(b, a)
}

/// A piece of a text that is compared word by word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// In both.
    Same(String),
    /// Expected only.
    Missing(String),
    /// Came only.
    Extra(String),
}

/// Compares two texts word by word. Long texts are compared as wholes.
pub fn words(expected: &str, got: &str) -> Vec<Word> {
    let split = |s: &str| -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for c in s.chars() {
            let joins = |last: &String| {
                last.chars().next_back().is_some_and(|l| l.is_alphanumeric() && c.is_alphanumeric())
            };
            match out.last_mut() {
                Some(last) if joins(last) => last.push(c),
                _ => out.push(c.to_string()),
            }
        }
        out
    };
    let (a, b) = (split(expected), split(got));
    if a.len().saturating_mul(b.len()) > 1_000_000 {
        return vec![Word::Missing(expected.to_string()), Word::Extra(got.to_string())];
    }
    // Longest common subsequence, from the end.
    let width = b.len() + 1;
    let mut longest = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i] == b[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let mut out: Vec<Word> = Vec::new();
    let mut push = |word: Word| match (out.last_mut(), word) {
        (Some(Word::Same(t)), Word::Same(w))
        | (Some(Word::Missing(t)), Word::Missing(w))
        | (Some(Word::Extra(t)), Word::Extra(w)) => t.push_str(&w),
        (_, word) => out.push(word),
    };
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            push(Word::Same(a[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if j >= b.len() || (i < a.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1])
        {
            push(Word::Missing(a[i].clone()));
            i += 1;
        } else {
            push(Word::Extra(b[j].clone()));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_equal_as_upstream_says() {
        let one_up = 3f64.next_up();
        for (a, b, fuzzy, equal) in [
            (0.0, -0.0, false, true),
            (f64::NAN, f64::NAN, false, false),
            (f64::NAN, f64::NAN, true, false),
            (3.0, one_up, false, false),
            (3.0, one_up, true, true),
            (one_up, 3.0, true, true),
            (3.0, one_up.next_up(), true, false),
            (f64::INFINITY, f64::INFINITY, false, true),
        ] {
            assert_eq!(floats_equal(a, b, fuzzy), equal, "{a} {b} {fuzzy}");
        }
    }

    #[test]
    fn histogram_and_value_are_both_compared() {
        let h = SampleText { histogram: "{{count:1}}".to_string(), ..SampleText::default() };
        assert!(h.equals(&h.clone(), false));
        assert!(!h.equals(&SampleText { value: 1.0, ..h.clone() }, false));
        assert!(!h.equals(&SampleText { histogram: "{{count:2}}".to_string(), ..h.clone() }, false));
    }

    #[test]
    fn parts_and_patterns_match() {
        let got = pairs([("a", "1"), ("b", "xyz")]);
        for (expected, matching, fits) in [
            (pairs([("a", "1")]), Matching::Exact, false),
            (pairs([("a", "1")]), Matching::Subset, true),
            (pairs([("a", "1"), ("c", "")]), Matching::Subset, true),
            (pairs([("a", "1"), ("c", "")]), Matching::Exact, false),
            (pairs([("b", "x.z")]), Matching::Subset, false),
            (pairs([("b", "x.z")]), Matching::Regex, true),
            (pairs([("b", "y")]), Matching::Regex, false),
            (pairs([("b", "(")]), Matching::Regex, false),
        ] {
            assert_eq!(pairs_match(&expected, &got, matching), fits, "{expected:?} {matching:?}");
        }
    }

    #[test]
    fn loose_expectations_leave_what_strict_ones_need() {
        // The first fits both, the second only the first.
        assert_eq!(assign(2, 2, |e, g| e == 0 || g == 0), [Some(1), Some(0)]);
        assert_eq!(assign(2, 1, |_, _| true), [Some(0), None]);
    }

    #[test]
    fn texts_differ_by_words() {
        assert_eq!(
            words("Instance a is down", "Instance bc is down"),
            [
                Word::Same("Instance ".into()),
                Word::Missing("a".into()),
                Word::Extra("bc".into()),
                Word::Same(" is down".into()),
            ]
        );
    }
}
