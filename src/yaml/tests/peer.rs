//! The syntax beside go-yaml itself: promtool 3.14 reads the same texts, as rule files (v3) and as configurations
//! (v2). `TSDBCTL_PEER_PROMTOOL_3` names the program; without it nothing is compared. Trees are compared with those of a
//! program that `TSDBCTL_PEER_YAML` names: it reads lines, each a text as a string of JSON, and answers each with a
//! list of what `yaml.v3` makes of it: `LINE:COLUMN VALUE` for scalars, `LINE:COLUMN (` and `)` around collections,
//! `*` for aliases; of a text that is none one element that begins with `!`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    reason = "tests run programs and say what they skip"
)]

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use tsdbctl_yaml::{Dialect, Node, Source, Value, first_document};

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

/// Short texts, each with one thing that readers may see differently.
const BY_HAND: &[&str] = &[
    "",
    "#\n",
    "---\n",
    "---\n---\n",
    "...\n",
    "a: b: c\n",
    "groups:\n- name: x\n\trules: []\n",
    "groups:\n  - name: x\n rules: []\n",
    "a: 'x\n",
    "a: \"x\n",
    "a: [1,2\n",
    "a: {b: 1\n",
    "a: {{ x }}\n",
    "a: @x\n",
    "a: `x`\n",
    "a: %x\n",
    "a: \"\\q\"\n",
    "a: \"it\\'s\"\n",
    "a: [\"it\\'s \\\\' \\\"\\' '\", 'b\\', c\\'d, e:]\n",
    "a: \"\\'\\q\"\n",
    "a: \"\\e\\'\"\nb: \"\\'\"\n",
    "a: \"\\xZZ\"\n",
    "a: \"\\uD800\"\n",
    "a: \"\\U00110000\"\n",
    "a: \"\\/\"\n",
    "a: *x\n",
    "a: &x [*x]\n",
    "a: &x {b: *x}\n",
    "a: !foo!bar x\n",
    "a: !<x\n",
    "a: !<x> y\n",
    "a: !!str\n",
    "a: ! x\n",
    "a: !!int x\n",
    "a: !<tag:yaml.org,2002:str> x\n",
    "%TAG ! tag:x,2000:\n---\na: !b c\n",
    "%TAG !e! tag:x,2000:\n---\na: !e!b c\n",
    "%TAG !e! x\n%TAG !e! y\n---\na: 1\n",
    "%YAML 1.1\n---\na: 1\n",
    "%YAML 1.2\n---\na: 1\n",
    "%YAML 2.0\n---\na: 1\n",
    "%YAML 1\n---\na: 1\n",
    "%YAML 1.1\n%YAML 1.1\n---\na: 1\n",
    "%FOO\n---\na: 1\n",
    "%YAML 1.1\na: 1\n",
    "- a\nb: c\n",
    "a: 1\n- b\n",
    "a:\n  - b\n  c: d\n",
    "a\nb: c\n",
    "a: |x\n  b\n",
    "a: |0\n  b\n",
    "a: |10\n  b\n",
    "a: |+-\n  b\n",
    "a: |2-\n   b\n",
    "a: |3\n  b\n",
    "a: >+\n\n\n",
    "a: |\n",
    "a: |\n    b\n  c\n",
    "a: |\n     \n  b\n",
    "a: >\n  b\n\n   c\n  d\n",
    "a: >\n\tb\n",
    "a: |\n x\n\ty\n",
    "a: 1\n]\n",
    "a: 1\n---\nb: [\n",
    "a: 1\n...\nb",
    "a: 1\n... x\n",
    "? a\n: b\n",
    "? a\n",
    ": b\n",
    "? - a\n: - b\n",
    "? a: b\n: c\n",
    "<<: 1\n",
    "<<: [1]\n",
    "a: {<<: 1}\n",
    "<<: {a: b}\nc: d\n",
    "<<: [{a: b}, {a: c}]\n",
    "<<: {a: b}\n<<: {c: d}\n",
    "\"<<\": 1\n",
    "!!merge <<: 1\n",
    "<<: ~\n",
    "a: &a [x]\nb: {<<: *a}\n",
    "a: &a x\nb: {<<: *a}\n",
    "a: b\n c: d\n",
    "a: &\n",
    "a: *\n",
    "a: &x &y z\n",
    "a: &x *x\n",
    "a: &x\nb: *x\n",
    "&a a: b\nc: *a\n",
    "*a : b\n",
    "a: &x-y_1 b\nc: *x-y_1\n",
    "a: &x.y b\n",
    "a: &é b\n",
    "a: &x,y b\n",
    "[&x a, *x]\n",
    "{a: b]\n",
    "[a}\n",
    "a: 'b' c\n",
    "a: \"b\" c\n",
    "a:\n\t- b\n",
    "a:\n - b\n\t- c\n",
    "\ta: b\n",
    "a:\tb\n",
    "a: \"x\ty\"\n",
    "a: x\ty\n",
    "a:\n  b:\tc\n",
    "a: -\n",
    "a: - b\n",
    "a: - b\n  - c\n",
    "-\n- a\n",
    "- - a\n  - b\n",
    "-a\n",
    "- a\n-b\n",
    "a:\n- b\n",
    "a:\n- b\nc: d\n",
    "key:value\n",
    "key :value\nb: c\n",
    "a: b # c\n d: e\n",
    "a: b#c\n",
    "a: b\n# c\n  d\n",
    "a: b\n  c\n",
    "a: 'b\n  c'\n",
    "a: 'b\nc'\n",
    "a: \"b\nc\"\n",
    "a: \"b\\\n  c\"\n",
    "a: 'b''c'\n",
    "a: 'b'c'\n",
    "{a:}\n",
    "[a:]\n",
    "{a: b, c}\n",
    "[a: b]\n",
    "{?a}\n",
    "{? a}\n",
    "{a, b: }\n",
    "[a, , b]\n",
    "[, a]\n",
    "{, a}\n",
    "[a,]\n",
    "{a,}\n",
    "{a:b}\n",
    "{\"a\":b}\n",
    "{'a':1}\n",
    "[a\n b]\n",
    "[a,\nb]\n",
    "a: [\nb]\n",
    "a: [\n  b\n]\n",
    "a: {\nb: c\n}\n",
    "a: {b: c,\n\td: e}\n",
    "[a#b]\n",
    "[a #b\n]\n",
    "a: ]\n",
    "a: }\n",
    "a: ,\n",
    "a: ?\n",
    "a: :\n",
    "a: ::\n",
    "::\n",
    "a: b:\n",
    "a: http://x:1\n",
    "{a: http://x}\n",
    "[a:b]\n",
    "[a:b:]\n",
    "{a:?}\n",
    "{a:[b]}\n",
    "[a:,b]\n",
    "{a::}\n",
    "{a: b:, c:}\n",
    "{a: b?c}\n",
    "[a?]\n",
    "x: y\n\nz: [\n a,\n b?]\n",
    "[a: b?c]\n",
    "{a?b: c}\n",
    "[{a: 'b?'}, ? c]\n",
    "a: b?c\n",
    "- {a: [b], c: d? }\n",
    "a: [\n  {b: c}, d?: e]\n",
    "[a:, 'b', {c:}]\n",
    "[http://a:]\n",
    "[a:\n]\n",
    "groups: [a:]\n---\n@\n",
    "a: 1\n---\nb: [@\n",
    "a: 1\n---\n@\n",
    "-- a: b\n",
    "--- a: b\n",
    "--- a\n",
    "--- [a]\n",
    "--- >\n x\n---\n",
    "---a\n",
    "a: ---\n",
    "a:\n---\n",
    "a: '\n---\n'\n",
    "--- # c\n",
    "\u{feff}a: b\n",
    "a: \u{feff}b\n",
    "a: \u{1}\n",
    "a: \u{7f}\n",
    "a: \u{80}\n",
    "a: \u{85}b\n",
    "a: \u{a0}b\n",
    "a: \u{fffe}\n",
    "a: \u{ffff}\n",
    "a: \u{1f525}\n",
    "a: b\u{2028}c: d\n",
    "a: b\rc: d\r",
    "a: b\r\nc: d\r\n",
    "a: 'b\r\n\r\n  c'\r\n",
    "a: \0\n",
    "a: b\n\0",
    "\"a\\0b\": c\n",
    "!<%00> a: b\n",
    "a: !<%zz> b\n",
    "a: !x%41 b\n",
    "a: !<%ff> b\n",
    "a: ~\na: ~\n",
    "~: a\n",
    "[a]: b\n",
    "{a: b}: c\n",
    "a: !!binary x\n",
    "!!map {a: b}\n",
    "!!seq [a]\n",
    "!!seq {a: b}\n",
    "!!map [a]\n",
    "a: !!set {a, b}\n",
    "a: !!omap [a: b]\n",
    "a: !!null x\n",
    "a: !!float x\n",
    "a: !!bool x\n",
    "a: !!timestamp x\n",
];

