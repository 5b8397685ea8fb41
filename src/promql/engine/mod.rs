//! The engine: plans, operators, columns and results.
//!
//! An expression becomes a tree of operators that are pulled from the root. An operator lists its series
//! once and then gives one column per series: all steps at once, decoded and computed in one pass.

pub mod absent;
pub mod account;
pub mod aggregate;
pub mod analyze;
pub mod column;
pub mod count_values;
pub mod element;
pub mod error;
pub mod extend;
pub mod grouping;
pub mod histogram_functions;
pub mod info;
pub mod join;
pub mod label_functions;
pub mod leaf;
pub mod merge_labels;
pub mod operator;
pub mod options;
pub mod plan;
pub mod range_call;
pub mod resolution;
pub mod result;
pub mod run;
pub mod scalar;
pub mod select_k;
pub mod selector;
pub mod set_operator;

pub use column::Column;
pub use error::{ErrorKind, QueryError};
pub use options::{Features, MaxResolution, QueryOptions, QueryTime, StepGrid};
pub use result::{Points, QueryResult, Sample, Value};
pub use run::{explain, on_big_stack, parse_query, run, run_analyzed, run_parsed, spawn_on_big_stack};

/// Refuses to go on if one node alone holds more samples than allowed.
///
/// # Errors
/// If it does.
pub fn check_samples(samples: i64, ev: &operator::Eval) -> Result<(), QueryError> {
    if samples > 0 && samples as u64 > ev.options.max_samples {
        return Err(too_many_samples());
    }
    Ok(())
}

/// Upstream's refusal, with the way out as a hint.
pub fn too_many_samples() -> QueryError {
    QueryError {
        hint: Some("raise --max-samples, lengthen the step, or narrow the selectors".to_string()),
        ..QueryError::execution("query processing would load too many samples into memory in query execution")
    }
}
