//! Binary operators, a step at a time.

use std::collections::BTreeSet;

use tsdbctl_model::CounterResetHint;
use tsdbctl_model::go_math;
use tsdbctl_model::histogram::HistogramError;
use tsdbctl_promql::parser::ast::{BinaryOp, Cardinality, VectorMatching};
use tsdbctl_storage::annotations::{Annotation, HistogramOperation};

use crate::evaluate::Outcome;
use crate::tree::Binary;
use crate::value::{Hist, Metric, Notes, Sample, set_label, text_of, value_of, without_metadata};

/// What series must have in common to meet.
pub fn signature(metric: &Metric, matching: &VectorMatching) -> Metric {
    matched(metric, matching)
}

/// The labels a match is made by.
fn matched(metric: &Metric, matching: &VectorMatching) -> Metric {
    let listed = |n: &String| matching.labels.contains(n);
    metric
        .iter()
        .filter(|(n, _)| if matching.on { listed(n) } else { !listed(n) && *n != "__name__" })
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

fn truth(b: bool) -> f64 {
    if b { 1.0 } else { 0.0 }
}

pub fn scalars(op: BinaryOp, l: f64, r: f64) -> Result<f64, String> {
    let Some((v, keep)) = floats(op, l, r) else {
        return Err(format!("operator \"{}\" not allowed for Scalar operations", op.as_str()));
    };
    Ok(if op.is_comparison() { truth(keep) } else { v })
}

fn floats(op: BinaryOp, l: f64, r: f64) -> Option<(f64, bool)> {
    Some(match op {
        BinaryOp::Add => (l + r, true),
        BinaryOp::Sub => (l - r, true),
        BinaryOp::Mul => (l * r, true),
        BinaryOp::Div => (l / r, true),
        BinaryOp::Pow => (go_math::pow(l, r), true),
        BinaryOp::Mod => (go_math::mod_(l, r), true),
        BinaryOp::Atan2 => (go_math::atan2(l, r), true),
        BinaryOp::Eql => (l, l == r),
        BinaryOp::Neq => (l, l != r),
        BinaryOp::Gtr => (l, l > r),
        BinaryOp::Lss => (l, l < r),
        BinaryOp::Gte => (l, l >= r),
        BinaryOp::Lte => (l, l <= r),
        _ => return None,
    })
}

/// An element's result; `problem` is what upstream returns as error beside it.
struct Element {
    f: f64,
    h: Option<Hist>,
    keep: bool,
    info: Option<Annotation>,
    problem: Option<Problem>,
}

enum Problem {
    Info(Annotation),
    Warning(Annotation),
    Layout,
    Other,
}

fn element(b: &Binary, l: f64, r: f64, hl: Option<&Hist>, hr: Option<&Hist>) -> Element {
    let op = b.op;
    let mut out = Element { f: 0.0, h: None, keep: false, info: None, problem: None };
    let refuse = |l: &str, r: &str| {
        Some(Problem::Info(Annotation::incompatible_types_in_binop(l, op.as_str(), r, b.span)))
    };
    match (hl, hr) {
        (None, None) => match floats(op, l, r) {
            Some((f, keep)) => (out.f, out.keep) = (f, keep),
            None => out.problem = refuse("float", "float"),
        },
        (None, Some(h)) => {
            if op == BinaryOp::Mul {
                let mut h = (**h).clone();
                h.mul(l).compact(0);
                (out.h, out.keep) = (Some(h.into()), true);
            } else {
                out.problem = refuse("float", "histogram");
            }
        }
        (Some(h), None) => {
            let mut h = (**h).clone();
            match op {
                BinaryOp::Mul => drop(h.mul(r).compact(0)),
                BinaryOp::Div => drop(h.div(r).compact(0)),
                BinaryOp::TrimUpper => drop(h.trim_buckets(r, true)),
                BinaryOp::TrimLower => drop(h.trim_buckets(r, false)),
                _ => {
                    out.problem = refuse("histogram", "float");
                    return out;
                }
            }
            (out.h, out.keep) = (Some(h.into()), true);
        }
        (Some(hl), Some(hr)) => match op {
            BinaryOp::Add | BinaryOp::Sub => {
                let operation = if op == BinaryOp::Add {
                    HistogramOperation::Addition
                } else {
                    HistogramOperation::Subtraction
                };
                let mut h = (**hl).clone();
                let result = if op == BinaryOp::Add { h.add(hr) } else { h.sub(hr) };
                match result {
                    Err(HistogramError::IncompatibleSchema) => out.problem = Some(Problem::Layout),
                    Err(_) => out.problem = Some(Problem::Other),
                    Ok(o) => {
                        if op == BinaryOp::Sub {
                            h.counter_reset_hint = CounterResetHint::Gauge;
                        }
                        if o.counter_reset_collision {
                            let it = Annotation::histogram_counter_reset_collision(operation, b.span);
                            out.problem = Some(Problem::Warning(it));
                        }
                        if o.nhcb_bounds_reconciled {
                            out.info = Some(Annotation::mismatched_custom_buckets(operation, b.span));
                        }
                        h.compact(0);
                        (out.h, out.keep) = (Some(h.into()), true);
                    }
                }
            }
            BinaryOp::Eql => (out.h, out.keep) = (Some(hl.clone()), hl.equals(hr)),
            BinaryOp::Neq => (out.h, out.keep) = (Some(hl.clone()), !hl.equals(hr)),
            _ => out.problem = refuse("histogram", "histogram"),
        },
    }
    out
}

fn note(b: &Binary, last: Option<Problem>) -> Notes {
    match last {
        Some(Problem::Info(a) | Problem::Warning(a)) => Notes::of(a),
        Some(Problem::Layout) => Notes::of(Annotation::incompatible_bucket_layout(b.op.as_str(), b.span)),
        Some(Problem::Other) | None => Notes::default(),
    }
}

fn changes_schema(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Div
            | BinaryOp::Mul
            | BinaryOp::Pow
            | BinaryOp::Mod
            | BinaryOp::Atan2
    )
}

