//! The data a script loads: series of samples, start timestamps, and native histograms made of classic ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_model::histogram::nhcb::{ClassicSuffix, TempHistogram, split_classic_suffix};
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::{FloatHistogram, Labels};

use crate::parser::SequenceValue;

/// The label with a classic bucket's bound.
const BUCKET_LABEL: &str = "le";

/// One sample.
#[derive(Clone, Debug)]
pub struct LoadedSample {
    /// Unix ms.
    pub t: i64,
    /// Start timestamp, Unix ms; 0 where unknown.
    pub st: i64,
    /// The value where there is no histogram.
    pub value: f64,
    /// The histogram.
    pub histogram: Option<Arc<FloatHistogram>>,
}

/// One series.
#[derive(Clone, Debug)]
pub struct LoadedSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its samples by rising time.
    pub samples: Vec<LoadedSample>,
}

/// What one `load` adds.
#[derive(Clone, Debug)]
pub struct Load {
    /// Milliseconds between values.
    pub interval_ms: i64,
    /// Time of the first value, Unix ms.
    pub start_ms: i64,
    /// Classic histograms are added as native ones too.
    pub with_nhcb: bool,
    /// The series; of lines with equal labels the last.
    pub series: Vec<LoadedSeries>,
}

impl Load {
    /// Nothing yet.
    pub fn new(interval_ms: i64, with_nhcb: bool, start_ms: i64) -> Self {
        Self { interval_ms, start_ms, with_nhcb, series: Vec::new() }
    }

    /// Adds a line: `starts` holds offsets from the samples' times, ms, and is empty or as long as `values`.
    pub fn set(&mut self, labels: Labels, values: &[SequenceValue], starts: &[Option<i64>]) {
        let mut samples = Vec::with_capacity(values.len());
        for (i, v) in values.iter().enumerate() {
            if v.omitted {
                continue;
            }
            let t = self.start_ms.saturating_add(self.interval_ms.saturating_mul(i as i64));
            let st = starts.get(i).copied().flatten().map_or(0, |offset| t.saturating_add(offset));
            samples.push(LoadedSample { t, st, value: v.value, histogram: v.histogram.clone() });
        }
        let series = LoadedSeries { labels, samples };
        match self.series.iter_mut().find(|s| s.labels == series.labels) {
            Some(slot) => *slot = series,
            None => self.series.push(series),
        }
    }

    /// The native histograms with custom buckets that the classic histograms of this load make.
    ///
    /// # Errors
    /// If buckets, count and sum do not make a histogram.
    pub fn native_histograms(&self) -> Result<Vec<LoadedSeries>, String> {
        let mut by_base: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
        for series in &self.series {
            let (suffix, base) = split_classic_suffix(series.labels.get(METRIC_NAME));
            let le = match suffix {
                ClassicSuffix::None => continue,
                ClassicSuffix::Bucket => match series.labels.get(BUCKET_LABEL).parse::<f64>() {
                    Ok(le) if !le.is_nan() => Some(le),
                    _ => continue,
                },
                ClassicSuffix::Count | ClassicSuffix::Sum => None,
            };
            let mut labels = series.labels.clone();
            labels.set(METRIC_NAME, base);
            labels.remove(BUCKET_LABEL);
            let by_time = by_base.entry(labels).or_default();
            for sample in series.samples.iter().filter(|s| s.histogram.is_none()) {
                let classic = by_time.entry(sample.t).or_default();
                match (suffix, le) {
                    (ClassicSuffix::Bucket, Some(le)) => classic.buckets.push((le, sample.value)),
                    (ClassicSuffix::Count, _) => classic.count = Some(sample.value),
                    _ => classic.sum = sample.value,
                }
            }
        }
        by_base
            .into_iter()
            .map(|(labels, by_time)| {
                let samples = by_time
                    .into_iter()
                    .map(|(t, classic)| {
                        let h = classic.convert().map_err(|e| format!("{labels} at {t}: {e}"))?;
                        Ok(LoadedSample { t, st: 0, value: 0.0, histogram: Some(Arc::new(h)) })
                    })
                    .collect::<Result<Vec<_>, String>>()?;
                Ok(LoadedSeries { labels, samples })
            })
            .collect()
    }
}

/// The parts of a classic histogram at one time.
#[derive(Default)]
struct Classic {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn convert(mut self) -> Result<FloatHistogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut h = TempHistogram::new();
        for (le, count) in self.buckets {
            h.set_bucket_count(le, count).map_err(|e| e.to_string())?;
        }
        if let Some(count) = self.count {
            h.set_count(count).map_err(|e| e.to_string())?;
        }
        h.set_sum(self.sum).map_err(|e| e.to_string())?;
        let h = h.convert().map_err(|e| e.to_string())?.into_float();
        h.validate().map_err(|e| e.to_string())?;
        Ok(h)
    }
}
