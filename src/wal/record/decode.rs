//! Records to entries.

use crate::cursor::{Cursor, ShortRecord};
use crate::record::histogram::{is_known_schema, read_float_histogram, read_histogram, skip_histogram};
use crate::record::{
    EncodedLabels, ExemplarEntry, MarkerEntry, MetadataEntry, RecordError, RecordType, SampleEntry,
    SeriesEntry, TombstoneEntry, Visitor,
};

/// Gives all entries of a record to `visitor`.
///
/// # Errors
/// If the record ends inside an entry; the entries before it have been given then.
pub fn decode(record: &[u8], visitor: &mut impl Visitor) -> Result<(), RecordError> {
    let Some(record_type) = RecordType::of(record) else {
        visitor.unknown(record.first().copied().unwrap_or(0));
        return Ok(());
    };
    let mut c = Cursor::new(&record[1..]);
    let done = match record_type {
        RecordType::Series => series(&mut c, visitor),
        RecordType::Samples => samples(&mut c, visitor),
        RecordType::SamplesV2 => v2(&mut c, |head, c| {
            visitor.sample(head.with(c.float()?));
            Ok(())
        }),
        RecordType::Tombstones => tombstones(&mut c, visitor),
        RecordType::Exemplars => exemplars(&mut c, visitor),
        RecordType::MmapMarkers => markers(&mut c, visitor),
        RecordType::Metadata => metadata(&mut c, visitor),
        RecordType::HistogramSamples | RecordType::CustomBucketsHistogramSamples => {
            v1(&mut c, |head, c| histogram(head, c, visitor))
        }
        RecordType::HistogramSamplesV2 => v2(&mut c, |head, c| histogram(head, c, visitor)),
        RecordType::FloatHistogramSamples | RecordType::CustomBucketsFloatHistogramSamples => {
            v1(&mut c, |head, c| float_histogram(head, c, visitor))
        }
        RecordType::FloatHistogramSamplesV2 => v2(&mut c, |head, c| float_histogram(head, c, visitor)),
    };
    done.map_err(|source| RecordError { record_type, source })
}

/// Whether records of this type hold samples.
pub fn has_samples(first_byte: u8) -> bool {
    matches!(first_byte, 2 | 7..=13)
}

/// Gives the time of every sample in a record to `each`, without reading values. Other records have none.
///
/// # Errors
/// As [`decode`].
pub fn timestamps(record: &[u8], mut each: impl FnMut(i64)) -> Result<(), RecordError> {
    let Some(record_type) = RecordType::of(record).filter(|t| has_samples(*t as u8)) else { return Ok(()) };
    let mut c = Cursor::new(&record[1..]);
    let mut see = |head: Head| each(head.t);
    let done = match record_type {
        RecordType::Samples => v1(&mut c, |head, c| {
            see(head);
            c.take(8).map(drop)
        }),
        RecordType::SamplesV2 => v2(&mut c, |head, c| {
            see(head);
            c.take(8).map(drop)
        }),
        RecordType::HistogramSamples | RecordType::CustomBucketsHistogramSamples => v1(&mut c, |head, c| {
            see(head);
            skip_histogram(c, false)
        }),
        RecordType::FloatHistogramSamples | RecordType::CustomBucketsFloatHistogramSamples => {
            v1(&mut c, |head, c| {
                see(head);
                skip_histogram(c, true)
            })
        }
        RecordType::HistogramSamplesV2 => v2(&mut c, |head, c| {
            see(head);
            skip_histogram(c, false)
        }),
        RecordType::FloatHistogramSamplesV2 => v2(&mut c, |head, c| {
            see(head);
            skip_histogram(c, true)
        }),
        _ => Ok(()),
    };
    done.map_err(|source| RecordError { record_type, source })
}

/// A sample but for its value.
#[derive(Clone, Copy)]
struct Head {
    series: u64,
    start: i64,
    t: i64,
}

impl Head {
    fn with<V>(self, value: V) -> SampleEntry<V> {
        SampleEntry { series: self.series, start_timestamp_ms: self.start, timestamp_ms: self.t, value }
    }
}

