//! When groups run: slots spread by a hash of file and name, the next one, and what was missed.

use tsdbctl_model::label_hash::packed_hash;

/// Nanoseconds of a millisecond.
const NS_PER_MS: i64 = 1_000_000;

/// The slots of one group. A slot lies at k·interval + offset, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    interval_ns: i64,
    next_ns: i64,
    /// The slot that ran last.
    last_ns: Option<i64>,
}

/// A slot at which a group is to run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Unix ns.
    pub ts_ns: i64,
    /// Slots before it that were passed over.
    pub missed: u64,
}

impl Slot {
    /// Unix ms, the fraction cut off.
    pub fn ts_ms(self) -> i64 {
        self.ts_ns.div_euclid(NS_PER_MS)
    }
}

/// How far a group's slots lie behind whole multiples of its interval, ns: xxHash64 of the labels `file` and `name`.
pub fn offset_ns(file: &str, name: &str, interval_ms: i64) -> i64 {
    let interval_ns = interval_ns(interval_ms) as u64;
    (packed_hash([("file", file), ("name", name)]) % interval_ns) as i64
}

fn interval_ns(interval_ms: i64) -> i64 {
    interval_ms.max(1).saturating_mul(NS_PER_MS)
}

impl Schedule {
    /// The slots of a group that starts at `now_ms` (Unix ms): the first is the next one after.
    pub fn new(file: &str, name: &str, interval_ms: i64, now_ms: i64) -> Self {
        let (interval_ns, offset_ns) = (interval_ns(interval_ms), offset_ns(file, name, interval_ms));
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        let behind_ns = (now_ns - offset_ns).rem_euclid(interval_ns);
        Self { interval_ns, next_ns: (now_ns - behind_ns).saturating_add(interval_ns), last_ns: None }
    }

    /// When the group is to run next, Unix ms: not before its slot.
    pub fn due_ms(&self) -> i64 {
        self.next_ns.saturating_add(NS_PER_MS - 1).div_euclid(NS_PER_MS)
    }

    /// Whether the group has run.
    pub fn has_run(&self) -> bool {
        self.last_ns.is_some()
    }

    /// The slot that is to run at `now_ms` (Unix ms), if one is due: the newest that has begun, the ones between
    /// missed; the very first is never passed over.
    pub fn take(&mut self, now_ms: i64) -> Option<Slot> {
        if now_ms < self.due_ms() {
            return None;
        }
        let slot = match self.last_ns {
            None => Slot { ts_ns: self.next_ns, missed: 0 },
            Some(last_ns) => {
                let intervals =
                    ((now_ms.saturating_mul(NS_PER_MS) - last_ns).div_euclid(self.interval_ns)).max(1);
                Slot {
                    ts_ns: last_ns.saturating_add(intervals.saturating_mul(self.interval_ns)),
                    missed: (intervals - 1) as u64,
                }
            }
        };
        self.last_ns = Some(slot.ts_ns);
        self.next_ns = slot.ts_ns.saturating_add(self.interval_ns);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_slot_is_the_next_and_slow_runs_miss_whole_slots() {
        let offset = offset_ns("/etc/rules.yml", "g", 60_000);
        assert!((0..60_000 * NS_PER_MS).contains(&offset));
        let mut schedule = Schedule::new("/etc/rules.yml", "g", 60_000, 1_700_000_000_000);
        assert!(schedule.due_ms() > 1_700_000_000_000 && schedule.due_ms() <= 1_700_000_060_000);
        let first_ms = schedule.due_ms();
        assert_eq!(schedule.take(first_ms - 1), None);
        let first = schedule.take(first_ms).expect("due");
        assert_eq!((first.ts_ns - offset) % (60_000 * NS_PER_MS), 0);
        assert_eq!(first.missed, 0);
        assert_eq!(schedule.take(first_ms + 59_998), None);
        // The run took 150 s: the newest slot that has begun runs, one is missed.
        let late = schedule.take(first_ms + 150_000).expect("due");
        assert_eq!((late.ts_ns, late.missed), (first.ts_ns + 120_000 * NS_PER_MS, 1));
        assert_eq!(schedule.take(first_ms + 150_001), None);
        assert_eq!(schedule.take(first_ms + 180_000).expect("due").missed, 0);
    }

    #[test]
    fn another_spelling_of_the_path_moves_the_group() {
        assert_ne!(offset_ns("rules.yml", "g", 60_000), offset_ns("./rules.yml", "g", 60_000));
    }
}
