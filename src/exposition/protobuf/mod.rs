//! Protobuf exposition: metric families, each behind its length, in the order of the text formats' lines.
//!
//! ```text
//! body = { varint length, MetricFamily }
//! ```

mod message;

use std::borrow::Cow;
use std::sync::Arc;

use tsdbctl_model::histogram::nhcb::{ConvertedHistogram, TempHistogram};
use tsdbctl_model::protobuf::varint;
use tsdbctl_model::sample::MetricType;
use tsdbctl_model::{CounterResetHint, FloatHistogram};

use crate::entry::{Entry, ExemplarStore, HistogramSeries, Series, SeriesLabels, Source};
use crate::error::ParseError;
use crate::line::Kind;
use crate::number::openmetrics_float;
use crate::parser::Options;
use message::{Exemplar, Family, Metric};

const COUNTER: u64 = 0;
const GAUGE: u64 = 1;
const SUMMARY: u64 = 2;
const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;
const GAUGE_HISTOGRAM: u64 = 5;

/// Which series of a summary or classic histogram is at hand; from 0 on, quantiles and buckets by index.
const BEFORE_COUNT: isize = -3;
const AT_COUNT: isize = -2;
const AT_SUM: isize = -1;

/// A parser of protobuf exposition.
#[derive(Clone, Debug)]
pub(crate) struct ProtobufParser<'b> {
    body: &'b [u8],
    at: usize,
    /// Where the current family's message begins, and which family it is.
    family_start: usize,
    family_number: usize,
    options: Options,
    family: Family<'b>,
    family_name: &'b str,
    next_metric: usize,
    metric: Metric<'b>,
    pairs: Vec<(&'b str, &'b str)>,
    /// The entry handed out last; `None` before a family.
    state: Option<Kind>,
    field: isize,
    fields_done: bool,
    /// Whether the native histogram at hand comes again as a classic one.
    again_as_classic: bool,
    exemplar_at: usize,
    made_up_value: String,
    suffix: &'static str,
    value: f64,
    histogram: Option<ConvertedHistogram>,
    collected: TempHistogram,
    exemplars: ExemplarStore<'b>,
}

impl<'b> ProtobufParser<'b> {
    pub(crate) fn new(body: &'b [u8], options: Options) -> Self {
        Self {
            body,
            at: 0,
            family_start: 0,
            family_number: 0,
            options,
            family: Family::default(),
            family_name: "",
            next_metric: 0,
            metric: Metric::default(),
            pairs: Vec::new(),
            state: None,
            field: AT_COUNT,
            fields_done: false,
            again_as_classic: false,
            exemplar_at: 0,
            made_up_value: String::new(),
            suffix: "",
            value: 0.0,
            histogram: None,
            collected: TempHistogram::new(),
            exemplars: ExemplarStore::default(),
        }
    }

    pub(crate) fn advance(&mut self) -> Result<Option<Kind>, ParseError> {
        self.exemplars.clear();
        self.step().map_err(|message| ParseError {
            offset: self.family_start,
            line: self.family_number.max(1),
            column: 1,
            message,
        })
    }

    fn is_histogram(&self) -> bool {
        matches!(self.family.kind, HISTOGRAM | GAUGE_HISTOGRAM)
    }

    /// Whether the histogram at hand is treated as native.
    fn is_native(&self) -> bool {
        self.options.native_histograms && self.metric.histogram.is_native()
    }

    fn step(&mut self) -> Result<Option<Kind>, String> {
        // Where upstream calls itself again, the loop goes round.
        loop {
            match self.state {
                None => {
                    self.exemplar_at = 0;
                    self.field = AT_COUNT;
                    if !self.read_family()? {
                        return Ok(None);
                    }
                    if !self.read_metric()? {
                        continue;
                    }
                    self.check_family()?;
                    self.state = Some(Kind::Help);
                    return Ok(self.state);
                }
                Some(Kind::Help) if !self.family.unit.is_empty() => {
                    self.state = Some(Kind::Unit);
                    return Ok(self.state);
                }
                Some(Kind::Help | Kind::Unit) => {
                    self.state = Some(Kind::Type);
                    return Ok(self.state);
                }
                Some(Kind::Type | Kind::Comment) => {
                    self.state = Some(Kind::Series);
                    if self.is_histogram() {
                        if !self.is_native() {
                            self.field = BEFORE_COUNT;
                            continue;
                        }
                        self.check_histogram()?;
                        self.state = Some(Kind::Histogram);
                    }
                    self.prepare()?;
                    return Ok(self.state);
                }
                Some(Kind::Series) => {
                    if let Some(kind) = self.after_series()? {
                        return Ok(Some(kind));
                    }
                }
                Some(Kind::Histogram) => {
                    if !std::mem::take(&mut self.again_as_classic) {
                        if !self.read_metric()? {
                            self.state = None;
                            continue;
                        }
                        if self.is_native() {
                            // Upstream checks only the first of a family; here every one is.
                            self.check_histogram()?;
                            self.prepare()?;
                            return Ok(self.state);
                        }
                    }
                    self.field = BEFORE_COUNT;
                    self.fields_done = false;
                    self.state = Some(Kind::Series);
                }
            }
        }
    }