fn series(c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    while !c.is_empty() {
        let series = c.be64()?;
        visitor.series(SeriesEntry { series, labels: EncodedLabels::read(c)? });
    }
    Ok(())
}

/// As [`v1`], written out because most of a log is this.
fn samples(c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    if c.is_empty() {
        return Ok(());
    }
    let (base_series, base_t) = (c.be64()?, c.be64_signed()?);
    while !c.is_empty() {
        let series = base_series.wrapping_add(c.varint()? as u64);
        let t = base_t.wrapping_add(c.varint()?);
        let value = c.float()?;
        visitor.sample(SampleEntry { series, start_timestamp_ms: 0, timestamp_ms: t, value });
    }
    Ok(())
}

fn v1<'a>(
    c: &mut Cursor<'a>,
    mut each: impl FnMut(Head, &mut Cursor<'a>) -> Result<(), ShortRecord>,
) -> Result<(), ShortRecord> {
    if c.is_empty() {
        return Ok(());
    }
    let (base_series, base_t) = (c.be64()?, c.be64_signed()?);
    while !c.is_empty() {
        let series = base_series.wrapping_add(c.varint()? as u64);
        let t = base_t.wrapping_add(c.varint()?);
        each(Head { series, start: 0, t }, c)?;
    }
    Ok(())
}

fn v2<'a>(
    c: &mut Cursor<'a>,
    mut each: impl FnMut(Head, &mut Cursor<'a>) -> Result<(), ShortRecord>,
) -> Result<(), ShortRecord> {
    if c.is_empty() {
        return Ok(());
    }
    let first = Head { series: c.varint()? as u64, t: c.varint()?, start: c.varint()? };
    each(first, c)?;
    let mut before = first;
    while !c.is_empty() {
        let series = before.series.wrapping_add(c.varint()? as u64);
        let t = first.t.wrapping_add(c.varint()?);
        let start = match c.byte()? {
            0 => 0,
            1 => before.start,
            _ => first.start.wrapping_add(c.varint()?),
        };
        before = Head { series, start, t };
        each(before, c)?;
    }
    Ok(())
}

fn histogram(head: Head, c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    if !visitor.wants_histogram(head.series, head.t) {
        return skip_histogram(c, false);
    }
    let value = read_histogram(c)?;
    if is_known_schema(value.schema) {
        visitor.histogram(head.with(value));
    } else {
        visitor.unknown_schema(head.series, value.schema);
    }
    Ok(())
}

fn float_histogram(head: Head, c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    if !visitor.wants_histogram(head.series, head.t) {
        return skip_histogram(c, true);
    }
    let value = read_float_histogram(c)?;
    if is_known_schema(value.schema) {
        visitor.float_histogram(head.with(value));
    } else {
        visitor.unknown_schema(head.series, value.schema);
    }
    Ok(())
}

fn tombstones(c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    while !c.is_empty() {
        visitor.tombstone(TombstoneEntry { series: c.be64()?, mint: c.varint()?, maxt: c.varint()? });
    }
    Ok(())
}

/// Reads exemplars up to the end of the bytes, without a record's type in front (chunk snapshots hold them so).
///
/// # Errors
/// If the bytes end inside one.
pub fn exemplars(c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    v1(c, |head, c| {
        let value = c.float()?;
        let labels = EncodedLabels::read(c)?;
        visitor.exemplar(ExemplarEntry { series: head.series, timestamp_ms: head.t, value, labels });
        Ok(())
    })
}

fn markers(c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    while !c.is_empty() {
        visitor.marker(MarkerEntry { series: c.be64()?, chunk: c.be64()? });
    }
    Ok(())
}

fn metadata(c: &mut Cursor<'_>, visitor: &mut impl Visitor) -> Result<(), ShortRecord> {
    while !c.is_empty() {
        let series = c.uvarint()?;
        let metric_type = c.byte()?;
        let (mut unit, mut help): (&[u8], &[u8]) = (b"", b"");
        for _ in 0..c.count(2)? {
            let (name, value) = (c.string()?, c.string()?);
            match name {
                b"UNIT" => unit = value,
                b"HELP" => help = value,
                _ => {}
            }
        }
        visitor.metadata(MetadataEntry { series, metric_type, unit, help });
    }
    Ok(())
}
