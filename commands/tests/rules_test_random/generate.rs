//! Suites of rules and tests that look random: the same for the same number.

use std::fmt::Write as _;

/// Whose promtool a suite is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// 2.42, the distribution's.
    Old,
    /// 3.14.
    New,
}

/// Numbers that look random, the same every time.
pub struct Numbers(u64);

impl Numbers {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        let mut numbers = Self(seed.wrapping_mul(7919).wrapping_add(17));
        numbers.below(2);
        numbers
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of a list.
    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

/// Files of one suite and how it is run.
pub struct Suite {
    /// Path and content.
    pub files: Vec<(String, String)>,
    /// Flags.
    pub flags: Vec<&'static str>,
    /// Files of tests.
    pub tests: Vec<&'static str>,
}

impl Suite {
    /// All of it, for who has to look at it.
    pub fn text(&self) -> String {
        let mut out = format!("{:?} {:?}\n", self.flags, self.tests);
        for (name, text) in &self.files {
            let _ = write!(out, "--- {name}\n{text}\n");
        }
        out
    }
}

const VALUES: [&str; 22] = [
    "0x20",
    "1+1x20",
    "0+0.1x15",
    "5-1x9",
    "1 _ 3 _x4 7",
    "stale 1 2 stale",
    "1 2 NaN 4 Inf -Inf",
    "100-7x12 0 0 1",
    "1x3 stale 1x5",
    "_ _ 1 1 1 0 0 0 1 1",
    "3 3 3 2 1 0 1 2 3",
    "1e3 1.5 0.5 1000",
    "0+60x20",
    "1 2 1 2 1 2 1 2 1 2",
    "",
    "-1-1x4 _x3 -2+0.5x8",
    "+1 -1 1e-3 0x1F 1_000",
    "1x0 2x0 _x0 3x1",
    "NaN stale NaN _ NaN 1",
    "0.1+0.1x30",
    "1e308+1e308x4",
    "7 _x7 7 _x7 7",
];

/// Samples that only newer ones read.
const HISTOGRAMS: [&str; 12] = [
    "{{schema:0 count:10 sum:20 z_bucket:2 buckets:[3 5] n_buckets:[0]}}x10",
    "{{schema:1 count:4 sum:1.5 buckets:[1 0 3]}}+{{schema:1 count:4 sum:1.5 buckets:[1 0 3]}}x12",
    "{{count:1 sum:1}} {{count:2 sum:3}} 5 {{count:4 sum:4}}",
    "{{schema:3 sum:7 count:9 z_bucket:1 z_bucket_w:0.01 offset:-2 buckets:[1 2 1] n_offset:3 n_buckets:[4]}} _ {{}}x3",
    "{{schema:-53 sum:10 count:6 custom_values:[1 2 5] buckets:[1 2 3]}}x8",
    "{{schema:-53 sum:1 count:3 custom_values:[1 2] buckets:[1 1 1]}}+{{schema:-53 sum:1 count:3 custom_values:[1 2] buckets:[1 1 1]}}x9",
    "{{schema:0 count:8 sum:9 buckets:[4 4]}} {{schema:0 count:2 sum:1 buckets:[1 1]}} {{schema:0 count:5 sum:3 buckets:[2 3]}}x6",
    "{{schema:2 count:3 sum:4 buckets:[3] counter_reset_hint:gauge}} {{schema:2 count:1 sum:1 buckets:[1] counter_reset_hint:gauge}}x5",
    "stale {{sum:1 count:1 buckets:[1]}} stale {{sum:2 count:2 buckets:[2]}}x4",
    "{{schema:0 sum:5 count:5 buckets:[1 2 2]}}-{{schema:0 sum:1 count:1 buckets:[0 1]}}x2",
    "{{schema:1 count:4 sum:NaN buckets:[1 0 3]}} {{schema:0 count:4 sum:Inf buckets:[1 3]}}x5",
    "{{schema:0 count:-1 buckets:[-1]}}",
];

/// In 2.42 ranges and the lookback hold their left edge, in 3.x they do not. With samples 61 s, 91 s or 121 s apart
/// and evaluations at multiples of 30 s up to 12 min no sample but one at 0 ever lies on the edge of these ranges.
const EXPRS: [&str; 22] = [
    "m",
    "m > 2",
    "sum(m)",
    "sum by (a) (m)",
    "rate(c[130s])",
    "increase(c[290s])",
    "m == 0",
    "absent(m{a=\"1\"})",
    "count_over_time(m[170s])",
    "max_over_time(m[100s])",
    "m unless c",
    "m * on(a) group_left c",
    "timestamp(m)",
    "vector(1)",
    "r0",
    "changes(m[250s]) > 1",
    "topk(1, m)",
    "m and on(a) c > 0",
    "max(m) or vector(0)",
    "label_replace(m, \"b\", \"$1x\", \"a\", \"(.*)\")",
    "m offset 70s",
    "quantile(0.3, m)",
];

/// Expressions that are refused, at loading or later.
const REFUSED: [&str; 8] = [
    "m @ end()",
    "\"text\"",
    "m[3m]",
    "holt_winters(m[5m], 0.5, 0.5)",
    "mad_over_time(m[5m])",
    "m + on(a) group_right c",
    "{__name__=~\"m|c\"}",
    "rate({__name__=~\"m|c\"}[3m])",
];

const NEW_EXPRS: [&str; 39] = [
    "max_over_time(m[2m:30s])",
    "rate(c[2m])",
    "count_over_time(m[3m])",
    "sum_over_time(m[5m])",
    "avg_over_time(m[5m:])",
    "m offset -1m",
    "m @ 120",
    "m @ end()",
    "h",
    "rate(h[5m])",
    "increase(h[3m])",
    "histogram_quantile(0.9, h)",
    "histogram_count(h)",
    "histogram_sum(rate(h[4m]))",
    "histogram_fraction(0, 2, h)",
    "histogram_avg(h) > 1",
    "sum(h)",
    "avg by (a) (h)",
    "h * 2",
    "h / 4",
    "h + h",
    "h - on(a) h",
    "m * on(a) h",
    "h > 1",
    "count(h)",
    "sum_over_time(h[4m])",
    "last_over_time(h[3m])",
    "resets(h[10m])",
    "changes(h[5m])",
    "m / on() c",
    "time()",
    "ALERTS",
    "ALERTS{alertstate=\"firing\"}",
    "ALERTS_FOR_STATE",
    "count_values(\"v\", m)",
    "absent_over_time(m[3m])",
    "scalar(m) + 1",
    "stddev_over_time(m[5m])",
    "predict_linear(c[5m], 60)",
];

const ASKED: [&str; 18] = [
    "m",
    "r0",
    "r1",
    "ALERTS",
    "ALERTS_FOR_STATE",
    "c[1m]",
    "1",
    "sum(m) + sum(c)",
    "\"x\"",
    "r0 + r1",
    "m +",
    "time()",
    "count({__name__=~\".+\"})",
    "m{a=\"0\"} or r0",
    "sum by (__name__) ({a!=\"\"})",
    "nosuch(m)",
    "rate(m)",
    "sort_desc(m)",
];

const TEXTS: [&str; 26] = [
    "a={{ $labels.a }} v={{ $value | humanize }} {{ printf \"%.2f\" $value }}",
    "",
    "{{ query \"count(m)\" | first | value }}",
    "{{ $value }} {{ .Value }} {{ .Labels.a }}",
    "{{ $externalLabels.cluster }} {{ $externalURL }} {{ .ExternalLabels }}",
    "{{ humanizeDuration $value }} {{ humanizePercentage $value }} {{ humanize1024 $value }}",
    "{{ range query \"m\" | sortByLabel \"a\" }}{{ .Labels.a }}={{ .Value }};{{ end }}",
    "{{ if gt $value 1.5 }}high{{ else }}low{{ end }}",
    "{{ if gt $value 1 }}high{{ end }}",
    "{{ $labels }} {{ $labels.alertname }} {{ $labels.g }}",
    "{{ query \"m +\" | first | value }}",
    "{{ query \"none\" | first | value }}",
    "{{ reReplaceAll \"(.)\" \"<$1>\" $labels.a }} {{ toUpper \"é\" }} {{ title \"a b\" }}",
    "{{ with query \"r0\" }}{{ . | first | value | printf \"%g\" }}{{ end }}",
    "{{ now }} {{ toTime now }} {{ $value | humanizeTimestamp }}",
    "{{ template \"none\" }} {{ graphLink \"m > 1\" }}",
    "{{ define \"x\" }}<{{ . }}>{{ end }}{{ template \"x\" $value }}",
    "{{ with $labels }}{{ .a }}{{ end }}{{ range $k, $v := $labels }}{{ $k }}={{ $v }} {{ end }}",
    "{{ query \"ALERTS\" | len }} {{ range query \"sum(ALERTS) by (alertname)\" | sortByLabel \"alertname\" }}{{ . | label \"alertname\" }}{{ end }}",
    "{{ printf \"%v %d %q %x\" $value 5 $labels.a 255 }}",
    "{{ $value | printf \"%.3e\" }}{{- \" \" -}}  {{ .Value | humanizePercentage }}",
    "{{ query \"c\" | first | label \"a\" }} {{ \"c\" | query | first | value }}",
    "{{ query \"h\" | sortByLabel \"a\" | first | value }}",
    "{{ $value.Count }}",
    "{{ parseDuration \"1h\" }} {{ toDuration 90.5 }} {{ stripPort \"a:1\" }} {{ args 1 2 }}",
    "{{ query \"m[1m]\" }}{{ query \"rate(m)\" }}",
];

/// A suite for `peer`.
pub fn suite(seed: u64, peer: Peer) -> Suite {
    let mut n = Numbers::new(seed);
    let new = peer == Peer::New;
    let mut out = Suite { files: Vec::new(), flags: Vec::new(), tests: vec!["test.yml"] };
    let mut groups = 0;
    let count = 1 + n.below(2);
    out.files.push(("rules.yml".to_string(), rules(&mut n, peer, count, &mut groups)));
    let mut patterns = "rules.yml";
    if new && n.once_in(3) {
        for name in ["more/a.yml", "more/b.yml"] {
            out.files.push((name.to_string(), rules(&mut n, peer, 1, &mut groups)));
        }
        patterns = n.pick(&[
            "rules.yml, more/*.yml",
            "'more/[ab].yml', rules.yml",
            "'more/?.yml'",
            "more/a.yml, rules.yml, more/a.yml",
            "rules.yml, none.yml",
            "'./more/../rules.yml', 'm*/b.yml'",
            "'r*.yml', 'none/*', '[x-z].yml'",
            "",
            "rules.yml, '[' ",
        ]);
    }
    let text = tests(&mut n, peer, patterns, groups);
    out.files.push(("test.yml".to_string(), if new { dressed(&mut n, text) } else { text }));
    if new {
        if n.once_in(12) {
            let text = tests(&mut n, peer, "rules.yml", groups);
            out.files.push(("second.yml".to_string(), text));
            out.tests.push("second.yml");
        }
        if n.once_in(20) {
            broken(&mut n, &mut out);
        }
        if n.once_in(8) {
            let flag = n.pick(&["--run=t0", "--run=^$", "--run=1|2", "--run=none", "--run=t[02]"]);
            out.flags.push(flag);
        }
        if n.once_in(12) {
            out.flags.push("--ignore-unknown-fields");
        }
        if n.once_in(8) {
            // Not promql-experimental-functions: 3.14 loads such rules, and its engine for tests refuses them all the same.
            out.flags.push("--enable-feature=promql-delayed-name-removal");
        }
    }
    out
}

fn rules(n: &mut Numbers, peer: Peer, count: u64, groups: &mut usize) -> String {
    let new = peer == Peer::New;
    let mut rules = String::from("groups:\n");
    for _ in 0..count {
        let g = *groups;
        *groups += 1;
        let _ = writeln!(rules, "  - name: g{g}");
        if n.once_in(4) {
            let _ = writeln!(rules, "    interval: {}", n.pick(&["5m", "30s", "7s"]));
        }
        if n.once_in(6) {
            let limit = n.below(4) as i64 - i64::from(new);
            let _ = writeln!(rules, "    limit: {limit}");
        }
        if new && n.once_in(6) {
            let _ = writeln!(
                rules,
                "    query_offset: {}",
                n.pick(&["1m", "30s", "0s", "3m", "2d", "7s", "1ms"])
            );
        }
        if new && n.once_in(5) {
            let labels =
                n.pick(&["team: core, a: grouped", "team: '{{ $labels.a }}'", "severity: ''", "was: x"]);
            let _ = writeln!(rules, "    labels: {{{labels}}}");
        }
        rules.push_str("    rules:\n");
        for r in 0..1 + n.below(4) {
            rule(n, peer, g, r, &mut rules);
        }
    }
    rules
}

fn expr(n: &mut Numbers, peer: Peer) -> &'static str {
    match (peer, n.below(60)) {
        (Peer::New, 0..2) => n.pick(&REFUSED),
        (Peer::New, 2..30) => n.pick(&NEW_EXPRS),
        _ => n.pick(&EXPRS),
    }
}

