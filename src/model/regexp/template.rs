//! Go's replacement templates: `$1`, `${1}`, `$name`, `$$`.

/// Go's `Regexp.Expand`: `group` gives the text of a group that took part. Of equal names the first that took
/// part counts; what is no group is replaced by nothing; a `$` that starts no name stays.
pub(super) fn expand<'v>(
    template: &str,
    names: &[String],
    group: impl Fn(usize) -> Option<&'v str>,
) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let Some((name, tail)) = reference(rest) else {
            out.push('$');
            continue;
        };
        rest = tail;
        let text = match group_number(name) {
            Some(number) => group(number),
            None => (0..names.len()).filter(|i| names[*i] == name).find_map(&group),
        };
        out.push_str(text.unwrap_or_default());
    }
    out.push_str(rest);
    out
}

/// The name behind a `$`: as many letters, digits and underscores as there are, or all between braces.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = text.strip_prefix('{').map_or((false, text), |t| (true, t));
    let end = text.find(|c: char| !is_name_char(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced { Some((name, rest.strip_prefix('}')?)) } else { Some((name, rest)) }
}

/// Go's `unicode.IsLetter`, `unicode.IsDigit` or `_`.
fn is_name_char(c: char) -> bool {
    if c.is_ascii() {
        return c == '_' || c.is_ascii_alphanumeric();
    }
    // Categories, not the `Alphabetic` property, which counts some marks as letters.
    ["L", "Nd"].iter().any(|category| {
        super::class::unicode(category)
            .is_some_and(|set| set.iter().any(|r| (r.start()..=r.end()).contains(&c)))
    })
}

/// A name of digits without leading zeros is a group's number.
fn group_number(name: &str) -> Option<usize> {
    if !name.bytes().all(|b| b.is_ascii_digit()) || (name.len() > 1 && name.starts_with('0')) {
        return None;
    }
    // Nine digits are more groups than any expression has.
    name.parse().ok().filter(|n| *n < 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts() {
        let names = ["", "first", "", "first"].map(String::from);
        let cases = [
            ("$1-$2", "one-"),
            ("$1x", ""),
            ("${1}x", "onex"),
            ("$first$first", "oneone"),
            ("$$1 $ $- ${ ${1 $", "$1 $ $- ${ ${1 $"),
            ("$01$9$0", "whole"),
            ("$é", ""),
            ("$°", "$°"),
            ("", ""),
        ];
        for (template, want) in cases {
            let got = expand(template, &names, |g| {
                [Some("whole"), Some("one"), None, Some("three")].get(g).copied()?
            });
            assert_eq!(got, want, "{template}");
        }
    }
}
