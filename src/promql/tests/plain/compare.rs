//! Runs a case through the engine and the plain evaluator, and tells where they differ.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tsdbctl_model::FloatHistogram;
use tsdbctl_promql::engine::{self, Points, QueryOptions, QueryResult, QueryTime, Sample, StepGrid, Value};
use tsdbctl_promql::parser;
use tsdbctl_promql::parser::ast::{Expr, ValueType};
use tsdbctl_storage::{Control, MemoryStore};

use crate::evaluate::{Answer, AnswerValue, Query, TOO_MANY, evaluate};
use crate::value::Metric;

/// A query over generated data.
#[derive(Clone)]
pub struct Case {
    pub seed: u64,
    pub text: String,
    pub time: QueryTime,
    pub options: QueryOptions,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let o = &self.options;
        let (d, s, t) = (
            o.features.delayed_name_removal,
            o.features.use_start_timestamps,
            o.features.type_and_unit_labels,
        );
        write!(
            f,
            "data {}, {:?}, lookback {}, subquery step {}, max samples {}, threads {}, delayed {d}, starts {s}, types {t}\n  {}",
            self.seed,
            self.time,
            o.lookback_delta,
            o.default_subquery_step,
            o.max_samples,
            o.threads,
            self.text
        )
    }
}

/// One series of an answer, in a form that both sides can be brought into.
#[derive(Clone, Debug)]
struct Row {
    labels: String,
    metric: Metric,
    points: Vec<(i64, Point)>,
}

#[derive(Clone, Debug)]
enum Point {
    Float(f64),
    Histogram(Box<FloatHistogram>),
}

fn same_float(a: f64, b: f64, loose: bool) -> bool {
    if a.is_nan() && b.is_nan() || a.to_bits() == b.to_bits() {
        return true;
    }
    loose && (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9)
}

fn same_histogram(a: &FloatHistogram, b: &FloatHistogram, loose: bool) -> bool {
    let all =
        |x: &[f64], y: &[f64]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same_float(*x, *y, loose));
    same_float(a.count, b.count, loose)
        && same_float(a.sum, b.sum, loose)
        && same_float(a.zero_count, b.zero_count, loose)
        && (a.uses_custom_buckets() || a.zero_threshold == b.zero_threshold)
        && a.schema == b.schema
        && (loose || a.counter_reset_hint == b.counter_reset_hint)
        && (loose || a.positive_spans == b.positive_spans && a.negative_spans == b.negative_spans)
        && all(a.custom_bounds(), b.custom_bounds())
        && (loose || all(&a.positive_buckets, &b.positive_buckets))
        && (loose || all(&a.negative_buckets, &b.negative_buckets))
}

fn same_point(a: &Point, b: &Point, loose: bool) -> bool {
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => same_float(*a, *b, loose),
        (Point::Histogram(a), Point::Histogram(b)) => same_histogram(a, b, loose),
        _ => false,
    }
}

fn row(metric: Metric, points: Vec<(i64, Point)>) -> Row {
    Row { labels: crate::value::text_of(&metric), metric, points }
}

fn rows_of_engine(r: &QueryResult) -> Vec<Row> {
    let metric = |l: &[_]| r.labels(l).iter().map(|l| (l.name.clone(), l.value.clone())).collect::<Metric>();
    let point = |s: &Sample| match s {
        Sample::Float(v) => Point::Float(*v),
        Sample::Histogram(h) => Point::Histogram(Box::new((**h).clone())),
    };
    match &r.value {
        Value::Scalar { v, t } => vec![row(Metric::new(), vec![(*t, Point::Float(*v))])],
        Value::String { v, t } => {
            let m = Metric::from([("text".to_string(), v.clone())]);
            vec![row(m, vec![(*t, Point::Float(0.0))])]
        }
        Value::Vector(v) => v.iter().map(|e| row(metric(&e.labels), vec![(e.t, point(&e.sample))])).collect(),
        Value::Matrix { grid, series } => series
            .iter()
            .map(|s| {
                let mut points: Vec<(i64, Point)> = Vec::new();
                match &s.points {
                    Points::Grid(c) => {
                        let grid: &StepGrid = grid;
                        points.extend(c.float_steps().map(|k| (grid.time(k), Point::Float(c.values[k]))));
                        for (k, h) in &c.histograms {
                            points.push((grid.time(*k as usize), Point::Histogram(Box::new((**h).clone()))));
                        }
                    }
                    Points::Raw(c) => {
                        points
                            .extend(c.floats.t.iter().zip(&c.floats.v).map(|(t, v)| (*t, Point::Float(*v))));
                        for (t, h) in c.histograms.t.iter().zip(&c.histograms.h) {
                            points.push((*t, Point::Histogram(Box::new((**h).clone()))));
                        }
                    }
                }
                points.sort_by_key(|p| p.0);
                row(metric(&s.labels), points)
            })
            .collect(),
    }
}

