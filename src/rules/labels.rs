//! Which labels the result of an expression can carry, told without any data: one set for each way a series can come
//! to be in the result (the arms of `or`).
//!
//! The sets are wide enough for every result (what an evaluation gives fits one of them), and as narrow as the
//! expression's text allows: a label that every set rules out can never be there. The one exception is `le` behind
//! `histogram_quantile` and its like, which is taken to be gone although a native histogram with a label of that name
//! would keep it.

use std::collections::BTreeSet;

use tsdbctl_model::labels::{BUCKET_LABEL, METRIC_NAME, METRIC_TYPE, METRIC_UNIT};
use tsdbctl_model::{MatchType, Matcher, Span};
use tsdbctl_promql::parser::ast::{
    AggregateExpr, AggregateOp, BinaryExpr, BinaryOp, Call, Cardinality, Expr, ValueType, VectorMatching,
    VectorSelector,
};
use tsdbctl_promql::parser::functions::FunctionId;

mod set;
mod text;

use set::{Known, meet};
pub use set::{LabelSet, Presence};
use text::{joined_text, replaced};

/// More arms than this are described by one set that covers them all.
const MOST_ARMS: usize = 64;

/// The label sets of an expression's results. Without any, the expression can give nothing, whatever the data.
/// A scalar has no labels.
pub fn analyze(expr: &Expr) -> Vec<LabelSet> {
    analyze_with(expr, false)
}

/// As [`analyze`]; with `delayed_name_removal` (the feature `promql-delayed-name-removal`) the metric's name is taken
/// to survive until the end, and perhaps beyond.
pub fn analyze_with(expr: &Expr, delayed_name_removal: bool) -> Vec<LabelSet> {
    Analysis { delayed_name_removal }.expr(expr)
}

struct Analysis {
    delayed_name_removal: bool,
}

impl Analysis {
    fn expr(&self, expr: &Expr) -> Vec<LabelSet> {
        // Chains of operators lean to the left as deep as they are long.
        let mut chain: Vec<&BinaryExpr> = Vec::new();
        let mut first = expr;
        while let Expr::Binary(b) = first {
            chain.push(b);
            first = &b.lhs;
        }
        let mut sets = self.operand(first);
        while let Some(b) = chain.pop() {
            sets = self.binary(b, sets, first.span().start);
        }
        sets
    }

    fn operand(&self, expr: &Expr) -> Vec<LabelSet> {
        match expr {
            Expr::Number(_) | Expr::String(_) => vec![LabelSet::closed(expr.span())],
            Expr::Paren(p) => self.expr(&p.expr),
            Expr::Unary(u) => {
                let mut sets = self.expr(&u.expr);
                if u.negative {
                    self.drop_names(&mut sets, u.span);
                }
                sets
            }
            Expr::Binary(_) => self.expr(expr),
            Expr::Aggregate(a) => self.aggregate(a),
            Expr::Call(c) => self.call(c),
            Expr::Vector(v) => selector(v).into_iter().collect(),
            Expr::Matrix(m) => selector(&m.selector).into_iter().collect(),
            Expr::Subquery(s) => self.expr(&s.expr),
        }
    }

    /// The name, type and unit go.
    fn drop_names(&self, sets: &mut Vec<LabelSet>, at: Span) {
        for set in sets.iter_mut() {
            for name in [METRIC_NAME, METRIC_TYPE, METRIC_UNIT] {
                if *set.presence(name) == Presence::Impossible {
                    continue;
                }
                let left = if self.delayed_name_removal { Presence::Possible } else { Presence::Impossible };
                set.put(name, left, at);
            }
        }
        tidy(sets);
    }