    /// What follows a float sample: the next of the same metric, the histogram made of it, or the next metric.
    /// `None` where the family has ended.
    fn after_series(&mut self) -> Result<Option<Kind>, String> {
        let mut decode_next = true;
        if self.is_histogram() || self.family.kind == SUMMARY {
            let classic = self.is_histogram() && !self.is_native();
            let convert = self.options.convert_classic_histograms && classic;
            let classic_wanted = !convert || self.options.keep_classic_histograms;
            if classic_wanted && !self.fields_done {
                self.field += 1;
                self.prepare()?;
                return Ok(self.state);
            }
            self.field = AT_COUNT;
            self.fields_done = false;
            self.exemplar_at = 0;
            if self.is_histogram() && !classic {
                self.check_histogram()?;
                self.state = Some(Kind::Histogram);
            } else if convert {
                self.convert()?;
                self.state = Some(Kind::Histogram);
                decode_next = false;
            }
        }
        if decode_next {
            if !self.read_metric()? {
                self.state = None;
                return Ok(None);
            }
            if self.state == Some(Kind::Histogram) && !self.is_native() {
                // A classic histogram behind a native one in the same family.
                self.state = Some(Kind::Series);
                self.field = BEFORE_COUNT;
                return Ok(None);
            }
            if self.state == Some(Kind::Histogram) {
                self.check_histogram()?;
            }
        }
        self.prepare()?;
        Ok(self.state)
    }

    fn read_family(&mut self) -> Result<bool, String> {
        let rest = &self.body[self.at..];
        self.family_start = self.at;
        if rest.is_empty() {
            return Ok(false);
        }
        self.family_number += 1;
        let (length, used) = match varint(rest) {
            Ok((length, used)) if used <= 5 => (length, used),
            _ => return Err("clientpb: invalid varint encountered".to_owned()),
        };
        let total = used as u64 + length;
        let Some(message) = usize::try_from(total).ok().and_then(|total| rest.get(used..total)) else {
            return Err(format!(
                "clientpb: insufficient length of buffer, expected at least {total} bytes, got {} bytes",
                rest.len()
            ));
        };
        self.at += used + message.len();
        self.next_metric = 0;
        self.family.decode(message)?;
        Ok(true)
    }

    fn read_metric(&mut self) -> Result<bool, String> {
        let Some(bytes) = self.family.metrics.get(self.next_metric) else { return Ok(false) };
        self.metric.decode(bytes)?;
        self.next_metric += 1;
        Ok(true)
    }

    fn check_family(&mut self) -> Result<(), String> {
        let family = &self.family;
        let lossy = String::from_utf8_lossy;
        self.family_name = match std::str::from_utf8(family.name) {
            Ok(name) if !name.is_empty() => name,
            _ => return Err(format!("invalid metric name: {}", lossy(family.name))),
        };
        if std::str::from_utf8(family.help).is_err() {
            let name = tsdbctl_model::quote::go_quote(self.family_name);
            return Err(format!("invalid help for metric {name}: {}", lossy(family.help)));
        }
        if std::str::from_utf8(family.unit).is_err() {
            let name = tsdbctl_model::quote::go_quote(self.family_name);
            return Err(format!("invalid unit for metric {name}: {}", lossy(family.unit)));
        }
        if family.kind > GAUGE_HISTOGRAM {
            let name = tsdbctl_model::quote::go_quote(self.family_name);
            return Err(format!("unknown metric type for metric {name}: {}", family.kind));
        }
        Ok(())
    }

