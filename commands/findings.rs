//! Findings in files shown to people (text with carets), to programs (JSON) and to code hosts (SARIF).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tsdbctl_rules::finding::{Finding, Severity};

use crate::diagnostic::file_place;
use crate::ui::{Tone, Ui};

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people: promtool's lines, each with the place and what to do.
    #[default]
    Text,
    /// One JSON object per file and line.
    Json,
    /// SARIF 2.1.0, which code hosts show beside the lines.
    Sarif,
}

/// Shows findings: what promtool would print, then our place with carets and what to do.
pub fn show(ui: &mut Ui, findings: &[Finding]) {
    let mut block = "";
    for finding in findings {
        let upstream = finding.upstream.as_deref().filter(|_| finding.severity == Severity::Error);
        match upstream {
            Some(text) => {
                // go-yaml's errors stand below one headline.
                let (headline, rest) = text.split_once('\n').unwrap_or(("", text));
                if headline.is_empty() || headline != block {
                    ui.say(format!("{}{text}", upstream_prefix(finding)));
                } else {
                    ui.say(rest);
                }
                block = headline;
            }
            None => {
                block = "";
                say_own(ui, finding);
            }
        }
        show_place(ui, finding);
    }
}

/// promtool names the file, but not standard input.
fn upstream_prefix(finding: &Finding) -> String {
    match finding.source.name.as_str() {
        STDIN => String::new(),
        name => format!("{name}: "),
    }
}

/// The name of standard input as a file.
pub const STDIN: &str = "stdin";

fn say_own(ui: &mut Ui, finding: &Finding) {
    let tone = match finding.severity {
        Severity::Error => Tone::Red,
        Severity::Warning => Tone::Yellow,
        Severity::Note => Tone::Blue,
    };
    let word = ui.paint(tone, finding.severity.as_str());
    let subject = finding
        .subject
        .as_ref()
        .map_or(String::new(), |s| format!("group {:?}, rule {}, {:?}: ", s.group, s.rule, s.name));
    ui.say(format!("{word}: {subject}{}", finding.message));
}

/// Shows where findings stand, of which the headline has been said.
pub fn show_place(ui: &mut Ui, finding: &Finding) {
    let arrow = ui.paint(Tone::Blue, "-->");
    ui.say(format!(" {arrow} {} [{}]", finding.place(), finding.code));
    file_place(ui, &finding.source, finding.span);
    for related in &finding.related {
        let place = finding.source.place(related.span);
        let word = ui.paint(Tone::Blue, "note");
        ui.say(format!("  = {word}: {place}: {}", related.message));
    }
    if let Some(hint) = &finding.hint {
        let word = ui.paint(Tone::Green, "hint");
        ui.say(format!("  = {word}: {hint}"));
    }
}

/// A finding as JSON. Lines and columns count from 1, columns in characters; the end is behind the last.
pub fn to_json(finding: &Finding) -> Value {
    let source = &finding.source;
    let (line, column) = source.line_col(finding.span.start as usize);
    let (end_line, end_column) = source.line_col(finding.span.end as usize);
    let mut out = json!({
        "severity": finding.severity.as_str(),
        "code": finding.code,
        "message": finding.message,
        "file": source.name,
        "line": line,
        "column": column,
        "endLine": end_line,
        "endColumn": end_column,
    });
    if let Some(subject) = &finding.subject {
        out["group"] = json!(subject.group);
        out["rule"] = json!(subject.rule);
        out["name"] = json!(subject.name);
    }
    if let Some(hint) = &finding.hint {
        out["hint"] = json!(hint);
    }
    if let Some(upstream) = &finding.upstream {
        out["upstream"] = json!(upstream);
    }
    if !finding.related.is_empty() {
        let related = finding.related.iter().map(|r| {
            let (line, column) = source.line_col(r.span.start as usize);
            json!({"line": line, "column": column, "message": r.message})
        });
        out["related"] = related.collect();
    }
    out
}

/// Findings as one SARIF log. `describe` says what a code means; `complete` that all files could be read.
pub fn to_sarif(
    findings: &[Finding],
    describe: impl Fn(&str) -> Option<&'static str>,
    complete: bool,
) -> Value {
    let codes: BTreeMap<&str, usize> = {
        let mut names: Vec<&str> = findings.iter().map(|f| f.code).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().enumerate().map(|(i, name)| (name, i)).collect()
    };
    let rules: Vec<Value> = codes
        .keys()
        .map(|code| match describe(code) {
            Some(text) => json!({"id": code, "name": pascal(code), "shortDescription": {"text": text}}),
            None => json!({"id": code}),
        })
        .collect();
    let location = |finding: &Finding, span: tsdbctl_model::Span| {
        let source = &finding.source;
        let (line, column) = source.line_col(span.start as usize);
        let (end_line, end_column) = source.line_col(span.end as usize);
        json!({
            "artifactLocation": {"uri": uri(&source.name)},
            "region": {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column},
        })
    };
    let results: Vec<Value> = findings
        .iter()
        .map(|f| {
            let text = match &f.hint {
                Some(hint) => format!("{} ({hint})", f.message),
                None => f.message.clone(),
            };
            let mut result = json!({
                "ruleId": f.code,
                "ruleIndex": codes[f.code],
                "level": f.severity.as_str(),
                "message": {"text": text},
                "locations": [{"physicalLocation": location(f, f.span)}],
            });
            if !f.related.is_empty() {
                let related = f.related.iter().enumerate().map(|(i, r)| {
                    json!({
                        "id": i,
                        "message": {"text": r.message},
                        "physicalLocation": location(f, r.span),
                    })
                });
                result["relatedLocations"] = related.collect();
            }
            result
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "tsdbctl",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{"executionSuccessful": complete}],
            "results": results,
        }],
    })
}

/// `never-true` as `NeverTrue`, as names of rules are written in SARIF.
fn pascal(code: &str) -> String {
    let mut out = String::new();
    for word in code.split('-') {
        let (first, rest) = word.split_at(word.len().min(1));
        out.push_str(&first.to_ascii_uppercase());
        out.push_str(rest);
    }
    out
}

/// A path as a relative or absolute URI.
fn uri(path: &str) -> String {
    let mut out = String::new();
    if path.starts_with('/') {
        out.push_str("file://");
    }
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b'@' | b'+' => {
                out.push(byte as char);
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_model::Span;
    use tsdbctl_yaml::Source;

    use super::*;

    #[test]
    fn findings_as_json_and_sarif() {
        let source = Arc::new(Source::new("./a b.yml", "one\ntwö three\n"));
        let finding = Finding::new(Severity::Warning, "never-true", &source, Span::new(9, 14), "m")
            .with_hint("h")
            .and_at(Span::new(0, 3), "r");
        assert_eq!(
            to_json(&finding).to_string(),
            r#"{"severity":"warning","code":"never-true","message":"m","file":"./a b.yml","line":2,"column":5,"endLine":2,"endColumn":10,"hint":"h","related":[{"line":1,"column":1,"message":"r"}]}"#
        );
        let log = to_sarif(&[finding], |_| Some("d"), true);
        let result = &log["runs"][0]["results"][0];
        assert_eq!(result["ruleId"], "never-true");
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][0]["shortDescription"]["text"], "d");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b.yml");
        assert_eq!(place["region"]["startColumn"], 5);
    }
}
