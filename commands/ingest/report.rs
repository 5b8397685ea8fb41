//! What came, what is stored, what is refused and what to do about it.

use serde_json::json;
use tsdbctl_storage::{Refusal, RefusalCounts};
use tsdbctl_tsdb::backfill::NewBlock;

use super::blocks::{block_json, show_blocks};
use super::sink::Counts;
use super::{Args, Output};
use crate::exit::ExitStatus;
use crate::sizes::{format_count, format_size};
use crate::ui::{Tone, Ui};

/// The counts of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of samples.
    pub counts: Counts,
    /// Lines, rows, families, series or bodies that could not be read.
    pub unreadable: u64,
    /// Bytes read, decompressed.
    pub bytes: u64,
    /// Samples that the log of the directory held before.
    pub loaded: u64,
    /// The blocks that were made, where samples went into blocks.
    pub blocks: Option<Vec<NewBlock>>,
}

/// A class as upstream's metrics and this command's JSON call it.
fn key(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::OutOfBounds => "out_of_bounds",
        Refusal::OutOfOrder => "out_of_order",
        Refusal::TooOld => "too_old",
        Refusal::Duplicate => "duplicate",
        Refusal::TooFarAhead => "too_far_ahead",
        Refusal::InvalidLabels => "invalid_labels",
        Refusal::InvalidHistogram => "invalid_histogram",
        Refusal::InvalidStartTimestamp => "invalid_start_timestamp",
        Refusal::OutOfOrderExemplar => "out_of_order_exemplar",
        Refusal::UnknownSeries => "unknown_series",
        Refusal::Limit => "limit",
    }
}

/// A sample this far ahead of others has a wrong time, most likely.
const FAR_MS: i64 = 100 * 365 * 86_400_000;

/// A duration as the options take it, rounded up.
fn duration(ms: i64) -> String {
    match ms.max(0).div_euclid(1000) + 1 {
        s if s < 120 => format!("{s}s"),
        s if s < 7200 => format!("{}m", s.div_euclid(60) + 1),
        s => format!("{}h", s.div_euclid(3600) + 1),
    }
}

impl Report {
    /// How the run ends, if nothing else went wrong.
    pub fn status(&self) -> ExitStatus {
        let c = &self.counts;
        if c.not_stored + c.exemplars_not_stored > 0 {
            ExitStatus::Failure
        } else if c.refused.total() + c.exemplars_refused.total() + self.unreadable == 0 {
            ExitStatus::Success
        } else {
            ExitStatus::Partial
        }
    }

