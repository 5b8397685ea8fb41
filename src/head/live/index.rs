//! Which series there are: label pairs, label sets, postings, and the way from labels to a series.
//!
//! ```text
//! a label set in its arena: uvarint number of the pair, for every label in order of the names
//! ```
//!
//! At a million series with nine labels each and 115,000 pairs this takes about 50 bytes per series: the set 17, its
//! address 4, the hash table 5 to 11, pairs with their postings 20.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tsdbctl_model::Labels;

use crate::live::arena::{Arena, NONE, push_uvarint, take_uvarint};
use crate::live::paged::Places;
use crate::live::pairs::Pairs;
use crate::live::split_table::SplitTable;

/// Number of a series in this head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u32);

impl SeriesId {
    /// No series.
    pub const NONE: Self = Self(u32::MAX);
}

/// The index of a head, without the samples. Label sets are runs of pair numbers, a pair is a name with a value.
#[derive(Debug, Default)]
pub struct Index {
    pub(super) pairs: Pairs,
    sets: Arena,
    /// Addresses in `sets`.
    pub(super) places: Places,
    by_set: SplitTable,
    hasher: RandomState,
    live: usize,
    removals: u64,
}

/// A label set's encoded pair numbers while it is looked up.
type Key = SmallVec<[u8; 96]>;

#[inline]
fn hash(hasher: &RandomState, set: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(set);
    state.finish()
}

/// Pair numbers of a label set.
#[derive(Clone, Debug)]
pub struct PairNumbers<'a>(&'a [u8]);

impl Iterator for PairNumbers<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        take_uvarint(&mut self.0)
    }
}

/// Names and values of a label set.
#[derive(Clone, Debug)]
pub struct LabelIter<'a> {
    pairs: &'a Pairs,
    numbers: PairNumbers<'a>,
}

impl<'a> Iterator for LabelIter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.numbers.next().map(|pair| self.pairs.text(pair))
    }
}

/// Pair numbers of a label set that was looked up, `NONE` for pairs that were not there.
#[derive(Debug, Default)]
pub struct LookedUp {
    pairs: SmallVec<[u32; 24]>,
    /// [`Index::removals`] then: numbers hold as long as it stays.
    removals: u64,
}

impl Index {
    /// As [`Index::find`], keeping what was found on the way for [`Index::create`].
    pub fn look_up<'a>(
        &self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<SeriesId, LookedUp> {
        let mut key = Key::new();
        let mut found = LookedUp { pairs: SmallVec::new(), removals: self.removals };
        let mut all = true;
        for (name, value) in labels {
            let pair = self.pairs.find(name, value).unwrap_or(NONE);
            all &= pair != NONE;
            if all {
                push_uvarint(&mut key, pair);
            }
            found.pairs.push(pair);
        }
        if all { self.find_key(&key).ok_or(found) } else { Err(found) }
    }

    /// The series of a label set: sorted by name, names unique, no empty values.
    pub fn find<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<SeriesId> {
        let mut key = Key::new();
        for (name, value) in labels {
            push_uvarint(&mut key, self.pairs.find(name, value)?);
        }
        self.find_key(&key)
    }

    #[inline]
    fn find_key(&self, key: &[u8]) -> Option<SeriesId> {
        let is_it = |id| self.sets.get(self.places.get(id)) == key;
        self.by_set.find(hash(&self.hasher, key), is_it).map(SeriesId)
    }

    /// The series of a label set, made if it is new, which the second says. The caller makes its record under the same
    /// lock. [`SeriesId::NONE`] if the index is full.
    pub fn find_or_create<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> (SeriesId, bool) {
        self.create(labels, &LookedUp::default())
    }