    fn check_histogram(&self) -> Result<(), String> {
        let name = tsdbctl_model::quote::go_quote(self.family_name);
        self.metric.histogram.check().map_err(|e| format!("histogram {name}: {e}"))
    }

    fn convert(&mut self) -> Result<(), String> {
        let h = &self.metric.histogram;
        self.collected.reset();
        let mut fill = || {
            self.collected.set_count(h.observations())?;
            self.collected.set_sum(h.sum)?;
            for bucket in &h.buckets {
                self.collected.set_bucket_count(bucket.upper_bound, bucket.count)?;
            }
            self.collected.convert()
        };
        let mut converted = fill().map_err(|e| e.to_string())?;
        if self.family.kind == GAUGE_HISTOGRAM {
            match &mut converted {
                ConvertedHistogram::Integer(h) => h.counter_reset_hint = CounterResetHint::Gauge,
                ConvertedHistogram::Float(h) => h.counter_reset_hint = CounterResetHint::Gauge,
            }
        }
        self.histogram = Some(converted);
        Ok(())
    }

    /// Makes ready what belongs to the sample at hand: labels, value or histogram, exemplars.
    fn prepare(&mut self) -> Result<(), String> {
        self.pairs.clear();
        for bytes in &self.metric.labels {
            self.pairs.push(message::label(bytes)?);
        }
        self.suffix = "";
        self.made_up_value.clear();
        if self.state == Some(Kind::Histogram) {
            if self.is_native() {
                self.native();
                self.again_as_classic =
                    self.options.keep_classic_histograms && !self.metric.histogram.buckets.is_empty();
            }
        } else {
            self.float();
        }
        self.collect_exemplars()
    }

    fn float(&mut self) {
        let m = &self.metric;
        let field = usize::try_from(self.field).ok();
        self.value = match self.family.kind {
            COUNTER => m.counter,
            GAUGE => m.gauge,
            UNTYPED => m.untyped,
            SUMMARY => match self.field {
                AT_COUNT => m.summary_count as f64,
                AT_SUM => {
                    self.fields_done = m.quantiles.is_empty();
                    m.summary_sum
                }
                _ => {
                    let i = field.unwrap_or(0);
                    self.fields_done = i + 1 >= m.quantiles.len();
                    let (quantile, value) = m.quantiles.get(i).copied().unwrap_or_default();
                    self.made_up_value = openmetrics_float(quantile);
                    value
                }
            },
            _ => match self.field {
                AT_COUNT => m.histogram.observations(),
                AT_SUM => m.histogram.sum,
                _ => match m.histogram.buckets.get(field.unwrap_or(0)) {
                    Some(bucket) => {
                        self.fields_done = bucket.upper_bound == f64::INFINITY;
                        self.made_up_value = openmetrics_float(bucket.upper_bound);
                        bucket.count
                    }
                    None => {
                        self.fields_done = true;
                        self.made_up_value.push_str("+Inf");
                        m.histogram.observations()
                    }
                },
            },
        };
        if self.is_histogram() || self.family.kind == SUMMARY {
            self.suffix = match self.field {
                AT_COUNT => "_count",
                AT_SUM => "_sum",
                _ if self.is_histogram() => "_bucket",
                _ => "",
            };
        }
    }

    fn native(&mut self) {
        let h = &self.metric.histogram;
        let hint = if self.family.kind == GAUGE_HISTOGRAM {
            CounterResetHint::Gauge
        } else {
            CounterResetHint::Unknown
        };
        self.histogram = Some(if h.is_float() {
            let mut float = FloatHistogram {
                counter_reset_hint: hint,
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                zero_count: h.zero_count_float,
                count: h.count_float,
                sum: h.sum,
                positive_spans: h.positive.spans.clone(),
                negative_spans: h.negative.spans.clone(),
                positive_buckets: h.positive.counts.clone(),
                negative_buckets: h.negative.counts.clone(),
                custom_values: None::<Arc<[f64]>>,
            };
            float.compact(0);
            ConvertedHistogram::Float(float)
        } else {
            let mut integer = tsdbctl_model::Histogram {
                counter_reset_hint: hint,
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                zero_count: h.zero_count,
                count: h.count,
                sum: h.sum,
                positive_spans: h.positive.spans.clone(),
                negative_spans: h.negative.spans.clone(),
                positive_buckets: h.positive.deltas.clone(),
                negative_buckets: h.negative.deltas.clone(),
                custom_values: None::<Arc<[f64]>>,
            };
            integer.compact(0);
            ConvertedHistogram::Integer(integer)
        });
    }

