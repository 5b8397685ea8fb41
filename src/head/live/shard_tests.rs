//! A shard against a slow model: vectors of samples.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tsdbctl_chunk::{
    AppenderOptions, Encoding, Floats, SeriesAppender, XorEncoder, decode_float_histograms,
    decode_floats_fast, decode_histograms,
};
use tsdbctl_model::Histogram;
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_platform::real::RealDisk;
use tsdbctl_storage::append::Refusal;

use crate::live::chunk_files::ChunkFiles;
use crate::live::index::SeriesId;
use crate::live::shard::{Applied, AttachedChunk, Bounds, ChunkRules, Piece, Route, SampleValue, Shard};

const RULES: ChunkRules = ChunkRules {
    chunk_range_ms: 7_200_000,
    samples_per_chunk: 120,
    seal_bytes: 256,
    xor2: false,
    start_timestamps: false,
    histogram_start_timestamps: false,
    out_of_order_cap: 32,
};

fn files(dir: &Path) -> ChunkFiles {
    ChunkFiles::open(Arc::new(RealDisk), dir, 0).unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A sample, comparable.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Float(u64),
    Integer(String),
    FloatHistogram(String),
}

fn plain(value: &SampleValue) -> Value {
    match value {
        SampleValue::Float(v) => Value::Float(v.to_bits()),
        SampleValue::Histogram(h) => Value::Integer(sum_and_counts(h.sum, h.count as f64)),
        SampleValue::FloatHistogram(h) => Value::FloatHistogram(sum_and_counts(h.sum, h.count)),
    }
}

fn sum_and_counts(sum: f64, count: f64) -> String {
    if sum.to_bits() == stale_nan().to_bits() { "stale".to_owned() } else { format!("{sum} {count}") }
}

fn histogram(sum: f64, buckets: &[i64], offset: i32) -> Histogram {
    let mut counts = 0i64;
    let mut count = 0;
    for delta in buckets {
        counts += delta;
        count += counts as u64;
    }
    Histogram {
        sum,
        count,
        positive_spans: vec![BucketSpan { offset, length: buckets.len() as u32 }],
        positive_buckets: buckets.to_vec(),
        ..Histogram::default()
    }
}

type Samples = Vec<(i64, Value)>;

/// Samples of pieces: in order ones, and out of order ones; the hidden ones are left out.
fn samples(pieces: &[Piece], files: &ChunkFiles) -> (Samples, Samples) {
    let (mut in_order, mut late) = (Vec::new(), Vec::new());
    for piece in pieces {
        let (encoding, data, hidden, out_of_order) = match piece {
            Piece::Memory { chunk, hidden, out_of_order, .. } => {
                (chunk.encoding, chunk.data.clone(), *hidden, *out_of_order)
            }
            Piece::Mapped { place, mint, hidden, out_of_order } => {
                let chunk = files.read(*place).unwrap();
                assert!(chunk.mint >= *mint && chunk.out_of_order == *out_of_order);
                (chunk.encoding, chunk.data, *hidden, *out_of_order)
            }
        };
        let mut all = decode_all(encoding, &data);
        all.truncate(all.len() - hidden);
        if out_of_order { late.extend(all) } else { in_order.extend(all) }
    }
    (in_order, late)
}

fn decode_all(encoding: Encoding, data: &[u8]) -> Vec<(i64, Value)> {
    match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut out = Floats::default();
            decode_floats_fast(encoding, data, i64::MIN, i64::MAX, &mut out).unwrap();
            out.t.iter().zip(&out.v).map(|(t, v)| (*t, Value::Float(v.to_bits()))).collect()
        }
        Encoding::Histogram | Encoding::HistogramSt => decode_histograms(encoding, data)
            .unwrap()
            .into_iter()
            .map(|(t, _, h)| (t, plain(&SampleValue::Histogram(Box::new(h)))))
            .collect(),
        _ => decode_float_histograms(encoding, data)
            .unwrap()
            .into_iter()
            .map(|(t, _, h)| (t, plain(&SampleValue::FloatHistogram(Box::new(h)))))
            .collect(),
    }
}

