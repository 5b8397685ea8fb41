//! Orders as upstream's libraries produce them, ties included: Go's pattern-defeating quicksort, its heap,
//! the natural order of strings; and what is built of them: `sort`, `topk`, quantiles of samples.

use std::cmp::Ordering;

/// Up to this length elements are sorted by insertion.
const INSERTION_LENGTH: usize = 12;
/// From this length the pivot is chosen among nine elements instead of three.
const NINTHER_LENGTH: usize = 50;

/// Sorts as Go's `sort.Sort` and `slices.SortFunc` do: equal elements, and all where `less` is no order,
/// land where they land there.
pub fn go_sort<T>(data: &mut [T], mut less: impl FnMut(&T, &T) -> bool) {
    let n = data.len();
    Sorter { data, less: &mut less }.quicksort(0, n, bit_length(n));
}

/// Number of bits up to the highest set one.
fn bit_length(n: usize) -> u32 {
    usize::BITS - n.leading_zeros()
}

/// What the pivot's choice says about the elements.
#[derive(PartialEq)]
enum Hint {
    Unknown,
    Increasing,
    Decreasing,
}

struct Sorter<'a, T, F> {
    data: &'a mut [T],
    less: &'a mut F,
}

impl<T, F: FnMut(&T, &T) -> bool> Sorter<'_, T, F> {
    #[inline]
    fn less(&mut self, i: usize, j: usize) -> bool {
        (self.less)(&self.data[i], &self.data[j])
    }

    fn insertion_sort(&mut self, a: usize, b: usize) {
        for i in a + 1..b {
            let mut j = i;
            while j > a && self.less(j, j - 1) {
                self.data.swap(j, j - 1);
                j -= 1;
            }
        }
    }

    fn sift_down(&mut self, mut root: usize, end: usize, first: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= end {
                return;
            }
            if child + 1 < end && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.data.swap(first + root, first + child);
            root = child;
        }
    }

    fn heap_sort(&mut self, a: usize, b: usize) {
        let n = b - a;
        for i in (0..=(n - 1) / 2).rev() {
            self.sift_down(i, n, a);
        }
        for i in (0..n).rev() {
            self.data.swap(a, a + i);
            self.sift_down(0, i, a);
        }
    }

    /// Sorts `a..b`; after `limit` bad pivots by heap.
    fn quicksort(&mut self, mut a: usize, mut b: usize, mut limit: u32) {
        let mut balanced = true;
        let mut partitioned = true;
        loop {
            let length = b - a;
            if length <= INSERTION_LENGTH {
                return self.insertion_sort(a, b);
            }
            if limit == 0 {
                return self.heap_sort(a, b);
            }
            if !balanced {
                self.break_patterns(a, b);
                limit -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(a, b);
            if hint == Hint::Decreasing {
                self.data[a..b].reverse();
                pivot = (b - 1) - (pivot - a);
                hint = Hint::Increasing;
            }
            if balanced && partitioned && hint == Hint::Increasing && self.partial_insertion_sort(a, b) {
                return;
            }
            // Nothing is below the element in front of the range: if the pivot is not above it, all of its
            // equals are done at once.
            if a > 0 && !self.less(a - 1, pivot) {
                a = self.partition_equal(a, b, pivot);
                continue;
            }
            let (middle, was_partitioned) = self.partition(a, b, pivot);
            partitioned = was_partitioned;
            let (left, right) = (middle - a, b - middle);
            if left < right {
                balanced = left >= length / 8;
                self.quicksort(a, middle, limit);
                a = middle + 1;
            } else {
                balanced = right >= length / 8;
                self.quicksort(middle + 1, b, limit);
                b = middle;
            }
        }
    }

    /// Puts what is below the pivot in front of it. Says where the pivot is then, and whether nothing moved.
    fn partition(&mut self, a: usize, b: usize, pivot: usize) -> (usize, bool) {
        self.data.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        let mut untouched = true;
        loop {
            while i <= j && self.less(i, a) {
                i += 1;
            }
            while i <= j && !self.less(j, a) {
                j -= 1;
            }
            if i > j {
                break;
            }
            untouched = false;
            self.data.swap(i, j);
            i += 1;
            j -= 1;
        }
        self.data.swap(j, a);
        (j, untouched)
    }

    /// Puts what equals the pivot in front, given that nothing is below it. Says where the rest begins.
    fn partition_equal(&mut self, a: usize, b: usize, pivot: usize) -> usize {
        self.data.swap(a, pivot);
        let (mut i, mut j) = (a + 1, b - 1);
        loop {
            while i <= j && !self.less(a, i) {
                i += 1;
            }
            while i <= j && self.less(a, j) {
                j -= 1;
            }
            if i > j {
                return i;
            }
            self.data.swap(i, j);
            i += 1;
            j -= 1;
        }
    }

    /// Repairs a few neighbours out of order; says whether the range is sorted then.
    fn partial_insertion_sort(&mut self, a: usize, b: usize) -> bool {
        let mut i = a + 1;
        for _ in 0..5 {
            while i < b && !self.less(i, i - 1) {
                i += 1;
            }
            if i == b {
                return true;
            }
            if b - a < 50 {
                return false;
            }
            self.data.swap(i, i - 1);
            if i - a >= 2 {
                for j in (1..i).rev() {
                    if !self.less(j, j - 1) {
                        break;
                    }
                    self.data.swap(j, j - 1);
                }
            }
            if b - i >= 2 {
                for j in i + 1..b {
                    if !self.less(j, j - 1) {
                        break;
                    }
                    self.data.swap(j, j - 1);
                }
            }
        }
        false
    }

    /// Scatters three elements around the middle, by a generator seeded with the length.
    fn break_patterns(&mut self, a: usize, b: usize) {
        let length = b - a;
        if length < 8 {
            return;
        }
        let mut random = length as u64;
        let mask = (1u64 << bit_length(length)) - 1;
        let middle = a + length / 4 * 2;
        for i in middle - 1..=middle + 1 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut other = (random & mask) as usize;
            if other >= length {
                other -= length;
            }
            self.data.swap(i, a + other);
        }
    }

    fn choose_pivot(&mut self, a: usize, b: usize) -> (usize, Hint) {
        let quarter = (b - a) / 4;
        let mut swaps = 0;
        let (mut i, mut j, mut k) = (a + quarter, a + quarter * 2, a + quarter * 3);
        if b - a >= 8 {
            if b - a >= NINTHER_LENGTH {
                i = self.median(i - 1, i, i + 1, &mut swaps);
                j = self.median(j - 1, j, j + 1, &mut swaps);
                k = self.median(k - 1, k, k + 1, &mut swaps);
            }
            j = self.median(i, j, k, &mut swaps);
        }
        let hint = match swaps {
            0 => Hint::Increasing,
            12 => Hint::Decreasing,
            _ => Hint::Unknown,
        };
        (j, hint)
    }

    fn median(&mut self, a: usize, b: usize, c: usize, swaps: &mut u32) -> usize {
        let (a, b) = self.ordered(a, b, swaps);
        let (b, _) = self.ordered(b, c, swaps);
        let (_, b) = self.ordered(a, b, swaps);
        b
    }

    fn ordered(&mut self, a: usize, b: usize, swaps: &mut u32) -> (usize, usize) {
        if self.less(b, a) {
            *swaps += 1;
            return (b, a);
        }
        (a, b)
    }
}