    fn add_exemplar(&mut self, exemplar: Exemplar<'b>) -> Result<(), String> {
        let first = self.exemplars.pairs.len();
        exemplar.labels(&mut self.exemplars.pairs)?;
        self.exemplars.finish(first, exemplar.value, exemplar.timestamp_ms);
        Ok(())
    }

    /// The exemplars of the sample at hand. Those of native histograms need a timestamp.
    fn collect_exemplars(&mut self) -> Result<(), String> {
        if self.family.kind == COUNTER {
            return self.metric.counter_exemplar.map_or(Ok(()), |e| self.add_exemplar(e));
        }
        if !self.is_histogram() {
            return Ok(());
        }
        if self.state == Some(Kind::Series) {
            let bucket = usize::try_from(self.field).ok().and_then(|i| self.metric.histogram.buckets.get(i));
            return bucket.and_then(|b| b.exemplar).map_or(Ok(()), |e| self.add_exemplar(e));
        }
        if !self.metric.histogram.exemplars.is_empty() {
            while let Some(exemplar) = self.metric.histogram.exemplars.get(self.exemplar_at).copied() {
                self.exemplar_at += 1;
                if exemplar.timestamp_ms.is_some() {
                    self.add_exemplar(exemplar)?;
                }
            }
            return Ok(());
        }
        self.field = self.field.max(0);
        while let Some(bucket) = self.metric.histogram.buckets.get(self.field as usize).copied() {
            self.field += 1;
            if let Some(exemplar) = bucket.exemplar.filter(|e| e.timestamp_ms.is_some()) {
                self.add_exemplar(exemplar)?;
            }
        }
        Ok(())
    }

    fn labels(&self) -> SeriesLabels<'_> {
        let made_up = if self.made_up_value.is_empty() {
            None
        } else if self.is_histogram() {
            Some(("le", self.made_up_value.as_str()))
        } else {
            Some(("quantile", self.made_up_value.as_str()))
        };
        SeriesLabels(Source::Exposed {
            raw: None,
            name: self.family_name,
            suffix: self.suffix,
            pairs: &self.pairs,
            escaped: false,
            numeric: None,
            made_up,
        })
    }

    fn start_timestamp(&self) -> Option<i64> {
        match self.family.kind {
            COUNTER => self.metric.counter_start_ms,
            SUMMARY => self.metric.summary_start_ms,
            HISTOGRAM | GAUGE_HISTOGRAM => self.metric.histogram_start_ms,
            _ => None,
        }
    }

    /// The entry of the kind that [`Self::advance`] said.
    pub(crate) fn entry(&self, kind: Kind) -> Entry<'_> {
        let family = self.family_name;
        let text = |bytes: &'b [u8]| std::str::from_utf8(bytes).unwrap_or("");
        // Zero cannot be told from absent here.
        let timestamp_ms = Some(self.metric.timestamp_ms).filter(|ms| *ms != 0);
        match (kind, &self.histogram) {
            (Kind::Help, _) => Entry::Help { family, text: Cow::Borrowed(text(self.family.help)) },
            (Kind::Unit, _) => Entry::Unit { family, unit: text(self.family.unit) },
            (Kind::Type, _) => Entry::Type {
                family,
                metric_type: match self.family.kind {
                    COUNTER => MetricType::Counter,
                    GAUGE => MetricType::Gauge,
                    SUMMARY => MetricType::Summary,
                    HISTOGRAM => MetricType::Histogram,
                    GAUGE_HISTOGRAM => MetricType::GaugeHistogram,
                    _ => MetricType::Unknown,
                },
            },
            (Kind::Histogram, Some(histogram)) => Entry::Histogram(HistogramSeries {
                labels: self.labels(),
                histogram,
                timestamp_ms,
                start_timestamp_ms: self.start_timestamp(),
                exemplars: self.exemplars.view(),
            }),
            _ => Entry::Series(Series {
                labels: self.labels(),
                value: self.value,
                timestamp_ms,
                start_timestamp_ms: self.start_timestamp(),
                exemplars: self.exemplars.view(),
            }),
        }
    }
}
