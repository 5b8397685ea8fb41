//! The file of unit tests: every field with its default and its place, and what upstream's format has not:
//! `match`, `present` and `absent`.

use std::sync::Arc;

use tsdbctl_model::duration::{parse_duration_ms, parse_rfc3339_ns};
use tsdbctl_model::float_text::{go_quote, parse_float};
use tsdbctl_model::regexp::Regexp;
use tsdbctl_model::{Labels, Span};
use tsdbctl_yaml::read::first_document;
use tsdbctl_yaml::{Decoder, Fields, Node, Source, Spanned, Value};

/// A pair of a label or annotation, both with their places.
pub type Pair = (Spanned<String>, Spanned<String>);

/// Interval where a file gives none, ms.
pub const DEFAULT_INTERVAL_MS: i64 = 60_000;

/// A file of unit tests.
#[derive(Clone, Debug)]
pub struct TestFile {
    /// Its text and name.
    pub source: Arc<Source>,
    /// Patterns of rule files, as written.
    pub rule_files: Vec<Spanned<String>>,
    /// Distance of evaluations, ms; at least 1.
    pub evaluation_interval_ms: i64,
    /// Names of groups in the order in which they are evaluated.
    pub group_eval_order: Vec<Spanned<String>>,
    /// Neighbouring floats count as equal.
    pub fuzzy_compare: bool,
    /// The tests.
    pub tests: Vec<TestGroup>,
    /// A second document begins here; upstream does not read it.
    pub has_more_documents: bool,
}

/// One entry of `tests`.
#[derive(Clone, Debug)]
pub struct TestGroup {
    /// Its name; absent or empty: none.
    pub name: Option<Spanned<String>>,
    /// Distance of the input samples, ms.
    pub interval_ms: i64,
    /// Input series in order.
    pub input_series: Vec<InputSeries>,
    /// `alert_rule_test`
    pub alert_cases: Vec<AlertCase>,
    /// `promql_expr_test`
    pub expr_cases: Vec<ExprCase>,
    /// `external_labels`
    pub external_labels: Labels,
    /// `external_url`
    pub external_url: String,
    /// Time of the first evaluation and sample, Unix ms.
    pub start_ms: i64,
    /// The entry's place.
    pub span: Span,
}

/// A series and its values, as written.
#[derive(Clone, Debug, Default)]
pub struct InputSeries {
    /// Name and labels.
    pub series: Spanned<String>,
    /// Its values.
    pub values: Spanned<String>,
    /// The entry's place.
    pub span: Span,
}

/// How an expectation is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// All labels and annotations, nothing else: upstream's way.
    #[default]
    Exact,
    /// What is named must be there; there may be more.
    Subset,
    /// As subset, the values are anchored regular expressions.
    Regex,
}

/// `present` or `absent`.
#[derive(Clone, Debug)]
pub enum Presence<T> {
    /// `true`: anything, at all.
    Any(Span),
    /// Each of these.
    Each(Vec<T>),
}

/// A check of the alerts of one name at one time.
#[derive(Clone, Debug)]
pub struct AlertCase {
    /// When, ms behind the start.
    pub eval_time_ms: i64,
    /// Place of `eval_time`, or of the case.
    pub eval_time_span: Span,
    /// Name of the alert; empty where it is missing.
    pub alertname: Spanned<String>,
    /// The alerts that must fire.
    pub expected: Vec<ExpectedAlert>,
    /// Place of the value of `exp_alerts`.
    pub expected_span: Option<Span>,
    /// Alerts that must be among those that fire.
    pub present: Option<Presence<ExpectedAlert>>,
    /// Alerts that must not fire.
    pub absent: Option<Presence<ExpectedAlert>>,
    /// The case's place.
    pub span: Span,
}

/// An alert that is expected.
#[derive(Clone, Debug, Default)]
pub struct ExpectedAlert {
    /// Its labels without `alertname`.
    pub labels: Vec<Pair>,
    /// Its annotations.
    pub annotations: Vec<Pair>,
    /// How it is compared.
    pub matching: Matching,
    /// Its place.
    pub span: Span,
}

/// A check of an expression at one time.
#[derive(Clone, Debug)]
pub struct ExprCase {
    /// The expression.
    pub expr: Spanned<String>,
    /// When, ms behind the start.
    pub eval_time_ms: i64,
    /// Place of `eval_time`, or of the case.
    pub eval_time_span: Span,
    /// The samples it must give.
    pub expected: Vec<ExpectedSample>,
    /// Place of the value of `exp_samples`.
    pub expected_span: Option<Span>,
    /// Samples that must be among those it gives.
    pub present: Option<Presence<ExpectedSample>>,
    /// Samples that it must not give.
    pub absent: Option<Presence<ExpectedSample>>,
    /// The case's place.
    pub span: Span,
}

