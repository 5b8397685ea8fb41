//! Retention per selector: series that satisfy a rule keep only samples that are new enough, others are left alone. Rules
//! take effect where blocks are rewritten; [`overdue_rule`] says whether one should be for their sake.

use std::sync::Arc;

use tsdbctl_block::Block;
use tsdbctl_block::cut::push_from;
use tsdbctl_block::source::BlockSource;
use tsdbctl_model::Matcher;
use tsdbctl_storage::{ChunkBatch, ChunkSource, Control, LabelRef, StorageError};

use crate::retention::Timeline;

/// How long the series of a selector are kept.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The selector as it was written.
    pub selector: String,
    /// What a series has to satisfy.
    pub matchers: Vec<Matcher>,
    /// Age from which samples go, ms; 0 for never, so that no later rule takes them.
    pub keep_ms: i64,
}

/// Rules in order. Of those that a series satisfies the first counts.
#[derive(Clone, Debug, Default)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// What time each rule comes to: samples before it go. `None` for those that keep everything.
    pub fn cutoffs(&self, timeline: &Timeline) -> Vec<Option<i64>> {
        let cutoff = |rule: &Rule| match rule.keep_ms {
            ..=0 => None,
            keep => timeline.cutoff_ms(keep),
        };
        self.0.iter().map(cutoff).collect()
    }
}

/// Answers of one matcher for every symbol.
struct Answers {
    /// Place of the label's name in the symbols, if it is one.
    name: Option<u32>,
    /// A bit per symbol: whether it is a value that matches.
    values: Vec<u64>,
    /// Whether series without the label match.
    without: bool,
}

impl Answers {
    fn matches(&self, labels: &[LabelRef]) -> bool {
        let value = self.name.and_then(|name| labels.iter().find(|l| l.0 == name));
        match value {
            Some(&(_, value)) => {
                self.values.get(value as usize / 64).is_some_and(|bits| bits >> (value % 64) & 1 == 1)
            }
            None => self.without,
        }
    }
}

/// Which rule a series of a source falls under.
pub struct Ruling {
    rules: Vec<Vec<Answers>>,
}

impl Ruling {
    /// Asks the matchers of `rules` about all strings of a source, once.
    ///
    /// # Errors
    /// If the source cannot be read.
    pub fn of(source: &mut dyn ChunkSource, rules: &[Rule]) -> Result<Self, StorageError> {
        let answers = |m: &Matcher| Answers { name: None, values: Vec::new(), without: m.matches_empty() };
        let mut ruling =
            Self { rules: rules.iter().map(|r| r.matchers.iter().map(answers).collect()).collect() };
        let mut at: u32 = 0;
        source.symbols(&mut |symbol| {
            for (rule, all) in rules.iter().zip(&mut ruling.rules) {
                for (matcher, answers) in rule.matchers.iter().zip(all) {
                    if matcher.name == symbol {
                        answers.name = Some(at);
                    }
                    if at.is_multiple_of(64) {
                        answers.values.push(0);
                    }
                    if let Some(bits) = answers.values.last_mut()
                        && matcher.matches(symbol)
                    {
                        *bits |= 1 << (at % 64);
                    }
                }
            }
            at += 1;
            Ok(())
        })?;
        Ok(ruling)
    }

    /// The first rule that a series satisfies.
    pub fn first(&self, labels: &[LabelRef]) -> Option<usize> {
        self.rules.iter().position(|all| all.iter().all(|answers| answers.matches(labels)))
    }
}

/// A source without the samples that rules do not keep.
pub struct RuledSource {
    inner: Box<dyn ChunkSource>,
    ruling: Ruling,
    cutoffs: Vec<Option<i64>>,
    /// Of the current series.
    cutoff: Option<i64>,
    batch: ChunkBatch,
}