fn rule(n: &mut Numbers, peer: Peer, g: usize, r: u64, out: &mut String) {
    let new = peer == Peer::New;
    let expr = expr(n, peer);
    if n.once_in(2) {
        let _ = write!(out, "      - record: r{r}\n        expr: '{expr}'\n");
        if new && n.once_in(12) {
            let labels = n.pick(&["__name__: other", "x.y: z", "a: '{{ $value }}'", "b: é"]);
            let _ = writeln!(out, "        labels: {{{labels}}}");
        } else if n.once_in(3) {
            let _ = writeln!(out, "        labels: {{a: '', g: 'g{g}'}}");
        }
        return;
    }
    let _ = write!(out, "      - alert: A{}\n        expr: '{expr}'\n", n.below(3));
    let held = n.pick(&["", "        for: 1m\n", "        for: 90s\n", "        for: 3m\n"]);
    let kept = n.pick(&["", "", "        keep_firing_for: 2m\n"]);
    let _ = write!(out, "{held}{kept}");
    if n.once_in(2) {
        let severity = n.below(2);
        let _ = writeln!(out, "        labels: {{severity: '{severity}', was: '{{{{ $labels.a }}}}'}}");
    } else if new && n.once_in(3) {
        let label = n.pick(&[
            "v: '{{ $value }}'",
            "alertname: other",
            "a: ''",
            "x.y: '{{ printf \"%s\" $value }}'",
            "__name__: named",
            "alertstate: mine",
            "gone: '{{ $labels.none }}'",
            "bad: '{{ humanize $labels.a }}'",
            "q: '{{ with query \"m\" }}{{ len . }}{{ end }}'",
            "instance: '{{ $externalLabels.cluster }}'",
        ]);
        let _ = writeln!(out, "        labels: {{{label}}}");
    }
    if n.once_in(2) {
        out.push_str("        annotations:\n");
        let all = if new { TEXTS.len() } else { 3 };
        let _ = writeln!(out, "          text: '{}'", n.pick(&TEXTS[..all]));
        if n.once_in(3) {
            let _ = write!(out, "          empty: ''\n          q: '{}'\n", n.pick(&TEXTS[..all]));
        }
    }
}

