//! The checks that upstream makes as it reads a rule file, in its words, each at its true place.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tsdbctl_model::Span;
use tsdbctl_model::duration::parse_duration_ms;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::quote::go_quote;
use tsdbctl_promql::parser::parse;
use tsdbctl_template::RuleTemplate;
use tsdbctl_yaml::{Decoder, Entry, Node, Problem, Scalar, ScalarStyle, Source, Spanned, Value};

use crate::file::{GroupSpec, ReadOptions, RuleKind, RuleSpec};
use crate::finding::{Finding, Subject};
use crate::query::RuleExpr;

/// Every code of what a file is refused for, and what it means.
pub const REFUSALS: &[(&str, &str)] = &[
    ("yaml-syntax", "the file is no YAML, or not in UTF-8"),
    ("wrong-type", "a value is of a kind that does not fit there"),
    ("unknown-field", "a field that rule files do not have"),
    ("repeated-key", "a key stands twice in a mapping"),
    ("invalid-duration", "a text that is no duration"),
    ("second-document", "a second YAML document, which Prometheus does not read"),
    ("no-rules", "an object or a part of a file that holds no rules"),
    ("empty-group-name", "a group without a name"),
    ("repeated-group", "two groups of one name"),
    ("record-and-alert", "a rule that records and alerts"),
    ("no-record-or-alert", "a rule that neither records nor alerts"),
    ("no-expression", "a rule without an expression"),
    ("invalid-expression", "an expression that is no PromQL"),
    ("invalid-label-name", "a label that rules cannot set"),
    ("invalid-annotation-name", "an annotation without a name"),
    ("label-template", "a label whose template cannot be parsed"),
    ("annotation-template", "an annotation whose template cannot be parsed"),
    ("annotations-in-record", "a recording rule with annotations"),
    ("for-in-record", "a recording rule that waits"),
    ("keep-firing-for-in-record", "a recording rule that keeps firing"),
    ("braces-in-record", "a recorded metric's name with braces"),
];

/// Texts of labels or annotations in the order of the file.
type Pairs = Vec<(Spanned<String>, Spanned<String>)>;

/// A value with its node, where the field is there.
type Field<'n> = Option<(Spanned<Cow<'n, str>>, &'n Node)>;

/// Reads the groups of one file: first the shape of all, then, if that is right, the rules.
#[derive(Debug)]
pub struct Checker<'o> {
    source: Arc<Source>,
    options: &'o ReadOptions,
    /// What is wrong with the shape.
    shape: Vec<Finding>,
    /// What is wrong with the rules.
    rules: Vec<Finding>,
    groups: Vec<GroupSpec>,
    /// Groups of the plain file by name.
    names: HashMap<String, Span>,
    /// The expression that was printed last.
    printed: String,
}

/// The rule that something is wrong with.
#[derive(Clone, Copy)]
struct Named<'r> {
    group: &'r str,
    rule: usize,
    name: &'r str,
}

impl Named<'_> {
    fn subject(self) -> Subject {
        Subject { group: self.group.to_string(), rule: self.rule, name: self.name.to_string() }
    }
}

struct RawGroup<'n> {
    spec: GroupSpec,
    rules: Vec<RawRule<'n>>,
}

struct RawRule<'n> {
    record: Field<'n>,
    alert: Field<'n>,
    expr: Field<'n>,
    for_ms: Option<(i64, Span)>,
    keep_firing_for_ms: Option<(i64, Span)>,
    labels: Pairs,
    annotations: Pairs,
    annotations_entry: Option<&'n Entry>,
    span: Span,
}

/// Reads one document's shape.
struct Shape<'s> {
    source: &'s Arc<Source>,
    decoder: Decoder<'s>,
    findings: Vec<Finding>,
    /// Fields of Kubernetes objects are known.
    object: bool,
}

impl<'o> Checker<'o> {
    /// Reads groups of `source`.
    pub fn new(source: Arc<Source>, options: &'o ReadOptions) -> Self {
        Self {
            source,
            options,
            shape: Vec::new(),
            rules: Vec::new(),
            groups: Vec::new(),
            names: HashMap::new(),
            printed: String::new(),
        }
    }

