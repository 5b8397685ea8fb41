//! A block as a querier.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use tsdbctl_model::{Matcher, SymbolTable};
use tsdbctl_storage::querier::SeriesExemplars;
use tsdbctl_storage::{Control, Querier, SelectHints, SeriesSet, StorageError};

use crate::block::Block;
use crate::index::{Damage, Index};
use crate::matching::{RefMap, candidates};
use crate::series_set::BlockSeriesSet;

/// Answers queries from one block.
#[derive(Clone, Debug)]
pub struct BlockQuerier {
    block: Arc<Block>,
}

impl BlockQuerier {
    /// A querier over a block.
    pub fn new(block: Arc<Block>) -> Self {
        Self { block }
    }

    /// The block.
    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }

    fn all_values(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<String>, StorageError> {
        let index = self.block.index();
        let table = index.table()?;
        let Some(range) = table.find(index.bytes(), name) else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        let mut failed = Ok(());
        let walked = table.each_from(index.bytes(), range, b"", |value, _| match text(index, value) {
            Ok(v) => {
                if matchers.iter().all(|m| m.matches(v)) {
                    out.push(v.to_string());
                }
                ControlFlow::Continue(())
            }
            Err(e) => {
                failed = Err(e);
                ControlFlow::Break(())
            }
        });
        walked.map_err(|d| index.corrupt(d))?;
        failed?;
        index.check_intact()?;
        Ok(out)
    }
}

fn text<'a>(index: &Index, bytes: &'a [u8]) -> Result<&'a str, StorageError> {
    std::str::from_utf8(bytes).map_err(|_| {
        index.corrupt(Damage::at(
            index.toc().postings_table as usize,
            "the postings offset table has a string that is not UTF-8",
        ))
    })
}

impl Querier for BlockQuerier {
    fn select(
        &self,
        hints: &SelectHints,
        matchers: &[Matcher],
        symbols: &mut SymbolTable,
        control: &Control,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        Ok(Box::new(BlockSeriesSet::select(&self.block, hints, matchers, symbols, control)?))
    }

    fn label_names(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<String>, StorageError> {
        let index = self.block.index();
        let mut out = BTreeSet::new();
        if matchers.is_empty() {
            for name in index.table()?.names(index.bytes()).filter(|n| !n.is_empty()) {
                out.insert(text(index, name)?.to_string());
            }
        } else {
            let mut seen = RefMap::new(index)?;
            candidates(index, matchers, control)?.each_series(index, control, |series| {
                for (name, _) in series.labels {
                    if seen.get(*name) == 0 {
                        seen.set(*name, 1);
                        out.insert(index.symbol(*name)?.to_string());
                    }
                }
                Ok(())
            })?;
        }
        index.check_intact()?;
        Ok(out.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        control: &Control,
    ) -> Result<Vec<String>, StorageError> {
        if matchers.iter().all(|m| m.name == name) {
            return self.all_values(name, matchers);
        }
        let index = self.block.index();
        let mut out = BTreeSet::new();
        let mut seen = RefMap::new(index)?;
        // 1: another name, 2: the name asked for.
        let mut names = RefMap::new(index)?;
        candidates(index, matchers, control)?.each_series(index, control, |series| {
            for (n, value) in series.labels {
                if names.get(*n) == 0 {
                    names.set(*n, 1 + u32::from(index.symbol(*n)? == name));
                }
                if names.get(*n) == 2 && seen.get(*value) == 0 {
                    seen.set(*value, 1);
                    out.insert(index.symbol(*value)?.to_string());
                }
            }
            Ok(())
        })?;
        index.check_intact()?;
        Ok(out.into_iter().collect())
    }

    fn exemplars(
        &self,
        _start: i64,
        _end: i64,
        _selections: &[Vec<Matcher>],
        _control: &Control,
    ) -> Result<Vec<SeriesExemplars>, StorageError> {
        Ok(Vec::new())
    }
}
