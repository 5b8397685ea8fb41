//! Whatever can be queried as a source of series with their chunks: samples are read and encoded anew. For heads, and for
//! what a query computes; blocks have their chunks already and are copied.

use std::path::{Path, PathBuf};

use tsdbctl_chunk::{AppenderOptions, ChunkError, SampleColumns, SeriesAppender};
use tsdbctl_model::{FloatHistogram, Histogram, Matcher, SymbolTable};

use crate::chunk_source::{ChunkBatch, ChunkSource, EncodedChunk, LabelRef};
use crate::control::Control;
use crate::error::StorageError;
use crate::querier::{Querier, ReadStats, SelectHints, SeriesSet, TimeFilter};
use crate::series_table::SeriesTable;

/// Selected series of a querier, in label order.
///
/// Chunks are cut where upstream's head cuts them. Floats with start timestamps become XOR2, others XOR; histograms with
/// start timestamps get the encodings that have a place for them.
pub struct QuerierSource {
    /// What is read, for errors.
    what: PathBuf,
    sets: Vec<Box<dyn SeriesSet>>,
    table: SymbolTable,
    /// Symbols that series use, sorted by their strings.
    sorted: Vec<u32>,
    /// Place in `sorted`, by symbol.
    ranks: Vec<u32>,
    /// Set and place in it, by label order.
    order: Vec<(u32, u32)>,
    filter: TimeFilter,
    /// Number of the series, from 1.
    at: usize,
    labels: Vec<LabelRef>,
    samples: SampleColumns,
}

impl QuerierSource {
    /// The series that satisfy all matchers of one of `selections` (all series if there are none), samples of
    /// `mint..=maxt` (Unix ms). `what` is named if something is wrong.
    ///
    /// # Errors
    /// If the querier cannot read them, or a limit is reached.
    pub fn new(
        what: &Path,
        querier: &dyn Querier,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Self, StorageError> {
        let filter = TimeFilter::all_between(mint, maxt);
        let hints = SelectHints { start: filter.mint(), end: filter.maxt(), ..SelectHints::default() };
        let mut table = SymbolTable::new();
        let mut sets = Vec::new();
        let everything = [Vec::new()];
        for matchers in if selections.is_empty() { &everything } else { selections } {
            sets.push(querier.select(&hints, matchers, &mut table, control)?);
        }
        let labels = |place: &(u32, u32)| sets[place.0 as usize].labels(place.1 as usize);
        let mut order = Vec::new();
        let mut is_used = vec![false; table.len()];
        for (set, i) in sets.iter().enumerate().flat_map(|(set, s)| (0..s.len()).map(move |i| (set, i))) {
            let place = (set as u32, i as u32);
            for (name, value) in labels(&place) {
                is_used[name.0 as usize] = true;
                is_used[value.0 as usize] = true;
            }
            order.push(place);
        }
        let resolve = |symbol: u32| table.resolve(tsdbctl_model::Sym(symbol));
        let mut sorted: Vec<u32> = (0..table.len() as u32).filter(|s| is_used[*s as usize]).collect();
        sorted.sort_unstable_by(|a, b| resolve(*a).cmp(resolve(*b)));
        let mut ranks = vec![0; table.len()];
        for (rank, symbol) in sorted.iter().enumerate() {
            ranks[*symbol as usize] = rank as u32;
        }
        let ranked = |place: &(u32, u32)| {
            labels(place).iter().map(|(n, v)| (ranks[n.0 as usize], ranks[v.0 as usize]))
        };
        order.sort_by(|a, b| ranked(a).cmp(ranked(b)));
        // A series may satisfy several selections.
        order.dedup_by(|b, a| labels(a) == labels(b));
        Ok(Self {
            what: what.to_owned(),
            sets,
            table,
            sorted,
            ranks,
            order,
            filter,
            at: 0,
            labels: Vec::new(),
            samples: SampleColumns::default(),
        })
    }
}

impl ChunkSource for QuerierSource {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.sorted.iter().try_for_each(|s| each(self.table.resolve(tsdbctl_model::Sym(*s))))
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        if self.at == self.order.len() {
            return Ok(false);
        }
        let mut labels = std::mem::take(&mut self.labels);
        labels.clear();
        self.labels_of(self.at, &mut labels)?;
        self.labels = labels;
        self.at += 1;
        Ok(true)
    }

    fn labels(&self) -> &[LabelRef] {
        &self.labels
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        self.chunks_of(self.at.saturating_sub(1), out)
    }
}

