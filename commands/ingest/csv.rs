//! Rows of comma-separated values (RFC 4180), and which column is what.
//!
//! Without a mapping the header says it: `time` or `timestamp`, `value`, `__name__` or `metric`, all others are labels;
//! that reads what `query -o csv` writes. Options name other columns. `--columns` maps by position for files without a
//! header, in the notation of VictoriaMetrics' importer.

use std::borrow::Cow;

use anyhow::{Context, bail};
use tsdbctl_model::float_text::parse_float;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::sample::normal_nan;

use super::input::{Input, More};
use super::run::{Run, line_at};
use super::sink::Stop;
use super::times::TimeUnit;

/// Characters of a header that are shown.
const COLUMNS_SHOWN: usize = 300;
/// A row may have this many bytes.
const ROW_MAX: usize = 16 << 20;
/// Not one of the other formats' classes.
const CLASS: u64 = 3 << 32;

/// How rows are read.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// What the columns of a CSV file without header are: POSITION:KIND:NAME with commas between, as
    /// VictoriaMetrics writes it: '1:time:unix_s,2:label:host,3:metric:temperature'. Kinds are time (unix_s,
    /// unix_ms, unix_us, unix_ns, rfc3339), label NAME, metric NAME (a column of values).
    #[arg(long, value_name = "MAPPING", conflicts_with_all = ["csv_timestamp", "csv_value", "csv_metric", "csv_labels"])]
    pub columns: Option<String>,
    /// Column of a CSV file's header that holds the time, and its unit if it is not ms or RFC 3339: 'when:s'.
    /// Default: time or timestamp, if there is one.
    #[arg(long, value_name = "COLUMN[:UNIT]")]
    pub csv_timestamp: Option<String>,
    /// Columns that hold values. Default: value. Each gives a series of its own, named by the column unless
    /// there is --csv-metric.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub csv_value: Vec<String>,
    /// Column that holds the metric's name. Default: __name__ or metric, if there is one.
    #[arg(long, value_name = "COLUMN")]
    pub csv_metric: Option<String>,
    /// Columns that are labels. Default: all that are nothing else.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub csv_labels: Option<Vec<String>>,
}

impl Options {
    /// Whether something was chosen, which only makes sense for CSV.
    pub fn is_used(&self) -> bool {
        self.columns.is_some()
            || self.csv_timestamp.is_some()
            || !self.csv_value.is_empty()
            || self.csv_metric.is_some()
            || self.csv_labels.is_some()
    }

    /// The mapping, if it needs no header.
    ///
    /// # Errors
    /// If it is none.
    pub fn without_header(&self) -> anyhow::Result<Option<Mapping>> {
        self.columns.as_deref().map(|text| Mapping::of_positions(text).context("--columns")).transpose()
    }
}

/// Which column is what; columns count from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping {
    time: Option<(usize, TimeUnit)>,
    /// Values and the names of their series.
    values: Vec<(usize, String)>,
    /// The column of the name, which goes before those of the values.
    metric: Option<usize>,
    labels: Vec<(usize, String)>,
}

impl Mapping {
    /// A mapping in the notation of `--columns`.
    fn of_positions(text: &str) -> anyhow::Result<Self> {
        let mut mapping = Self::default();
        for part in text.split(',') {
            let mut fields = part.trim().splitn(3, ':');
            let position =
                fields.next().and_then(|p| p.parse::<usize>().ok()).filter(|p| (1..=4096).contains(p));
            let (Some(position), Some(kind)) = (position, fields.next()) else {
                bail!("{part:?} is no column; write 1:time:unix_s, 2:label:host or 3:metric:temperature");
            };
            let (column, context) = (position - 1, fields.next().unwrap_or(""));
            match kind {
                "time" if mapping.time.is_some() => bail!("two columns are the time"),
                "time" => {
                    let unit = match context {
                        "rfc3339" | "" => TimeUnit::Unsaid,
                        unit => TimeUnit::parse(unit).with_context(|| {
                            format!("{unit:?} is no unit; write unix_s, unix_ms, unix_us, unix_ns or rfc3339")
                        })?,
                    };
                    mapping.time = Some((column, unit));
                }
                "label" | "metric" if context.is_empty() => bail!("{part:?} has no name"),
                "label" => mapping.labels.push((column, context.to_owned())),
                "metric" => mapping.values.push((column, context.to_owned())),
                _ => bail!("{kind:?} is no kind of column; write time, label or metric"),
            }
        }
        if mapping.values.is_empty() {
            bail!("no column holds values; write 3:metric:NAME");
        }
        Ok(mapping)
    }

