//! Sets of series references as sorted lists: reading them, and intersecting, joining and subtracting them.

/// A sorted list of series references, as it lies in the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawPostings<'a>(pub(crate) &'a [[u8; 4]]);

impl RawPostings<'_> {
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    #[inline]
    fn get(self, i: usize) -> u32 {
        u32::from_be_bytes(self.0[i])
    }

    /// The list decoded.
    pub(crate) fn to_vec(self) -> Vec<u32> {
        self.0.iter().map(|b| u32::from_be_bytes(*b)).collect()
    }

    /// First index from `start` on whose reference is at least `wanted`.
    #[inline]
    fn gallop(self, start: usize, wanted: u32) -> usize {
        let (mut low, mut step) = (start, 1);
        while low + step < self.len() && self.get(low + step) < wanted {
            low += step;
            step *= 2;
        }
        let high = (low + step + 1).min(self.len());
        low + self.0[low..high].partition_point(|b| u32::from_be_bytes(*b) < wanted)
    }
}

/// Keeps of `base` what is in `list` (`keep`) or what is not.
pub(crate) fn filter(base: &mut Vec<u32>, list: RawPostings<'_>, keep: bool) {
    let mut at = 0;
    let sparse = list.len() / 8 > base.len();
    base.retain(|r| {
        if sparse {
            at = list.gallop(at, *r);
        } else {
            while at < list.len() && list.get(at) < *r {
                at += 1;
            }
        }
        (at < list.len() && list.get(at) == *r) == keep
    });
}

/// Keeps of `base` what is in the sorted `other` (`keep`) or what is not.
pub(crate) fn filter_sorted(base: &mut Vec<u32>, other: &[u32], keep: bool) {
    let mut at = 0;
    base.retain(|r| {
        at += other[at..].partition_point_near(*r);
        (other.get(at) == Some(r)) == keep
    });
}

trait PartitionNear {
    fn partition_point_near(&self, wanted: u32) -> usize;
}

impl PartitionNear for [u32] {
    /// `partition_point` for what is expected near the start.
    #[inline]
    fn partition_point_near(&self, wanted: u32) -> usize {
        let mut step = 1;
        while step < self.len() && self[step] < wanted {
            step *= 2;
        }
        let (low, high) = (step / 2, (step + 1).min(self.len()));
        low + self[low..high].partition_point(|r| *r < wanted)
    }
}

/// All references of some lists, sorted, each once.
pub(crate) fn union(lists: &[RawPostings<'_>]) -> Vec<u32> {
    match lists {
        [] => return Vec::new(),
        [one] => return one.to_vec(),
        _ => {}
    }
    let total: usize = lists.iter().map(|l| l.len()).sum();
    let mut all = Vec::with_capacity(total);
    let (mut low, mut high) = (u32::MAX, 0);
    for list in lists.iter().filter(|l| l.len() > 0) {
        low = low.min(list.get(0));
        high = high.max(list.get(list.len() - 1));
        all.extend(list.0.iter().map(|b| u32::from_be_bytes(*b)));
    }
    if all.is_empty() {
        return all;
    }
    // A bitmap beats sorting where the lists are many and dense.
    let words = high.saturating_sub(low) as usize / 64 + 1;
    if lists.len() > 4 && words <= all.len() * 2 {
        let mut bits = vec![0u64; words];
        for r in &all {
            let i = r.wrapping_sub(low);
            match bits.get_mut((i / 64) as usize) {
                Some(word) => *word |= 1 << (i % 64),
                // Only of a list that is not sorted, which no writer makes.
                None => return sorted(all),
            }
        }
        all.clear();
        for (i, mut word) in bits.into_iter().enumerate() {
            while word != 0 {
                all.push(low + i as u32 * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
        return all;
    }
    sorted(all)
}

fn sorted(mut all: Vec<u32>) -> Vec<u32> {
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(refs: &[u32]) -> Vec<[u8; 4]> {
        refs.iter().map(|r| r.to_be_bytes()).collect()
    }

    #[test]
    fn filters_agree_with_sets_whatever_the_sizes() {
        let base: Vec<u32> = (0..200).map(|i| i * 7).collect();
        for (step, len) in [(1, 5000), (3, 400), (7, 20), (14, 1), (1, 0), (700, 3)] {
            let other: Vec<u32> = (0..len).map(|i| i * step).collect();
            let list = raw(&other);
            for keep in [true, false] {
                let want: Vec<u32> = base.iter().copied().filter(|r| other.contains(r) == keep).collect();
                let mut got = base.clone();
                filter(&mut got, RawPostings(&list), keep);
                assert_eq!(got, want, "step {step} len {len}");
                let mut few = vec![14, 700];
                filter(&mut few, RawPostings(&list), keep);
                assert_eq!(
                    few,
                    [14, 700].into_iter().filter(|r| other.contains(r) == keep).collect::<Vec<_>>()
                );
                let mut got = base.clone();
                filter_sorted(&mut got, &other, keep);
                assert_eq!(got, want, "step {step} len {len}");
            }
        }
    }

    #[test]
    fn unions_are_sorted_by_either_way() {
        for step in [1, 1000] {
            let lists: Vec<Vec<[u8; 4]>> =
                (0..6).map(|k| raw(&(0..50).map(|i| (i * 6 + k) * step).collect::<Vec<_>>())).collect();
            let lists: Vec<RawPostings<'_>> = lists.iter().map(|l| RawPostings(l)).collect();
            assert_eq!(union(&lists), (0..300).map(|i| i * step).collect::<Vec<u32>>());
        }
        let (a, b) = (raw(&[1, 3]), raw(&[3, 9]));
        assert_eq!(union(&[RawPostings(&a), RawPostings(&b)]), [1, 3, 9]);
        assert!(union(&[RawPostings(&[]), RawPostings(&[])]).is_empty());
    }
}
