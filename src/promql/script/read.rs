//! Reading scripts: lines to statements.

use std::sync::LazyLock;

use regex::Regex;
use tsdbctl_model::Labels;
use tsdbctl_model::duration::parse_duration_ms;
use tsdbctl_model::float_text::go_quote;

use super::expect::{Expectation, ExpectedSeries, Message, MessagePattern};
use super::load::Load;
use crate::engine::options::{Features, QueryTime};
use crate::parser::literal;
use crate::parser::{ParseError, SeriesDescription, parse, parse_series};

/// A line that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// A script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Its statements, in order.
    pub statements: Vec<Statement>,
}

/// A statement and its place.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The line it begins on, from 1.
    pub line: usize,
    /// What to do.
    pub kind: StatementKind,
}

/// What a statement does.
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// Remove all data.
    Clear,
    /// Add data.
    Load(Load),
    /// Evaluate and compare.
    Eval(Box<Evaluation>),
}

/// One evaluation and what must come of it.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The expression.
    pub expr: String,
    /// When it is evaluated.
    pub time: QueryTime,
    /// Times of the values expected of a matrix: first, last, distance; Unix ms. The last is in the past of
    /// everything where no matrix can come out.
    pub matrix: (i64, i64, i64),
    /// An instant query that is not to be repeated as a range query.
    pub instant_only: bool,
    /// What must come of it.
    pub expected: Expectation,
}

/// Features that scripts may use: all.
pub fn script_features() -> Features {
    Features {
        experimental_functions: true,
        extended_range_selectors: true,
        binop_fill_modifiers: true,
        delayed_name_removal: true,
        use_start_timestamps: true,
        ..Features::default()
    }
}

fn pattern(source: &str) -> Regex {
    #[allow(clippy::expect_used, reason = "the patterns below are constant")]
    Regex::new(source).expect("a constant pattern")
}

static LOAD: LazyLock<Regex> = LazyLock::new(|| pattern(r"^load(?:_(with_nhcb))?\s+(.+?)$"));
static INSTANT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$"));
static RANGE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$")
});
static EXPECT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$"));
static EXPECT_RANGE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$"));

