//! `tsdbctl promql parse`: the tree of an expression.

use std::fmt::Write as _;

use serde_json::Value;
use tsdbctl_promql::engine::Features;
use tsdbctl_promql::parser::{ParseError, ast_json, parse};

use super::Output;
use super::fmt::{given, parse_error_body};
use crate::data::FeatureFlags;
use crate::diagnostic::show_parse_error;
use crate::exit::ExitStatus;
use crate::ui::Ui;

/// Print the tree of an expression.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The expression; read from standard input if not given.
    #[arg(allow_hyphen_values = true)]
    pub expr: Option<String>,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
}

/// The API's answer to `parse_query`.
///
/// # Errors
/// If the text is no expression.
pub fn body(text: &str, features: &Features) -> Result<Vec<u8>, ParseError> {
    let tree = ast_json(&parse(text, features)?);
    let mut out = b"{\"status\":\"success\",\"data\":".to_vec();
    out.extend_from_slice(tree.to_string().as_bytes());
    out.push(b'}');
    Ok(out)
}

/// The tree as indented lines: what each node is, and its plain properties.
fn outline(node: &Value, name: &str, depth: usize, out: &mut String) {
    let Some(fields) = node.as_object() else { return };
    let _ = write!(out, "{}", "  ".repeat(depth));
    if !name.is_empty() {
        let _ = write!(out, "{name}: ");
    }
    out.push_str(fields.get("type").and_then(Value::as_str).unwrap_or("node"));
    let mut below = Vec::new();
    for (key, value) in fields {
        let is_node = |v: &Value| {
            v.get("type").is_some_and(|t| t.is_string())
                && v.get("name").is_none_or(|_| v.get("value").is_none())
        };
        match value {
            Value::Null | Value::Bool(false) => {}
            Value::String(s) if s.is_empty() => {}
            Value::Array(items) if items.is_empty() => {}
            _ if key == "type" => {}
            _ if key == "func" => {
                let _ = write!(out, " {}", value.get("name").and_then(Value::as_str).unwrap_or(""));
            }
            _ if key == "matchers" => {
                let texts: Vec<String> = value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|m| {
                        let field = |f: &str| m.get(f).and_then(Value::as_str).unwrap_or("").to_string();
                        format!("{}{}{:?}", field("name"), field("type"), field("value"))
                    })
                    .collect();
                let _ = write!(out, " {{{}}}", texts.join(", "));
            }
            Value::Object(_) if is_node(value) => below.push((key.clone(), value)),
            Value::Array(items) if items.iter().all(is_node) => {
                below.extend(items.iter().enumerate().map(|(i, v)| (format!("{key}[{i}]"), v)));
            }
            Value::String(s) => {
                let _ = write!(out, " {key}={s}");
            }
            other => {
                let _ = write!(out, " {key}={other}");
            }
        }
    }
    out.push('\n');
    for (key, value) in below {
        outline(value, &key, depth + 1, out);
    }
}

/// Runs the command.
///
/// # Errors
/// If standard input or output fails.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let features = args.features.features(ui);
    let exprs: Vec<String> = args.expr.iter().cloned().collect();
    for text in given(&exprs)? {
        match (args.output, parse(&text, &features)) {
            (Output::Json, Ok(_)) => {
                ui.out().write_all(&body(&text, &features).unwrap_or_default())?;
                writeln!(ui.out())?;
            }
            (Output::Json, Err(e)) => {
                ui.out().write_all(&parse_error_body(&text, &e))?;
                writeln!(ui.out())?;
                return Ok(ExitStatus::Failure);
            }
            (Output::Table, Ok(expr)) => {
                let mut tree = String::new();
                outline(&ast_json(&expr), "", 0, &mut tree);
                ui.out().write_all(tree.as_bytes())?;
            }
            (Output::Table, Err(e)) => {
                show_parse_error(ui, &text, &e);
                return Ok(ExitStatus::Failure);
            }
        }
    }
    Ok(ExitStatus::Success)
}
