//! What is wrong with a rule or test file: where it stands, what upstream says about it, what to do.

use std::cmp::Reverse;
use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_yaml::Source;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; shown where asked for.
    Note,
    /// Probably not what was meant; the file works.
    Warning,
    /// The file is refused.
    Error,
}

impl Severity {
    /// The word for people, JSON and SARIF.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The rule that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name of the group.
    pub group: String,
    /// Number of the rule in its group, from 1.
    pub rule: usize,
    /// Name of the recorded metric or alert; empty where there is none.
    pub name: String,
}

/// Another place that belongs to a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// The place, in the finding's text.
    pub span: Span,
    /// What is there.
    pub message: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is: a name in kebab-case that stays the same.
    pub code: &'static str,
    /// The text it is in.
    pub source: Arc<Source>,
    /// The place at fault.
    pub span: Span,
    /// The rule it is about, if it is about one.
    pub subject: Option<Subject>,
    /// What is wrong, without place; upstream's words where upstream finds it too.
    pub message: String,
    /// What promtool prints behind `FILE: `, if it finds it too.
    pub upstream: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that belong to it.
    pub related: Vec<Related>,
}

impl Finding {
    /// A finding that upstream does not have.
    pub fn new(
        severity: Severity,
        code: &'static str,
        source: &Arc<Source>,
        span: Span,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            source: Arc::clone(source),
            span,
            subject: None,
            message: message.into(),
            upstream: None,
            hint: None,
            related: Vec::new(),
        }
    }

    /// A file that upstream refuses too; `upstream` is what promtool prints behind `FILE: `.
    pub fn refused(
        code: &'static str,
        source: &Arc<Source>,
        span: Span,
        message: impl Into<String>,
        upstream: impl Into<String>,
    ) -> Self {
        Self { upstream: Some(upstream.into()), ..Self::new(Severity::Error, code, source, span, message) }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the rule it is about.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subject = Some(subject);
        self
    }

    /// With another place.
    #[must_use]
    pub fn and_at(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related.push(Related { span, message: message.into() });
        self
    }

    /// `FILE:LINE:COLUMN` of the place at fault.
    pub fn place(&self) -> String {
        self.source.place(self.span)
    }
}

/// Puts findings into the order of their texts, of one place the worst first.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|f| (f.span.start, Reverse(f.severity)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_in_the_order_of_the_text() {
        let source = Arc::new(Source::new("f", "one\ntwo\n"));
        let at = |severity, start| Finding::new(severity, "c", &source, Span::new(start, start + 1), "m");
        let mut all =
            [at(Severity::Note, 4), at(Severity::Error, 4), at(Severity::Warning, 0), at(Severity::Note, 5)];
        sort(&mut all);
        let order: Vec<(u32, Severity)> = all.iter().map(|f| (f.span.start, f.severity)).collect();
        assert_eq!(
            order,
            [(0, Severity::Warning), (4, Severity::Error), (4, Severity::Note), (5, Severity::Note)]
        );
        assert_eq!(all[1].place(), "f:2:1");
    }
}