/// Sorts as `slices.SortFunc` does, see [`go_sort`].
pub fn sort_func<T>(data: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    go_sort(data, |a, b| compare(a, b) == Ordering::Less);
}

/// Upstream's order of rising values: NaN is below everything, itself included.
#[inline]
pub fn value_less(a: f64, b: f64) -> bool {
    a.is_nan() || a < b
}

/// Upstream's order of falling values: NaN is below everything, itself included.
#[inline]
pub fn value_greater(a: f64, b: f64) -> bool {
    a.is_nan() || a > b
}

/// What lies at the root of a heap of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeapOrder {
    /// The lowest value, NaN before all (`topk`; `limitk` and `limit_ratio` too).
    SmallestFirst,
    /// The highest value, NaN before all (`bottomk`).
    LargestFirst,
}

impl HeapOrder {
    #[inline]
    fn less(self, a: f64, b: f64) -> bool {
        match self {
            Self::SmallestFirst => value_less(a, b),
            Self::LargestFirst => value_greater(a, b),
        }
    }
}

/// A heap of samples that moves its elements as Go's `container/heap` does. Samples are values with what
/// the engine knows them by.
pub struct Heap<'a> {
    items: &'a mut Vec<(f64, u32)>,
    order: HeapOrder,
}

impl<'a> Heap<'a> {
    /// `items`, which are a heap of this order.
    #[inline]
    pub fn new(items: &'a mut Vec<(f64, u32)>, order: HeapOrder) -> Self {
        Self { items, order }
    }

    #[inline]
    fn less(&self, i: usize, j: usize) -> bool {
        self.order.less(self.items[i].0, self.items[j].0)
    }

    /// Adds a sample.
    pub fn push(&mut self, item: (f64, u32)) {
        self.items.push(item);
        let mut j = self.items.len() - 1;
        while j > 0 {
            let parent = (j - 1) / 2;
            if !self.less(j, parent) {
                break;
            }
            self.items.swap(parent, j);
            j = parent;
        }
    }