const PIECES: &[&str] = &[
    "\"", "'", "{", "[", "}", "]", ":", ": ", "#", " #", "\t", "&a ", "*a", "!b ", "!!str ", "|", ">",
    "|-\n", "%", "@", "`", "- ", ",", "{{ ", " }}", "\\", "? ", "<<: ", "\n", "\r", "é", "---\n", "...\n",
    "~", "\u{2028}",
];

const FILES: &[&str] = &[
    "groups:\n- name: x\n  interval: 1m\n  rules:\n  - record: a:b\n    expr: sum by (job) (rate(x{a=\"b\"}[5m]))\n    labels:\n      c: 'd'\n",
    "# top\ngroups:\n  - name: \"x\" # side\n    rules:\n      - alert: A\n        expr: |\n          up == 0\n            and on() y\n\n        for: 5m\n        annotations: {summary: \"{{ $labels.a }}: \\\"b\\\"\", runbook: http://x/y}\n",
    "a: &a\n  b: [c, 'd', \"e\"]\n  f: {g: h, i: }\nj:\n  <<: *a\n  k: >-\n    l\n\n    m\n---\nn: o\n",
    "- - a\n  - b: c\n    d: e\n- ? f\n  : g\n- 'h\n\n  i'\n- \"j\\\n  k\"\n- [l,\n   m]\n",
];