    /// As [`Index::find_or_create`]; what was looked up for these labels before need not be again.
    pub fn create<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        known: &LookedUp,
    ) -> (SeriesId, bool) {
        let mut key = Key::new();
        let mut pairs = SmallVec::<[u32; 24]>::new();
        let before = self.pairs.count();
        let mut has_room = true;
        let known = if known.removals == self.removals { known.pairs.as_slice() } else { &[] };
        for (i, (name, value)) in labels.enumerate() {
            let pair = match known.get(i) {
                Some(pair) if *pair != NONE => Some(*pair),
                _ => self.pairs.find_or_create(name, value),
            };
            let Some(pair) = pair else {
                has_room = false;
                break;
            };
            push_uvarint(&mut key, pair);
            pairs.push(pair);
        }
        // A pair that was never used before is in no set.
        let is_known = pairs.iter().all(|p| (*p as usize) < before && self.pairs.series(*p).is_some());
        if has_room
            && (is_known || pairs.is_empty())
            && let Some(id) = self.find_key(&key)
        {
            return (id, false);
        }
        let id = self.places.len();
        let place = if has_room && id < u32::MAX { self.sets.push(&key, &[]) } else { None };
        let Some(place) = place else {
            pairs.iter().for_each(|p| self.pairs.release_if_unused(*p));
            return (SeriesId::NONE, false);
        };
        self.places.push(place);
        self.live += 1;
        pairs.iter().for_each(|pair| self.pairs.add_series(*pair, id));
        let (sets, places, hasher) = (&self.sets, &self.places, &self.hasher);
        self.by_set.insert(hash(hasher, &key), id, |id| hash(hasher, sets.get(places.get(id))));
        (SeriesId(id), true)
    }

    /// Names and values of a series in order of the names; none if it was removed.
    pub fn labels(&self, id: SeriesId) -> LabelIter<'_> {
        LabelIter { pairs: &self.pairs, numbers: self.pair_numbers(id) }
    }

    /// The label set as strings.
    pub fn owned_labels(&self, id: SeriesId) -> Labels {
        Labels::from_pairs(self.labels(id))
    }

    /// The numbers of a series' pairs in order of the names; none if it was removed. They hold until a series is
    /// removed.
    #[inline]
    pub fn pair_numbers(&self, id: SeriesId) -> PairNumbers<'_> {
        PairNumbers(self.sets.get(self.places.get(id.0)))
    }

    /// Name and value of a pair.
    #[inline]
    pub fn pair(&self, number: u32) -> (&str, &str) {
        self.pairs.text(number)
    }

    /// Name and value of a pair as bytes: nothing is checked.
    #[inline]
    pub fn pair_bytes(&self, number: u32) -> (&[u8], &[u8]) {
        self.pairs.bytes_of(number)
    }

    /// All pair numbers are below this.
    pub fn pair_count(&self) -> usize {
        self.pairs.count()
    }

    /// How often series were removed: while this stays the same, so does what pair numbers mean.
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Takes series out; their numbers are not used again.
    pub fn remove(&mut self, ids: &[SeriesId]) {
        let mut gone: Vec<u32> =
            ids.iter().map(|id| id.0).filter(|id| self.places.get(*id) != NONE).collect();
        gone.sort_unstable();
        gone.dedup();
        if gone.is_empty() {
            return;
        }
        let mut touched = PairSet::new(self.pairs.count());
        for id in &gone {
            let place = self.places.get(*id);
            let set = self.sets.get(place);
            PairNumbers(set).for_each(|pair| touched.add(pair));
            self.by_set.remove(hash(&self.hasher, set), *id);
            self.sets.free(place);
            self.places.clear(*id);
        }
        self.live -= gone.len();
        self.removals += 1;
        touched.iter().for_each(|pair| self.pairs.remove_series(pair, &gone));
        self.pairs.shrink();
        if let Some(sparse) = self.sets.sparse() {
            for place in self.places.iter_mut().filter(|p| sparse.has(**p)) {
                *place = self.sets.relocate(*place);
            }
        }
        let (sets, places, hasher) = (&self.sets, &self.places, &self.hasher);
        self.by_set.shrink(|id| hash(hasher, sets.get(places.get(id))));
    }

    /// Live series, ascending.
    pub fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.places.iter().map(|(id, _)| SeriesId(id))
    }

    /// Whether a series is live.
    pub fn is_live(&self, id: SeriesId) -> bool {
        self.places.get(id.0) != NONE
    }

    /// All label names of live series, sorted.
    pub fn label_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.pairs.names().map(str::to_string).collect();
        names.sort_unstable();
        names
    }

    /// All values of a name among live series, sorted.
    pub fn label_values(&self, name: &str) -> Vec<String> {
        let Some(name) = self.pairs.name(name) else { return Vec::new() };
        let mut values: Vec<String> =
            self.pairs.of_name(name).map(|pair| self.pairs.text(pair).1.to_string()).collect();
        values.sort_unstable();
        values
    }

    /// Number of live series.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The number that the next new series gets: one above the highest ever given.
    pub fn next_id(&self) -> u32 {
        self.places.len()
    }

    /// Whether no new series should be made: numbers or addresses are about to run out (at some 4 GiB of text).
    pub fn is_nearly_full(&self) -> bool {
        self.places.len() >= u32::MAX - 1024 || self.sets.is_nearly_full() || self.pairs.is_nearly_full()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.pairs.bytes() + self.sets.bytes() + self.places.bytes() + self.by_set.bytes()
    }
}