    /// Restores the heap after its root was replaced.
    pub fn fix_first(&mut self) {
        let n = self.items.len();
        let mut i = 0;
        loop {
            let mut child = 2 * i + 1;
            if child >= n {
                return;
            }
            if child + 1 < n && self.less(child + 1, child) {
                child += 1;
            }
            if !self.less(child, i) {
                return;
            }
            self.items.swap(i, child);
            i = child;
        }
    }
}

/// A heap's samples in the order of an answer: best first, NaN last.
pub fn sort_heap(items: &mut [(f64, u32)], order: HeapOrder) {
    go_sort(items, |a, b| order.less(b.0, a.0));
}

/// `sort` and `sort_desc`: rising or falling, NaN last.
pub fn sort_values(items: &mut [(f64, u32)], descending: bool) {
    sort_heap(items, if descending { HeapOrder::SmallestFirst } else { HeapOrder::LargestFirst });
}

/// The quantile `q` of some samples, which are reordered: interpolated between neighbours, NaN below all
/// numbers; NaN of none or for a NaN `q`, infinite for a `q` out of 0 to 1.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let below = rank.floor();
    let lower = below.max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - below;
    // Selecting gives what sorting gives, unless zeros of both signs or NaN leave upstream's order open.
    let open = values.iter().any(|v| v.is_nan() || v.to_bits() == (-0.0f64).to_bits());
    if open || values.len() <= INSERTION_LENGTH {
        go_sort(values, |a, b| value_less(*a, *b));
        return values[lower] * (1.0 - weight) + values[upper] * weight;
    }
    let (_, low, above) = values.select_nth_unstable_by(lower, f64::total_cmp);
    let low = *low;
    let high = if upper == lower { low } else { above.iter().copied().fold(f64::INFINITY, f64::min) };
    low * (1.0 - weight) + high * weight
}

/// Whether `a` comes before `b` in natural order (`sort_by_label`): runs of digits compare as numbers.
/// Meant for different strings; no strict order, as upstream's is none.
pub fn natural_less(a: &str, b: &str) -> bool {
    let (mut rest_a, mut rest_b) = (a.as_bytes(), b.as_bytes());
    while !rest_a.is_empty() {
        if rest_b.is_empty() {
            return false;
        }
        let (chunk_a, next_a) = chunk(rest_a);
        let (chunk_b, next_b) = chunk(rest_b);
        match (number(chunk_a), number(chunk_b)) {
            (Some(x), Some(y)) if x != y => return x < y,
            (Some(_), Some(_)) => {}
            _ if chunk_a != chunk_b => return chunk_a < chunk_b,
            _ => {}
        }
        if next_a.is_empty() {
            return true;
        }
        if next_b.is_empty() {
            return false;
        }
        (rest_a, rest_b) = (next_a, next_b);
    }
    false
}

/// A run of digits or of anything else, and the rest.
fn chunk(s: &[u8]) -> (&[u8], &[u8]) {
    let digits = s[0].is_ascii_digit();
    let end = s.iter().position(|b| b.is_ascii_digit() != digits).unwrap_or(s.len());
    s.split_at(end)
}