fn all(shard: &Shard, id: SeriesId) -> Vec<Piece> {
    let mut pieces = Vec::new();
    shard.pieces(id, i64::MIN, i64::MAX, u64::from(u32::MAX >> 8), &mut pieces);
    pieces
}

fn random_value(random: &mut Random, last: f64, only_floats: bool) -> SampleValue {
    match random.below(if only_floats { 8 } else { 40 }) {
        0 => SampleValue::Float(stale_nan()),
        1 => SampleValue::Float(f64::from_bits(random.0)),
        2 => SampleValue::Float(last + random.below(1000) as f64),
        3 => SampleValue::Float(random.below(1 << 40) as f64 / 7.0),
        30..=36 => {
            let wide = random.below(4) as usize;
            let buckets: Vec<i64> = (0..2 + wide).map(|_| random.below(5) as i64).collect();
            SampleValue::Histogram(Box::new(histogram(last, &buckets, random.below(3) as i32)))
        }
        37..=39 => {
            let h = histogram(last, &[1, 2, random.below(100) as i64], 1);
            SampleValue::FloatHistogram(Box::new(h.to_float()))
        }
        _ => SampleValue::Float(last),
    }
}

fn stored_as(value: &SampleValue, kind: &Option<Value>) -> Value {
    match (plain(value), kind) {
        (Value::Float(bits), Some(Value::Integer(_))) if bits == stale_nan().to_bits() => {
            Value::Integer("stale".to_owned())
        }
        (Value::Float(bits), Some(Value::FloatHistogram(_))) if bits == stale_nan().to_bits() => {
            Value::FloatHistogram("stale".to_owned())
        }
        (value, _) => value,
    }
}

/// What the model knows of a series.
#[derive(Default)]
struct Model {
    in_order: Vec<(i64, Value)>,
    /// The commit of each.
    commits: Vec<u64>,
    late: BTreeMap<i64, Value>,
}