    /// Reads a document that is a plain rule file.
    pub fn rule_groups(&mut self, node: &Node) {
        let source = Arc::clone(&self.source);
        let mut shape = Shape::new(&source, self.options, false);
        let groups = shape.groups(node);
        self.take(shape, groups);
    }

    /// Reads the `spec` of a PrometheusRule.
    pub fn object(&mut self, spec: &Node) {
        let source = Arc::clone(&self.source);
        let mut shape = Shape::new(&source, self.options, true);
        let groups = shape.groups(spec);
        self.names.clear();
        self.take(shape, groups);
        self.names.clear();
    }

    /// Reads a list of groups.
    pub fn group_list(&mut self, node: &Node) {
        let source = Arc::clone(&self.source);
        let mut shape = Shape::new(&source, self.options, true);
        let groups = shape.group_list(node);
        self.take(shape, groups);
    }

    /// The groups.
    ///
    /// # Errors
    /// All that is wrong: with the shape, or with the rules.
    pub fn finish(self) -> Result<Vec<GroupSpec>, Vec<Finding>> {
        if !self.shape.is_empty() {
            return Err(self.shape);
        }
        if self.rules.is_empty() { Ok(self.groups) } else { Err(self.rules) }
    }

    fn take(&mut self, shape: Shape<'_>, groups: Vec<RawGroup<'_>>) {
        let findings = shape.finish();
        if !findings.is_empty() {
            self.shape.extend(findings);
            return;
        }
        for group in groups {
            self.group(group);
        }
    }

    fn group(&mut self, raw: RawGroup<'_>) {
        let RawGroup { mut spec, rules } = raw;
        let name = &spec.name;
        if name.value.is_empty() {
            let text = "Groupname must not be empty";
            self.rules.push(
                Finding::refused("empty-group-name", &self.source, name.span, text, format!("0:0: {text}"))
                    .with_hint("give the group a name: - name: example"),
            );
        }
        if let Some(first) = self.names.get(&name.value) {
            let text = format!("groupname: \"{}\" is repeated in the same file", name.value);
            let upstream = format!("0:0: {text}");
            self.rules.push(
                Finding::refused("repeated-group", &self.source, name.span, text, upstream)
                    .with_hint("rename one of the groups, or put the rules of both into one")
                    .and_at(*first, "the first group of this name"),
            );
        }
        self.label_names(&spec.labels, None);
        self.names.entry(name.value.clone()).or_insert(name.span);
        spec.rules.reserve_exact(rules.len());
        for (i, rule) in rules.into_iter().enumerate() {
            if let Some(rule) = self.rule(&spec.name.value, i + 1, rule) {
                spec.rules.push(rule);
            }
        }
        self.groups.push(spec);
    }

    fn label_names(&mut self, labels: &Pairs, subject: Option<Named<'_>>) {
        for (key, _) in labels {
            if key.value.is_empty() || key.value == METRIC_NAME {
                let text = format!("invalid label name: {}", key.value);
                let hint = if key.value.is_empty() {
                    "a label needs a name"
                } else {
                    "the name of the metric is what `record` says; it cannot be set as a label"
                };
                self.refuse("invalid-label-name", key.span, text, "", subject, hint.to_string());
            }
        }
    }

    /// Notes that a rule is refused; `at` is the place that upstream names, with `: ` behind it.
    fn refuse(
        &mut self,
        code: &'static str,
        span: Span,
        text: String,
        at: &str,
        subject: Option<Named<'_>>,
        hint: String,
    ) {
        let upstream = match subject {
            Some(s) => {
                format!("{at}group {}, rule {}, {}: {text}", go_quote(s.group), s.rule, go_quote(s.name))
            }
            None => format!("{at}{text}"),
        };
        let mut finding = Finding::refused(code, &self.source, span, text, upstream);
        finding.hint = Some(hint).filter(|h| !h.is_empty());
        finding.subject = subject.map(Named::subject);
        self.rules.push(finding);
    }

    /// `L:C: ` of a field's value as upstream counts it.
    fn at(&self, field: &Field<'_>) -> String {
        match field {
            Some((_, node)) => {
                let (line, column) = self.source.line_col(node.span.start as usize);
                format!("{line}:{column}: ")
            }
            None => "0:0: ".to_string(),
        }
    }