    /// Shows the counts.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn show(&self, args: &Args, ui: &mut Ui) -> anyhow::Result<()> {
        let c = &self.counts;
        let mut shown = Ok(());
        if args.output == Output::Json {
            let classes = |refused: &RefusalCounts| -> serde_json::Map<String, serde_json::Value> {
                let present = Refusal::ALL.iter().filter(|r| refused.get(**r) > 0);
                present.map(|r| (key(*r).to_owned(), refused.get(*r).into())).collect()
            };
            let mut line = json!({
                "read": {
                    "samples": c.read(),
                    "floats": c.floats,
                    "histograms": c.histograms,
                    "float_histograms": c.float_histograms,
                    "exemplars": c.exemplars,
                    "bytes": self.bytes,
                    "unreadable": self.unreadable,
                    "unmatched": c.unmatched,
                },
                "series": c.series,
                "stored": c.stored,
                "stored_out_of_order": c.out_of_order,
                "stored_exemplars": c.exemplars_stored,
                "already_there": c.same,
                "refused": classes(&c.refused),
                "exemplars": {
                    "unmatched": c.exemplars_unmatched,
                    "already_there": c.exemplars_same,
                    "refused": classes(&c.exemplars_refused),
                    "not_stored": c.exemplars_not_stored,
                },
                "not_stored": c.not_stored,
                "loaded": self.loaded,
            });
            if let Some(blocks) = &self.blocks {
                line["exemplars"]["without_place"] = c.exemplars_without_place.into();
                line["metadata_without_place"] = c.metadata.into();
                line["blocks"] = blocks.iter().map(block_json).collect();
            }
            shown = writeln!(ui.out(), "{line}").and_then(|()| ui.flush());
        }
        let count = format_count;
        let mut kinds = Vec::new();
        if c.histograms + c.float_histograms > 0 {
            kinds.push(format!("{} floats", count(c.floats)));
            kinds.push(format!("{} histograms", count(c.histograms)));
            kinds.push(format!("{} float histograms", count(c.float_histograms)));
        }
        if c.exemplars > 0 {
            kinds.push(format!("{} exemplars", count(c.exemplars)));
        }
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        ui.say(format!("read      {} samples{kinds} from {}", count(c.read()), format_size(self.bytes)));
        let mut stored = format!("stored    {} in {} series", count(c.stored), count(c.series));
        if c.out_of_order > 0 {
            stored += &format!(", {} of them out of order", count(c.out_of_order));
        }
        if c.exemplars_stored > 0 {
            stored += &format!(", {} exemplars", count(c.exemplars_stored));
        }
        ui.say(stored);
        if let Some(blocks) = &self.blocks {
            show_blocks(blocks, ui);
            if c.exemplars_without_place > 0 {
                let exemplars = count(c.exemplars_without_place);
                ui.say(format!("left out  {exemplars} exemplars, which have no place in blocks"));
            }
            if c.metadata > 0 {
                ui.detail(format!("{} types, helps and units have no place in blocks", count(c.metadata)));
            }
        }
        let both = [(c.not_stored, ""), (c.exemplars_not_stored, " exemplars")];
        for (n, what) in both.iter().filter(|b| b.0 > 0) {
            ui.say(format!("lost      {}{what} that were read and not stored", count(*n)));
        }
        for (n, what) in [(c.same, ""), (c.exemplars_same, " exemplars")].iter().filter(|b| b.0 > 0) {
            ui.say(format!("there     {}{what} already", count(*n)));
        }
        for (n, what) in [(c.unmatched, ""), (c.exemplars_unmatched, " exemplars")].iter().filter(|b| b.0 > 0)
        {
            ui.say(format!("left out  {}{what} that no selector matches", count(*n)));
        }
        let both =
            [(&c.refused, &c.examples, ""), (&c.exemplars_refused, &c.exemplar_examples, " exemplars:")];
        for (refused, examples, what) in both {
            for refusal in Refusal::ALL.iter().filter(|r| refused.get(**r) > 0) {
                let example = examples.iter().find(|e| e.0 == *refusal).map_or("", |e| e.1.as_str());
                let example = if example.is_empty() { String::new() } else { format!(", first {example}") };
                ui.say(format!("refused   {}{what} {refusal}{example}", count(refused.get(*refusal))));
            }
        }
        if self.unreadable > 0 {
            ui.say(format!("unread    {} that could not be read", count(self.unreadable)));
        }
        let late = [Refusal::OutOfBounds, Refusal::OutOfOrder, Refusal::TooOld];
        let word = ui.paint(Tone::Green, "hint");
        if late.iter().any(|r| c.refused.get(*r) > 0) && c.behind_ms > FAR_MS {
            ui.say(format!(
                "  = {word}: the newest sample of the directory lies {} later; if its time is wrong, it shuts all others out, and they need a directory of their own",
                duration(c.behind_ms)
            ));
        } else if late.iter().any(|r| c.refused.get(*r) > 0) {
            ui.say(format!(
                "  = {word}: the oldest of them lies {} behind the newest sample; --out-of-order-time-window={} takes it, and where the input itself is out of order --sort=always helps",
                duration(c.behind_ms),
                duration(c.behind_ms)
            ));
        }
        Ok(shown?)
    }
}

/// Says that more samples than fit in memory are in no order.
pub fn show_unordered(ui: &mut Ui, held: usize, back_ms: i64) {
    ui.error(format!(
        "the input goes back in time by {}, further than the head takes, and {} samples fill the memory for putting it in order; none of these is stored",
        duration(back_ms),
        format_count(held as u64)
    ));
    let word = ui.paint(Tone::Green, "hint");
    ui.say(format!(
        "  = {word}: a larger --memory-limit, --out-of-order-time-window={}, or input that is in order of time",
        duration(back_ms)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up() {
        for (ms, want) in [(0, "1s"), (59_999, "60s"), (3_600_000, "61m"), (8 * 3_600_000, "9h")] {
            assert_eq!(duration(ms), want);
        }
        duration(i64::MAX);
    }
}