#[test]
fn random_work_agrees_with_vectors() {
    for (seed, xor2, only_floats) in
        [(1, false, true), (2, false, false), (3, true, false), (4, false, false), (5, true, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let rules =
            ChunkRules { xor2, start_timestamps: seed == 5, histogram_start_timestamps: seed == 5, ..RULES };
        let mut random = Random(seed);
        let mut shard = Shard::new(0, 1);
        let ids: Vec<SeriesId> = (0..20).map(|i| SeriesId(i * 40)).collect();
        let mut model: Vec<Model> = Vec::new();
        for id in &ids {
            shard.create(*id, u64::from(id.0) + 1);
            model.push(Model::default());
        }
        let mut views: Vec<u64> = Vec::new();
        for commit in 1..500u64 {
            shard.set_oldest_view(views.iter().copied().min().unwrap_or(commit - 1));
            for _ in 0..1 + random.below(6) {
                let i = random.below(20) as usize;
                let (id, series) = (ids[i], &mut model[i]);
                let last = series.in_order.last().cloned();
                for _ in 0..if random.below(100) == 0 { 400 } else { 1 + random.below(5) } {
                    let last_t = series.in_order.last().map_or(1_700_000_000_000, |s| s.0);
                    let step = match random.below(60) {
                        0 => 1 << 33,
                        1 => 1,
                        2 => 400_000,
                        _ => 15_000 + random.below(3) as i64,
                    };
                    let base = match last.as_ref().map(|s| &s.1) {
                        Some(Value::Float(bits)) => f64::from_bits(*bits),
                        _ => 17.0,
                    };
                    let value = random_value(&mut random, base, only_floats);
                    let kind = series.in_order.last().map(|s| s.1.clone());
                    let t = last_t + step;
                    let st = if random.below(3) == 0 { t - 60_000 } else { 0 };
                    let applied = match value {
                        SampleValue::Float(v) => {
                            shard.append_float(id, (t, st), v, commit as u32, &rules, &files)
                        }
                        ref value => shard.append(id, (t, st), value.clone(), commit as u32, &rules, &files),
                    };
                    assert_eq!(applied, Applied::Stored);
                    series.in_order.push((t, stored_as(&value, &kind)));
                    series.commits.push(commit);
                    assert_eq!(shard.last_t(id), Some(t));
                }
                if random.below(3) == 0 {
                    for _ in 0..random.below(20) {
                        let t = 1_600_000_000_000 + random.below(400) as i64 * 1000;
                        let value = random_value(&mut random, 3.0, only_floats);
                        let marks = shard.make_room_out_of_order(id, &rules, &files);
                        assert!(!series.late.is_empty() || marks == [0]);
                        let stored = stored_as(&value, &None);
                        match shard.insert_out_of_order(id, (t, 0), value) {
                            // Newer than what is in chunks at this time, or the first.
                            Applied::OutOfOrder => {
                                series.late.insert(t, stored);
                            }
                            Applied::Same => assert_eq!(series.late.get(&t), Some(&stored)),
                            Applied::Refused(Refusal::Duplicate) => assert!(series.late.contains_key(&t)),
                            other => panic!("{other:?}"),
                        }
                    }
                }
                if random.below(50) == 0 {
                    shard.seal(id, &files);
                }
                if random.below(200) == 0 && series.in_order.len() > 10 {
                    let keep = series.in_order.len() * 2 / 3;
                    let mint = series.in_order[keep].0;
                    shard.drop_chunks_before(id, mint);
                    // Whole chunks go; what is there from `mint` on stays.
                    let (left, late) = samples(&all(&shard, id), &files);
                    assert_eq!(late.into_iter().collect::<BTreeMap<_, _>>(), series.late);
                    assert!(left.ends_with(&series.in_order[keep..]), "{commit}");
                    assert!(series.in_order.ends_with(&left));
                    let gone = series.in_order.len() - left.len();
                    series.in_order.drain(..gone);
                    series.commits.drain(..gone);
                }
            }
            if random.below(8) == 0 {
                views.push(commit);
            }
            if views.len() > 4 || random.below(9) == 0 && !views.is_empty() {
                views.swap_remove(random.below(views.len() as u64) as usize);
            }
            if commit % 40 == 0 {
                for (i, id) in ids.iter().enumerate() {
                    for view in views.iter().chain([&commit]) {
                        let mut pieces = Vec::new();
                        shard.pieces(*id, i64::MIN, i64::MAX, *view, &mut pieces);
                        let (in_order, late) = samples(&pieces, &files);
                        let shown = model[i].commits.iter().take_while(|c| *c <= view).count();
                        assert!(in_order == model[i].in_order[..shown], "{seed} {commit} {view} {i}");
                        // A time may be there twice: in a chunk and, newer, in another.
                        let late: BTreeMap<i64, Value> = late.into_iter().collect();
                        assert_eq!(late, model[i].late, "{seed} {commit} {i}");
                    }
                }
            }
            if commit % 97 == 0 {
                // A range gets at least what is in it, and no chunk that lies off it on both sides.
                let i = random.below(20) as usize;
                let all_of = &model[i].in_order;
                if let (Some(a), Some(b)) = (all_of.get(all_of.len() / 3), all_of.get(all_of.len() / 2)) {
                    let mut pieces = Vec::new();
                    shard.pieces(ids[i], a.0, b.0, commit, &mut pieces);
                    let (found, _) = samples(&pieces, &files);
                    let wanted = &all_of[all_of.len() / 3..=all_of.len() / 2];
                    assert!(found.windows(wanted.len()).any(|w| w == wanted));
                    assert!(found.len() <= wanted.len() + 2 * 240);
                }
                let times = shard.times(ids[i]);
                let late = model[i].late.first_key_value().map(|s| *s.0);
                let first = model[i].in_order.first().map(|s| s.0).into_iter().chain(late).min();
                assert_eq!(times.map(|t| t.0), first);
            }
        }
        shard.set_oldest_view(500);
        for id in &ids {
            shard.remove(*id);
            assert!(shard.record(*id).is_none() && all(&shard, *id).is_empty());
        }
        assert!(shard.bytes() < 200_000, "{}", shard.bytes());
    }
}

#[test]
fn chunks_have_the_bytes_of_the_encoder_and_are_cut_where_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let mut shard = Shard::new(0, 1);
    let id = SeriesId(5);
    shard.create(id, 77);
    let mut random = Random(9);
    let mut wanted = Vec::new();
    let (mut t, mut v) = (1_700_000_000_000i64, 0.0);
    for i in 0..5_000 {
        t += if i % 997 == 996 { 5_000_000_000 } else { 15_000 };
        if random.below(4) > 0 && i > 2_000 {
            v += random.below(100) as f64;
        }
        assert_eq!(shard.append_float(id, (t, 0), v, 0, &RULES, &files), Applied::Stored);
        wanted.push((t, v));
    }
    let mut rest = &wanted[..];
    for piece in all(&shard, id) {
        let (data, mint, maxt) = data_of(&piece, &files);
        let count = usize::from(u16::from_be_bytes([data[0], data[1]]));
        let mut encoder = XorEncoder::new();
        for (t, v) in &rest[..count] {
            encoder.append(*t, *v).unwrap();
        }
        assert_eq!(data, encoder.data());
        assert_eq!((mint, maxt), (rest[0].0, rest[count - 1].0));
        assert!(data.len() < 256 + 19 && mint / RULES.chunk_range_ms == maxt / RULES.chunk_range_ms);
        rest = &rest[count..];
    }
    assert!(rest.is_empty());

    // Without a limit on bytes of our own the cuts are upstream's.
    let rules = ChunkRules { seal_bytes: u32::MAX, ..RULES };
    let mut wanted_chunks = SeriesAppender::new(AppenderOptions::default());
    let id = SeriesId(6);
    shard.create(id, 78);
    for (t, v) in &wanted {
        shard.append_float(id, (*t, 0), *v, 0, &rules, &files);
        wanted_chunks.append_float(*t, *v, 0).unwrap();
    }
    let got: Vec<_> = all(&shard, id).iter().map(|piece| data_of(piece, &files)).collect();
    let wanted: Vec<_> = wanted_chunks.into_chunks().into_iter().map(|c| (c.data, c.mint, c.maxt)).collect();
    assert_eq!(got, wanted);
}

