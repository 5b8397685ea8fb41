//! Arithmetic, comparison and trim operators on scalars, single samples and whole columns.

use std::sync::Arc;

use tsdbctl_model::{CounterResetHint, FloatHistogram, Span, go_math};
use tsdbctl_storage::annotations::{Annotation, HistogramOperation};

use super::ScalarArg;
use crate::engine::column::{Column, bits};
use crate::parser::ast::BinaryOp;

/// `a op b` of two scalars; comparisons give 1 or 0. Trim and set operators have no scalar meaning (the
/// parser refuses them) and give NaN.
#[inline]
pub fn scalar_op(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => go_math::mod_(a, b),
        BinaryOp::Pow => go_math::pow(a, b),
        BinaryOp::Atan2 => go_math::atan2(a, b),
        BinaryOp::TrimUpper | BinaryOp::TrimLower | BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
            f64::NAN
        }
        _ => f64::from(u8::from(compares(op, a, b))),
    }
}

/// `a op b` at every step, into `out`.
pub fn scalars(op: BinaryOp, a: ScalarArg<'_>, b: ScalarArg<'_>, out: &mut [f64]) {
    for (k, v) in out.iter_mut().enumerate() {
        *v = scalar_op(op, a.at(k), b.at(k));
    }
}

/// Whether the comparison `a op b` holds.
#[inline]
fn compares(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Eql => a == b,
        BinaryOp::Neq => a != b,
        BinaryOp::Gtr => a > b,
        BinaryOp::Lss => a < b,
        BinaryOp::Gte => a >= b,
        BinaryOp::Lte => a <= b,
        _ => false,
    }
}

/// One sample, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum SampleRef<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a Arc<FloatHistogram>),
}

/// One sample, owned.
#[derive(Clone, Debug)]
pub enum SampleOut {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(Arc<FloatHistogram>),
}

impl SampleRef<'_> {
    fn owned(self) -> SampleOut {
        match self {
            Self::Float(v) => SampleOut::Float(v),
            Self::Histogram(h) => SampleOut::Histogram(h.clone()),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl SampleOut {
    /// Puts the sample at step `k`; steps of histograms must rise from call to call.
    pub fn store(self, column: &mut Column, k: usize) {
        match self {
            Self::Float(v) => column.set_float(k, v),
            Self::Histogram(h) => column.push_histogram(k, h),
        }
    }
}

/// What an operator made of two samples.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A sample.
    Sample(SampleOut),
    /// The comparison does not hold: no sample, but the pair has met (upstream counts it as a match).
    Filtered,
    /// The operation has no result for these samples; the pair has not met.
    NoResult,
}

/// Why an operator gave no result, or a doubtful one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// No meaning for these kinds of sample.
    IncompatibleTypes {
        /// `float` or `histogram`.
        lhs: &'static str,
        /// `float` or `histogram`.
        rhs: &'static str,
    },
    /// Exponential and custom buckets.
    IncompatibleBuckets,
    /// Counter reset hints that contradict each other.
    CounterResetCollision(HistogramOperation),
    /// Custom bounds that differ.
    MismatchedCustomBuckets(HistogramOperation),
}

impl Issue {
    /// Its warning or info.
    pub fn annotation(self, op: BinaryOp, span: Span) -> Annotation {
        match self {
            Self::IncompatibleTypes { lhs, rhs } => {
                Annotation::incompatible_types_in_binop(lhs, op.as_str(), rhs, span)
            }
            Self::IncompatibleBuckets => Annotation::incompatible_bucket_layout(op.as_str(), span),
            Self::CounterResetCollision(operation) => {
                Annotation::histogram_counter_reset_collision(operation, span)
            }
            Self::MismatchedCustomBuckets(operation) => {
                Annotation::mismatched_custom_buckets(operation, span)
            }
        }
    }
}

