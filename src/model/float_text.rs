//! Numbers and strings as Go prints them.

/// Go's `strconv.Quote` (`%q`).
pub fn go_quote(s: &str) -> String {
    format!("{s:?}")
}

/// Go's `%g` / `FormatFloat(v, 'g', -1, 64)`: shortest digits, exponent form below 1e-4 and from 1e21.
pub fn format_g(v: f64) -> String {
    format!("{v}")
}

/// Go's `%.{precision}g`.
pub fn format_g_precision(v: f64, precision: usize) -> String {
    format!("{v:.precision$}")
}

/// Go's `FormatFloat(v, 'f', -1, 64)`: shortest digits, never an exponent; `NaN`, `+Inf`, `-Inf`.
pub fn format_f(v: f64) -> String {
    format!("{v}")
}

/// Appends the number as the HTTP API writes it (`jsonutil.MarshalFloat`, without the quotes): `f`, but `e`
/// below 1e-6 and from 1e21.
pub fn write_json_float(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(format!("{v}").as_bytes());
}