/// A sample that is expected.
#[derive(Clone, Debug, Default)]
pub struct ExpectedSample {
    /// Its labels, in the notation of metrics.
    pub labels: Spanned<String>,
    /// Its value; 0 where none is written.
    pub value: f64,
    /// Place of the value, if one is written.
    pub value_span: Option<Span>,
    /// Its histogram, empty for none.
    pub histogram: Spanned<String>,
    /// How it is compared.
    pub matching: Matching,
    /// Its place.
    pub span: Span,
}

/// Something wrong with a file of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// Upstream's words where upstream has any.
    pub message: String,
    /// The place.
    pub span: Span,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Reads a file of tests.
///
/// # Errors
/// All that is wrong with it.
pub fn read_test_file(source: Arc<Source>) -> Result<TestFile, Vec<FileProblem>> {
    let (root, has_more_documents) = first_document(&source)
        .map_err(|e| vec![FileProblem { message: e.message, span: e.span, hint: e.hint }])?;
    let mut file = TestFile {
        source: Arc::clone(&source),
        rule_files: Vec::new(),
        evaluation_interval_ms: DEFAULT_INTERVAL_MS,
        group_eval_order: Vec::new(),
        fuzzy_compare: false,
        tests: Vec::new(),
        has_more_documents,
    };
    let mut reader = Reader { decoder: Decoder::new(&source, false), problems: Vec::new() };
    if let Some(root) = &root {
        reader.file(root, &mut file);
    }
    let mut problems = reader.problems;
    problems.extend(reader.decoder.problems.into_iter().map(|p| {
        let hint = p.hint.or_else(|| shape_hint(&p.message));
        FileProblem { message: p.message, span: p.span, hint }
    }));
    problems.sort_by_key(|p| p.span);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

struct Reader<'s> {
    decoder: Decoder<'s>,
    problems: Vec<FileProblem>,
}

