//! The engine against a slow and plain evaluator, on random data and random expressions.
//!
//! `TSDBCTL_RANDOM_CASES` sets the number of cases, `TSDBCTL_RANDOM_SEED` the first seed.

#![allow(clippy::print_stderr)]

mod aggregations;
mod binary;
mod compare;
mod data;
mod elements;
mod evaluate;
mod expressions;
mod information;
mod iterate;
mod random;
mod ranges;
mod tree;
mod value;

use compare::{Case, Verdict, compare, shrink};
use expressions::Grammar;
use random::Random;
use tsdbctl_promql::engine::{Features, MaxResolution, QueryOptions, QueryTime};

fn setting(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(or)
}

/// The case of a seed; eight cases share their data.
fn case(seed: u64, data: &data::Data) -> Case {
    let mut r = Random::new(seed ^ 0xabcd_ef12);
    let features = Features {
        experimental_functions: true,
        extended_range_selectors: true,
        binop_fill_modifiers: true,
        delayed_name_removal: r.one_in(3),
        per_step_stats: true,
        use_start_timestamps: r.one_in(3),
        type_and_unit_labels: r.one_in(4),
    };
    let options = QueryOptions {
        lookback_delta: r.pick(&[300_000, 60_000, 30_000, 15_000]),
        max_samples: if r.one_in(20) { r.below(400) } else { 50_000_000 },
        default_subquery_step: r.pick(&[60_000, 15_000, 20_000]),
        threads: 1 + r.below(2) as usize,
        second_thread_above_seconds: 0.0,
        per_step_stats: true,
        features,
        max_source_resolution: MaxResolution::Auto,
    };
    let depth = r.pick(&[1, 1, 2, 2, 2, 3]);
    let (start, end) = (data.start, data.end);
    let instant = r.one_in(3);
    let root = r.below(12);
    let mut grammar = Grammar { r: &mut r, start, end };
    let text = match root {
        0 => grammar.scalar(depth),
        1 | 2 if instant => grammar.range(depth, None, true),
        _ => grammar.vector(depth),
    };
    // Some steps fall on samples.
    let steps_of_data = (end - start) / 15_000;
    let first = start + r.between(-1, steps_of_data) * 15_000 + r.pick(&[0, 0, 0, 1, -1, 4321]);
    let time = if instant {
        QueryTime::Instant(first)
    } else {
        let step = r.pick(&[15_000, 30_000, 60_000, 7_000, 100_000, 400_000, 1_000]);
        let steps = r.between(0, if step < 10_000 { 30 } else { 12 });
        QueryTime::Range { start: first, end: first + steps * step + r.pick(&[0, 0, step / 2]), step }
    };
    Case { seed: seed / 8, text, time, options }
}

#[test]
fn the_engine_answers_as_the_plain_evaluator() {
    let cases = setting("TSDBCTL_RANDOM_CASES", 1500);
    let first = setting("TSDBCTL_RANDOM_SEED", 0);
    let most = setting("TSDBCTL_RANDOM_FAILURES", 5) as usize;
    let shown = setting("TSDBCTL_RANDOM_VERBOSE", 0) != 0;
    std::panic::set_hook(Box::new(|_| {}));
    let (mut same, mut with_samples, mut errors, mut refused, mut chance, mut samples) = (0, 0, 0, 0, 0, 0);
    let mut failures: Vec<String> = Vec::new();
    let mut data: Option<(u64, data::Data)> = None;
    for seed in first..first + cases {
        if data.as_ref().is_none_or(|(s, _)| *s != seed / 8) {
            data = Some((seed / 8, data::make(seed / 8)));
        }
        let (_, d) = data.as_ref().expect("made");
        let c = case(seed, d);
        match compare(&c, &d.store) {
            Verdict::Same { samples: n } => {
                same += 1;
                with_samples += usize::from(n > 0);
                samples += n;
            }
            Verdict::SameError(e) => {
                if shown {
                    eprintln!("error: {e}");
                }
                errors += 1;
            }
            Verdict::Refused(e) => {
                if shown {
                    eprintln!("refused: {e}: {}", c.text);
                }
                refused += 1;
            }
            Verdict::Chance => chance += 1,
            Verdict::Different(_) => {
                let text = c.text.clone();
                let (small, why) = shrink(c, &d.store);
                failures.push(format!("case {seed}: {small}\n  from {text}\n  {why}\n"));
                if failures.len() >= most {
                    break;
                }
            }
        }
    }
    let _ = std::panic::take_hook();
    eprintln!(
        "{same} equal ({with_samples} with {samples} samples), {errors} equal errors, {refused} refused, {chance} left to chance"
    );
    assert!(failures.is_empty(), "{} differences\n{}", failures.len(), failures.join("\n"));
    assert!(with_samples as u64 * 3 > cases, "the generator makes too few answers");
}
