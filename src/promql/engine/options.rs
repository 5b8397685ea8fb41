//! What a query may do, and when it is evaluated.

/// Feature switches, by upstream's names (`--enable-feature`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`
    pub binop_fill_modifiers: bool,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `promql-per-step-stats`
    pub per_step_stats: bool,
    /// `use-start-timestamps`
    pub use_start_timestamps: bool,
    /// `type-and-unit-labels`
    pub type_and_unit_labels: bool,
}

/// A feature that Prometheus does not have, or that is not about queries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown feature {0:?}")]
pub struct UnknownFeature(pub String);

impl Features {
    /// Switches on one feature by upstream's name. `Ok(false)` for the ones that are accepted and do
    /// nothing here, `Err` for names nobody knows.
    pub fn enable(&mut self, name: &str) -> Result<bool, UnknownFeature> {
        let slot = match name {
            "promql-experimental-functions" => &mut self.experimental_functions,
            "promql-extended-range-selectors" => &mut self.extended_range_selectors,
            "promql-binop-fill-modifiers" => &mut self.binop_fill_modifiers,
            "promql-delayed-name-removal" => &mut self.delayed_name_removal,
            "promql-per-step-stats" => &mut self.per_step_stats,
            "use-start-timestamps" => &mut self.use_start_timestamps,
            "type-and-unit-labels" => &mut self.type_and_unit_labels,
            "promql-duration-expr"
            | "native-histograms"
            | "promql-at-modifier"
            | "promql-negative-offset" => {
                return Ok(false);
            }
            _ => return Err(UnknownFeature(name.to_string())),
        };
        *slot = true;
        Ok(true)
    }
}

/// Limits and settings of one query.
#[derive(Clone, Copy, Debug)]
pub struct QueryOptions {
    /// How far an instant selector looks back, ms.
    pub lookback_delta: i64,
    /// Upstream's limit on samples in memory.
    pub max_samples: u64,
    /// Step of subqueries without one (global evaluation interval), ms.
    pub default_subquery_step: i64,
    /// Worker threads; 1 evaluates on the calling thread alone.
    pub threads: usize,
    /// A second thread is started when the first has measured that more than this much work is left, in
    /// seconds: below, its start and hand-overs cost more CPU than they save time.
    pub second_thread_above_seconds: f64,
    /// Count samples per step (`stats=all`).
    pub per_step_stats: bool,
    /// Feature switches.
    pub features: Features,
    /// How coarse samples may be where there are finer ones.
    pub max_source_resolution: MaxResolution,
}

/// How coarse samples may be where there are finer ones (Thanos' `max_source_resolution`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxResolution {
    /// By step, range and function; instant queries want raw samples.
    #[default]
    Auto,
    /// Windows of at most this length, ms; 0 for raw samples.
    Fixed(i64),
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            lookback_delta: 300_000,
            max_samples: 50_000_000,
            default_subquery_step: 60_000,
            threads: 2,
            second_thread_above_seconds: 0.02,
            per_step_stats: false,
            features: Features::default(),
            max_source_resolution: MaxResolution::Auto,
        }
    }
}

/// When an expression is evaluated; Unix ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryTime {
    /// Once.
    Instant(i64),
    /// At `start`, `start + step`, … up to `end`.
    Range {
        /// First evaluation time.
        start: i64,
        /// Latest evaluation time.
        end: i64,
        /// Distance, ms, at least 1.
        step: i64,
    },
}

/// Evaluation times: `start + k * step` for `k < steps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepGrid {
    /// First evaluation time, Unix ms.
    pub start: i64,
    /// Distance, ms; at least 1 (1 for a single step).
    pub step: i64,
    /// Number of evaluation times.
    pub steps: usize,
}

impl StepGrid {
    /// The time of step `k`.
    #[inline]
    pub fn time(&self, k: usize) -> i64 {
        self.start + k as i64 * self.step
    }

    /// The last evaluation time (`start` if there are no steps).
    pub fn end(&self) -> i64 {
        self.start + (self.steps as i64 - 1).max(0) * self.step
    }
}
