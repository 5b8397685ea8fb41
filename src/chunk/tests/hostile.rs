//! Any samples round-trip; no bytes make decoding panic, allocate out of proportion or give times that do not rise.

use std::sync::Arc;

use proptest::prelude::*;
use tsdbctl_chunk::{
    AppenderOptions, ChunkError, Encoding, FloatHistogramEncoder, HistogramEncoder, SampleColumns,
    SeriesAppender, Xor2Encoder, XorEncoder, decode, decode_float_histograms, decode_histograms,
    sample_count,
};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Histogram};

const ENCODINGS: [Encoding; 6] = [
    Encoding::Xor,
    Encoding::Histogram,
    Encoding::FloatHistogram,
    Encoding::Xor2,
    Encoding::HistogramSt,
    Encoding::FloatHistogramSt,
];

/// Decodes, and checks what must hold of whatever comes out.
fn read(encoding: Encoding, data: &[u8]) -> Result<SampleColumns, ChunkError> {
    let mut out = SampleColumns::default();
    let result = decode(encoding, data, i64::MIN, i64::MAX, &mut out);
    let (floats, histograms) = (&out.floats, &out.histograms);
    assert_eq!(floats.t.len(), floats.v.len());
    assert!(floats.st.is_empty() || floats.st.len() == floats.t.len());
    assert_eq!(histograms.t.len(), histograms.h.len());
    assert_eq!(histograms.t.len(), histograms.integer.len());
    assert!(histograms.st.is_empty() || histograms.st.len() == histograms.t.len());
    for times in [&floats.t, &histograms.t] {
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(times.capacity() <= 16 + 8 * data.len());
    }
    let held: usize = histograms
        .h
        .iter()
        .map(|h| {
            h.positive_buckets.len()
                + h.negative_buckets.len()
                + h.positive_spans.len()
                + h.negative_spans.len()
        })
        .sum();
    assert!(held <= 64 * 8 * data.len(), "{held} for {} bytes", data.len());
    result.map(|()| out)
}

fn integer_histogram(i: i64) -> Histogram {
    Histogram {
        schema: if i % 2 == 0 { 3 } else { 9 },
        zero_threshold: 0.001,
        zero_count: i as u64,
        count: 40 + 7 * i as u64,
        sum: 12.5 * i as f64,
        positive_spans: vec![BucketSpan { offset: -2, length: 3 }, BucketSpan { offset: 1, length: 2 }],
        negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_buckets: vec![10 + i, -2, i, -3, i % 3],
        negative_buckets: vec![4 * i],
        ..Histogram::default()
    }
}

fn float_histogram(i: i64) -> FloatHistogram {
    FloatHistogram {
        schema: -53,
        count: 3.0 * i as f64,
        sum: i as f64 / 7.0,
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_buckets: vec![1.5 * i as f64, i as f64, 0.5 * i as f64],
        custom_values: Some(Arc::from([0.1, 1.0, 1e9 / 7.0])),
        ..FloatHistogram::default()
    }
}

/// A chunk of 40 samples, the last of them stale.
fn sample_chunk(encoding: Encoding, schema: Option<i32>) -> Vec<u8> {
    let (mut xor, mut xor2) = (XorEncoder::new(), Xor2Encoder::new());
    let st = matches!(encoding, Encoding::HistogramSt | Encoding::FloatHistogramSt);
    let (mut integers, mut floats) = (HistogramEncoder::new(st), FloatHistogramEncoder::new(st));
    for i in 0..40i64 {
        let t = 1_700_000_000_000 + i * 15_000 + i % 5 * 1300;
        let start = if i < 5 { 1_699_999_000_000 } else { t - 100 * i };
        let v = if i == 39 { stale_nan() } else { (i * i) as f64 / 8.0 };
        xor.append(t, v).unwrap();
        xor2.append(t, v, start).unwrap();
        let mut h = integer_histogram(i);
        h.schema = schema.unwrap_or(3);
        let mut fh = float_histogram(i);
        if i == 39 {
            (h.sum, fh.sum) = (stale_nan(), stale_nan());
        }
        integers.append(t, &h, start).unwrap();
        floats.append(t, &fh, start).unwrap();
    }
    match encoding {
        Encoding::Xor => xor.take(),
        Encoding::Xor2 => xor2.take(),
        Encoding::Histogram | Encoding::HistogramSt => integers.take(),
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => floats.take(),
    }
}

