//! Exemplars: the newest of all series, as many as upstream's circular buffer holds by default.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tsdbctl_model::label_hash::packed_hash_into;
use tsdbctl_wal::record::EncodedLabels;

/// Upstream's default of `storage.exemplars.max_exemplars`.
pub const MAX_EXEMPLARS: usize = 100_000;

/// The series of an exemplar: a slot, or the reference of a series that is not wanted, whose exemplars only
/// push out others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A wanted series.
    Slot(u32),
    /// Another series.
    Other(u64),
}

/// One exemplar.
#[derive(Clone, Debug)]
pub struct Stored {
    number: u64,
    /// Unix milliseconds.
    pub t: i64,
    /// The observed value.
    pub value: f64,
    hash: u64,
    /// Encoded labels; empty for unwanted series.
    pub labels: Box<[u8]>,
}

/// The buffer.
#[derive(Debug)]
pub struct Exemplars {
    max: usize,
    /// By age of arrival.
    arrivals: VecDeque<(Owner, u64)>,
    series: HashMap<Owner, Vec<Stored>>,
    next: u64,
    packed: Vec<u8>,
}

/// What a live head says to an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may come.
    New,
    /// It is the series' newest.
    Duplicate,
    /// It is too far behind the series' newest.
    OutOfOrder,
}

impl Default for Exemplars {
    fn default() -> Self {
        Self::new(MAX_EXEMPLARS)
    }
}

impl Exemplars {
    /// A buffer of `max` exemplars.
    pub fn new(max: usize) -> Self {
        Self { max, arrivals: VecDeque::new(), series: HashMap::new(), next: 0, packed: Vec::new() }
    }

    /// Upstream's hash of an exemplar's labels.
    fn hash(&mut self, labels: EncodedLabels<'_>) -> u64 {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        packed_hash_into(&mut self.packed, labels.iter().map(|(n, v)| (text(n), text(v))))
    }

    /// Whether an exemplar may come, as upstream's `validateExemplar` has it: those of one time are ordered by value,
    /// then by hash, and older ones must lie within the window.
    pub fn judge(
        &mut self,
        owner: Owner,
        (t, value): (i64, f64),
        labels: EncodedLabels<'_>,
        window_ms: i64,
    ) -> Verdict {
        let hash = self.hash(labels);
        let Some(newest) = self.series.get(&owner).and_then(|list| list.last()) else { return Verdict::New };
        if (newest.t, newest.hash) == (t, hash) && newest.value == value {
            return Verdict::Duplicate;
        }
        let late = t < newest.t && t <= newest.t.saturating_sub(window_ms.max(0));
        let smaller =
            t == newest.t && (value < newest.value || (value == newest.value && hash < newest.hash));
        if late || smaller { Verdict::OutOfOrder } else { Verdict::New }
    }

    /// All exemplars of wanted series with the series' slots, in the order of their arrival.
    pub fn by_arrival(&self) -> impl Iterator<Item = (u32, &Stored)> {
        self.arrivals.iter().filter_map(|(owner, number)| {
            let Owner::Slot(slot) = *owner else { return None };
            let stored = self.series.get(owner)?.iter().find(|e| e.number == *number)?;
            Some((slot, stored))
        })
    }

    /// Adds an exemplar as upstream's `AddExemplar` does in replay: repeats of the newest and of a time in
    /// the middle are left out.
    pub fn add(&mut self, owner: Owner, t: i64, value: f64, labels: EncodedLabels<'_>) {
        let hash = self.hash(labels);
        let list = self.series.entry(owner).or_default();
        if let (Some(oldest), Some(newest)) = (list.first(), list.last()) {
            if (newest.t, newest.hash) == (t, hash) && newest.value == value {
                return;
            }
            if t >= oldest.t && t < newest.t {
                let behind = list.partition_point(|e| e.t <= t);
                if list[behind - 1].t == t {
                    return;
                }
            }
        }
        if self.arrivals.len() >= self.max
            && let Some((from, number)) = self.arrivals.pop_front()
            && let Some(list) = self.series.get_mut(&from)
        {
            list.retain(|e| e.number != number);
            if list.is_empty() && from != owner {
                self.series.remove(&from);
            }
        }
        let number = self.next;
        self.next += 1;
        self.arrivals.push_back((owner, number));
        let labels = if matches!(owner, Owner::Slot(_)) { labels.bytes().into() } else { Box::default() };
        let list = self.series.entry(owner).or_default();
        let at = list.partition_point(|e| e.t <= t);
        list.insert(at, Stored { number, t, value, hash, labels });
    }