/// The issues of one operator, of which upstream tells the last per step.
///
/// Series are worked on one after the other here and steps upstream, so each report says which pair it is
/// of: `order` is the position of its left series (for samples filled in on the left: behind all those).
#[derive(Clone, Debug, Default)]
pub struct StepIssues {
    /// By step; empty until something is reported.
    last: Vec<Option<(u32, Issue)>>,
}

impl StepIssues {
    /// Reports `issue` at step `k` of the pair at position `order`.
    pub fn report(&mut self, k: usize, order: u32, issue: Issue) {
        if self.last.len() <= k {
            self.last.resize(k + 1, None);
        }
        match &mut self.last[k] {
            Some((have, _)) if *have > order => {}
            slot => *slot = Some((order, issue)),
        }
    }

    /// Adds what another worker has found.
    pub fn merge(&mut self, other: &Self) {
        for (k, slot) in other.last.iter().enumerate() {
            if let Some((order, issue)) = slot {
                self.report(k, *order, *issue);
            }
        }
    }

    /// Forgets everything, keeping the allocation.
    pub fn clear(&mut self) {
        self.last.clear();
    }

    /// The annotations, each once.
    pub fn annotations(&self, op: BinaryOp, span: Span) -> Vec<Annotation> {
        let mut seen: Vec<Issue> = Vec::new();
        for (_, issue) in self.last.iter().flatten() {
            if !seen.contains(issue) {
                seen.push(*issue);
            }
        }
        seen.into_iter().map(|issue| issue.annotation(op, span)).collect()
    }
}

/// An operator between vectors, or a vector and a scalar.
#[derive(Clone, Copy, Debug)]
pub struct BinaryKernel {
    /// The operator; not a set operator.
    pub op: BinaryOp,
    /// `bool`: comparisons give 1 or 0 instead of filtering.
    pub return_bool: bool,
}

impl BinaryKernel {
    /// `lhs op rhs` of two vectors' samples. The second value is what upstream would report.
    pub fn element(&self, lhs: SampleRef<'_>, rhs: SampleRef<'_>) -> (Outcome, Option<Issue>) {
        let (value, keep, issue) = match self.plain(lhs, rhs) {
            Ok(it) => it,
            Err(issue) => return (Outcome::NoResult, Some(issue)),
        };
        // Upstream treats the collision warning as an error here: the sum is thrown away.
        if let Some(Issue::CounterResetCollision(_)) = issue {
            return (Outcome::NoResult, issue);
        }
        let outcome = if self.return_bool {
            Outcome::Sample(SampleOut::Float(f64::from(u8::from(keep))))
        } else if keep {
            Outcome::Sample(value)
        } else {
            Outcome::Filtered
        };
        (outcome, issue)
    }