fn rows_of_plain(a: &Answer, time: QueryTime) -> (Vec<Row>, bool) {
    let t = match time {
        QueryTime::Instant(t) => t,
        QueryTime::Range { start, .. } => start,
    };
    match &a.value {
        AnswerValue::Scalar(v) => (vec![row(Metric::new(), vec![(t, Point::Float(*v))])], false),
        AnswerValue::Text(v) => {
            let m = Metric::from([("text".to_string(), v.clone())]);
            (vec![row(m, vec![(t, Point::Float(0.0))])], false)
        }
        AnswerValue::Vector(v, shuffled) => {
            let rows = v
                .iter()
                .map(|s| {
                    let p = match &s.h {
                        Some(h) => Point::Histogram(Box::new((**h).clone())),
                        None => Point::Float(s.f),
                    };
                    row(s.metric.clone(), vec![(s.t, p)])
                })
                .collect();
            (rows, *shuffled)
        }
        AnswerValue::Matrix(m) => {
            let rows = m
                .iter()
                .map(|s| {
                    let floats = s.floats.iter().map(|p| (p.0, Point::Float(p.1)));
                    let histograms =
                        s.histograms.iter().map(|p| (p.0, Point::Histogram(Box::new((*p.1).clone()))));
                    let mut points: Vec<(i64, Point)> = floats.chain(histograms).collect();
                    points.sort_by_key(|p| p.0);
                    row(s.metric.clone(), points)
                })
                .collect();
            (rows, true)
        }
    }
}

fn parsed(case: &Case) -> Result<Expr, String> {
    let mut expr =
        parser::parse(&case.text, &case.options.features).map_err(|e| e.api_message(&case.text))?;
    if matches!(case.time, QueryTime::Range { .. })
        && !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector)
    {
        return Err("not for a range".to_string());
    }
    engine::plan::prepare(&mut expr, case.time).map_err(|e| e.message)?;
    Ok(expr)
}

/// How a case went.
pub enum Verdict {
    /// No expression: the generator made something that is refused.
    Refused(String),
    /// Equal answers; `samples` points were compared.
    Same {
        samples: usize,
    },
    /// Both failed alike.
    SameError(String),
    /// Upstream owes no answer of its own.
    Chance,
    Different(String),
}

