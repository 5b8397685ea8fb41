//! Patterns of rule files, as Go's `filepath.Glob` reads them: `*`, `?`, `[a-z]`, `[^a-z]`, `\`; no `**`, no braces.

use std::path::Path;

use tsdbctl_platform::file;

/// A pattern that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// The files that match a pattern, which is relative to `dir` unless it is absolute; sorted.
///
/// # Errors
/// If the pattern is none.
pub fn glob(dir: &str, pattern: &str) -> Result<Vec<String>, BadPattern> {
    let whole = if pattern.is_empty() { String::new() } else { join(dir, pattern) };
    expand(&whole, 0)
}

/// Path and pattern as one, cleaned as Go's `filepath.Join` does.
pub fn join(dir: &str, pattern: &str) -> String {
    if pattern.starts_with('/') || dir.is_empty() {
        clean(pattern)
    } else {
        clean(&format!("{dir}/{pattern}"))
    }
}

fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_string(),
        (false, false) => joined,
    }
}

fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

fn expand(pattern: &str, depth: usize) -> Result<Vec<String>, BadPattern> {
    // What is wrong is said even where nothing is there to match.
    matches(pattern, "")?;
    if depth > 1000 {
        return Err(BadPattern);
    }
    if !has_meta(pattern) {
        return Ok(if file::exists(Path::new(pattern)) { vec![pattern.to_string()] } else { Vec::new() });
    }
    let (dir, name) = match pattern.rfind('/') {
        Some(0) => ("/", &pattern[1..]),
        Some(at) => (&pattern[..at], &pattern[at + 1..]),
        None => (".", pattern),
    };
    let dirs = if has_meta(dir) { expand(dir, depth + 1)? } else { vec![dir.to_string()] };
    let mut out = Vec::new();
    for dir in dirs {
        // What cannot be listed has no match.
        let Ok(entries) = file::read_dir(Path::new(&dir)) else { continue };
        for entry in entries {
            let entry_name = entry.path.file_name().map(|n| n.to_string_lossy().into_owned());
            let Some(entry_name) = entry_name else { continue };
            if matches(name, &entry_name)? {
                out.push(join(&dir, &entry_name));
            }
        }
    }
    Ok(out)
}

/// Whether a name matches a pattern.
///
/// # Errors
/// If the pattern is none.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let parts = parse(pattern)?;
    let name: Vec<char> = name.chars().collect();
    // Positions of the name that the parts so far reach.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in &parts {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            if !reached[at] {
                continue;
            }
            match part {
                Part::Any => {
                    for (to, slot) in next.iter_mut().enumerate().skip(at) {
                        if to > at && name[to - 1] == '/' {
                            break;
                        }
                        *slot = true;
                    }
                }
                Part::One => {
                    if name.get(at).is_some_and(|c| *c != '/') {
                        next[at + 1] = true;
                    }
                }
                Part::Char(c) => {
                    if name.get(at) == Some(c) {
                        next[at + 1] = true;
                    }
                }
                Part::Class(negated, ranges) => {
                    let inside = |c: &char| ranges.iter().any(|(a, b)| a <= c && c <= b);
                    if name.get(at).is_some_and(|c| inside(c) != *negated) {
                        next[at + 1] = true;
                    }
                }
            }
        }
        reached = next;
    }
    Ok(reached[name.len()])
}

enum Part {
    Any,
    One,
    Char(char),
    Class(bool, Vec<(char, char)>),
}

fn parse(pattern: &str) -> Result<Vec<Part>, BadPattern> {
    let mut chars = pattern.chars().peekable();
    let mut parts = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            '*' => parts.push(Part::Any),
            '?' => parts.push(Part::One),
            '\\' => parts.push(Part::Char(chars.next().ok_or(BadPattern)?)),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let end = |c: Option<char>, chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match c
                    {
                        None | Some('-') => Err(BadPattern),
                        Some('\\') => chars.next().ok_or(BadPattern),
                        Some(c) => Ok(c),
                    };
                    if chars.peek() == Some(&']') && !ranges.is_empty() {
                        chars.next();
                        break;
                    }
                    let first = chars.next();
                    if first == Some(']') {
                        return Err(BadPattern);
                    }
                    let low = end(first, &mut chars)?;
                    let high = if chars.next_if_eq(&'-').is_some() {
                        let next = chars.next();
                        if next == Some(']') {
                            return Err(BadPattern);
                        }
                        end(next, &mut chars)?
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                parts.push(Part::Class(negated, ranges));
            }
            c => parts.push(Part::Char(c)),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", Ok(true)),
            ("*.yml", ".yml", Ok(true)),
            ("*.yml", "a/b.yml", Ok(false)),
            ("a?c", "abc", Ok(true)),
            ("a?c", "ac", Ok(false)),
            ("[a-c]x", "bx", Ok(true)),
            ("[^a-c]x", "bx", Ok(false)),
            ("\\*", "*", Ok(true)),
            ("\\*", "a", Ok(false)),
            ("{a,b}", "a", Ok(false)),
            ("[", "a", Err(BadPattern)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("a\\", "a", Err(BadPattern)),
            ("a*b*c*d*e", "aXbXcXdXe", Ok(true)),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (dir, pattern, expected) in [
            ("", "r.yml", "r.yml"),
            ("a/b", "../r.yml", "a/r.yml"),
            ("./a", "./r.yml", "a/r.yml"),
            ("a", "/r.yml", "/r.yml"),
            ("..", "../r.yml", "../../r.yml"),
        ] {
            assert_eq!(join(dir, pattern), expected);
        }
    }
}