/// The number a run of digits stands for, if it fits.
fn number(chunk: &[u8]) -> Option<i64> {
    if !chunk[0].is_ascii_digit() {
        return None;
    }
    chunk.iter().try_fold(0i64, |n, b| n.checked_mul(10)?.checked_add(i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs full of ties; `kind` 0 random, 1 rising, 2 falling, 3 with NaN, 4 sawtooth, 5 mostly rising.
    fn input(n: usize, kind: usize) -> Vec<(f64, u32)> {
        let mut x = 88_172_645_463_325_252u64 + n as u64;
        (0..n)
            .map(|i| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                let random = (x % 9) as f64;
                let v = match kind {
                    1 => (i / 3) as f64,
                    2 => ((n - i) / 2) as f64,
                    3 if x.is_multiple_of(7) => f64::NAN,
                    4 => (i % 16) as f64,
                    5 if i % 10 != 0 => i as f64,
                    _ => random,
                };
                (v, i as u32)
            })
            .collect()
    }

    fn fnv(items: &[(f64, u32)]) -> u64 {
        items.iter().fold(14_695_981_039_346_656_037, |h: u64, (_, id)| {
            (h ^ u64::from(*id)).wrapping_mul(1_099_511_628_211)
        })
    }

    #[test]
    fn ties_fall_as_in_go() {
        let mut lines = 0;
        for line in include_str!("reference/sort.txt").lines().filter(|l| !l.starts_with('#')) {
            let f: Vec<&str> = line.split(' ').collect();
            let (n, kind) = (f[0].parse().unwrap(), f[1].parse().unwrap());
            let mut rising = input(n, kind);
            go_sort(&mut rising, |a, b| value_less(a.0, b.0));
            let mut falling = input(n, kind);
            sort_values(&mut falling, true);
            let mut by_function = input(n, kind);
            sort_func(&mut by_function, |a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
            let got = [fnv(&rising), fnv(&falling), fnv(&by_function)].map(|h| format!("{h:x}"));
            assert_eq!(got.as_slice(), &f[2..], "{n} elements of kind {kind}");
            lines += 1;
        }
        assert_eq!(lines, 54);
    }

    #[test]
    fn natural_order_is_natsorts() {
        let strings = [
            "",
            "a",
            "a1",
            "a2",
            "a10",
            "a01",
            "10",
            "9",
            "1a",
            "a1b",
            "a1b2",
            "a1c",
            "99999999999999999999",
            "99999999999999999998",
            "é1",
            "é2",
            "-5",
            "b",
        ];
        let rows: Vec<&str> = include_str!("reference/natural.txt").lines().skip(1).collect();
        assert_eq!(rows.len(), strings.len());
        for (a, row) in strings.iter().zip(rows) {
            let got: String = strings
                .iter()
                .filter(|b| *b != a)
                .map(|b| if natural_less(a, b) { '1' } else { '0' })
                .collect();
            assert_eq!(got, row, "{a:?}");
        }
    }

    #[test]
    fn sorts_put_nan_last() {
        let mut items = vec![(f64::NAN, 0), (1.0, 1), (3.0, 2), (2.0, 3)];
        sort_values(&mut items, false);
        assert_eq!(items.iter().map(|i| i.1).collect::<Vec<_>>(), [1, 3, 2, 0]);
        sort_values(&mut items, true);
        assert_eq!(items.iter().map(|i| i.1).collect::<Vec<_>>(), [2, 3, 1, 0]);
    }

    #[test]
    fn heaps_keep_the_best() {
        let mut items = Vec::new();
        for (v, id) in [(5.0, 0), (1.0, 1), (4.0, 2)] {
            Heap::new(&mut items, HeapOrder::SmallestFirst).push((v, id));
        }
        assert_eq!(items, [(1.0, 1), (5.0, 0), (4.0, 2)]);
        items[0] = (4.5, 3);
        Heap::new(&mut items, HeapOrder::SmallestFirst).fix_first();
        assert_eq!(items, [(4.0, 2), (5.0, 0), (4.5, 3)]);
        sort_heap(&mut items, HeapOrder::SmallestFirst);
        assert_eq!(items, [(5.0, 0), (4.5, 3), (4.0, 2)]);
    }

    #[test]
    fn quantiles_interpolate() {
        let nan = f64::NAN;
        for (q, values, expected) in [
            (0.5, vec![], nan),
            (nan, vec![1.0], nan),
            (-0.1, vec![1.0], f64::NEG_INFINITY),
            (1.1, vec![1.0], f64::INFINITY),
            (0.5, vec![3.0, 1.0], 2.0),
            (0.25, vec![1.0, 2.0, 3.0], 1.5),
            (1.0, vec![7.0, 9.0, 8.0], 9.0),
            (0.0, vec![7.0, nan, 8.0], nan),
            (1.0, vec![7.0, nan, 8.0], 8.0),
            (0.5, (0..20).rev().map(f64::from).collect(), 9.5),
            (1.0, (0..20).rev().map(f64::from).collect(), 19.0),
        ] {
            let mut scratch = values.clone();
            let got = quantile(q, &mut scratch);
            assert!(got == expected || (got.is_nan() && expected.is_nan()), "{q} of {values:?}: {got}");
        }
    }

    #[test]
    fn selecting_equals_sorting() {
        for n in [13, 50, 333] {
            let values: Vec<f64> = input(n, 0).iter().map(|(v, id)| v * 0.1 + f64::from(*id % 5)).collect();
            for q in [0.0, 0.1, 0.5, 0.77, 0.99, 1.0] {
                let mut sorted = values.clone();
                sorted.sort_by(f64::total_cmp);
                let rank = q * (n as f64 - 1.0);
                let (low, weight) = (rank.floor() as usize, rank - rank.floor());
                let expected = sorted[low] * (1.0 - weight) + sorted[(low + 1).min(n - 1)] * weight;
                assert_eq!(quantile(q, &mut values.clone()).to_bits(), expected.to_bits(), "{n} {q}");
            }
        }
    }
}
