//! A native histogram as the Go struct that templates see: `.Count`, `.Sum` and the other fields.

use std::sync::Arc;

use tsdbctl_model::CounterResetHint;
use tsdbctl_model::FloatHistogram;
use tsdbctl_model::histogram::BucketSpan;

use crate::value::{Field, SizedInt, Slice, Struct, Value};

/// The fields of `histogram.FloatHistogram`, in declared order.
pub fn fields(h: &FloatHistogram) -> Struct {
    let hint = match h.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::CounterReset => 1,
        CounterResetHint::NotCounterReset => 2,
        CounterResetHint::Gauge => 3,
    };
    let field = |name, value| Field { name, value, interface: false };
    Struct {
        go_type: "histogram.FloatHistogram",
        fields: vec![
            field("CounterResetHint", Value::Sized(SizedInt::CounterResetHint, hint)),
            field("Schema", Value::Sized(SizedInt::Int32, i64::from(h.schema))),
            field("ZeroThreshold", Value::Float(h.zero_threshold)),
            field("ZeroCount", Value::Float(h.zero_count)),
            field("Count", Value::Float(h.count)),
            field("Sum", Value::Float(h.sum)),
            field("PositiveSpans", spans(&h.positive_spans)),
            field("NegativeSpans", spans(&h.negative_spans)),
            field("PositiveBuckets", floats(&h.positive_buckets)),
            field("NegativeBuckets", floats(&h.negative_buckets)),
            field("CustomValues", floats(h.custom_values.as_deref().unwrap_or_default())),
        ],
    }
}

fn floats(values: &[f64]) -> Value {
    let elements = values.iter().map(|v| Value::Float(*v)).collect();
    Value::Slice(Arc::new(Slice { go_type: "[]float64", elements }))
}

fn spans(spans: &[BucketSpan]) -> Value {
    let element = |span: &BucketSpan| {
        let offset = Value::Sized(SizedInt::Int32, i64::from(span.offset));
        let length = Value::Sized(SizedInt::Uint32, i64::from(span.length));
        Value::Struct(Arc::new(Struct {
            go_type: "histogram.Span",
            fields: vec![
                Field { name: "Offset", value: offset, interface: false },
                Field { name: "Length", value: length, interface: false },
            ],
        }))
    };
    let elements = spans.iter().map(element).collect();
    Value::Slice(Arc::new(Slice { go_type: "[]histogram.Span", elements }))
}
