//! How the buckets of a new histogram fit to those of the chunk it is appended to.

use tsdbctl_model::histogram::BucketSpan;

/// Buckets that one side lacks and that are to be put, empty, into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Insert {
    /// Position among the buckets there are, in front of which they belong.
    position: usize,
    /// How many there are.
    count: usize,
    /// Index of the first one in the schema.
    index: i64,
}

/// Walks the bucket indices of spans.
struct Indices<'a> {
    spans: &'a [BucketSpan],
    span: usize,
    /// Buckets of the span that were given out.
    given: u32,
    /// The index to give out next, within the span.
    next: i64,
}

impl<'a> Indices<'a> {
    fn new(spans: &'a [BucketSpan]) -> Self {
        let next = spans.first().map_or(0, |span| i64::from(span.offset));
        Self { spans, span: 0, given: 0, next }
    }
}

impl Iterator for Indices<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        loop {
            let span = self.spans.get(self.span)?;
            if self.given < span.length {
                self.given += 1;
                self.next += 1;
                return Some(self.next - 1);
            }
            self.span += 1;
            self.given = 0;
            self.next += i64::from(self.spans.get(self.span)?.offset);
        }
    }
}

/// Collects bucket indices, in rising order, into spans.
#[derive(Default)]
struct SpanBuilder {
    spans: Vec<BucketSpan>,
    last: i64,
}

impl SpanBuilder {
    fn push(&mut self, index: i64) {
        match self.spans.last_mut() {
            Some(span) if index == self.last + 1 => span.length += 1,
            Some(_) => {
                self.spans.push(BucketSpan { offset: (index - self.last - 1) as i32, length: 1 });
            }
            None => self.spans.push(BucketSpan { offset: index as i32, length: 1 }),
        }
        self.last = index;
    }
}

/// Collects inserts.
#[derive(Default)]
struct Inserts {
    done: Vec<Insert>,
    open: Insert,
}

impl Inserts {
    /// One more bucket of the other side that this one lacks.
    fn add(&mut self, index: i64) {
        if self.open.count == 0 {
            self.open.index = index;
        } else if self.open.index + self.open.count as i64 != index {
            self.flush();
            self.open.index = index;
        }
        self.open.count += 1;
    }

    /// Goes on to this side's next bucket.
    fn advance(&mut self) {
        self.flush();
        self.open.position += 1;
    }

    fn flush(&mut self) {
        if self.open.count > 0 {
            self.done.push(self.open);
            self.open.count = 0;
        }
    }

    fn finish(mut self) -> Vec<Insert> {
        self.flush();
        self.done
    }
}

/// Inserts that make old and new buckets cover the same indices: into the old ones, into the new ones. `None` where a
/// bucket went down, or one that was in use is gone. Counts are absolute.
pub(crate) fn expand<C: PartialOrd + Default>(
    old_spans: &[BucketSpan],
    new_spans: &[BucketSpan],
    old_counts: impl Iterator<Item = C>,
    new_counts: impl Iterator<Item = C>,
) -> Option<(Vec<Insert>, Vec<Insert>)> {
    let mut old_side = Indices::new(old_spans).zip(old_counts);
    let mut new_side = Indices::new(new_spans).zip(new_counts);
    if old_spans == new_spans {
        // The usual case: only counts are to be compared.
        for ((_, old), (_, new)) in old_side.zip(new_side) {
            if old > new {
                return None;
            }
        }
        return Some((Vec::new(), Vec::new()));
    }
    let (mut into_old, mut into_new) = (Inserts::default(), Inserts::default());
    let (mut old, mut new) = (old_side.next(), new_side.next());
    loop {
        match (&old, &new) {
            (Some((o, old_count)), Some((n, new_count))) if o == n => {
                if old_count > new_count {
                    return None;
                }
                into_old.advance();
                into_new.advance();
                old = old_side.next();
                new = new_side.next();
            }
            (Some((o, old_count)), n) if n.as_ref().is_none_or(|(n, _)| o < n) => {
                if *old_count != C::default() {
                    return None;
                }
                into_new.add(*o);
                into_old.advance();
                old = old_side.next();
            }
            (_, Some((n, _))) => {
                into_old.add(*n);
                into_new.advance();
                new = new_side.next();
            }
            _ => return Some((into_old.finish(), into_new.finish())),
        }
    }
}

/// As [`expand`] where counts may go down: the inserts into the old and the new buckets, and the spans of both together.
pub(crate) fn expand_both(
    old_spans: &[BucketSpan],
    new_spans: &[BucketSpan],
) -> (Vec<Insert>, Vec<Insert>, Vec<BucketSpan>) {
    let mut merged = SpanBuilder::default();
    let (mut into_old, mut into_new) = (Inserts::default(), Inserts::default());
    let (mut old_side, mut new_side) = (Indices::new(old_spans), Indices::new(new_spans));
    let (mut old, mut new) = (old_side.next(), new_side.next());
    loop {
        match (old, new) {
            (Some(o), Some(n)) if o == n => {
                merged.push(o);
                into_old.advance();
                into_new.advance();
                old = old_side.next();
                new = new_side.next();
            }
            (Some(o), n) if n.is_none_or(|n| o < n) => {
                merged.push(o);
                into_new.add(o);
                into_old.advance();
                old = old_side.next();
            }
            (_, Some(n)) => {
                merged.push(n);
                into_old.add(n);
                into_new.advance();
                new = new_side.next();
            }
            _ => return (into_old.finish(), into_new.finish(), merged.spans),
        }
    }
}