fn mutated(dice: &mut Dice) -> String {
    let mut lines: Vec<String> = FILES[dice.roll(FILES.len())].lines().map(str::to_owned).collect();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(lines.len());
        let line = lines[at].clone();
        let cuts: Vec<usize> = line.char_indices().map(|(i, _)| i).chain([line.len()]).collect();
        let cut = cuts[dice.roll(cuts.len())];
        match dice.roll(9) {
            0 => lines[at] = format!("{}{line}", " ".repeat(1 + dice.roll(3))),
            1 => lines[at] = line.strip_prefix(" ").unwrap_or(&line).to_owned(),
            2..=4 => lines[at] = format!("{}{}{}", &line[..cut], dice.pick(PIECES), &line[cut..]),
            5 => lines[at] = format!("\t{}", line.trim_start()),
            6 if lines.len() > 1 => drop(lines.remove(at)),
            7 => lines[at] = line[..cut].to_owned(),
            _ => {
                let other = lines[dice.roll(lines.len())].clone();
                lines.insert(at, other);
            }
        }
    }
    lines.join("\n") + "\n"
}

fn generated(dice: &mut Dice) -> String {
    let soup = ["a", "b: ", "- ", "c", "\n", "\n  ", "\n    ", " ", "d: e\n", "f"];
    (0..2 + dice.roll(12))
        .map(|_| if dice.roll(3) == 0 { dice.pick(PIECES) } else { dice.pick(&soup) })
        .collect()
}