/// Compares both evaluators on a case.
pub fn compare(case: &Case, store: &MemoryStore) -> Verdict {
    let expr = match parsed(case) {
        Ok(expr) => expr,
        Err(e) => return Verdict::Refused(e),
    };
    let query = Query {
        storage: store,
        options: case.options,
        loose: Cell::new(false),
        chosen_by_chance: Cell::new(false),
        two_kinds: Cell::new(false),
    };
    let plain = match catch_unwind(AssertUnwindSafe(|| evaluate(&query, &case.text, &expr, case.time))) {
        Ok(answer) => answer,
        Err(p) => return Verdict::Different(format!("the plain evaluator panics: {}", panic_text(&p))),
    };
    let run = || engine::run(store, &case.text, case.time, &case.options, &Control::default());
    let fast = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(answer) => answer,
        Err(p) => return Verdict::Different(format!("the engine panics: {}", panic_text(&p))),
    };
    if query.chosen_by_chance.get() || query.two_kinds.get() {
        return Verdict::Chance;
    }
    let loose = query.loose.get();
    let (plain, fast) = match (plain, fast) {
        (Err(a), Err(b)) if a == b.message => return Verdict::SameError(a),
        // Of two errors of different nodes either may come first here; the limit is only known at the end.
        (Err(a), Err(b)) if a == TOO_MANY || kind_of_error(&a) != kind_of_error(&b.message) => {
            return Verdict::SameError(a);
        }
        // Which twins are found first hangs on an order that upstream leaves to chance in ranges.
        (Err(a), Err(b)) if names_twins(&a) && names_twins(&b.message) && evaluates_ranges(case) => {
            return Verdict::SameError(a);
        }
        (Err(a), Err(b)) => {
            return Verdict::Different(format!("plain error: {a}\nengine error: {}", b.message));
        }
        (Err(a), Ok(_)) => return Verdict::Different(format!("plain error: {a}\nthe engine answers")),
        // Some peaks upstream does not compare with the limit: results of aggregations.
        (Ok(a), Err(b)) if b.message == TOO_MANY && a.counts.peak > case.options.max_samples as i64 => {
            return Verdict::SameError(b.message);
        }
        (Ok(_), Err(b)) => return Verdict::Different(format!("engine error: {}\nplain answers", b.message)),
        (Ok(a), Ok(b)) => (a, b),
    };
    let (mut want, any_order) = rows_of_plain(&plain, case.time);
    let mut got = rows_of_engine(&fast);
    if any_order {
        want.sort_by(|a, b| a.metric.cmp(&b.metric));
        got.sort_by(|a, b| a.metric.cmp(&b.metric));
    }
    if want.len() != got.len() || want.iter().zip(&got).any(|(w, g)| w.labels != g.labels) {
        let list = |rows: &[Row]| rows.iter().map(|r| r.labels.as_str()).collect::<Vec<_>>().join("\n    ");
        return Verdict::Different(format!(
            "series\n  plain:\n    {}\n  engine:\n    {}",
            list(&want),
            list(&got)
        ));
    }
    let mut samples = 0;
    for (w, g) in want.iter().zip(&got) {
        samples += w.points.len();
        let bad = w.points.iter().zip(&g.points).find(|(w, g)| w.0 != g.0 || !same_point(&w.1, &g.1, loose));
        if let Some((w_point, g_point)) = bad {
            return Verdict::Different(format!(
                "{} (loose: {loose})\n  plain:  {w_point:?}\n  engine: {g_point:?}",
                w.labels
            ));
        }
        if w.points.len() != g.points.len() {
            let times = |r: &Row| r.points.iter().map(|p| p.0.to_string()).collect::<Vec<_>>().join(" ");
            return Verdict::Different(format!(
                "{}\n  plain at:  {}\n  engine at: {}",
                w.labels,
                times(w),
                times(g)
            ));
        }
    }
    let mut notes: Vec<String> = plain.notes.clone();
    let mut got_notes: Vec<String> = fast.annotations.iter().map(|a| a.render(&case.text)).collect();
    notes.sort();
    got_notes.sort();
    if notes != got_notes && !loose {
        return Verdict::Different(format!(
            "annotations\n  plain:\n    {}\n  engine:\n    {}",
            notes.join("\n    "),
            got_notes.join("\n    ")
        ));
    }
    if loose || std::env::var("TSDBCTL_RANDOM_STATS").is_ok_and(|v| v == "0") {
        return Verdict::Same { samples };
    }
    let stats = &fast.stats;
    let c = &plain.counts;
    let values = |l: &Option<Vec<(i64, i64)>>| l.iter().flatten().map(|p| p.1).collect::<Vec<i64>>();
    let want_counts = (c.total, c.read, c.peak, c.total_per_step.clone(), c.read_per_step.clone());
    let got_counts = (
        stats.total_queryable_samples,
        stats.samples_read,
        stats.peak_samples,
        values(&stats.total_per_step),
        values(&stats.read_per_step),
    );
    // Windows over a subquery follow its series, whose order upstream leaves to chance: so is the peak.
    let peak_is_owed = !has_subquery(case);
    let same_but_peak = (want_counts.0, want_counts.1, &want_counts.3, &want_counts.4)
        == (got_counts.0, got_counts.1, &got_counts.3, &got_counts.4);
    if !same_but_peak || peak_is_owed && want_counts.2 != got_counts.2 {
        return Verdict::Different(format!(
            "total, read, peak, per step\n  plain:  {want_counts:?}\n  engine: {got_counts:?}"
        ));
    }
    Verdict::Same { samples }
}