fn data_of(piece: &Piece, files: &ChunkFiles) -> (Vec<u8>, i64, i64) {
    match piece {
        Piece::Mapped { place, .. } => {
            let chunk = files.read(*place).unwrap();
            assert_eq!(chunk.encoding, Encoding::Xor);
            (chunk.data, chunk.mint, chunk.maxt)
        }
        Piece::Memory { chunk, .. } => (chunk.data.clone(), chunk.mint, chunk.maxt),
    }
}

#[test]
fn verdicts_are_upstreams() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let mut shard = Shard::new(0, 1);
    let (empty, float, integer) = (SeriesId(0), SeriesId(1), SeriesId(2));
    for (id, series_ref) in [(empty, 1), (float, 2), (integer, 3)] {
        shard.create(id, series_ref);
    }
    let h = |sum| SampleValue::Histogram(Box::new(histogram(sum, &[1, 2], 0)));
    let fh = |sum| SampleValue::FloatHistogram(Box::new(histogram(sum, &[1, 2], 0).to_float()));
    let f = SampleValue::Float;
    shard.append_float(float, (1_000, 0), -0.0, 1, &RULES, &files);
    shard.append(integer, (1_000, 0), h(5.0), 1, &RULES, &files);
    let none = Bounds { min_valid_ms: 500, head_max_ms: 2_000, window_ms: 0 };
    let window = Bounds { window_ms: 1_700, ..none };
    use Refusal::{Duplicate, OutOfBounds, OutOfOrder, TooOld};
    for (id, t, value, bounds, wanted) in [
        (empty, 500, f(1.0), none, Ok(Route::InOrder)),
        (empty, 499, f(1.0), none, Err(OutOfBounds)),
        (empty, 499, f(1.0), window, Ok(Route::OutOfOrder)),
        (empty, 299, f(1.0), window, Err(TooOld)),
        (float, 1_001, f(1.0), none, Ok(Route::InOrder)),
        (float, 1_000, f(-0.0), none, Ok(Route::Same)),
        (float, 1_000, f(0.0), none, Err(Duplicate)),
        (float, 1_000, f(0.0), window, Err(Duplicate)),
        (float, 999, f(-0.0), none, Err(OutOfOrder)),
        (float, 499, f(-0.0), none, Err(OutOfBounds)),
        (float, 999, f(-0.0), window, Ok(Route::OutOfOrder)),
        (float, 1_000, h(0.0), none, Err(Duplicate)),
        (float, 1_000, fh(0.0), none, Err(Duplicate)),
        (integer, 1_000, h(5.0), none, Ok(Route::Same)),
        (integer, 1_000, h(6.0), none, Err(Duplicate)),
        (integer, 1_000, fh(5.0), none, Err(Duplicate)),
        (integer, 1_000, f(5.0), none, Err(Duplicate)),
        (integer, 999, h(5.0), window, Ok(Route::OutOfOrder)),
        (integer, 1_001, f(5.0), none, Ok(Route::InOrder)),
        (SeriesId(9), 1_001, f(5.0), none, Err(Refusal::UnknownSeries)),
    ] {
        assert_eq!(shard.check(id, t, &value, &bounds), wanted, "{id:?} {t} {value:?} {bounds:?}");
        if let SampleValue::Float(v) = value {
            assert_eq!(shard.check_float(id, t, v, &bounds), wanted, "{id:?} {t} {v} {bounds:?}");
        }
    }
    for (id, t, value, wanted) in [
        (float, 1_000, f(-0.0), Applied::Same),
        (float, 1_000, f(0.0), Applied::Refused(Duplicate)),
        (float, 1_000, h(0.0), Applied::Refused(Duplicate)),
        (float, 900, f(0.0), Applied::Refused(OutOfOrder)),
        (integer, 1_000, h(5.0), Applied::Same),
        (integer, 1_000, f(5.0), Applied::Refused(Duplicate)),
        (integer, 2_000, f(stale_nan()), Applied::Stored),
        (integer, 2_000, f(stale_nan()), Applied::Same),
        (SeriesId(9), 1_000, f(5.0), Applied::Refused(Refusal::UnknownSeries)),
    ] {
        assert_eq!(
            shard.append(id, (t, 0), value.clone(), 2, &RULES, &files),
            wanted,
            "{id:?} {t} {value:?}"
        );
        let SampleValue::Float(v) = value else { continue };
        // Once it is stored it is a repeated one.
        let wanted = if wanted == Applied::Stored { Applied::Same } else { wanted };
        assert_eq!(shard.append_float(id, (t, 0), v, 2, &RULES, &files), wanted, "{id:?} {t} {v}");
    }
}

