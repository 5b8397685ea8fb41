//! Answers that were once wrong, found by comparing the engine with the plain evaluator (`tests/plain`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tsdbctl_chunk::{AppenderOptions, SampleColumns};
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::stale_nan;
use tsdbctl_model::symbols::SymLabels;
use tsdbctl_model::{FloatHistogram, Labels, Matcher, SymbolTable};
use tsdbctl_promql::engine::{self, Features, Points, QueryOptions, QueryTime, Sample, Value};
use tsdbctl_promql::parser::parse_metric;
use tsdbctl_storage::querier::SeriesExemplars;
use tsdbctl_storage::{
    Control, MemorySample, MemoryStore, Querier, Queryable, ReadStats, SelectHints, SeriesSet, StorageError,
    TimeFilter,
};

/// A sample of a case: its time in seconds and what it is.
#[derive(Clone, Copy)]
enum At {
    Float(i64, f64),
    Histogram(i64, f64),
    Stale(i64),
}

type SeriesOf = (&'static str, &'static [At]);

fn store(series: &[SeriesOf]) -> MemoryStore {
    let mut store = MemoryStore::new(AppenderOptions::default());
    for (labels, samples) in series {
        let labels: Labels = parse_metric(labels).expect("labels");
        for at in *samples {
            let (t, sample) = match at {
                Float(t, v) => (*t, MemorySample::Float(*v)),
                Stale(t) => (*t, MemorySample::Float(stale_nan())),
                Histogram(t, n) => {
                    let h = FloatHistogram {
                        count: *n,
                        sum: *n,
                        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
                        positive_buckets: vec![*n],
                        ..FloatHistogram::default()
                    };
                    (*t, MemorySample::FloatHistogram(h))
                }
            };
            store.append(&labels, t * 1000, 0, &sample).expect("in order");
        }
    }
    store
}

/// The answer in one line: series with their values, `t:v` in ranges, then annotations and peak if asked for.
fn answer(series: &[SeriesOf], text: &str, time: QueryTime, show: Show) -> String {
    let options = QueryOptions {
        lookback_delta: 60_000,
        features: Features {
            experimental_functions: true,
            extended_range_selectors: true,
            ..Features::default()
        },
        ..QueryOptions::default()
    };
    let result = match engine::run(&store(series), text, time, &options, &Control::default()) {
        Ok(result) => result,
        Err(e) => return format!("error: {}", e.message),
    };
    match show {
        Peak => return result.stats.peak_samples.to_string(),
        Reads => return result.stats.samples_read.to_string(),
        Annotations => {
            return result.annotations.iter().map(|a| a.render(text)).collect::<Vec<_>>().join("; ");
        }
        Values => {}
    }
    let out: Vec<String> = match &result.value {
        Value::Vector(v) => v
            .iter()
            .map(|e| match &e.sample {
                Sample::Float(v) => format!("{} {v}", result.labels(&e.labels)),
                Sample::Histogram(h) => format!("{} {h}", result.labels(&e.labels)),
            })
            .collect(),
        Value::Matrix { grid, series } => series
            .iter()
            .map(|s| {
                let mut line = result.labels(&s.labels).to_string();
                if let Points::Grid(c) = &s.points {
                    for k in c.float_steps() {
                        line += &format!(" {}:{}", grid.time(k) / 1000, c.values[k]);
                    }
                }
                line
            })
            .collect(),
        other => vec![format!("{other:?}")],
    };
    out.join("; ")
}

#[derive(Clone, Copy)]
enum Show {
    Value,
    Annotations,
    Peak,
    Reads,
}

use At::{Float, Histogram, Stale};
use Show::{Annotations, Peak, Reads, Value as Values};

const NOW: QueryTime = QueryTime::Instant(60_000);
const TWO_STEPS: QueryTime = QueryTime::Range { start: 60_000, end: 90_000, step: 30_000 };