/// Parses a script.
///
/// # Errors
/// The first line that is wrong.
pub fn read_script(text: &str) -> Result<Script, ScriptError> {
    let lines: Vec<&str> = text
        .split('\n')
        .map(|l| {
            let l = l.trim();
            if l.starts_with('#') { "" } else { l }
        })
        .collect();
    let mut reader = Reader { lines, next: 0 };
    let mut script = Script::default();
    while let Some(line) = reader.lines.get(reader.next) {
        if line.is_empty() {
            reader.next += 1;
            continue;
        }
        let at = reader.next + 1;
        let command = line.split([' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
        let kind = if command == "clear" {
            reader.next += 1;
            StatementKind::Clear
        } else if command.starts_with("load") {
            StatementKind::Load(reader.load()?)
        } else if command.starts_with("eval") {
            StatementKind::Eval(Box::new(reader.eval()?))
        } else {
            return Err(ScriptError { line: at, message: format!("invalid command {}", go_quote(line)) });
        };
        script.statements.push(Statement { line: at, kind });
    }
    Ok(script)
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

fn error(line: usize, message: impl Into<String>) -> ScriptError {
    ScriptError { line: line + 1, message: message.into() }
}

/// A parse error of a part of a line, as `line:column: parse error: …` with the script's line.
fn misread(e: &ParseError, part: &str, line: usize, whole: &str) -> ScriptError {
    let at = whole.find(part).unwrap_or(0) + e.span.start as usize + 1;
    error(line, format!("{}:{at}: parse error: {}", line + 1, e.message))
}

impl<'a> Reader<'a> {
    /// The next line of a statement's body; `None` at its end.
    fn body(&mut self) -> Option<(usize, &'a str)> {
        let line = self.lines.get(self.next)?;
        if line.is_empty() {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, line))
    }

    fn load(&mut self) -> Result<Load, ScriptError> {
        let at = self.next;
        let head = self.lines[at];
        self.next += 1;
        let Some(parts) = LOAD.captures(head) else {
            return Err(error(at, "invalid load command. (load[_with_nhcb] <step:duration>)"));
        };
        let step = &parts[2];
        let interval = parse_duration_ms(step)
            .map_err(|e| error(at, format!("invalid step definition {}: {e}", go_quote(step))))?;
        let mut load = Load::new(interval, parts.get(1).is_some(), 0);
        let mut pending: Option<(usize, Labels, Vec<Option<i64>>)> = None;
        while let Some((at, line)) = self.body() {
            if is_start_line(line) {
                if let Some((at, ..)) = pending {
                    return Err(error(at, "@st line has no following sample line"));
                }
                let (labels, starts) = start_line(line, at)?;
                pending = Some((at, labels, starts));
                continue;
            }
            let SeriesDescription { labels, values } =
                parse_series(line).map_err(|e| misread(&e, line, at, line))?;
            let mut starts = Vec::new();
            if let Some((at, start_labels, offsets)) = pending.take() {
                if start_labels != labels {
                    return Err(error(at, "@st metric does not match the following sample line metric"));
                }
                if offsets.len() != values.len() {
                    return Err(error(
                        at,
                        format!("@st line has {} values but sample line has {}", offsets.len(), values.len()),
                    ));
                }
                starts = offsets;
            }
            load.set(labels, &values, &starts);
        }
        match pending {
            Some((at, ..)) => Err(error(at, "@st line has no following sample line")),
            None => Ok(load),
        }
    }

    fn eval(&mut self) -> Result<Evaluation, ScriptError> {
        let at = self.next;
        let head = self.lines[at];
        self.next += 1;
        let (mode, expr, times) = if let Some(p) = INSTANT.captures(head) {
            (p.get(1), p.get(3), [p.get(2), None, None])
        } else if let Some(p) = RANGE.captures(head) {
            (p.get(1), p.get(5), [p.get(2), p.get(3), p.get(4)])
        } else {
            return Err(error(
                at,
                "invalid evaluation command. Must be either 'eval[_fail|_warn|_ordered] instant [at <offset:duration>] <query>' or 'eval[_fail|_warn] range from <from> to <to> step <step> <query>'",
            ));
        };
        let expr = expr.map_or("", |m| m.as_str()).to_string();
        parse(&expr, &script_features()).map_err(|e| misread(&e, &expr, at, head))?;
        let in_eval =
            |message: String| error(at, format!("error in eval {expr} (line {}): {message}", at + 1));
        let [first, last, step] = times.map(|m| m.map_or("", |m| m.as_str()));
        let is_instant = times[1].is_none();
        let (time, mut matrix) = if is_instant {
            let t = parse_duration_ms(first)
                .map_err(|e| in_eval(format!("invalid timestamp definition {}: {e}", go_quote(first))))?;
            (QueryTime::Instant(t), (t, i64::MIN, 0))
        } else {
            let (start, end, step) = times_of(first, last, step).map_err(in_eval)?;
            (QueryTime::Range { start, end, step }, (start, end, step))
        };
        let mut time = time;
        let mut expected = Expectation::default();
        match mode.map_or("", |m| m.as_str()) {
            "ordered" => expected.ordered = true,
            "fail" => expected.fail.push(Message::Any),
            "warn" => expected.some_warn = true,
            "info" => expected.some_info = true,
            _ => {}
        }
        let legacy_fail = expected.fails();
        let mut instant_only = false;
        let mut range_vector = false;
        let mut position = 0;
        while let Some((line_at, line)) = self.body() {
            if legacy_fail {
                if let Some(message) = line.strip_prefix("expected_fail_message") {
                    expected.fail = vec![Message::Text(message.trim().to_string())];
                    break;
                }
                if let Some(source) = line.strip_prefix("expected_fail_regexp") {
                    let source = source.trim();
                    let compiled = MessagePattern::new(source).map_err(|e| {
                        in_eval(format!("invalid regexp '{source}' for expected_fail_regexp: {e}"))
                    })?;
                    expected.fail = vec![Message::Pattern(compiled)];
                    break;
                }
            }
            if line.starts_with("expect range vector") {
                let Some(p) = EXPECT_RANGE.captures(line) else {
                    return Err(in_eval(format!("invalid range vector definition {}", go_quote(line))));
                };
                matrix = times_of(&p[1], &p[2], &p[3]).map_err(in_eval)?;
                range_vector = true;
                instant_only = true;
                if is_instant {
                    time = QueryTime::Instant(matrix.1);
                } else {
                    time = QueryTime::Range { start: matrix.0, end: matrix.1, step: matrix.2 };
                }
                continue;
            }
            if let Some(rest) = line.strip_prefix("expect string") {
                expected.string = Some(expected_string(rest).map_err(in_eval)?);
                instant_only = true;
                continue;
            }
            if line.split(' ').next() == Some("expect") {
                expect_line(line, &mut expected).map_err(in_eval)?;
                continue;
            }
            if let Ok(value) = literal::signed_number(line) {
                expected.series.clear();
                expected.scalar = Some(value);
                break;
            }
            position += 1;
            let SeriesDescription { labels, values } =
                parse_series(line).map_err(|e| misread(&e, line, line_at, line))?;
            if values.len() > 1 && is_instant && !range_vector {
                return Err(in_eval(
                    "expecting multiple values in instant evaluation not allowed. consider using 'expect range vector' directive to enable a range vector result for an instant query".to_string(),
                ));
            }
            expected.add(ExpectedSeries { labels, position, values });
        }
        Ok(Evaluation { expr, time, matrix, instant_only, expected })
    }
}

/// First, last and distance, ms.
fn times_of(from: &str, to: &str, step: &str) -> Result<(i64, i64, i64), String> {
    let start = parse_duration_ms(from)
        .map_err(|e| format!("invalid start timestamp definition {}: {e}", go_quote(from)))?;
    let end = parse_duration_ms(to)
        .map_err(|e| format!("invalid end timestamp definition {}: {e}", go_quote(to)))?;
    if end < start {
        return Err(format!(
            "invalid test definition, end timestamp ({to}) is before start timestamp ({from})"
        ));
    }
    let step =
        parse_duration_ms(step).map_err(|e| format!("invalid step definition {}: {e}", go_quote(step)))?;
    Ok((start, end, step))
}

fn expected_string(rest: &str) -> Result<String, String> {
    let literal = rest.strip_prefix(' ').unwrap_or(rest);
    if literal.is_empty() {
        return Err("expected string literal not valid - a quoted string literal is required".to_string());
    }
    let wrong =
        || "expected string literal not valid - check that the string is correctly quoted".to_string();
    // Go's own literals: double quotes and backquotes alone.
    if literal.starts_with('\'') {
        return Err(wrong());
    }
    literal::unquote(literal).map_err(|_| wrong())
}

fn expect_line(line: &str, expected: &mut Expectation) -> Result<(), String> {
    let Some(parts) = EXPECT.captures(line.trim()) else {
        return Err(
            "invalid expect statement, must match `expect <type> <match_type>: <string>` format".to_string()
        );
    };
    let mode = &parts[1];
    let message = match (parts.get(2).map(|m| m.as_str()), parts.get(3)) {
        (Some("msg"), Some(text)) => Message::Text(text.as_str().trim().to_string()),
        (Some(_), Some(source)) => {
            let source = source.as_str().trim();
            let compiled =
                MessagePattern::new(source).map_err(|_| format!("invalid regex {source} for {mode}"))?;
            Message::Pattern(compiled)
        }
        _ => Message::Any,
    };
    match mode {
        "ordered" => expected.ordered = true,
        "fail" => expected.fail.push(message),
        "warn" => expected.warn.push(message),
        "info" => expected.info.push(message),
        "no_warn" => expected.no_warn = true,
        _ => expected.no_info = true,
    }
    if !expected.info.is_empty() && expected.no_info {
        return Err("invalid expect lines, info and no_info cannot be used together".to_string());
    }
    if !expected.warn.is_empty() && expected.no_warn {
        return Err("invalid expect lines, warn and no_warn cannot be used together".to_string());
    }
    if expected.fail.len() > 1 {
        return Err("invalid expect lines, multiple expect fail lines are not allowed".to_string());
    }
    Ok(())
}

/// `metric{labels}@st offsets`
fn is_start_line(line: &str) -> bool {
    line.find([' ', '\t']).is_some_and(|i| line[..i].ends_with("@st"))
}

fn start_line(line: &str, at: usize) -> Result<(Labels, Vec<Option<i64>>), ScriptError> {
    let (head, sequence) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let metric = head.strip_suffix("@st").unwrap_or(head);
    let description = parse_series(&format!("{metric} _"))
        .map_err(|e| error(at, format!("invalid @st line metric {}: {}", go_quote(metric), e.message)))?;
    let mut starts = Vec::new();
    for item in sequence.split_whitespace() {
        start_item(item, &mut starts).map_err(|e| {
            error(at, format!("invalid @st sequence: invalid ST item {}: {e}", go_quote(item)))
        })?;
    }
    Ok((description.labels, starts))
}

/// Offsets that one item stands for: `_`, `_x3`, `-1m`, `-1mx3`, `-1m+10sx3`.
fn start_item(item: &str, starts: &mut Vec<Option<i64>>) -> Result<(), String> {
    const MAX_REPEATS: usize = 10_000_000;
    let count = |text: &str| -> Result<usize, String> {
        match text.parse::<usize>() {
            Ok(n) if n <= MAX_REPEATS => Ok(n),
            _ => Err("invalid repeat count".to_string()),
        }
    };
    if item == "_" {
        starts.push(None);
        return Ok(());
    }
    if let Some(repeats) = item.strip_prefix("_x") {
        match count(repeats)? {
            0 => return Err("invalid repeat count".to_string()),
            n => starts.extend(std::iter::repeat_n(None, n)),
        }
        return Ok(());
    }
    let (mut offset, rest) = leading_duration(item)?;
    if rest.is_empty() {
        starts.push(Some(offset));
        return Ok(());
    }
    if let Some(repeats) = rest.strip_prefix('x') {
        starts.extend(std::iter::repeat_n(Some(offset), count(repeats)? + 1));
        return Ok(());
    }
    let negative = match rest.as_bytes()[0] {
        b'+' => false,
        b'-' => true,
        _ => {
            let c = rest.chars().next();
            return Err(format!("unexpected character {} after duration", crate::parser::quote_char(c)));
        }
    };
    let (delta, rest) = leading_duration(&rest[1..]).map_err(|e| format!("invalid step duration: {e}"))?;
    let Some(repeats) = rest.strip_prefix('x') else {
        return Err("expected 'x<count>' after step duration".to_string());
    };
    for _ in 0..=count(repeats)? {
        starts.push(Some(offset));
        offset = offset.saturating_add(if negative { -delta } else { delta });
    }
    Ok(())
}

/// A duration with an optional sign in front, ms, and what follows it.
fn leading_duration(text: &str) -> Result<(i64, &str), String> {
    if text.is_empty() {
        return Err("empty duration".to_string());
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(format!("expected digits in duration {}", go_quote(text)));
    }
    let unit = unsigned[digits..].bytes().take_while(|b| b.is_ascii_alphabetic() && *b != b'x').count();
    let (duration, rest) = unsigned.split_at(digits + unit);
    let ms =
        parse_duration_ms(duration).map_err(|e| format!("invalid duration {}: {e}", go_quote(duration)))?;
    Ok((if text.starts_with('-') { -ms } else { ms }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read_with_their_lines() {
        let script = read_script(
            "# data\nload_with_nhcb 5m\n  m@st -1m-1sx1 _\n  m 1+1x1 _\n\nclear\neval instant at 1m m # tail\n  expect ordered\n  expect info msg: a b\n  m 1\n  {} 2\n\neval range from 0 to 2m step 1m 1\n  {} 1x2\n\neval_fail instant at 0 rate(m[1m])\n  expected_fail_regexp a.c\n",
        )
        .unwrap();
        let lines: Vec<usize> = script.statements.iter().map(|s| s.line).collect();
        assert_eq!(lines, [2, 6, 7, 13, 16]);
        let StatementKind::Load(load) = &script.statements[0].kind else { panic!() };
        assert!(load.with_nhcb);
        let samples: Vec<(i64, i64, f64)> =
            load.series[0].samples.iter().map(|s| (s.t, s.st, s.value)).collect();
        assert_eq!(samples, [(0, -60_000, 1.0), (300_000, 239_000, 2.0)]);
        let StatementKind::Eval(e) = &script.statements[2].kind else { panic!() };
        assert_eq!((e.expr.as_str(), e.time), ("m # tail", QueryTime::Instant(60_000)));
        assert!(e.expected.ordered && e.expected.info[0].matches("a b"));
        assert_eq!(e.expected.series[1].position, 2);
    }

    #[test]
    fn wrong_lines_are_named() {
        for (text, message) in [
            ("\nfoo 1", "line 2: invalid command \"foo 1\""),
            ("load", "line 1: invalid load command. (load[_with_nhcb] <step:duration>)"),
            ("load 5", "line 1: invalid step definition \"5\": not a valid duration string: \"5\""),
            (
                "load 5m\n m 1 b",
                "line 2: 2:5: parse error: unexpected identifier \"b\" in series values, expected number or \"stale\"",
            ),
            ("load 5m\n m@st 1m\n n 1", "line 2: @st metric does not match the following sample line metric"),
            ("load 5m\n m@st 1m", "line 2: @st line has no following sample line"),
            ("eval instant at 1m sum(", "line 1: 1:24: parse error: unclosed left parenthesis"),
            (
                "eval instant at 0 m\n expect info\n expect no_info",
                "line 1: error in eval m (line 1): invalid expect lines, info and no_info cannot be used together",
            ),
            (
                "eval range from 2m to 1m step 1m m",
                "line 1: error in eval m (line 1): invalid test definition, end timestamp (1m) is before start timestamp (2m)",
            ),
        ] {
            assert_eq!(read_script(text).unwrap_err().to_string(), message);
        }
    }
}