#[test]
fn a_loaded_series_goes_on_behind_its_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let id = SeriesId(3);
    let mut before = Shard::new(0, 1);
    before.create(id, 4);
    for i in 0..300 {
        before.append_float(id, (i * 15_000, 0), i as f64, 0, &RULES, &files);
    }
    before.seal(id, &files);
    before.append(
        id,
        (5_000_000, 0),
        SampleValue::Histogram(Box::new(histogram(2.0, &[1], 0))),
        0,
        &RULES,
        &files,
    );
    before.seal(id, &files);
    let attached: Vec<AttachedChunk> = all(&before, id)
        .iter()
        .map(|piece| {
            let Piece::Mapped { place, .. } = piece else { panic!("{piece:?}") };
            let chunk = files.read(*place).unwrap();
            AttachedChunk {
                place: *place,
                mint: chunk.mint,
                maxt: chunk.maxt,
                encoding: chunk.encoding,
                out_of_order: false,
            }
        })
        .collect();
    let bounds = Bounds { min_valid_ms: 0, head_max_ms: 5_000_000, window_ms: 0 };
    let h = |sum| SampleValue::Histogram(Box::new(histogram(sum, &[1], 0)));
    for (chunks, last, same, other) in [
        (&attached[..], 5_000_000, h(2.0), h(3.0)),
        (&attached[..attached.len() - 1], 299 * 15_000, SampleValue::Float(299.0), SampleValue::Float(298.0)),
    ] {
        for (value, wanted) in [(&same, Applied::Same), (&other, Applied::Refused(Refusal::Duplicate))] {
            let mut shard = Shard::new(0, 1);
            shard.create(id, 4);
            shard.attach(id, chunks);
            assert_eq!(shard.times(id), Some((0, last)));
            assert_eq!(shard.check(id, last, value, &bounds), Ok(Route::InOrder));
            assert_eq!(shard.check(id, last - 1, value, &bounds), Err(Refusal::OutOfOrder));
            assert_eq!(shard.append(id, (last, 0), value.clone(), 0, &RULES, &files), wanted);
            assert_eq!(shard.check(id, last, &same, &bounds), Ok(Route::Same));
        }
    }
    // A stale marker behind a loaded histogram is one.
    let mut shard = Shard::new(0, 1);
    shard.create(id, 4);
    shard.attach(id, &attached);
    let stored = shard.append_float(id, (6_000_000, 0), stale_nan(), 0, &RULES, &files);
    assert_eq!(stored, Applied::Stored);
    let (found, _) = samples(&all(&shard, id), &files);
    assert_eq!(found.len(), 302);
    assert_eq!(found[301], (6_000_000, Value::Integer("stale".to_owned())));

    // Open chunks come back from a snapshot, and what follows begins a new one.
    for (xor2, floats) in [(false, true), (true, true), (false, false)] {
        let rules = ChunkRules { xor2, ..RULES };
        let mut before = Shard::new(0, 1);
        before.create(id, 4);
        for i in 0..50 {
            let value = if floats { SampleValue::Float(i as f64) } else { h(i as f64) };
            before.append(id, (i * 1_000, 0), value, 0, &rules, &files);
        }
        let chunk = before.open_chunk(id).unwrap();
        assert_eq!((chunk.samples, chunk.maxt), (50, 49_000));
        let mut shard = Shard::new(0, 1);
        shard.create(id, 4);
        for _ in 0..2 {
            shard.restore_open(id, &chunk, &rules, &files).unwrap();
            assert_eq!(shard.open_chunk(id).as_ref(), Some(&chunk));
        }
        let value = if floats { SampleValue::Float(49.0) } else { h(49.0) };
        assert_eq!(shard.check(id, 49_000, &value, &bounds), Ok(Route::Same));
        assert_eq!(shard.append(id, (50_000, 0), value, 0, &rules, &files), Applied::Stored);
        let pieces = all(&shard, id);
        assert!(matches!(pieces[..], [Piece::Mapped { .. }, Piece::Memory { open: true, .. }]), "{pieces:?}");
        assert_eq!(samples(&pieces, &files).0.len(), 51);
    }
}