fn tests(n: &mut Numbers, peer: Peer, patterns: &str, groups: usize) -> String {
    let new = peer == Peer::New;
    let mut out = format!("rule_files: [{patterns}]\n");
    let interval = |t: &str| format!("evaluation_interval: {t}\n");
    let times: &[&str] = if new { &["1m", "30s", "2m", "0s", "45s", "7m"] } else { &["1m", "30s", "2m"] };
    if !n.once_in(4) {
        out.push_str(&interval(n.pick(times)));
    }
    let names: Vec<String> = (0..groups).map(|g| format!("g{g}")).collect();
    let order = names.join(", ");
    if new && n.once_in(12) {
        // In part or not at all: then promtool takes them in any order.
        let some = n.pick(&["", "group_eval_order: [g1]\n", "group_eval_order: [none, g0]\n"]);
        out.push_str(some);
    } else if new && n.once_in(60) && !patterns.contains("'['") {
        out.push_str("group_eval_order: [g0, g0]\n");
    } else {
        let _ = writeln!(out, "group_eval_order: [{order}]");
    }
    if new && n.once_in(5) {
        let _ = writeln!(
            out,
            "fuzzy_compare: {}",
            n.pick(&["true", "false", "yes", "on", "True", "y", "~", "1"])
        );
    }
    out.push_str("tests:\n");
    for t in 0..1 + n.below(3) {
        test(n, peer, t, &mut out);
    }
    out
}