/// The text as UTF-16, or with a byte that is not its own.
fn other_bytes(dice: &mut Dice, text: &str) -> Vec<u8> {
    let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
    let mut bytes: Vec<u8> = match dice.roll(3) {
        0 => units.flat_map(u16::to_le_bytes).collect(),
        1 => units.flat_map(u16::to_be_bytes).collect(),
        _ => text.as_bytes().to_vec(),
    };
    if dice.roll(3) > 0 && bytes.len() > 2 {
        let at = 2 + dice.roll(bytes.len() - 2);
        match dice.roll(4) {
            0 => bytes.truncate(at),
            1 => bytes[at] = [0xff, 0xc3, 0xd8, 0xdc][dice.roll(4)],
            2 => bytes.insert(at, [0xe2, 0x80, 0xf0, 0][dice.roll(4)]),
            _ => bytes[at] ^= 1 << dice.roll(8),
        }
    }
    bytes
}

/// What promtool says of the syntax of each file.
fn verdicts(promtool: &str, arguments: &[&str], files: &[String]) -> HashMap<String, String> {
    let mut verdicts = HashMap::new();
    for part in files.chunks(100) {
        let output = Command::new(promtool).args(arguments).args(part).output().expect("promtool runs");
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        for line in text.lines() {
            let line = line.trim().trim_start_matches("FAILED: parsing YAML file ");
            if let Some((file, message)) = line.split_once(": yaml: ")
                && !message.starts_with("unmarshal errors")
            {
                verdicts.entry(file.to_owned()).or_insert_with(|| format!("yaml: {message}"));
            }
        }
    }
    verdicts
}

/// The program that a variable names.
fn peer(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        eprintln!("skipped: {variable} names no program");
    }
    found
}

/// Dice, and how many texts to make with them.
fn dice() -> (Dice, usize) {
    let number = |variable| std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let seed = number("TSDBCTL_SEED").unwrap_or(1);
    (Dice(0x9e37_79b9_7f4a_7c15 ^ seed), number("TSDBCTL_CASES").unwrap_or(400) as usize)
}

/// The tree as the peer describes it.
fn describe(source: &Source, node: &Node, out: &mut Vec<String>) {
    if node.is_alias(source) {
        out.push("*".to_owned());
        return;
    }
    let (line, column) = source.line_col(node.span.start as usize);
    match &node.value {
        // Of a value that is not there we name the place behind the colon, go-yaml that of the next token.
        Value::Scalar(scalar) if scalar.text.is_empty() => out.push(String::new()),
        Value::Scalar(scalar) => out.push(format!("{line}:{column} {}", scalar.text)),
        Value::Sequence(_) | Value::Mapping(_) => {
            out.push(format!("{line}:{column} ("));
            node.elements().iter().for_each(|node| describe(source, node, out));
            for entry in node.entries() {
                describe(source, &entry.key, out);
                describe(source, &entry.value, out);
            }
            out.push(")".to_owned());
        }
    }
}

