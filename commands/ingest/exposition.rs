//! Bodies in the exposition formats: cut into pieces that the parser takes, one after the other, however long the
//! input is.

use tsdbctl_exposition::{Entry, Exemplars, Format, Options, Parser, SeriesLabels};
use tsdbctl_model::Labels;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::protobuf::varint;
use tsdbctl_model::sample::{Exemplar, MetricType};

use super::input::{Input, More};
use super::run::{Run, line_at};
use super::series::Known;
use super::sink::Stop;

/// A piece of a body of lines: fits the caches.
const PIECE: usize = 1 << 20;
/// Behind a line that cannot be read, pieces are short: each such line costs a new one.
const PIECE_AFTER_ERROR: usize = 16 << 10;
/// What a pipe brings within this time is one body and has one time.
const BODY_MS: i64 = 1_000;
/// A line or a metric family may have this many bytes.
const PIECE_MAX: usize = 64 << 20;

/// Times between these, read as milliseconds, lie in the first half of 1970 and later; read as seconds, in 1973 to 5138.
const LOOKS_LIKE_SECONDS: std::ops::Range<i64> = 100_000_000..100_000_000_000;

/// Times from here on, read as milliseconds, lie in 5138 and later: they rather count something shorter.
const LATEST_LIKELY_MS: i64 = 100_000_000_000_000;

/// Upstream's reason, and what helps.
const NO_TIME: &str = "expected timestamp for series got none; --timestamp gives those one that have none";

const END_OF_BODY: &[u8] = b"# EOF\n";

/// How bodies are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The format.
    pub format: Format,
    /// What is made of histograms.
    pub options: Options,
    /// Whether the format was guessed, so that times in seconds are taken for a wrong guess.
    pub guessed: bool,
}

/// What was said about the family at hand.
#[derive(Clone, Debug, Default)]
struct Family {
    name: String,
    metric_type: MetricType,
    unit: String,
    help: String,
}

impl Family {
    fn of(&mut self, name: &str) -> &mut Self {
        if self.name != name {
            *self = Self { name: name.to_owned(), ..Self::default() };
        }
        self
    }

    /// Whether a series of this name belongs to the family, as upstream's scraper sees it.
    fn has(&self, series: &str) -> bool {
        let cut = |suffixes: &[&str]| suffixes.iter().find_map(|s| series.strip_suffix(s)).unwrap_or(series);
        let name = self.name.as_str();
        match self.metric_type {
            MetricType::Counter => name.strip_suffix("_total").unwrap_or(name) == cut(&["_total"]),
            MetricType::Histogram => name == cut(&["_bucket", "_sum", "_count"]),
            MetricType::GaugeHistogram => name == cut(&["_bucket", "_gsum", "_gcount"]),
            MetricType::Summary => name == cut(&["_sum", "_count"]),
            MetricType::Info => name.strip_suffix("_info").unwrap_or(name) == cut(&["_info"]),
            _ => name == series,
        }
    }
}

/// What goes from one piece to the next.
#[derive(Debug, Default)]
struct State {
    family: Family,
    metric_type: MetricType,
    /// Whether nothing was said yet about how times are written.
    times_seen: bool,
}