    fn binary(&self, b: &BinaryExpr, lhs: Vec<LabelSet>, start: u32) -> Vec<LabelSet> {
        let span = Span { start, end: b.rhs.span().end };
        let rhs = self.expr(&b.rhs);
        let Some(matching) = &b.matching else {
            // At most one side is a vector: the other's set is empty and closed.
            let scalar_on_the_right = b.rhs.value_type() == ValueType::Scalar;
            let mut sets = if scalar_on_the_right { lhs } else { rhs };
            if changes_meaning(b.op) || b.return_bool {
                self.drop_names(&mut sets, span);
            }
            return sets;
        };
        match b.op {
            BinaryOp::Or => {
                let mut sets = lhs;
                sets.extend(rhs);
                tidy(&mut sets);
                sets
            }
            BinaryOp::Unless => lhs,
            BinaryOp::And => {
                let mut sets = pairs(&lhs, &rhs).filter_map(|(l, r)| matched(l, r, matching)).collect();
                tidy(&mut sets);
                sets
            }
            _ => self.joined(b, matching, &lhs, &rhs, span),
        }
    }

    /// Operators on pairs of series that match.
    fn joined(
        &self,
        b: &BinaryExpr,
        matching: &VectorMatching,
        lhs: &[LabelSet],
        rhs: &[LabelSet],
        span: Span,
    ) -> Vec<LabelSet> {
        let (many, one) = if matching.card == Cardinality::OneToMany { (rhs, lhs) } else { (lhs, rhs) };
        let drops = changes_meaning(b.op) || b.return_bool;
        let mut sets = Vec::new();
        // `base` are the labels that stay, `other` those that `include` is taken from.
        let mut finish = |mut base: LabelSet, other: &LabelSet| {
            base.span = span;
            if drops {
                let mut one_set = vec![base];
                self.drop_names(&mut one_set, span);
                let Some(only) = one_set.pop() else { return };
                base = only;
            }
            if matching.card == Cardinality::OneToOne {
                base = if matching.on {
                    keep(&base, &matching.labels, span)
                } else {
                    without(base, &matching.labels, span)
                };
            }
            for name in &matching.include {
                base.put(name, other.presence(name).clone(), other.decided_at(name));
            }
            sets.push(base);
        };
        for (m, o) in pairs(many, one) {
            if let Some(base) = matched(m, o, matching) {
                // Where both sides are matched by it, the included label is what both have.
                finish(base, o);
            }
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            // A side that is filled in has the labels that are matched by, and no others.
            let signature = |set: &LabelSet| {
                if matching.on {
                    keep(set, &matching.labels, span)
                } else {
                    without_name(without(set.clone(), &matching.labels, span), span)
                }
            };
            for m in many {
                finish(m.clone(), &signature(m));
            }
            for o in one {
                finish(signature(o), o);
            }
        }
        tidy(&mut sets);
        sets
    }

    fn aggregate(&self, a: &AggregateExpr) -> Vec<LabelSet> {
        let inner = self.expr(&a.expr);
        if matches!(
            a.op,
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio
        ) {
            return inner;
        }
        let mut sets: Vec<LabelSet> = inner
            .into_iter()
            .map(|mut set| {
                let mut grouping = a.grouping.clone();
                if a.op == AggregateOp::CountValues
                    && let Some(Expr::String(label)) = a.param.as_ref().map(Expr::unwrap_parens)
                {
                    set.put(&label.value, Presence::Certain(None), a.span);
                    if !a.without {
                        grouping.push(label.value.clone());
                    }
                }
                let mut set = if a.without {
                    without_name(without(set, &grouping, a.span), a.span)
                } else {
                    keep(&set, &grouping, a.span)
                };
                set.span = a.span;
                set
            })
            .collect();
        tidy(&mut sets);
        sets
    }

