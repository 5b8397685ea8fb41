//! Scripts on series in memory.

use tsdbctl_chunk::AppenderOptions;
use tsdbctl_storage::control::Control;
use tsdbctl_storage::memory::{MemorySample, MemoryStore};

use super::load::LoadedSeries;
use super::run::ScriptEngine;
use crate::engine::error::QueryError;
use crate::engine::options::{QueryOptions, QueryTime};
use crate::engine::result::QueryResult;
use crate::engine::run::run;

/// This crate's engine over a store in memory that keeps start timestamps, as upstream's own test run does.
pub struct MemoryEngine {
    store: MemoryStore,
}

impl MemoryEngine {
    /// With an empty store.
    pub fn new() -> Self {
        Self { store: empty() }
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

fn empty() -> MemoryStore {
    MemoryStore::new(AppenderOptions {
        xor2: true,
        st: true,
        histograms_st: true,
        ..AppenderOptions::default()
    })
}

impl ScriptEngine for MemoryEngine {
    fn clear(&mut self) {
        self.store = empty();
    }

    fn append(&mut self, series: &LoadedSeries) -> Result<(), String> {
        for s in &series.samples {
            let sample = match &s.histogram {
                Some(h) => MemorySample::FloatHistogram((**h).clone()),
                None => MemorySample::Float(s.value),
            };
            self.store
                .append(&series.labels, s.t, s.st, &sample)
                .map_err(|e| format!("{} at {} ms: {e}", series.labels, s.t))?;
        }
        Ok(())
    }

    fn query(&self, expr: &str, time: QueryTime, options: &QueryOptions) -> Result<QueryResult, QueryError> {
        run(&self.store, expr, time, options, &Control::default())
    }
}
