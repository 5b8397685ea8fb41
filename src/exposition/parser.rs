//! The pull parser over all formats.

use tsdbctl_model::histogram::nhcb::ConvertedHistogram;

use crate::content_type::{ContentTypeError, Format};
use crate::entry::{Entry, HistogramSeries, Series};
use crate::error::ParseError;
use crate::line::Kind;
use crate::nhcb::{LineParser, NhcbParser};
use crate::openmetrics::OpenMetricsParser;
use crate::protobuf::ProtobufParser;
use crate::text::TextParser;

/// What to make of histograms, and what else a reader may choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The format where the content type names none.
    pub fallback: Option<Format>,
    /// Whether native histograms are read. If not, such a histogram counts as a classic one.
    pub native_histograms: bool,
    /// Whether the classic series of a histogram come out also where it is native or converted.
    pub keep_classic_histograms: bool,
    /// Whether classic histograms are converted to native ones with custom buckets.
    pub convert_classic_histograms: bool,
    /// Whether start timestamps are wanted. In OpenMetrics `_created` lines then give these and are no series.
    pub start_timestamps: bool,
}

/// Pulls the entries out of one body.
#[derive(Clone, Debug)]
pub struct Parser<'b> {
    format: Box<Inner<'b>>,
    start_timestamps: bool,
}

#[derive(Clone, Debug)]
enum Inner<'b> {
    Lines(LineParser<'b>),
    Converting(NhcbParser<'b>),
    Protobuf(ProtobufParser<'b>),
}

impl<'b> Parser<'b> {
    /// A parser of the format that `content_type` names.
    ///
    /// # Errors
    /// If it names none and there is no fallback.
    pub fn new(content_type: &str, body: &'b [u8], options: Options) -> Result<Self, ContentTypeError> {
        Ok(Self::with_format(Format::of_content_type(content_type, options.fallback)?, body, options))
    }

    /// A parser of `format`.
    pub fn with_format(format: Format, body: &'b [u8], options: Options) -> Self {
        let lines = match format {
            Format::Text => LineParser::Text(TextParser::new(body)),
            Format::OpenMetrics => {
                LineParser::OpenMetrics(OpenMetricsParser::new(body, options.start_timestamps))
            }
            Format::Protobuf => {
                let format = Box::new(Inner::Protobuf(ProtobufParser::new(body, options)));
                return Self { format, start_timestamps: options.start_timestamps };
            }
        };
        let format = Box::new(if options.convert_classic_histograms {
            Inner::Converting(NhcbParser::new(lines, options.keep_classic_histograms))
        } else {
            Inner::Lines(lines)
        });
        Self { format, start_timestamps: options.start_timestamps }
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// If the body does not go on as the format wants. There is no going on then.
    #[allow(
        clippy::should_implement_trait,
        reason = "an entry borrows the parser, which an iterator's item cannot"
    )]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, ParseError> {
        let want_start = self.start_timestamps;
        match &mut *self.format {
            Inner::Lines(parser) => {
                let Some(kind) = parser.advance()? else { return Ok(None) };
                let start = if want_start && kind == Kind::Series { parser.start_timestamp() } else { None };
                Ok(Some(line_entry(parser, kind, start)))
            }
            Inner::Converting(parser) => {
                let Some(kind) = parser.advance()? else { return Ok(None) };
                if kind == Kind::Histogram {
                    return Ok(parser.histogram().map(|histogram| {
                        Entry::Histogram(HistogramSeries {
                            labels: parser.histogram_labels(),
                            histogram,
                            timestamp_ms: parser.timestamp_ms(),
                            start_timestamp_ms: parser.histogram_start_timestamp(),
                            exemplars: parser.histogram_exemplars().view(),
                        })
                    }));
                }
                let start =
                    if want_start && kind == Kind::Series { parser.base.start_timestamp() } else { None };
                Ok(Some(line_entry(&parser.base, kind, start)))
            }
            Inner::Protobuf(parser) => {
                let Some(kind) = parser.advance()? else { return Ok(None) };
                Ok(Some(parser.entry(kind)))
            }
        }
    }
}

fn line_entry<'p>(parser: &'p LineParser<'_>, kind: Kind, start_timestamp_ms: Option<i64>) -> Entry<'p> {
    let lines = parser.lines();
    match kind {
        Kind::Help => Entry::Help { family: lines.family, text: parser.help() },
        Kind::Type => Entry::Type { family: lines.family, metric_type: lines.metric_type },
        Kind::Unit => Entry::Unit { family: lines.family, unit: parser.unit() },
        Kind::Comment => Entry::Comment(lines.metadata),
        Kind::Series | Kind::Histogram => Entry::Series(Series {
            labels: lines.series_labels(),
            value: lines.value,
            timestamp_ms: lines.timestamp_ms,
            start_timestamp_ms,
            exemplars: lines.exemplars.view(),
        }),
    }
}

/// A histogram that upstream would refuse to store.
pub(crate) fn validate(histogram: &ConvertedHistogram) -> Result<(), String> {
    match histogram {
        ConvertedHistogram::Integer(h) => h.validate(),
        ConvertedHistogram::Float(h) => h.validate(),
    }
    .map_err(|e| e.to_string())
}
