//! Entries to records, with upstream's bytes. Every function appends one record to `out`.

use tsdbctl_model::{FloatHistogram, Histogram, Labels};

use crate::cursor::{put_be64, put_float, put_string, put_uvarint, put_varint};
use crate::record::histogram::{CUSTOM_BUCKETS_SCHEMA, write_float_histogram, write_histogram};
use crate::record::{MarkerEntry, RecordType, SampleEntry, TombstoneEntry};

/// Appends a label set.
pub fn labels(out: &mut Vec<u8>, labels: &Labels) {
    put_uvarint(out, labels.len() as u64);
    for l in labels {
        put_string(out, l.name.as_bytes());
        put_string(out, l.value.as_bytes());
    }
}

/// A series record.
pub fn series<'a>(out: &mut Vec<u8>, entries: impl IntoIterator<Item = (u64, &'a Labels)>) {
    out.push(RecordType::Series as u8);
    for (series, set) in entries {
        put_be64(out, series);
        labels(out, set);
    }
}

fn v1<V>(
    out: &mut Vec<u8>,
    kind: RecordType,
    entries: &[SampleEntry<V>],
    mut value: impl FnMut(&mut Vec<u8>, &V),
) {
    out.push(kind as u8);
    let Some(first) = entries.first() else { return };
    put_be64(out, first.series);
    put_be64(out, first.timestamp_ms as u64);
    for e in entries {
        put_varint(out, e.series.wrapping_sub(first.series) as i64);
        put_varint(out, e.timestamp_ms.wrapping_sub(first.timestamp_ms));
        value(out, &e.value);
    }
}

fn v2<V>(
    out: &mut Vec<u8>,
    kind: RecordType,
    entries: &[SampleEntry<V>],
    mut value: impl FnMut(&mut Vec<u8>, &V),
) {
    out.push(kind as u8);
    let Some(first) = entries.first() else { return };
    put_varint(out, first.series as i64);
    put_varint(out, first.timestamp_ms);
    put_varint(out, first.start_timestamp_ms);
    value(out, &first.value);
    for pair in entries.windows(2) {
        let (before, e) = (&pair[0], &pair[1]);
        put_varint(out, e.series.wrapping_sub(before.series) as i64);
        put_varint(out, e.timestamp_ms.wrapping_sub(first.timestamp_ms));
        match e.start_timestamp_ms {
            0 => out.push(0),
            start if start == before.start_timestamp_ms => out.push(1),
            start => {
                out.push(2);
                put_varint(out, start.wrapping_sub(first.start_timestamp_ms));
            }
        }
        value(out, &e.value);
    }
}

/// A record of float samples; start timestamps are left out.
pub fn samples(out: &mut Vec<u8>, entries: &[SampleEntry<f64>]) {
    v1(out, RecordType::Samples, entries, |out, v| put_float(out, *v));
}

/// A record of float samples with start timestamps.
pub fn samples_v2(out: &mut Vec<u8>, entries: &[SampleEntry<f64>]) {
    v2(out, RecordType::SamplesV2, entries, |out, v| put_float(out, *v));
}

/// A record of integer histograms, all with custom buckets or none; start timestamps are left out.
pub fn histograms(out: &mut Vec<u8>, entries: &[SampleEntry<Histogram>]) {
    let custom = entries.first().is_some_and(|e| e.value.schema == CUSTOM_BUCKETS_SCHEMA);
    let kind = if custom { RecordType::CustomBucketsHistogramSamples } else { RecordType::HistogramSamples };
    v1(out, kind, entries, write_histogram);
}

/// A record of integer histograms with start timestamps.
pub fn histograms_v2(out: &mut Vec<u8>, entries: &[SampleEntry<Histogram>]) {
    v2(out, RecordType::HistogramSamplesV2, entries, write_histogram);
}

/// A record of float histograms, all with custom buckets or none; start timestamps are left out.
pub fn float_histograms(out: &mut Vec<u8>, entries: &[SampleEntry<FloatHistogram>]) {
    let custom = entries.first().is_some_and(|e| e.value.schema == CUSTOM_BUCKETS_SCHEMA);
    let kind = if custom {
        RecordType::CustomBucketsFloatHistogramSamples
    } else {
        RecordType::FloatHistogramSamples
    };
    v1(out, kind, entries, write_float_histogram);
}

