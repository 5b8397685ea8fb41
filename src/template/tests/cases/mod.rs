//! The table of templates and what they give, beside this file.

/// A template and what it gives.
pub struct Case {
    /// The line it stands on.
    #[allow(dead_code, reason = "not every test names it")]
    pub line: usize,
    /// The template.
    pub template: String,
    /// The text, or the error at load or at run.
    #[allow(dead_code, reason = "not every test compares with it")]
    pub expected: Result<String, String>,
}

/// All cases: a line with the template, then one with `=> ` and the text or `!! ` and the error. `⏎` is a line break.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut template: Option<String> = None;
    for (i, line) in include_str!("table.txt").lines().enumerate() {
        let text = line.replace('⏎', "\n");
        if let Some(given) = template.take() {
            let expected = match (text.strip_prefix("=> "), text.strip_prefix("!! ")) {
                (Some(text), _) => Ok(text.to_string()),
                (_, Some(error)) => Err(error.to_string()),
                _ => panic!("table.txt:{}: neither `=> ` nor `!! `", i + 1),
            };
            cases.push(Case { line: i, template: given, expected });
        } else if !text.is_empty() && !text.starts_with("# ") {
            template = Some(text);
        }
    }
    cases
}
