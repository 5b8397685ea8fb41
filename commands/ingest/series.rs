//! From the bytes of a series to its number: label sets are made once per series, not once per sample.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use tsdbctl_head::live::SeriesId;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_storage::Refusal;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// What is known of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its number.
    Id(SeriesId),
    /// No selector matches it.
    Unmatched,
    /// It cannot be stored.
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u128,
    known: Known,
    /// The entry that followed last time.
    next: u32,
}

const NONE: u32 = u32::MAX;
/// Series remembered at most, whatever the memory.
const ENTRIES_MAX: usize = 1 << 24;
/// What one takes, with room to grow and the table.
const ENTRY_BYTES: usize = 64;

/// The table wants its lowest and its highest bits to differ.
#[inline]
fn hash(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

/// Series by the hash of their bytes. Bodies list series in the same order again and again, so the one that followed
/// last time is tried first.
#[derive(Debug)]
pub struct SeriesCache {
    seed: u64,
    /// Half of the keys' low halves, and the numbers of the entries: growing asks nothing of the entries.
    table: HashTable<(u32, u32)>,
    entries: Vec<Entry>,
    /// When there are more, all are forgotten and looked up anew.
    entries_max: usize,
    last: u32,
}

impl Default for SeriesCache {
    fn default() -> Self {
        Self::with_bytes(usize::MAX)
    }
}

impl SeriesCache {
    /// One that takes about `bytes` of memory at most.
    pub fn with_bytes(bytes: usize) -> Self {
        // Chosen anew in each process: nobody can prepare series that collide.
        let seed = RandomState::new().hash_one(0u64);
        let entries_max = (bytes / ENTRY_BYTES).clamp(1, ENTRIES_MAX);
        Self { seed, table: HashTable::new(), entries: Vec::new(), entries_max, last: NONE }
    }

    /// The key of a series' bytes; equal bytes of another `class` have another key.
    #[inline]
    pub fn key(&self, class: u64, bytes: &[u8]) -> u128 {
        xxh3_128_with_seed(bytes, self.seed ^ class.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// What is known under a key.
    #[inline]
    pub fn get(&mut self, key: u128) -> Option<Known> {
        let guess = match self.entries.get(self.last as usize) {
            Some(last) => last.next,
            None => 0,
        };
        if let Some(entry) = self.entries.get(guess as usize)
            && entry.key == key
        {
            self.last = guess;
            return Some(entry.known);
        }
        let (_, found) = *self.table.find(hash(key as u32), |(half, i)| {
            *half == key as u32 && self.entries[*i as usize].key == key
        })?;
        if let Some(last) = self.entries.get_mut(self.last as usize) {
            last.next = found;
        }
        self.last = found;
        Some(self.entries[found as usize].known)
    }

    /// Remembers what [`SeriesCache::get`] did not know.
    pub fn insert(&mut self, key: u128, known: Known) {
        if self.entries.len() >= self.entries_max {
            self.clear();
        }
        if self.entries.len() == self.entries.capacity() {
            let more = self.entries.len().max(64).min(self.entries_max - self.entries.len());
            self.entries.reserve_exact(more);
        }
        let new = self.entries.len() as u32;
        self.entries.push(Entry { key, known, next: NONE });
        if let Some(last) = self.entries.get_mut(self.last as usize) {
            last.next = new;
        }
        self.last = new;
        self.table.insert_unique(hash(key as u32), (key as u32, new), |(half, _)| hash(*half));
    }

    fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.last = NONE;
    }
}

/// One label set in the making.
#[derive(Clone, Debug, Default)]
pub struct LabelScratch {
    text: String,
    /// Where a name begins, where it ends and the value begins, where that ends.
    spans: Vec<(usize, usize, usize)>,
}

impl LabelScratch {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }

    /// Adds a label.
    pub fn push(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.spans.push((start, middle, self.text.len()));
    }

    fn pair(&self, (start, middle, end): (usize, usize, usize)) -> (&str, &str) {
        (&self.text[start..middle], &self.text[middle..end])
    }

    /// The labels in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.spans.iter().map(|span| self.pair(*span))
    }

    /// A label's value, empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.iter().find(|pair| pair.0 == name).map_or("", |pair| pair.1)
    }

    /// A key of the set as it stands.
    pub fn key(&self, cache: &SeriesCache, class: u64) -> u128 {
        let mut packed = Vec::with_capacity(self.text.len() + 8 * self.spans.len());
        for (name, value) in self.iter() {
            for part in [name, value] {
                packed.extend_from_slice(&(part.len() as u32).to_le_bytes());
                packed.extend_from_slice(part.as_bytes());
            }
        }
        cache.key(class, &packed)
    }

    /// Makes the set one that can be stored: `added` labels in it (what they displace is called `exported_…`, as a scrape
    /// does), empty ones out, sorted.
    ///
    /// # Errors
    /// If a name occurs twice or is empty, or there is no metric name.
    pub fn finish(&mut self, added: &Labels) -> Result<(), Refusal> {
        for label in added {
            let displaced: Vec<usize> =
                (0..self.spans.len()).filter(|i| self.pair(self.spans[*i]).0 == label.name).collect();
            for i in displaced {
                let value = self.pair(self.spans[i]).1.to_owned();
                let mut name = format!("exported_{}", label.name);
                while !self.get(&name).is_empty() {
                    name.insert_str(0, "exported_");
                }
                self.push(&name, &value);
                if let Some(moved) = self.spans.pop() {
                    self.spans[i] = moved;
                }
            }
            self.push(&label.name, &label.value);
        }
        let mut spans = std::mem::take(&mut self.spans);
        // An empty value removes its name, wherever else that stands.
        if spans.iter().any(|span| span.1 == span.2) {
            let gone: Vec<String> =
                spans.iter().filter(|s| s.1 == s.2).map(|s| self.pair(*s).0.to_owned()).collect();
            spans.retain(|span| !gone.iter().any(|name| name == self.pair(*span).0));
        }
        spans.sort_by(|a, b| self.pair(*a).0.cmp(self.pair(*b).0));
        let twice = spans.windows(2).any(|w| self.pair(w[0]).0 == self.pair(w[1]).0);
        self.spans = spans;
        let nameless = self.iter().any(|pair| pair.0.is_empty());
        if twice || nameless || self.get(METRIC_NAME).is_empty() {
            return Err(Refusal::InvalidLabels);
        }
        Ok(())
    }

    /// Whether one of the selectors matches; all do if there are none.
    pub fn matches(&self, selectors: &[Vec<Matcher>]) -> bool {
        selectors.is_empty() || selectors.iter().any(|all| all.iter().all(|m| m.matches(self.get(&m.name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(pairs: &[(&str, &str)], added: &[(&str, &str)]) -> Result<String, Refusal> {
        let mut scratch = LabelScratch::default();
        for (name, value) in pairs {
            scratch.push(name, value);
        }
        scratch.finish(&Labels::from_pairs(added.iter().copied()))?;
        Ok(scratch.iter().map(|(n, v)| format!("{n}={v} ")).collect())
    }

    #[test]
    fn sets_are_made_fit_to_be_stored() {
        let ok = |text: &str| Ok(text.to_owned());
        let n = ("__name__", "m");
        assert_eq!(finished(&[("b", "2"), n, ("a", "1"), ("c", "")], &[]), ok("__name__=m a=1 b=2 "));
        assert_eq!(
            finished(&[n, ("job", "x")], &[("job", "y"), ("z", "1")]),
            ok("__name__=m exported_job=x job=y z=1 ")
        );
        assert_eq!(
            finished(&[n, ("job", "x"), ("exported_job", "w")], &[("job", "y")]),
            ok("__name__=m exported_exported_job=x exported_job=w job=y ")
        );
        for wrong in
            [&[("a", "1")][..], &[n, ("a", "1"), ("a", "2")], &[n, ("", "x")], &[("__name__", "")], &[]]
        {
            assert_eq!(finished(wrong, &[]), Err(Refusal::InvalidLabels), "{wrong:?}");
        }
    }

    #[test]
    fn series_are_found_in_any_order() {
        let mut cache = SeriesCache::default();
        let keys: Vec<u128> = (0..1000u32).map(|i| cache.key(0, &i.to_le_bytes())).collect();
        for round in 0..4u32 {
            for i in 0..1000u32 {
                // In order, in order, backwards, jumping.
                let i = match round {
                    2 => 999 - i,
                    3 => i * 7 % 1000,
                    _ => i,
                };
                let key = keys[i as usize];
                match cache.get(key) {
                    Some(known) => assert_eq!(known, Known::Id(SeriesId(i))),
                    None => {
                        assert_eq!(round, 0);
                        cache.insert(key, Known::Id(SeriesId(i)));
                    }
                }
            }
        }
        assert_ne!(cache.key(0, b"a"), cache.key(1, b"a"));
        cache.clear();
        assert_eq!(cache.get(keys[0]), None);
    }

    #[test]
    fn the_cache_takes_no_more_than_it_may() {
        let bytes = 100 << 10;
        let mut cache = SeriesCache::with_bytes(bytes);
        for i in 0..10_000u32 {
            let key = cache.key(0, &i.to_le_bytes());
            cache.insert(key, Known::Id(SeriesId(i)));
            assert_eq!(cache.get(key), Some(Known::Id(SeriesId(i))));
            let taken = cache.entries.capacity() * size_of::<Entry>() + cache.table.allocation_size();
            assert!(taken <= bytes, "{taken}");
        }
    }
}