impl Reader<'_> {
    fn problem(&mut self, span: Span, message: String, hint: Option<String>) {
        self.problems.push(FileProblem { message, span, hint });
    }

    fn text(&mut self, fields: &mut Fields<'_>, name: &'static str) -> Spanned<String> {
        fields.take(name).and_then(|node| self.decoder.string(node)).unwrap_or_default()
    }

    fn pairs(&mut self, fields: &mut Fields<'_>, name: &'static str) -> Vec<Pair> {
        fields.take(name).map(|node| self.decoder.string_map(node)).unwrap_or_default()
    }

    /// A duration in ms with its place; 0 where it is absent.
    fn duration(&mut self, fields: &mut Fields<'_>, name: &'static str) -> (i64, Option<Span>) {
        let Some(node) = fields.take(name) else { return (0, None) };
        if node.is_null() {
            return (0, Some(node.span));
        }
        let Some(text) = self.decoder.string(node) else { return (0, Some(node.span)) };
        match parse_duration_ms(&text.value) {
            Ok(ms) => (ms, Some(node.span)),
            Err(e) => {
                let digits = !text.value.is_empty() && text.value.bytes().all(|b| b.is_ascii_digit());
                let hint = if digits {
                    format!("a duration needs a unit: {0}s for seconds, {0}m for minutes", text.value)
                } else if text.value.starts_with('-') {
                    "durations are not negative here".to_string()
                } else {
                    "durations are whole numbers with units, longest first: 1h30m, 90s, 500ms".to_string()
                };
                self.problem(node.span, e.to_string(), Some(hint));
                (0, Some(node.span))
            }
        }
    }

    fn file(&mut self, root: &Node, file: &mut TestFile) {
        let mut fields = self.decoder.fields(root, "main.unitTestFile");
        if let Some(node) = fields.take("rule_files") {
            for item in self.decoder.list(node, "string") {
                file.rule_files.extend(self.decoder.string(item));
            }
        }
        let (interval, _) = self.duration(&mut fields, "evaluation_interval");
        if interval > 0 {
            file.evaluation_interval_ms = interval;
        }
        if let Some(node) = fields.take("group_eval_order") {
            for item in self.decoder.list(node, "string") {
                let Some(name) = self.decoder.string(item) else { continue };
                if file.group_eval_order.iter().any(|n| n.value == name.value) {
                    let message = format!("group name repeated in evaluation order: {}", name.value);
                    self.problem(name.span, message, Some("remove one of the two".to_string()));
                }
                file.group_eval_order.push(name);
            }
        }
        if let Some(node) = fields.take("fuzzy_compare") {
            file.fuzzy_compare = self.decoder.bool(node).unwrap_or_default();
        }
        if let Some(node) = fields.take("tests") {
            for item in self.decoder.list(node, "main.testGroup") {
                let mut test = self.test(item);
                if test.interval_ms == 0 {
                    test.interval_ms = file.evaluation_interval_ms;
                }
                file.tests.push(test);
            }
        }
        self.decoder.finish(fields);
    }

    fn test(&mut self, node: &Node) -> TestGroup {
        let mut fields = self.decoder.fields(node, "main.testGroup");
        let (interval_ms, _) = self.duration(&mut fields, "interval");
        let mut test = TestGroup {
            name: Some(self.text(&mut fields, "name")).filter(|n| !n.value.is_empty()),
            interval_ms,
            input_series: Vec::new(),
            alert_cases: Vec::new(),
            expr_cases: Vec::new(),
            external_labels: Labels::empty(),
            external_url: self.text(&mut fields, "external_url").value,
            start_ms: 0,
            span: node.span,
        };
        let external = self.pairs(&mut fields, "external_labels");
        test.external_labels = Labels::from_pairs(external.into_iter().map(|(k, v)| (k.value, v.value)));
        if let Some(node) = fields.take("start_timestamp")
            && !node.is_null()
            && let Some(text) = self.decoder.string(node)
        {
            match start_ms(&text.value) {
                Some(ms) => test.start_ms = ms,
                None => self.problem(
                    node.span,
                    format!("cannot parse {} to a valid timestamp", go_quote(&text.value)),
                    Some("Unix seconds or a time such as 2026-01-31T12:00:00Z".to_string()),
                ),
            }
        }
        if let Some(list) = fields.take("input_series") {
            for item in self.decoder.list(list, "main.series") {
                let mut fields = self.decoder.fields(item, "main.series");
                let series = self.text(&mut fields, "series");
                let values = self.text(&mut fields, "values");
                self.decoder.finish(fields);
                test.input_series.push(InputSeries { series, values, span: item.span });
            }
        }
        if let Some(list) = fields.take("alert_rule_test") {
            for item in self.decoder.list(list, "main.alertTestCase") {
                let case = self.alert_case(item);
                test.alert_cases.push(case);
            }
        }
        if let Some(list) = fields.take("promql_expr_test") {
            for item in self.decoder.list(list, "main.promqlTestCase") {
                let case = self.expr_case(item);
                test.expr_cases.push(case);
            }
        }
        self.decoder.finish(fields);
        test
    }

    fn alert_case(&mut self, node: &Node) -> AlertCase {
        let mut fields = self.decoder.fields(node, "main.alertTestCase");
        let (eval_time_ms, eval_time_span) = self.duration(&mut fields, "eval_time");
        let alertname = self.text(&mut fields, "alertname");
        let matching = self.matching(&mut fields, Matching::Exact);
        let mut case = AlertCase {
            eval_time_ms,
            eval_time_span: eval_time_span.unwrap_or(node.span),
            alertname,
            expected: Vec::new(),
            expected_span: None,
            present: None,
            absent: None,
            span: node.span,
        };
        if let Some(list) = fields.take("exp_alerts") {
            case.expected_span = Some(list.span);
            for item in self.decoder.list(list, "main.alert") {
                let alert = self.alert(item, matching);
                case.expected.push(alert);
            }
        }
        let part = matching.for_presence();
        case.present = self.presence(&mut fields, "present", "main.alert", |r, n| r.alert(n, part));
        case.absent = self.presence(&mut fields, "absent", "main.alert", |r, n| r.alert(n, part));
        self.decoder.finish(fields);
        case
    }

    fn patterns(&mut self, pairs: &[Pair]) {
        for (_, value) in pairs {
            if let Err(error) = Regexp::new(&value.value) {
                let hint = "\\ before a sign takes it as it stands; match: subset compares whole texts";
                self.problem(value.span, error.to_string(), Some(hint.to_string()));
            }
        }
    }

    fn alert(&mut self, node: &Node, matching: Matching) -> ExpectedAlert {
        let mut fields = self.decoder.fields(node, "main.alert");
        let alert = ExpectedAlert {
            labels: self.pairs(&mut fields, "exp_labels"),
            annotations: self.pairs(&mut fields, "exp_annotations"),
            matching: self.matching(&mut fields, matching),
            span: node.span,
        };
        if alert.matching == Matching::Regex {
            self.patterns(&alert.labels);
            self.patterns(&alert.annotations);
        }
        self.decoder.finish(fields);
        alert
    }

    fn expr_case(&mut self, node: &Node) -> ExprCase {
        let mut fields = self.decoder.fields(node, "main.promqlTestCase");
        let (eval_time_ms, eval_time_span) = self.duration(&mut fields, "eval_time");
        let expr = self.text(&mut fields, "expr");
        let matching = self.matching(&mut fields, Matching::Exact);
        let mut case = ExprCase {
            expr,
            eval_time_ms,
            eval_time_span: eval_time_span.unwrap_or(node.span),
            expected: Vec::new(),
            expected_span: None,
            present: None,
            absent: None,
            span: node.span,
        };
        if let Some(list) = fields.take("exp_samples") {
            case.expected_span = Some(list.span);
            for item in self.decoder.list(list, "main.sample") {
                let sample = self.sample(item, matching);
                case.expected.push(sample);
            }
        }
        let part = matching.for_presence();
        case.present = self.presence(&mut fields, "present", "main.sample", |r, n| r.sample(n, part));
        case.absent = self.presence(&mut fields, "absent", "main.sample", |r, n| r.sample(n, part));
        self.decoder.finish(fields);
        case
    }

    fn sample(&mut self, node: &Node, matching: Matching) -> ExpectedSample {
        let mut fields = self.decoder.fields(node, "main.sample");
        let value = fields.take("value");
        let sample = ExpectedSample {
            labels: self.text(&mut fields, "labels"),
            value: value.filter(|v| !v.is_null()).and_then(|v| self.decoder.float(v)).unwrap_or_default(),
            value_span: value.map(|v| v.span),
            histogram: self.text(&mut fields, "histogram"),
            matching: self.matching(&mut fields, matching),
            span: node.span,
        };
        self.decoder.finish(fields);
        sample
    }

    fn matching(&mut self, fields: &mut Fields<'_>, default: Matching) -> Matching {
        let Some(node) = fields.take("match") else { return default };
        let text = self.decoder.string(node).unwrap_or_default().value;
        match text.as_str() {
            "exact" => Matching::Exact,
            "subset" => Matching::Subset,
            "regex" => Matching::Regex,
            _ => {
                let message = format!("unknown way to match: {}", go_quote(&text));
                self.problem(node.span, message, Some("exact, subset or regex".to_string()));
                default
            }
        }
    }

    fn presence<T>(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        go_type: &'static str,
        mut read: impl FnMut(&mut Self, &Node) -> T,
    ) -> Option<Presence<T>> {
        let node = fields.take(name)?;
        match &node.value {
            Value::Sequence(_) => {
                let items = self.decoder.list(node, go_type);
                Some(Presence::Each(items.iter().map(|item| read(self, item)).collect()))
            }
            _ => self.decoder.bool(node).unwrap_or_default().then_some(Presence::Any(node.span)),
        }
    }
}