    fn call(&self, c: &Call) -> Vec<LabelSet> {
        use FunctionId as F;
        let vector = c.args.iter().find(|a| matches!(a.value_type(), ValueType::Vector | ValueType::Matrix));
        let Some(vector) = vector else {
            // time(), vector(1), hour()
            return vec![LabelSet::closed(c.span)];
        };
        match c.func.id {
            F::Scalar => return vec![LabelSet::closed(c.span)],
            F::Absent | F::AbsentOverTime => return vec![absent(vector.unwrap_parens(), c.span)],
            _ => {}
        }
        let mut sets = self.expr(vector);
        match c.func.id {
            F::Sort | F::SortDesc | F::SortByLabel | F::SortByLabelDesc => {}
            F::LastOverTime | F::FirstOverTime => {}
            F::LabelReplace => {
                if let [_, dst, replacement, src, regex] = c.args.as_slice()
                    && let [Some(dst), Some(replacement), Some(src), Some(regex)] =
                        [dst, replacement, src, regex].map(text)
                {
                    for set in &mut sets {
                        let presence = replaced(set, dst, replacement, src, regex);
                        if presence != *set.presence(dst) {
                            set.put(dst, presence, c.span);
                        }
                    }
                }
                tidy(&mut sets);
            }
            F::LabelJoin => {
                let texts: Vec<Option<&str>> = c.args.iter().skip(1).map(text).collect();
                if let [Some(dst), Some(separator), sources @ ..] = texts.as_slice() {
                    for set in &mut sets {
                        let presence = joined_text(set, separator, sources);
                        set.put(dst, presence, c.span);
                    }
                }
                tidy(&mut sets);
            }
            F::Info => {
                for set in &mut sets {
                    // What the info series add is not known; what the vector has stays as it is.
                    set.named.retain(|_, k| matches!(k.presence, Presence::Certain(_)));
                    set.rest = Known { presence: Presence::Possible, at: c.span };
                }
                tidy(&mut sets);
            }
            id => {
                self.drop_names(&mut sets, c.span);
                if matches!(id, F::HistogramQuantile | F::HistogramQuantiles | F::HistogramFraction) {
                    sets = sets
                        .into_iter()
                        .map(|set| without(set, &[BUCKET_LABEL.to_string()], c.span))
                        .collect();
                }
                if id == F::HistogramQuantiles
                    && let Some(label) = c.args.get(1).and_then(text)
                {
                    sets.iter_mut().for_each(|set| set.put(label, Presence::Certain(None), c.span));
                }
                tidy(&mut sets);
            }
        }
        sets
    }
}

/// Whether an operator changes what a metric means, so that its name goes.
fn changes_meaning(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

fn text(expr: &Expr) -> Option<&str> {
    match expr.unwrap_parens() {
        Expr::String(s) => Some(&s.value),
        _ => None,
    }
}

/// Equal sets are one; too many become one that covers them.
fn tidy(sets: &mut Vec<LabelSet>) {
    let mut kept: Vec<LabelSet> = Vec::with_capacity(sets.len().min(MOST_ARMS));
    for set in sets.drain(..) {
        if !kept.iter().any(|k| k.same_labels(&set)) {
            kept.push(set);
            if kept.len() > MOST_ARMS {
                let joined = kept.iter().skip(1).fold(kept[0].clone(), |all, set| all.join(set));
                kept = vec![joined];
            }
        }
    }
    *sets = kept;
}

fn pairs<'a>(a: &'a [LabelSet], b: &'a [LabelSet]) -> impl Iterator<Item = (&'a LabelSet, &'a LabelSet)> {
    a.iter().flat_map(move |x| b.iter().map(move |y| (x, y)))
}

/// `many` as far as it has a partner in `one`: of the labels they are matched by both have the same. `None`: never.
fn matched(many: &LabelSet, one: &LabelSet, matching: &VectorMatching) -> Option<LabelSet> {
    let mut out = many.clone();
    if matching.on {
        for name in &matching.labels {
            let known = meet(many.known(name), one.known(name))?;
            out.named.insert(name.clone(), known);
        }
        return Some(out);
    }
    for name in many.names_with(one) {
        if name != METRIC_NAME && !matching.labels.contains(&name) {
            let known = meet(many.known(&name), one.known(&name))?;
            out.named.insert(name, known);
        }
    }
    for name in matching.labels.iter().map(String::as_str).chain([METRIC_NAME]) {
        // They do not follow what becomes of the rest.
        out.named.entry(name.to_string()).or_insert_with(|| many.known(name).clone());
    }
    out.rest = meet(&many.rest, &one.rest)?;
    Some(out)
}