    fn rule(&mut self, group: &str, number: usize, raw: RawRule<'_>) -> Option<RuleSpec> {
        let before = self.rules.len();
        let record = raw.record.as_ref().filter(|(v, _)| !v.value.is_empty());
        let alert = raw.alert.as_ref().filter(|(v, _)| !v.value.is_empty());
        let name = alert.or(record).map_or("", |(v, _)| &v.value);
        let subject = Named { group, rule: number, name };
        let both = |checker: &Self| format!("{}{}", checker.at(&raw.record), checker.at(&raw.alert));
        match (record, alert) {
            (Some((record, _)), Some((alert, _))) => {
                let both = both(self);
                let text = "only one of 'record' and 'alert' must be set".to_string();
                let hint = "make two rules of it, one that records and one that alerts".to_string();
                self.refuse("record-and-alert", alert.span, text, &both, Some(subject), hint);
                if let Some(finding) = self.rules.last_mut() {
                    *finding = finding.clone().and_at(record.span, "the same rule records");
                }
            }
            (None, None) => {
                let both = both(self);
                let text = "one of 'record' or 'alert' must be set".to_string();
                let hint =
                    "add `record: NAME` to store the result as a metric, or `alert: NAME` to alert on it";
                let span = self.first_line(raw.span);
                self.refuse("no-record-or-alert", span, text, &both, Some(subject), hint.to_string());
            }
            _ => {}
        }
        let expr = self.expr(&raw, subject);
        if let Some((record, _)) = record {
            self.recording(&raw, record, subject);
        }
        self.label_names(&raw.labels, Some(subject));
        for (key, _) in &raw.annotations {
            if key.value.is_empty() {
                let text = format!("invalid annotation name: {}", key.value);
                let hint = "an annotation needs a name".to_string();
                self.refuse("invalid-annotation-name", key.span, text, "", Some(subject), hint);
            }
        }
        if alert.is_some() {
            self.templates("label", "label-template", &raw.labels, subject);
            self.templates("annotation", "annotation-template", &raw.annotations, subject);
        }
        let kind = if alert.is_some() { RuleKind::Alert } else { RuleKind::Record };
        let name = if kind == RuleKind::Alert { raw.alert } else { raw.record };
        let (Some(expr), Some((name, _))) = (expr, name) else { return None };
        (self.rules.len() == before).then(|| RuleSpec {
            kind,
            name: Spanned { value: name.value.into_owned(), span: name.span },
            expr_span: raw.expr.as_ref().map_or(raw.span, |(v, _)| v.span),
            expr,
            for_ms: raw.for_ms.map_or(0, |(ms, _)| ms),
            for_span: raw.for_ms.map(|(_, span)| span),
            keep_firing_for_ms: raw.keep_firing_for_ms.map_or(0, |(ms, _)| ms),
            keep_firing_for_span: raw.keep_firing_for_ms.map(|(_, span)| span),
            labels: raw.labels,
            annotations: raw.annotations,
            span: raw.span,
        })
    }

    fn first_line(&self, span: Span) -> Span {
        let (start, end) = (span.start as usize, span.end as usize);
        let end = self.source.text.get(start..end).and_then(|t| t.find('\n')).map_or(end, |n| start + n);
        Span::new(start, end)
    }

    fn expr(&mut self, raw: &RawRule<'_>, subject: Named<'_>) -> Option<RuleExpr> {
        let Some((text, node)) = raw.expr.as_ref().filter(|(v, _)| !v.value.is_empty()) else {
            let span = match &raw.expr {
                Some((v, _)) => v.span,
                None => self.first_line(raw.span),
            };
            let hint = "add `expr: EXPRESSION`, what the rule evaluates".to_string();
            let at = self.at(&raw.expr);
            self.refuse(
                "no-expression",
                span,
                "field 'expr' must be set in rule".into(),
                &at,
                Some(subject),
                hint,
            );
            return None;
        };
        match parse(&text.value, &self.options.features) {
            Ok(expr) => {
                self.printed.clear();
                let _ = write!(self.printed, "{expr}");
                let text: Arc<str> = Arc::from(&*text.value);
                // What is written as upstream prints it is kept once.
                let printed = if self.printed == *text { text.clone() } else { Arc::from(&*self.printed) };
                Some(RuleExpr { text, printed, expr: Arc::new(expr) })
            }
            Err(e) => {
                let at = self.at(&raw.expr);
                let message = format!("could not parse expression: {}", e.api_message(&text.value));
                let span = within(&self.source, &text.value, node.span, e.span);
                let hint = e.hint.clone().unwrap_or_else(|| expression_hint(&e.message).to_string());
                self.refuse("invalid-expression", span, message, &at, Some(subject), hint);
                None
            }
        }
    }

