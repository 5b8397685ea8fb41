//! `tsdbctl export`: every sample, as lines.

use std::collections::HashSet;
use std::io::{self, Write};

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_model::float_text::write_g;
use tsdbctl_model::histogram::Bucket;
use tsdbctl_model::{FloatHistogram, Matcher, SymbolTable};
use tsdbctl_storage::{Control, Queryable, ReadStats, SelectHints, StorageError, TimeFilter};

use crate::data::{ALL_TIMES, Directories, TimeRange};
use crate::diagnostic::show_parse_error;
use crate::exit::ExitStatus;
use crate::sizes::format_count;
use crate::ui::{Progress, Ui};

/// Write every sample, in the lines of `promtool tsdb dump`.
///
/// Exit status: 0 done, 4 of some times only downsampled samples are left, which are not written, 1 something is damaged,
/// 2 wrong usage, or a directory that cannot be used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// Only series of this selector, such as 'up{job="node"}'; repeatable, a series needs one of them.
    #[arg(short, long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
    /// When.
    #[command(flatten)]
    pub range: TimeRange,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "prom")]
    pub output: Output,
}

/// How samples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// `{label="value", …} value timestamp_ms`, stale markers as NaN, histograms in braces.
    Prom,
}

/// Bytes are handed to the writer in pieces of about this size.
const FLUSH_BYTES: usize = 256 << 10;

/// Runs the command.
///
/// # Errors
/// If the directories cannot be read or a time is none.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let mut sets = Vec::new();
    for text in &args.matches {
        match tsdbctl_promql::parser::parse_metric_selector(text) {
            Ok(matchers) => sets.push(matchers),
            Err(e) => {
                show_parse_error(ui, text, &e);
                return Ok(ExitStatus::Usage);
            }
        }
    }
    let control = Control::default();
    let database = args.data.open()?;
    let times = args.range.resolve(&database, &control, ALL_TIMES)?;
    let mut progress = ui.progress(0, "series");
    let written = export(&database, &sets, times, &control, ui.out(), &mut progress)?;
    drop(progress);
    ui.detail(format!("{} samples", format_count(written)));
    let only_downsampled = database.only_downsampled(times.0, times.1);
    for (start, end, resolution_ms) in &only_downsampled {
        ui.warn(format!(
            "from {} to {} only downsampled samples are left, of {} resolution; they are not exported, `tsdbctl query` takes them",
            format_rfc3339_ms(*start),
            format_rfc3339_ms(*end),
            format_duration_ms(*resolution_ms)
        ));
    }
    Ok(if only_downsampled.is_empty() { ExitStatus::Success } else { ExitStatus::Partial })
}

/// A failed export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Reading failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Writing failed.
    #[error("cannot write")]
    Write(#[from] io::Error),
}

/// Writes the samples in `times` (Unix ms, both ends inclusive) of all series that satisfy one of `sets`, or of
/// all series if there are none. Returns the number of samples.
///
/// # Errors
/// If reading or writing fails.
pub fn export(
    data: &dyn Queryable,
    sets: &[Vec<Matcher>],
    times: (i64, i64),
    control: &Control,
    out: &mut dyn Write,
    progress: &mut Progress,
) -> Result<u64, ExportError> {
    let (mint, maxt) = times;
    let querier = data.querier(mint, maxt, sets, control)?;
    let hints = SelectHints { start: mint, end: maxt, ..SelectHints::default() };
    let filter = TimeFilter::all_between(mint, maxt);
    let everything = [Vec::new()];
    let several = sets.len() > 1;
    let mut symbols = SymbolTable::new();
    let mut seen = HashSet::new();
    let mut selected = Vec::new();
    for matchers in if sets.is_empty() { &everything } else { sets } {
        selected.push(querier.select(&hints, matchers, &mut symbols, control)?);
    }
    progress.set_total(selected.iter().map(|s| s.len() as u64).sum());
    let mut text = Vec::with_capacity(FLUSH_BYTES + (64 << 10));
    let mut labels = Vec::new();
    let mut samples = SampleColumns::default();
    let mut stats = ReadStats::default();
    let mut written = 0;
    for set in &selected {
        for i in 0..set.len() {
            progress.step();
            if several && !seen.insert(set.labels(i).to_vec()) {
                continue;
            }
            samples.clear();
            set.read(i, &filter, &mut samples, &mut stats)?;
            if samples.is_empty() {
                continue;
            }
            labels.clear();
            labels.extend_from_slice(symbols.labels(set.labels(i)).to_string().as_bytes());
            labels.push(b' ');
            written += samples.len() as u64;
            write_samples(&mut text, &labels, &samples, out)?;
        }
    }
    out.write_all(&text)?;
    Ok(written)
}

