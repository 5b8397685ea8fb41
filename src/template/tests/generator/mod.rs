//! Random templates: most of them valid, each with every feature in reach.

/// Makes templates from a seed.
pub struct Generator {
    state: u64,
}

impl Generator {
    /// The same seed gives the same templates.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A template.
    pub fn template(&mut self) -> String {
        let mut out = String::new();
        self.list(&mut out, 3, false);
        if self.below(6) == 0 {
            out.push_str("{{define \"T\"}}");
            self.list(&mut out, 1, false);
            out.push_str("{{end}}");
        }
        if self.below(25) == 0 {
            self.damage(&mut out);
        }
        out
    }

    /// Drops or doubles a piece, so that the parser has something to refuse.
    fn damage(&mut self, out: &mut String) {
        let chars: Vec<char> = out.chars().collect();
        let from = self.below(chars.len() + 1);
        let to = (from + 1 + self.below(4)).min(chars.len());
        let keep = self.below(2) == 0;
        let piece: String = chars[from.min(to)..to].iter().collect();
        let head: String = chars[..from.min(to)].iter().collect();
        let tail: String = chars[to..].iter().collect();
        *out = if keep { format!("{head}{piece}{piece}{tail}") } else { format!("{head}{tail}") };
    }

    fn list(&mut self, out: &mut String, depth: usize, in_range: bool) {
        for _ in 0..1 + self.below(3) {
            self.statement(out, depth, in_range);
        }
    }

    fn open(&mut self, out: &mut String) {
        out.push_str(self.pick(&["{{", "{{", "{{ ", "{{- ", "{{\n"]));
    }

    fn close(&mut self, out: &mut String) {
        out.push_str(self.pick(&["}}", "}}", " }}", " -}}"]));
    }

    fn statement(&mut self, out: &mut String, depth: usize, in_range: bool) {
        match self.below(if depth == 0 { 6 } else { 13 }) {
            0 | 1 => out.push_str(self.pick(&["a", " b ", "é\n", "\n", "x: ", "100%"])),
            2 if in_range => {
                self.open(out);
                out.push_str(self.pick(&["break", "continue"]));
                self.close(out);
            }
            2 => {
                self.open(out);
                out.push_str("$x := ");
                self.pipeline(out, 2);
                self.close(out);
                self.open(out);
                out.push_str(self.pick(&["$x", "$x.Labels", "print $x", "$x | printf \"%v\"", "$x = 1"]));
                self.close(out);
            }
            3..=5 => {
                self.open(out);
                self.pipeline(out, 2);
                self.close(out);
            }
            6 => {
                self.open(out);
                out.push_str(self.pick(&[
                    "template \"T\"",
                    "template \"T\" .",
                    "template \"T\" $value",
                    "template \"N\"",
                ]));
                self.close(out);
            }
            7 if depth == 3 => {
                out.push_str("{{block \"B\" ");
                self.pipeline(out, 1);
                self.close(out);
                self.list(out, depth - 1, false);
                out.push_str("{{end}}");
            }
            7..=9 => {
                let keyword = self.pick(&["if", "with"]);
                self.open(out);
                out.push_str(keyword);
                out.push(' ');
                self.declared(out);
                self.close(out);
                self.list(out, depth - 1, in_range);
                if self.below(3) == 0 {
                    out.push_str(&format!("{{{{else {keyword} "));
                    self.pipeline(out, 2);
                    out.push_str("}}");
                    self.list(out, depth - 1, in_range);
                }
                if self.below(2) == 0 {
                    out.push_str("{{else}}");
                    self.list(out, depth - 1, in_range);
                }
                out.push_str("{{end}}");
            }
            _ => {
                self.open(out);
                out.push_str("range ");
                out.push_str(self.pick(&["", "", "$i, $e := ", "$e := ", "$value, $externalURL = "]));
                if self.below(3) == 0 {
                    self.pipeline(out, 1);
                } else {
                    out.push_str(self.pick(&[
                        "query \"m2\"",
                        "$labels",
                        "3",
                        "query \"nope\"",
                        "args 1 \"a\" nil",
                        ".",
                        "query \"m2\" | sortByLabel \"z\"",
                    ]));
                }
                self.close(out);
                self.list(out, depth - 1, true);
                if self.below(3) == 0 {
                    out.push_str("{{else}}");
                    self.list(out, depth - 1, in_range);
                }
                out.push_str("{{end}}");
            }
        }
    }

