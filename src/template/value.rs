//! The values templates compute with, each with the name of its Go type.

use std::collections::BTreeMap;
use std::sync::Arc;

use tsdbctl_model::FloatHistogram;

/// A value. Maps are ordered by key, as Go prints and ranges them.
#[derive(Clone, Debug)]
pub enum Value {
    /// Go's untyped nil.
    Nil,
    /// `bool`
    Bool(bool),
    /// `int` (also a character constant)
    Int(i64),
    /// `uint64`
    Uint(u64),
    /// `float64`
    Float(f64),
    /// `complex128`
    Complex(f64, f64),
    /// `string`
    Str(Arc<str>),
    /// `html/template.HTML`: a string that escaping leaves alone.
    Html(Arc<str>),
    /// `*time.Time` (of `toTime`): nanoseconds since the epoch, UTC.
    Time(i128),
    /// `*time.Duration` (of `toDuration`): nanoseconds.
    Duration(i64),
    /// `map[string]string`: a missing key is the empty text.
    StrMap(Arc<BTreeMap<String, String>>),
    /// `map[string]interface {}`: a missing key is `<no value>`.
    AnyMap(Arc<BTreeMap<String, Value>>),
    /// A slice of anything.
    List(Arc<Vec<Value>>),
    /// `template.queryResult`: what `query` gives.
    Samples(Arc<Vec<TemplateSample>>),
    /// `*template.sample`
    Sample(Arc<TemplateSample>),
    /// `*histogram.FloatHistogram`
    Histogram(Arc<FloatHistogram>),
    /// A Go struct by its fields, such as the data of a rule's template.
    Struct(Arc<Struct>),
}

/// One series of a query in a template.
#[derive(Clone, Debug)]
pub struct TemplateSample {
    /// `.Labels`
    pub labels: Arc<BTreeMap<String, String>>,
    /// `.Value`
    pub value: f64,
}

/// A struct: the Go name of its type, its fields in declared order.
#[derive(Clone, Debug)]
pub struct Struct {
    /// The Go name of the type.
    pub go_type: &'static str,
    /// Fields with their values.
    pub fields: Vec<(&'static str, Value)>,
}
