//! Rule files with odd values at random places. One or two of a file's fields get a value from lists that hold what
//! YAML, durations, PromQL and templates are likely to trip over.

/// Small and the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with a number.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Values of any field.
const SCALARS: &[&str] = &[
    "1",
    "0",
    "-5",
    "1.5",
    "1e3",
    "0x10",
    "0o17",
    "017",
    "1_000",
    ".inf",
    ".nan",
    "~",
    "null",
    "",
    "true",
    "yes",
    "on",
    "n",
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "12:30:45",
    "!!str 5",
    "!!int 5",
    "!!int a",
    "!!float 1",
    "!!bool yes",
    "!!null x",
    "!!binary aGVsbG8=",
    "!!binary \"%%\"",
    "!foo x",
    "!!str",
    "!!str ~",
    "!!map {}",
    "!!seq []",
    "!!set {a}",
    "!!str [a]",
    "! 5",
    "!",
    "\"5\"",
    "'5'",
    "\"a\\nb\"",
    "\"\\u00e9\"",
    "\"\\x41\"",
    "\"\\q\"",
    "'it''s'",
    "5m",
    "é",
    "\"\\U0001F600\"",
    "[a]",
    "{a: b}",
    "[]",
    "{}",
    "{a: [b]}",
    "&z q",
    "*nope",
    "\"<<\"",
    "=",
    "|\n      a\n      b",
    ">\n      a\n      b\n\n      c",
    "|-\n      up",
    ">-\n      up ==\n      0",
    "\"up == 0\"",
    "a: b",
    "a # c",
    "a#c",
    "@x",
    "`x`",
    "%x",
    "- x",
    "&",
    "*",
    "|",
    "\tx",
    "\"\\0\"",
    "99999999999999999999",
    "9223372036854775808",
    "18446744073709551616",
    "1e400",
    "0b11",
    "+5",
    "08",
    "a::b",
    "-",
    "{{ $value }}",
    "\"{{ $value }}\"",
    "'{{'",
    "{{x}}",
];

const NAMES: &[&str] = &[
    "a",
    "job",
    "__name__",
    "alertname",
    "severity",
    "a-b",
    "a.b",
    "é",
    "1a",
    "a b",
    "\"\"",
    "\"\\xff\"",
    "~",
    "1",
    "true",
    "1.5",
    "2020-01-01",
    "[a]",
    "{a: b}",
    "!!str 5",
    "!!binary aGk=",
    "\"<<\"",
    "a:b",
    "\"a\\nb\"",
    "? a",
    "expr",
    "for",
    "foo",
    "\"a\\\"b\"",
    "😀",
];

const DURATIONS: &[&str] = &[
    "5m",
    "0s",
    "0",
    "1.5m",
    "-5m",
    "5",
    "\"\"",
    "~",
    "1h30m",
    "30m1h",
    "5 m",
    "[5m]",
    "5x",
    "1y1w1d",
    "true",
    "1e3",
    "99999999999999999999s",
    "292y",
    "300y",
    "10ms",
    "1s500ms",
    "é",
    "5m # c",
    "|\n      5m",
    "!!str 5m",
    "05m",
    "5m5m",
    "1m0s",
    "2020-01-01",
];