impl RuledSource {
    /// Puts rules with their cutoffs ([`Rules::cutoffs`]) before a source.
    ///
    /// # Errors
    /// If the source cannot be read.
    pub fn new(
        mut inner: Box<dyn ChunkSource>,
        rules: &Rules,
        cutoffs: Vec<Option<i64>>,
    ) -> Result<Self, StorageError> {
        let ruling = Ruling::of(&mut *inner, &rules.0)?;
        Ok(Self { inner, ruling, cutoffs, cutoff: None, batch: ChunkBatch::default() })
    }
}

impl ChunkSource for RuledSource {
    fn symbols(
        &mut self,
        each: &mut dyn FnMut(&str) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.inner.symbols(each)
    }

    fn next(&mut self) -> Result<bool, StorageError> {
        let there_is = self.inner.next()?;
        self.cutoff = None;
        if there_is && let Some(rule) = self.ruling.first(self.inner.labels()) {
            self.cutoff = self.cutoffs.get(rule).copied().flatten();
        }
        Ok(there_is)
    }

    fn labels(&self) -> &[LabelRef] {
        self.inner.labels()
    }

    fn chunks(&mut self, out: &mut ChunkBatch) -> Result<(), StorageError> {
        let Some(cutoff) = self.cutoff else { return self.inner.chunks(out) };
        self.batch.clear();
        self.inner.chunks(&mut self.batch)?;
        for chunk in self.batch.iter().filter(|c| c.maxt >= cutoff) {
            if chunk.mint >= cutoff {
                out.push(chunk);
            } else {
                let before = out.len();
                if push_from(chunk, cutoff, out).is_err() {
                    // Kept whole: a chunk that cannot be decoded here is for whoever reads it.
                    out.truncate(before);
                    out.push(chunk);
                }
            }
        }
        Ok(())
    }
}

