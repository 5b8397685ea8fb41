//! Classic histograms of the text formats, gathered line by line into native ones with custom buckets.

use std::borrow::Cow;

use tsdbctl_model::Labels;
use tsdbctl_model::float_text::parse_float;
use tsdbctl_model::histogram::nhcb::{
    ClassicSuffix, ConvertedHistogram, TempHistogram, split_classic_suffix,
};
use tsdbctl_model::labels::{BUCKET_LABEL, METRIC_NAME};
use tsdbctl_model::sample::MetricType;

use crate::entry::{ExemplarStore, SeriesLabels, Source};
use crate::error::ParseError;
use crate::line::Kind;
use crate::openmetrics::OpenMetricsParser;
use crate::text::TextParser;

/// A parser of either text format.
#[derive(Clone, Debug)]
pub(crate) enum LineParser<'b> {
    Text(TextParser<'b>),
    OpenMetrics(OpenMetricsParser<'b>),
}

impl<'b> LineParser<'b> {
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<Option<Kind>, ParseError> {
        match self {
            Self::Text(p) => p.advance(),
            Self::OpenMetrics(p) => p.advance(),
        }
    }

    pub(crate) fn lines(&self) -> &crate::line::Lines<'b> {
        match self {
            Self::Text(p) => &p.lines,
            Self::OpenMetrics(p) => &p.lines,
        }
    }

    fn lines_mut(&mut self) -> &mut crate::line::Lines<'b> {
        match self {
            Self::Text(p) => &mut p.lines,
            Self::OpenMetrics(p) => &mut p.lines,
        }
    }

    /// Goes to the line at `offset`, behind an exposed type.
    pub(crate) fn start_at(&mut self, offset: usize, metric_type: MetricType) {
        let lines = self.lines_mut();
        lines.lexer.at = offset.min(lines.lexer.body.len());
        (lines.lexer.start, lines.line_start) = (lines.lexer.at, lines.lexer.at);
        lines.metric_type = metric_type;
    }

    pub(crate) fn help(&self) -> Cow<'_, str> {
        match self {
            Self::Text(p) => p.help(),
            Self::OpenMetrics(p) => p.help(),
        }
    }

    pub(crate) fn unit(&self) -> &str {
        match self {
            Self::Text(_) => "",
            Self::OpenMetrics(p) => p.unit(),
        }
    }

    pub(crate) fn start_timestamp(&mut self) -> Option<i64> {
        match self {
            Self::Text(_) => None,
            Self::OpenMetrics(p) => p.start_timestamp(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between histograms.
    Start,
    /// Within one.
    Collecting,
    /// It was handed out; what ended it comes next.
    Emitting,
}

/// A text parser whose classic histograms come out as native ones, beside the classic series or in their place.
#[derive(Clone, Debug)]
pub(crate) struct NhcbParser<'b> {
    pub(crate) base: LineParser<'b>,
    keep_classic: bool,
    state: State,
    /// What ended the histogram.
    pending: Option<Kind>,
    /// The line that ended the histogram cannot be read.
    failed: Option<ParseError>,
    /// A line that cannot be read ended a histogram before it was complete.
    is_cut_off: bool,
    family: &'b str,
    metric_type: MetricType,
    labels: Labels,
    collected: TempHistogram,
    /// What of it came: count, sum, the bucket of all.
    parts: [bool; 3],
    collected_base: Labels,
    collected_name: String,
    collected_start_ms: Option<i64>,
    collected_exemplars: ExemplarStore<'b>,
    /// The timestamp of the sample read last. It is also what a converted histogram gets, as upstream has it.
    timestamp_ms: Option<i64>,
    emitted: Option<ConvertedHistogram>,
    emitted_labels: Labels,
    emitted_start_ms: Option<i64>,
    emitted_exemplars: ExemplarStore<'b>,
}

impl<'b> NhcbParser<'b> {
    pub(crate) fn new(base: LineParser<'b>, keep_classic: bool) -> Self {
        Self {
            base,
            keep_classic,
            state: State::Start,
            pending: None,
            failed: None,
            is_cut_off: false,
            family: "",
            metric_type: MetricType::Unknown,
            labels: Labels::empty(),
            collected: TempHistogram::new(),
            parts: [false; 3],
            collected_base: Labels::empty(),
            collected_name: String::new(),
            collected_start_ms: None,
            collected_exemplars: ExemplarStore::default(),
            timestamp_ms: None,
            emitted: None,
            emitted_labels: Labels::empty(),
            emitted_start_ms: None,
            emitted_exemplars: ExemplarStore::default(),
        }
    }

    pub(crate) fn advance(&mut self) -> Result<Option<Kind>, ParseError> {
        loop {
            if self.state == State::Emitting {
                self.state = State::Start;
                if let Some(error) = self.failed.take() {
                    return Err(error);
                }
                if self.pending == Some(Kind::Series) && self.collect() && !self.keep_classic {
                    continue;
                }
                return Ok(self.pending);
            }
            self.pending = match self.base.advance() {
                Ok(kind) => kind,
                Err(error) => return self.fail(error),
            };
            match self.pending {
                None => return Ok(if self.convert() { Some(Kind::Histogram) } else { None }),
                Some(Kind::Series) => {
                    self.timestamp_ms = self.base.lines().timestamp_ms;
                    if self.metric_type == MetricType::Histogram {
                        self.labels = self.base.lines().series_labels().to_labels().unwrap_or_default();
                    }
                    if self.state == State::Collecting && self.is_other_metric() && self.convert() {
                        return Ok(Some(Kind::Histogram));
                    }
                    if self.collect() && !self.keep_classic {
                        continue;
                    }
                    return Ok(self.pending);
                }
                Some(Kind::Type) => {
                    self.family = self.base.lines().family;
                    self.metric_type = self.base.lines().metric_type;
                }
                Some(_) => {}
            }
            if self.convert() {
                return Ok(Some(Kind::Histogram));
            }
            return Ok(self.pending);
        }
    }

    /// Ends the histogram being collected at a line that cannot be read. A complete one is handed out first: nothing
    /// is wrong with it, and who goes on behind the line does not meet it again.
    fn fail(&mut self, error: ParseError) -> Result<Option<Kind>, ParseError> {
        let collecting = self.state == State::Collecting;
        if collecting && self.parts == [true; 3] && self.convert() {
            self.failed = Some(error);
            return Ok(Some(Kind::Histogram));
        }
        self.is_cut_off = collecting && !self.keep_classic;
        Err(error)
    }

    /// Whether a histogram was lost to the line that could not be read.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    fn base_of(labels: &Labels, name: &str) -> Labels {
        let mut base = labels.clone();
        base.set(METRIC_NAME, name);
        base.remove(BUCKET_LABEL);
        base
    }

    /// Whether the current series belongs to another histogram than the one being collected.
    fn is_other_metric(&self) -> bool {
        if self.metric_type != MetricType::Histogram {
            return true;
        }
        let (_, name) = split_classic_suffix(self.labels.get(METRIC_NAME));
        name != self.collected_name || Self::base_of(&self.labels, name) != self.collected_base
    }

    /// Takes the current series into the histogram being collected, if it is part of one.
    fn collect(&mut self) -> bool {
        if self.metric_type != MetricType::Histogram {
            return false;
        }
        let full = self.labels.get(METRIC_NAME).to_owned();
        let (suffix, name) = split_classic_suffix(&full);
        if name != self.family {
            return false;
        }
        let le = match suffix {
            ClassicSuffix::Bucket => match parse_float(self.labels.get(BUCKET_LABEL)) {
                Ok(le) if !le.is_nan() => le,
                _ => return false,
            },
            ClassicSuffix::Count | ClassicSuffix::Sum => 0.0,
            ClassicSuffix::None => return false,
        };
        if self.state != State::Collecting {
            self.collected_name = name.to_owned();
            self.collected_start_ms = self.base.start_timestamp();
            self.state = State::Collecting;
            self.collected_base = Self::base_of(&self.labels, name);
        }
        self.collected_exemplars.take_from(&mut self.base.lines_mut().exemplars);
        let value = self.base.lines().value;
        match suffix {
            ClassicSuffix::Count => self.parts[0] = true,
            ClassicSuffix::Sum => self.parts[1] = true,
            _ => self.parts[2] |= le == f64::INFINITY,
        }
        // A wrong sample spoils the histogram: `convert` then says so.
        let _ = match suffix {
            ClassicSuffix::Bucket => self.collected.set_bucket_count(le, value),
            ClassicSuffix::Count => self.collected.set_count(value),
            _ => self.collected.set_sum(value),
        };
        true
    }

    /// Ends the histogram being collected; whether there is one to hand out.
    fn convert(&mut self) -> bool {
        if self.state != State::Collecting {
            return false;
        }
        let converted = self.collected.convert().ok();
        let valid = match &converted {
            Some(ConvertedHistogram::Integer(h)) => h.validate().is_ok(),
            Some(ConvertedHistogram::Float(h)) => h.validate().is_ok(),
            None => true,
        };
        if !valid {
            // Upstream goes on collecting into it.
            return false;
        }
        let done = converted.is_some();
        if done {
            self.emitted = converted;
            self.emitted_labels = std::mem::take(&mut self.collected_base);
            self.emitted_start_ms = self.collected_start_ms;
            self.emitted_exemplars.clear();
            self.emitted_exemplars.take_from(&mut self.collected_exemplars);
            self.state = State::Emitting;
        } else {
            self.collected_exemplars.clear();
            self.state = State::Start;
        }
        self.collected.reset();
        self.parts = [false; 3];
        self.collected_start_ms = None;
        done
    }

    pub(crate) fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    pub(crate) fn histogram(&self) -> Option<&ConvertedHistogram> {
        self.emitted.as_ref()
    }

    pub(crate) fn histogram_labels(&self) -> SeriesLabels<'_> {
        SeriesLabels(Source::Built(&self.emitted_labels))
    }

    pub(crate) fn histogram_start_timestamp(&self) -> Option<i64> {
        self.emitted_start_ms
    }

    pub(crate) fn histogram_exemplars(&self) -> &ExemplarStore<'b> {
        &self.emitted_exemplars
    }
}
