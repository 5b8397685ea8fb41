//! Rule files, groups, recording and alerting rules; their unit tests, backtests and lint.

pub mod alerting;
pub mod error;
pub mod file;
pub mod labels;
pub mod query;
pub mod storage_query;
pub mod unit;
