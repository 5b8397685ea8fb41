//! The functions that Go gives to every template.

use std::sync::Arc;

use tsdbctl_model::printable::is_print;

use super::Parameter::{Any, Reflect, String as Text};
use super::{Call, Code, Form, Function, Parameter, TOO_LONG};
use crate::format;
use crate::value::{Field, Kind, SizedInt, Slice, Struct, Value};

const fn function(
    name: &'static str,
    parameters: &'static [Parameter],
    variadic: Option<Parameter>,
    code: Code,
) -> Function {
    Function { name, parameters, variadic, form: Form::Plain, code }
}

/// All of them.
pub static FUNCTIONS: &[Function] = &[
    Function { name: "and", parameters: &[Reflect], variadic: Some(Reflect), form: Form::And, code: last },
    Function { name: "or", parameters: &[Reflect], variadic: Some(Reflect), form: Form::Or, code: last },
    Function { name: "call", parameters: &[Reflect], variadic: Some(Reflect), form: Form::Call, code: call },
    function("html", &[], Some(Any), html),
    function("index", &[Reflect], Some(Reflect), index),
    function("slice", &[Reflect], Some(Reflect), slice),
    function("js", &[], Some(Any), js),
    function("len", &[Reflect], None, len),
    function("not", &[Reflect], None, not),
    function("print", &[], Some(Any), print),
    function("printf", &[Text], Some(Any), printf),
    function("println", &[], Some(Any), println),
    function("urlquery", &[], Some(Any), urlquery),
    function("eq", &[Reflect], Some(Reflect), |_, v| eq(&v).map(Value::Bool)),
    function("ge", &[Reflect, Reflect], None, |_, v| pair(&v, |a, b| Ok(!lt(a, b)?))),
    function("gt", &[Reflect, Reflect], None, |_, v| pair(&v, |a, b| Ok(!le(a, b)?))),
    function("le", &[Reflect, Reflect], None, |_, v| pair(&v, le)),
    function("lt", &[Reflect, Reflect], None, |_, v| pair(&v, lt)),
    function("ne", &[Reflect, Reflect], None, |_, v| Ok(Value::Bool(!eq(&v)?))),
];

/// What Go's recovered panics on nil pointers say.
pub(super) const NIL_POINTER: &str = "runtime error: invalid memory address or nil pointer dereference";

/// `and` and `or` are special forms; their last operand is what they come to.
fn last(_: &mut Call<'_>, mut values: Vec<Value>) -> Result<Value, String> {
    Ok(values.pop().unwrap_or(Value::Nil))
}

/// No value of a template is a function.
fn call(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let mut values = values.into_iter();
    let name = values.next().unwrap_or(Value::Nil);
    match values.next().unwrap_or(Value::Nil) {
        Value::Nil => Err("call of nil".to_string()),
        other => Err(format!(
            "non-function {} of type {}",
            format::printf("%s", &[name], usize::MAX),
            other.go_type()
        )),
    }
}

pub(super) fn checked(text: String, call: &Call<'_>) -> Result<Value, String> {
    if text.len() > call.limit_bytes { Err(TOO_LONG.to_string()) } else { Ok(Value::text(text)) }
}

fn print(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    checked(format::sprint(&values, call.limit_bytes), call)
}

fn println(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    checked(format::sprintln(&values, call.limit_bytes), call)
}

fn printf(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let Some(Value::Str(text)) = values.first() else { return Err(NIL_POINTER.to_string()) };
    checked(format::printf(text, &values[1..], call.limit_bytes), call)
}

/// The text of the arguments of an escaping function: as an action of the template would print them.
fn printed(values: Vec<Value>, limit_bytes: usize) -> String {
    let values: Vec<Value> = values
        .into_iter()
        .map(|value| match value {
            Value::Nil => Value::text("<no value>"),
            Value::Sample(_) => {
                Value::Struct(Arc::new(Struct { go_type: "template.sample", fields: sample_fields(&value) }))
            }
            other => other,
        })
        .collect();
    format::sprint(&values, limit_bytes)
}

fn sample_fields(value: &Value) -> Vec<Field> {
    let Value::Sample(sample) = value else { return Vec::new() };
    let labels = Value::StrMap(sample.labels.clone());
    vec![
        Field { name: "Labels", value: labels, interface: false },
        Field { name: "Value", value: sample.value.clone(), interface: true },
    ]
}

/// `template.HTMLEscapeString`
pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..' ' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_ascii() || is_print(c) => out.push(c),
            c => out.push_str(&format!("\\u{:04X}", c as u32)),
        }
    }
    out
}

/// Go's `url.QueryEscape`.
pub(crate) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn html(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    checked(escape_html(&printed(values, call.limit_bytes)), call)
}