    /// Drops the exemplars of a series. Their places come free when they would have been pushed out.
    pub fn remove(&mut self, owner: Owner) {
        self.series.remove(&owner);
    }

    /// About the bytes held, without counting them.
    pub fn estimated_bytes(&self) -> usize {
        self.arrivals.len() * (size_of::<(Owner, u64)>() + size_of::<Stored>() + 48)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let stored = self.series.values().flatten().map(|e| e.labels.len()).sum::<usize>();
        let lists = self.series.values().map(|l| l.capacity() * size_of::<Stored>()).sum::<usize>();
        stored + lists + self.arrivals.capacity() * size_of::<(Owner, u64)>() + self.series.capacity() * 41
    }

    /// Exemplars with `start <= t <= end` of every wanted series that has some.
    pub fn between(
        &self,
        start: i64,
        end: i64,
    ) -> impl Iterator<Item = (u32, impl Iterator<Item = &Stored>)> {
        self.series.iter().filter_map(move |(owner, list)| {
            let Owner::Slot(slot) = *owner else { return None };
            let in_range = move |e: &&Stored| (start..=end).contains(&e.t);
            list.iter().any(|e| in_range(&e)).then(|| (slot, list.iter().filter(in_range)))
        })
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_model::Labels;
    use tsdbctl_wal::cursor::Cursor;
    use tsdbctl_wal::record::encode;

    use super::*;

    fn filled(max: usize, adds: &[(Owner, i64, f64)]) -> Vec<(u32, Vec<(i64, f64)>)> {
        let mut bytes = Vec::new();
        encode::labels(&mut bytes, &Labels::from_pairs([("trace_id", "x")]));
        let labels = EncodedLabels::read(&mut Cursor::new(&bytes)).unwrap();
        let mut e = Exemplars::new(max);
        adds.iter().for_each(|(owner, t, v)| e.add(*owner, *t, *v, labels));
        let mut all: Vec<_> =
            e.between(0, 100).map(|(s, l)| (s, l.map(|e| (e.t, e.value)).collect())).collect();
        all.sort_by_key(|(s, _): &(u32, _)| *s);
        all
    }

    #[test]
    fn repeats_are_left_out_and_late_ones_sorted_in() {
        let a = Owner::Slot(1);
        let adds = [
            (a, 5, 1.0),
            (a, 5, 1.0),
            (a, 9, 2.0),
            (a, 5, 7.0),
            (a, 7, 3.0),
            (a, 2, 4.0),
            (a, 9, 5.0),
            (a, 101, 0.0),
        ];
        assert_eq!(filled(10, &adds), [(1, vec![(2, 4.0), (5, 1.0), (7, 3.0), (9, 2.0), (9, 5.0)])]);
    }

    #[test]
    fn the_oldest_arrival_of_any_series_makes_room() {
        let (a, b, other) = (Owner::Slot(1), Owner::Slot(2), Owner::Other(9));
        assert_eq!(filled(2, &[(a, 1, 1.0), (b, 2, 2.0), (other, 3, 3.0)]), [(2, vec![(2, 2.0)])]);
        assert_eq!(filled(1, &[(a, 1, 1.0), (a, 2, 2.0)]), [(1, vec![(2, 2.0)])]);
    }
}