fn kind_of_error(text: &str) -> &str {
    text.get(..20).unwrap_or(text)
}

fn names_twins(text: &str) -> bool {
    text.starts_with("found duplicate series for the match group")
}

/// Whether some part is evaluated at several steps: the whole, or a subquery.
fn evaluates_ranges(case: &Case) -> bool {
    matches!(case.time, QueryTime::Range { .. }) || has_subquery(case)
}

fn has_subquery(case: &Case) -> bool {
    case.text.contains(":]") || case.text.contains("s:") || case.text.contains("m:")
}

fn panic_text(p: &Box<dyn std::any::Any + Send>) -> String {
    p.downcast_ref::<String>()
        .cloned()
        .or_else(|| p.downcast_ref::<&str>().map(|s| s.to_string()))
        .unwrap_or_else(|| "?".to_string())
}

fn parts(expr: &Expr, out: &mut Vec<(usize, usize)>) {
    let span = expr.span();
    out.push((span.start as usize, span.end as usize));
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) => {}
        Expr::Paren(p) => parts(&p.expr, out),
        Expr::Unary(u) => parts(&u.expr, out),
        Expr::Binary(b) => {
            parts(&b.lhs, out);
            parts(&b.rhs, out);
        }
        Expr::Aggregate(a) => {
            parts(&a.expr, out);
            if let Some(p) = &a.param {
                parts(p, out);
            }
        }
        Expr::Call(c) => c.args.iter().for_each(|a| parts(a, out)),
        Expr::Matrix(m) => out.push((m.selector.span.start as usize, m.selector.span.end as usize)),
        Expr::Subquery(s) => parts(&s.expr, out),
    }
}

/// A smaller case that still differs: a part of the expression, fewer steps, plainer options.
pub fn shrink(mut case: Case, store: &MemoryStore) -> (Case, String) {
    let differs = |c: &Case| match compare(c, store) {
        Verdict::Different(why) => Some(why),
        _ => None,
    };
    let mut why = differs(&case).unwrap_or_default();
    loop {
        let mut candidates: Vec<Case> = Vec::new();
        if let Ok(expr) = parser::parse(&case.text, &case.options.features) {
            let mut spans = Vec::new();
            parts(&expr, &mut spans);
            spans.sort_by_key(|(a, b)| b - a);
            for (a, b) in &spans {
                if b - a < case.text.len() {
                    candidates.push(Case { text: case.text[*a..*b].to_string(), ..case.clone() });
                }
            }
            // Or one part in place of another that encloses it.
            for (a, b) in &spans {
                for (x, y) in &spans {
                    if a <= x && y <= b && y - x < b - a {
                        let text = format!("{}{}{}", &case.text[..*a], &case.text[*x..*y], &case.text[*b..]);
                        candidates.push(Case { text, ..case.clone() });
                    }
                }
            }
        }
        if let QueryTime::Range { start, end, step } = case.time {
            let steps = (end - start) / step;
            for k in 0..=steps {
                candidates.push(Case { time: QueryTime::Instant(start + k * step), ..case.clone() });
            }
            if steps > 0 {
                let half = start + steps / 2 * step;
                candidates.push(Case { time: QueryTime::Range { start, end: half, step }, ..case.clone() });
                candidates
                    .push(Case { time: QueryTime::Range { start: start + step, end, step }, ..case.clone() });
                candidates
                    .push(Case { time: QueryTime::Range { start, end: end - step, step }, ..case.clone() });
            }
        }
        let f = case.options.features;
        for flip in 0..3 {
            let mut c = case.clone();
            match flip {
                0 if f.delayed_name_removal => c.options.features.delayed_name_removal = false,
                1 if f.use_start_timestamps => c.options.features.use_start_timestamps = false,
                2 if f.type_and_unit_labels => c.options.features.type_and_unit_labels = false,
                _ => continue,
            }
            candidates.push(c);
        }
        let smaller = candidates.into_iter().find_map(|c| differs(&c).map(|w| (c, w)));
        match smaller {
            Some((c, w)) => (case, why) = (c, w),
            None => return (case, why),
        }
    }
}