/// Some of an index' pairs.
pub(super) struct PairSet(Vec<u64>);

impl PairSet {
    /// None of `count`.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    pub(super) fn add(&mut self, pair: u32) {
        if let Some(word) = self.0.get_mut(pair as usize / 64) {
            *word |= 1 << (pair % 64);
        }
    }

    #[inline]
    pub(super) fn has(&self, pair: u32) -> bool {
        self.0.get(pair as usize / 64).is_some_and(|word| word >> (pair % 64) & 1 != 0)
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(i, word)| {
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| i as u32 * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set = Vec<(String, String)>;

    fn pairs(set: &Set) -> impl Iterator<Item = (&str, &str)> + Clone {
        set.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    fn set(text: &str) -> Set {
        let mut all: Set = text
            .split(',')
            .filter_map(|p| p.split_once('='))
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_label_set_has_one_series_until_it_is_removed_and_then_a_new_one() {
        let mut index = Index::default();
        let a = set("__name__=up,job=node");
        let b = set("__name__=up,job=nod");
        assert_eq!(index.find(pairs(&a)), None);
        assert_eq!(index.find_or_create(pairs(&a)), (SeriesId(0), true));
        assert_eq!(index.find_or_create(pairs(&b)), (SeriesId(1), true));
        assert_eq!(index.find_or_create(pairs(&a)), (SeriesId(0), false));
        assert_eq!((index.find(pairs(&a)), index.find(pairs(&b))), (Some(SeriesId(0)), Some(SeriesId(1))));
        assert_eq!(index.owned_labels(SeriesId(1)).to_string(), r#"{__name__="up", job="nod"}"#);
        assert_eq!(
            (index.label_names(), index.label_values("job")),
            (vec!["__name__".into(), "job".into()], vec!["nod".to_string(), "node".into()])
        );
        index.remove(&[SeriesId(0), SeriesId(0), SeriesId(7)]);
        assert_eq!((index.len(), index.find(pairs(&a)), index.labels(SeriesId(0)).count()), (1, None, 0));
        assert_eq!(index.label_values("job"), ["nod"]);
        assert_eq!(index.find_or_create(pairs(&a)), (SeriesId(2), true));
        assert_eq!((index.next_id(), index.ids().collect::<Vec<_>>()), (3, vec![SeriesId(1), SeriesId(2)]));
        index.remove(&[SeriesId(1), SeriesId(2)]);
        assert!(index.is_empty() && index.label_names().is_empty() && index.label_values("job").is_empty());
    }

    #[test]
    fn values_may_be_long_and_a_pair_is_not_its_text_put_together() {
        let mut index = Index::default();
        let long = format!("a={},b=c", "x".repeat(200_000));
        let sets = [set("a=bc"), set("ab=c"), set(&long), set("a=b,c=d"), set("")];
        for (i, s) in sets.iter().enumerate() {
            assert_eq!(index.find_or_create(pairs(s)), (SeriesId(i as u32), true));
        }
        for (i, s) in sets.iter().enumerate() {
            assert_eq!(index.find(pairs(s)), Some(SeriesId(i as u32)));
            assert!(index.labels(SeriesId(i as u32)).eq(pairs(s)));
        }
    }

    /// Label sets of a fleet as a server sees it: machines, services with histograms, containers of pods.
    fn fleet(series: usize) -> Vec<Set> {
        let mut all = Vec::with_capacity(series);
        for host in 0u64.. {
            let unit = format!("cluster=eu-west-{},env=prod", host % 3);
            let name = format!("host-{host:04}.eu-west-{}.example.com", host % 3 + 1);
            let node = format!("{unit},instance={name}:9100,job=node");
            for i in 0..64 {
                all.push(set(&format!(
                    "__name__=node_cpu_seconds_total,{node},cpu={},mode=m{}",
                    i / 8,
                    i % 8
                )));
            }
            for i in 0..110 {
                let (family, device) = (i % 22, i / 22);
                all.push(set(&format!(
                    "__name__=node_network_{family}_total,{node},device=eth{device},zone=z"
                )));
                all.push(set(&format!("__name__=node_memory_{i}_bytes,{node}")));
            }
            for i in 0..156 {
                let (handler, le) = (i / 26, i % 13);
                all.push(set(&format!(
                    "__name__=http_request_duration_seconds_bucket,{unit},instance={name}:8080,job=api,code={},\
                     handler=/api/v1/{handler},method=GET,le={le}",
                    i / 13 % 2
                )));
            }
            for pod in 0..16 {
                let n = host * 16 + pod;
                let hex = format!("{:012x}", n.wrapping_mul(0x9e37_79b9_7f4a) & 0xffff_ffff_ffff);
                let pod = format!("namespace=ns{},pod=checkout-{n:08x}-{:05x}", n % 6, n * 7919 % 0xfffff);
                for i in 0..11 {
                    all.push(set(&format!(
                        "__name__=container_{i}_total,{unit},instance={name}:10250,job=kubelet,node={name},{pod},\
                         container=checkout,id=/kubepods/burstable/pod{hex}-{hex}/{hex},image=registry/shop:v{},\
                         name=k8s_checkout_checkout-{n:08x}_{n}",
                        n % 4
                    )));
                    all.push(set(&format!(
                        "__name__=kube_pod_{i},{unit},instance=kube-state-metrics:8080,job=kube-state-metrics,{pod},\
                         uid={hex}-{hex}"
                    )));
                }
            }
            if all.len() >= series {
                all.truncate(series);
                return all;
            }
        }
        all
    }

    #[test]
    fn a_hundred_thousand_series_of_a_fleet_take_less_than_a_hundred_bytes_each() {
        let sets = fleet(100_000);
        let labels: usize = sets.iter().map(Vec::len).sum();
        assert!((800_000..950_000).contains(&labels), "{labels}");
        let mut index = Index::default();
        for s in &sets {
            assert!(index.find_or_create(pairs(s)).1);
        }
        let each = index.bytes() as f64 / sets.len() as f64;
        let part = |bytes: usize| bytes as f64 / sets.len() as f64;
        let parts = [
            ("sets", part(index.sets.bytes())),
            ("places", part(index.places.bytes())),
            ("hash", part(index.by_set.bytes())),
            ("pairs", part(index.pairs.bytes())),
        ];
        assert!(each < 100.0, "{each:.1} bytes per series, {} pairs: {parts:?}", index.pair_count());
        for (i, s) in sets.iter().enumerate().step_by(7) {
            assert_eq!(index.find(pairs(s)), Some(SeriesId(i as u32)));
        }
    }

    #[test]
    fn fresh_values_that_come_and_go_do_not_pile_up() {
        let mut index = Index::default();
        for i in 0..2000 {
            index.find_or_create(pairs(&set(&format!("__name__=up,instance=i{i},job=node"))));
        }
        let stay = index.len();
        let mut most_early = 0;
        let mut most_late = 0;
        for round in 0..20 {
            let made: Vec<SeriesId> = (0..3000)
                .map(|i| {
                    let s = set(&format!(
                        "__name__=up,instance=i{},pod=p{round}-{i},n{round}=x{i},job=node",
                        i % 2500
                    ));
                    index.find_or_create(pairs(&s)).0
                })
                .collect();
            let most = if round < 5 { &mut most_early } else { &mut most_late };
            *most = index.bytes().max(*most);
            // At one go, in pieces, and with survivors that go a round later.
            match round % 3 {
                0 => index.remove(&made),
                1 => made.chunks(500).for_each(|ids| index.remove(ids)),
                _ => {
                    let (now, later): (Vec<_>, Vec<_>) = made.iter().partition(|id| !id.0.is_multiple_of(10));
                    index.remove(&now);
                    index.remove(&later);
                }
            }
            assert_eq!(index.len(), stay);
        }
        assert!(most_late < most_early + most_early / 10, "{most_late} bytes after {most_early}");
        assert_eq!(index.label_names(), ["__name__", "instance", "job"]);
        for i in 0..2000 {
            let s = set(&format!("__name__=up,instance=i{i},job=node"));
            assert_eq!(index.find(pairs(&s)), Some(SeriesId(i)));
        }
    }
}
