//! What is encoded is decoded; what is cut or made to mislead is refused without harm.

use tsdbctl_model::histogram::{BucketSpan, ConvertedHistogram};
use tsdbctl_model::sample::{Exemplar, MetricType};
use tsdbctl_model::{CounterResetHint, FloatHistogram, Histogram, Labels};
use tsdbctl_wire::{
    HistogramSample, Item, Metadata, Reader, Sample, TimeSeries, Version, WriteRequestWriter, WriteV2Writer,
};

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "a"), ("é", "\u{1F600}")])
}

fn samples() -> Vec<Sample> {
    let of = |value, timestamp_ms, start_timestamp_ms| Sample { value, timestamp_ms, start_timestamp_ms };
    vec![of(1.5, -5, 0), of(f64::from_bits(0x7ff0_0000_0000_0002), i64::MAX, 7), of(-0.0, 0, 0)]
}

fn exemplars() -> Vec<Exemplar> {
    vec![
        Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), value: 2.0, timestamp_ms: 9 },
        Exemplar { labels: Labels::empty(), value: 0.0, timestamp_ms: 0 },
    ]
}

fn histograms() -> Vec<HistogramSample> {
    let spans = |offset| vec![BucketSpan { offset, length: 2 }];
    let integer = Histogram {
        counter_reset_hint: CounterResetHint::NotCounterReset,
        schema: -4,
        zero_threshold: 0.001,
        zero_count: 1,
        count: 9,
        sum: -3.25,
        positive_spans: spans(-3),
        positive_buckets: vec![3, -2],
        negative_spans: spans(1),
        negative_buckets: vec![1, 2],
        custom_values: None,
    };
    let custom = FloatHistogram {
        counter_reset_hint: CounterResetHint::Gauge,
        schema: -53,
        count: 4.5,
        sum: 1.0,
        positive_spans: spans(0),
        positive_buckets: vec![4.5, 0.0],
        custom_values: Some([0.5, 1.0].into()),
        ..FloatHistogram::default()
    };
    let of = |histogram| HistogramSample { timestamp_ms: 12, start_timestamp_ms: 3, histogram };
    vec![
        of(ConvertedHistogram::Integer(integer)),
        of(ConvertedHistogram::Float(custom)),
        of(ConvertedHistogram::Float(FloatHistogram::default())),
        of(ConvertedHistogram::Integer(Histogram::default())),
    ]
}

const METADATA: Metadata<'_> =
    Metadata { family: "f", metric_type: MetricType::Histogram, help: "what", unit: "s" };

fn message(version: Version) -> Vec<u8> {
    match version {
        Version::V1 => {
            let mut w = WriteRequestWriter::default();
            w.series(&labels("a"), &samples(), &exemplars(), &[]);
            w.series(&labels("b"), &[], &[], &histograms());
            w.metadata(&METADATA);
            w.finish()
        }
        Version::V2 => {
            let mut w = WriteV2Writer::default();
            w.series(&labels("a"), &samples(), &exemplars(), &[], &METADATA);
            w.series(&labels("b"), &[], &[], &histograms(), &Metadata::default());
            w.finish()
        }
    }
}

/// All of a message as text, and how it ends.
fn read(message: &[u8], version: Version) -> (Vec<String>, Option<String>) {
    let mut out = Vec::new();
    let mut series = TimeSeries::default();
    let mut reader = match Reader::new(message, version) {
        Ok(reader) => reader,
        Err(e) => return (out, Some(e.to_string())),
    };
    loop {
        match reader.next(&mut series) {
            Ok(None) => return (out, None),
            Err(e) => return (out, Some(e.to_string())),
            Ok(Some(Item::Metadata(m))) => out.push(format!("{m:?}")),
            Ok(Some(Item::Series)) => {
                out.push(format!("{:?}", series.labels));
                out.extend(
                    series.samples.iter().map(|s| {
                        format!("{:x} {} {}", s.value.to_bits(), s.timestamp_ms, s.start_timestamp_ms)
                    }),
                );
                for e in &series.exemplars {
                    let labels = &series.exemplar_labels[e.labels.clone()];
                    out.push(format!("{labels:?} {} {}", e.value, e.timestamp_ms));
                }
                for i in 0..series.histogram_count() {
                    match series.histogram(i) {
                        Ok(h) => out.push(format!("{h:?}")),
                        Err(e) => return (out, Some(e.to_string())),
                    }
                }
                out.push(format!("{:?}", series.metadata));
            }
        }
    }
}

