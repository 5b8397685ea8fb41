//! Chunks that real servers wrote: decoded and encoded again they must come out byte for byte.

#![allow(clippy::disallowed_methods, reason = "tests make and read their own files")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tsdbctl_chunk::{
    Encoding, FloatHistogramEncoder, FloatHistogramReader, HistogramEncoder, HistogramReader, SampleColumns,
    Xor2Encoder, XorEncoder, decode, decode_float_histograms, decode_histograms, sample_count,
};

struct Stored {
    encoding: Encoding,
    data: Vec<u8>,
    /// First and last time, where the file says so.
    range: Option<(i64, i64)>,
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn uvarint(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (value, i + 1);
        }
    }
    panic!("unfinished uvarint");
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().unwrap())
}

fn chunks_of(path: &Path, out: &mut Vec<Stored>) {
    let bytes = std::fs::read(path).unwrap();
    let (head, at) = match path.parent().and_then(|p| p.file_name()).and_then(|n| n.to_str()) {
        Some("chunks") => (false, 8),
        Some("chunks_head") => (true, 8),
        _ => return,
    };
    let mut rest = &bytes[at.min(bytes.len())..];
    while rest.len() > 30 {
        let mut range = None;
        let mut encoding = 0;
        if head {
            if number(&rest[..8]) == 0 {
                break;
            }
            range = Some((number(&rest[8..16]), number(&rest[16..24])));
            encoding = rest[24] & 0x7f;
            rest = &rest[25..];
        }
        let (len, used) = uvarint(rest);
        rest = &rest[used..];
        if !head {
            encoding = rest[0];
            rest = &rest[1..];
        }
        // A killed server may leave a chunk that is not whole.
        if rest.len() < len + 4 {
            break;
        }
        let encoding = Encoding::from_byte(encoding).unwrap();
        out.push(Stored { encoding, data: rest[..len].to_vec(), range });
        rest = &rest[len + 4..];
    }
}

fn encode_again(stored: &Stored) -> Vec<u8> {
    let (encoding, data) = (stored.encoding, &stored.data);
    match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut columns = SampleColumns::default();
            decode(encoding, data, i64::MIN, i64::MAX, &mut columns).unwrap();
            let floats = columns.floats;
            let (mut xor, mut xor2) = (XorEncoder::new(), Xor2Encoder::new());
            for i in 0..floats.len() {
                xor.append(floats.t[i], floats.v[i]).unwrap();
                xor2.append(floats.t[i], floats.v[i], floats.start_timestamp(i)).unwrap();
            }
            if encoding == Encoding::Xor { xor.take() } else { xor2.take() }
        }
        Encoding::Histogram | Encoding::HistogramSt => {
            let mut encoder = HistogramEncoder::new(encoding == Encoding::HistogramSt);
            for (t, st, h) in decode_histograms(encoding, data).unwrap() {
                encoder.append(t, &h, st).unwrap();
            }
            encoder.set_counter_reset(HistogramReader::new(encoding, data).unwrap().counter_reset());
            encoder.take()
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let mut encoder = FloatHistogramEncoder::new(encoding == Encoding::FloatHistogramSt);
            for (t, st, h) in decode_float_histograms(encoding, data).unwrap() {
                encoder.append(t, &h, st).unwrap();
            }
            encoder.set_counter_reset(FloatHistogramReader::new(encoding, data).unwrap().counter_reset());
            encoder.take()
        }
    }
}

fn check(archive: &str, old: bool, wanted: &[Encoding]) {
    let Some((_scratch, dir)) = tsdbctl_testkit::unpack_directory(archive) else { return };
    let (mut paths, mut stored) = (Vec::new(), Vec::new());
    files(&dir, &mut paths);
    paths.iter().for_each(|path| chunks_of(path, &mut stored));
    let mut seen = BTreeMap::<u8, usize>::new();
    for chunk in &stored {
        let mut columns = SampleColumns::default();
        decode(chunk.encoding, &chunk.data, i64::MIN, i64::MAX, &mut columns).unwrap();
        assert_eq!(columns.len(), sample_count(chunk.encoding, &chunk.data).unwrap());
        let times = if chunk.encoding.is_histogram() { &columns.histograms.t } else { &columns.floats.t };
        if let Some(range) = chunk.range {
            assert_eq!((times[0], times[times.len() - 1]), range);
        }
        assert!(times.is_sorted());
        let mut again = encode_again(chunk);
        let whole = again.len();
        if old {
            // Writing a byte at a byte boundary left an empty byte behind.
            again.resize(chunk.data.len().min(whole + 1), 0);
        }
        assert_eq!(again, chunk.data, "{:?}", chunk.encoding);
        let error = decode(
            chunk.encoding,
            &chunk.data[..whole - 1],
            i64::MIN,
            i64::MAX,
            &mut SampleColumns::default(),
        );
        assert!(error.is_err());
        *seen.entry(chunk.encoding as u8).or_default() += columns.len();
    }
    for encoding in wanted {
        let samples = seen.get(&(*encoding as u8)).copied().unwrap_or(0);
        assert!(samples > 2000, "{encoding:?} occurs in {samples} samples");
    }
}

#[test]
fn prometheus_2_42() {
    check("data/prometheus-2.42-crashed.tar.zst", true, &[Encoding::Xor]);
}

#[test]
fn prometheus_3_14() {
    let wanted = [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram];
    check("data/prometheus-3.14-crashed.tar.zst", false, &wanted);
}

#[test]
fn prometheus_3_14_with_start_timestamps() {
    let wanted = [Encoding::Xor2, Encoding::HistogramSt, Encoding::FloatHistogramSt];
    check("data/prometheus-3.14-xor2-crashed.tar.zst", false, &wanted);
}