#[test]
fn every_truncation_is_told() {
    for encoding in ENCODINGS {
        let data = sample_chunk(encoding, None);
        assert_eq!(read(encoding, &data).unwrap().len(), 40);
        for len in 0..data.len() {
            let error = read(encoding, &data[..len]).unwrap_err();
            assert!(
                matches!(error, ChunkError::Truncated { count: 40, .. } | ChunkError::NoHeader { .. }),
                "{encoding:?} {len}: {error}"
            );
        }
    }
}

#[test]
fn bytes_behind_the_last_sample_are_passed_over() {
    for encoding in ENCODINGS {
        let mut data = sample_chunk(encoding, None);
        for byte in [0, 0xff] {
            data.resize(data.len() + 100, byte);
            assert_eq!(read(encoding, &data).unwrap().len(), 40, "{encoding:?}");
        }
    }
}

#[test]
fn what_is_in_front_of_the_cut_is_read() {
    for encoding in ENCODINGS {
        let data = sample_chunk(encoding, None);
        let mut out = SampleColumns::default();
        let cut = &data[..data.len() - 1];
        let error = decode(encoding, cut, i64::MIN, i64::MAX, &mut out).unwrap_err();
        assert_eq!(error, ChunkError::Truncated { sample: out.len(), count: 40 });
        assert!(out.len() >= 30, "{encoding:?}: {}", out.len());
    }
}

#[test]
fn no_flipped_bit_does_harm() {
    for encoding in ENCODINGS {
        let mut data = sample_chunk(encoding, None);
        for bit in 0..data.len() * 8 {
            data[bit / 8] ^= 0x80 >> (bit % 8);
            let _ = read(encoding, &data);
            let _ = decode_histograms(encoding, &data);
            let _ = decode_float_histograms(encoding, &data);
            data[bit / 8] ^= 0x80 >> (bit % 8);
        }
    }
}

#[test]
fn hostile_counts_do_not_allocate() {
    for encoding in ENCODINGS {
        let mut data = vec![0; 40];
        (data[0], data[1]) = (0x3f, 0xff);
        let mut out = SampleColumns::default();
        assert!(decode(encoding, &data, i64::MIN, i64::MAX, &mut out).is_err());
        assert!(out.floats.t.capacity() + out.histograms.t.capacity() <= 8 * data.len() + 16, "{encoding:?}");
        assert_eq!(sample_count(encoding, &data).unwrap(), 0x3fff);
    }
}

#[test]
fn ranges_of_histograms() {
    for encoding in [Encoding::Histogram, Encoding::FloatHistogramSt] {
        let data = sample_chunk(encoding, None);
        let all = read(encoding, &data).unwrap().histograms;
        let mut out = SampleColumns::default();
        decode(encoding, &data, all.t[10], all.t[20], &mut out).unwrap();
        assert_eq!(out.histograms.t, all.t[10..=20]);
        assert_eq!(out.histograms.st, all.st[if all.st.is_empty() { 0..0 } else { 10..21 }]);
        assert_eq!(out.histograms.h[0].counter_reset_hint, CounterResetHint::NotCounterReset);
        assert_eq!(all.h[0].counter_reset_hint, CounterResetHint::Unknown);
        assert_eq!(out.histograms.h[3].positive_buckets, all.h[13].positive_buckets);
        // Nothing is said of a stale marker but that.
        assert_eq!(all.h[39].counter_reset_hint, CounterResetHint::Unknown);
        assert!(all.h[39].positive_spans.is_empty() && all.h[39].schema == 0);
    }
}

#[test]
fn integer_counts_become_absolute() {
    let data = sample_chunk(Encoding::Histogram, None);
    let h = &read(Encoding::Histogram, &data).unwrap().histograms.h[5];
    assert_eq!(h.positive_buckets, [15.0, 13.0, 18.0, 15.0, 17.0]);
    assert_eq!(h.negative_buckets, [20.0]);
    assert_eq!((h.count, h.zero_count, h.sum), (75.0, 5.0, 62.5));
}