const EXPRESSIONS: &[&str] = &[
    "up",
    "up == 0",
    "1",
    "\"x\"",
    "sum(",
    "up +",
    "up up",
    "foo(",
    "rate(up)",
    "up{a=\"b\"",
    "up{a=~\"[\"}",
    "up{\"é\"=\"x\"}",
    "{\"é.x\"}",
    "{\"a\",\"b\"}",
    "{__name__=\"a\",__name__=\"b\"}",
    "up[5m]",
    "sum by (a-b) (up)",
    "sum by (\"a-b\") (up)",
    "sum by (\"\\xff\") (up)",
    "a and on() b",
    "a / on(x) group_left b",
    "a / on(x) group_left * b",
    "up offset -5m",
    "up @ start()",
    "up @ foo",
    "up[0s]",
    "up[5]",
    "up[5m:]",
    "up[-5m]",
    "1 == 1",
    "a == bool",
    "topk(up)",
    "quantile(\"x\", up)",
    "label_replace(up, \"a\")",
    "vector(\"x\")",
    "time(1)",
    "-\"x\"",
    "!",
    "a = b",
    "{}",
    "{a=\"\"}",
    "{a=~\".*\"}",
    "up{,}",
    "up{a=b}",
    "up{a}",
    "0x1F",
    "1e",
    "NaN",
    ".5",
    "a.b",
    "a:b",
    "é",
    "\"\\x\"",
    "# only comment",
    "up # c",
    "up;",
    "(up",
    "up)",
    "[5m]",
    "}",
    "$x",
    "a + on(x) ignoring(y) b",
    "a and group_left() b",
    "count_values(\"\\xff\", up)",
    "limitk(1, up)",
    "up anchored",
    "info(up)",
    "start()",
    "up[1h+5m]",
    "a\n+\nb\n+",
    "sum(\n  rate(up)\n)",
    "up ==\n\n 0 0",
    "up[5m][5m]",
    "{{ $x }}",
    "'\\\u{a0}'",
    "é + rte(x)",
    "1 and 2",
    "a fill(1) b",
    "a + fill(1) b",
    "sum(up) by (job) by (x)",
];

const TEMPLATES: &[&str] = &[
    "x",
    "{{ $value }}",
    "{{",
    "}}",
    "{{ }}",
    "{{ end }}",
    "{{ if }}",
    "{{ if $value }}x",
    "{{ else }}",
    "{{ foo }}",
    "{{ $x }}",
    "{{ .Foo }}",
    "{{ $labels.a-b }}",
    "{{ \"a }}",
    "{{ 'ab' }}",
    "{{ 1 | 2 }}",
    "{{ nil }}",
    "{{ define \"a\" }}x{{ end }}",
    "{{ define }}",
    "{{ template \"a\" }}",
    "{{ break }}",
    "{{ range 3 }}{{ break }}{{ end }}",
    "{{/* c }}",
    "{{- $value -}}",
    "{{-$value}}",
    "{{ $value -}",
    "{{ ( 1 }}",
    "{{ 1 ) }}",
    "{{ $labels. }}",
    "{{ 1.2.3 }}",
    "{{ 0x }}",
    "{{ \"\\q\" }}",
    "{{ a, b }}",
    "{{ $a = 1 }}",
    "{{ with $x := 1 }}{{ end }}",
    "{{ if 1 }}{{ else }}{{ else }}{{ end }}",
    "{{ | }}",
    "{{ 1 | }}",
    "{{ é }}",
    "{{ @ }}",
    "{{ nil.x }}",
    "{{ \"a\".x }}",
    "{{ . . }}",
    "{{ $labels[\"a\"] }}",
    "{{\n$value\n}}",
    "{{ foo\n}}",
    "line1\n{{ foo }}",
    "é {{ foo }}",
    "{{ if eq 1 }}{{ end }}",
    "{{ query \"up{\" }}",
    "{{ 1i }}",
    "{{ 1+2 }}",
    "{{\"x\"}}{{\"y\"}}",
    "{ { x } }",
    "{{ end }}{{ end }}",
    "{{ range $a,$b,$c := 3 }}{{ end }}",
    "{{ with 1 }}{{ else if 2 }}{{ end }}",
    "{{ (1).b }}",
    "{{ 9999999999999999999999 }}",
    "{{ `a\nb` foo }}",
];

/// What may stand before and behind a file.
const BEFORE: &[&str] = &[
    "---\n",
    "%YAML 1.1\n---\n",
    "# c\n",
    "\u{feff}",
    "\n\n",
    "--- # c\n",
    "%FOO x\n---\n",
    "--- !!map\n",
    " ",
    "\t",
    "%YAML 1.2\n---\n",
];
const BEHIND: &[&str] = &[
    "foo: 1\n",
    "groups: []\n",
    "\0",
    "\u{1}",
    "# c",
    "x\n",
    "  x\n",
    "]",
    "- a\n",
    "\t# c\n",
    "\n\n\n",
    "...\n",
    "---\n",
    "---\n# c\n",
];

