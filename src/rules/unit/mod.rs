//! Unit tests of rules: upstream's file format and verdicts, and what makes failures easy to read and to mend.

pub mod compare;
pub mod file;
pub mod glob;
pub mod program;
pub mod query;
pub mod report;
pub mod run;
pub mod series;
pub mod store;
pub mod suite;
pub mod trap;
pub mod update;
