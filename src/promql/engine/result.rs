//! A query's answer.

use std::sync::Arc;

use tsdbctl_chunk::SampleColumns;
use tsdbctl_model::symbols::{Sym, SymbolTable};
use tsdbctl_model::{FloatHistogram, Labels};
use tsdbctl_storage::Annotations;

use super::column::Column;
use super::options::StepGrid;

/// The samples of one series of a matrix.
#[derive(Clone, Debug)]
pub enum Points {
    /// One slot per step of the result's grid.
    Grid(Column),
    /// The stored samples themselves (an instant query for a range selector).
    Raw(SampleColumns),
}

/// One series of a matrix.
#[derive(Clone, Debug)]
pub struct MatrixSeries {
    /// Labels, in symbols of the result's table.
    pub labels: Vec<(Sym, Sym)>,
    /// Samples; at least one.
    pub points: Points,
}

/// A float or a histogram.
#[derive(Clone, Debug)]
pub enum Sample {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(Arc<FloatHistogram>),
}

/// One element of a vector.
#[derive(Clone, Debug)]
pub struct VectorElement {
    /// Labels, in symbols of the result's table.
    pub labels: Vec<(Sym, Sym)>,
    /// Unix ms.
    pub t: i64,
    /// Its value.
    pub sample: Sample,
}

/// What an expression evaluated to.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Scalar {
        /// Unix ms.
        t: i64,
        /// The number.
        v: f64,
    },
    /// A text.
    String {
        /// Unix ms.
        t: i64,
        /// The text.
        v: String,
    },
    /// An instant vector, in upstream's order.
    Vector(Vec<VectorElement>),
    /// A range vector, sorted by labels.
    Matrix {
        /// The evaluation times of [`Points::Grid`] columns.
        grid: StepGrid,
        /// The series.
        series: Vec<MatrixSeries>,
    },
}

/// Sample statistics, as the API's `stats.samples`.
#[derive(Clone, Debug, Default)]
pub struct SampleStats {
    /// Window sizes summed over steps.
    pub total_queryable_samples: i64,
    /// Samples read, each once.
    pub samples_read: i64,
    /// Most samples in memory at once, by upstream's count.
    pub peak_samples: i64,
    /// `(Unix ms, total)` per step, if asked for.
    pub total_per_step: Option<Vec<(i64, i64)>>,
    /// `(Unix ms, read)` per step, if asked for.
    pub read_per_step: Option<Vec<(i64, i64)>>,
}

/// Where the time went, in seconds, as the API's `stats.timings`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Preparation and evaluation.
    pub eval_total: f64,
    /// Sorting the result.
    pub result_sort: f64,
    /// Opening and selecting.
    pub query_preparation: f64,
    /// Evaluation proper.
    pub inner_eval: f64,
    /// Waiting to be run.
    pub exec_queue: f64,
    /// All of it.
    pub exec_total: f64,
}

/// What one operator did, for `--analyze`.
#[derive(Clone, Debug, Default)]
pub struct OperatorStats {
    /// Depth in the tree, 0 for the root.
    pub depth: usize,
    /// The operator and its expression.
    pub name: String,
    /// Series that went out.
    pub series: u64,
    /// Chunks decoded.
    pub chunks: u64,
    /// Samples decoded.
    pub samples: u64,
    /// Bytes of chunks read.
    pub bytes: u64,
    /// Most bytes held at once.
    pub peak_memory: u64,
    /// Seconds spent in it, its inputs excluded.
    pub seconds: f64,
}

/// A successful query.
pub struct QueryResult {
    /// The value.
    pub value: Value,
    /// Strings of the labels.
    pub symbols: SymbolTable,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// Sample counts.
    pub stats: SampleStats,
    /// Where the time went.
    pub timings: Timings,
    /// Per operator, filled when asked for.
    pub operators: Vec<OperatorStats>,
}

impl QueryResult {
    /// An answer to a query that had nothing to do.
    pub fn empty(value: Value) -> Self {
        Self {
            value,
            symbols: SymbolTable::new(),
            annotations: Annotations::default(),
            stats: SampleStats::default(),
            timings: Timings::default(),
            operators: Vec::new(),
        }
    }

    /// The strings of a label set of this result.
    pub fn labels(&self, labels: &[(Sym, Sym)]) -> Labels {
        self.symbols.labels(labels)
    }
}