    /// What a recording rule must not have.
    fn recording(&mut self, raw: &RawRule<'_>, record: &Spanned<Cow<'_, str>>, subject: Named<'_>) {
        let has_durations = [raw.for_ms, raw.keep_firing_for_ms].iter().any(Option::is_some);
        let has_braces = record.value.contains(['{', '}']);
        if raw.annotations.is_empty() && !has_durations && !has_braces {
            return;
        }
        let at = self.at(&raw.record);
        if let Some(entry) = raw.annotations_entry.filter(|_| !raw.annotations.is_empty()) {
            let text = "invalid field 'annotations' in recording rule".to_string();
            let hint = "a recorded metric has no annotations; take them away, or use a comment".to_string();
            self.refuse("annotations-in-record", entry.key.span, text, &at, Some(subject), hint);
        }
        let durations = [
            ("for", "for-in-record", raw.for_ms),
            ("keep_firing_for", "keep-firing-for-in-record", raw.keep_firing_for_ms),
        ];
        for (field, code, value) in durations {
            let Some((_, span)) = value.filter(|(ms, _)| *ms != 0) else { continue };
            let text = format!("invalid field '{field}' in recording rule");
            let hint = format!("only alerts wait: take `{field}` away, or turn `record` into `alert`");
            self.refuse(code, span, text, &at, Some(subject), hint);
        }
        if has_braces {
            let text =
                format!("braces present in the recording rule name; should it be in expr?: {}", record.value);
            let hint = "`record` is a bare metric name; put labels under `labels:`".to_string();
            self.refuse("braces-in-record", record.span, text, &at, Some(subject), hint);
        }
    }

    fn templates(&mut self, what: &str, code: &'static str, pairs: &Pairs, subject: Named<'_>) {
        for (key, value) in pairs {
            if !value.value.contains("{{") {
                continue;
            }
            let Err(e) = RuleTemplate::parse(subject.name, &value.value) else { continue };
            let text = format!("{what} {}: {}", go_quote(&key.value), e.message);
            let span = within(&self.source, &value.value, value.span, e.span);
            let hint = e.hint.unwrap_or_else(|| template_hint(&e.message));
            self.refuse(code, span, text, "", Some(subject), hint);
        }
    }
}

/// The place in the file of a part of a scalar's value: `text` is the value, `at` the place of the scalar.
pub fn within(source: &Source, text: &str, at: Span, part: Span) -> Span {
    // What is missing at the end is missing behind the last word, not on the empty line behind a block.
    let last = text.trim_end().len();
    let part = match part.start as usize >= last && last > 0 {
        true => Span::new(last, last),
        false => part,
    };
    let mut node = Node {
        value: Value::Scalar(Scalar { text: text.to_string(), style: ScalarStyle::Plain, tag: None }),
        span: at,
    };
    let start = node.content_span(source).start as usize;
    let style = match source.text.as_bytes().get(start) {
        Some(b'\'') => ScalarStyle::SingleQuoted,
        Some(b'"') => ScalarStyle::DoubleQuoted,
        Some(b'|') => ScalarStyle::Literal,
        Some(b'>') => ScalarStyle::Folded,
        _ => ScalarStyle::Plain,
    };
    if let Value::Scalar(scalar) = &mut node.value {
        scalar.style = style;
    }
    node.source_span(source, part.start as usize, part.end as usize)
}