/// The first rule for whose sake a block should be rewritten: it takes something of it, and either the whole block is
/// before the rule's cutoff, or what is taken reaches back at least half the block's range. So a block is rewritten
/// twice at most for a rule, and not each time some more of it is too old.
///
/// # Errors
/// If the block cannot be read.
pub fn overdue_rule(
    block: &Arc<Block>,
    rules: &Rules,
    cutoffs: &[Option<i64>],
    control: &Control,
) -> Result<Option<usize>, StorageError> {
    let (start, end) = (block.meta().min_time, block.meta().max_time);
    for (i, (rule, cutoff)) in rules.0.iter().zip(cutoffs).enumerate() {
        let Some(cutoff) = *cutoff else { continue };
        let half_ms = end.saturating_sub(start) / 2;
        let last = if cutoff >= end {
            end.saturating_sub(1)
        } else if cutoff.saturating_sub(start) >= half_ms {
            cutoff.saturating_sub(half_ms)
        } else {
            continue;
        };
        let selection = [rule.matchers.clone()];
        let mut source = BlockSource::select(Arc::clone(block), start, last, &selection, control)?;
        let earlier = &rules.0[..i];
        let ruling = if earlier.is_empty() { None } else { Some(Ruling::of(&mut source, earlier)?) };
        let mut chunks = ChunkBatch::default();
        while source.next()? {
            control.check("retention rules")?;
            if ruling.as_ref().is_some_and(|r| r.first(source.labels()).is_some()) {
                continue;
            }
            chunks.clear();
            source.chunks(&mut chunks)?;
            if !chunks.is_empty() {
                return Ok(Some(i));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use tsdbctl_model::{Labels, MatchType};
    use tsdbctl_storage::{EncodedChunk, chunk_source::LiteralSource};

    use super::*;

    fn rule(matchers: &[(&str, MatchType, &str)], keep_ms: i64) -> Rule {
        let matchers =
            matchers.iter().map(|(name, kind, value)| Matcher::new(*kind, *name, *value).unwrap()).collect();
        Rule { selector: String::new(), matchers, keep_ms }
    }

    /// Series by their job, with a chunk of 10 ms at each of the times.
    fn source(series: &[(&str, &[i64])]) -> LiteralSource {
        let series = series.iter().map(|(job, times)| {
            let mut chunks = ChunkBatch::default();
            for &mint in *times {
                chunks.push(EncodedChunk { encoding: 1, data: b"xy", mint, maxt: mint + 9 });
            }
            let labels =
                Labels::from_pairs([("__name__", "m"), ("job", job)].into_iter().filter(|l| !l.1.is_empty()));
            (labels, chunks)
        });
        LiteralSource::new(series.collect())
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = Rules(vec![
            rule(&[("job", MatchType::Equal, "precious")], 0),
            rule(&[("job", MatchType::Regexp, "debug|test")], 20),
            rule(&[("job", MatchType::Equal, "")], 30),
            rule(&[("__name__", MatchType::Equal, "m"), ("job", MatchType::NotEqual, "other")], 40),
        ]);
        let cutoffs = vec![None, Some(80), Some(70), Some(60)];
        let times: &[i64] = &[40, 50, 60, 70, 80, 90];
        let jobs = ["", "debug", "other", "precious", "test", "web"];
        let all: Vec<_> = jobs.iter().map(|job| (*job, times)).collect();
        let mut ruled = RuledSource::new(Box::new(source(&all)), &rules, cutoffs).unwrap();
        for (job, want) in jobs.iter().zip([&times[3..], &times[4..], times, times, &times[4..], &times[2..]])
        {
            assert!(ruled.next().unwrap());
            let mut out = ChunkBatch::default();
            ruled.chunks(&mut out).unwrap();
            assert_eq!(out.iter().map(|c| c.mint).collect::<Vec<_>>(), want, "{job}");
        }
        assert!(!ruled.next().unwrap());
    }

    #[test]
    fn series_may_lose_all_they_have() {
        let rules = Rules(vec![rule(&[("job", MatchType::Equal, "a")], 1)]);
        let mut ruled =
            RuledSource::new(Box::new(source(&[("a", &[10, 20])])), &rules, vec![Some(100)]).unwrap();
        let mut out = ChunkBatch::default();
        assert!(ruled.next().unwrap());
        ruled.chunks(&mut out).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn more_symbols_than_fit_in_a_word() {
        let jobs: Vec<String> = (0..200).map(|i| format!("j{i:03}")).collect();
        let all: Vec<(&str, &[i64])> = jobs.iter().map(|job| (&**job, &[10][..])).collect();
        let mut source = source(&all);
        let rules = [
            rule(&[("job", MatchType::Equal, "j150")], 1),
            rule(&[("job", MatchType::Regexp, ".*[27]3")], 1),
        ];
        let ruling = Ruling::of(&mut source, &rules).unwrap();
        let mut found = Vec::new();
        for job in &jobs {
            assert!(source.next().unwrap());
            if let Some(rule) = ruling.first(source.labels()) {
                found.push((&**job, rule));
            }
        }
        assert_eq!(found, [("j023", 1), ("j073", 1), ("j123", 1), ("j150", 0), ("j173", 1)]);
    }

    #[test]
    fn rules_follow_the_clock_as_retention_does() {
        let meta = |a, b| tsdbctl_block::BlockMeta::new(format!("{a}"), a, b);
        let rules = Rules(vec![rule(&[], 0), rule(&[], 300)]);
        let cutoffs =
            |metas: &[tsdbctl_block::BlockMeta], now| rules.cutoffs(&Timeline::new(metas, now, 100));
        assert_eq!(cutoffs(&[meta(0, 1000)], 2000), [None, Some(700)]);
        assert_eq!(cutoffs(&[meta(0, 1000)], 900), [None, Some(600)]);
        let future = 100_000_000;
        assert_eq!(cutoffs(&[meta(0, 1000), meta(future, future + 1)], 1100), [None, Some(700)]);
        assert_eq!(cutoffs(&[meta(future, future + 1)], 1100), [None, None]);
    }
}
