//! Expressions by a typed grammar.

use tsdbctl_promql::parser::ast::ValueType;
use tsdbctl_promql::parser::functions::{FUNCTIONS, Function};

use crate::random::Random;

/// Makes expressions; times are near `start` to `end`, Unix ms.
pub struct Grammar<'a> {
    pub r: &'a mut Random,
    pub start: i64,
    pub end: i64,
}

const DURATIONS: [&str; 8] = ["15s", "30s", "1m", "2m30s", "5m", "7s", "10m", "45s"];
const LABELS: [&str; 8] = ["job", "instance", "le", "version", "host", "__name__", "nope", "__type__"];
const FLOATS: [&str; 8] = ["requests_total", "a", "b", "odd", "whole", "steady", "lat_bucket", "target_info"];
const HISTOGRAMS: [&str; 5] = ["h", "hc", "hg", "mix", "hx"];

impl Grammar<'_> {
    fn duration(&mut self) -> String {
        self.r.pick(&DURATIONS).to_string()
    }

    fn modifiers(&mut self) -> String {
        let mut out = String::new();
        if self.r.one_in(5) {
            let sign = if self.r.one_in(3) { "-" } else { "" };
            out += &format!(" offset {sign}{}", self.duration());
        }
        if self.r.one_in(7) {
            out += &match self.r.below(4) {
                0 => " @ start()".to_string(),
                1 => " @ end()".to_string(),
                _ => {
                    let t = self.r.between(self.start - 60_000, self.end + 60_000);
                    format!(" @ {}", t as f64 / 1000.0)
                }
            };
        }
        out
    }

    fn matchers(&mut self) -> String {
        let job = self.r.pick(&["x", "y", "x|y", ".+", "z"]);
        match self.r.below(6) {
            0 => format!("job=\"{job}\""),
            1 => format!("job=~\"{job}\""),
            2 => "instance!=\"1\"".to_string(),
            _ => String::new(),
        }
    }

    fn name(&mut self) -> String {
        if self.r.one_in(3) { self.r.pick(&HISTOGRAMS).to_string() } else { self.r.pick(&FLOATS).to_string() }
    }

    fn selector(&mut self, name: Option<&str>) -> String {
        let name = name.map_or_else(|| self.name(), str::to_string);
        if self.r.one_in(12) {
            let pattern = self.r.pick(&[
                "a|b",
                "h|hc",
                "a|h",
                "a|b|steady",
                "mix|a",
                "h.*",
                "requests_total|a",
                "none",
            ]);
            return format!("{{__name__=~\"{pattern}\"}}");
        }
        let m = self.matchers();
        if m.is_empty() { name } else { format!("{name}{{{m}}}") }
    }

    pub fn range(&mut self, depth: u32, name: Option<&str>, extended: bool) -> String {
        if depth > 0 && self.r.one_in(4) {
            let inner = self.vector(depth - 1);
            let step = if self.r.one_in(2) { self.duration() } else { String::new() };
            let (range, modifiers) = (self.duration(), self.modifiers());
            return format!("({inner})[{range}:{step}]{modifiers}");
        }
        let word = if extended && self.r.one_in(3) {
            self.r.pick(&[" anchored", " smoothed"])
        } else if self.r.one_in(100) {
            " anchored"
        } else {
            ""
        };
        let (selector, range, modifiers) = (self.selector(name), self.duration(), self.modifiers());
        format!("{selector}[{range}]{word}{modifiers}")
    }

    pub fn scalar(&mut self, depth: u32) -> String {
        match self.r.below(if depth == 0 { 4 } else { 9 }) {
            0 | 1 => self
                .r
                .pick(&[
                    "0", "1", "2", "0.5", "0.9", "-1", "1.5", "NaN", "Inf", "3", "-0.3", "1e18", "0.25", "60",
                ])
                .to_string(),
            2 => "time()".to_string(),
            3 => self.r.pick(&["pi()", "start()", "end()", "range()", "step()"]).to_string(),
            4 => format!("scalar({})", self.vector(depth - 1)),
            5 => format!("(time() / 60) % {}", self.r.between(1, 4)),
            6 => format!("-{}", self.scalar(depth - 1)),
            7 => {
                let op =
                    self.r.pick(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", "> bool", "<= bool"]);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            _ => {
                let f = self.r.pick(&["max_of", "min_of"]);
                format!("{f}({}, {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
        }
    }

    fn quantile(&mut self, depth: u32) -> String {
        if self.r.one_in(4) {
            return self.scalar(depth);
        }
        self.r.pick(&["0", "0.5", "0.9", "0.25", "1", "2", "-1", "NaN"]).to_string()
    }

    fn labels(&mut self) -> String {
        let n = self.r.below(3);
        (0..n).map(|_| self.r.pick(&LABELS)).collect::<Vec<_>>().join(", ")
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let op = self.r.pick(&[
            "sum",
            "avg",
            "count",
            "min",
            "max",
            "group",
            "stddev",
            "stdvar",
            "topk",
            "bottomk",
            "count_values",
            "quantile",
            "limitk",
            "limit_ratio",
            "sum",
            "avg",
        ]);
        let grouping = match self.r.below(4) {
            0 => String::new(),
            1 => format!(" without ({})", self.labels()),
            _ => format!(" by ({})", self.labels()),
        };
        let param = match op {
            "topk" | "bottomk" | "limitk" => {
                if self.r.one_in(5) {
                    self.scalar(depth.min(1))
                } else {
                    self.r.pick(&["1", "2", "3", "0"]).to_string()
                }
            }
            "quantile" => self.quantile(depth.min(1)),
            "limit_ratio" => self.r.pick(&["0.5", "-0.5", "0", "1", "-1", "1.1", "-2", "0.3"]).to_string(),
            "count_values" => self.r.pick(&["\"v\"", "\"job\"", "\"le\""]).to_string(),
            _ => String::new(),
        };
        let inner = self.vector(depth - 1);
        let comma = if param.is_empty() { "" } else { ", " };
        format!("{op}{grouping} ({param}{comma}{inner})")
    }

    fn binary(&mut self, depth: u32) -> String {
        let op = self.r.pick(&[
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless",
            "</", ">/", "+", "-", "and", "or",
        ]);
        let set = matches!(op, "and" | "or" | "unless");
        let compares = matches!(op, "==" | "!=" | ">" | "<" | ">=" | "<=");
        let word = if compares && self.r.one_in(3) { " bool" } else { "" };
        if !set && self.r.one_in(4) {
            let (v, s) = (self.vector(depth - 1), self.scalar(depth - 1));
            return if self.r.one_in(2) {
                format!("({v} {op}{word} {s})")
            } else {
                format!("({s} {op}{word} {v})")
            };
        }
        let mut matching = match self.r.below(4) {
            0 => format!(" on ({})", self.labels()),
            1 => format!(" ignoring ({})", self.labels()),
            2 => " on (job, instance)".to_string(),
            _ => String::new(),
        };
        if !set {
            if !matching.is_empty() && self.r.one_in(3) {
                let side = self.r.pick(&["group_left", "group_right"]);
                matching += &format!(" {side} ({})", self.r.pick(&["", "version", "host", "version, host"]));
            }
            if self.r.one_in(6) {
                matching += self.r.pick(&[
                    " fill (0)",
                    " fill_left (1)",
                    " fill_right (2)",
                    " fill_left (1) fill_right (-3)",
                ]);
            }
        }
        let (l, r) = (self.vector(depth - 1), self.vector(depth - 1));
        format!("({l} {op}{word}{matching} {r})")
    }

    fn call(&mut self, depth: u32) -> String {
        let f: &Function = &FUNCTIONS[self.r.below(FUNCTIONS.len() as u64) as usize];
        let name = f.name;
        match name {
            "label_replace" => {
                let dst = self.r.pick(&["job", "new", "__name__", "instance"]);
                let src = self.r.pick(&["job", "instance", "__name__", "nope"]);
                let (re, to) = self.r.pick(&[
                    ("(.*)", "$1-z"),
                    ("x", "y"),
                    ("(.)(.*)", "$2$1"),
                    (".*", ""),
                    ("y|10", "k"),
                ]);
                return format!(
                    "label_replace({}, \"{dst}\", \"{to}\", \"{src}\", \"{re}\")",
                    self.vector(depth - 1)
                );
            }
            "label_join" => {
                let dst = self.r.pick(&["job", "new", "__name__"]);
                let src = self.r.pick(&["\"job\", \"instance\"", "\"nope\"", "\"__name__\", \"job\""]);
                return format!("label_join({}, \"{dst}\", \"-\", {src})", self.vector(depth - 1));
            }
            "info" => {
                let v = self.vector(depth - 1);
                let sel = self.r.pick(&[
                    "",
                    ", {version=~\".+\"}",
                    ", {__name__=\"build_info\"}",
                    ", {__name__=~\".+_info\", version=\"1\"}",
                    ", {host=~\".*\"}",
                ]);
                return format!("info({v}{sel})");
            }
            "histogram_quantile" => {
                let q = self.quantile(depth.min(1));
                let v = self.histogram_input(depth);
                return format!("histogram_quantile({q}, {v})");
            }
            "histogram_quantiles" => {
                let v = self.histogram_input(depth);
                let (a, b) = (self.quantile(0), self.quantile(0));
                return format!("histogram_quantiles({v}, \"q\", {a}, {b})");
            }
            "histogram_fraction" => {
                let (l, u) = (self.scalar(0), self.scalar(0));
                let v = self.histogram_input(depth);
                return format!("histogram_fraction({l}, {u}, {v})");
            }
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev"
            | "histogram_stdvar" => {
                let v = self.histogram_input(depth);
                return format!("{name}({v})");
            }
            "quantile_over_time" => {
                let q = self.quantile(depth.min(1));
                let m = self.range(depth - 1, None, false);
                return format!("quantile_over_time({q}, {m})");
            }
            "double_exponential_smoothing" => {
                let m = self.range(depth - 1, None, false);
                let (s, t) = (self.r.pick(&["0.5", "0.1", "2"]), self.r.pick(&["0.5", "0.3", "0.9"]));
                return format!("{name}({m}, {s}, {t})");
            }
            "sort_by_label" | "sort_by_label_desc" => {
                let v = self.vector(depth - 1);
                return format!("{name}({v}, \"{}\")", self.r.pick(&["job", "instance"]));
            }
            _ => {}
        }
        let mut args = Vec::new();
        let n = f.arg_types.len();
        for (i, kind) in f.arg_types.iter().enumerate() {
            if i + 1 == n && f.variadic != 0 && self.r.one_in(2) {
                break;
            }
            args.push(match kind {
                ValueType::Scalar => self.scalar(depth - 1),
                ValueType::Vector => self.vector(depth - 1),
                ValueType::Matrix => {
                    let extended = matches!(name, "rate" | "increase" | "delta" | "changes" | "resets");
                    let wants_histogram = self.r.one_in(3);
                    let h = self.r.pick(&HISTOGRAMS);
                    self.range(depth - 1, wants_histogram.then_some(h), extended)
                }
                ValueType::String => "\"job\"".to_string(),
            });
        }
        format!("{name}({})", args.join(", "))
    }

    fn histogram_input(&mut self, depth: u32) -> String {
        match self.r.below(7) {
            0 if depth > 0 => self.vector(depth - 1),
            1 => {
                let h = self.r.pick(&HISTOGRAMS);
                let (f, m) = (
                    self.r.pick(&["rate", "increase", "sum_over_time", "avg_over_time"]),
                    self.range(0, Some(h), true),
                );
                format!("{f}({m})")
            }
            2 => {
                let h = self.r.pick(&HISTOGRAMS);
                format!("{}({})", self.r.pick(&["sum", "avg", "sum by (job)"]), self.selector(Some(h)))
            }
            3 => format!("lat_bucket{}", self.modifiers()),
            4 => format!("rate(lat_bucket[{}])", self.duration()),
            5 => "{__name__=~\"lat_bucket|h\"}".to_string(),
            _ => {
                let h = self.r.pick(&HISTOGRAMS);
                let (s, m) = (self.selector(Some(h)), self.modifiers());
                format!("{s}{m}")
            }
        }
    }

    pub fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            let s = self.selector(None);
            let word = if self.r.one_in(15) { " smoothed" } else { "" };
            return format!("{s}{word}{}", self.modifiers());
        }
        match self.r.below(10) {
            0 => format!("-{}", self.vector(depth - 1)),
            1 => format!("({})", self.vector(depth - 1)),
            2 | 3 => self.aggregation(depth),
            4 | 5 => self.binary(depth),
            6 => self.vector(0),
            _ => self.call(depth),
        }
    }
}
