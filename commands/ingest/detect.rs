//! What an input is, by its name and first bytes.

use tsdbctl_exposition::Format;
use tsdbctl_model::protobuf::varint;
use tsdbctl_wire::{Version, snappy};

use super::remote_write::recognize;

/// So many first bytes are looked at.
pub const BYTES: usize = 64 << 10;
/// A binary body that has to be looked at as a whole.
pub const BINARY_BYTES_MAX: usize = 1 << 30;

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An exposition format.
    Exposition(Format),
    /// Remote write; the version where it is known.
    RemoteWrite(Option<Version>),
    /// Rows.
    Csv,
    /// JSON lines.
    Ndjson,
    /// Nothing that can be read, and why.
    Unknown(&'static str),
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exposition(Format::Text) => "text",
            Self::Exposition(Format::OpenMetrics) => "openmetrics",
            Self::Exposition(Format::Protobuf) => "protobuf",
            Self::RemoteWrite(_) => "remote-write",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Unknown(_) => "nothing that is known",
        }
    }
}

/// Whether bytes are no text: a control character other than blanks, or no UTF-8.
fn is_binary(bytes: &[u8]) -> bool {
    let control = bytes.iter().any(|b| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r'));
    // A character may be cut at the end.
    control || std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_some())
}

/// Whether bytes that are binary may yet be text with some control characters in it, such as colours in a help text.
fn is_odd_text(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|b| *b >= 0x20)
        && !bytes.contains(&0)
        && std::str::from_utf8(bytes).is_ok_and(|text| text.contains('\n'))
        && !is_family(bytes)
}

/// Whether bytes begin as a metric family does: its length, then its name.
fn is_family(bytes: &[u8]) -> bool {
    let Ok((length, used)) = varint(bytes) else { return false };
    let name_length = || varint(&bytes[used + 1..]).map_or(0, |p| p.0);
    used <= 5 && bytes.get(used) == Some(&0x0a) && (1..length).contains(&name_length())
}

/// Why a binary input cannot be read.
fn why_not(bytes: &[u8]) -> &'static str {
    let packed: [(&[u8], &str); 4] = [
        (b"\xfd7zXZ\0", "compressed by xz, which is not read; pipe it: xz -dc FILE | tsdbctl ingest -"),
        (b"BZh", "compressed by bzip2, which is not read; pipe it: bzip2 -dc FILE | tsdbctl ingest -"),
        (
            b"\x04\x22\x4d\x18",
            "compressed by lz4, which is not read; pipe it: lz4 -dc FILE | tsdbctl ingest -",
        ),
        (b"PK\x03\x04", "a zip archive, which is not read; pipe it: unzip -p FILE | tsdbctl ingest -"),
    ];
    let found = packed.iter().find(|(magic, _)| bytes.starts_with(magic));
    found.map_or(
        "neither text nor metric families nor a body of remote write; --format says it if it is one of them",
        |(_, why)| why,
    )
}

/// Whether the first bytes say enough while no more come: a whole line of text.
pub fn is_enough(bytes: &[u8]) -> bool {
    !is_binary(bytes) && bytes.contains(&b'\n')
}

/// Whether the input has to be there as a whole: it is binary, and may be remote write.
pub fn wants_all(bytes: &[u8]) -> bool {
    let first = &bytes[..bytes.len().min(BYTES)];
    is_binary(first) && !is_odd_text(first) && may_be_remote_write(first)
}

/// Whether bytes begin as a body of remote write may: with a field of one of its messages, or as a block of snappy,
/// whose length is followed by a literal. Families, whose length is followed by 0x0a, are mostly told apart by that.
fn may_be_remote_write(bytes: &[u8]) -> bool {
    let is_plain = matches!(bytes.first(), Some(0x0a | 0x1a | 0x22 | 0x2a));
    let is_packed = varint(bytes).is_ok_and(|(length, used)| {
        (1..=snappy::DECODED_BYTES_MAX as u64).contains(&length)
            && bytes.get(used).is_none_or(|tag| tag.trailing_zeros() >= 2)
    });
    is_plain || is_packed
}