#[test]
fn go_yaml_sees_the_same_trees() {
    let Some(program) = peer("TSDBCTL_PEER_YAML") else { return };
    let (mut dice, count) = dice();
    let mut texts: Vec<String> = BY_HAND.iter().map(|text| (*text).to_owned()).collect();
    texts.extend((0..count).map(|i| if i % 3 == 0 { generated(&mut dice) } else { mutated(&mut dice) }));
    // Mappings are merged in our trees, and our lines end with line feeds alone, as in an editor.
    texts.retain(|text| {
        !text.contains("<<") && !text.replace("\r\n", "").contains(['\r', '\u{85}', '\u{2028}'])
    });
    let lines: String =
        texts.iter().map(|text| format!("{}\n", serde_json::Value::from(text.as_str()))).collect();
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer starts");
    let mut stdin = child.stdin.take().expect("its input");
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("the peer ends");
    writer.join().expect("no panic").expect("the peer reads all");
    let mut different = Vec::new();
    let mut compared = 0;
    for (text, line) in texts.iter().zip(String::from_utf8(output.stdout).expect("UTF-8").lines()) {
        let mut theirs: Vec<String> = serde_json::from_str(line).expect("a list");
        if theirs == ["0:0 (", ")"] {
            theirs.clear();
        }
        let is_empty = |value: &&mut String| value.find(' ') == Some(value.len().wrapping_sub(1));
        theirs.iter_mut().filter(is_empty).for_each(|value| value.clear());
        let source = Source::new("t", text.as_str());
        let Ok((root, _)) = first_document(&source) else { continue };
        let mut ours = Vec::new();
        root.iter().for_each(|root| describe(&source, root, &mut ours));
        compared += 1;
        if ours != theirs {
            different.push(format!("{text:?}\n  {ours:?}\n  {theirs:?}"));
        }
    }
    assert!(compared > texts.len() / 5, "{compared} of {}", texts.len());
    assert!(different.is_empty(), "{} of {compared}:\n{}", different.len(), different.join("\n"));
}

#[test]
fn a_promtool_refuses_the_same_syntax() {
    let Some(promtool) = peer("TSDBCTL_PEER_PROMTOOL_3") else { return };
    let directory = tsdbctl_testkit::scratch_in_memory();
    let (mut dice, count) = dice();
    let mut texts: Vec<Vec<u8>> = BY_HAND.iter().map(|text| text.as_bytes().to_vec()).collect();
    for i in 0..count {
        let text = if i % 3 == 0 { generated(&mut dice) } else { mutated(&mut dice) };
        texts.push(if i % 8 == 1 { other_bytes(&mut dice, &text) } else { text.into_bytes() });
    }
    let name = |i: usize| directory.path().join(format!("{i}.yml")).display().to_string();
    let names: Vec<String> = (0..texts.len()).map(name).collect();
    texts.iter().zip(&names).for_each(|(text, name)| std::fs::write(name, text).expect("a file is written"));
    // Of these go-yaml speaks only where it wants the value.
    let meanings = ["value contains itself", " map merge requires ", " runtime error: "];
    let of_syntax = |text: &String| !meanings.iter().any(|meaning| text.contains(meaning));
    let mut refused = 0;
    let (mut different, mut worded) = (Vec::new(), Vec::new());
    for (dialect, arguments) in [
        (Dialect::V3, ["check", "rules", "--lint=none"]),
        (Dialect::V2, ["check", "config", "--syntax-only"]),
    ] {
        let theirs = verdicts(&promtool, &arguments, &names);
        for (text, name) in texts.iter().zip(&names) {
            let source = Source::from_bytes("t", text.clone()).with_dialect(dialect);
            let ours = first_document(&source).err().map(|error| error.message).filter(of_syntax);
            let theirs = theirs.get(name).filter(|text| of_syntax(text));
            refused += usize::from(theirs.is_some());
            if ours.as_ref() != theirs {
                let both = ours.is_some() && theirs.is_some();
                let list = if both { &mut worded } else { &mut different };
                list.push(format!("{dialect:?} {}: {ours:?} and {theirs:?}", text.escape_ascii()));
            }
        }
    }
    assert!(refused > texts.len() / 2 && refused < texts.len() * 2 * 9 / 10, "{refused} refused");
    let all = texts.len() * 2;
    assert!(different.is_empty(), "{} of {all}:\n{}", different.len(), different.join("\n"));
    assert!(worded.len() * 200 <= all, "{} of {all}:\n{}", worded.len(), worded.join("\n"));
}
