//! A test's samples as the rule engine reads and writes them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tsdbctl_model::{Labels, Matcher};
use tsdbctl_promql::engine::Sample;
use tsdbctl_storage::Refusal;

use super::query::UnitQuery;
use super::store::{AppendError, UnitStore};
use crate::error::RuleError;
use crate::group::{RuleAppender, RuleStorage};
use crate::query::{Element, RuleExpr, RuleQuery};
use crate::restore::LastFloat;

/// The samples of one test, and who asks them.
pub struct UnitStorage<'a> {
    /// The samples.
    pub store: UnitStore,
    query: Mutex<UnitQuery<'a>>,
}

impl<'a> UnitStorage<'a> {
    /// Samples that `query` asks.
    pub fn new(store: UnitStore, query: UnitQuery<'a>) -> Self {
        Self { store, query: Mutex::new(query) }
    }

    /// Who asks them.
    pub fn unit_query(&self) -> MutexGuard<'_, UnitQuery<'a>> {
        self.query.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleStorage for UnitStorage<'_> {
    fn query(&self) -> Box<dyn RuleQuery + '_> {
        Box::new(Asking(self.unit_query()))
    }

    fn appender(&self) -> Box<dyn RuleAppender + '_> {
        Box::new(Writing { store: &self.store, oldest_ms: self.store.oldest_taken_ms(), words: None })
    }

    fn last_floats(&self, _: &[Matcher], _: i64, _: i64) -> Result<Vec<LastFloat>, String> {
        // Tests begin without a past.
        Ok(Vec::new())
    }
}

/// The one who asks, as long as a rule needs it.
struct Asking<'g, 'a>(MutexGuard<'g, UnitQuery<'a>>);

impl RuleQuery for Asking<'_, '_> {
    fn instant(&mut self, expr: &RuleExpr, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        self.0.instant(expr, t_ms)
    }

    fn instant_text(&mut self, text: &str, t_ms: i64) -> Result<Vec<Element>, RuleError> {
        self.0.instant_text(text, t_ms)
    }
}

struct Writing<'a> {
    store: &'a UnitStore,
    /// What is older is out of bounds.
    oldest_ms: i64,
    words: Option<String>,
}

impl RuleAppender for Writing<'_> {
    fn append(&mut self, labels: &Labels, t_ms: i64, sample: &Sample) -> Result<(), Refusal> {
        if t_ms < self.oldest_ms {
            self.words = None;
            return Err(Refusal::OutOfBounds);
        }
        self.store.append(labels, t_ms, sample).map_err(|e| {
            self.words = Some(e.to_string());
            match e {
                AppendError::OutOfOrder => Refusal::OutOfOrder,
                AppendError::Duplicate(_) => Refusal::Duplicate,
                AppendError::Invalid(_) => Refusal::InvalidHistogram,
            }
        })
    }

    fn words(&mut self) -> Option<String> {
        self.words.take()
    }

    fn commit(&mut self) -> Result<(), String> {
        Ok(())
    }
}