/// What to do about an expression for which the parser has no remedy.
fn expression_hint(message: &str) -> &'static str {
    if message.contains("unclosed left parenthesis") {
        "close the parenthesis with `)`"
    } else if message.contains("unexpected end of input") {
        "the expression ends too early: an operand, a bracket or a parenthesis is missing behind this place"
    } else if message.contains("not enabled") {
        "switch the feature on with --enable-feature, and on the server that loads the rule too"
    } else if message.contains("expected type") {
        "rate, increase and their like take a range such as metric[5m]; other functions take no range"
    } else if message.contains("error parsing regexp") {
        "mend the pattern; \\ before a sign takes it as it stands, and in double quotes it is written \\\\"
    } else if message.contains("must not occur in ON and GROUP") {
        "a label that both sides are joined on is there anyway: take it out of group_left or group_right"
    } else if message.contains("unknown function") {
        "see https://prometheus.io/docs/prometheus/latest/querying/functions/ for the functions"
    } else {
        "see https://prometheus.io/docs/prometheus/latest/querying/basics/ for what an expression is"
    }
}

/// What to do about a template for which its parser has no remedy.
pub(crate) fn template_hint(message: &str) -> String {
    let text = if let Some((_, name)) = message.split_once("undefined variable ") {
        let name = name.trim_matches('"');
        return match name {
            "$label" | "$Labels" | "$Label" => "did you mean $labels?".to_string(),
            "$values" | "$Value" | "$val" => "did you mean $value?".to_string(),
            _ => format!(
                "templates know $labels, $value, $externalLabels and $externalURL; others are set first: {{{{ {name} := … }}}}"
            ),
        };
    } else if message.contains("unclosed action") {
        "close the action with }}"
    } else if message.contains("unexpected EOF") {
        "close every if, range, with and define with {{ end }}"
    } else if message.contains("unexpected {{end}}") {
        "there is one {{ end }} too many"
    } else if message.contains("missing value for ") {
        "put what is to be printed or looked at there, such as $value; a literal {{ is written {{ \"{{\" }}"
    } else if message.contains("string") && message.contains("unterminated") {
        "close the quote"
    } else if message.ends_with("'['") {
        "elements are taken by index: {{ index $labels \"name\" }}, or {{ $labels.name }}"
    } else if message.ends_with("'}'") {
        "close the action with }}, two braces"
    } else if message.ends_with("'-'") {
        "a name with a dash is asked for by index: {{ index $labels \"a-b\" }}; templates cannot calculate"
    } else if message.contains("unexpected \"(\"") || message.contains("unexpected \",\"") {
        "arguments stand behind the function with blanks between, without commas or parentheses: printf \"%.2f\" $value"
    } else if message.contains("unexpected \"\\\\\"") {
        "quotes need no backslash here: YAML reads none in single quotes and blocks"
    } else if message.contains("unexpected \"|\"") {
        "a value stands before each |: {{ $value | humanize }}"
    } else if message.contains("unexpected \"=\" in command") {
        "to compare, write `eq A B`"
    } else if message.contains("illegal number syntax: \"+\"") {
        "templates cannot calculate: do it in the expression"
    } else if message.contains("non executable command in pipeline") {
        "behind | stands a function: {{ $value | humanize }}"
    } else if message.contains("outside {{range}}") {
        "break and continue stand between {{ range … }} and its {{ end }}"
    } else if message.contains("{{else}}") {
        "an {{ else }} belongs to one if, with or range, and each has one at most; further cases are {{ else if … }}"
    } else if message.contains(" clause") {
        "the name of a template stands in quotes: {{ define \"name\" }}"
    } else if message.contains("after term") || message.contains("bad number syntax") {
        "only variables and fields have fields: $labels.job, .Labels.job"
    } else if message.contains("unexpected <.>") {
        "a name follows the point: $labels.job"
    } else if message.contains("not defined") {
        "see https://prometheus.io/docs/prometheus/latest/configuration/template_reference/ for the functions"
    } else {
        "see https://prometheus.io/docs/prometheus/latest/configuration/template_reference/ and Go's text/template"
    };
    text.to_string()
}

impl<'s> Shape<'s> {
    fn new(source: &'s Arc<Source>, options: &ReadOptions, object: bool) -> Self {
        let decoder = Decoder::new(source, options.ignore_unknown_fields);
        Self { source, decoder, findings: Vec::new(), object }
    }

    /// All that is wrong, in the order of the text.
    fn finish(self) -> Vec<Finding> {
        let mut all = self.findings;
        if let Some(e) = &self.decoder.fatal {
            let message = e.message.strip_prefix("yaml: ").unwrap_or(&e.message);
            let mut finding = Finding::refused("wrong-type", self.source, e.span, message, &e.message);
            finding.hint.clone_from(&e.hint);
            all.push(finding);
        }
        all.extend(self.decoder.into_problems().into_iter().map(|p| of_problem(self.source, p)));
        crate::finding::sort(&mut all);
        all
    }

