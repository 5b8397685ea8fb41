//! Differences between two texts as lines, in the format of `diff -u`.

use std::fmt::Write as _;

/// Lines shown around a difference.
const CONTEXT: usize = 3;

/// More differing lines than this are shown as one replacement.
const MOST_EDITS: usize = 2000;

/// A stretch of both texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    old: (usize, usize),
    new: (usize, usize),
}

/// The differences; empty where the texts are equal.
pub fn unified(name: &str, old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let changes = changes(&a, &b);
    let mut out = String::new();
    if changes.is_empty() {
        return out;
    }
    let _ = writeln!(out, "--- {name}\n+++ {name}");
    let mut i = 0;
    while i < changes.len() {
        // Changes whose context touches are one piece.
        let mut last = i;
        while last + 1 < changes.len() && changes[last + 1].old.0 - changes[last].old.1 <= 2 * CONTEXT {
            last += 1;
        }
        let from = changes[i].old.0.saturating_sub(CONTEXT);
        let to = (changes[last].old.1 + CONTEXT).min(a.len());
        let new_from = changes[i].new.0 - (changes[i].old.0 - from);
        let new_to = changes[last].new.1 + (to - changes[last].old.1);
        let range = |from: usize, to: usize| match to - from {
            0 => format!("{from},0"),
            1 => format!("{}", from + 1),
            n => format!("{},{n}", from + 1),
        };
        let _ = writeln!(out, "@@ -{} +{} @@", range(from, to), range(new_from, new_to));
        let mut at = from;
        for change in &changes[i..=last] {
            lines(&mut out, ' ', &a[at..change.old.0]);
            lines(&mut out, '-', &a[change.old.0..change.old.1]);
            lines(&mut out, '+', &b[change.new.0..change.new.1]);
            at = change.old.1;
        }
        lines(&mut out, ' ', &a[at..to]);
        i = last + 1;
    }
    out
}

fn lines(out: &mut String, mark: char, lines: &[&str]) {
    for line in lines {
        out.push(mark);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// What differs, in order (Myers' greedy way, from both texts' common beginning to their common end).
fn changes(a: &[&str], b: &[&str]) -> Vec<Change> {
    let lead = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a_rest, b_rest) = (&a[lead..], &b[lead..]);
    let tail = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a_mid, b_mid) = (&a_rest[..a_rest.len() - tail], &b_rest[..b_rest.len() - tail]);
    if a_mid.is_empty() && b_mid.is_empty() {
        return Vec::new();
    }
    let whole = Change { old: (lead, lead + a_mid.len()), new: (lead, lead + b_mid.len()) };
    let Some(kept) = common(a_mid, b_mid) else { return vec![whole] };
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (x, y) in kept.into_iter().chain([(a_mid.len(), b_mid.len())]) {
        if i < x || j < y {
            out.push(Change { old: (lead + i, lead + x), new: (lead + j, lead + y) });
        }
        (i, j) = (x + 1, y + 1);
    }
    out
}

/// Pairs of equal lines in both, as many as can be; `None` if the texts differ too much.
fn common(a: &[&str], b: &[&str]) -> Option<Vec<(usize, usize)>> {
    let most = (a.len() + b.len()).min(MOST_EDITS);
    // furthest[k + most]: how far one comes in `a` on diagonal k.
    let mut furthest = vec![0usize; 2 * most + 2];
    let mut trace: Vec<Vec<usize>> = Vec::new();
    let at = |k: isize| (k + most as isize) as usize;
    for d in 0..=most as isize {
        trace.push(furthest[at(-d)..=at(d)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && furthest[at(k - 1)] < furthest[at(k + 1)]);
            let mut x = if down { furthest[at(k + 1)] } else { furthest[at(k - 1)] + 1 };
            let mut y = (x as isize - k) as usize;
            while x < a.len() && y < b.len() && a[x] == b[y] {
                (x, y) = (x + 1, y + 1);
            }
            furthest[at(k)] = x;
            if x >= a.len() && y >= b.len() {
                return Some(back(&trace, a.len(), b.len()));
            }
        }
    }
    None
}

fn back(trace: &[Vec<usize>], mut x: usize, mut y: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for d in (0..trace.len() as isize).rev() {
        let k = x as isize - y as isize;
        let row = &trace[d as usize];
        let value = |k: isize| row.get((k + d) as usize).copied().unwrap_or(0);
        let down = k == -d || (k != d && value(k - 1) < value(k + 1));
        let previous = if down { k + 1 } else { k - 1 };
        let (before_x, before_y) = match d {
            0 => (0, 0),
            _ => (value(previous), (value(previous) as isize - previous) as usize),
        };
        while x > before_x && y > before_y {
            (x, y) = (x - 1, y - 1);
            pairs.push((x, y));
        }
        (x, y) = (before_x, before_y);
    }
    pairs.reverse();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown_as_diff_shows_them() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let new = "a\nb\nC\nd\ne\nf\ng\nh\ni\nk\nl";
        assert_eq!(
            unified("f", old, new),
            "--- f\n+++ f\n@@ -1,11 +1,11 @@\n a\n b\n-c\n+C\n d\n e\n f\n g\n h\n i\n-j\n k\n+l\n\\ No newline at end of file\n"
        );
        assert_eq!(unified("f", old, old), "");
        assert_eq!(unified("f", "", "a\n"), "--- f\n+++ f\n@@ -0,0 +1 @@\n+a\n");
    }

    #[test]
    fn every_difference_gives_the_new_text() {
        let mut state = 7u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..300 {
            let mut text =
                || (0..next(12)).map(|_| ["a\n", "b\n", "c\n"][next(3) as usize]).collect::<String>();
            let (old, new) = (text(), text());
            let (a, b): (Vec<&str>, Vec<&str>) =
                (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
            let (mut built, mut at) = (String::new(), 0);
            for change in changes(&a, &b) {
                built.push_str(&a[at..change.old.0].concat());
                built.push_str(&b[change.new.0..change.new.1].concat());
                at = change.old.1;
            }
            built.push_str(&a[at..].concat());
            assert_eq!(built, new, "{old:?}");
        }
    }
}