    fn declared(&mut self, out: &mut String) {
        if self.below(4) == 0 {
            out.push_str("$x := ");
        }
        self.pipeline(out, 2);
    }

    fn pipeline(&mut self, out: &mut String, depth: usize) {
        self.command(out, depth);
        while self.below(4) == 0 {
            out.push_str(" | ");
            if self.below(8) == 0 {
                self.command(out, depth);
            } else {
                out.push_str(self.pick(&[
                    "printf \"%v\"",
                    "print",
                    "len",
                    "not",
                    "humanize",
                    "humanizeDuration",
                    "humanizePercentage",
                    "toUpper",
                    "title",
                    "first",
                    "value",
                    "label \"z\"",
                    "toTime",
                    "toDuration",
                    "eq 1",
                    "lt 2.0",
                    "index $labels",
                    "and 1",
                    "or 0",
                    "printf \"%s-%d\" \"a\"",
                    "query",
                    "args",
                    "html",
                    "urlquery",
                    "strvalue",
                    "stripPort",
                    "match \"a\"",
                    "parseDuration",
                    "sortByLabel \"z\"",
                    "slice",
                    "humanize1024",
                ]));
            }
        }
    }

    fn command(&mut self, out: &mut String, depth: usize) {
        match self.below(6) {
            0 | 1 => self.operand(out, depth),
            2 => {
                let name = self.pick(&[
                    "print",
                    "printf \"%v|%v\"",
                    "and",
                    "or",
                    "eq",
                    "lt",
                    "index",
                    "args",
                    "println",
                    "len",
                ]);
                out.push_str(name);
                for _ in 0..self.below(4) {
                    out.push(' ');
                    self.operand(out, depth);
                }
            }
            3 => {
                out.push_str(self.pick(&[
                    "$labels.nope",
                    "$externalLabels.region",
                    "index $labels \"job\"",
                    "index $labels \"job\" 0",
                    "query \"m\"",
                    "query \"m\" | first | value",
                    "reReplaceAll \"(.)b\" \"${1}x\" \"abab\"",
                    "now",
                    "externalURL",
                    "pathPrefix",
                    "parseDuration \"1h\"",
                    "label \"job\" (query \"m\" | first)",
                    "toTime 1435065584.128",
                    "toDuration 0.000000003",
                    "args 1 \"a\" nil",
                    "(toTime 0).Year",
                    "(toDuration 90).Seconds",
                    "(toTime 60).Format \"15:04\"",
                    "(query \"m\" | first).Labels.job",
                    "(toDuration 0.000000009).Round 2",
                    "((toTime 5).Sub (toTime 3)).Seconds",
                    "(toTime 5).Equal (toTime 5)",
                    "now.Foo",
                    "(args 1).arg0",
                    "(args nil).arg0.x",
                ]));
            }
            4 => {
                out.push_str(self.pick(&[
                    "humanize",
                    "toUpper",
                    "humanizeDuration",
                    "not",
                    "len",
                    "first",
                    "value",
                    "title",
                    "query",
                    "toTime",
                ]));
                out.push(' ');
                self.operand(out, depth);
            }
            _ => {
                let name = self.pick(&["eq", "ne", "lt", "le", "gt", "ge", "and", "or"]);
                out.push_str(name);
                out.push(' ');
                self.operand(out, depth);
                out.push(' ');
                self.operand(out, depth);
            }
        }
    }

    fn operand(&mut self, out: &mut String, depth: usize) {
        if depth > 0 && self.below(5) == 0 {
            out.push('(');
            self.pipeline(out, depth - 1);
            out.push(')');
            if self.below(5) == 0 {
                out.push_str(self.pick(&[".Labels", ".Value", ".job", ".Labels.z", ".Len"]));
            }
            return;
        }
        out.push_str(self.pick(&[
            "1",
            "0",
            "-3",
            "1.5",
            "0.0",
            "1e6",
            "0x10",
            "'a'",
            "\"\"",
            "\"abc\"",
            "`raw`",
            "true",
            "false",
            "nil",
            ".",
            "$",
            "$value",
            "$value",
            "$labels",
            "$labels.job",
            "$labels.instance",
            ".Value",
            ".Labels",
            ".Labels.job",
            ".ExternalURL",
            "$externalLabels",
            "$externalURL",
            "$.Value",
            ".Foo",
            ".Value.Foo",
            "$value.Foo",
            "$labels.job.x",
            "now",
            "2i",
            "$x",
            "\"1.5\"",
            "\"é\"",
        ]));
    }
}