    /// The mapping that a header gives.
    fn of_header(header: &[Cow<'_, str>], options: &Options) -> anyhow::Result<Self> {
        let find = |name: &str| header.iter().position(|column| column.trim() == name);
        let named = |name: &str| {
            let mut columns = header.iter().map(|c| c.trim()).collect::<Vec<_>>().join(", ");
            if let Some((at, _)) = columns.char_indices().nth(COLUMNS_SHOWN) {
                columns.truncate(at);
                columns.push('…');
            }
            find(name).with_context(|| format!("no column {name:?} in the header, which has {columns}"))
        };
        let any = |names: &[&str]| names.iter().find_map(|name| find(name));
        let time = match &options.csv_timestamp {
            Some(text) => {
                let (name, unit) = match text.rsplit_once(':').map(|(n, u)| (n, TimeUnit::parse(u))) {
                    Some((name, Some(unit))) => (name, unit),
                    _ => (text.as_str(), TimeUnit::Unsaid),
                };
                Some((named(name)?, unit))
            }
            None => any(&["time", "timestamp"]).map(|column| (column, TimeUnit::Unsaid)),
        };
        let metric = match &options.csv_metric {
            Some(name) => Some(named(name)?),
            None => any(&[METRIC_NAME, "metric"]),
        };
        let mut values = Vec::new();
        for name in &options.csv_value {
            values.push((named(name)?, name.clone()));
        }
        if values.is_empty() {
            values.push((
                named("value").context("say which columns hold values with --csv-value, or what they are with --columns if there is no header")?,
                "value".to_owned(),
            ));
        }
        let labels = match &options.csv_labels {
            Some(names) => {
                names.iter().map(|n| Ok((named(n)?, n.clone()))).collect::<anyhow::Result<Vec<_>>>()?
            }
            None => (0..header.len())
                .filter(|c| {
                    time.is_none_or(|t| t.0 != *c) && metric != Some(*c) && values.iter().all(|v| v.0 != *c)
                })
                .map(|c| (c, header[c].trim().to_owned()))
                .filter(|label| !label.1.is_empty())
                .collect(),
        };
        Ok(Self { time, values, metric, labels })
    }
}

/// One row's fields and where each begins; `None` if the row does not end in `bytes` and more may come.
type Row<'a> = (Vec<(usize, Cow<'a, str>)>, usize);

/// Splits off the row at the start of `bytes`, which are all there are if `complete`. The length includes the newline.
fn row(bytes: &[u8], complete: bool) -> Result<Option<Row<'_>>, (usize, &'static str)> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let start = at;
        if bytes.get(at) == Some(&b'"') {
            let mut value = Vec::new();
            at += 1;
            loop {
                match memchr::memchr(b'"', &bytes[at..]) {
                    None if complete => return Err((start, "a quoted field does not end")),
                    None => return Ok(None),
                    Some(p) => {
                        value.extend_from_slice(&bytes[at..at + p]);
                        at += p + 1;
                        match bytes.get(at) {
                            Some(b'"') => {
                                value.push(b'"');
                                at += 1;
                            }
                            None if !complete => return Ok(None),
                            None | Some(b',' | b'\n' | b'\r') => break,
                            Some(_) => return Err((at, "a quote within a field")),
                        }
                    }
                }
            }
            let value = String::from_utf8(value).map_err(|_| (start, "a field that is no UTF-8"))?;
            fields.push((start, Cow::Owned(value)));
        } else {
            let end = match memchr::memchr2(b',', b'\n', &bytes[at..]) {
                Some(p) => at + p,
                None if complete => bytes.len(),
                None => return Ok(None),
            };
            let field = &bytes[at..end];
            let field = field.strip_suffix(b"\r").filter(|_| bytes.get(end) != Some(&b',')).unwrap_or(field);
            let value = std::str::from_utf8(field).map_err(|_| (start, "a field that is no UTF-8"))?;
            fields.push((start, Cow::Borrowed(value)));
            at = end;
        }
        if bytes.get(at) == Some(&b'\r') {
            at += 1;
        }
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b'\n') => return Ok(Some((fields, at + 1))),
            Some(_) => return Err((at, "a carriage return within a row")),
            None if complete => return Ok(Some((fields, at))),
            None => return Ok(None),
        }
    }
}

