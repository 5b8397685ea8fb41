//! Remote-write bodies, 1.0 and 2.0, snappy or plain: one body is one input.

use std::collections::HashMap;

use tsdbctl_model::Labels;
use tsdbctl_model::labels::METRIC_NAME;
use tsdbctl_model::sample::{Exemplar, MetricType};
use tsdbctl_wire::{Item, Reader, TimeSeries, Version, snappy};

use super::input::Input;
use super::run::Run;
use super::sink::Stop;

/// A plain body may have this many bytes; a compressed one has [`snappy::DECODED_BYTES_MAX`] decompressed.
const PLAIN_BYTES_MAX: usize = 1 << 30;
/// Not one of the classes of exposition.
const CLASS: u64 = 1 << 32;

/// Whether bytes are a remote-write body: the message, decompressed if it was not plain, and its version.
pub fn recognize(bytes: &[u8]) -> Option<Version> {
    if let Ok(message) = snappy::decompress(bytes, snappy::DECODED_BYTES_MAX)
        && !message.is_empty()
        && let Some(version) = Version::of_message(&message)
        && is_message(&message, version)
    {
        return Some(version);
    }
    Version::of_message(bytes).filter(|version| is_message(bytes, *version))
}

/// Whether all of it reads as a message of the version, with a label in every series.
fn is_message(message: &[u8], version: Version) -> bool {
    let Ok(mut reader) = Reader::new(message, version) else { return false };
    let mut series = TimeSeries::default();
    loop {
        match reader.next(&mut series) {
            Ok(None) => return true,
            Ok(Some(Item::Series)) if series.labels.is_empty() => return false,
            Ok(Some(_)) => {}
            Err(_) => return false,
        }
    }
}

/// Reads the input as one body. `version` is what a header says; else the body tells.
///
/// # Errors
/// If reading stops before the end.
pub fn read(input: &mut Input, version: Option<Version>, run: &mut Run<'_>) -> Result<(), Stop> {
    run.read_to_end(input, PLAIN_BYTES_MAX)?;
    let bytes = input.bytes();
    if bytes.is_empty() {
        return Ok(());
    }
    let unpacked = snappy::decompress(bytes, snappy::DECODED_BYTES_MAX);
    let is_plain = Version::of_message(bytes).is_some_and(|v| version.is_none_or(|w| v == w));
    let message = match &unpacked {
        Ok(message) => &message[..],
        // What could be a message is one; the first byte of a block is its length.
        Err(_) if is_plain => bytes,
        Err(e) => return run.unreadable(&input.name.clone(), &e.to_string(), None),
    };
    let Some(version) = version.or_else(|| Version::of_message(message)) else {
        return run.unreadable(&input.name.clone(), "neither a WriteRequest nor a write.v2.Request", None);
    };
    let name = input.name.clone();
    read_message(message, version, &name, run)?;
    input.check()?;
    let all = input.bytes().len();
    input.consume(all);
    Ok(())
}

fn read_message(message: &[u8], version: Version, name: &str, run: &mut Run<'_>) -> Result<(), Stop> {
    // Metadata of 1.0 is about families and may stand behind their series.
    let mut families: HashMap<&str, (MetricType, &str, &str)> = HashMap::new();
    let mut series = TimeSeries::default();
    if version == Version::V1 && run.sink.wants_metadata() {
        let mut reader = match Reader::new(message, version) {
            Ok(reader) => reader,
            Err(e) => return run.unreadable(name, &e.to_string(), None),
        };
        while let Ok(Some(item)) = reader.next(&mut series) {
            if let Item::Metadata(m) = item {
                families.insert(m.family, (m.metric_type, m.unit, m.help));
            }
        }
    }
    let mut reader = match Reader::new(message, version) {
        Ok(reader) => reader,
        Err(e) => return run.unreadable(name, &e.to_string(), None),
    };
    loop {
        run.check()?;
        match reader.next(&mut series) {
            Ok(None) => return Ok(()),
            Ok(Some(Item::Metadata(_))) => {}
            Ok(Some(Item::Series)) => read_series(&series, &families, name, run)?,
            Err(e) => run.unreadable(name, &e.to_string(), None)?,
        }
    }
}

fn read_series(
    series: &TimeSeries<'_>,
    families: &HashMap<&str, (MetricType, &str, &str)>,
    name: &str,
    run: &mut Run<'_>,
) -> Result<(), Stop> {
    run.sink.scratch.clear();
    for (name, value) in &series.labels {
        run.sink.scratch.push(name, value);
    }
    let known = run.sink.series_of_scratch(CLASS);
    if run.sink.wants_metadata() {
        let m = &series.metadata;
        if (m.metric_type, m.unit, m.help) != (MetricType::Unknown, "", "") {
            run.sink.metadata(known, m.metric_type, m.unit, m.help);
        } else if !families.is_empty() {
            let metric = series.labels.iter().find(|l| l.0 == METRIC_NAME).map_or("", |l| l.1);
            let suffixes = ["", "_total", "_bucket", "_sum", "_count"];
            let family = suffixes.iter().find_map(|s| families.get(metric.strip_suffix(s)?));
            if let Some((metric_type, unit, help)) = family {
                run.sink.metadata(known, *metric_type, unit, help);
            }
        }
    }
    for sample in &series.samples {
        run.sink.float(known, sample.timestamp_ms, sample.value, run.start(sample.start_timestamp_ms));
    }
    for i in 0..series.histogram_count() {
        match series.histogram(i) {
            Ok(h) => run.sink.histogram(known, h.timestamp_ms, h.histogram, run.start(h.start_timestamp_ms)),
            Err(e) => run.unreadable(name, &e.to_string(), None)?,
        }
    }
    if run.sink.wants_exemplars() {
        for e in &series.exemplars {
            let labels = Labels::from_pairs(series.exemplar_labels[e.labels.clone()].iter().copied());
            run.sink.exemplar(known, Exemplar { labels, value: e.value, timestamp_ms: e.timestamp_ms });
        }
    }
    run.sink.check()
}

#[cfg(test)]
mod tests {
    use tsdbctl_wire::{Metadata, Sample, WriteRequestWriter, WriteV2Writer};

    use super::*;

    #[test]
    fn bodies_are_recognized_plain_and_packed() {
        let labels = Labels::from_pairs([("__name__", "a")]);
        let samples = [Sample { value: 1.0, timestamp_ms: 5, start_timestamp_ms: 0 }];
        let mut v1 = WriteRequestWriter::default();
        v1.series(&labels, &samples, &[], &[]);
        let mut v2 = WriteV2Writer::default();
        v2.series(&labels, &samples, &[], &[], &Metadata::default());
        for (message, version) in [(v1.finish(), Version::V1), (v2.finish(), Version::V2)] {
            assert_eq!(recognize(&message), Some(version));
            assert_eq!(recognize(&snappy::compress(&message).unwrap()), Some(version));
        }
        for other in [&b""[..], b"a 1\n", b"# TYPE a gauge\n", b"\n\n", b"{\"metric\":{}}", b"a,b\n1,2\n"] {
            assert_eq!(recognize(other), None, "{other:?}");
        }
        // A family of ten bytes begins as a series does.
        assert_eq!(recognize(&[10, 0x0a, 1, b'a', 0x18, 1, 0x22, 3, 0x12, 1, 0]), None);
    }
}
