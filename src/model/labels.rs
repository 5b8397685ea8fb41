//! Label sets as strings: what is shown, compared and hashed at the edges.

use std::fmt;

use crate::quote::write_go_quote;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds the metric type (feature `type-and-unit-labels`).
pub const METRIC_TYPE: &str = "__type__";
/// The label that holds the metric unit (feature `type-and-unit-labels`).
pub const METRIC_UNIT: &str = "__unit__";
/// Upper bound of a classic histogram bucket.
pub const BUCKET_LABEL: &str = "le";

/// Whether a label describes the metric rather than the series (`schema.IsMetadataLabel` upstream).
pub fn is_metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | METRIC_TYPE | METRIC_UNIT)
}

/// One name with its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The label's name, any UTF-8.
    pub name: String,
    /// The label's value, any UTF-8.
    pub value: String,
}

/// A label set: sorted by name (bytewise), names unique, no empty values.
///
/// The derived order is upstream's `labels.Compare`: name, value, name, value as bytes, shorter set first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Vec<Label>);

impl Labels {
    /// The empty set.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Builds a set from pairs in any order. Of equal names the last wins; empty values are left out.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut set = Self::default();
        for (name, value) in pairs {
            set.set(name.into(), value.into());
        }
        set
    }

    /// The value of `name`, or `""` if it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |i| self.0[i].value.as_str())
    }

    /// Whether `name` is present.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|l| l.name.as_str().cmp(name)).ok()
    }

    /// Sets `name` to `value`; an empty value removes the label.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.binary_search_by(|l| l.name.as_str().cmp(&name)) {
            Ok(i) if value.is_empty() => drop(self.0.remove(i)),
            Ok(i) => self.0[i].value = value,
            Err(_) if value.is_empty() => {}
            Err(i) => self.0.insert(i, Label { name, value }),
        }
    }

    /// Removes `name` if present.
    pub fn remove(&mut self, name: &str) {
        if let Some(i) = self.find(name) {
            self.0.remove(i);
        }
    }

    /// Keeps the labels for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Label) -> bool) {
        self.0.retain(|l| keep(l));
    }

    /// The set as a selector would name it: `up{job="node"}`; as [`Labels`]' display where the metric name is
    /// absent or cannot stand in front.
    pub fn selector_text(&self) -> String {
        let name = self.get(METRIC_NAME);
        if !is_legacy_metric_name(name) {
            return self.to_string();
        }
        let mut rest = self.clone();
        rest.remove(METRIC_NAME);
        if rest.is_empty() { name.to_string() } else { format!("{name}{rest}") }
    }

    /// The labels in name order.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `Labels.Hash` upstream, which `limit_ratio` samples by.
    pub fn packed_hash(&self) -> u64 {
        crate::label_hash::packed_hash(self.0.iter().map(|l| (l.name.as_str(), l.value.as_str())))
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Whether `name` can stand unquoted as a label name: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` can stand unquoted as a metric name: as a label name, with colons.
pub fn is_legacy_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Appends a label name, quoted only where it is no legacy name.
pub fn write_label_name(out: &mut String, name: &str) {
    if is_legacy_label_name(name) {
        out.push_str(name);
    } else {
        write_go_quote(out, name);
    }
}

impl fmt::Display for Labels {
    /// `{name="value", …}` as Prometheus' `Labels.String`: values quoted as Go's `%q`, names quoted only
    /// where they are not legacy names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(64);
        out.push('{');
        for (i, label) in self.0.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write_label_name(&mut out, &label.name);
            out.push('=');
            write_go_quote(&mut out, &label.value);
        }
        out.push('}');
        f.write_str(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_stay_sorted_and_empty_values_vanish() {
        let mut l = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(l.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        l.set("a", "");
        assert!(!l.has("a"));
    }

    #[test]
    fn sets_print_as_upstream() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "{}"),
            (&[("__name__", "up"), ("job", "a\\b")], r#"{__name__="up", job="a\\b"}"#),
            (
                &[("my label", "a\"b\n"), ("n.x", "é\u{a0}"), ("9", "x")],
                r#"{"9"="x", "my label"="a\"b\n", "n.x"="é\u00a0"}"#,
            ),
        ];
        for (pairs, want) in cases {
            assert_eq!(Labels::from_pairs(pairs.iter().copied()).to_string(), *want);
        }
    }

    #[test]
    fn a_selector_has_its_name_in_front_where_it_can() {
        for (pairs, want) in [
            (vec![("__name__", "up"), ("job", "a")], r#"up{job="a"}"#),
            (vec![("__name__", "up")], "up"),
            (vec![("job", "a")], r#"{job="a"}"#),
            (vec![("__name__", "a.b")], r#"{__name__="a.b"}"#),
        ] {
            assert_eq!(Labels::from_pairs(pairs).selector_text(), want);
        }
    }

    #[test]
    fn order_is_that_of_labels_compare() {
        let a = Labels::from_pairs([("a", "1")]);
        let ab = Labels::from_pairs([("a", "1"), ("b", "1")]);
        assert!(a < ab && ab < Labels::from_pairs([("a", "2")]));
    }
}