#[test]
fn chunks_that_cannot_be_written_wait() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("c");
    let files = files(&blocked);
    // The first file's name is taken by a directory: no chunk can be written.
    std::fs::create_dir(blocked.join("000001")).unwrap();
    let mut shard = Shard::new(0, 1);
    let id = SeriesId(0);
    shard.create(id, 1);
    let append = |shard: &mut Shard, i: i64| {
        shard.set_oldest_view(150);
        shard.append_float(id, (i * 15_000, 0), i as f64, i as u32 + 1, &RULES, &files);
        if i % 3 == 0 {
            shard.make_room_out_of_order(id, &RULES, &files);
            shard.insert_out_of_order(id, (-i, 0), SampleValue::Float(1.0));
        }
    };
    for i in 0..400 {
        append(&mut shard, i);
    }
    let pieces = all(&shard, id);
    assert!(pieces.iter().all(|p| matches!(p, Piece::Memory { .. })) && pieces.len() > 3);
    assert!(shard.write_failures() > 2);
    let (found, late) = samples(&pieces, &files);
    assert_eq!((found.len(), late.len()), (400, 134));
    let hidden = |shard: &Shard| {
        let mut pieces = Vec::new();
        shard.pieces(id, i64::MIN, i64::MAX, 170, &mut pieces);
        samples(&pieces, &files).0.len()
    };
    assert_eq!(hidden(&shard), 170);
    std::fs::remove_dir(blocked.join("000001")).unwrap();
    for i in 400..700 {
        append(&mut shard, i);
    }
    let pieces = all(&shard, id);
    let mapped = pieces.iter().filter(|p| matches!(p, Piece::Mapped { out_of_order: false, .. })).count();
    assert!(mapped > 4);
    let (found, late) = samples(&pieces, &files);
    assert_eq!((found.len(), late.len()), (700, 234));
    assert!(found.is_sorted_by_key(|s| s.0));
    assert_eq!(hidden(&shard), 170);
}

