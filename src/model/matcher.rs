//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::fmt;

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
    pub fn new(kind: MatchType, name: impl Into<String>, value: impl Into<String>) -> Result<Self, RegexpError> {
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
        use crate::float_text::go_quote;
        if crate::labels::is_legacy_label_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&go_quote(&self.name))?;
        }
        write!(f, "{}{}", self.kind.as_str(), go_quote(&self.value))
    }
}
