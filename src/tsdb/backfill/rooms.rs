//! The time that new blocks may have: aligned ranges, less what blocks of the directory and its head hold.

use std::collections::BTreeMap;

/// Time that is held already, Unix ms: from `start` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// By which block; `None`: the head, and what is later.
    pub block: Option<String>,
    /// Start.
    pub start: i64,
    /// End, exclusive.
    pub end: i64,
}

/// The room of one new block: both ends inclusive, Unix ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// The block's number.
    pub(crate) block: u32,
}

/// What is known of a block in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Earliest sample.
    pub(crate) mint: i64,
    /// Latest sample.
    pub(crate) maxt: i64,
}

/// All rooms that were asked for.
#[derive(Debug)]
pub(crate) struct Rooms {
    range_ms: i64,
    /// By start.
    held: Vec<Held>,
    by_start: BTreeMap<i64, u32>,
    pub(crate) blocks: Vec<Extent>,
    recent: Room,
}

impl Rooms {
    /// Ranges of `range_ms`; nothing comes to lie in what is held.
    pub(crate) fn new(range_ms: i64, mut held: Vec<Held>) -> Self {
        held.retain(|h| h.start < h.end);
        held.sort_by_key(|h| (h.start, h.end));
        let recent = Room { first: i64::MAX, last: i64::MIN, block: 0 };
        Self { range_ms: range_ms.max(1), held, by_start: BTreeMap::new(), blocks: Vec::new(), recent }
    }

    /// The room that a time belongs to.
    ///
    /// # Errors
    /// All that holds part of the aligned range, if the time is held.
    pub(crate) fn of(&mut self, t: i64) -> Result<Room, Vec<Held>> {
        if self.recent.first <= t && t <= self.recent.last {
            return Ok(self.recent);
        }
        let mut first = t.div_euclid(self.range_ms).saturating_mul(self.range_ms);
        let mut last = first.saturating_add(self.range_ms - 1);
        let (range_first, range_last) = (first, last);
        for held in &self.held {
            if held.start <= t && t < held.end {
                let touches = |h: &&Held| h.start <= range_last && range_first < h.end;
                return Err(self.held.iter().filter(touches).cloned().collect());
            }
            if held.start > t {
                last = last.min(held.start - 1);
            } else {
                first = first.max(held.end);
            }
        }
        let next = self.blocks.len() as u32;
        let block = *self.by_start.entry(first).or_insert(next);
        let room = Room { first, last, block };
        if block == next {
            self.blocks.push(Extent { mint: i64::MAX, maxt: i64::MIN });
        }
        self.recent = room;
        Ok(room)
    }

    /// A block got samples of these times.
    pub(crate) fn extend(&mut self, block: u32, mint: i64, maxt: i64) {
        if let Some(extent) = self.blocks.get_mut(block as usize) {
            extent.mint = extent.mint.min(mint);
            extent.maxt = extent.maxt.max(maxt);
        }
    }

    /// The numbers of all blocks, by time.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = u32> + '_ {
        self.by_start.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_aligned_and_keep_clear_of_what_is_held() {
        let held = |block: Option<&str>, start, end| Held { block: block.map(str::to_owned), start, end };
        let mut rooms = Rooms::new(
            10,
            vec![
                held(Some("b"), 23, 26),
                held(Some("a"), 20, 22),
                held(None, 95, i64::MAX),
                held(Some("e"), 7, 7),
            ],
        );
        for (t, want) in [
            (5, Some((0, 9))),
            (-1, Some((-10, -1))),
            (-10, Some((-10, -1))),
            (-11, Some((-20, -11))),
            (19, Some((10, 19))),
            (20, None),
            (22, Some((22, 22))),
            (25, None),
            (26, Some((26, 29))),
            (94, Some((90, 94))),
            (95, None),
            (i64::MAX - 1, None),
        ] {
            assert_eq!(rooms.of(t).ok().map(|r| (r.first, r.last)), want, "{t}");
        }
        assert_eq!(rooms.of(21).unwrap_err().len(), 2);
        assert_eq!(rooms.of(7).unwrap().block, rooms.of(0).unwrap().block);
        let order: Vec<i64> = rooms.by_start.keys().copied().collect();
        assert_eq!(order, [-20, -10, 0, 10, 22, 26, 90]);
        assert_eq!(rooms.in_order().count(), 7);
        assert!(Rooms::new(7_200_000, Vec::new()).of(i64::MIN + 5).is_ok());
    }
}