impl State {
    /// Looks at the first time that is exposed: it tells seconds from milliseconds.
    #[inline]
    fn see_time(&mut self, timestamp_ms: Option<i64>, reading: Reading) -> Result<(), Stop> {
        match timestamp_ms {
            Some(t) if !self.times_seen => {
                self.times_seen = true;
                let guessed = reading.guessed && reading.format == Format::Text;
                if guessed && t >= LATEST_LIKELY_MS {
                    return Err(Stop::Failed(anyhow::anyhow!(
                        "a timestamp of {t} is far in the future in the text format, which counts milliseconds; convert it, or say --format text if it is meant so"
                    )));
                }
                if guessed && LOOKS_LIKE_SECONDS.contains(&t) {
                    return Err(Stop::Failed(anyhow::anyhow!(
                        "a timestamp of {t} is early 1970 in the text format, which counts milliseconds; say --format openmetrics for seconds, or --format text if it is meant so"
                    )));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// How much of a piece was read.
enum Outcome {
    All,
    /// An error at this offset, in a line that began at that one.
    Wrong {
        line_start: usize,
        offset: usize,
        message: String,
        /// A histogram before it is lost with it.
        lost: bool,
    },
}

/// Reads lines, text or OpenMetrics, until the input ends.
///
/// # Errors
/// If reading stops before.
pub fn read_lines(input: &mut Input, reading: Reading, run: &mut Run<'_>) -> Result<(), Stop> {
    let openmetrics = reading.format == Format::OpenMetrics;
    // Where a line needs others of its family.
    let whole_families =
        reading.options.convert_classic_histograms || (openmetrics && reading.options.start_timestamps);
    let mut state = State::default();
    let (mut limit, mut lines_before) = (PIECE, 0);
    let mut piece_copy = Vec::new();
    let mut body_open = false;
    let mut now_ms = run.now_ms();
    loop {
        run.check()?;
        if input.size.is_none() && !body_open && run.now_ms() - now_ms >= BODY_MS {
            now_ms = run.now_ms();
        }
        let mut idle = false;
        while input.bytes().len() < limit && !input.is_complete() {
            if input.bytes().is_empty() {
                run.more(input)?;
                now_ms = if body_open { now_ms } else { run.now_ms() };
            } else {
                match run.more_or_idle(input) {
                    Ok(More::Idle) => idle = true,
                    Ok(_) => continue,
                    // Whole lines that came before go in; then it fails again.
                    Err(Stop::Failed(_)) => {}
                    Err(stop) => return Err(stop),
                }
                break;
            }
        }
        let window = &input.bytes()[..input.bytes().len().min(limit)];
        let is_last = input.is_complete() && window.len() == input.bytes().len();
        if is_last && window.is_empty() && !body_open {
            return Ok(());
        }
        let end = if openmetrics { end_of_body(window) } else { None };
        let cut = match end {
            Some(end) => end,
            None if is_last => window.len(),
            None => match cut_of(window, whole_families) {
                0 if whole_families && window.len() >= PIECE_MAX => cut_of(window, false),
                cut => cut,
            },
        };
        if cut == 0 && !is_last {
            if idle || window.len() < limit {
                // Not a whole line yet.
                run.more(input)?;
            } else if limit < PIECE_MAX {
                limit *= 2;
            } else {
                let name = &input.name;
                return Err(Stop::Failed(anyhow::anyhow!("{name}: a line of more than {PIECE_MAX} bytes")));
            }
            continue;
        }
        body_open = openmetrics && end.is_none();
        let complete = !body_open || is_last;
        let goes_on = !complete && !whole_families;
        let piece = if complete || goes_on {
            &window[..cut]
        } else {
            piece_copy.clear();
            piece_copy.extend_from_slice(&window[..cut]);
            piece_copy.extend_from_slice(END_OF_BODY);
            &piece_copy[..]
        };
        let whole = window.len();
        let outcome = read_piece(piece, reading, now_ms, goes_on, &mut state, run)?;
        input.check()?;
        let consumed = match outcome {
            Outcome::All => {
                limit = (limit * 2).min(PIECE);
                cut
            }
            Outcome::Wrong { line_start, offset, message, lost } => {
                // A quoted value may hold a newline: what ends in the piece's last line may go on behind it.
                let in_last_line = memchr::memchr(b'\n', &window[offset.min(cut)..cut])
                    .is_none_or(|p| offset + p + 1 == cut);
                if in_last_line && !is_last && end.is_none() && line_start > 0 {
                    run.unreadable += u64::from(lost);
                    line_start
                } else if in_last_line
                    && !is_last
                    && end.is_none()
                    && line_start == 0
                    && limit < PIECE
                    && !idle
                {
                    limit = PIECE;
                    0
                } else {
                    run.unreadable += u64::from(lost);
                    let bytes = &window[..cut];
                    let line = line_at(bytes, offset, lines_before + 1);
                    let place = format!("{}:{}:{}", input.name, line.number, line.column + 1);
                    if let Err(stop) = run.unreadable(&place, &message, Some(line)) {
                        input.consume(line_start);
                        return Err(stop);
                    }
                    limit = PIECE_AFTER_ERROR;
                    let from = offset.max(line_start).min(cut);
                    memchr::memchr(b'\n', &bytes[from..]).map_or(cut, |p| from + p + 1)
                }
            }
        };
        lines_before += memchr::memchr_iter(b'\n', &input.bytes()[..consumed]).count();
        input.consume(consumed);
        run.progress.step();
        if end.is_some_and(|end| consumed == end) {
            state.metric_type = MetricType::Unknown;
            state.family = Family::default();
        }
        if is_last && consumed == whole {
            return Ok(());
        }
        if idle {
            run.sink.idle(std::time::Duration::ZERO)?;
            run.more(input)?;
            now_ms = if body_open { now_ms } else { run.now_ms() };
        }
    }
}

/// Where the first body of OpenMetrics in `bytes` ends: behind its `# EOF`.
fn end_of_body(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = memchr::memmem::find(&bytes[from..], b"# EOF") {
        let (start, end) = (from + found, from + found + 5);
        if (start == 0 || bytes[start - 1] == b'\n') && bytes.get(end).is_none_or(|b| *b == b'\n') {
            return Some((end + 1).min(bytes.len()));
        }
        from = end;
    }
    None
}

/// Where a piece may end: behind the last newline; or, where families must stay whole, before the last line that begins
/// one. 0 if nowhere.
fn cut_of(bytes: &[u8], whole_families: bool) -> usize {
    if !whole_families {
        return memchr::memrchr(b'\n', bytes).map_or(0, |p| p + 1);
    }
    let mut end = bytes.len();
    while let Some(newline) = memchr::memrchr(b'\n', &bytes[..end]) {
        let before = memchr::memrchr(b'\n', &bytes[..newline]).map_or(0, |p| p + 1);
        if bytes.get(newline + 1) == Some(&b'#') && bytes[before] != b'#' {
            return newline + 1;
        }
        end = newline;
    }
    0
}

/// Reads a piece; one of OpenMetrics that does not end its body `goes_on`.
fn read_piece(
    piece: &[u8],
    reading: Reading,
    now_ms: i64,
    goes_on: bool,
    state: &mut State,
    run: &mut Run<'_>,
) -> Result<Outcome, Stop> {
    let mut parser = Parser::starting_at(reading.format, piece, reading.options, 0, state.metric_type);
    let mut class = class_of(reading.format, state.metric_type);
    let wants_metadata = run.sink.wants_metadata();
    let needs_times = run.needs_times;
    let timeless = |parser: &Parser<'_>| {
        let (line_start, message) = (parser.line_start(), NO_TIME.to_owned());
        Ok(Outcome::Wrong { line_start, offset: line_start, message, lost: false })
    };
    // A dump has the samples of a series one after the other.
    let mut last: Option<(&[u8], Known)> = None;
    loop {
        while !wants_metadata
            && let Some((known, value, timestamp_ms)) = parser.next_known(|raw| match last {
                Some((before, known)) if before == raw => Some(known),
                _ => {
                    let key = run.sink.cache.key(class, raw);
                    let known = run.sink.cache.get(key)?;
                    last = Some((raw, known));
                    Some(known)
                }
            })
        {
            if needs_times && timestamp_ms.is_none() {
                return timeless(&parser);
            }
            state.see_time(timestamp_ms, reading)?;
            run.sink.float(known, timestamp_ms.unwrap_or(now_ms), value, 0);
            run.sink.check()?;
        }
        if goes_on && parser.is_at_end() {
            return Ok(Outcome::All);
        }
        let entry = parser.next();
        let has_no_time = match &entry {
            Ok(Some(Entry::Series(s))) => s.timestamp_ms.is_none(),
            Ok(Some(Entry::Histogram(s))) => s.timestamp_ms.is_none(),
            _ => false,
        };
        if needs_times && has_no_time {
            drop(entry);
            return timeless(&parser);
        }
        match entry {
            Ok(None) => return Ok(Outcome::All),
            Ok(Some(Entry::Series(s))) => {
                state.see_time(s.timestamp_ms, reading)?;
                let known = series(&s.labels, class, run);
                let t = s.timestamp_ms.unwrap_or(now_ms);
                run.sink.float(known, t, s.value, s.start_timestamp_ms.unwrap_or(0));
                if run.sink.wants_exemplars() {
                    exemplars(known, s.exemplars, t, false, run);
                }
                if run.sink.wants_metadata() {
                    metadata(known, &s.labels, &state.family, run);
                }
                run.sink.check()?;
            }
            Ok(Some(Entry::Histogram(s))) => {
                let known = series(&s.labels, class, run);
                let t = s.timestamp_ms.unwrap_or(now_ms);
                run.sink.histogram(known, t, s.histogram.clone(), s.start_timestamp_ms.unwrap_or(0));
                if run.sink.wants_exemplars() {
                    exemplars(known, s.exemplars, t, true, run);
                }
                if run.sink.wants_metadata() {
                    metadata(known, &s.labels, &state.family, run);
                }
                run.sink.check()?;
            }
            Ok(Some(Entry::Type { family, metric_type })) => {
                run.sink.counts.metadata += 1;
                state.metric_type = metric_type;
                last = None;
                class = class_of(reading.format, metric_type);
                state.family.of(family).metric_type = metric_type;
            }
            Ok(Some(Entry::Help { family, text })) => {
                run.sink.counts.metadata += 1;
                state.family.of(family).help = text.into_owned();
            }
            Ok(Some(Entry::Unit { family, unit })) => {
                run.sink.counts.metadata += 1;
                state.family.of(family).unit = unit.to_owned();
            }
            Ok(Some(Entry::Comment(_))) => {}
            Err(e) => {
                let line_start = parser.line_start();
                let lost = parser.is_histogram_cut_off();
                return Ok(Outcome::Wrong { line_start, offset: e.offset, message: e.message, lost });
            }
        }
    }
}

/// Raw series of one class with the same bytes have the same labels.
fn class_of(format: Format, metric_type: MetricType) -> u64 {
    let numeric = match metric_type {
        MetricType::Histogram => 1,
        MetricType::Summary => 2,
        _ => 0,
    };
    numeric + 4 * (format as u64 + 1)
}

#[inline]
fn series(labels: &SeriesLabels<'_>, class: u64, run: &mut Run<'_>) -> Known {
    let sink = &mut run.sink;
    if let Some(raw) = labels.raw() {
        let key = sink.cache.key(class, raw);
        if let Some(known) = sink.cache.get(key) {
            return known;
        }
        sink.scratch.clear();
        labels.for_each(|name, value| sink.scratch.push(name, value));
        return sink.resolve(key);
    }
    sink.scratch.clear();
    labels.for_each(|name, value| sink.scratch.push(name, value));
    sink.series_of_scratch(class)
}

/// As a scrape takes them: the oldest first; those of floats without a time get the sample's.
fn exemplars(known: Known, found: Exemplars<'_>, t: i64, is_histogram: bool, run: &mut Run<'_>) {
    let mut all: Vec<Exemplar> = found
        .iter()
        .filter(|e| e.timestamp_ms.is_some() || !is_histogram)
        .map(|e| Exemplar {
            labels: Labels::from_pairs(e.labels.iter().copied()),
            value: e.value,
            timestamp_ms: e.timestamp_ms.unwrap_or(t),
        })
        .collect();
    all.sort_by_key(|e| e.timestamp_ms);
    for exemplar in all {
        run.sink.exemplar(known, exemplar);
    }
}

fn metadata(known: Known, labels: &SeriesLabels<'_>, family: &Family, run: &mut Run<'_>) {
    let mut belongs = false;
    labels.for_each(|name, value| belongs |= name == METRIC_NAME && family.has(value));
    if belongs {
        run.sink.metadata(known, family.metric_type, &family.unit, &family.help);
    }
}

/// Reads metric families, each behind its length, until the input ends.
///
/// # Errors
/// If reading stops before.
pub fn read_protobuf(input: &mut Input, reading: Reading, run: &mut Run<'_>) -> Result<(), Stop> {
    let mut family_number = 0u64;
    loop {
        run.check()?;
        let now_ms = run.now_ms();
        let bytes = input.bytes();
        let length = match varint(bytes) {
            Ok((length, used)) if used <= 5 => {
                usize::try_from(length).ok().and_then(|l| l.checked_add(used)).filter(|l| *l <= PIECE_MAX)
            }
            Err(_) if bytes.len() < 5 => Some(usize::MAX),
            _ => None,
        };
        let Some(length) = length else {
            let place = format!("{}: at byte {}", input.name, input.offset);
            run.unreadable(&place, "not the length of a metric family; nothing behind it can be read", None)?;
            return Ok(());
        };
        if length > bytes.len() {
            if !input.is_complete() {
                run.more(input)?;
                continue;
            }
            if !bytes.is_empty() {
                let place = format!("{}: at byte {}", input.name, input.offset);
                run.unreadable(&place, "the metric family goes on behind the end of the input", None)?;
            }
            return Ok(());
        }
        family_number += 1;
        let mut state = State::default();
        if let Outcome::Wrong { message, .. } =
            read_piece(&bytes[..length], reading, now_ms, false, &mut state, run)?
        {
            let place = format!("{}: at byte {}: metric family {family_number}", input.name, input.offset);
            run.unreadable(&place, &message, None)?;
        }
        input.consume(length);
        input.check()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_and_families_are_found() {
        let cases: [(&[u8], Option<usize>, usize, usize); 6] = [
            (b"a 1\nb 2", None, 4, 0),
            (b"a 1\n# EOF\nb 2\n", Some(10), 14, 4),
            (b"a 1\n# EOF", Some(9), 4, 4),
            (b"a{x=\"# EOF\"} 1\n", None, 15, 0),
            (b"# HELP a b\n# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n", None, 49, 30),
            (b"a 1\n# HELP b x\n# TYPE b gauge\n", None, 30, 4),
        ];
        for (bytes, body, line, family) in cases {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(end_of_body(bytes), body, "{shown}");
            assert_eq!(cut_of(bytes, false), line, "{shown}");
            assert_eq!(cut_of(bytes, true), family, "{shown}");
        }
    }

    #[test]
    fn a_family_has_its_series() {
        let family =
            |name: &str, metric_type| Family { name: name.to_owned(), metric_type, ..Family::default() };
        for (name, metric_type, series, want) in [
            ("a", MetricType::Counter, "a_total", true),
            ("a_total", MetricType::Counter, "a_total", true),
            ("a", MetricType::Histogram, "a_bucket", true),
            ("a", MetricType::Histogram, "ab_bucket", false),
            ("a", MetricType::Summary, "a_count", true),
            ("a", MetricType::Gauge, "a_count", false),
            ("a", MetricType::Unknown, "a", true),
        ] {
            assert_eq!(family(name, metric_type).has(series), want, "{name} {series}");
        }
    }
}
