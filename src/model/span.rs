//! Byte ranges of a source text, for errors and annotations that point at their place.

/// A half-open byte range `[start, end)` of an expression's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The range from `start` to `end`, both byte offsets.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The smallest range that covers both.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// `line:col` of the start in `text`, both from 1, columns counted in bytes
    /// (`posrange.StartPosInput` upstream); `unknown position` where it lies outside.
    pub fn line_col(self, text: &str) -> String {
        let pos = self.start as usize;
        if pos > text.len() {
            return "unknown position".to_string();
        }
        let before = &text.as_bytes()[..pos];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let col = pos - before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1) + 1;
        format!("{line}:{col}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_bytes_from_one() {
        assert_eq!(Span::new(0, 1).line_col("up"), "1:1");
        assert_eq!(Span::new(4, 5).line_col("a +\nb"), "2:1");
        assert_eq!(Span::new(9, 9).line_col("up"), "unknown position");
    }
}