/// These labels and no others.
fn keep(set: &LabelSet, names: &[String], at: Span) -> LabelSet {
    let mut out = LabelSet::closed(at);
    out.span = set.span;
    for name in names {
        out.named.insert(name.clone(), set.known(name).clone());
    }
    out
}

fn without(mut set: LabelSet, names: &[String], at: Span) -> LabelSet {
    for name in names {
        if *set.presence(name) != Presence::Impossible {
            set.put(name, Presence::Impossible, at);
        }
    }
    set
}

fn without_name(set: LabelSet, at: Span) -> LabelSet {
    without(set, &[METRIC_NAME.to_string()], at)
}

/// What a selector's matchers say; `None` if no series can satisfy them.
fn selector(v: &VectorSelector) -> Option<LabelSet> {
    let mut set = LabelSet::open(v.span);
    let names: BTreeSet<&str> = v.matchers.iter().map(|m| m.name.as_str()).collect();
    for name in names {
        let matchers: Vec<&Matcher> = v.matchers.iter().filter(|m| m.name == name).collect();
        let single = matchers.iter().find_map(|m| match m.set_matches() {
            Some([value]) => Some(value.as_str()),
            _ => None,
        });
        let only_empty = |m: &&Matcher| m.kind == MatchType::NotRegexp && m.value == ".+";
        let value = if matchers.iter().any(only_empty) { Some("") } else { single };
        let presence = match value {
            Some(value) if !matchers.iter().all(|m| m.matches(value)) => return None,
            Some("") => Presence::Impossible,
            Some(value) => Presence::Certain(Some(value.to_string())),
            None if matchers.iter().any(|m| !m.matches_empty()) => Presence::Certain(None),
            None => Presence::Possible,
        };
        set.put(name, presence, v.span);
    }
    Some(set)
}