    fn groups<'n>(&mut self, node: &'n Node) -> Vec<RawGroup<'n>> {
        let mut fields = self.decoder.fields(node, "rulefmt.RuleGroups");
        let groups = fields.take("groups").map_or(Vec::new(), |node| self.group_list(node));
        self.decoder.finish(fields);
        groups
    }

    fn group_list<'n>(&mut self, node: &'n Node) -> Vec<RawGroup<'n>> {
        let nodes = self.decoder.list(node, "rulefmt.RuleGroup");
        nodes.into_iter().map(|node| self.group(node)).collect()
    }

    fn group<'n>(&mut self, node: &'n Node) -> RawGroup<'n> {
        let mut fields = self.decoder.fields(node, "rulefmt.RuleGroup");
        let first_line = Span { start: node.span.start, end: node.span.start };
        let mut spec = GroupSpec { span: node.span, ..GroupSpec::default() };
        let name = fields.take("name").and_then(|n| self.decoder.string(n));
        spec.name = name.unwrap_or(Spanned { value: String::new(), span: first_line });
        spec.interval_ms = fields.take("interval").and_then(|n| self.duration(n)).map(|(ms, _)| ms);
        spec.query_offset_ms = fields.take("query_offset").and_then(|n| self.duration(n)).map(|(ms, _)| ms);
        spec.limit = fields.take("limit").and_then(|n| self.decoder.int(n)).unwrap_or(0);
        spec.labels = fields.take("labels").map_or(Vec::new(), |n| self.decoder.string_map(n));
        let rules = match fields.take("rules") {
            Some(node) => {
                let nodes = self.decoder.list(node, "rulefmt.Rule");
                nodes.into_iter().map(|node| self.rule(node)).collect()
            }
            None => Vec::new(),
        };
        if self.object {
            // Thanos' field, which the objects have.
            let _ = fields.take("partial_response_strategy");
        }
        self.decoder.finish(fields);
        RawGroup { spec, rules }
    }

    fn rule<'n>(&mut self, node: &'n Node) -> RawRule<'n> {
        let mut fields = self.decoder.fields(node, "rulefmt.Rule");
        let mut text = |shape: &mut Self, name: &'static str| -> Field<'n> {
            let node = fields.take(name)?;
            Some((shape.decoder.borrowed_string(node)?, node))
        };
        let record = text(self, "record");
        let alert = text(self, "alert");
        let expr = text(self, "expr");
        let for_ms = fields.take("for").and_then(|n| self.duration(n));
        let keep_firing_for_ms = fields.take("keep_firing_for").and_then(|n| self.duration(n));
        let labels = fields.take("labels").map_or(Vec::new(), |n| self.decoder.string_map(n));
        let annotations_entry = fields.take_entry("annotations");
        let annotations = annotations_entry.map_or(Vec::new(), |e| self.decoder.string_map(&e.value));
        self.decoder.finish(fields);
        RawRule {
            record,
            alert,
            expr,
            for_ms,
            keep_firing_for_ms,
            labels,
            annotations,
            annotations_entry,
            span: node.span,
        }
    }

    /// Milliseconds; null as if the field were absent.
    fn duration(&mut self, node: &Node) -> Option<(i64, Span)> {
        if node.is_null() {
            return None;
        }
        let text = self.decoder.borrowed_string(node)?;
        match parse_duration_ms(&text.value) {
            Ok(ms) => Some((ms, node.span)),
            Err(e) => {
                // To upstream the first bad duration is all that is wrong with the file; here it is one of many.
                let words = e.to_string();
                self.findings.push(
                    Finding::refused("invalid-duration", self.source, node.span, &words, &words)
                        .with_hint(duration_hint(&text.value)),
                );
                None
            }
        }
    }
}

