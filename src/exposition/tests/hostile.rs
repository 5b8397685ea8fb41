//! Bodies cut short, with bits flipped, and made of noise: refused or read, never a panic, never without an end.

#![allow(clippy::disallowed_methods, reason = "tests read their own files")]

use tsdbctl_exposition::{Entry, Format, Options, Parser};

const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf];

fn choices() -> impl Iterator<Item = Options> {
    (0..8u8).map(|bits| Options {
        fallback: None,
        native_histograms: bits & 1 != 0,
        keep_classic_histograms: bits & 2 != 0,
        convert_classic_histograms: bits & 4 != 0,
        start_timestamps: bits & 1 != 0,
    })
}

/// Reads to the end or the first error; how many entries there were. Every label and exemplar is looked at.
fn read(format: Format, body: &[u8], options: Options) -> usize {
    let mut parser = Parser::with_format(format, body, options);
    let mut entries = 0;
    loop {
        let (labels, exemplars) = match parser.next() {
            Err(e) => {
                assert!(e.offset <= body.len() && e.line >= 1 && e.column >= 1, "{e:?}");
                return entries;
            }
            Ok(None) => return entries,
            Ok(Some(Entry::Series(s))) => (s.labels, s.exemplars),
            Ok(Some(Entry::Histogram(s))) => (s.labels, s.exemplars),
            Ok(Some(_)) => {
                entries += 1;
                continue;
            }
        };
        labels.for_each(|name, value| assert!(name.len() + value.len() <= body.len() + 64));
        let _ = labels.to_labels();
        assert!(exemplars.iter().all(|e| e.labels.len() <= body.len()));
        entries += 1;
        assert!(entries <= 64 * (body.len() + 1), "no end");
    }
}

/// A body's beginning, its middle and its end, so that thousands of variants stay affordable.
fn excerpt(body: &[u8], format: Format) -> Vec<u8> {
    match format {
        Format::Protobuf => body.iter().copied().take(3000).collect(),
        _ => {
            let text = String::from_utf8_lossy(body);
            let lines: Vec<&str> = text.lines().collect();
            let step = (lines.len() / 40).max(1);
            let mut out: String = lines.iter().step_by(step).map(|l| format!("{l}\n")).collect();
            if format == Format::OpenMetrics {
                out.push_str("# EOF\n");
            }
            out.into_bytes()
        }
    }
}

fn bodies() -> Vec<(Format, Vec<u8>)> {
    let text = b"# HELP a b\\n\\\\\n# TYPE h histogram\nh_bucket{x=\"\\\"y\",le=\"1\"} 1 5\nh_count{x=\"y\"} 2\n{\"q.r\",\"s t\"=\"u\"} -1.5e3\n".to_vec();
    let openmetrics = b"# TYPE a counter\n# UNIT a_s s\na_total{b=\"c\"} 1 2.5 # {d=\"e\"} 3 4.5\na_created{b=\"c\"} 7\n# EOF\n".to_vec();
    let mut all = vec![(Format::Text, text), (Format::OpenMetrics, openmetrics)];
    for (name, format) in
        [("demo.text", Format::Text), ("demo.om", Format::OpenMetrics), ("demo.pb", Format::Protobuf)]
    {
        if let Some(path) = tsdbctl_testkit::shared(&format!("data/exposition-3.14/bodies/{name}")) {
            all.push((format, excerpt(&std::fs::read(path).expect("a body"), format)));
        }
    }
    all
}

#[test]
fn truncated_bodies_end() {
    for (format, body) in bodies() {
        for (i, options) in choices().enumerate() {
            for end in (0..body.len()).skip(i).step_by(if body.len() > 500 { 7 } else { 1 }) {
                read(format, &body[..end], options);
            }
        }
    }
}

#[test]
fn flipped_bits_end() {
    for (format, body) in bodies() {
        for (i, options) in choices().enumerate() {
            for at in (0..body.len()).skip(i).step_by(if body.len() > 500 { 31 } else { 3 }) {
                let mut flipped = body.clone();
                for bit in 0..8 {
                    flipped[at] = body[at] ^ (1 << bit);
                    read(format, &flipped, options);
                }
            }
        }
    }
}

#[test]
fn noise_ends() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let alphabet = b"ab{}=\",\\ \n\t#0123.eE+-HELPTYPEUNITOF\x00\xff_total";
    for round in 0..20_000usize {
        let length = round % 60;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let words: Vec<u8> = (0..length).map(|_| alphabet[next() % alphabet.len()]).collect();
        let bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        let options = choices().nth(round % 8).expect("eight choices");
        for format in FORMATS {
            read(format, &words, options);
            read(format, &bytes, options);
        }
    }
}

#[test]
fn the_undamaged_bodies_are_read_whole() {
    for (format, body) in bodies() {
        let whole = read(format, &body, Options::default());
        let minimum = if format == Format::Protobuf { 20 } else { 4 };
        assert!(whole >= minimum, "{format:?}: {whole} entries");
    }
}
