//! Retention rules as they are written: `{job="debug"}=3d`.

use std::path::Path;

use anyhow::Context;
use tsdbctl_model::duration::{format_duration_ms, parse_duration_ms};
use tsdbctl_platform::file;
use tsdbctl_tsdb::retention_rules::{Rule, Rules};

use crate::diagnostic::show_parse_error;
use crate::ui::Ui;

/// Rules of the command line, then those of a file. `None` if a selector cannot be parsed, which was shown.
///
/// # Errors
/// If the file cannot be read or a rule is no rule.
pub fn read(given: &[String], path: Option<&Path>, ui: &mut Ui) -> anyhow::Result<Option<Rules>> {
    let mut rules = Vec::new();
    for text in given {
        match parse(text, ui).with_context(|| format!("--retention-rule {text:?}"))? {
            Some(rule) => rules.push(rule),
            None => return Ok(None),
        }
    }
    let Some(path) = path else { return Ok(Some(Rules(rules))) };
    let bytes = file::read(path)?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{}: is no text", path.display()))?;
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{}:{}", path.display(), n + 1);
        match parse(without_comment(line), ui).with_context(place)? {
            Some(rule) => rules.push(rule),
            None => {
                ui.say(format!("in {}", place()));
                return Ok(None);
            }
        }
    }
    Ok(Some(Rules(rules)))
}

/// What a line holds before a comment: neither selector nor duration may hold ` #` outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in line.char_indices() {
        match (quote, c) {
            _ if std::mem::take(&mut escaped) => {}
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '#') => return line[..i].trim_end(),
            _ => {}
        }
    }
    line
}

fn parse(text: &str, ui: &mut Ui) -> anyhow::Result<Option<Rule>> {
    let (selector, keep) = text
        .rsplit_once('=')
        .filter(|(selector, _)| !selector.trim().is_empty())
        .context("is no rule; write SELECTOR=DURATION, such as {job=\"debug\"}=3d")?;
    let (selector, keep) = (selector.trim(), keep.trim());
    // What stands behind the last = is a piece of the selector.
    if keep.contains(['"', '\'', '`', '}']) {
        anyhow::bail!("how long is not said; write SELECTOR=DURATION, such as {{job=\"debug\"}}=3d");
    }
    let keep_ms = parse_duration_ms(keep).map_err(|e| anyhow::anyhow!("{e}")).with_context(|| {
        format!("{keep:?} is no duration; write SELECTOR=DURATION, such as {{job=\"debug\"}}=3d")
    })?;
    match tsdbctl_promql::parser::parse_metric_selector(selector) {
        Ok(matchers) => {
            ui.detail(format!(
                "rule: {selector} is kept {}",
                if keep_ms == 0 { "for ever".to_owned() } else { format_duration_ms(keep_ms) }
            ));
            Ok(Some(Rule { selector: selector.to_owned(), matchers, keep_ms }))
        }
        Err(e) => {
            show_parse_error(ui, selector, &e);
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_end_lines_but_not_in_quotes() {
        for (line, want) in [
            (r#"{a="b"}=3d # three days"#, r#"{a="b"}=3d"#),
            (r#"{a="b#c"}=3d"#, r#"{a="b#c"}=3d"#),
            (r##"{a="b\"#c"}=3d#x"##, r##"{a="b\"#c"}=3d"##),
            (r#"{a=`\`}=3d # `"#, r#"{a=`\`}=3d"#),
            ("up=1h", "up=1h"),
        ] {
            assert_eq!(without_comment(line), want);
        }
    }

    #[test]
    fn rules_are_a_selector_and_a_duration() {
        let mut ui = Ui::stdio(false);
        for (text, selector, keep_ms) in [
            (r#"{job="debug"}=3d"#, r#"{job="debug"}"#, 3 * 86_400_000),
            ("up = 1h", "up", 3_600_000),
            (r#"x{a=~"b=c"}=0s"#, r#"x{a=~"b=c"}"#, 0),
        ] {
            let rule = parse(text, &mut ui).unwrap().unwrap();
            assert_eq!((&*rule.selector, rule.keep_ms), (selector, keep_ms));
        }
        for text in ["", "up", "=3d", r#"{job="debug"}"#, "up=x", "up="] {
            assert!(parse(text, &mut ui).is_err(), "{text}");
        }
        let error = parse(r#"{job="debug"}"#, &mut ui).unwrap_err().to_string();
        assert!(error.starts_with("how long is not said"), "{error}");
    }
}