fn js(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    checked(escape_js(&printed(values, call.limit_bytes)), call)
}

fn urlquery(call: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    checked(query_escape(&printed(values, call.limit_bytes)), call)
}

fn not(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    Ok(Value::Bool(!values.first().is_some_and(Value::is_true)))
}

/// The Go name of the type, a pointer's by what it points at.
fn type_behind(value: &Value) -> &'static str {
    let name = value.go_type();
    name.strip_prefix('*').unwrap_or(name)
}

fn len(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let value = values.first().unwrap_or(&Value::Nil);
    length(value).map(|n| Value::Int(n as i64)).ok_or_else(|| match value {
        Value::Nil => "reflect: call of reflect.Value.Type on zero Value".to_string(),
        other => format!("len of type {}", type_behind(other)),
    })
}

fn length(value: &Value) -> Option<usize> {
    Some(match value {
        Value::Str(s) | Value::Html(s) => s.len(),
        Value::StrMap(map) => map.len(),
        Value::AnyMap(map) => map.len(),
        Value::List(list) => list.len(),
        Value::Slice(slice) => slice.elements.len(),
        Value::Samples(samples) => samples.len(),
        _ => return None,
    })
}

/// An index of a list or text of `length` elements; one that is just behind the last passes, as in Go.
fn position(index: &Value, length: usize) -> Result<usize, String> {
    let out_of_range = |n: i64| format!("index out of range: {n}");
    let n = match index {
        Value::Int(n) | Value::Sized(_, n) | Value::DurationValue(n) => *n,
        Value::Uint(n) => *n as i64,
        Value::Nil => return Err("cannot index slice/array with nil".to_string()),
        other => return Err(format!("cannot index slice/array with type {}", other.go_type())),
    };
    usize::try_from(n).ok().filter(|n| *n <= length).ok_or_else(|| out_of_range(n))
}

fn index(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let mut values = values.into_iter();
    let mut item = values.next().unwrap_or(Value::Nil);
    if matches!(item, Value::Nil) {
        return Err("index of untyped nil".to_string());
    }
    for index in values {
        item = element(&item, &index)?;
    }
    Ok(item)
}

fn element(item: &Value, index: &Value) -> Result<Value, String> {
    let key = || match index {
        Value::Str(key) => Ok(key.clone()),
        Value::Nil => Err("value is nil; should be of type string".to_string()),
        other => Err(format!("value has type {}; should be string", other.go_type())),
    };
    let beyond = |what: &str| format!("reflect: {what} index out of range");
    match item {
        Value::Nil => Err("index of nil pointer".to_string()),
        Value::StrMap(map) => Ok(Value::text(map.get(&*key()?).map_or("", String::as_str))),
        Value::AnyMap(map) => Ok(map.get(&*key()?).cloned().unwrap_or(Value::Nil)),
        Value::Str(s) | Value::Html(s) => {
            let at = position(index, s.len())?;
            let byte = s.as_bytes().get(at).ok_or_else(|| beyond("string"))?;
            Ok(Value::Sized(SizedInt::Uint8, i64::from(*byte)))
        }
        Value::List(list) => list.get(position(index, list.len())?).cloned().ok_or_else(|| beyond("slice")),
        Value::Slice(slice) => {
            let at = position(index, slice.elements.len())?;
            slice.elements.get(at).cloned().ok_or_else(|| beyond("slice"))
        }
        Value::Samples(samples) => {
            let sample = samples.get(position(index, samples.len())?).ok_or_else(|| beyond("slice"))?;
            Ok(Value::Sample(Arc::new(sample.clone())))
        }
        other => Err(format!("can't index item of type {}", type_behind(other))),
    }
}

fn slice(_: &mut Call<'_>, values: Vec<Value>) -> Result<Value, String> {
    let item = values.first().unwrap_or(&Value::Nil);
    let indexes = values.get(1..).unwrap_or_default();
    if matches!(item, Value::Nil) {
        return Err("slice of untyped nil".to_string());
    }
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    let Some(length) = length(item).filter(|_| item.kind() != Kind::Map) else {
        return Err(format!("can't slice item of type {}", type_behind(item)));
    };
    if item.kind() == Kind::String && indexes.len() == 3 {
        return Err("cannot 3-index slice a string".to_string());
    }
    let mut bounds = [0, length, length];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = position(index, length)?;
    }
    for [from, to] in [[bounds[0], bounds[1]], [bounds[1], bounds[2]]] {
        if from > to {
            return Err(format!("invalid slice index: {from} > {to}"));
        }
    }
    let range = bounds[0]..bounds[1];
    // Half a character cannot be held: it becomes U+FFFD.
    let text = |s: &str| String::from_utf8_lossy(&s.as_bytes()[range.clone()]).into();
    Ok(match item {
        Value::Str(s) => Value::Str(text(s)),
        Value::Html(s) => Value::Html(text(s)),
        Value::List(list) => Value::List(Arc::new(list[range].to_vec())),
        Value::Slice(slice) => {
            Value::Slice(Arc::new(Slice { go_type: slice.go_type, elements: slice.elements[range].to_vec() }))
        }
        Value::Samples(samples) => Value::Samples(Arc::new(samples[range].to_vec())),
        other => other.clone(),
    })
}