/// What an input called `name` is that begins with, or consists of, `bytes`.
pub fn kind(name: &str, bytes: &[u8], complete: bool) -> Kind {
    let first = &bytes[..bytes.len().min(BYTES)];
    if is_binary(first) && !is_odd_text(first) {
        return match recognize(bytes) {
            Some(version) => Kind::RemoteWrite(Some(version)),
            None if is_family(bytes) => Kind::Exposition(Format::Protobuf),
            None => Kind::Unknown(why_not(bytes)),
        };
    }
    let stem = [".gz", ".zst"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| stem.ends_with(s));
    let line = first.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|l| !l.is_empty()).unwrap_or(b"");
    if ends(&[".ndjson", ".jsonl"]) || is_object(line) {
        return Kind::Ndjson;
    }
    if ends(&[".csv"]) || is_header(line) {
        return Kind::Csv;
    }
    let ends_body = |bytes: &[u8]| bytes.trim_ascii_end().ends_with(b"# EOF");
    let lines = || first.split(|b| *b == b'\n');
    let says_so = ends(&[".om", ".openmetrics"])
        || (complete && ends_body(bytes))
        || lines().any(|l| l == b"# EOF" || l.starts_with(b"# UNIT "))
        || lines().any(|l| {
            let kinds = [&b" unknown"[..], b" info", b" stateset", b" gaugehistogram"];
            l.starts_with(b"# TYPE ") && kinds.iter().any(|kind| l.ends_with(kind))
        })
        || lines().any(has_fraction);
    Kind::Exposition(if says_so { Format::OpenMetrics } else { Format::Text })
}

/// Whether a line is a sample whose time has a fraction: seconds. In Prometheus text times are whole milliseconds.
fn has_fraction(line: &[u8]) -> bool {
    if line.starts_with(b"#") {
        return false;
    }
    // Labels may have blanks in them, and what is behind them has no brace.
    let numbers = match line.iter().rposition(|b| *b == b'}') {
        Some(end) => &line[end + 1..],
        None => line.iter().position(|b| *b == b' ').map_or(&[][..], |end| &line[end..]),
    };
    let mut words = numbers.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (Some(_), Some(time), None) = (words.next(), words.next(), words.next()) else { return false };
    let mut parts = time.split(|b| *b == b'.');
    let is_whole =
        |part: Option<&[u8]>| part.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
    is_whole(parts.next()) && is_whole(parts.next()) && parts.next().is_none()
}

/// Whether a line begins as a JSON object does; `{"a.b", …}` is a series of Prometheus text.
fn is_object(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"{") else { return false };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"\"") else { return false };
    let mut escaped = false;
    let end = rest.iter().position(|b| {
        let ends = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        ends
    });
    end.is_some_and(|end| rest[end + 1..].trim_ascii_start().starts_with(b":"))
}

/// Whether a line is a header of CSV: names with commas between, one of which is `value`.
fn is_header(line: &[u8]) -> bool {
    let mut names = line.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    line.contains(&b',')
        && !line.iter().any(|b| matches!(b, b'{' | b'#' | b'='))
        && names.any(|name| matches!(name, b"value" | b"\"value\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_known_by_their_first_bytes() {
        for (name, bytes, want) in [
            ("-", &b""[..], "text"),
            ("-", b"a{b=\"c,value\"} 1\n", "text"),
            ("-", b"# TYPE a counter\na_total 1\n# EOF\n", "openmetrics"),
            ("-", b"# TYPE a info\na_info 1\n", "openmetrics"),
            ("x.om.gz", b"a 1 1700000000\n", "openmetrics"),
            ("-", b"# TYPE a counter\na_total{b=\"} 1 2\"} 1 1700000000.25\n", "openmetrics"),
            ("-", b"a 1.5 1700000000.25\n", "openmetrics"),
            ("-", b"a{b=\"c 1 1.5\"} 1.5 1700000000250\n# a 1 1.5\na 1.5\n", "text"),
            ("-", b"{\"a.b\",c=\"d\"} 1\n", "text"),
            ("-", b"\n {\"metric\" : {}}\n", "ndjson"),
            ("x.jsonl.zst", b"", "ndjson"),
            ("-", b"__name__,job,time,value\n", "csv"),
            ("x.csv", b"a,b\n", "csv"),
            ("-", &[10, 0x0a, 1, b'a', 0x18, 1, 0x22, 3, 0x12, 1, 0], "protobuf"),
            ("-", b"# HELP a \x1b[1mbold\x1b[0m\na 1\n", "text"),
            ("-", b"\xfd7zXZ\0\0\x04", "nothing that is known"),
            ("-", b"\x89PNG\r\n\x1a\n", "nothing that is known"),
            ("-", &[0x0a, 7, 0x0a, 5, 0x0a, 1, b'a', 0x12, 0], "remote-write"),
        ] {
            assert_eq!(kind(name, bytes, true).name(), want, "{name} {bytes:?}");
        }
        assert!(is_enough(b"a 1\n") && !is_enough(b"a") && !is_enough(&[10, 1, b'\n']));
        assert!(!wants_all(&[0; 9]) && !wants_all(&[40, 0x0a, 1, b'a']) && wants_all(&[40, 0xf0, 1]));
        assert!(wants_all(&[0x0a, 1]) && !wants_all("é".as_bytes()) && !wants_all(&"é".as_bytes()[..1]));
    }
}
