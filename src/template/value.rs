//! The values templates compute with, each with the name of its Go type.
//!
//! A value here is what Go calls the concrete value: whether it came out of an `interface {}` (which changes error
//! texts only) is kept by the execution beside it.

use std::borrow::Cow;
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
    /// A whole number of another Go type.
    Sized(SizedInt, i64),
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
    /// `*time.Time` (of `toTime`): nanoseconds since the epoch, UTC. As a pointer it equals itself alone.
    Time(Arc<i128>),
    /// `time.Time` (of the methods of times).
    TimeValue(i128),
    /// `*time.Duration` (of `toDuration`): nanoseconds. As a pointer it equals itself alone.
    Duration(Arc<i64>),
    /// `time.Duration` (of the methods of times and durations).
    DurationValue(i64),
    /// `map[string]string`: a missing key is the empty text.
    StrMap(Arc<BTreeMap<String, String>>),
    /// `map[string]interface {}`: a missing key is `<no value>`.
    AnyMap(Arc<AnyMap>),
    /// `[]interface {}`
    List(Arc<Vec<Value>>),
    /// A slice with elements of one type.
    Slice(Arc<Slice>),
    /// `template.queryResult`: what `query` gives.
    Samples(Arc<Vec<TemplateSample>>),
    /// `*template.sample`
    Sample(Arc<TemplateSample>),
    /// `*histogram.FloatHistogram`
    Histogram(Arc<FloatHistogram>),
    /// A Go struct by its fields, such as the data of a rule's template.
    Struct(Arc<Struct>),
}

/// Go's other whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizedInt {
    /// `int64`
    Int64,
    /// `int32`
    Int32,
    /// `uint32`
    Uint32,
    /// `uint8`: a byte of a string.
    Uint8,
    /// `time.Month`, which prints as its name.
    Month,
    /// `time.Weekday`, which prints as its name.
    Weekday,
    /// `histogram.CounterResetHint`
    CounterResetHint,
}

/// A `map[string]interface {}`, of bounded nesting: whoever walks or drops one may recurse.
#[derive(Clone, Debug, Default)]
pub struct AnyMap {
    entries: BTreeMap<String, Value>,
    depth: u32,
}

impl AnyMap {
    /// How deep maps may lie in each other.
    pub const MAX_DEPTH: u32 = 200;

    /// A map of these entries; `None` if it would be nested too deep.
    pub fn new(entries: BTreeMap<String, Value>) -> Option<Self> {
        let depth = 1 + entries.values().map(Value::depth).max().unwrap_or(0);
        (depth <= Self::MAX_DEPTH).then_some(Self { entries, depth })
    }
}

impl std::ops::Deref for AnyMap {
    type Target = BTreeMap<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

/// One series of a query in a template.
#[derive(Clone, Debug)]
pub struct TemplateSample {
    /// `.Labels`
    pub labels: Arc<BTreeMap<String, String>>,
    /// `.Value`: [`Value::Float`] or [`Value::Histogram`].
    pub value: Value,
}

/// A slice whose elements are of one Go type.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The Go name of the slice's type, for example `[]float64`.
    pub go_type: &'static str,
    /// The elements.
    pub elements: Vec<Value>,
}

/// A struct: the Go name of its type, its fields in declared order.
#[derive(Clone, Debug)]
pub struct Struct {
    /// The Go name of the type.
    pub go_type: &'static str,
    /// The fields.
    pub fields: Vec<Field>,
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
    /// Whether Go declares it as `interface {}`.
    pub interface: bool,
}

/// Go's `reflect.Kind`, as far as it decides what may be done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Untyped nil.
    Invalid,
    /// `bool`
    Bool,
    /// Signed whole numbers, durations among them.
    Int,
    /// Unsigned whole numbers.
    Uint,
    /// `float64`
    Float,
    /// `complex128`
    Complex,
    /// `string` and what is made of it.
    String,
    /// Maps.
    Map,
    /// Slices.
    Slice,
    /// Structs.
    Struct,
    /// Pointers, none of them nil.
    Pointer,
}

