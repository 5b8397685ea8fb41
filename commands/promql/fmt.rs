//! `tsdbctl promql fmt`: expressions in their standard form.

use std::io::Read;

use anyhow::Context;
use tsdbctl_promql::api_json::{error_body, write_string};
use tsdbctl_promql::engine::Features;
use tsdbctl_promql::parser::{ParseError, parse, prettify};

use super::Output;
use crate::data::FeatureFlags;
use crate::diagnostic::show_parse_error;
use crate::exit::ExitStatus;
use crate::ui::Ui;

/// Format expressions; comments are lost.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The expressions; one is read from standard input if none is given.
    #[arg(allow_hyphen_values = true)]
    pub exprs: Vec<String>,
    /// Print nothing; exit with 1 if an expression is not in its standard form.
    #[arg(long)]
    pub check: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
    /// Features.
    #[command(flatten)]
    pub features: FeatureFlags,
}

/// The API's answer to `format_query`.
///
/// # Errors
/// If the text is no expression; the API's answer then is [`parse_error_body`].
pub fn body(text: &str, features: &Features) -> Result<Vec<u8>, ParseError> {
    let expr = parse(text, features)?;
    let mut out = b"{\"status\":\"success\",\"data\":".to_vec();
    write_string(&mut out, &prettify(&expr), true);
    out.push(b'}');
    Ok(out)
}

/// The API's answer where the parameter `query` is no expression.
pub fn parse_error_body(text: &str, error: &ParseError) -> Vec<u8> {
    error_body("bad_data", &format!("invalid parameter \"query\": {}", error.api_message(text)))
}

/// The expressions given, or the one on standard input.
///
/// # Errors
/// If standard input cannot be read.
pub fn given(exprs: &[String]) -> anyhow::Result<Vec<String>> {
    if !exprs.is_empty() {
        return Ok(exprs.to_vec());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input")?;
    Ok(vec![text.trim_end_matches(['\n', '\r']).to_string()])
}

/// Runs the command.
///
/// # Errors
/// If standard input or output fails.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let features = args.features.features(ui);
    let mut status = ExitStatus::Success;
    for text in given(&args.exprs)? {
        let expr = match parse(&text, &features) {
            Ok(expr) => expr,
            Err(e) => {
                status = ExitStatus::Failure;
                if args.output == Output::Json {
                    ui.out().write_all(&parse_error_body(&text, &e))?;
                    writeln!(ui.out())?;
                } else {
                    show_parse_error(ui, &text, &e);
                }
                continue;
            }
        };
        let pretty = prettify(&expr);
        if args.check {
            if pretty != text {
                status = ExitStatus::Failure;
                ui.say(format!("not in its standard form: {text}"));
            }
        } else if args.output == Output::Json {
            let body = body(&text, &features).unwrap_or_default();
            ui.out().write_all(&body)?;
            writeln!(ui.out())?;
        } else {
            writeln!(ui.out(), "{pretty}")?;
        }
    }
    Ok(status)
}
