//! What Go's reflection says of values: whether they came out of an `interface {}`, which fields they have, what
//! can be ranged over, what may be passed as which parameter.

use std::sync::Arc;

use crate::func::Parameter;
use crate::value::{TemplateSample, Value};

/// A value, and whether Go holds it in an `interface {}`.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The value; with `interface` unset, [`Value::Nil`] is no value at all.
    pub value: Value,
    /// Whether it is held in an `interface {}`.
    pub interface: bool,
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        Self { value, interface: false }
    }
}

impl Cell {
    /// No value at all.
    pub const INVALID: Self = Self { value: Value::Nil, interface: false };

    /// Taken out of the `interface {}`.
    pub fn concrete(self) -> Self {
        Self { interface: false, ..self }
    }

    /// The type Go names in errors.
    pub fn go_type(&self) -> &'static str {
        if self.interface { "interface {}" } else { self.value.go_type() }
    }
}

/// The field or the entry `name`; a missing entry is the zero of the map's element type. `None` if there can be none.
pub fn field(value: &Value, name: &str) -> Option<Cell> {
    match value {
        Value::StrMap(map) => Some(Value::text(map.get(name).map_or("", String::as_str)).into()),
        Value::AnyMap(map) => {
            Some(Cell { value: map.get(name).cloned().unwrap_or(Value::Nil), interface: true })
        }
        Value::Struct(data) => data
            .fields
            .iter()
            .find(|f| f.name == name)
            .map(|f| Cell { value: f.value.clone(), interface: f.interface }),
        Value::Sample(sample) => match name {
            "Labels" => Some(Value::StrMap(Arc::clone(&sample.labels)).into()),
            "Value" => Some(Cell { value: sample.value.clone(), interface: true }),
            _ => None,
        },
        Value::Histogram(h) => {
            let fields = crate::histogram::fields(h).fields;
            fields.into_iter().find(|f| f.name == name).map(|f| f.value.into())
        }
        _ => None,
    }
}

/// Puts `new` in the place of the result of a query.
pub fn replace(value: &mut Value, old: &Arc<Vec<TemplateSample>>, new: &Value) {
    if matches!(value, Value::Samples(samples) if Arc::ptr_eq(samples, old)) {
        *value = new.clone();
    }
}

/// What a `range` goes over.
pub struct Elements {
    source: Source,
    next: usize,
}

enum Source {
    /// 0 up to a number, each made into a value of its type.
    Count(i64, fn(Value, i64) -> Value, Value),
    List(Vec<(Cell, Cell)>),
    Shared(Value, usize),
}

impl Elements {
    /// The elements of a value; `None` if it has none to go over. No value at all counts as an empty map.
    pub fn of(value: &Value) -> Option<Self> {
        fn keep(like: Value, n: i64) -> Value {
            match like {
                Value::Sized(sized, _) => Value::Sized(sized, n),
                Value::DurationValue(_) => Value::DurationValue(n),
                Value::Uint(_) => Value::Uint(n as u64),
                _ => Value::Int(n),
            }
        }
        let source = match value {
            Value::Nil => Source::List(Vec::new()),
            Value::Int(n) | Value::Sized(_, n) | Value::DurationValue(n) => {
                Source::Count(*n, keep, value.clone())
            }
            Value::Duration(n) => Source::Count(**n, keep, Value::DurationValue(**n)),
            Value::Uint(n) => Source::Count(i64::try_from(*n).unwrap_or(i64::MAX), keep, value.clone()),
            Value::StrMap(map) => Source::List(map.iter().map(|(k, v)| (text(k), text(v))).collect()),
            Value::AnyMap(map) => Source::List(
                map.iter().map(|(k, v)| (text(k), Cell { value: v.clone(), interface: true })).collect(),
            ),
            Value::List(list) => Source::Shared(value.clone(), list.len()),
            Value::Slice(slice) => Source::Shared(value.clone(), slice.elements.len()),
            Value::Samples(samples) => Source::Shared(value.clone(), samples.len()),
            _ => return None,
        };
        Some(Self { source, next: 0 })
    }

    /// Goes on with other elements if it goes over `old`.
    pub fn replace(&mut self, old: &Arc<Vec<TemplateSample>>, new: &Value) {
        if let Source::Shared(value, _) = &mut self.source {
            replace(value, old, new);
        }
    }

    /// Whether it counts numbers, so that there is no index beside the element.
    pub fn is_count(&self) -> bool {
        matches!(self.source, Source::Count(..))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        match &self.source {
            Source::Count(n, ..) => i64::try_from(self.next).map_or(true, |next| next >= *n),
            Source::List(list) => self.next >= list.len(),
            Source::Shared(_, len) => self.next >= *len,
        }
    }

    /// The next index or key, and element.
    pub fn next(&mut self) -> Option<(Cell, Cell)> {
        if self.is_empty() {
            return None;
        }
        let at = self.next;
        self.next += 1;
        let index = Value::Int(at as i64).into();
        Some(match &self.source {
            Source::Count(_, make, like) => (Cell::INVALID, make(like.clone(), at as i64).into()),
            Source::List(list) => list[at].clone(),
            Source::Shared(Value::List(list), _) => {
                (index, Cell { value: list[at].clone(), interface: true })
            }
            Source::Shared(Value::Slice(slice), _) => (index, slice.elements[at].clone().into()),
            Source::Shared(Value::Samples(samples), _) => {
                (index, Value::Sample(Arc::new(samples[at].clone())).into())
            }
            Source::Shared(..) => return None,
        })
    }
}

fn text(text: &str) -> Cell {
    Value::text(text).into()
}

/// A value as a parameter wants it; without a parameter, as it is.
///
/// # Errors
/// Go's text.
pub fn convert(cell: Cell, parameter: Option<Parameter>) -> Result<Cell, String> {
    let Some(parameter) = parameter else { return Ok(cell) };
    if matches!(parameter, Parameter::Any | Parameter::Reflect) {
        return Ok(cell);
    }
    let wanted = parameter.go_type();
    if matches!(cell.value, Value::Nil) {
        if cell.interface {
            return Err(format!("wrong type for value; expected {wanted}; got interface {{}}"));
        }
        return match parameter {
            Parameter::Samples => Ok(Value::Samples(Arc::default()).into()),
            Parameter::Sample => Ok(Cell::INVALID),
            _ => Err(format!("invalid value; expected {wanted}")),
        };
    }
    let value = match (parameter, cell.value) {
        (Parameter::Duration, Value::Duration(ns)) => Value::DurationValue(*ns),
        (Parameter::Time, Value::Time(ns)) => Value::TimeValue(*ns),
        (Parameter::String, value @ Value::Str(_))
        | (Parameter::Int, value @ Value::Int(_))
        | (Parameter::Float, value @ Value::Float(_))
        | (Parameter::Duration, value @ Value::DurationValue(_))
        | (Parameter::Time, value @ Value::TimeValue(_))
        | (Parameter::Samples, value @ Value::Samples(_))
        | (Parameter::Sample, value @ Value::Sample(_)) => value,
        (_, value) => {
            let got = value.go_type();
            return Err(format!("wrong type for value; expected {wanted}; got {got}"));
        }
    };
    Ok(value.into())
}
