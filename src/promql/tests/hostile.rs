//! Expressions that ask for too much: limits hold, nothing overflows, errors say what to do.

use tsdbctl_chunk::AppenderOptions;
use tsdbctl_model::Labels;
use tsdbctl_promql::engine::{ErrorKind, QueryError, QueryOptions, QueryResult, QueryTime, run};
use tsdbctl_storage::memory::{MemorySample, MemoryStore};
use tsdbctl_storage::{Budget, Control, Interrupt};

fn store() -> MemoryStore {
    let mut store = MemoryStore::new(AppenderOptions::default());
    for i in 0..50 {
        let labels = Labels::from_pairs([("__name__", "m".to_string()), ("i", i.to_string())]);
        for k in 0..20i64 {
            store.append(&labels, k * 15_000, 0, &MemorySample::Float((i * k) as f64)).unwrap();
        }
    }
    store
}

fn evaluate(
    text: &str,
    time: QueryTime,
    options: &QueryOptions,
    control: &Control,
) -> Result<QueryResult, QueryError> {
    run(&store(), text, time, options, control)
}

const AT: QueryTime = QueryTime::Instant(300_000);

#[test]
fn long_chains_and_deep_brackets_are_evaluated_or_refused() {
    let options = QueryOptions::default();
    for (text, fine) in [
        (vec!["m"; 3_000].join(" or "), true),
        (vec!["1"; 20_000].join(" + "), true),
        (format!("{}1{}", "(".repeat(900), ")".repeat(900)), true),
        (format!("{}m{}", "abs(".repeat(900), ")".repeat(900)), true),
        (format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000)), false),
        ("-".repeat(100_000) + "1", false),
    ] {
        let out = evaluate(&text, AT, &options, &Control::default());
        match out {
            Ok(_) => assert!(fine, "{}", &text[..40]),
            Err(e) => {
                assert!(!fine, "{}: {e}", &text[..40]);
                assert_eq!(e.kind, ErrorKind::BadData, "{e}");
            }
        }
    }
}

#[test]
fn absurd_grids_are_refused_before_memory_is_taken() {
    let options = QueryOptions::default();
    let control = Control::new(Interrupt::default(), Budget::new(64 << 20), None);
    for text in
        ["max_over_time(m[100y:1ms])", "count_over_time(time()[100y:1ms])", "sum_over_time(m[10y:1s])"]
    {
        let e = evaluate(text, AT, &options, &control).err().unwrap_or_else(|| panic!("{text} went through"));
        assert!(!e.message.is_empty(), "{text}");
    }
    let range = QueryTime::Range { start: 0, end: i64::MAX / 4, step: 1 };
    assert_eq!(evaluate("m", range, &options, &control).err().unwrap().kind, ErrorKind::BadData);
}

#[test]
fn a_budget_one_byte_short_fails_cleanly_and_the_exact_one_suffices() {
    let options = QueryOptions { threads: 1, ..QueryOptions::default() };
    let range = QueryTime::Range { start: 0, end: 300_000, step: 1_000 };
    for text in [
        "m",
        "sum by (i) (rate(m[1m]))",
        "m * on (i) group_left m",
        "topk(3, m)",
        "quantile(0.5, m)",
        "count_values(\"v\", m)",
        "m or m",
    ] {
        let counting = Control::default();
        evaluate(text, range, &options, &counting).unwrap();
        let peak = counting.budget.peak();
        let exact = Control::new(Interrupt::default(), Budget::new(peak), None);
        evaluate(text, range, &options, &exact).unwrap_or_else(|e| panic!("{text}: {e}"));
        let short = Control::new(Interrupt::default(), Budget::new(peak - 1), None);
        let e =
            evaluate(text, range, &options, &short).err().unwrap_or_else(|| panic!("{text} went through"));
        assert!(e.message.contains("--memory-budget"), "{text}: {e}");
        assert_eq!(e.kind, ErrorKind::Execution);
    }
}

#[test]
fn sample_limits_deadlines_and_interrupts_stop_a_query() {
    let range = QueryTime::Range { start: 0, end: 300_000, step: 1_000 };
    let few = QueryOptions { max_samples: 100, ..QueryOptions::default() };
    let e = evaluate("m", range, &few, &Control::default()).err().unwrap();
    assert!(e.message.contains("too many samples"), "{e}");

    let late = Control::new(Interrupt::default(), Budget::unlimited(), Some(std::time::Duration::ZERO));
    let e = evaluate("m", range, &QueryOptions::default(), &late).err().unwrap();
    assert_eq!(e.kind, ErrorKind::Timeout, "{e}");

    let interrupted = Control::default();
    interrupted.interrupt.set();
    let e = evaluate("m", range, &QueryOptions::default(), &interrupted).err().unwrap();
    assert_eq!(e.kind, ErrorKind::Canceled, "{e}");
}

#[test]
fn one_thread_or_two_give_the_same_bits() {
    let range = QueryTime::Range { start: -60_000, end: 400_000, step: 400 };
    for text in
        ["sum(rate(m[2m]))", "avg by (i) (m)", "stddev(m)", "topk(2, irate(m[1m]))", "m", "deriv(m[1m])"]
    {
        let body = |threads| {
            let options =
                QueryOptions { threads, second_thread_above_seconds: 0.0, ..QueryOptions::default() };
            let result = evaluate(text, range, &options, &Control::default()).unwrap();
            let mut out = Vec::new();
            let level = tsdbctl_promql::api_json::StatsLevel::None;
            tsdbctl_promql::api_json::write_result(&mut out, &result, text, level).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(body(1), body(2), "{text}");
    }
}