fn test(n: &mut Numbers, peer: Peer, number: u64, out: &mut String) {
    let new = peer == Peer::New;
    let _ = match n.below(if new { 6 } else { 1 }) {
        1 => writeln!(out, "  - name: ''"),
        2 => writeln!(out, "  - name: 'more words: é'"),
        _ => writeln!(out, "  - name: t{number}"),
    };
    // 2.42 leaves an interval that is not written at 0, and all samples stand at the start.
    if !new || !n.once_in(4) {
        let times: &[&str] =
            if new { &["1m", "30s", "15s", "2m", "90s", "0s"] } else { &["61s", "91s", "121s"] };
        let _ = writeln!(out, "    interval: {}", n.pick(times));
    }
    if new && n.once_in(5) {
        let at = n.pick(&[
            "60",
            "1.5",
            "-120",
            "1600000000",
            "2020-02-29T12:00:00Z",
            "'2020-02-29T12:00:00.25+01:00'",
            "0",
            "1e3",
        ]);
        let odd = [
            "soon",
            "2020-01-01",
            "+5",
            "-0",
            "1700000000",
            "0x10",
            "~",
            "'1_000'",
            "1_000",
            "2020-02-30T00:00:00Z",
            "nan",
        ];
        let at = if n.once_in(12) { n.pick(&odd) } else { at };
        let _ = writeln!(out, "    start_timestamp: {at}");
    }
    if new && n.once_in(4) {
        let odd = ["{a: 1, b: true, c: ~}", "{x.y: z, \"\": e}", "{__name__: n}", "5", "[a]"];
        let labels = if n.once_in(12) { n.pick(&odd) } else { "{cluster: eu, a: external}" };
        let _ = writeln!(out, "    external_labels: {labels}");
    }
    if new && n.once_in(4) {
        let _ = writeln!(out, "    external_url: {}", n.pick(&["http://p.example/x/", "http://p.example"]));
    }
    out.push_str("    input_series:\n");
    let histograms = if new { n.below(3) } else { 0 };
    for (name, count) in [("m", n.below(4)), ("c", 1 + n.below(2)), ("h", histograms)] {
        for i in 0..count {
            let values = if name == "h" { n.pick(&HISTOGRAMS) } else { n.pick(&VALUES) };
            let series = match n.below(if new { 60 } else { 1 }) {
                1 | 2 => format!("{{__name__=\"{name}\", a=\"{i}\"}}"),
                3 | 4 => format!("{{\"{name}\", a=\"{i}\", \"x.y\"=\"z\"}}"),
                5 | 6 => name.to_string(),
                7 | 8 => format!("{name}{{a=\"{i}\", __name__=\"r0\"}}"),
                9 | 10 => format!("{name}{{ a = \"{i}\" , }}"),
                11 => format!("{name}{{a=\"\", b=\"\u{e9}\\n\\\\\"}}"),
                12 => format!("{name}{{a=''{i}'', b=`x`}}"),
                13 => format!("ALERTS{{alertname=\"A{i}\", alertstate=\"firing\"}}"),
                14 => format!("{name} {{a=\"{i}\"}}"),
                15 if n.once_in(4) => format!("# {name}"),
                16 if n.once_in(16) => format!("{name}{{a=\"{i}\", a=\"2\"}}"),
                17 if n.once_in(4) => String::new(),
                18 if n.once_in(4) => format!("{name}{{a={i}}}"),
                19 if n.once_in(4) => format!("{name}{{a=~\"{i}\"}}"),
                _ => format!("{name}{{a=\"{i}\"}}"),
            };
            let values = match n.below(if new { 400 } else { 1 }) {
                1 => "1s",
                2 => "1 + 1x3",
                3 => "stalex2",
                4 => "1,2",
                5 => "{{schema:0 buckets:[1 2]",
                6 => "{{nonsense:1}}",
                7 => "1+{{count:1}}x2",
                8 => "1x-1",
                9 => "# 1",
                10 => "1 2\n\n          n{a=\"0\"} 3+1x4",
                11 => "1 2\n\n          n{a=\"0\"",
                12 => "1\t2  3x2 ",
                13 => "1 2 #3",
                14 => "Nan nAn -inf +Inf INF",
                15 => "0x5 1x 2",
                16 => "1--1x3 1+-1x3",
                17 => "_x 1",
                18 => "1e 2",
                19 => "{{schema:9 buckets:[1]}}",
                20 => "{{schema:0 schema:1}}",
                21 => "{{buckets:[1 -2]}} 1",
                22 => "{{schema:1 count:1 buckets:[1]}}+{{schema:0 count:1 buckets:[1]}}x2",
                23 => "{{schema:0 count:1 buckets:[1]}}+{{schema:1 count:1 buckets:[1]}}x2",
                24 => "{{schema:-53 custom_values:[2 1] buckets:[1 1]}}",
                25 => "{{schema:-53 custom_values:[1 2] buckets:[1] n_buckets:[1]}}",
                26 => "{{counter_reset_hint:reset}} {{counter_reset_hint:wrong}}",
                _ => values,
            };
            // None at 0: it lies on the edge of the lookback at 5 min.
            let first = if new { "" } else { "_ " };
            let _ = write!(out, "      - series: '{series}'\n        values: '{first}{values}'\n");
        }
    }
    let times: &[&str] = if new {
        &[
            "0m",
            "1m",
            "2m",
            "90s",
            "5m",
            "8m",
            "0",
            "12m",
            "30s",
            "1m30s500ms",
            "2m15s",
            "1h",
            "59999ms",
            "1d",
            "~",
        ]
    } else {
        &["0m", "1m", "2m", "90s", "5m", "8m", "12m"]
    };
    if n.below(4) > 0 {
        out.push_str("    alert_rule_test:\n");
        for _ in 0..n.below(4) {
            let _ = writeln!(out, "      - eval_time: {}", n.pick(times));
            if !(new && n.once_in(80)) {
                let _ = writeln!(out, "        alertname: A{}", n.below(3));
            }
            if n.below(3) > 0 {
                out.push_str("        exp_alerts:\n");
                for _ in 0..1 + n.below(2) {
                    expected_alert(n, new, out);
                }
            }
        }
    }
    if n.below(4) > 0 {
        out.push_str("    promql_expr_test:\n");
        for _ in 0..1 + n.below(4) {
            let expr = if new && n.once_in(3) { expr(n, peer) } else { n.pick(&ASKED) };
            let times = if new && n.once_in(6) { times } else { &times[..5] };
            let _ = write!(out, "      - expr: '{expr}'\n        eval_time: {}\n", n.pick(times));
            if n.once_in(2) {
                out.push_str("        exp_samples:\n");
                for _ in 0..1 + n.below(2) {
                    expected_sample(n, new, out);
                }
            }
        }
    }
}