#[test]
fn what_was_once_wrong() {
    let gone_first: &[SeriesOf] = &[
        (r#"m{g="late", i="1"}"#, &[Float(50, 1.0), Stale(55)]),
        (r#"m{g="early", i="1"}"#, &[Float(50, 2.0)]),
        (r#"m{g="late", i="2"}"#, &[Float(50, 3.0)]),
    ];
    let two_names: &[SeriesOf] = &[
        (r#"h{i="1"}"#, &[Histogram(50, 4.0)]),
        (r#"f{i="2"}"#, &[Float(50, 2.0)]),
        (r#"f{i="1"}"#, &[Float(50, 1.0)]),
    ];
    let both: &[SeriesOf] = &[(r#"a{i="1"}"#, &[Float(50, 1.0)]), (r#"b{i="1"}"#, &[Float(51, 1.0)])];
    let collide_late: &[SeriesOf] = &[
        (r#"first{i="0"}"#, &[Float(10, 1.0), Float(50, 2.0)]),
        (r#"a{i="1"}"#, &[Float(50, 1.0)]),
        (r#"b{i="1"}"#, &[Float(51, 1.0)]),
    ];
    let buckets: &[SeriesOf] = &[
        (r#"b_bucket{le="1"}"#, &[Float(50, 1.0), Float(80, 1.0)]),
        (r#"b_bucket{le="+Inf"}"#, &[Float(50, 2.0), Float(80, 2.0)]),
    ];
    let line: &[SeriesOf] = &[("c", &[Float(10, 1.0), Float(20, 2.0), Float(50, 5.0), Float(70, 7.0)])];
    let mixed: &[SeriesOf] = &[("x", &[Float(20, 1.0), Histogram(50, 2.0)])];
    let with_info: &[SeriesOf] = &[
        (r#"h{job="j", instance="i"}"#, &[Histogram(50, 4.0)]),
        (r#"target_info{job="j", instance="i", v="1"}"#, &[Float(50, 1.0)]),
    ];
    let histograms: &[SeriesOf] = &[(r#"h{i="1"}"#, &[Histogram(50, 4.0)])];
    let cases: &[(&[SeriesOf], &str, QueryTime, Show, &str)] = &[
        // Groups of an instant stand in the order of their first members that have a sample.
        (gone_first, "sum by (g) (m)", NOW, Values, r#"{g="early"} 2; {g="late"} 3"#),
        (gone_first, "quantile by (g) (0.5, m)", NOW, Values, r#"{g="early"} 2; {g="late"} 3"#),
        (
            gone_first,
            "topk by (g) (1, m)",
            NOW,
            Values,
            r#"{__name__="m", g="early", i="1"} 2; {__name__="m", g="late", i="2"} 3"#,
        ),
        (
            gone_first,
            "limitk by (g) (1, m)",
            NOW,
            Values,
            r#"{__name__="m", g="early", i="1"} 2; {__name__="m", g="late", i="2"} 3"#,
        ),
        // Series of equal labels: the one with a sample has the place.
        (two_names, r#"2 * abs({__name__=~"h|f"})"#, NOW, Values, r#"{i="2"} 4; {i="1"} 2"#),
        // `timestamp` drops names, so series may collide, at a step or never.
        (
            both,
            r#"timestamp({__name__=~"a|b"})"#,
            NOW,
            Values,
            "error: vector cannot contain metrics with the same labelset",
        ),
        // Of two operands that cannot be evaluated the first is reported, and before a wrong parameter.
        (
            both,
            r#"label_replace({__name__=~"a|b"}, "__name__", "c", "", "") + on () ({i="1"} - on () {i="1"})"#,
            NOW,
            Values,
            "error: vector cannot contain metrics with the same labelset",
        ),
        (
            both,
            r#"label_replace({__name__=~"a|b"}, "__name__", "c", "", "") and ({i="1"} - on () {i="1"})"#,
            NOW,
            Values,
            "error: vector cannot contain metrics with the same labelset",
        ),
        (
            both,
            r#"topk(NaN, label_replace({__name__=~"a|b"}, "__name__", "c", "", ""))"#,
            NOW,
            Values,
            "error: vector cannot contain metrics with the same labelset",
        ),
        // A subquery is evaluated to its end before anything else.
        (
            collide_late,
            r#"double_exponential_smoothing(abs({__name__=~"a|b|first"})[1m:10s], 0, 0.5)"#,
            NOW,
            Values,
            "error: vector cannot contain metrics with the same labelset",
        ),
        // Nothing of one without steps is.
        (line, r#"sum_over_time(count_values("", c)[5s:30s])"#, QueryTime::Instant(50_000), Values, ""),
        // Each value of φ has its series.
        (
            buckets,
            r#"histogram_quantiles(b_bucket, "q", time() / 120)"#,
            TWO_STEPS,
            Values,
            r#"{q="0.5"} 60:1; {q="0.75"} 90:1"#,
        ),
        // What upstream puts in place of a subquery has no place in the text.
        (
            mixed,
            "deriv(x[1m:10s])",
            QueryTime::Instant(55_000),
            Annotations,
            r#"PromQL info: ignored histograms in a range containing both floats and histograms for metric name "x" (1:1)"#,
        ),
        (line, "2 </ 1", NOW, Values, r#"error: operator "</" not allowed for Scalar operations"#),
        // An argument left out is in nobody's memory.
        (line, "hour()", NOW, Peak, "1"),
        (histograms, "timestamp(h)", NOW, Peak, "2"),
        (line, "start_timestamp(c)", NOW, Reads, "1"),
        // The last window of a smoothed series stays counted.
        (line, "c smoothed", NOW, Peak, "4"),
        // Of a bare extended range what was read is in memory, not the values at its edges.
        (line, "c[50s] anchored", NOW, Peak, "3"),
        // The vector is evaluated before the quantiles are.
        (buckets, r#"histogram_quantiles(sum_over_time(b_bucket[1m:1s]), "q", 0.5, 0.9)"#, NOW, Peak, "35"),
        // A step that selects nothing looks at nothing.
        (
            &[("x", &[Histogram(50, 2.0), Stale(70)])],
            "bottomk((time() - 60) / 30, x)",
            TWO_STEPS,
            Annotations,
            "",
        ),
        // Series without samples want no info.
        (with_info, "info(stdvar_over_time(h[1m]))", NOW, Reads, "12"),
    ];
    for (series, text, time, show, want) in cases {
        assert_eq!(answer(series, text, *time, *show), *want, "{text}");
    }
}

/// A store that notes whether only the newest sample of each window was asked for.
struct Noting(MemoryStore, Arc<AtomicBool>);

struct NotingQuerier(Box<dyn Querier>, Arc<AtomicBool>);

struct NotingSet(Box<dyn SeriesSet>, Arc<AtomicBool>);

impl Queryable for Noting {
    fn querier(
        &self,
        mint: i64,
        maxt: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Box<dyn Querier>, StorageError> {
        let inner = self.0.querier(mint, maxt, selections, control)?;
        Ok(Box::new(NotingQuerier(inner, self.1.clone())))
    }
}

impl Querier for NotingQuerier {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        Ok(Box::new(NotingSet(self.0.select(hints, matchers, symbols, control)?, self.1.clone())))
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        self.0.label_names(matchers, control)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        self.0.label_values(name, matchers, control)
    }

    fn exemplars(
        &self,
        start: i64,
        end: i64,
        selections: &[Vec<Matcher>],
        control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        self.0.exemplars(start, end, selections, control)
    }
}

impl SeriesSet for NotingSet {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, i: usize) -> &SymLabels {
        self.0.labels(i)
    }

    fn read(
        &self,
        i: usize,
        filter: &TimeFilter,
        out: &mut SampleColumns,
        stats: &mut ReadStats,
    ) -> Result<(), StorageError> {
        self.1.store(filter.newest_only, Ordering::Relaxed);
        self.0.read(i, filter, out, stats)
    }
}

#[test]
fn hints_of_reduced_histograms_come_from_all_samples_of_the_window() {
    // The chunk of the newest sample does not tell whether the counter was reset in front of it.
    for (text, newest_only) in
        [("h", true), ("sum(h)", true), ("histogram_count(h)", false), ("histogram_sum(h + h)", false)]
    {
        let noted = Arc::new(AtomicBool::new(false));
        let data =
            Noting(store(&[(r#"h{i="1"}"#, &[Histogram(10, 9.0), Histogram(50, 4.0)])]), noted.clone());
        engine::run(&data, text, NOW, &QueryOptions::default(), &Control::default()).expect(text);
        assert_eq!(noted.load(Ordering::Relaxed), newest_only, "{text}");
    }
}