impl SizedInt {
    /// The Go name of the type.
    pub fn go_type(self) -> &'static str {
        match self {
            Self::Int64 => "int64",
            Self::Int32 => "int32",
            Self::Uint32 => "uint32",
            Self::Uint8 => "uint8",
            Self::Month => "time.Month",
            Self::Weekday => "time.Weekday",
            Self::CounterResetHint => "histogram.CounterResetHint",
        }
    }

    /// Whether Go counts it among the unsigned.
    pub fn is_unsigned(self) -> bool {
        matches!(self, Self::Uint32 | Self::Uint8 | Self::CounterResetHint)
    }
}

impl Value {
    /// A `string`.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    /// The Go name of the type (`%T`); `<nil>` for [`Value::Nil`].
    pub fn go_type(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Sized(sized, _) => sized.go_type(),
            Self::Uint(_) => "uint64",
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::Str(_) => "string",
            Self::Html(_) => "template.HTML",
            Self::Time(_) => "*time.Time",
            Self::TimeValue(_) => "time.Time",
            Self::Duration(_) => "*time.Duration",
            Self::DurationValue(_) => "time.Duration",
            Self::StrMap(_) => "map[string]string",
            Self::AnyMap(_) => "map[string]interface {}",
            Self::List(_) => "[]interface {}",
            Self::Slice(slice) => slice.go_type,
            Self::Samples(_) => "template.queryResult",
            Self::Sample(_) => "*template.sample",
            Self::Histogram(_) => "*histogram.FloatHistogram",
            Self::Struct(data) => data.go_type,
        }
    }

    /// Go's kind of it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Nil => Kind::Invalid,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) | Self::DurationValue(_) => Kind::Int,
            Self::Sized(sized, _) if sized.is_unsigned() => Kind::Uint,
            Self::Sized(..) => Kind::Int,
            Self::Uint(_) => Kind::Uint,
            Self::Float(_) => Kind::Float,
            Self::Complex(..) => Kind::Complex,
            Self::Str(_) | Self::Html(_) => Kind::String,
            Self::StrMap(_) | Self::AnyMap(_) => Kind::Map,
            Self::List(_) | Self::Slice(_) | Self::Samples(_) => Kind::Slice,
            Self::TimeValue(_) | Self::Struct(_) => Kind::Struct,
            Self::Time(_) | Self::Duration(_) | Self::Sample(_) | Self::Histogram(_) => Kind::Pointer,
        }
    }

    /// Whether `if`, `and`, `not` and the like take it as true: not the zero of its type; pointers and structs
    /// always are.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) | Self::Sized(_, n) | Self::DurationValue(n) => *n != 0,
            Self::Uint(n) => *n != 0,
            Self::Float(f) => *f != 0.0,
            Self::Complex(re, im) => *re != 0.0 || *im != 0.0,
            Self::Str(s) | Self::Html(s) => !s.is_empty(),
            Self::StrMap(map) => !map.is_empty(),
            Self::AnyMap(map) => !map.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Slice(slice) => !slice.elements.is_empty(),
            Self::Samples(samples) => !samples.is_empty(),
            Self::Time(_)
            | Self::TimeValue(_)
            | Self::Duration(_)
            | Self::Sample(_)
            | Self::Histogram(_)
            | Self::Struct(_) => true,
        }
    }

    /// How deep maps lie in each other in it.
    fn depth(&self) -> u32 {
        match self {
            Self::AnyMap(map) => map.depth,
            Self::List(list) => list.iter().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What a pointer points at, with the Go name of that type; other values as they are.
    pub fn indirect(&self) -> Cow<'_, Self> {
        match self {
            Self::Time(ns) => Cow::Owned(Self::TimeValue(**ns)),
            Self::Duration(ns) => Cow::Owned(Self::DurationValue(**ns)),
            other => Cow::Borrowed(other),
        }
    }
}
