//! The pull parser over all formats.

use tsdbctl_model::histogram::nhcb::ConvertedHistogram;
use tsdbctl_model::sample::MetricType;

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

    /// A parser of a body of lines that begins at the line at `offset`, as if the last type exposed before it had been
    /// `metric_type`. Errors and raw series are those of the whole body.
    pub fn starting_at(
        format: Format,
        body: &'b [u8],
        options: Options,
        offset: usize,
        metric_type: MetricType,
    ) -> Self {
        let mut parser = Self::with_format(format, body, options);
        match &mut *parser.format {
            Inner::Lines(lines) => lines.start_at(offset, metric_type),
            Inner::Converting(nhcb) => nhcb.base.start_at(offset, metric_type),
            Inner::Protobuf(_) => {}
        }
        parser
    }

    /// Where the line begins that was read last, or could not be; 0 in protobuf.
    pub fn line_start(&self) -> usize {
        match &*self.format {
            Inner::Lines(lines) => lines.lines().line_start,
            Inner::Converting(nhcb) => nhcb.base.lines().line_start,
            Inner::Protobuf(_) => 0,
        }
    }

    /// Whether the line that could not be read ended a classic histogram, to be converted, before it was complete: what
    /// was read of it came out in no entry.
    pub fn is_histogram_cut_off(&self) -> bool {
        match &*self.format {
            Inner::Converting(nhcb) => nhcb.is_cut_off(),
            Inner::Lines(_) | Inner::Protobuf(_) => false,
        }
    }

    /// Whether all lines were read: in OpenMetrics there should be one more, `# EOF`, but a piece of a body may end so.
    pub fn is_at_end(&self) -> bool {
        match &*self.format {
            Inner::Lines(lines) => lines.lines().is_at_end(),
            Inner::Converting(_) | Inner::Protobuf(_) => false,
        }
    }

    /// In lines: the next one, if it is a series that `lookup` knows by its bytes (as [`SeriesLabels::raw`]
    /// gave them under the same metric type) with a plain number and perhaps a time: what is known, value and time. Its
    /// labels are not read again. `None` with nothing read if it is anything else: [`Parser::next`] tells.
    ///
    /// [`SeriesLabels::raw`]: crate::SeriesLabels::raw
    #[inline]
    pub fn next_known<K>(
        &mut self,
        lookup: impl FnOnce(&'b [u8]) -> Option<K>,
    ) -> Option<(K, f64, Option<i64>)> {
        match &mut *self.format {
            Inner::Lines(LineParser::Text(text)) => text.lines.known_series(false, lookup),
            // Where start timestamps are wanted, some series only give those.
            Inner::Lines(LineParser::OpenMetrics(om)) if !self.start_timestamps => {
                om.lines.known_series(true, lookup)
            }
            _ => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tsdbctl_model::float_text::format_g;

    /// All entries of a body on one line each.
    fn read(format: Format, body: &[u8], options: Options) -> String {
        let mut parser = Parser::with_format(format, body, options);
        let mut out = String::new();
        loop {
            let line = match parser.next() {
                Ok(None) => return out,
                Err(e) => return format!("{out}{e}"),
                Ok(Some(Entry::Help { family, text })) => format!("help {family} {text}"),
                Ok(Some(Entry::Type { family, metric_type })) => format!("type {family} {metric_type:?}"),
                Ok(Some(Entry::Unit { family, unit })) => format!("unit {family} {unit}"),
                Ok(Some(Entry::Comment(text))) => format!("comment {}", String::from_utf8_lossy(text)),
                Ok(Some(Entry::Series(s))) => {
                    let labels = s.labels.to_labels().unwrap_or_default();
                    format!("{labels} {} {}", format_g(s.value), s.exemplars.iter().count())
                }
                Ok(Some(Entry::Histogram(s))) => {
                    let labels = s.labels.to_labels().unwrap_or_default();
                    let histogram = s.histogram.clone().into_float();
                    format!("{labels} {histogram} {} {:?}", s.exemplars.iter().count(), s.start_timestamp_ms)
                }
            };
            out += &line;
            out.push('\n');
        }
    }

    #[test]
    fn classic_histograms_are_converted_and_their_exemplars_go_with_them() {
        let body =
            b"# TYPE h histogram\nh_bucket{le=\"1\"} 1 # {a=\"b\"} 0.5\nh_bucket{le=\"+Inf\"} 3 # {} 2 4.5\n\
                     h_sum 5\nh_count 3\nh_created 7\n# TYPE g gauge\ng 1\n# EOF\n";
        let options =
            Options { convert_classic_histograms: true, start_timestamps: true, ..Options::default() };
        assert_eq!(
            read(Format::OpenMetrics, body, options),
            "type h Histogram\n{__name__=\"h\"} {count:3, sum:5, [-Inf,1]:1, (1,+Inf]:2} 2 Some(7000)\n\
             type g Gauge\n{__name__=\"g\"} 1 0\n"
        );
        let kept = read(Format::OpenMetrics, body, Options { keep_classic_histograms: true, ..options });
        assert_eq!(kept.lines().count(), 8, "{kept}");
    }

    #[test]
    fn reading_goes_on_behind_a_wrong_line() {
        let body = b"# TYPE h histogram\nh_bucket{le=\"1\"} x\nh_bucket{le=\"2\"} 1\n# TYPE h gauge\nh{le=\"2\"} 1\n";
        let mut parser = Parser::with_format(Format::Text, body, Options::default());
        parser.next().unwrap();
        let error = parser.next().unwrap_err();
        assert_eq!((error.line, parser.line_start()), (2, 19));
        let mut parser =
            Parser::starting_at(Format::Text, body, Options::default(), 38, MetricType::Histogram);
        let mut seen = Vec::new();
        while let Some(entry) = parser.next().unwrap() {
            if let Entry::Series(s) = entry {
                seen.push(s.labels.to_labels().unwrap().get("le").to_owned());
            }
        }
        assert_eq!(seen, ["2.0", "2"]);
    }

    #[test]
    fn lines_of_known_series_are_read_without_their_labels() {
        let known: [&[u8]; 3] = [b"a{b=\"c\"}", b"a", b"a{b=\"}\"}"];
        type Read = Option<(usize, f64, Option<i64>)>;
        let cases: [(&[u8], Read); 16] = [
            (b"a{b=\"c\"} 1\n", Some((0, 1.0, None))),
            (b"a{b=\"c\"} -2.5 17\n", Some((0, -2.5, Some(17)))),
            (b"a 3\n", Some((1, 3.0, None))),
            (b"a{b=\"}\"} 4\n", Some((2, 4.0, None))),
            (b"a{b=\"c\"} 1", None),
            (b"a{b=\"c\"}  1\n", None),
            (b"a{b=\"c\"} 1e3\n", None),
            (b"a{b=\"c\"} NaN\n", None),
            (b"a{b=\"c\"} 1 -5\n", None),
            (b"a{b=\"c\"} 1 5 \n", None),
            (b"a{b=\"c\"} 1 9999999999999999999\n", None),
            (b"a{b=\"c\"}\n", None),
            (b"a{b=\"x\na{b=\"c\"} 1\n", None),
            (b" a 1\n", None),
            (b"# a 1\n", None),
            (b"\n", None),
        ];
        for (body, want) in cases {
            let mut parser = Parser::with_format(Format::Text, body, Options::default());
            let got = parser.next_known(|raw| known.iter().position(|k| *k == raw));
            assert_eq!(got, want, "{}", String::from_utf8_lossy(body));
            let rest = parser.next();
            assert_eq!(matches!(rest, Ok(None)), want.is_some() || body == b"\n", "{rest:?}");
        }
        // In seconds, cut to milliseconds as a float is; an exemplar behind is no time.
        for (body, want) in [
            (&b"a 1 17\n# EOF\n"[..], Some((1, 1.0, Some(17_000)))),
            (b"a 1 1700000000.123\n# EOF\n", Some((1, 1.0, Some(1_700_000_000_123)))),
            (b"a 1 0.0039\n# EOF\n", Some((1, 1.0, Some(3)))),
            (b"a 1 -1.5\n# EOF\n", Some((1, 1.0, Some(-1500)))),
            (b"a 1 1e3\n# EOF\n", None),
            (b"a 1 2 \n# EOF\n", None),
            (b"a{b=\"c\"} 1 2 # {d=\"e\"} 3 4\n# EOF\n", None),
            (b"a{b=\"c\"} 1 # {d=\"e\"} 3\n# EOF\n", None),
        ] {
            let shown = String::from_utf8_lossy(body);
            let mut parser = Parser::with_format(Format::OpenMetrics, body, Options::default());
            let got = parser.next_known(|raw| known.iter().position(|k| *k == raw));
            assert_eq!(got, want, "{shown}");
            let mut slow = Parser::with_format(Format::OpenMetrics, body, Options::default());
            if let (Ok(Some(Entry::Series(s))), Some((_, value, time))) = (slow.next(), want) {
                assert_eq!((s.value, s.timestamp_ms), (value, time), "{shown}");
            }
            let options = Options { start_timestamps: true, ..Options::default() };
            let mut parser = Parser::with_format(Format::OpenMetrics, body, options);
            assert_eq!(parser.next_known(|_| Some(())), None, "some series are none then");
        }
        let mut parser = Parser::with_format(Format::OpenMetrics, b"a 1\nb 2\n", Options::default());
        assert!(!parser.is_at_end());
        parser.next().unwrap();
        assert!(!parser.is_at_end());
        parser.next_known(Some).unwrap();
        assert!(parser.is_at_end());
        let body = b"a 1\na 2 7\nb 3\na 4\n";
        let mut parser = Parser::with_format(Format::Text, body, Options::default());
        let mut seen = Vec::new();
        loop {
            while let Some((_, v, _)) = parser.next_known(|raw| (raw == b"a").then_some(())) {
                seen.push(v);
            }
            match parser.next() {
                Ok(Some(Entry::Series(s))) => seen.push(-s.value),
                _ => break,
            }
        }
        assert_eq!(seen, [1.0, 2.0, -3.0, 4.0]);
    }

    /// A length-delimited field or message.
    fn part(key: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("a short message");
        assert!(length < 128);
        [&[key, length][..], &content].concat()
    }

    fn double(key: u8, v: f64) -> Vec<u8> {
        [&[key][..], &v.to_le_bytes()].concat()
    }

    /// A body of one family; `part` with the key cut off is a length and its message.
    fn family(fields: &[&[u8]]) -> Vec<u8> {
        part(0, fields)[1..].to_vec()
    }

    #[test]
    fn protobuf_families_come_out_as_lines_do() {
        let label = part(0x0a, &[&part(0x0a, &[b"x"]), &part(0x12, &[b"y"])]);
        let untyped = part(0x22, &[&label, &part(0x2a, &[&double(0x09, 5.0)])]);
        let empty = part(0x22, &[&part(0x2a, &[])]);
        let body = family(&[
            &part(0x0a, &[b"a_s"]),
            &part(0x12, &[b"H"]),
            &[0x18, 3],
            &part(0x2a, &[b"s"]),
            &untyped,
            &empty,
        ]);
        assert_eq!(
            read(Format::Protobuf, &body, Options::default()),
            "help a_s H\nunit a_s s\ntype a_s Unknown\n{__name__=\"a_s\", x=\"y\"} 5 0\n{__name__=\"a_s\"} 0 0\n"
        );
    }

    #[test]
    fn protobuf_histograms_follow_the_options() {
        let bucket = part(0x1a, &[&[0x08, 1], &double(0x11, 1.0)]);
        let span = part(0x62, &[&[0x08, 0], &[0x10, 1]]);
        let histogram = part(
            0x3a,
            &[
                &[0x08, 2],
                &double(0x11, 3.0),
                &bucket,
                &double(0x31, 0.001),
                &[0x38, 1],
                &span,
                &part(0x6a, &[&[2]]),
            ],
        );
        let body = family(&[&part(0x0a, &[b"h"]), &[0x18, 4], &part(0x22, &[&histogram])]);
        let classic = "{__name__=\"h_count\"} 2 0\n{__name__=\"h_sum\"} 3 0\n{__name__=\"h_bucket\", le=\"1.0\"} 1 0\n\
                       {__name__=\"h_bucket\", le=\"+Inf\"} 2 0\n";
        let native = "{__name__=\"h\"} {count:2, sum:3, [-0.001,0.001]:1, (0.5,1]:1} 0 None\n";
        let converted = "{__name__=\"h\"} {count:2, sum:3, [-Inf,1]:1, (1,+Inf]:1} 0 None\n";
        let with = |native_histograms, keep_classic_histograms, convert_classic_histograms| Options {
            native_histograms,
            keep_classic_histograms,
            convert_classic_histograms,
            ..Options::default()
        };
        let cases = [
            (with(false, false, false), classic.to_owned()),
            (with(true, false, false), native.to_owned()),
            (with(true, true, false), format!("{native}{classic}")),
            (with(false, false, true), converted.to_owned()),
            (with(false, true, true), format!("{classic}{converted}")),
        ];
        for (options, want) in cases {
            let got = read(Format::Protobuf, &body, options);
            assert_eq!(got, format!("help h \ntype h Histogram\n{want}"), "{options:?}");
        }
        let short = family(&[&part(0x0a, &[b"h"]), &[0x18, 4], &part(0x22, &[&part(0x3a, &[&span])])]);
        assert_eq!(
            read(Format::Protobuf, &short, with(true, false, false)),
            "help h \ntype h Histogram\nhistogram \"h\": positive side: spans require 1 buckets, have 0"
        );
    }
}
