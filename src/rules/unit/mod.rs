//! Unit tests of rules: upstream's file format and verdicts, and what makes failures easy to read and to mend.

pub mod compare;
pub mod explain;
pub mod file;
pub mod fit;
pub mod glob;
pub mod outcome;
pub mod program;
pub mod query;
pub mod report;
pub mod run;
pub mod series;
pub mod storage;
pub mod store;
pub mod suite;
pub mod trap;
pub mod update;