/// What is meant by a text that is no duration.
fn duration_hint(text: &str) -> String {
    let text = text.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        return format!("a duration needs a unit: {text}s or {text}m");
    }
    if let Some(rest) = text.strip_prefix('-').filter(|rest| parse_duration_ms(rest).is_ok()) {
        return format!("it cannot be negative: {rest}");
    }
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if compact != text && parse_duration_ms(&compact).is_ok() {
        return format!("write it without blanks: {compact}");
    }
    if text.contains('.') {
        return "fractions are not allowed: write 1m30s rather than 1.5m".to_string();
    }
    "a duration is whole numbers with units, the longest first: 30s, 5m, 1h30m, 1d".to_string()
}

/// A problem of the shape as a finding.
fn of_problem(source: &Arc<Source>, problem: Problem) -> Finding {
    let Problem { span, message, hint } = problem;
    let (line, _) = source.line_col(span.start as usize);
    let code = if message.starts_with("mapping key") || message.contains(" already set in ") {
        "repeated-key"
    } else if message.contains(" not found in type ") {
        "unknown-field"
    } else {
        "wrong-type"
    };
    let upstream = format!("yaml: unmarshal errors:\n  line {line}: {message}");
    let hint = hint.or_else(|| shape_hint(&message));
    let mut finding = Finding::refused(code, source, span, message, upstream);
    finding.hint = hint;
    finding
}

/// What is meant by a field that is not there, or a value of the wrong kind.
fn shape_hint(message: &str) -> Option<String> {
    let field = message.strip_prefix("field ").and_then(|m| m.split_once(" not found in type "));
    if let Some((name, go_type)) = field {
        let rest = "take it away, or pass over such fields with --ignore-unknown-fields";
        return Some(match (go_type, name) {
            ("rulefmt.Rule", "severity" | "team" | "priority") => {
                format!("put it under `labels:` ({name}: …)")
            }
            ("rulefmt.Rule", "summary" | "description" | "message" | "runbook_url" | "dashboard_url") => {
                format!("put it under `annotations:` ({name}: …)")
            }
            ("rulefmt.Rule", "interval" | "limit" | "query_offset") => {
                "it belongs to the group, beside `rules:`".to_string()
            }
            ("rulefmt.Rule", "record" | "alert" | "expr") => "one value per rule".to_string(),
            (
                "rulefmt.RuleGroup",
                "record" | "alert" | "expr" | "for" | "keep_firing_for" | "annotations",
            ) => "it belongs to a rule, below `rules:`".to_string(),
            ("rulefmt.RuleGroups", "name" | "rules" | "interval") => {
                "it belongs to a group: a rule file begins with `groups:`".to_string()
            }
            ("rulefmt.RuleGroups", "alert" | "record" | "expr") => {
                "it belongs to a rule: groups: - name: … rules: - …".to_string()
            }
            ("rulefmt.RuleGroups", "rule_files" | "tests" | "evaluation_interval") => {
                "this looks like a file of unit tests: run it with `tsdbctl rules test`".to_string()
            }
            ("rulefmt.RuleGroups", "scrape_configs" | "global" | "alerting") => {
                "this looks like a configuration of Prometheus; rule files begin with `groups:`".to_string()
            }
            ("rulefmt.RuleGroup", _) => {
                format!("a group has name, interval, query_offset, limit, labels and rules; {rest}")
            }
            ("rulefmt.Rule", _) => format!(
                "a rule has record or alert, expr, for, keep_firing_for, labels and annotations; {rest}"
            ),
            _ => format!("a rule file has `groups` alone; {rest}"),
        });
    }
    let (_, into) = message.rsplit_once(" into ")?;
    Some(match into {
        "string" if message.contains("!!map") => {
            "a text is expected: put the value in quotes if it begins with `{`".to_string()
        }
        "string" => "a text is expected: one value, no list".to_string(),
        "int" => "a whole number is expected".to_string(),
        "map[string]string" => "names with texts are expected: NAME: \"value\", one per line".to_string(),
        "rulefmt.RuleGroups" => "a rule file begins with `groups:`".to_string(),
        "[]rulefmt.RuleGroup" => "a list of groups is expected: begin each with `- name:`".to_string(),
        "[]rulefmt.Rule" => {
            "a list of rules is expected: begin each with `- record:` or `- alert:`".to_string()
        }
        "rulefmt.RuleGroup" => "a group is expected here: `- name: NAME` and below it `rules:`".to_string(),
        "rulefmt.Rule" => "a rule is expected here: `- alert: NAME` and below it `expr:`".to_string(),
        _ => return None,
    })
}