fn expected_alert(n: &mut Numbers, new: bool, out: &mut String) {
    let i = n.below(3);
    let text = match n.below(if new { 8 } else { 1 }) {
        1 => format!("- exp_labels: {{a: '{i}'}}"),
        2 => "- exp_annotations: {text: '', empty: ''}".to_string(),
        3 => format!("- exp_labels: {{a: '{i}', alertname: other, none: ''}}"),
        4 => "- {}".to_string(),
        5 => "- exp_labels: {a: 1, b: null, c: true, d: 1.50}".to_string(),
        _ => {
            format!("- exp_labels: {{a: '{i}', severity: '1'}}\n            exp_annotations: {{text: 'a=0'}}")
        }
    };
    let _ = writeln!(out, "          {text}");
}

fn expected_sample(n: &mut Numbers, new: bool, out: &mut String) {
    let v = n.below(4);
    let text = match n.below(if new { 16 } else { 1 }) {
        1 => "- value: 1e3".to_string(),
        2 => "- labels: '{a=\"0\"}'\n            value: .inf".to_string(),
        3 => "- labels: 'm{a=\"1\", b=\"é\"}'\n            value: -0.0".to_string(),
        4 => "- labels: m{a=0}".to_string(),
        5 => "- labels: h\n            histogram: '{{schema:0 count:2 sum:1 buckets:[1 1]}}'".to_string(),
        6 => "- labels: h{a=\"0\"}\n            histogram: '{{count:1 sum:1}}x2'".to_string(),
        7 => "- labels: h{a=\"0\"}\n            histogram: '5'".to_string(),
        8 => "- labels: h{a=\"0\"}\n            histogram: '{{'".to_string(),
        9 => "- labels: h{a=\"0\"}\n            histogram: '_x3'".to_string(),
        10 => "- labels: h{a=\"0\"}\n            value: 3\n            histogram: '{{schema:1 offset:2 buckets:[1 0 0 0 3] n_buckets:[2] counter_reset_hint:gauge}}'".to_string(),
        11 => "- labels: '{__name__=\"m\",a=\"0\"}'\n            value: .nan".to_string(),
        12 => "- labels: 'ALERTS{alertname=\"A0\", alertstate=\"firing\"}'\n            value: 1".to_string(),
        _ => format!("- labels: 'm{{a=\"0\"}}'\n            value: {v}"),
    };
    let _ = writeln!(out, "          {text}");
}