/// Reads rows until the input ends.
///
/// # Errors
/// If reading stops before.
pub fn read(input: &mut Input, options: &Options, run: &mut Run<'_>) -> Result<(), Stop> {
    let mut mapping = options.without_header().map_err(Stop::Failed)?;
    let (mut lines_before, mut rows) = (0, 0u64);
    loop {
        let bytes = input.bytes();
        let complete = input.is_complete();
        if complete && bytes.is_empty() {
            return Ok(());
        }
        // A byte order mark.
        if lines_before == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
            continue;
        }
        rows += 1;
        if rows.is_multiple_of(1024) {
            run.check()?;
        }
        let (used, problem) = match row(bytes, complete) {
            Ok(None) if bytes.len() > ROW_MAX => {
                let name = &input.name;
                return Err(Stop::Failed(anyhow::anyhow!("{name}: a row of more than {ROW_MAX} bytes")));
            }
            Ok(None) => {
                rows -= 1;
                if run.more(input)? == More::Idle {
                    run.check()?;
                }
                continue;
            }
            Err((offset, reason)) => {
                // What follows may be part of it, but most likely is the next row.
                let used = memchr::memchr(b'\n', &bytes[offset..]).map_or(bytes.len(), |p| offset + p + 1);
                (used, Some((offset, reason.to_owned())))
            }
            Ok(Some((fields, used))) => {
                let empty = fields.len() == 1 && fields[0].1.trim().is_empty();
                let problem = match &mapping {
                    _ if empty => None,
                    Some(mapping) => read_row(&fields, mapping, run)?.err(),
                    None => {
                        let header: Vec<Cow<'_, str>> = fields.into_iter().map(|f| f.1).collect();
                        let found = Mapping::of_header(&header, options)
                            .with_context(|| format!("{}:{}", input.name, lines_before + 1));
                        mapping = Some(found.map_err(Stop::Failed)?);
                        None
                    }
                };
                (used, problem)
            }
        };
        if let Some((offset, reason)) = problem {
            let line = line_at(&bytes[..used], offset, lines_before + 1);
            let place = format!("{}:{}:{}", input.name, line.number, line.column + 1);
            run.unreadable(&place, &reason, Some(line))?;
        }
        lines_before += memchr::memchr_iter(b'\n', &bytes[..used]).count();
        input.check()?;
        input.consume(used);
    }
}