impl Matching {
    /// How entries of `present` and `absent` are compared: what they do not name does not matter.
    fn for_presence(self) -> Self {
        if self == Self::Regex { Self::Regex } else { Self::Subset }
    }
}

/// What to do about a value of the wrong shape, or a field that is not known.
fn shape_hint(message: &str) -> Option<String> {
    if let Some((field, of)) = message.split_once(" not found in type ") {
        let field = field.trim_start_matches("field ");
        return Some(match of {
            "main.unitTestFile" if field == "groups" => {
                "this looks like a file of rules: check it with `tsdbctl rules check`".to_string()
            }
            "main.unitTestFile" => {
                "a file of tests has rule_files, evaluation_interval, group_eval_order, fuzzy_compare and tests"
                    .to_string()
            }
            "main.testGroup" => "a test has name, interval, input_series, alert_rule_test, promql_expr_test, \
                                 external_labels, external_url and start_timestamp"
                .to_string(),
            "main.series" => "a series has `series` and `values`".to_string(),
            "main.alertTestCase" => {
                "such a case has eval_time, alertname, exp_alerts, match, present and absent".to_string()
            }
            "main.alert" => "an expected alert has exp_labels, exp_annotations and match".to_string(),
            "main.promqlTestCase" => {
                "such a case has expr, eval_time, exp_samples, match, present and absent".to_string()
            }
            "main.sample" => "an expected sample has labels, value, histogram and match".to_string(),
            _ => return None,
        });
    }
    let (_, into) = message.rsplit_once(" into ")?;
    Some(match into {
        "float64" => "a number without quotes is expected: 1, 0.5, 1e3, .inf or .nan".to_string(),
        "bool" => "true or false is expected".to_string(),
        "string" if message.contains("!!map") => {
            "a text is expected: put the value in quotes if it begins with `{`".to_string()
        }
        "string" => "a text is expected: one value, no list".to_string(),
        "map[string]string" => "names with texts are expected: NAME: \"value\", one per line".to_string(),
        "[]string" => "a list is expected: [a.yml, b.yml], or one per line behind `- `".to_string(),
        "[]main.testGroup" => "a list of tests is expected: begin each with `- `".to_string(),
        "[]main.series" => "a list of series is expected: begin each with `- series:`".to_string(),
        _ if into.starts_with("[]main.") => "a list is expected: begin each item with `- `".to_string(),
        "main.unitTestFile" => "a file of tests begins with `rule_files:` and `tests:`".to_string(),
        "main.series" => "series: NAME{LABEL=\"value\"} and values: '1 2 3' are expected".to_string(),
        _ if into.starts_with("main.") => "fields are expected here, one per line: NAME: VALUE".to_string(),
        _ => return None,
    })
}