/// The spans with the inserted buckets among their own.
pub(crate) fn with_inserts(spans: &[BucketSpan], inserts: &[Insert]) -> Vec<BucketSpan> {
    if inserts.is_empty() {
        return spans.to_vec();
    }
    let mut merged = SpanBuilder::default();
    let mut inserted = inserts.iter().flat_map(|i| i.index..i.index + i.count as i64).peekable();
    for index in Indices::new(spans) {
        while let Some(insert) = inserted.next_if(|insert| *insert < index) {
            merged.push(insert);
        }
        merged.push(index);
    }
    inserted.for_each(|insert| merged.push(insert));
    merged.spans
}

/// Absolute counts with the inserts, 0, among them.
pub(crate) fn insert_counts(counts: &[f64], inserts: &[Insert]) -> Vec<f64> {
    let mut out = Vec::with_capacity(counts.len() + inserts.iter().map(|i| i.count).sum::<usize>());
    let mut inserts = inserts.iter().peekable();
    for (position, count) in counts.iter().enumerate() {
        while let Some(insert) = inserts.next_if(|insert| insert.position == position) {
            out.resize(out.len() + insert.count, 0.0);
        }
        out.push(*count);
    }
    for insert in inserts {
        out.resize(out.len() + insert.count, 0.0);
    }
    out
}

/// Deltas of counts with the inserts, whose counts are 0, among them.
pub(crate) fn insert_deltas(deltas: &[i64], inserts: &[Insert]) -> Vec<i64> {
    let mut out = Vec::with_capacity(deltas.len() + inserts.iter().map(|i| i.count).sum::<usize>());
    let mut inserts = inserts.iter().peekable();
    // The count before, and what the deltas written so far sum up to.
    let (mut count, mut written) = (0i64, 0i64);
    for (position, delta) in deltas.iter().enumerate() {
        while let Some(insert) = inserts.next_if(|insert| insert.position == position) {
            out.push(written.wrapping_neg());
            out.resize(out.len() + insert.count - 1, 0);
            written = 0;
        }
        count = count.wrapping_add(*delta);
        out.push(count.wrapping_sub(written));
        written = count;
    }
    for insert in inserts {
        out.push(written.wrapping_neg());
        out.resize(out.len() + insert.count - 1, 0);
        written = 0;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(i32, u32)]) -> Vec<BucketSpan> {
        pairs.iter().map(|(offset, length)| BucketSpan { offset: *offset, length: *length }).collect()
    }

    fn inserts(list: &[(usize, usize, i64)]) -> Vec<Insert> {
        list.iter()
            .map(|(position, count, index)| Insert { position: *position, count: *count, index: *index })
            .collect()
    }

    fn absolute(deltas: &[i64]) -> impl Iterator<Item = i64> {
        deltas.iter().scan(0, |sum, d| {
            *sum += d;
            Some(*sum)
        })
    }

    #[test]
    fn spans_prepended_merged_and_appended() {
        let old = spans(&[(0, 2), (2, 1), (3, 2), (3, 1), (1, 1)]);
        let new = spans(&[(0, 3), (1, 1), (1, 4), (3, 3)]);
        let deltas = [6, -3, 0, -1, 2, 1, -4];
        let new_deltas = [6, -3, -3, 3, -3, 0, 2, 2, 1, -5, 1];
        let (into_old, into_new) = expand(&old, &new, absolute(&deltas), absolute(&new_deltas)).unwrap();
        assert_eq!(into_old, inserts(&[(2, 1, 2), (3, 2, 6), (6, 1, 14)]));
        assert_eq!(into_new, []);
        assert_eq!(insert_deltas(&deltas, &into_old), new_deltas);
        assert_eq!(
            insert_counts(&[6., 3., 3., 2., 4., 5., 1.], &into_old),
            [6., 3., 0., 3., 0., 0., 2., 4., 5., 0., 1.]
        );
        assert_eq!(with_inserts(&old, &into_old), new);
    }

    #[test]
    fn empty_buckets_may_go_and_used_ones_may_not() {
        let old = spans(&[(0, 3)]);
        let new = spans(&[(0, 1), (1, 1), (1, 1)]);
        let (into_old, into_new) = expand(&old, &new, [1, 0, 2].into_iter(), [1, 2, 9].into_iter()).unwrap();
        assert_eq!(into_old, inserts(&[(3, 1, 4)]));
        assert_eq!(into_new, inserts(&[(1, 1, 1)]));
        assert!(expand(&old, &new, [1, 1, 2].into_iter(), [1, 2, 9].into_iter()).is_none());
        assert!(expand(&old, &new, [2, 0, 2].into_iter(), [1, 2, 9].into_iter()).is_none());
        assert!(expand(&old, &old, [1, 0, 2].into_iter(), [1, 0, 1].into_iter()).is_none());
    }

    #[test]
    fn gauges_cover_both() {
        let (into_old, into_new, merged) =
            expand_both(&spans(&[(-2, 2), (4, 1)]), &spans(&[(-1, 1), (0, 2)]));
        assert_eq!(merged, spans(&[(-2, 4), (2, 1)]));
        assert_eq!(into_old, inserts(&[(2, 2, 0)]));
        assert_eq!(into_new, inserts(&[(0, 1, -2), (3, 1, 4)]));
    }

    #[test]
    fn spans_without_buckets_are_passed_over() {
        let indices = |s: &[(i32, u32)]| Indices::new(&spans(s)).collect::<Vec<_>>();
        assert_eq!(indices(&[(3, 0), (2, 2), (1, 0), (1, 1)]), [5, 6, 9]);
        assert_eq!(indices(&[(0, 0)]), []);
        assert_eq!(indices(&[]), []);
    }
}
