//! PromQL's test scripts: data to load, expressions to evaluate, and what must come out.

pub mod compare;
pub mod expect;
pub mod load;
mod memory;
mod pin;
pub mod read;
pub mod run;

pub use expect::{Expectation, ExpectedSeries, Message, MessagePattern};
pub use load::{Load, LoadedSample, LoadedSeries};
pub use memory::MemoryEngine;
pub use read::{Evaluation, Script, ScriptError, Statement, StatementKind, read_script};
pub use run::{Failure, Report, ScriptEngine, run, run_options};