/// Unix seconds or RFC 3339, in ms.
fn start_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = parse_float(text) {
        let whole = seconds.trunc();
        let ns = ((seconds - whole) * 1e9) as i64;
        return Some((whole as i64).checked_mul(1000)?.saturating_add(ns.div_euclid(1_000_000)));
    }
    parse_rfc3339_ns(text).and_then(|ns| i64::try_from(ns.div_euclid(1_000_000)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TestFile, Vec<FileProblem>> {
        read_test_file(Arc::new(Source::new("t.yml", text)))
    }

    #[test]
    fn absent_fields_have_upstreams_defaults() {
        let file = read("tests:\n  - input_series:\n      - series: m\n        values: 1\n").unwrap();
        assert_eq!((file.evaluation_interval_ms, file.fuzzy_compare), (60_000, false));
        let test = &file.tests[0];
        assert_eq!((test.interval_ms, test.start_ms, test.name.is_none()), (60_000, 0, true));
        assert_eq!(test.input_series[0].values.value, "1");
        assert!(read("").unwrap().tests.is_empty());
        let file = read("evaluation_interval: 5m\ntests: [{}, {interval: 1s}]\n").unwrap();
        assert_eq!(file.tests.iter().map(|t| t.interval_ms).collect::<Vec<_>>(), [300_000, 1_000]);
    }

    #[test]
    fn start_timestamps_are_seconds_or_times() {
        for (text, ms) in [
            ("0", Some(0)),
            ("1609459200", Some(1_609_459_200_000)),
            ("-1.5", Some(-1_500)),
            ("2024-01-01T00:00:00Z", Some(1_704_067_200_000)),
            ("1e3", Some(1_000_000)),
            ("yesterday", None),
        ] {
            assert_eq!(start_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn mistakes_have_places_and_remedies() {
        for (text, place, message, hint) in [
            ("evaluation_interval: 60\n", "t.yml:1:22", "not a valid duration string: \"60\"", "60s"),
            ("evaluation_interval: -1m\n", "t.yml:1:22", "not a valid duration string: \"-1m\"", "negative"),
            (
                "group_eval_order: [a, b, a]\n",
                "t.yml:1:26",
                "group name repeated in evaluation order: a",
                "remove",
            ),
            ("tests:\n  - start_timestamp: soon\n", "t.yml:2:22", "cannot parse \"soon\"", "Unix seconds"),
            (
                "tests:\n  - promql_expr_test:\n      - expr: m\n        match: fuzzy\n",
                "t.yml:4:16",
                "unknown way to match: \"fuzzy\"",
                "subset",
            ),
            ("rule_files: a.yml\n", "t.yml:1:13", "cannot unmarshal !!str", "list"),
            ("groups: []\n", "t.yml:1:1", "field groups not found", "rules check"),
            ("tests:\n  interval: 1m\n", "t.yml:2:3", "cannot unmarshal !!map", "begin each"),
            (
                "tests:\n- promql_expr_test:\n  - exp_samples:\n    - value: 'x'\n",
                "t.yml:4:14",
                "into float64",
                "number",
            ),
            (
                "tests:\n- alert_rule_test:\n  - exp_alerts:\n    - match: regex\n      exp_labels: {a: '('}\n",
                "t.yml:5:23",
                "missing closing )",
                "subset",
            ),
        ] {
            let problems = read(text).unwrap_err();
            let source = Source::new("t.yml", text);
            assert_eq!(source.place(problems[0].span), place, "{text}");
            assert!(problems[0].message.contains(message), "{problems:?}");
            assert!(problems[0].hint.as_ref().is_some_and(|h| h.contains(hint)), "{problems:?}");
        }
    }
}
