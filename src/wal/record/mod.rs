//! What a record says.
//!
//! ```text
//! record:    type (1) · entries to the end of the record
//! series  1: ref (8) · labels
//! labels:    count (uvarint) · (name · value)…, strings with a uvarint length in front
//! samples 2: base ref (8) · base t (8) · (Δref varint · Δt varint · value (8))…, Δ to the base
//! tombst. 3: ref (8) · mint varint · maxt varint
//! exempl. 4: base ref (8) · base t (8) · (Δref · Δt · value · labels)…
//! markers 5: ref (8) · chunk ref (8)
//! metad.  6: ref uvarint · type (1) · count uvarint · (name · value)…
//! histogr. 7, 9 (custom buckets), float histogr. 8, 10: as samples, with a histogram for the value
//! v2 11 samples, 12 histograms, 13 float histograms:
//!            ref varint · t varint · start t varint · value, then
//!            (Δref to the entry before · Δt to the first · start marker [· Δ to the first start t varint] · value)…
//!            start marker: 0 none, 1 the entry's before, 2 explicit
//! histogram: hint (1) · schema varint · zero threshold (8) · zero count · count · sum (8) · positive spans ·
//!            negative spans · positive buckets · negative buckets [· custom bounds (8 each) if schema is −53]
//!            spans: count · (offset varint · length uvarint)…; integer: counts uvarint, buckets varint deltas;
//!            float: counts and buckets (8), absolute
//! ```
//! Numbers of fixed width are big-endian.

pub mod decode;
pub mod encode;
pub mod histogram;

use tsdbctl_model::{FloatHistogram, Histogram};

use crate::cursor::{Cursor, ShortRecord};

pub use decode::{decode, has_samples, timestamps};

/// The first byte of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordType {
    /// Labels of new series.
    Series = 1,
    /// Float samples.
    Samples = 2,
    /// Deleted time ranges of series.
    Tombstones = 3,
    /// Exemplars.
    Exemplars = 4,
    /// All out-of-order samples of a series so far lie in mapped chunks.
    MmapMarkers = 5,
    /// Type, unit and help of series.
    Metadata = 6,
    /// Integer histograms with exponential buckets.
    HistogramSamples = 7,
    /// Float histograms with exponential buckets.
    FloatHistogramSamples = 8,
    /// Integer histograms with custom buckets.
    CustomBucketsHistogramSamples = 9,
    /// Float histograms with custom buckets.
    CustomBucketsFloatHistogramSamples = 10,
    /// Float samples with start timestamps.
    SamplesV2 = 11,
    /// Integer histograms with start timestamps.
    HistogramSamplesV2 = 12,
    /// Float histograms with start timestamps.
    FloatHistogramSamplesV2 = 13,
}

impl RecordType {
    /// The type of a record; `None` for an empty record or a type that is not known.
    pub fn of(record: &[u8]) -> Option<Self> {
        Some(match record.first()? {
            1 => Self::Series,
            2 => Self::Samples,
            3 => Self::Tombstones,
            4 => Self::Exemplars,
            5 => Self::MmapMarkers,
            6 => Self::Metadata,
            7 => Self::HistogramSamples,
            8 => Self::FloatHistogramSamples,
            9 => Self::CustomBucketsHistogramSamples,
            10 => Self::CustomBucketsFloatHistogramSamples,
            11 => Self::SamplesV2,
            12 => Self::HistogramSamplesV2,
            13 => Self::FloatHistogramSamplesV2,
            _ => return None,
        })
    }

    /// Upstream's name of the type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Samples => "samples",
            Self::Tombstones => "tombstones",
            Self::Exemplars => "exemplars",
            Self::MmapMarkers => "mmapmarkers",
            Self::Metadata => "metadata",
            Self::HistogramSamples => "histogram_samples",
            Self::FloatHistogramSamples => "float_histogram_samples",
            Self::CustomBucketsHistogramSamples => "custom_buckets_histogram_samples",
            Self::CustomBucketsFloatHistogramSamples => "custom_buckets_float_histogram_samples",
            Self::SamplesV2 => "samples_v2",
            Self::HistogramSamplesV2 => "histogram_samples_v2",
            Self::FloatHistogramSamplesV2 => "float_histogram_samples_v2",
        }
    }
}

