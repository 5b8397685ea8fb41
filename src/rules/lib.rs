//! Rule files, groups, recording and alerting rules; their unit tests, backtests and lint.

pub mod address;
pub mod alerting;
pub mod backtest;
pub mod check;
pub mod depend;
pub mod durations;
pub mod error;
pub mod eval;
pub mod file;
pub mod finding;
pub mod format;
pub mod group;
pub mod kubernetes;
pub mod labels;
pub mod lint;
pub mod manager;
mod permits;
pub mod query;
pub mod recording;
pub mod restore;
pub mod schedule;
pub mod sending;
pub mod storage_query;
pub mod unit;