/// The next value of a series of the kinds that a fleet of servers has: two fifths hardly change, three tenths take
/// more than 3 bytes a sample.
fn fleet_value(id: u32, v: f64, random: &mut Random) -> f64 {
    match id % 100 {
        0..=40 => v,
        41..=55 => v + random.below(8) as f64,
        56..=70 => v + (random.below(3) > 0) as u64 as f64 * random.below(100) as f64,
        71..=85 => v + 3e5 + random.below(1 << 15) as f64,
        86..=93 => random.below(10_000) as f64 / 100.0,
        _ => v + random.below(1 << 20) as f64 / 1e6,
    }
}

#[test]
fn the_fleet_of_the_next_test_is_one() {
    let mut random = Random(3);
    let mut sizes: Vec<usize> = (0..1_000u32)
        .map(|id| {
            let mut encoder = XorEncoder::new();
            let mut v = 0.0;
            for i in 0..120i64 {
                v = fleet_value(id, v, &mut random);
                encoder.append(1_700_000_000_000 + i * 15_000, v).unwrap();
            }
            encoder.data().len()
        })
        .collect();
    sizes.sort_unstable();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    let (small, large) = (sizes.partition_point(|s| *s <= 96), sizes.partition_point(|s| *s < 384));
    assert!(
        (270..295).contains(&mean) && (400..430).contains(&small) && (700..720).contains(&large),
        "{mean} {small} {large}"
    );
}

#[test]
fn ten_thousand_series_take_few_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let mut shard = Shard::new(0, 1);
    let count = 10_240;
    for id in 0..count {
        shard.create(SeriesId(id), u64::from(id) + 1);
    }
    let mut worst = 0;
    let mut random = Random(3);
    let mut values = vec![0.0f64; count as usize];
    for i in 0..480i64 {
        for id in 0..count {
            let v = &mut values[id as usize];
            *v = fleet_value(id, *v, &mut random);
            let t = 1_700_000_000_000 + i * 15_000 + i64::from(id % 15_000);
            shard.append_float(SeriesId(id), (t, 0), *v, i as u32 + 1, &RULES, &files);
        }
        shard.set_oldest_view(i as u64 + 1);
        worst = worst.max(shard.bytes());
    }
    // 64 of record, 157 of open chunk, 64 and more of places.
    let each = worst / count as usize;
    assert!((64 + 100..=300).contains(&each), "{each} bytes a series");
}
