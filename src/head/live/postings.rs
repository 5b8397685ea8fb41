//! Lists of series ids, ascending: one or two lie in the handle, longer ones grow by a quarter.

/// One list.
#[derive(Debug)]
pub enum Postings {
    /// The first `len` of `ids`.
    Few {
        /// How many.
        len: u32,
        /// The ids.
        ids: [u32; 2],
    },
    /// More.
    Many(Vec<u32>),
}

const _: () = assert!(size_of::<Postings>() <= 24);

impl Default for Postings {
    fn default() -> Self {
        Self::Few { len: 0, ids: [0; 2] }
    }
}

/// The capacity for `wanted` ids that wastes nothing of what an allocator hands out in steps of 16 bytes, 8 of them
/// its own.
fn rounded(wanted: usize) -> usize {
    wanted.saturating_sub(2).div_ceil(4) * 4 + 2
}

impl Postings {
    /// The ids.
    #[inline]
    pub fn ids(&self) -> &[u32] {
        match self {
            Self::Few { len, ids } => &ids[..*len as usize],
            Self::Many(ids) => ids,
        }
    }

    /// Adds an id that is higher than all.
    #[inline]
    pub fn push(&mut self, id: u32) {
        match self {
            Self::Few { len, ids } if *len < 2 => {
                ids[*len as usize] = id;
                *len += 1;
            }
            Self::Few { ids, .. } => {
                let mut more = Vec::with_capacity(rounded(3));
                more.extend_from_slice(ids);
                more.push(id);
                *self = Self::Many(more);
            }
            Self::Many(ids) => {
                if ids.len() == ids.capacity() {
                    ids.reserve_exact(rounded(ids.len() + ids.len() / 4 + 1) - ids.len());
                }
                ids.push(id);
            }
        }
    }

    /// Takes ids out; `gone` is ascending and may hold others.
    pub fn remove(&mut self, gone: &[u32]) {
        match self {
            Self::Few { len, ids } => {
                let mut kept = [0; 2];
                let mut count = 0;
                for id in ids[..*len as usize].iter().filter(|id| gone.binary_search(id).is_err()) {
                    kept[count] = *id;
                    count += 1;
                }
                *self = Self::Few { len: count as u32, ids: kept };
            }
            Self::Many(ids) if gone.len() < ids.len() / 16 => {
                // Few of many: what lies between them is moved in runs.
                let (mut from, mut to) = (0, 0);
                for id in gone {
                    let at = from + lower_bound(&ids[from..], *id);
                    if ids.get(at) == Some(id) {
                        ids.copy_within(from..at, to);
                        to += at - from;
                        from = at + 1;
                    }
                }
                let end = ids.len();
                ids.copy_within(from..end, to);
                ids.truncate(to + end - from);
            }
            Self::Many(ids) => filter(ids, gone, false),
        }
        if let Self::Many(ids) = self {
            if let [a, b] | [a, b, ..] = ids[..]
                && ids.len() == 2
            {
                *self = Self::Few { len: 2, ids: [a, b] };
            } else if ids.len() < 2 {
                *self = Self::Few { len: ids.len() as u32, ids: [ids.first().copied().unwrap_or(0), 0] };
            } else {
                let wanted = rounded(ids.len() + ids.len() / 4);
                if ids.capacity() > wanted {
                    ids.shrink_to(wanted);
                }
            }
        }
    }

    /// Bytes outside the handle, the allocator's own included.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many(ids) => ids.capacity() * 4 + 8,
        }
    }
}

/// How many ids of `list` are below `id`, found by steps that double: cheap if they are few.
#[inline]
pub fn lower_bound(list: &[u32], id: u32) -> usize {
    let mut step = 1;
    let mut low = 0;
    while low + step <= list.len() && list[low + step - 1] < id {
        low += step;
        step *= 2;
    }
    let high = (low + step - 1).min(list.len());
    low + list[low..high].partition_point(|x| *x < id)
}

/// Keeps of `base` what is in `list` (`keep`), or what is not.
pub fn filter(base: &mut Vec<u32>, list: &[u32], keep: bool) {
    if keep && list.len() < base.len() / 8 {
        let mut at = 0;
        let mut count = 0;
        for id in list {
            at += lower_bound(&base[at..], *id);
            if base.get(at) == Some(id) {
                // `count <= at`: the place in front was looked at already.
                base[count] = *id;
                count += 1;
                at += 1;
            }
        }
        base.truncate(count);
        return;
    }
    let mut rest = list;
    base.retain(|id| {
        rest = &rest[lower_bound(rest, *id)..];
        (rest.first() == Some(id)) == keep
    });
}

/// The ids of all lists, none twice.
pub fn union(lists: &[&[u32]]) -> Vec<u32> {
    let mut all = lists.concat();
    if lists.len() > 1 {
        // The lists are sorted runs, which a stable sort merges.
        all.sort();
        all.dedup();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_what_is_not_removed_whatever_their_length() {
        for len in [0u32, 1, 2, 3, 4, 7, 100, 1000, 5000] {
            for every in [1u32, 2, 3, 10, 100, 1001] {
                let mut list = Postings::default();
                (0..len).for_each(|i| list.push(i * 3));
                let all: Vec<u32> = (0..len).map(|i| i * 3).collect();
                assert_eq!(list.ids(), all);
                let gone: Vec<u32> = (0..len * 3).filter(|i| i.is_multiple_of(every)).collect();
                list.remove(&gone);
                let want: Vec<u32> = all.into_iter().filter(|i| !i.is_multiple_of(every)).collect();
                assert_eq!(list.ids(), want, "{len} without every {every}");
                assert!(list.bytes() <= want.len() * 5 + 40, "{} bytes for {}", list.bytes(), want.len());
                list.push(100_000);
                assert_eq!(list.ids().last(), Some(&100_000));
            }
        }
    }

    #[test]
    fn filters_and_unions_are_those_of_sets() {
        let lists: Vec<Vec<u32>> = [1u32, 2, 3, 7, 50, 1000]
            .iter()
            .map(|n| (0..3000u32).filter(|i| i.is_multiple_of(*n)).collect())
            .collect();
        for a in &lists {
            for b in &lists {
                let mut kept = a.clone();
                filter(&mut kept, b, true);
                let want: Vec<u32> = a.iter().copied().filter(|i| b.contains(i)).collect();
                assert_eq!(kept, want);
                let mut left = a.clone();
                filter(&mut left, b, false);
                left.extend(kept);
                left.sort_unstable();
                assert_eq!(&left, a);
                let mut both: Vec<u32> = [a.as_slice(), b].concat();
                both.sort_unstable();
                both.dedup();
                assert_eq!(union(&[a, b]), both);
            }
        }
    }
}