    /// `vectorElemBinop` upstream: value, whether a comparison holds, issue; or an issue alone.
    fn plain(
        &self,
        lhs: SampleRef<'_>,
        rhs: SampleRef<'_>,
    ) -> Result<(SampleOut, bool, Option<Issue>), Issue> {
        use SampleRef::{Float, Histogram};
        let op = self.op;
        let changed = |h: &FloatHistogram, f: &dyn Fn(&mut FloatHistogram)| {
            let mut h = h.clone();
            f(&mut h);
            Ok((SampleOut::Histogram(Arc::new(h)), true, None))
        };
        match (lhs, rhs, op) {
            (Float(a), Float(b), _) if op.is_comparison() => {
                Ok((SampleOut::Float(a), compares(op, a, b), None))
            }
            (Float(a), Float(b), op) if !matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) => {
                Ok((SampleOut::Float(scalar_op(op, a, b)), true, None))
            }
            (Float(a), Histogram(h), BinaryOp::Mul) | (Histogram(h), Float(a), BinaryOp::Mul) => {
                changed(h, &|h| {
                    h.mul(a);
                    h.compact(0);
                })
            }
            (Histogram(h), Float(a), BinaryOp::Div) => changed(h, &|h| {
                h.div(a);
                h.compact(0);
            }),
            (Histogram(h), Float(a), BinaryOp::TrimUpper) => changed(h, &|h| {
                h.trim_buckets(a, true);
            }),
            (Histogram(h), Float(a), BinaryOp::TrimLower) => changed(h, &|h| {
                h.trim_buckets(a, false);
            }),
            (Histogram(a), Histogram(b), BinaryOp::Add | BinaryOp::Sub) => {
                let mut sum = FloatHistogram::clone(a);
                let (operation, combined) = if op == BinaryOp::Add {
                    (HistogramOperation::Addition, sum.add(b))
                } else {
                    (HistogramOperation::Subtraction, sum.sub(b))
                };
                let combined = combined.map_err(|_| Issue::IncompatibleBuckets)?;
                if op == BinaryOp::Sub {
                    sum.counter_reset_hint = CounterResetHint::Gauge;
                }
                sum.compact(0);
                let issue = if combined.counter_reset_collision {
                    Some(Issue::CounterResetCollision(operation))
                } else if combined.nhcb_bounds_reconciled {
                    Some(Issue::MismatchedCustomBuckets(operation))
                } else {
                    None
                };
                Ok((SampleOut::Histogram(Arc::new(sum)), true, issue))
            }
            (Histogram(a), Histogram(b), BinaryOp::Eql | BinaryOp::Neq) => {
                Ok((lhs.owned(), a.equals(b) == (op == BinaryOp::Eql), None))
            }
            _ => Err(Issue::IncompatibleTypes { lhs: lhs.kind(), rhs: rhs.kind() }),
        }
    }

    /// `column op scalar`, or `scalar op column` if `scalar_on_left`, in place. A comparison keeps the
    /// column's value.
    pub fn with_scalar(
        &self,
        column: &mut Column,
        scalar: ScalarArg<'_>,
        scalar_on_left: bool,
        order: u32,
        issues: &mut StepIssues,
    ) {
        if !column.histograms.is_empty() {
            // Floats that come of histograms (`bool` on histograms gives none, so there are none yet) and
            // histograms stay in their slots, so the list is filtered in place.
            column.histograms.retain_mut(|(k, h)| {
                let scalar = SampleRef::Float(scalar.at(*k as usize));
                let (lhs, rhs) = if scalar_on_left {
                    (scalar, SampleRef::Histogram(h))
                } else {
                    (SampleRef::Histogram(h), scalar)
                };
                match self.plain(lhs, rhs) {
                    Ok((SampleOut::Histogram(result), true, _)) => {
                        *h = result;
                        true
                    }
                    Ok(_) => false,
                    Err(issue) => {
                        issues.report(*k as usize, order, issue);
                        false
                    }
                }
            });
        }
        match self.op {
            BinaryOp::TrimUpper | BinaryOp::TrimLower => {
                for k in bits(&column.present) {
                    issues.report(k, order, Issue::IncompatibleTypes { lhs: "float", rhs: "float" });
                }
                column.present.fill(0);
            }
            op if op.is_comparison() => self.compare_with_scalar(column, scalar, scalar_on_left),
            op => arithmetic_with_scalar(op, column, scalar, scalar_on_left),
        }
    }

    fn compare_with_scalar(&self, column: &mut Column, scalar: ScalarArg<'_>, scalar_on_left: bool) {
        let op = if scalar_on_left { mirrored(self.op) } else { self.op };
        macro_rules! run {
            ($cmp:tt) => {
                match scalar {
                    ScalarArg::Constant(b) => {
                        self.filter(&mut column.values, &mut column.present, |_, a| a $cmp b)
                    }
                    ScalarArg::PerStep(b) => {
                        self.filter(&mut column.values, &mut column.present, |k, a| a $cmp b[k])
                    }
                }
            };
        }
        match op {
            BinaryOp::Eql => run!(==),
            BinaryOp::Neq => run!(!=),
            BinaryOp::Gtr => run!(>),
            BinaryOp::Lss => run!(<),
            BinaryOp::Gte => run!(>=),
            _ => run!(<=),
        }
    }

    /// Keeps samples where `f` holds, or makes them 1 and 0.
    #[inline]
    fn filter(&self, values: &mut [f64], present: &mut [u64], f: impl Fn(usize, f64) -> bool) {
        for (i, (values, word)) in values.chunks_mut(64).zip(present).enumerate() {
            if *word == 0 {
                continue;
            }
            if self.return_bool {
                for (k, v) in values.iter_mut().enumerate() {
                    *v = f64::from(u8::from(f(i * 64 + k, *v)));
                }
            } else {
                let mut mask = 0u64;
                for (k, v) in values.iter().enumerate() {
                    mask |= u64::from(f(i * 64 + k, *v)) << k;
                }
                *word &= mask;
            }
        }
    }

    /// `lhs op rhs` of two series into `out` (which is reset), at the steps where both have a sample.
    /// `met` gets a bit for every step where the pair has met: where there is a result, or a comparison
    /// that does not hold, but not where the operation has no result.
    pub fn columns(
        &self,
        lhs: &Column,
        rhs: &Column,
        out: &mut Column,
        met: &mut Vec<u64>,
        order: u32,
        issues: &mut StepIssues,
    ) {
        let steps = lhs.steps();
        debug_assert_eq!(steps, rhs.steps());
        out.reset(steps);
        met.clear();
        met.extend(lhs.present.iter().zip(&rhs.present).map(|(l, r)| l & r));
        out.present.copy_from_slice(met);
        match self.op {
            BinaryOp::TrimUpper | BinaryOp::TrimLower => {
                for k in bits(met) {
                    issues.report(k, order, Issue::IncompatibleTypes { lhs: "float", rhs: "float" });
                }
                met.fill(0);
                out.present.fill(0);
            }
            op if op.is_comparison() => {
                out.values.copy_from_slice(&lhs.values);
                self.compare_with_scalar(out, ScalarArg::PerStep(&rhs.values), false);
            }
            op => {
                out.values.copy_from_slice(&lhs.values);
                arithmetic_with_scalar(op, out, ScalarArg::PerStep(&rhs.values), false);
            }
        }
        if lhs.histograms.is_empty() && rhs.histograms.is_empty() {
            return;
        }
        // Steps with a histogram on either side, rising.
        let (mut l, mut r) = (lhs.histograms.iter().peekable(), rhs.histograms.iter().peekable());
        loop {
            let k = match (l.peek(), r.peek()) {
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((a, _)), None) => *a,
                (None, Some((b, _))) => *b,
                (None, None) => break,
            };
            let left = l.next_if(|(s, _)| *s == k).map(|(_, h)| SampleRef::Histogram(h));
            let right = r.next_if(|(s, _)| *s == k).map(|(_, h)| SampleRef::Histogram(h));
            let k = k as usize;
            let left = left.or_else(|| lhs.float(k).map(SampleRef::Float));
            let right = right.or_else(|| rhs.float(k).map(SampleRef::Float));
            let (Some(left), Some(right)) = (left, right) else { continue };
            let (outcome, issue) = self.element(left, right);
            if let Some(issue) = issue {
                issues.report(k, order, issue);
            }
            if !matches!(outcome, Outcome::NoResult) {
                met[k / 64] |= 1 << (k % 64);
            }
            if let Outcome::Sample(sample) = outcome {
                sample.store(out, k);
            }
        }
    }
}

