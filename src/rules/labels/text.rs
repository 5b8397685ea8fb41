//! Values that functions write: `label_replace`, `label_join`.

use tsdbctl_model::regexp::Regexp;

use super::{LabelSet, Presence};

/// What becomes of `dst` in `label_replace`.
pub(super) fn replaced(set: &LabelSet, dst: &str, replacement: &str, src: &str, regex: &str) -> Presence {
    use Presence::{Certain, Impossible, Possible};
    let before = set.presence(dst).clone();
    // The value where the expression matches: known without references, never empty with text beside them.
    let has_references = replacement.contains('$');
    let literal_text = {
        let mut rest = replacement;
        let mut text = String::new();
        while let Some(i) = rest.find('$') {
            text.push_str(&rest[..i]);
            // `$name`, `${name}`: at most this much is a reference.
            rest = rest[i + 1..]
                .trim_start_matches(|c: char| c == '{' || c == '}' || c == '_' || c.is_alphanumeric());
        }
        text.push_str(rest);
        text
    };
    let after = match (has_references, literal_text.is_empty()) {
        (false, true) => Impossible,
        (false, false) => Certain(Some(replacement.to_string())),
        (true, false) if !replacement.contains("$$") => Certain(None),
        (true, _) => Possible,
    };
    let known_source = match set.presence(src) {
        // No label has the empty name.
        _ if src.is_empty() => Some(""),
        Impossible => Some(""),
        Certain(Some(value)) => Some(value.as_str()),
        _ => None,
    };
    let Ok(compiled) = Regexp::with_groups(regex) else { return Possible };
    let matches = match known_source {
        Some(value) => Some(compiled.is_match(value)),
        None if matches!(regex, ".*" | "(.*)") => Some(true),
        None => None,
    };
    match (matches, before, after) {
        (Some(true), _, after) => after,
        (Some(false), before, _) => before,
        (None, before, after) if before == after => before,
        (None, Certain(_), Certain(_)) => Certain(None),
        (None, ..) => Possible,
    }
}

/// What `label_join` writes.
pub(super) fn joined_text(set: &LabelSet, separator: &str, sources: &[Option<&str>]) -> Presence {
    if sources.len() > 1 && !separator.is_empty() {
        return Presence::Certain(None);
    }
    let presences: Vec<&Presence> =
        sources.iter().map(|s| s.map_or(&Presence::Possible, |s| set.presence(s))).collect();
    if presences.iter().all(|p| **p == Presence::Impossible) {
        return Presence::Impossible;
    }
    match presences.as_slice() {
        [Presence::Certain(value)] => Presence::Certain(value.clone()),
        all if all.iter().any(|p| matches!(p, Presence::Certain(_))) => Presence::Certain(None),
        _ => Presence::Possible,
    }
}
