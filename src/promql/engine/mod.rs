//! The engine: plans, operators, columns and results.

pub mod column;
pub mod error;
pub mod options;
pub mod result;

pub use column::Column;
pub use error::{ErrorKind, QueryError};
pub use options::{Features, QueryOptions, QueryTime, StepGrid};
pub use result::{Points, QueryResult, Sample, Value};
