//! The columns of a batch of samples. Within a series samples keep their order in the log although each kind of them
//! has its own record: where that would not hold, a new set of columns is begun.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tsdbctl_model::{FloatHistogram, Histogram, Labels};
use tsdbctl_wal::record::SampleEntry;

use crate::live::index::SeriesId;
use crate::replay::Metadata;

/// Entries for one record, and whose they are.
#[derive(Debug)]
pub(super) struct Column<V> {
    /// The series of each entry.
    pub ids: Vec<SeriesId>,
    /// As they are logged.
    pub entries: Vec<SampleEntry<V>>,
}

impl<V> Default for Column<V> {
    fn default() -> Self {
        Self { ids: Vec::new(), entries: Vec::new() }
    }
}

impl<V> Column<V> {
    pub fn push(&mut self, id: SeriesId, entry: SampleEntry<V>) {
        self.ids.push(id);
        self.entries.push(entry);
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn clear(&mut self) {
        self.ids.clear();
        self.entries.clear();
    }
}

/// What a series has been given last in a set of columns. The order is that of their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Histogram,
    CustomHistogram,
    FloatHistogram,
    CustomFloatHistogram,
}

/// One set of columns.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub metadata: Vec<(SeriesId, u64, Metadata)>,
    pub floats: Column<f64>,
    pub histograms: Column<Histogram>,
    pub custom_histograms: Column<Histogram>,
    pub float_histograms: Column<FloatHistogram>,
    pub custom_float_histograms: Column<FloatHistogram>,
    pub exemplars: Column<(f64, Labels)>,
}

impl Batch {
    /// Samples of all kinds.
    pub fn samples(&self) -> usize {
        self.floats.len()
            + self.histograms.len()
            + self.custom_histograms.len()
            + self.float_histograms.len()
            + self.custom_float_histograms.len()
    }

    /// The series of all samples, in runs.
    pub fn sample_ids(&self) -> [&[SeriesId]; 5] {
        [
            &self.floats.ids,
            &self.histograms.ids,
            &self.custom_histograms.ids,
            &self.float_histograms.ids,
            &self.custom_float_histograms.ids,
        ]
    }

    pub fn clear(&mut self) {
        self.metadata.clear();
        self.floats.clear();
        self.histograms.clear();
        self.custom_histograms.clear();
        self.float_histograms.clear();
        self.custom_float_histograms.clear();
        self.exemplars.clear();
    }
}

/// The sets of columns of a batch: one, unless a series changed its kind in an order that the records do not keep.
#[derive(Debug, Default)]
pub(super) struct Batches {
    list: Vec<Batch>,
    used: usize,
    /// Kinds of the series in the last set; floats are not noted.
    kinds: HashMap<SeriesId, Kind>,
}

impl Batches {
    /// The sets that are in use.
    pub fn used(&mut self) -> &mut [Batch] {
        &mut self.list[..self.used]
    }

    /// The same, to look at.
    pub fn iter(&self) -> impl Iterator<Item = &Batch> {
        self.list[..self.used].iter()
    }

    pub fn clear(&mut self) {
        for batch in &mut self.list[..self.used] {
            batch.clear();
        }
        self.used = 0;
        self.kinds.clear();
    }

    /// Whether nothing but floats came so far.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The kind of histograms that the series was given last.
    pub fn kind(&self, id: SeriesId) -> Kind {
        if self.kinds.is_empty() { Kind::Float } else { self.kinds.get(&id).copied().unwrap_or(Kind::Float) }
    }

    /// The last set.
    #[inline]
    pub fn last(&mut self) -> &mut Batch {
        if self.used == 0 {
            return self.begin();
        }
        &mut self.list[self.used - 1]
    }

    fn begin(&mut self) -> &mut Batch {
        if self.used == self.list.len() {
            self.list.push(Batch::default());
        }
        self.kinds.clear();
        self.used += 1;
        &mut self.list[self.used - 1]
    }

    /// The set for a sample of the kind.
    pub fn for_kind(&mut self, id: SeriesId, kind: Kind) -> &mut Batch {
        if self.used == 0 {
            self.begin();
        }
        let fits = if kind == Kind::Float {
            self.kinds.is_empty() || !self.kinds.contains_key(&id)
        } else {
            match self.kinds.entry(id) {
                Entry::Occupied(before) => *before.get() == kind,
                Entry::Vacant(free) => {
                    free.insert(kind);
                    true
                }
            }
        };
        if fits {
            return self.last();
        }
        self.begin();
        if kind != Kind::Float {
            self.kinds.insert(id, kind);
        }
        self.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_set_begins_where_the_order_of_records_would_turn_samples_around() {
        use Kind::*;
        let cases: &[(&[(u32, Kind)], usize)] = &[
            (&[(1, Float), (1, Float), (2, Float)], 1),
            (&[(1, Float), (1, Histogram), (1, Histogram), (2, FloatHistogram)], 1),
            (&[(1, Histogram), (2, Float)], 1),
            (&[(1, Histogram), (1, Float)], 2),
            (&[(1, Histogram), (1, Float), (1, Histogram), (1, Float)], 3),
            (&[(1, Histogram), (1, CustomHistogram)], 2),
            (&[(1, Histogram), (1, FloatHistogram), (1, FloatHistogram)], 2),
            (&[(1, Histogram), (2, Histogram), (2, Float), (1, Float)], 2),
        ];
        let mut batches = Batches::default();
        for (samples, sets) in cases {
            for (id, kind) in *samples {
                batches.for_kind(SeriesId(*id), *kind);
            }
            assert_eq!(batches.used().len(), *sets, "{samples:?}");
            batches.clear();
        }
    }
}