/// The same in other clothes of YAML, now and then.
fn dressed(n: &mut Numbers, text: String) -> String {
    match n.below(40) {
        1 => text.replace('\n', "\r\n"),
        2 => format!("\u{feff}{text}"),
        3 => format!("---\n{text}...\n"),
        4 => format!("{text}---\n[broken\n"),
        5 => text.replace("tests:\n", "tests: # all\n\n# comment\n"),
        6 => text
            .replacen("    input_series:\n", "    input_series: &i\n", 1)
            .replace("input_series:\n      -", "input_series:\n      # more\n      -"),
        7 => text
            .replace("        eval_time:", "        'eval_time':")
            .replace("alertname: A", "\"alertname\": A"),
        8 => text.replace("value: 1\n", "value: !!float 1\n").replace("eval_time: 1m", "eval_time: !!str 1m"),
        9 => text.replace("evaluation_interval:", "evaluation_interval: 1m\nevaluation_interval:"),
        _ => text,
    }
}

/// Puts a mistake into one of the files.
fn broken(n: &mut Numbers, suite: &mut Suite) {
    let at = n.below(suite.files.len() as u64) as usize;
    let text = &mut suite.files[at].1;
    let (from, to) = match n.below(16) {
        0 => ("expr: 'm", "expr: 'm +"),
        1 => ("    rules:\n", "    rule:\n"),
        2 => ("name: g0", "name: ''"),
        3 => ("- record: r0", "- recrod: r0"),
        4 => ("- alert: A", "- record: both\n        alert: A"),
        5 => ("{{ $labels.a }}", "{{ $labels.a }"),
        6 => ("for: ", "for: x"),
        7 => ("interval: ", "interval: -"),
        8 => ("eval_time: ", "evaltime: "),
        9 => ("value: ", "value: x"),
        10 => ("    input_series:\n", "    input_series: 5\n    more:\n"),
        11 => ("rules.yml", "rules.yml\"]"),
        12 => ("name: g1", "name: g0"),
        13 => ("labels: {a", "labels: {1a"),
        14 => ("{{ $labels.a }}", "{{ nosuch $labels.a }}"),
        _ => (
            "groups:\n",
            "groups:\n  - name: e\n    rules: [{record: 'x y{}', expr: 1}, {expr: 1}, {alert: B}]\n",
        ),
    };
    *text = text.replacen(from, to, 1 + n.below(2) as usize);
}
