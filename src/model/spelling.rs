//! How far one name is from another, for hints about what was probably meant.

/// Longer names are compared up to here, so that what is no name costs little.
const LONGEST: usize = 200;

/// Edits (insert, drop, change a character, swap neighbours) that make one name of the other; ASCII case does not
/// count.
pub fn distance(a: &str, b: &str) -> usize {
    let chars =
        |text: &str| -> Vec<char> { text.chars().take(LONGEST).map(|c| c.to_ascii_lowercase()).collect() };
    let (a, b) = (chars(a), chars(b));
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("rate", "rate", 0),
            ("Rate", "rate", 0),
            ("rtae", "rate", 1),
            ("rat", "rate", 1),
            ("irate", "rate", 1),
            ("kitten", "sitting", 3),
            ("größe", "grosse", 3),
            ("ab", "ba", 1),
            ("ca", "abc", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }
}