/// A label set as it lies in a record, its length checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodedLabels<'a> {
    bytes: &'a [u8],
}

impl<'a> EncodedLabels<'a> {
    /// Reads a label set.
    ///
    /// # Errors
    /// If it is longer than what is left.
    pub fn read(cursor: &mut Cursor<'a>) -> Result<Self, ShortRecord> {
        let start = cursor.rest();
        let n = cursor.count(2)?;
        for _ in 0..n * 2 {
            cursor.string()?;
        }
        Ok(Self { bytes: &start[..start.len() - cursor.len()] })
    }

    /// The bytes in the record; equal sets have equal bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Names and values in the record's order, which is that of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut cursor = Cursor::new(self.bytes);
        let n = cursor.uvarint().unwrap_or(0);
        (0..n).map_while(move |_| Some((cursor.string().ok()?, cursor.string().ok()?)))
    }
}

/// A series and its reference, which other records use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesEntry<'a> {
    /// The reference.
    pub series: u64,
    /// The labels.
    pub labels: EncodedLabels<'a>,
}

/// One sample of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleEntry<V> {
    /// The series' reference.
    pub series: u64,
    /// Start timestamp, Unix milliseconds; 0 for none.
    pub start_timestamp_ms: i64,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// The value.
    pub value: V,
}

/// A deleted time range of a series, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TombstoneEntry {
    /// The series' reference.
    pub series: u64,
    /// Earliest deleted time, Unix milliseconds.
    pub mint: i64,
    /// Latest deleted time, Unix milliseconds.
    pub maxt: i64,
}

impl TombstoneEntry {
    /// Whether it covers all of time: the series itself was removed.
    pub fn is_whole_series(&self) -> bool {
        (self.mint, self.maxt) == (i64::MIN, i64::MAX)
    }
}

/// One exemplar of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarEntry<'a> {
    /// The series' reference.
    pub series: u64,
    /// Unix milliseconds.
    pub timestamp_ms: i64,
    /// The observed value.
    pub value: f64,
    /// The exemplar's own labels.
    pub labels: EncodedLabels<'a>,
}

/// A mapped out-of-order chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkerEntry {
    /// The series' reference.
    pub series: u64,
    /// File number in the upper, offset in the lower 32 bits; 0 for a series' first samples.
    pub chunk: u64,
}

/// What is known about a series' metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataEntry<'a> {
    /// The series' reference.
    pub series: u64,
    /// Upstream's number of the metric type.
    pub metric_type: u8,
    /// The unit.
    pub unit: &'a [u8],
    /// The help text.
    pub help: &'a [u8],
}

/// Receives the entries of records. Nothing is allocated for them but histograms.
#[allow(unused_variables)]
pub trait Visitor {
    /// A series.
    fn series(&mut self, entry: SeriesEntry<'_>) {}
    /// A float sample.
    fn sample(&mut self, entry: SampleEntry<f64>) {}
    /// Whether the histogram sample of this series at this time is wanted; if not it is skipped unbuilt.
    fn wants_histogram(&mut self, series: u64, timestamp_ms: i64) -> bool {
        true
    }
    /// An integer histogram.
    fn histogram(&mut self, entry: SampleEntry<Histogram>) {}
    /// A float histogram.
    fn float_histogram(&mut self, entry: SampleEntry<FloatHistogram>) {}
    /// A histogram left out because its schema is none that is known.
    fn unknown_schema(&mut self, series: u64, schema: i32) {}
    /// A deleted range.
    fn tombstone(&mut self, entry: TombstoneEntry) {}
    /// An exemplar.
    fn exemplar(&mut self, entry: ExemplarEntry<'_>) {}
    /// A mapped out-of-order chunk.
    fn marker(&mut self, entry: MarkerEntry) {}
    /// Metadata.
    fn metadata(&mut self, entry: MetadataEntry<'_>) {}
    /// A record of a type that is not known.
    fn unknown(&mut self, record_type: u8) {}
}

/// A record that is not what its type says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} record: {source}", record_type.as_str())]
pub struct RecordError {
    /// The record's type.
    pub record_type: RecordType,
    /// Why.
    #[source]
    pub source: ShortRecord,
}
