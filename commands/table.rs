//! Tables as all commands print them.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

/// Lines below the head, columns apart by two spaces; columns in `right` (numbers) are set to the right.
///
/// # Errors
/// If `out` fails.
pub fn write_table(
    out: &mut dyn Write,
    head: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    right: &[usize],
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    let cell = |i: usize, text: String| {
        let side = if right.contains(&i) { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(text).set_alignment(side)
    };
    table.set_header(head.iter().enumerate().map(|(i, h)| cell(i, h.to_uppercase())));
    for row in rows {
        table.add_row(row.into_iter().enumerate().map(|(i, text)| cell(i, one_line(text))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Label values may hold anything; a table's cell holds one line.
fn one_line(text: String) -> String {
    if text.contains(|c: char| c.is_control()) { text.escape_debug().to_string() } else { text }
}

/// Writes one line of CSV (RFC 4180).
///
/// # Errors
/// If `out` fails.
pub fn write_csv_line<S: AsRef<str>>(
    out: &mut dyn Write,
    fields: impl IntoIterator<Item = S>,
) -> io::Result<()> {
    for (i, field) in fields.into_iter().enumerate() {
        let field = field.as_ref();
        if i > 0 {
            out.write_all(b",")?;
        }
        if field.contains(['"', ',', '\n', '\r']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_to_the_right() {
        let mut out = Vec::new();
        let rows =
            vec![vec!["up".to_string(), "1".to_string()], vec!["a\nb".to_string(), "1000".to_string()]];
        write_table(&mut out, &["series", "value"], rows, &[1]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "SERIES  VALUE\nup          1\na\\nb     1000\n");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        write_csv_line(&mut out, ["a", "b,c", "d\"e", "f\ng"]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,\"b,c\",\"d\"\"e\",\"f\ng\"\n");
    }
}
