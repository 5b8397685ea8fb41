//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::fmt;

use crate::labels::write_label_name;
use crate::quote::write_go_quote;
use crate::regexp::{Regexp, RegexpError};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchType {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regexp,
    /// `!~`, anchored at both ends
    NotRegexp,
}

impl MatchType {
    /// The operator's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regexp => "=~",
            Self::NotRegexp => "!~",
        }
    }
}

/// One condition on one label; an absent label counts as `""`.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// How to compare.
    pub kind: MatchType,
    /// The label's name.
    pub name: String,
    /// The value or the regular expression's source.
    pub value: String,
    /// Compiled `value` of the regexp kinds, `None` else.
    regexp: Option<Regexp>,
}

impl Matcher {
    /// Compiles a matcher.
    ///
    /// # Errors
    /// If `kind` is a regexp kind and `value` is no RE2 expression.
    pub fn new(
        kind: MatchType,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, RegexpError> {
        let (name, value) = (name.into(), value.into());
        let regexp = match kind {
            MatchType::Regexp | MatchType::NotRegexp => Some(Regexp::new(&value)?),
            _ => None,
        };
        Ok(Self { kind, name, value, regexp })
    }

    /// `name="value"`, which cannot fail.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind: MatchType::Equal, name: name.into(), value: value.into(), regexp: None }
    }

    /// Whether a label value satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (&self.kind, &self.regexp) {
            (MatchType::Equal, _) => self.value == value,
            (MatchType::NotEqual, _) => self.value != value,
            (MatchType::Regexp, Some(re)) => re.is_match(value),
            (MatchType::NotRegexp, Some(re)) => !re.is_match(value),
            _ => unreachable!("regexp kinds are compiled in new"),
        }
    }

    /// Whether series without the label satisfy the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// All values that satisfy the condition, if those are finitely many and few.
    pub fn set_matches(&self) -> Option<&[String]> {
        match self.kind {
            MatchType::Equal => Some(std::slice::from_ref(&self.value)),
            MatchType::Regexp => self.regexp.as_ref()?.set_matches(),
            MatchType::NotEqual | MatchType::NotRegexp => None,
        }
    }

    /// What every value that satisfies the condition starts with; empty if nothing is known.
    pub fn prefix(&self) -> &str {
        match (self.kind, &self.regexp) {
            (MatchType::Equal, _) => &self.value,
            (MatchType::Regexp, Some(re)) => re.prefix(),
            _ => "",
        }
    }

    /// The compiled expression of the regexp kinds.
    pub fn regexp(&self) -> Option<&Regexp> {
        self.regexp.as_ref()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.name, &self.value) == (other.kind, &other.name, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    /// `name="value"`, the name quoted where it is no legacy label name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(self.name.len() + self.value.len() + 8);
        write_label_name(&mut out, &self.name);
        out.push_str(self.kind.as_str());
        write_go_quote(&mut out, &self.value);
        f.write_str(&out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_kinds_decide() {
        use MatchType::{Equal, NotEqual, NotRegexp, Regexp};
        let cases = [
            (Equal, "a", "a", true),
            (Equal, "a", "ab", false),
            (Equal, "", "", true),
            (NotEqual, "a", "", true),
            (NotEqual, "a", "a", false),
            (Regexp, "a|b.*", "bc", true),
            (Regexp, "a|b.*", "xa", false),
            (Regexp, ".+", "", false),
            (NotRegexp, "a", "", true),
            (NotRegexp, "a.*", "a", false),
        ];
        for (kind, value, candidate, want) in cases {
            let matcher = Matcher::new(kind, "l", value).expect("valid");
            assert_eq!(matcher.matches(candidate), want, "{matcher} on {candidate:?}");
            assert_eq!(matcher.matches_empty(), matcher.matches(""));
        }
    }

    #[test]
    fn matchers_print_as_upstream() {
        let matcher =
            |kind, name: &str, value: &str| Matcher::new(kind, name, value).expect("valid").to_string();
        assert_eq!(matcher(MatchType::Regexp, "a.b", "x\"y.*"), r#""a.b"=~"x\"y.*""#);
        assert_eq!(matcher(MatchType::NotEqual, "9a", ""), r#""9a"!="""#);
        assert_eq!(matcher(MatchType::NotRegexp, "_a9", "\\d"), r#"_a9!~"\\d""#);
    }

    #[test]
    fn finite_positive_matchers_list_their_values() {
        let values = |kind, value: &str| {
            let matcher = Matcher::new(kind, "l", value).expect("valid");
            matcher.set_matches().map(<[String]>::to_vec)
        };
        assert_eq!(values(MatchType::Equal, "a|b"), Some(vec!["a|b".to_string()]));
        assert_eq!(values(MatchType::Regexp, "b|a"), Some(vec!["a".to_string(), "b".to_string()]));
        assert_eq!(values(MatchType::Regexp, "a.*"), None);
        assert_eq!(values(MatchType::NotRegexp, "a|b"), None);
    }
}