/// A record of float histograms with start timestamps.
pub fn float_histograms_v2(out: &mut Vec<u8>, entries: &[SampleEntry<FloatHistogram>]) {
    v2(out, RecordType::FloatHistogramSamplesV2, entries, write_float_histogram);
}

/// A tombstone record.
pub fn tombstones(out: &mut Vec<u8>, entries: &[TombstoneEntry]) {
    out.push(RecordType::Tombstones as u8);
    for e in entries {
        put_be64(out, e.series);
        put_varint(out, e.mint);
        put_varint(out, e.maxt);
    }
}

/// A record of exemplars: value and labels of each.
pub fn exemplars(out: &mut Vec<u8>, entries: &[SampleEntry<(f64, Labels)>]) {
    v1(out, RecordType::Exemplars, entries, |out, (v, set)| {
        put_float(out, *v);
        labels(out, set);
    });
}

/// A record of markers.
pub fn markers(out: &mut Vec<u8>, entries: &[MarkerEntry]) {
    out.push(RecordType::MmapMarkers as u8);
    for e in entries {
        put_be64(out, e.series);
        put_be64(out, e.chunk);
    }
}

/// A metadata record: reference, type, unit, help of each series.
pub fn metadata<'a>(out: &mut Vec<u8>, entries: impl IntoIterator<Item = (u64, u8, &'a str, &'a str)>) {
    out.push(RecordType::Metadata as u8);
    for (series, kind, unit, help) in entries {
        put_uvarint(out, series);
        out.push(kind);
        put_uvarint(out, 2);
        for text in ["UNIT", unit, "HELP", help] {
            put_string(out, text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use tsdbctl_model::CounterResetHint;
    use tsdbctl_model::histogram::BucketSpan;

    use super::*;
    use crate::record::{ExemplarEntry, MetadataEntry, SeriesEntry, Visitor, decode};

    /// Everything seen, as text; histograms compare so too.
    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Visitor for Seen {
        fn series(&mut self, e: SeriesEntry<'_>) {
            let labels: Vec<String> = e
                .labels
                .iter()
                .map(|(n, v)| format!("{}={}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
                .collect();
            self.0.push(format!("series {} {}", e.series, labels.join(",")));
        }
        fn sample(&mut self, e: SampleEntry<f64>) {
            self.0.push(format!(
                "{} {} {} {:x}",
                e.series,
                e.start_timestamp_ms,
                e.timestamp_ms,
                e.value.to_bits()
            ));
        }
        fn wants_histogram(&mut self, series: u64, _: i64) -> bool {
            series != 99
        }
        fn histogram(&mut self, e: SampleEntry<Histogram>) {
            self.0.push(format!("{} {} {} {:?}", e.series, e.start_timestamp_ms, e.timestamp_ms, e.value));
        }
        fn float_histogram(&mut self, e: SampleEntry<FloatHistogram>) {
            self.0.push(format!("{} {} {} {:?}", e.series, e.start_timestamp_ms, e.timestamp_ms, e.value));
        }
        fn unknown_schema(&mut self, series: u64, schema: i32) {
            self.0.push(format!("{series} schema {schema}"));
        }
        fn tombstone(&mut self, e: TombstoneEntry) {
            self.0.push(format!("{e:?}"));
        }
        fn exemplar(&mut self, e: ExemplarEntry<'_>) {
            self.0.push(format!(
                "exemplar {} {} {} {}",
                e.series,
                e.timestamp_ms,
                e.value,
                e.labels.iter().count()
            ));
        }
        fn marker(&mut self, e: MarkerEntry) {
            self.0.push(format!("{e:?}"));
        }
        fn metadata(&mut self, e: MetadataEntry<'_>) {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            self.0.push(format!("meta {} {} {} {}", e.series, e.metric_type, text(e.unit), text(e.help)));
        }
        fn unknown(&mut self, t: u8) {
            self.0.push(format!("unknown {t}"));
        }
    }

    fn seen(record: &[u8]) -> Vec<String> {
        let mut s = Seen::default();
        decode(record, &mut s).unwrap();
        s.0
    }

    fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    fn sample<V>(series: u64, start: i64, t: i64, value: V) -> SampleEntry<V> {
        SampleEntry { series, start_timestamp_ms: start, timestamp_ms: t, value }
    }

    fn histogram(schema: i32) -> Histogram {
        Histogram {
            counter_reset_hint: CounterResetHint::NotCounterReset,
            schema,
            zero_threshold: 1e-128,
            zero_count: 3,
            count: 1 << 50,
            sum: -7.25,
            positive_spans: vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 7, length: 1 }],
            negative_spans: vec![BucketSpan { offset: 1, length: 1 }],
            positive_buckets: vec![4, -2, 900],
            negative_buckets: vec![1],
            custom_values: (schema == -53).then(|| vec![0.5, 1.0].into()),
        }
    }

    fn float_histogram(schema: i32) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_count: 0.5,
            count: 9.75,
            sum: f64::INFINITY,
            positive_spans: vec![BucketSpan { offset: 0, length: 2 }],
            positive_buckets: vec![1.25, 8.0],
            custom_values: (schema == -53).then(|| vec![0.5].into()),
            ..Default::default()
        }
    }

    #[test]
    fn sample_bytes_are_upstreams() {
        let entries = [sample(1, 0, 1000, 1.0), sample(3, 0, 999, -0.0)];
        let record = encoded(|o| samples(o, &entries));
        assert_eq!(
            record,
            [
                2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 4,
                1, 0x80, 0, 0, 0, 0, 0, 0, 0
            ]
        );
        let v2 = encoded(|o| {
            samples_v2(o, &[sample(1, 5, 10, 0.0), sample(2, 5, 11, 0.0), sample(2, 7, 12, 0.0)])
        });
        assert_eq!(v2[..4], [11, 2, 20, 10]);
        assert_eq!(v2[12..15], [2, 2, 1]);
        assert_eq!(v2[23..27], [0, 4, 2, 4]);
    }

    #[test]
    fn all_kinds_come_back() {
        let floats = [
            sample(7, 0, -5, 1.5),
            sample(9, 0, 70, f64::from_bits(0x7ff0_0000_0000_0002)),
            sample(1 << 39, 0, i64::MAX, 0.0),
        ];
        let text: Vec<String> = floats
            .iter()
            .map(|e| format!("{} 0 {} {:x}", e.series, e.timestamp_ms, e.value.to_bits()))
            .collect();
        assert_eq!(seen(&encoded(|o| samples(o, &floats))), text);
        assert_eq!(seen(&encoded(|o| samples_v2(o, &floats))), text);
        let started = [
            sample(1, 100, 200, 0.5f64),
            sample(1, 100, 201, 0.5),
            sample(4, 0, 202, 1.0),
            sample(2, 90, 3, 2.0),
        ];
        let text: Vec<String> = started
            .iter()
            .map(|e| {
                format!("{} {} {} {:x}", e.series, e.start_timestamp_ms, e.timestamp_ms, e.value.to_bits())
            })
            .collect();
        assert_eq!(seen(&encoded(|o| samples_v2(o, &started))), text);

        for schema in [3, -53] {
            let h = [sample(1, 0, 5, histogram(schema)), sample(2, 0, 6, histogram(schema))];
            let text: Vec<String> =
                h.iter().map(|e| format!("{} 0 {} {:?}", e.series, e.timestamp_ms, e.value)).collect();
            assert_eq!(seen(&encoded(|o| histograms(o, &h))), text);
            assert_eq!(seen(&encoded(|o| histograms_v2(o, &h))), text);
            let f = [sample(1, 0, 5, float_histogram(schema)), sample(2, 0, 6, float_histogram(schema))];
            let text: Vec<String> =
                f.iter().map(|e| format!("{} 0 {} {:?}", e.series, e.timestamp_ms, e.value)).collect();
            assert_eq!(seen(&encoded(|o| float_histograms(o, &f))), text);
            assert_eq!(seen(&encoded(|o| float_histograms_v2(o, &f))), text);
        }
        let a = Labels::from_pairs([("__name__", "up"), ("ü", "")]);
        let b = Labels::from_pairs([("job", "x\ny")]);
        assert_eq!(
            seen(&encoded(|o| series(o, [(1, &a), (u64::MAX, &b)]))),
            ["series 1 __name__=up", "series 18446744073709551615 job=x\ny"]
        );
        let stones = [
            TombstoneEntry { series: 5, mint: i64::MIN, maxt: i64::MAX },
            TombstoneEntry { series: 6, mint: -1, maxt: 7 },
        ];
        assert_eq!(seen(&encoded(|o| tombstones(o, &stones))), stones.map(|s| format!("{s:?}")));
        assert!(stones[0].is_whole_series() && !stones[1].is_whole_series());
        assert_eq!(
            seen(&encoded(|o| exemplars(
                o,
                &[sample(1, 0, 5, (0.25, b.clone())), sample(0, 0, 4, (1.0, Labels::empty()))]
            ))),
            ["exemplar 1 5 0.25 1", "exemplar 0 4 1 0"]
        );
        let marks = [MarkerEntry { series: 3, chunk: 1 << 32 | 8 }];
        assert_eq!(seen(&encoded(|o| markers(o, &marks))), marks.map(|m| format!("{m:?}")));
        assert_eq!(seen(&encoded(|o| metadata(o, [(300, 1, "bytes", "Help.")]))), ["meta 300 1 bytes Help."]);
    }

    #[test]
    fn unwanted_histograms_and_unknown_types_and_schemas_are_passed_over() {
        let mixed = [sample(99, 0, 5, histogram(-53)), sample(1, 0, 6, histogram(-53))];
        assert_eq!(seen(&encoded(|o| histograms(o, &mixed))).len(), 1);
        let mixed = [sample(99, 1, 5, float_histogram(-53)), sample(1, 2, 6, float_histogram(-53))];
        assert_eq!(seen(&encoded(|o| float_histograms_v2(o, &mixed))).len(), 1);
        let mixed = [sample(99, 0, 5, float_histogram(1)), sample(99, 0, 5, float_histogram(1))];
        assert!(seen(&encoded(|o| float_histograms(o, &mixed))).is_empty());
        assert_eq!(
            seen(&encoded(|o| histograms(
                o,
                &[sample(1, 0, 6, histogram(53)), sample(1, 0, 7, histogram(-10))]
            ))),
            ["1 schema 53", "1 schema -10"]
        );
        assert_eq!(seen(&[14, 1, 2]), ["unknown 14"]);
        assert_eq!(seen(&[]), ["unknown 0"]);
    }

    #[test]
    fn a_record_cut_inside_an_entry_is_refused() {
        let labels = Labels::from_pairs([("job", "x")]);
        let records = [
            encoded(|o| series(o, [(1, &labels)])),
            encoded(|o| samples(o, &[sample(1, 0, 5, 1.0)])),
            encoded(|o| samples_v2(o, &[sample(1, 3, 5, 1.0)])),
            encoded(|o| histograms(o, &[sample(1, 0, 5, histogram(-53))])),
            encoded(|o| float_histograms_v2(o, &[sample(1, 0, 5, float_histogram(1))])),
            encoded(|o| histograms(o, &[sample(99, 0, 5, histogram(2))])),
            encoded(|o| tombstones(o, &[TombstoneEntry { series: 5, mint: 1, maxt: 2 }])),
            encoded(|o| exemplars(o, &[sample(1, 0, 5, (0.25, labels.clone()))])),
            encoded(|o| markers(o, &[MarkerEntry { series: 3, chunk: 9 }])),
            encoded(|o| metadata(o, [(1, 1, "", "h")])),
        ];
        for record in &records {
            for cut in 2..record.len() {
                let mut s = Seen::default();
                // Behind the base of a record without entries there is nothing to miss.
                let bare = cut == 17 && matches!(record[0], 2 | 4 | 7 | 9);
                assert_eq!(
                    decode(&record[..cut], &mut s).is_err(),
                    !bare,
                    "{:?} cut at {cut}: {:?}",
                    record[0],
                    s.0
                );
            }
        }
    }

    #[test]
    fn flipped_records_neither_panic_nor_allocate_by_their_word() {
        let record = encoded(|o| {
            histograms_v2(o, &[sample(1, 0, 5, histogram(-53)), sample(2, 0, 6, histogram(-53))])
        });
        for at in 1..record.len() {
            for bit in 0..8 {
                let mut damaged = record.clone();
                damaged[at] ^= 1 << bit;
                let _ = decode(&damaged, &mut Seen::default());
            }
        }
    }
}