#[test]
fn too_fine_schemas_are_made_coarser() {
    // Buckets −2, −1, 0, 2, 3 of schema 9 are −1, 0, 0, 1, 2 of schema 8.
    let data = sample_chunk(Encoding::Histogram, Some(9));
    let h = &read(Encoding::Histogram, &data).unwrap().histograms.h[5];
    assert_eq!((h.schema, &h.positive_buckets[..]), (8, &[15.0, 31.0, 15.0, 17.0][..]));
    assert_eq!(h.positive_spans, [BucketSpan { offset: -1, length: 4 }]);
    let stored = &decode_histograms(Encoding::Histogram, &data).unwrap()[5].2;
    assert_eq!((stored.schema, &stored.positive_buckets[..]), (8, &[15, 16, -16, 2][..]));
}

#[test]
fn gauges_say_so_in_every_sample() {
    let mut series = SeriesAppender::new(AppenderOptions::default());
    for i in 0..5 {
        let h = Histogram { counter_reset_hint: CounterResetHint::Gauge, ..integer_histogram(2 * i) };
        series.append_histogram(1000 * i, &h, 0).unwrap();
    }
    let chunks = series.into_chunks();
    assert_eq!((chunks.len(), chunks[0].data[2]), (1, 0xc0));
    let h = read(chunks[0].encoding, &chunks[0].data).unwrap().histograms.h;
    assert!(h.iter().all(|h| h.counter_reset_hint == CounterResetHint::Gauge));
}

#[test]
fn samples_that_do_not_fit_are_refused() {
    let mut series = SeriesAppender::new(AppenderOptions::default());
    series.append_float(1000, 1.0, 0).unwrap();
    assert_eq!(series.append_float(1000, 1.0, 0), Err(ChunkError::OutOfOrder { last: 1000, t: 1000 }));
    let mut h = integer_histogram(0);
    h.positive_buckets.pop();
    let error = series.append_histogram(2000, &h, 0).unwrap_err();
    assert_eq!(error, ChunkError::BucketMismatch { side: "positive", buckets: 4, spanned: 5 });
    assert_eq!((series.last_t(), series.chunks().count()), (Some(1000), 1));
}

prop_compose! {
    /// Steps mostly regular, values mostly small, start timestamps sometimes.
    fn sample()(
        step in prop_oneof![4 => Just(15_000i64), 2 => 1..40_000i64, 1 => 1..1i64 << 45],
        v in prop_oneof![
            3 => (0..1000i64).prop_map(|v| v as f64),
            1 => Just(stale_nan()),
            2 => any::<u64>().prop_map(f64::from_bits),
        ],
        st in prop_oneof![3 => Just(0i64), 1 => Just(1_700_000_000_000), 2 => any::<i32>().prop_map(i64::from)],
    ) -> (i64, f64, i64) {
        (step, v, st)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn floats_round_trip(start in -1i64 << 50..1i64 << 50, samples in prop::collection::vec(sample(), 0..200)) {
        let (mut xor, mut xor2) = (XorEncoder::new(), Xor2Encoder::new());
        let mut t = start;
        let mut wanted = Vec::new();
        for (step, v, st) in samples {
            t += step;
            xor.append(t, v).unwrap();
            xor2.append(t, v, st).unwrap();
            wanted.push((t, v.to_bits(), st));
        }
        for (encoding, data) in [(Encoding::Xor, xor.take()), (Encoding::Xor2, xor2.take())] {
            let floats = read(encoding, &data).unwrap().floats;
            let got: Vec<_> =
                (0..floats.len()).map(|i| (floats.t[i], floats.v[i].to_bits(), floats.start_timestamp(i))).collect();
            if encoding == Encoding::Xor {
                let without: Vec<_> = wanted.iter().map(|(t, v, _)| (*t, *v, 0)).collect();
                prop_assert_eq!(got, without);
            } else {
                prop_assert_eq!(&got, &wanted);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(encoding in 0..6usize, data in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(ENCODINGS[encoding], &data);
    }

    #[test]
    fn damaged_chunks_are_survived(
        encoding in 0..6usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut data = sample_chunk(ENCODINGS[encoding], None);
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        let _ = read(ENCODINGS[encoding], &data);
    }
}
