//! `info`: labels of info series joined to the series of an expression.

use std::collections::{BTreeMap, BTreeSet};

use tsdbctl_model::Matcher;
use tsdbctl_model::matcher::MatchType;

use crate::evaluate::{Evaluator, TWINS, take_at};
use crate::tree::Node;
use crate::value::{Matrix, Metric, Notes, Sample, Series, set_label, step_samples, text_of, value_of};

fn effective(matchers: &[&Matcher]) -> Vec<Matcher> {
    let own: Vec<Matcher> = matchers.iter().map(|m| (*m).clone()).collect();
    if own.iter().any(|m| matches!(m.kind, MatchType::Equal | MatchType::Regexp)) {
        return own;
    }
    if own.is_empty() {
        return vec![Matcher::equal("__name__", "target_info")];
    }
    let mut out = vec![Matcher::new(MatchType::Regexp, "__name__", ".+_info").expect("valid")];
    out.extend(own);
    out
}

/// `@` and offset of the first selector, those of enclosing subqueries taken in.
fn first_selector(node: &Node, above: &mut Vec<(i64, Option<i64>)>) -> Option<(Option<i64>, i64)> {
    match node {
        Node::Number(..) | Node::Text(..) => None,
        Node::Paren(n, _) | Node::Unary(_, n, _) | Node::Invariant(n) => first_selector(n, above),
        Node::Binary(b) => first_selector(&b.lhs, above).or_else(|| first_selector(&b.rhs, above)),
        Node::Aggregate(a) => {
            first_selector(&a.expr, above).or_else(|| a.param.as_ref().and_then(|p| first_selector(p, above)))
        }
        Node::Call(c) => c.args.iter().find_map(|a| first_selector(a, above)),
        Node::Vector(v) | Node::Matrix(v, ..) => {
            let (mut t, mut offset) = (v.timestamp, v.original_offset);
            for (o, outer_t) in above.iter().rev() {
                if t.is_some() {
                    break;
                }
                offset += o;
                t = *outer_t;
            }
            Some((t, offset))
        }
        Node::Subquery(s) => {
            above.push((s.original_offset, s.timestamp));
            let found = first_selector(&s.expr, above);
            above.pop();
            found
        }
    }
}

fn signature(name: &str, metric: &Metric) -> Metric {
    let mut out = Metric::new();
    set_label(&mut out, "__name__", name);
    for l in ["instance", "job"] {
        set_label(&mut out, l, value_of(metric, l));
    }
    out
}