impl SeriesTable for QuerierSource {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn labels_of(&mut self, series: usize, out: &mut Vec<LabelRef>) -> Result<(), StorageError> {
        let (set, i) = self.order[series];
        let labels = self.sets[set as usize].labels(i as usize);
        out.extend(labels.iter().map(|(n, v)| (self.ranks[n.0 as usize], self.ranks[v.0 as usize])));
        Ok(())
    }

    fn chunks_of(&mut self, series: usize, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let (set, i) = self.order[series];
        self.samples.clear();
        let mut stats = ReadStats::default();
        self.sets[set as usize].read(i as usize, &self.filter, &mut self.samples, &mut stats)?;
        encode_samples(&self.samples, out).map_err(|e| StorageError::Unsupported {
            file: self.what.clone(),
            reason: format!("a sample cannot be encoded: {e}"),
        })
    }
}

/// Appends the samples of one series as chunks, encoded and cut as [`QuerierSource`] has it.
///
/// # Errors
/// If a histogram contradicts itself.
pub fn encode_samples(samples: &SampleColumns, out: &mut ChunkBatch) -> Result<(), ChunkError> {
    let (floats, histograms) = (&samples.floats, &samples.histograms);
    let has_start = |all: &[i64]| all.iter().any(|st| *st != 0);
    let st = has_start(&floats.st);
    let histograms_st = has_start(&histograms.st);
    let mut appender =
        SeriesAppender::new(AppenderOptions { xor2: st, st, histograms_st, ..AppenderOptions::default() });
    let mut next = 0;
    let mut histograms_before = |appender: &mut SeriesAppender, t: Option<i64>| {
        while let Some(at) = histograms.t.get(next).copied().filter(|at| t.is_none_or(|t| *at < t)) {
            let h = &histograms.h[next];
            let start = histograms.start_timestamp(next);
            if histograms.integer[next] {
                appender.append_histogram(at, &integer_histogram(h), start)?;
            } else {
                appender.append_float_histogram(at, h, start)?;
            }
            next += 1;
        }
        Ok::<(), ChunkError>(())
    };
    for (i, (t, v)) in floats.t.iter().zip(&floats.v).enumerate() {
        histograms_before(&mut appender, Some(*t))?;
        appender.append_float(*t, *v, floats.start_timestamp(i))?;
    }
    histograms_before(&mut appender, None)?;
    for chunk in appender.chunks() {
        out.push(EncodedChunk {
            encoding: chunk.encoding as u8,
            data: chunk.data,
            mint: chunk.mint,
            maxt: chunk.maxt,
        });
    }
    Ok(())
}