/// The kinds that can be compared.
fn basic(value: &Value) -> Option<Kind> {
    let kind = value.kind();
    matches!(kind, Kind::Bool | Kind::Int | Kind::Uint | Kind::Float | Kind::Complex | Kind::String)
        .then_some(kind)
}

fn whole(value: &Value) -> i128 {
    match value {
        Value::Int(n) | Value::Sized(_, n) | Value::DurationValue(n) => i128::from(*n),
        Value::Uint(n) => i128::from(*n),
        _ => 0,
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.go_type(), b.go_type())
}

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    use Value::{Bool, Complex, Float, Html, Str};
    let (kind_a, kind_b) = (basic(a), basic(b));
    let both_whole = |k| matches!(k, Some(Kind::Int | Kind::Uint));
    if both_whole(kind_a) && both_whole(kind_b) {
        return Ok(whole(a) == whole(b));
    }
    if kind_a != kind_b {
        if matches!(a, Value::Nil) || matches!(b, Value::Nil) {
            return Ok(false);
        }
        return Err(incompatible(a, b));
    }
    match (a, b) {
        (Bool(a), Bool(b)) => Ok(a == b),
        (Float(a), Float(b)) => Ok(a == b),
        (Complex(re, im), Complex(re2, im2)) => Ok(re == re2 && im == im2),
        (Str(a) | Html(a), Str(b) | Html(b)) => Ok(a == b),
        _ => same_reference(a, b),
    }
}

/// Values that have no order: maps and slices cannot be compared, pointers are equal if they are one.
fn same_reference(a: &Value, b: &Value) -> Result<bool, String> {
    let (nil_a, nil_b) = (matches!(a, Value::Nil), matches!(b, Value::Nil));
    if nil_a || nil_b {
        return Ok(nil_a == nil_b);
    }
    let shown = |verb: &str, value: &Value| format::printf(verb, std::slice::from_ref(value), 1 << 16);
    if a.kind() != b.kind() {
        return Err(format!(
            "non-comparable types {}: {}, {}: {}",
            shown("%s", a),
            a.go_type(),
            b.go_type(),
            shown("%v", b)
        ));
    }
    match (a, b) {
        (Value::TimeValue(a), Value::TimeValue(b)) => Ok(a == b),
        (Value::Sample(a), Value::Sample(b)) => Ok(Arc::ptr_eq(a, b) || Arc::ptr_eq(&a.labels, &b.labels)),
        (Value::Histogram(a), Value::Histogram(b)) => Ok(Arc::ptr_eq(a, b)),
        (Value::Time(a), Value::Time(b)) => Ok(Arc::ptr_eq(a, b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(Arc::ptr_eq(a, b)),
        _ if a.kind() == Kind::Pointer || matches!(b, Value::TimeValue(_)) => Ok(false),
        _ => Err(format!("non-comparable type {}: {}", shown("%s", b), b.go_type())),
    }
}

fn eq(values: &[Value]) -> Result<bool, String> {
    let [first, others @ ..] = values else { return Err("missing argument for comparison".to_string()) };
    if others.is_empty() {
        return Err("missing argument for comparison".to_string());
    }
    for other in others {
        if same(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn pair(values: &[Value], test: fn(&Value, &Value) -> Result<bool, String>) -> Result<Value, String> {
    let [a, b] = values else { return Err("missing argument for comparison".to_string()) };
    test(a, b).map(Value::Bool)
}

fn lt(a: &Value, b: &Value) -> Result<bool, String> {
    use Value::{Float, Html, Str};
    let bad = || "invalid type for comparison".to_string();
    let (kind_a, kind_b) = (basic(a).ok_or_else(bad)?, basic(b).ok_or_else(bad)?);
    match (a, b) {
        (Float(a), Float(b)) => Ok(a < b),
        (Str(a) | Html(a), Str(b) | Html(b)) => Ok(a < b),
        _ if matches!(kind_a, Kind::Int | Kind::Uint) && matches!(kind_b, Kind::Int | Kind::Uint) => {
            Ok(whole(a) < whole(b))
        }
        _ if kind_a != kind_b => Err(incompatible(a, b)),
        _ => Err(bad()),
    }
}

fn le(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(lt(a, b)? || same(a, b)?)
}
