//! Histograms inside records and chunk snapshots.

use std::sync::Arc;

use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::{CounterResetHint, FloatHistogram, Histogram};

use crate::cursor::{Cursor, ShortRecord, put_be64, put_float, put_uvarint, put_varint};

/// Schema of histograms with custom buckets.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// Finest schema that is used; what is finer is made coarser when it is read.
pub const MAX_SCHEMA: i32 = 8;

/// Whether upstream reads histograms of this schema: custom, or −9 to 52 (it uses −4 to 8).
pub fn is_known_schema(schema: i32) -> bool {
    schema == CUSTOM_BUCKETS_SCHEMA || (-9..=52).contains(&schema)
}

fn hint(byte: u8) -> CounterResetHint {
    match byte {
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

fn read_spans(c: &mut Cursor<'_>) -> Result<Vec<BucketSpan>, ShortRecord> {
    let n = c.count(2)?;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        let offset = c.varint()? as i32;
        spans.push(BucketSpan { offset, length: c.uvarint()? as u32 });
    }
    Ok(spans)
}

fn read_deltas(c: &mut Cursor<'_>) -> Result<Vec<i64>, ShortRecord> {
    let n = c.count(1)?;
    let mut deltas = Vec::with_capacity(n);
    for _ in 0..n {
        deltas.push(c.varint()?);
    }
    Ok(deltas)
}

fn read_floats(c: &mut Cursor<'_>) -> Result<Vec<f64>, ShortRecord> {
    let n = c.count(8)?;
    let mut floats = Vec::with_capacity(n);
    for _ in 0..n {
        floats.push(c.float()?);
    }
    Ok(floats)
}

fn read_bounds(c: &mut Cursor<'_>, schema: i32) -> Result<Option<Arc<[f64]>>, ShortRecord> {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return Ok(None);
    }
    Ok(Some(read_floats(c)?.into()))
}

/// Reads an integer histogram.
///
/// # Errors
/// If it is longer than what is left.
pub fn read_histogram(c: &mut Cursor<'_>) -> Result<Histogram, ShortRecord> {
    let counter_reset_hint = hint(c.byte()?);
    let schema = c.varint()? as i32;
    Ok(Histogram {
        counter_reset_hint,
        schema,
        zero_threshold: c.float()?,
        zero_count: c.uvarint()?,
        count: c.uvarint()?,
        sum: c.float()?,
        positive_spans: read_spans(c)?,
        negative_spans: read_spans(c)?,
        positive_buckets: read_deltas(c)?,
        negative_buckets: read_deltas(c)?,
        custom_values: read_bounds(c, schema)?,
    })
}

/// Reads a float histogram.
///
/// # Errors
/// As [`read_histogram`].
pub fn read_float_histogram(c: &mut Cursor<'_>) -> Result<FloatHistogram, ShortRecord> {
    let counter_reset_hint = hint(c.byte()?);
    let schema = c.varint()? as i32;
    Ok(FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold: c.float()?,
        zero_count: c.float()?,
        count: c.float()?,
        sum: c.float()?,
        positive_spans: read_spans(c)?,
        negative_spans: read_spans(c)?,
        positive_buckets: read_floats(c)?,
        negative_buckets: read_floats(c)?,
        custom_values: read_bounds(c, schema)?,
    })
}

fn skip_varints(c: &mut Cursor<'_>, per_item: usize) -> Result<(), ShortRecord> {
    for _ in 0..c.count(per_item)? * per_item {
        c.uvarint()?;
    }
    Ok(())
}

fn skip_floats(c: &mut Cursor<'_>) -> Result<(), ShortRecord> {
    let n = c.count(8)?;
    c.take(n * 8).map(drop)
}

/// Passes over an integer (`float` false) or float histogram.
///
/// # Errors
/// As [`read_histogram`].
pub fn skip_histogram(c: &mut Cursor<'_>, float: bool) -> Result<(), ShortRecord> {
    c.byte()?;
    let schema = c.varint()? as i32;
    if float {
        c.take(32)?;
    } else {
        c.take(8)?;
        c.uvarint()?;
        c.uvarint()?;
        c.take(8)?;
    }
    skip_varints(c, 2)?;
    skip_varints(c, 2)?;
    if float {
        skip_floats(c)?;
        skip_floats(c)?;
    } else {
        skip_varints(c, 1)?;
        skip_varints(c, 1)?;
    }
    if schema == CUSTOM_BUCKETS_SCHEMA { skip_floats(c) } else { Ok(()) }
}

fn write_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    put_uvarint(out, spans.len() as u64);
    for s in spans {
        put_varint(out, i64::from(s.offset));
        put_uvarint(out, u64::from(s.length));
    }
}

fn write_deltas(out: &mut Vec<u8>, deltas: &[i64]) {
    put_uvarint(out, deltas.len() as u64);
    deltas.iter().for_each(|d| put_varint(out, *d));
}

fn write_floats(out: &mut Vec<u8>, floats: &[f64]) {
    put_uvarint(out, floats.len() as u64);
    floats.iter().for_each(|f| put_float(out, *f));
}

/// Appends an integer histogram.
pub fn write_histogram(out: &mut Vec<u8>, h: &Histogram) {
    out.push(h.counter_reset_hint as u8);
    put_varint(out, i64::from(h.schema));
    put_float(out, h.zero_threshold);
    put_uvarint(out, h.zero_count);
    put_uvarint(out, h.count);
    put_be64(out, h.sum.to_bits());
    write_spans(out, &h.positive_spans);
    write_spans(out, &h.negative_spans);
    write_deltas(out, &h.positive_buckets);
    write_deltas(out, &h.negative_buckets);
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        write_floats(out, h.custom_values.as_deref().unwrap_or(&[]));
    }
}

/// Appends a float histogram.
pub fn write_float_histogram(out: &mut Vec<u8>, h: &FloatHistogram) {
    out.push(h.counter_reset_hint as u8);
    put_varint(out, i64::from(h.schema));
    for v in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        put_float(out, v);
    }
    write_spans(out, &h.positive_spans);
    write_spans(out, &h.negative_spans);
    write_floats(out, &h.positive_buckets);
    write_floats(out, &h.negative_buckets);
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        write_floats(out, h.custom_values.as_deref().unwrap_or(&[]));
    }
}