/// The inner error is about the row, with the offset of the field.
fn read_row(
    fields: &[(usize, Cow<'_, str>)],
    mapping: &Mapping,
    run: &mut Run<'_>,
) -> Result<Result<(), (usize, String)>, Stop> {
    let end = fields.last().map_or(0, |f| f.0 + f.1.len());
    let field = |column: usize| {
        let missing = || (end, format!("{} fields, column {} is missing", fields.len(), column + 1));
        fields.get(column).ok_or_else(missing)
    };
    let t = match mapping.time {
        None if run.needs_times => {
            return Ok(Err((0, "no column has the time; --timestamp gives samples one".to_owned())));
        }
        None => run.now_ms(),
        Some((column, unit)) => match field(column) {
            Err(e) => return Ok(Err(e)),
            Ok((at, text)) => match unit.parse_ms(text) {
                Some(t) if unit.is_doubtful(t) && unit.number_ms(text.trim()).is_some() => {
                    let hint = "is hardly milliseconds; --csv-timestamp or --columns says what it counts";
                    return Ok(Err((*at, format!("{text:?} {hint}"))));
                }
                Some(t) => t,
                None => return Ok(Err((*at, format!("{text:?} is no timestamp")))),
            },
        },
    };
    for (column, name) in &mapping.values {
        let (at, text) = match field(*column) {
            Err(e) => return Ok(Err(e)),
            Ok(field) => field,
        };
        // No value is no sample.
        if text.trim().is_empty() {
            continue;
        }
        let Ok(value) = parse_float(text.trim()) else {
            return Ok(Err((*at, format!("{text:?} is no number"))));
        };
        let value = if value.is_nan() { normal_nan() } else { value };
        let scratch = &mut run.sink.scratch;
        scratch.clear();
        let name = match mapping.metric {
            None => name.as_str(),
            Some(column) => match field(column) {
                Err(e) => return Ok(Err(e)),
                Ok((_, name)) => name.trim(),
            },
        };
        scratch.push(METRIC_NAME, name);
        for (column, label) in &mapping.labels {
            match field(*column) {
                Err(e) => return Ok(Err(e)),
                Ok((_, value)) => scratch.push(label, value),
            }
        }
        let known = run.sink.series_of_scratch(CLASS);
        run.sink.float(known, t, value, 0);
    }
    run.sink.check()?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_as_rfc_4180_says() {
        let read = |text: &str, complete| match row(text.as_bytes(), complete) {
            Ok(None) => "more".to_owned(),
            Ok(Some((fields, used))) => {
                let fields: Vec<_> = fields.iter().map(|f| format!("{}:{}", f.0, f.1)).collect();
                format!("{fields:?} {used}")
            }
            Err((at, reason)) => format!("{at}: {reason}"),
        };
        for (text, complete, want) in [
            ("a,b\nc", true, r#"["0:a", "2:b"] 4"#),
            ("a,,b\r\nc", true, r#"["0:a", "2:", "3:b"] 6"#),
            ("\"a\"\"b\",\"c,\nd\"\n", true, r#"["0:a\"b", "7:c,\nd"] 14"#),
            ("a,b", true, r#"["0:a", "2:b"] 3"#),
            ("a,b", false, "more"),
            ("a,\"b", false, "more"),
            ("a,\"b\"", false, "more"),
            ("a,\"b", true, "2: a quoted field does not end"),
            ("\"a\"b,c\n", true, "3: a quote within a field"),
            ("\"a\"\rb\n", true, "4: a carriage return within a row"),
            ("\"a\"\r\n", true, r#"["0:a"] 5"#),
            ("", true, r#"["0:"] 0"#),
        ] {
            assert_eq!(read(text, complete), want, "{text:?}");
        }
    }

    #[test]
    fn columns_are_mapped() {
        let header: Vec<Cow<'_, str>> = ["__name__", "host", "time", "value"].map(Cow::Borrowed).to_vec();
        let none = Options::default();
        let mapping = Mapping::of_header(&header, &none).unwrap();
        assert_eq!(
            mapping,
            Mapping {
                time: Some((2, TimeUnit::Unsaid)),
                values: vec![(3, "value".to_owned())],
                metric: Some(0),
                labels: vec![(1, "host".to_owned())],
            }
        );
        let by_position = Mapping::of_positions("3:time:unix_s, 2:label:host,4:metric:value").unwrap();
        assert_eq!(by_position, Mapping { metric: None, time: Some((2, TimeUnit::S)), ..mapping });
        let options = Options {
            csv_timestamp: Some("host:ns".to_owned()),
            csv_value: vec!["time".to_owned(), "value".to_owned()],
            csv_labels: Some(Vec::new()),
            ..none
        };
        let mapping = Mapping::of_header(&header, &options).unwrap();
        assert_eq!(
            (mapping.time, mapping.values.len(), mapping.labels.len()),
            (Some((1, TimeUnit::Ns)), 2, 0)
        );
        let wrong = Options { csv_value: vec!["x".to_owned()], ..Options::default() };
        let error = Mapping::of_header(&header, &wrong).unwrap_err().to_string();
        assert_eq!(error, "no column \"x\" in the header, which has __name__, host, time, value");
        for text in
            ["", "1", "0:time:s", "1:time:m", "1:label:", "1:x:y", "1:time:s", "1:time,2:time,3:metric:a"]
        {
            assert!(Mapping::of_positions(text).is_err(), "{text}");
        }
    }
}