/// A text as YAML writes it: in quotes, or as a block below `column`.
fn written(random: &mut Random, text: &str, column: usize) -> String {
    let plain = !text.chars().any(|c| c.is_control() && c != '\n') && !text.starts_with(' ');
    match random.below(4) {
        0 if !text.contains('\n') && plain => format!("'{}'", text.replace('\'', "''")),
        1 | 2 if plain => {
            let mark = random.one(&["|", "|-", ">", ">-"]);
            let lines = text.lines().map(|line| match line {
                "" => "\n".to_string(),
                line => format!("\n{}{line}", " ".repeat(column + 4)),
            });
            format!("{mark}{}", lines.collect::<String>())
        }
        _ => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")),
    }
}

fn value(random: &mut Random, list: &[&str], column: usize) -> String {
    match random.below(6) {
        0 => random.one(SCALARS).to_string(),
        _ => {
            let text = random.one(list);
            written(random, text, column)
        }
    }
}

fn mapping(random: &mut Random, list: &[&str], column: usize) -> String {
    if random.below(6) == 0 {
        return format!(" {}\n", random.one(SCALARS));
    }
    let mut out = "\n".to_string();
    for i in 0..=random.below(3) {
        let name = if random.below(3) == 0 { random.one(NAMES).to_string() } else { format!("l{i}") };
        out += &format!("{}{name}: {}\n", " ".repeat(column), value(random, list, column));
    }
    out
}

/// One file.
pub fn file(random: &mut Random) -> String {
    let odd: Vec<usize> = (0..=usize::from(random.below(4) == 0)).map(|_| random.below(20)).collect();
    let is = |n: usize| odd.contains(&n);
    let mut out = String::new();
    if is(0) {
        out += random.one(BEFORE);
    }
    if is(1) {
        out += &format!("{}: {}\n", random.one(NAMES), random.one(SCALARS));
    }
    out += &format!("groups:\n- name: {}\n", if is(2) { random.one(SCALARS) } else { "g" });
    for (n, field) in [(3, "interval"), (4, "query_offset")] {
        if is(n) {
            out += &format!("  {field}: {}\n", random.one(DURATIONS));
        }
    }
    if is(5) {
        out += &format!("  limit: {}\n", random.one(SCALARS));
    }
    if is(6) {
        out += &format!("  labels:{}", mapping(random, TEMPLATES, 4));
    }
    if is(7) {
        out += &format!("  {}: {}\n", random.one(NAMES), random.one(SCALARS));
    }
    let record = if is(8) { value(random, NAMES, 4) } else { "r".to_string() };
    let expr = if is(9) { value(random, EXPRESSIONS, 4) } else { "up".to_string() };
    out += &format!("  rules:\n  - record: {record}\n    expr: {expr}\n");
    for (n, field) in [(10, "labels"), (11, "annotations")] {
        if is(n) {
            out += &format!("    {field}:{}", mapping(random, SCALARS, 6));
        }
    }
    let alert = if is(12) { value(random, NAMES, 4) } else { "A".to_string() };
    let expr = if is(13) || is(14) { value(random, EXPRESSIONS, 4) } else { "up == 0".to_string() };
    out += &format!("  - alert: {alert}\n    expr: {expr}\n");
    if is(15) {
        let field = random.one(&["for", "keep_firing_for"]);
        out += &format!("    {field}: {}\n", random.one(DURATIONS));
    }
    for (n, field) in [(16, "labels"), (17, "annotations")] {
        if is(n) {
            out += &format!("    {field}:{}", mapping(random, TEMPLATES, 6));
        }
    }
    if is(18) {
        out += &format!("    {}: {}\n", random.one(NAMES), random.one(SCALARS));
    }
    if is(19) {
        out += random.one(BEHIND);
    }
    out
}