/// A histogram that was stored with integer counts, as such again. Counts above 2^53 were rounded when it was read.
pub fn integer_histogram(h: &FloatHistogram) -> Histogram {
    let deltas = |absolute: &[f64]| {
        let mut before = 0;
        let delta = |count: &f64| {
            let count = *count as i64;
            let delta = count.wrapping_sub(before);
            before = count;
            delta
        };
        absolute.iter().map(delta).collect()
    };
    Histogram {
        counter_reset_hint: h.counter_reset_hint,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count as u64,
        count: h.count as u64,
        sum: h.sum,
        positive_spans: h.positive_spans.clone(),
        negative_spans: h.negative_spans.clone(),
        positive_buckets: deltas(&h.positive_buckets),
        negative_buckets: deltas(&h.negative_buckets),
        custom_values: h.custom_values.clone(),
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_chunk::{Encoding, decode};
    use tsdbctl_model::histogram::BucketSpan;
    use tsdbctl_model::{CounterResetHint, Labels};

    use super::*;
    use crate::memory::{MemorySample, MemoryStore};
    use crate::querier::Queryable;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    fn histogram(n: u64) -> Histogram {
        Histogram {
            count: 3 * n + 1,
            sum: n as f64 / 3.0,
            zero_count: 1,
            zero_threshold: 0.001,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
            positive_buckets: vec![n as i64, n as i64],
            ..Histogram::default()
        }
    }

    /// All of a source: labels as text, times and texts of samples with their start timestamps.
    fn content(source: &mut dyn ChunkSource) -> Vec<(String, Vec<String>)> {
        let mut symbols = Vec::new();
        source
            .symbols(&mut |s| {
                symbols.push(s.to_owned());
                Ok(())
            })
            .unwrap();
        assert!(symbols.is_sorted_by(|a, b| a < b));
        let mut all: Vec<(String, Vec<String>)> = Vec::new();
        let mut before: Option<Vec<LabelRef>> = None;
        while source.next().unwrap() {
            let refs = source.labels().to_vec();
            assert!(before.as_ref().is_none_or(|b| *b < refs));
            let text: Vec<String> = refs
                .iter()
                .map(|(n, v)| format!("{}={}", symbols[*n as usize], symbols[*v as usize]))
                .collect();
            before = Some(refs);
            let mut batch = ChunkBatch::default();
            source.chunks(&mut batch).unwrap();
            let mut samples = Vec::new();
            for chunk in batch.iter() {
                let mut columns = SampleColumns::default();
                let encoding = Encoding::from_byte(chunk.encoding).unwrap();
                decode(encoding, chunk.data, i64::MIN, i64::MAX, &mut columns).unwrap();
                let f = &columns.floats;
                samples
                    .extend((0..f.len()).map(|i| format!("{} {} {}", f.t[i], f.v[i], f.start_timestamp(i))));
                let h = &columns.histograms;
                samples.extend(
                    (0..h.len())
                        .map(|i| format!("{} {} {} {}", h.t[i], h.h[i], h.integer[i], h.start_timestamp(i))),
                );
            }
            all.push((text.join(" "), samples));
        }
        all
    }

    #[test]
    fn series_come_in_label_order_with_the_samples_of_the_range() {
        let options =
            AppenderOptions { xor2: true, st: true, histograms_st: true, ..AppenderOptions::default() };
        let mut store = MemoryStore::new(options);
        let add = |store: &mut MemoryStore, l: &[(&str, &str)], t, st, s: MemorySample| {
            store.append(&labels(l), t, st, &s).unwrap();
        };
        for t in [10, 20, 30] {
            add(&mut store, &[("__name__", "z")], t, 5, MemorySample::Float(t as f64));
            add(&mut store, &[("__name__", "a"), ("x", "2")], t, 0, MemorySample::Float(0.5));
            add(&mut store, &[("__name__", "a")], t, 0, MemorySample::Histogram(histogram(t as u64)));
        }
        add(&mut store, &[("__name__", "a")], 25, 0, MemorySample::Float(f64::INFINITY));
        add(&mut store, &[("__name__", "a")], 40, 0, MemorySample::FloatHistogram(histogram(4).to_float()));
        let control = Control::default();
        let querier = store.querier(i64::MIN, i64::MAX, &[], &control).unwrap();
        let at = Path::new("memory");
        let mut source = QuerierSource::new(at, &*querier, 20, 39, &[], &control).unwrap();
        assert_eq!(source.len(), 3);
        let h = |n: u64| histogram(n).to_float().to_string();
        let want = [
            (
                "__name__=a",
                vec![format!("20 {} true 0", h(20)), "25 inf 0".to_owned(), format!("30 {} true 0", h(30))],
            ),
            ("__name__=a x=2", vec!["20 0.5 0".to_owned(), "30 0.5 0".to_owned()]),
            ("__name__=z", vec!["20 20 5".to_owned(), "30 30 5".to_owned()]),
        ];
        let want: Vec<_> = want.into_iter().map(|(l, s)| (l.to_owned(), s)).collect();
        assert_eq!(content(&mut source), want);
        // Each series once, however many selections it satisfies; float histograms stay such.
        let matcher = |value: &str| Matcher::new(tsdbctl_model::MatchType::Equal, "__name__", value).unwrap();
        let selections = [vec![matcher("a")], vec![matcher("a")]];
        let mut source = QuerierSource::new(at, &*querier, 40, 50, &selections, &control).unwrap();
        let found: Vec<_> = content(&mut source).into_iter().filter(|s| !s.1.is_empty()).collect();
        assert_eq!(found, [("__name__=a".to_owned(), vec![format!("40 {} false 0", h(4))])]);
    }

    #[test]
    fn histograms_read_as_floats_become_integers_again() {
        for h in [
            histogram(7),
            Histogram { sum: f64::from_bits(0x7ff0_0000_0000_0002), ..Histogram::default() },
            Histogram {
                counter_reset_hint: CounterResetHint::Gauge,
                schema: -53,
                count: 1 << 40,
                positive_spans: vec![BucketSpan { offset: 1, length: 3 }],
                positive_buckets: vec![1 << 39, -(1 << 38), 3],
                custom_values: Some(vec![1.0, 2.0].into()),
                ..Histogram::default()
            },
        ] {
            let back = integer_histogram(&h.to_float());
            assert!(back.equals(&h), "{back:?}");
            assert_eq!(back.counter_reset_hint, h.counter_reset_hint);
        }
    }
}