pub fn info(ev: &mut Evaluator, args: &[Node]) -> Result<(Matrix, Notes), String> {
    let (at, offset) = first_selector(&args[0], &mut Vec::new()).unwrap_or((None, 0));
    let (mut base, notes) = ev.eval(&args[0])?;
    let selector: Vec<Matcher> = match args.get(1) {
        Some(Node::Vector(v)) => v.matchers.clone(),
        Some(Node::Invariant(n)) => match &**n {
            Node::Vector(v) => v.matchers.clone(),
            other => panic!("no selector: {other:?}"),
        },
        Some(other) => panic!("no selector: {other:?}"),
        None => vec![Matcher::equal("__name__", "target_info")],
    };
    let names: Vec<&Matcher> = selector.iter().filter(|m| m.name == "__name__").collect();
    let mut data: BTreeMap<&str, Vec<&Matcher>> = BTreeMap::new();
    if args.len() > 1 {
        for m in selector.iter().filter(|m| m.name != "__name__") {
            data.entry(&m.name).or_default().push(m);
        }
    }
    let name_matchers = effective(&names);
    let is_info = |m: &Metric| name_matchers.iter().all(|x| x.matches(value_of(m, "__name__")));
    let ignored: BTreeSet<Metric> = base.series.iter().map(|s| s.metric.clone()).filter(is_info).collect();

    // Which info series can matter.
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for s in base.series.iter().filter(|s| !ignored.contains(&s.metric)) {
        for l in ["instance", "job"] {
            if let Some(v) = s.metric.get(l) {
                known.entry(l).or_default().insert(v.clone());
            }
        }
    }
    let mut infos = Matrix::default();
    if !known.is_empty() {
        let mut matchers: Vec<Matcher> = data.values().flatten().map(|m| (*m).clone()).collect();
        matchers.extend(name_matchers.iter().cloned());
        let (start, end) = at.map_or((ev.start, ev.end), |t| (t, t));
        let bounds = (start - (ev.query.options.lookback_delta - 1) - offset, end - offset);
        let mut series = ev.query.select(&matchers, false, bounds);
        series.retain(|s| known.iter().all(|(l, values)| values.contains(value_of(&s.metric, l))));
        infos = ev.instants(&series, offset, true, at)?;
    }

    let info_names: BTreeSet<String> =
        infos.series.iter().map(|s| value_of(&s.metric, "__name__").to_string()).collect();
    let before = ev.current;
    let mut held = ev.current;
    let mut order: Vec<Metric> = Vec::new();
    let mut by: BTreeMap<Metric, (Series, i64)> = BTreeMap::new();
    for t in ev.times() {
        ev.current = held;
        let bases = ev.gather(t, &mut base, &[])?;
        let found = ev.gather(t, &mut infos, &[])?;
        let mut out: Vec<Sample> = Vec::new();
        if !bases.is_empty() {
            let mut by_signature: BTreeMap<Metric, Sample> = BTreeMap::new();
            for s in found {
                let key = signature(value_of(&s.metric, "__name__"), &s.metric);
                match by_signature.get(&key) {
                    Some(have) if have.f > s.f => {}
                    Some(have) if have.f == s.f => {
                        return Err(format!(
                            "found duplicate series for info metric: existing {} @ {}, new {} @ {}",
                            text_of(&have.metric),
                            have.f as i64,
                            text_of(&s.metric),
                            s.f as i64
                        ));
                    }
                    _ => drop(by_signature.insert(key, s)),
                }
            }
            for b in bases {
                if ignored.contains(&b.metric) {
                    out.push(b);
                    continue;
                }
                let mut added = Metric::new();
                let mut seen = false;
                for name in &info_names {
                    let Some(s) = by_signature.get(&signature(name, &b.metric)) else { continue };
                    seen = true;
                    for (n, v) in s.metric.iter().filter(|(n, _)| *n != "__name__") {
                        if !data.is_empty() && !data.contains_key(n.as_str()) {
                            continue;
                        }
                        if added.get(n).is_some_and(|have| have != v) {
                            return Err(format!("conflicting label: {n}"));
                        }
                        if !b.metric.contains_key(n) {
                            added.insert(n.clone(), v.clone());
                        }
                    }
                }
                if !seen && data.values().flatten().any(|m| !m.matches("")) {
                    continue;
                }
                let mut metric = b.metric.clone();
                metric.extend(added);
                out.push(Sample { metric, ..b });
            }
        }
        let n = step_samples(&out);
        ev.current += n;
        held += n;
        ev.counts.see(ev.current);
        ev.check()?;
        for s in out {
            let (series, seen) = by.entry(s.metric.clone()).or_insert_with(|| {
                order.push(s.metric.clone());
                (Series { metric: s.metric.clone(), drop_name: s.drop_name, ..Series::default() }, i64::MIN)
            });
            if *seen == t {
                return Err(TWINS.to_string());
            }
            *seen = t;
            match s.h {
                Some(h) => series.histograms.push((t, h)),
                None => series.floats.push((t, s.f)),
            }
        }
    }
    let _ = take_at;
    let series: Vec<Series> = order.iter().filter_map(|m| by.remove(m)).map(|(s, _)| s).collect();
    let m = Matrix { shuffled: series.len() > 1, series };
    ev.current = before + m.samples();
    ev.counts.see(ev.current);
    Ok((m, notes))
}