/// The comparison with its sides exchanged.
fn mirrored(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Gtr => BinaryOp::Lss,
        BinaryOp::Lss => BinaryOp::Gtr,
        BinaryOp::Gte => BinaryOp::Lte,
        BinaryOp::Lte => BinaryOp::Gte,
        other => other,
    }
}

/// Arithmetic in place; `scalar` may be another column's values.
fn arithmetic_with_scalar(op: BinaryOp, column: &mut Column, scalar: ScalarArg<'_>, scalar_on_left: bool) {
    macro_rules! each_slot {
        ($f:expr) => {{
            let f = $f;
            match scalar {
                ScalarArg::Constant(s) => {
                    if scalar_on_left {
                        column.values.iter_mut().for_each(|v| *v = f(s, *v));
                    } else {
                        column.values.iter_mut().for_each(|v| *v = f(*v, s));
                    }
                }
                ScalarArg::PerStep(s) => {
                    if scalar_on_left {
                        column.values.iter_mut().zip(s).for_each(|(v, s)| *v = f(*s, *v));
                    } else {
                        column.values.iter_mut().zip(s).for_each(|(v, s)| *v = f(*v, *s));
                    }
                }
            }
        }};
    }
    match op {
        BinaryOp::Add => each_slot!(|a: f64, b: f64| a + b),
        BinaryOp::Sub => each_slot!(|a: f64, b: f64| a - b),
        BinaryOp::Mul => each_slot!(|a: f64, b: f64| a * b),
        BinaryOp::Div => each_slot!(|a: f64, b: f64| a / b),
        // The dear ones only where there is a sample.
        _ => {
            for (i, word) in column.present.iter().enumerate() {
                let mut rest = *word;
                while rest != 0 {
                    let k = i * 64 + rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let (v, s) = (column.values[k], scalar.at(k));
                    column.values[k] = if scalar_on_left { scalar_op(op, s, v) } else { scalar_op(op, v, s) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f64 = f64::NAN;

    fn column(samples: &[Option<f64>]) -> Column {
        let mut c = Column::new(samples.len());
        for (k, v) in samples.iter().enumerate() {
            if let Some(v) = v {
                c.set_float(k, *v);
            }
        }
        c
    }

    fn samples(c: &Column) -> Vec<Option<f64>> {
        (0..c.steps()).map(|k| c.float(k)).collect()
    }

    fn kernel(op: BinaryOp, return_bool: bool) -> BinaryKernel {
        BinaryKernel { op, return_bool }
    }

    fn histogram(count: f64, hint: CounterResetHint) -> Arc<FloatHistogram> {
        Arc::new(FloatHistogram { count, sum: count, counter_reset_hint: hint, ..FloatHistogram::default() })
    }

    const ALL: [BinaryOp; 13] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Mod,
        BinaryOp::Pow,
        BinaryOp::Atan2,
        BinaryOp::Eql,
        BinaryOp::Neq,
        BinaryOp::Gtr,
        BinaryOp::Lss,
        BinaryOp::Gte,
        BinaryOp::Lte,
    ];

    #[test]
    fn scalars_compute() {
        use BinaryOp as O;
        for (a, op, b, expected) in [
            (7.0, O::Add, 2.0, 9.0),
            (7.0, O::Sub, 2.0, 5.0),
            (7.0, O::Mul, 2.0, 14.0),
            (7.0, O::Div, 0.0, f64::INFINITY),
            (-7.0, O::Mod, 4.0, -3.0),
            (2.0, O::Pow, 10.0, 1024.0),
            (0.0, O::Atan2, -1.0, std::f64::consts::PI),
            (1.0, O::Eql, 1.0, 1.0),
            (NAN, O::Eql, NAN, 0.0),
            (NAN, O::Neq, NAN, 1.0),
            (1.0, O::Gte, 2.0, 0.0),
            (1.0, O::Lte, 2.0, 1.0),
        ] {
            assert_eq!(scalar_op(op, a, b), expected, "{a} {} {b}", op.as_str());
        }
    }

    /// Whole columns against the single-sample rule, every operator, both sides, with and without `bool`.
    #[test]
    fn columns_equal_elements() {
        let values = [Some(1.0), None, Some(NAN), Some(-0.0), Some(3.5), Some(f64::INFINITY), Some(2.0)];
        let steps = 150;
        let left = column(&(0..steps).map(|k| values[k % 7]).collect::<Vec<_>>());
        let right = column(&(0..steps).map(|k| values[k / 7 % 7]).collect::<Vec<_>>());
        let plain = |kernel: BinaryKernel, a: f64, b: f64| -> Option<f64> {
            match kernel.element(SampleRef::Float(a), SampleRef::Float(b)).0 {
                Outcome::Sample(SampleOut::Float(v)) => Some(v),
                _ => None,
            }
        };
        let eq = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            (a, b) => a.is_none() && b.is_none(),
        };
        for op in ALL {
            for return_bool in if op.is_comparison() { vec![false, true] } else { vec![false] } {
                let kernel = kernel(op, return_bool);
                let (mut out, mut met, mut issues) = (Column::default(), Vec::new(), StepIssues::default());
                kernel.columns(&left, &right, &mut out, &mut met, 0, &mut issues);
                for k in 0..steps {
                    let both = left.float(k).zip(right.float(k));
                    let expected = both.and_then(|(a, b)| plain(kernel, a, b));
                    assert!(eq(out.float(k), expected), "{op:?} {return_bool} {both:?} {:?}", out.float(k));
                    assert_eq!(met[k / 64] >> (k % 64) & 1 != 0, both.is_some());
                }
                for scalar in [2.0, NAN, 0.0, f64::NEG_INFINITY] {
                    let args: [ScalarArg; 2] =
                        [ScalarArg::Constant(scalar), ScalarArg::PerStep(&vec![scalar; steps])];
                    for (arg, on_left) in
                        [(args[0], false), (args[0], true), (args[1], false), (args[1], true)]
                    {
                        let mut c = left.clone();
                        kernel.with_scalar(&mut c, arg, on_left, 0, &mut issues);
                        for k in 0..steps {
                            let expected = left.float(k).and_then(|v| {
                                let (a, b) = if on_left { (scalar, v) } else { (v, scalar) };
                                let result = plain(kernel, a, b)?;
                                // A comparison keeps the vector's value.
                                Some(if op.is_comparison() && !return_bool { v } else { result })
                            });
                            assert!(
                                eq(c.float(k), expected),
                                "{op:?} {on_left} {scalar} {:?}",
                                left.float(k)
                            );
                        }
                    }
                }
                assert!(issues.annotations(op, Span::default()).is_empty());
            }
        }
    }

    #[test]
    fn kinds_that_do_not_go_together_are_told_and_dropped() {
        use BinaryOp as O;
        let h = histogram(4.0, CounterResetHint::Unknown);
        let (float, hist) = (SampleRef::Float(2.0), SampleRef::Histogram(&h));
        for (a, op, b, refused) in [
            (float, O::Add, hist, true),
            (float, O::Mul, hist, false),
            (hist, O::Mul, float, false),
            (hist, O::Div, float, false),
            (float, O::Div, hist, true),
            (hist, O::Add, float, true),
            (hist, O::Add, hist, false),
            (hist, O::Mul, hist, true),
            (hist, O::Eql, hist, false),
            (hist, O::Eql, float, true),
            (hist, O::Gtr, hist, true),
            (float, O::TrimUpper, float, true),
            (float, O::TrimLower, hist, true),
            (hist, O::TrimLower, float, false),
            (hist, O::TrimLower, hist, true),
        ] {
            let (outcome, issue) = kernel(op, false).element(a, b);
            assert_eq!(matches!(outcome, Outcome::NoResult), refused, "{a:?} {op:?} {b:?}");
            let expected = refused.then_some(Issue::IncompatibleTypes { lhs: a.kind(), rhs: b.kind() });
            assert_eq!(issue, expected);
        }
        let issue = Issue::IncompatibleTypes { lhs: "histogram", rhs: "float" };
        assert_eq!(
            issue.annotation(O::Add, Span::default()).text,
            "PromQL info: incompatible sample types encountered for binary operator \"+\": histogram + float"
        );
    }

    #[test]
    fn histograms_add_and_subtract() {
        let (a, b) = (histogram(4.0, CounterResetHint::Unknown), histogram(1.0, CounterResetHint::Unknown));
        for (op, count, hint) in
            [(BinaryOp::Add, 5.0, CounterResetHint::Unknown), (BinaryOp::Sub, 3.0, CounterResetHint::Gauge)]
        {
            let (outcome, issue) =
                kernel(op, false).element(SampleRef::Histogram(&a), SampleRef::Histogram(&b));
            let Outcome::Sample(SampleOut::Histogram(h)) = outcome else { panic!("{outcome:?}") };
            assert_eq!((h.count, h.counter_reset_hint, issue), (count, hint, None));
        }
        let reset = histogram(1.0, CounterResetHint::CounterReset);
        let no_reset = histogram(1.0, CounterResetHint::NotCounterReset);
        let (outcome, issue) = kernel(BinaryOp::Add, false)
            .element(SampleRef::Histogram(&reset), SampleRef::Histogram(&no_reset));
        assert!(matches!(outcome, Outcome::NoResult));
        assert_eq!(issue, Some(Issue::CounterResetCollision(HistogramOperation::Addition)));
        let custom = Arc::new(FloatHistogram { schema: -53, ..FloatHistogram::default() });
        let (outcome, issue) =
            kernel(BinaryOp::Sub, false).element(SampleRef::Histogram(&a), SampleRef::Histogram(&custom));
        assert!(matches!(outcome, Outcome::NoResult));
        assert_eq!(issue, Some(Issue::IncompatibleBuckets));
    }

    #[test]
    fn columns_of_both_kinds() {
        let mut left = column(&[Some(1.0), None, Some(3.0), None, None]);
        let mut right = column(&[Some(1.0), Some(2.0), None, None, None]);
        left.push_histogram(1, histogram(4.0, CounterResetHint::Unknown));
        left.push_histogram(3, histogram(4.0, CounterResetHint::Unknown));
        right.push_histogram(2, histogram(8.0, CounterResetHint::Unknown));
        right.push_histogram(4, histogram(8.0, CounterResetHint::Unknown));
        let (mut out, mut met, mut issues) = (Column::default(), Vec::new(), StepIssues::default());
        kernel(BinaryOp::Mul, false).columns(&left, &right, &mut out, &mut met, 0, &mut issues);
        assert_eq!(samples(&out), [Some(1.0), None, None, None, None]);
        assert_eq!(
            out.histograms.iter().map(|(k, h)| (*k, h.count)).collect::<Vec<_>>(),
            [(1, 8.0), (2, 24.0)]
        );
        assert_eq!(met, [0b111]);
        kernel(BinaryOp::Div, false).columns(&left, &right, &mut out, &mut met, 0, &mut issues);
        assert_eq!(met, [0b011]);
        assert_eq!(issues.annotations(BinaryOp::Div, Span::default()).len(), 1);
    }

    #[test]
    fn the_last_pair_of_a_step_is_told() {
        let mut issues = StepIssues::default();
        let of = |lhs, rhs| Issue::IncompatibleTypes { lhs, rhs };
        issues.report(0, 5, of("float", "histogram"));
        issues.report(0, 2, of("histogram", "float"));
        issues.report(3, 1, of("float", "histogram"));
        let texts = issues.annotations(BinaryOp::Add, Span::default());
        assert_eq!(texts.len(), 1);
        assert!(texts[0].text.ends_with("float + histogram"));
    }

    #[test]
    fn scalars_leave_histograms_they_can_scale() {
        let mut c = column(&[Some(6.0), None]);
        c.push_histogram(1, histogram(6.0, CounterResetHint::Unknown));
        let mut issues = StepIssues::default();
        kernel(BinaryOp::Div, false).with_scalar(&mut c, ScalarArg::Constant(2.0), false, 0, &mut issues);
        assert_eq!((c.float(0), c.histogram(1).map(|h| h.count)), (Some(3.0), Some(3.0)));
        kernel(BinaryOp::Gtr, true).with_scalar(&mut c, ScalarArg::Constant(1.0), false, 0, &mut issues);
        assert_eq!((samples(&c), c.histograms.len()), (vec![Some(1.0), None], 0));
        assert_eq!(issues.annotations(BinaryOp::Gtr, Span::default()).len(), 1);
    }
}