/// The labels that `absent` takes from the equality matchers of its selector.
fn absent(argument: &Expr, at: Span) -> LabelSet {
    let mut set = LabelSet::closed(at);
    let matchers = match argument {
        Expr::Vector(v) => &v.matchers,
        Expr::Matrix(m) => &m.selector.matchers,
        _ => return set,
    };
    let mut met = BTreeSet::new();
    for m in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        if m.kind == MatchType::Equal && met.insert(m.name.as_str()) {
            if m.value.is_empty() {
                set.named.remove(&m.name);
            } else {
                set.put(&m.name, Presence::Certain(Some(m.value.clone())), at);
            }
        } else {
            set.named.remove(&m.name);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use tsdbctl_chunk::AppenderOptions;
    use tsdbctl_promql::engine::{self, Features, QueryOptions, QueryTime, Value};
    use tsdbctl_promql::parser::parse;
    use tsdbctl_storage::{Control, MemorySample, MemoryStore};

    use tsdbctl_model::Labels;
    use tsdbctl_model::labels::is_metadata_label;

    use super::*;

    fn features() -> Features {
        Features { experimental_functions: true, binop_fill_modifiers: true, ..Features::default() }
    }

    /// `a=v` certain with a value, `a` certain, `a?` possible, `-a` impossible in an open set, `*` open.
    fn show(text: &str) -> String {
        let expr = parse(text, &features()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let arm = |set: &LabelSet| {
            let mut words: Vec<String> = Vec::new();
            for (name, presence) in set.named() {
                match presence {
                    Presence::Certain(Some(v)) => words.push(format!("{name}={v}")),
                    Presence::Certain(None) => words.push(name.to_string()),
                    Presence::Possible if !set.is_open() => words.push(format!("{name}?")),
                    Presence::Impossible if set.is_open() && !is_metadata_label(name) => {
                        words.push(format!("-{name}"));
                    }
                    _ => {}
                }
            }
            if set.is_open() {
                words.push("*".to_string());
            }
            words.join(" ")
        };
        analyze(&expr).iter().map(arm).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn labels_by_expression() {
        for (text, want) in [
            ("1", ""),
            ("vector(1)", ""),
            ("hour()", ""),
            ("m", "__name__=m *"),
            (
                "m{a=\"x\", b=\"\", c!=\"\", d=~\"p|q\", e=~\"|q\", f=~\"only\", g!~\".+\"}",
                "__name__=m a=x -b c d f=only -g *",
            ),
            ("m{a=\"x\", a=\"y\"}", ""),
            ("rate(m{a=\"x\"}[5m])", "a=x *"),
            ("last_over_time(m[5m])", "__name__=m *"),
            ("-m", "*"),
            ("m > 1", "__name__=m *"),
            ("m > bool 1", "*"),
            ("1 - m{a=\"x\"}", "a=x *"),
            ("sum(m)", ""),
            ("sum by (a, b) (m{a=\"x\"})", "a=x b?"),
            ("sum without (a) (m{b!=\"\"})", "-a b *"),
            ("topk by (a) (1, m)", "__name__=m *"),
            ("count_values(\"v\", m)", "v"),
            ("count_values without (a) (\"v\", m)", "-a v *"),
            ("m or n{a=\"x\"}", "__name__=m * | __name__=n a=x *"),
            ("sum(m) or vector(0)", ""),
            ("sum by (a) (m or n{a=\"x\"})", "a? | a=x"),
            ("m and on (a) n{a=\"x\"}", "__name__=m a=x *"),
            ("m unless on (a) n{a=\"x\"}", "__name__=m *"),
            ("sum by (a) (m) / on (a) n", "a?"),
            ("m / ignoring (c) n{a!=\"\"}", "a -c *"),
            ("m / sum by (a) (n)", "a?"),
            ("m{b=\"x\"} / sum by (a) (n)", ""),
            ("m{b=\"x\"} and sum by (a) (n)", ""),
            ("m * on (a) group_left (x, y) n{x=\"1\"}", "x=1 *"),
            ("sum by (a) (m) * on (a) group_left (x) n", "a? x?"),
            ("n{x=\"1\"} * on (a) group_right (x) m", "x=1 *"),
            ("m == on (a) n", "a?"),
            ("m == n", "__name__=m *"),
            ("label_replace(m, \"d\", \"x\", \"\", \"\")", "__name__=m d=x *"),
            ("label_replace(sum(m), \"d\", \"$1\", \"s\", \"(.+)\")", ""),
            ("label_replace(sum by (s) (m), \"d\", \"$1\", \"s\", \"(.+)\")", "d? s?"),
            ("label_replace(m, \"d\", \"\", \"s\", \".*\")", "__name__=m -d *"),
            ("label_join(sum by (s) (m{s=\"1\"}), \"d\", \"\", \"s\", \"t\")", "d s=1"),
            ("label_join(sum by (s) (m), \"d\", \"-\", \"s\", \"t\")", "d s?"),
            ("absent(m{a=\"x\", b=~\"y\", c=\"p\", c=\"q\"})", "a=x"),
            ("absent((m{a=\"x\"}))", "a=x"),
            ("absent(sum(m{a=\"x\"}))", ""),
            ("absent_over_time(m{a=\"x\"}[5m])", "a=x"),
            ("histogram_quantile(0.9, sum by (le, a) (rate(m[5m])))", "a?"),
            ("histogram_quantile(0.9, rate(m[5m]))", "-le *"),
            ("info(sum by (a) (m))", "*"),
            ("max_over_time(sum by (a) (m)[1h:5m])", "a?"),
            ("scalar(m)", ""),
            ("sum by (a) (m) + fill(0) sum by (a, b) (n{b=\"x\"})", "a? | a? b=x"),
        ] {
            assert_eq!(show(text), want, "{text}");
        }
        assert_eq!(analyze(&parse("m{a=\"x\",a=\"y\"}", &features()).unwrap()).len(), 0);
        assert_eq!(analyze(&parse("m{b=\"x\"} / sum by (a) (n)", &features()).unwrap()).len(), 0);
        assert_eq!(analyze(&parse("sum(m) or vector(0)", &features()).unwrap()).len(), 1);
    }

    #[test]
    fn the_part_that_drops_a_label_is_known() {
        let text = "sum by (job) (rate(m{a=\"x\"}[5m])) > 1";
        let sets = analyze(&parse(text, &features()).unwrap());
        let at = sets[0].decided_at("instance");
        assert_eq!(&text[at.start as usize..at.end as usize], "sum by (job) (rate(m{a=\"x\"}[5m]))");
    }

    #[test]
    fn chains_of_thousands_are_taken_in_a_loop() {
        let text = vec!["m"; 20_000].join(" + ");
        let parsed = std::thread::Builder::new()
            .stack_size(64 << 20)
            .spawn(move || parse(&text, &features()).unwrap());
        let expr = parsed.unwrap().join().unwrap();
        assert_eq!(analyze(&expr).len(), 1);
        let many: Vec<String> = (0..300).map(|i| format!("m{{a=\"{i}\"}}")).collect();
        let sets = analyze(&parse(&many.join(" or "), &features()).unwrap());
        assert!(sets.len() <= MOST_ARMS);
        assert!(sets.iter().any(|s| s.admits(&Labels::from_pairs([("__name__", "m"), ("a", "7")]))));
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % n as u64) as usize
        }

        fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
            list[self.below(list.len())]
        }

        fn names(&mut self) -> String {
            let n = self.below(3);
            (0..n).map(|_| self.of(&["a", "b", "c", "__name__", "z"])).collect::<Vec<_>>().join(", ")
        }

        fn selector(&mut self) -> String {
            let mut matchers = Vec::new();
            for _ in 0..self.below(3) {
                let kind = self.of(&["=", "!=", "=~", "!~"]);
                let value = self.of(&["", "x", "y", "x|y", ".+", ".*", "|x"]);
                matchers.push(format!("{}{kind}\"{value}\"", self.of(&["a", "b", "c"])));
            }
            format!("{}{{{}}}", self.of(&["m", "n", "target_info", "h_bucket"]), matchers.join(","))
        }

        fn vector(&mut self, depth: usize) -> String {
            if depth == 0 {
                return self.selector();
            }
            let d = depth - 1;
            match self.below(16) {
                0 | 1 => self.selector(),
                2 => format!("rate({}[5m])", self.selector()),
                3 => {
                    format!("{}(({})[10m:1m])", self.of(&["last_over_time", "max_over_time"]), self.vector(d))
                }
                4 | 5 => {
                    let op = self.of(&["sum", "max", "topk", "count_values", "quantile", "limitk"]);
                    let clause = self.of(&["by", "without"]);
                    let param = match op {
                        "topk" | "limitk" => "2, ",
                        "count_values" => self.of(&["\"a\", ", "\"v\", "]),
                        "quantile" => "0.5, ",
                        _ => "",
                    };
                    format!("{op} {clause} ({}) ({param}{})", self.names(), self.vector(d))
                }
                6..=9 => {
                    let op = self.of(&["+", "/", ">=", "== bool", "and", "or", "unless", "or", "*"]);
                    let is_set = matches!(op, "and" | "or" | "unless");
                    let clause = self.of(&["on", "ignoring"]);
                    let names = self.names();
                    let matching = match self.below(4) {
                        0 => String::new(),
                        1 => format!("{clause} ({names})"),
                        _ if is_set => format!("{clause} ({names})"),
                        2 => {
                            let side = self.of(&["group_left", "group_right"]);
                            format!(
                                "{clause} ({}) {side} ({})",
                                self.of(&["a", "b"]),
                                self.of(&["c", "z", ""])
                            )
                        }
                        _ => format!("{clause} ({names}) fill(1)"),
                    };
                    format!("({}) {op} {matching} ({})", self.vector(d), self.vector(d))
                }
                10 => format!("({}) {} 1", self.vector(d), self.of(&["+", ">=", "!= bool", "^"])),
                11 => {
                    let (dst, src) =
                        (self.of(&["a", "d", "__name__"]), self.of(&["a", "b", "d", "__name__"]));
                    let replacement = self.of(&["", "x", "$1", "p-$1", "$nope", "${1}x", "$$", "$1x"]);
                    let regex = self.of(&[".*", "(.*)", "(.+)", "x", "", "(y)|x"]);
                    format!(
                        "label_replace({}, \"{dst}\", \"{replacement}\", \"{src}\", \"{regex}\")",
                        self.vector(d)
                    )
                }
                12 => {
                    let (a, b) = (self.of(&["a", "b", "d"]), self.of(&["c", "z"]));
                    let separator = self.of(&["", "-"]);
                    let sources =
                        if self.below(2) == 0 { format!(", \"{a}\"") } else { format!(", \"{a}\", \"{b}\"") };
                    format!("label_join({}, \"d\", \"{separator}\"{sources})", self.vector(d))
                }
                13 => format!(
                    "{}({})",
                    self.of(&["abs", "-", "sort", "absent", "timestamp", "+", "info"]),
                    self.vector(d)
                ),
                14 => format!("histogram_quantile(0.5, {})", self.vector(d)),
                _ => self.of(&["vector(1)", "vector(time())", "absent(nope{a=\"x\",b=\"\"})"]).to_string(),
            }
        }
    }

    fn random_store(random: &mut Random) -> MemoryStore {
        let mut store = MemoryStore::new(AppenderOptions::default());
        for _ in 0..12 {
            let name = random.of(&["m", "n", "m", "n", "target_info", "h_bucket"]);
            let mut pairs = vec![("__name__", name)];
            for label in ["a", "b", "c"] {
                pairs.push((label, random.of(&["", "x", "y"])));
            }
            for label in ["job", "instance"] {
                pairs.push((label, random.of(&["", "i"])));
            }
            if name == "h_bucket" {
                pairs.push(("le", random.of(&["1", "2", "+Inf"])));
            }
            let labels = Labels::from_pairs(pairs);
            for k in 0..10 {
                let value = MemorySample::Float((k * random.below(3)) as f64);
                store.append(&labels, k as i64 * 60_000, 0, &value).unwrap();
            }
        }
        store
    }

    #[test]
    fn what_an_evaluation_gives_fits_the_analysis() {
        let options = QueryOptions { threads: 1, features: features(), ..QueryOptions::default() };
        let control = Control::default();
        let (mut elements, mut tight) = (0, 0);
        engine::on_big_stack(|| {
            for seed in 0..6000 {
                let mut random = Random(seed);
                let store = random_store(&mut random);
                let text = random.vector(3);
                let expr = parse(&text, &features()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
                let sets = analyze(&expr);
                let time = QueryTime::Instant(540_000);
                let Ok(result) = engine::run_parsed(&store, &expr, time, &options, &control) else {
                    continue;
                };
                let Value::Vector(vector) = &result.value else { panic!("{text} is no vector") };
                for element in vector {
                    let labels = result.labels(&element.labels);
                    assert!(
                        sets.iter().any(|s| s.admits(&labels)),
                        "seed {seed}: {text} gives {labels}, which fits none of {sets:#?}"
                    );
                    elements += 1;
                    tight += usize::from(sets.iter().all(|s| !s.is_open()));
                }
            }
        });
        assert!(elements > 5000 && tight > 500, "{elements} elements, {tight} of closed sets");
    }
}