#[test]
fn both_versions_go_round() {
    for version in [Version::V1, Version::V2] {
        let message = message(version);
        assert_eq!(Version::of_message(&message), Some(version));
        let (got, error) = read(&message, version);
        assert_eq!(error, None);
        let v2 = version == Version::V2;
        let mut want = vec![r#"[("__name__", "a"), ("job", "a"), ("é", "😀")]"#.to_owned()];
        want.extend(samples().iter().map(|s| {
            let start = if v2 { s.start_timestamp_ms } else { 0 };
            format!("{:x} {} {start}", s.value.to_bits(), s.timestamp_ms)
        }));
        want.push(r#"[("trace_id", "x")] 2 9"#.to_owned());
        want.push("[] 0 0".to_owned());
        let of_series = Metadata { family: "", ..METADATA };
        want.push(format!("{:?}", if v2 { of_series } else { Metadata::default() }));
        want.push(r#"[("__name__", "b"), ("job", "a"), ("é", "😀")]"#.to_owned());
        for mut h in histograms() {
            h.start_timestamp_ms = if v2 { 3 } else { 0 };
            want.push(format!("{h:?}"));
        }
        want.push(format!("{:?}", Metadata::default()));
        if !v2 {
            want.push(format!("{METADATA:?}"));
        }
        assert_eq!(got, want, "{version:?}");
    }
}

#[test]
fn every_prefix_ends_early_or_in_an_error() {
    for version in [Version::V1, Version::V2] {
        let message = message(version);
        let whole = read(&message, version).0;
        let mut errors = 0;
        for cut in 0..message.len() {
            let (got, error) = read(&message[..cut], version);
            errors += usize::from(error.is_some());
            assert!(got.len() < whole.len(), "{version:?} cut at {cut}");
        }
        assert!(errors + 30 > message.len(), "only {errors} of {} prefixes are refused", message.len());
    }
}

#[test]
fn every_flipped_bit_is_survived() {
    for version in [Version::V1, Version::V2] {
        let message = message(version);
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut hostile = message.clone();
                hostile[at] ^= 1 << bit;
                for version in [Version::V1, Version::V2] {
                    read(&hostile, version);
                }
            }
        }
    }
}

#[test]
fn errors_say_what_and_where() {
    let cases: [(Version, &[u8], &str); 8] = [
        (Version::V1, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], "at byte 6: unexpected EOF"),
        (
            Version::V1,
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            "at byte 11: proto: negative length found during unmarshaling",
        ),
        (Version::V1, &[0x10, 0x01, 0x0a, 2, 0x0a, 9], "at byte 6: unexpected EOF"),
        (Version::V1, &[0x0a, 6, 0x0a, 4, 0x0a, 2, 0xff, 0xfe], "at byte 8: field Name is not valid UTF-8"),
        (Version::V1, &[0x0d, 1, 2, 3, 4], "at byte 1: proto: wrong wireType = 5 for field Timeseries"),
        (Version::V2, &[0x22, 1, b'x'], "at byte 3: the first symbol is not empty"),
        (Version::V2, &[0x22, 0, 0x2a, 3, 0x0a, 1, 0], "at byte 7: invalid labelRefs length 1"),
        (
            Version::V2,
            &[0x22, 0, 0x2a, 4, 0x0a, 2, 0, 9],
            "at byte 8: symbol 9 outside of symbols table (size 1)",
        ),
    ];
    for (version, message, want) in cases {
        assert_eq!(read(message, version).1.as_deref(), Some(want), "{message:x?}");
    }
}

#[test]
fn a_wrong_series_does_not_end_the_message() {
    let mut message = vec![0x0a, 4, 0x0a, 2, 0x0a, 9];
    message.extend_from_slice(&self::message(Version::V1));
    let mut reader = Reader::new(&message, Version::V1).unwrap();
    let mut series = TimeSeries::default();
    assert!(reader.next(&mut series).is_err());
    assert_eq!(reader.next(&mut series), Ok(Some(Item::Series)));
    assert_eq!(series.labels[0], ("__name__", "a"));
}

#[test]
fn headers_name_versions() {
    for (header, want) in [
        ("application/x-protobuf", Some(Version::V1)),
        ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Version::V1)),
        ("Application/X-Protobuf; proto=io.prometheus.write.v2.Request", Some(Version::V2)),
        ("application/x-protobuf;proto=x", None),
        ("text/plain", None),
    ] {
        assert_eq!(Version::of_content_type(header), want, "{header}");
    }
}