pub fn with_scalar(
    b: &Binary,
    vector: Vec<Sample>,
    scalar: f64,
    swap: bool,
    delayed: bool,
) -> (Vec<Sample>, Notes) {
    let mut out = Vec::new();
    let mut last = None;
    for mut s in vector {
        let h = s.h.clone();
        let e = if swap {
            element(b, scalar, s.f, None, h.as_ref())
        } else {
            element(b, s.f, scalar, h.as_ref(), None)
        };
        if let Some(p) = e.problem
            && !matches!(p, Problem::Warning(_))
        {
            last = Some(p);
            continue;
        }
        let (mut f, mut h, mut keep) = (e.f, e.h, e.keep);
        if b.op.is_comparison() && swap {
            (f, h) = (s.f, s.h.clone());
        }
        if b.return_bool {
            f = truth(keep);
            keep = true;
        }
        if keep {
            s.f = f;
            s.h = h.take();
            if changes_schema(b.op) || b.return_bool {
                if !delayed {
                    s.metric = without_metadata(&s.metric);
                }
                s.drop_name = true;
            }
            out.push(s);
        }
    }
    (out, note(b, last))
}

pub fn set_operation(op: BinaryOp, lhs: Vec<Sample>, rhs: Vec<Sample>) -> Vec<Sample> {
    let groups = |v: &[Sample]| v.iter().map(|s| s.group).collect::<BTreeSet<usize>>();
    let (left, right) = (groups(&lhs), groups(&rhs));
    match op {
        BinaryOp::And => lhs.into_iter().filter(|s| right.contains(&s.group)).collect(),
        BinaryOp::Unless => lhs.into_iter().filter(|s| !right.contains(&s.group)).collect(),
        _ => lhs.into_iter().chain(rhs.into_iter().filter(|s| !left.contains(&s.group))).collect(),
    }
}

fn result_metric(b: &Binary, m: &VectorMatching, l: &Metric, r: &Metric, drop: bool) -> Metric {
    let mut out = if drop || changes_schema(b.op) { without_metadata(l) } else { l.clone() };
    if m.card == Cardinality::OneToOne {
        out.retain(|n, _| m.labels.contains(n) == m.on);
    }
    for n in &m.include {
        set_label(&mut out, n, value_of(r, n));
    }
    out
}

pub fn vectors(b: &Binary, m: &VectorMatching, lhs: Vec<Sample>, rhs: Vec<Sample>, delayed: bool) -> Outcome {
    let fills = m.fill_left.is_some() || m.fill_right.is_some();
    if lhs.is_empty() && rhs.is_empty() || (lhs.is_empty() || rhs.is_empty()) && !fills {
        return Ok((Vec::new(), Notes::default()));
    }
    let swapped = m.card == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let mut ones: std::collections::BTreeMap<usize, Sample> = std::collections::BTreeMap::new();
    for s in &one {
        if let Some(other) = ones.get(&s.group) {
            let mut two = [text_of(&s.metric), text_of(&other.metric)];
            two.sort();
            return Err(format!(
                "found duplicate series for the match group {} on the {} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                text_of(&matched(&s.metric, m)),
                if swapped { "left" } else { "right" },
                two[0],
                two[1],
            ));
        }
        ones.insert(s.group, s.clone());
    }
    let mut out: Vec<Sample> = Vec::new();
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    let mut given: BTreeSet<(usize, Metric)> = BTreeSet::new();
    let mut last: Option<Problem> = None;
    let mut operate = |l: &Sample,
                       r: &Sample,
                       group: usize,
                       taken: &mut BTreeSet<usize>|
     -> Result<(), String> {
        let (a, z) = if swapped { (r, l) } else { (l, r) };
        let e = element(b, a.f, z.f, a.h.as_ref(), z.h.as_ref());
        if let Some(p) = e.problem {
            last = Some(p);
            return Ok(());
        }
        if let Some(info) = e.info {
            last = Some(Problem::Info(info));
        }
        let (mut f, mut h) = (e.f, e.h);
        if b.return_bool {
            (f, h) = (truth(e.keep), None);
        }
        let metric = result_metric(b, m, &l.metric, &r.metric, !delayed && b.return_bool);
        if m.card == Cardinality::OneToOne {
            if !taken.insert(group) {
                return Err("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".to_string());
            }
        } else {
            taken.insert(group);
            if !given.insert((group, metric.clone())) {
                return Err(
                    "multiple matches for labels: grouping labels must ensure unique matches".to_string()
                );
            }
        }
        if e.keep || b.return_bool {
            out.push(Sample { metric, f, h, drop_name: b.return_bool, ..Sample::default() });
        }
        Ok(())
    };
    // Of `fill_left` and `fill_right` upstream takes the sides after the swap.
    let (fill_many, fill_one) = (m.fill_left, m.fill_right);
    for l in &many {
        let filled;
        let r = match (ones.get(&l.group), fill_one) {
            (Some(r), _) => r,
            (None, Some(f)) => {
                filled = Sample { metric: matched(&l.metric, m), f, ..Sample::default() };
                &filled
            }
            (None, None) => continue,
        };
        operate(l, r, l.group, &mut taken)?;
    }
    if let Some(f) = fill_many {
        for r in &one {
            if taken.contains(&r.group) {
                continue;
            }
            let l = Sample { metric: matched(&r.metric, m), f, ..Sample::default() };
            operate(&l, r, r.group, &mut taken)?;
        }
    }
    Ok((out, note(b, last)))
}