/// The lines of one series, floats and histograms in time order.
fn write_samples(
    text: &mut Vec<u8>,
    labels: &[u8],
    samples: &SampleColumns,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (floats, histograms) = (&samples.floats, &samples.histograms);
    let mut digits = itoa::Buffer::new();
    let mut next = 0;
    let mut histogram_before = |text: &mut Vec<u8>, t: i64| {
        while let Some(at) = histograms.t.get(next).copied().filter(|at| *at < t) {
            text.extend_from_slice(labels);
            write_histogram(text, &histograms.h[next], histograms.integer[next]);
            text.push(b' ');
            text.extend_from_slice(itoa::Buffer::new().format(at).as_bytes());
            text.push(b'\n');
            next += 1;
        }
    };
    for (t, v) in floats.t.iter().zip(&floats.v) {
        histogram_before(text, *t);
        text.extend_from_slice(labels);
        write_g(text, *v);
        text.push(b' ');
        text.extend_from_slice(digits.format(*t).as_bytes());
        text.push(b'\n');
        if text.len() >= FLUSH_BYTES {
            out.write_all(text)?;
            text.clear();
        }
    }
    histogram_before(text, i64::MAX);
    if text.len() >= FLUSH_BYTES {
        out.write_all(text)?;
        text.clear();
    }
    Ok(())
}

/// Writes a histogram as people read it; counts of integer histograms never have an exponent.
pub fn write_histogram(text: &mut Vec<u8>, h: &FloatHistogram, integer: bool) {
    let count = |text: &mut Vec<u8>, count: f64| {
        if integer {
            text.extend_from_slice(itoa::Buffer::new().format(count as u64).as_bytes());
        } else {
            write_g(text, count);
        }
    };
    let bucket = |text: &mut Vec<u8>, b: &Bucket| {
        if b.count == 0.0 {
            return;
        }
        text.extend_from_slice(if b.lower_inclusive { b", [" } else { b", (" });
        write_g(text, b.lower);
        text.push(b',');
        write_g(text, b.upper);
        text.extend_from_slice(if b.upper_inclusive { b"]:" } else { b"):" });
        count(text, b.count);
    };
    text.extend_from_slice(b"{count:");
    count(text, h.count);
    text.extend_from_slice(b", sum:");
    write_g(text, h.sum);
    for b in h.negative_reverse_bucket_iter() {
        bucket(text, &b);
    }
    if h.zero_count != 0.0 {
        bucket(text, &h.zero_bucket());
    }
    for b in h.positive_bucket_iter() {
        bucket(text, &b);
    }
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use tsdbctl_model::histogram::BucketSpan;

    use super::*;

    fn text(h: &FloatHistogram, integer: bool) -> String {
        let mut out = Vec::new();
        write_histogram(&mut out, h, integer);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn histograms_are_written_as_they_print() {
        let h = FloatHistogram {
            count: 2_000_003.0,
            sum: 2.5,
            zero_threshold: 0.25,
            zero_count: 3.0,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
            positive_buckets: vec![1_000_000.0, 0.0],
            negative_spans: vec![BucketSpan { offset: 1, length: 2 }],
            negative_buckets: vec![500_000.0, 500_000.0],
            ..FloatHistogram::default()
        };
        assert_eq!(text(&h, false), h.to_string());
        assert_eq!(
            text(&h, true),
            "{count:2000003, sum:2.5, [-4,-2):500000, [-2,-1):500000, [-0.25,0.25]:3, (0.5,1]:1000000}"
        );
        assert_eq!(text(&FloatHistogram::default(), true), "{count:0, sum:0}");
    }

    #[test]
    fn both_kinds_of_samples_come_in_time_order() {
        let mut samples = SampleColumns::default();
        samples.floats.push(1, f64::NAN, 0);
        samples.floats.push(3, 1e6, 0);
        for t in [0, 2, 4] {
            samples.histograms.push(t, FloatHistogram::default().into(), true, 0);
        }
        let mut out = Vec::new();
        write_samples(&mut out, b"{} ", &samples, &mut io::sink()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{} {count:0, sum:0} 0\n{} NaN 1\n{} {count:0, sum:0} 2\n{} 1e+06 3\n{} {count:0, sum:0} 4\n"
        );
    }
}
