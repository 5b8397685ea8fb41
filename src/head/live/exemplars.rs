//! Exemplars of the live head: what is taken, and what a query gets.

use tsdbctl_model::sample::Exemplar;
use tsdbctl_model::{Label, Labels};
use tsdbctl_storage::append::Refusal;
use tsdbctl_wal::cursor::Cursor;
use tsdbctl_wal::record::{EncodedLabels, encode};

use crate::exemplars::{Owner, Verdict};
use crate::live::head::{Head, lock};
use crate::live::index::SeriesId;

/// Characters of all names and values of an exemplar's labels (upstream's `ExemplarMaxLabelSetLength`).
pub const MAX_LABEL_CHARACTERS: usize = 128;

/// Whether the labels may stand at an exemplar.
///
/// # Errors
/// If they are too long.
pub fn check_labels(labels: &Labels) -> Result<(), Refusal> {
    let characters = |l: &Label| l.name.chars().count() + l.value.chars().count();
    // A character has at most four bytes: most sets need no counting.
    let bytes: usize = labels.iter().map(|l| l.name.len() + l.value.len()).sum();
    if bytes > MAX_LABEL_CHARACTERS && labels.iter().map(characters).sum::<usize>() > MAX_LABEL_CHARACTERS {
        return Err(Refusal::InvalidLabels);
    }
    Ok(())
}

impl Head {
    /// Whether an exemplar may come: `false` for one that is there already.
    ///
    /// # Errors
    /// If it is out of order.
    pub(super) fn judge_exemplar(
        &self,
        id: SeriesId,
        t: i64,
        value: f64,
        labels: &Labels,
    ) -> Result<bool, Refusal> {
        let mut bytes = Vec::with_capacity(64);
        encode::labels(&mut bytes, labels);
        let Ok(labels) = EncodedLabels::read(&mut Cursor::new(&bytes)) else { return Ok(false) };
        let window = self.options.out_of_order_window_ms;
        match lock(&self.exemplars).judge(Owner::Slot(id.0), (t, value), labels, window) {
            Verdict::New => Ok(true),
            Verdict::Duplicate => Ok(false),
            Verdict::OutOfOrder => Err(Refusal::OutOfOrderExemplar),
        }
    }

    /// Stores an exemplar that was judged to be new.
    pub(super) fn store_exemplar(&self, id: SeriesId, t: i64, value: f64, labels: &Labels) {
        let mut bytes = Vec::with_capacity(64);
        encode::labels(&mut bytes, labels);
        if let Ok(labels) = EncodedLabels::read(&mut Cursor::new(&bytes)) {
            lock(&self.exemplars).add(Owner::Slot(id.0), t, value, labels);
        }
    }

    /// Exemplars with `mint <= t <= maxt` of each series for which `wanted` holds, in order of time; the series in
    /// order of their numbers.
    pub fn exemplars_in(
        &self,
        mint: i64,
        maxt: i64,
        mut wanted: impl FnMut(SeriesId) -> bool,
    ) -> Vec<(SeriesId, Vec<Exemplar>)> {
        let store = lock(&self.exemplars);
        let mut found: Vec<(SeriesId, Vec<Exemplar>)> = store
            .between(mint, maxt)
            .filter(|(slot, _)| wanted(SeriesId(*slot)))
            .map(|(slot, list)| {
                let list = list
                    .map(|e| Exemplar { labels: decoded(&e.labels), value: e.value, timestamp_ms: e.t })
                    .collect();
                (SeriesId(slot), list)
            })
            .collect();
        found.sort_by_key(|(id, _)| *id);
        found
    }
}

fn decoded(bytes: &[u8]) -> Labels {
    let Ok(labels) = EncodedLabels::read(&mut Cursor::new(bytes)) else { return Labels::empty() };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Labels::from_pairs(labels.iter().map(|(n, v)| (text(n), text(v))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_counted_in_characters() {
        let long = |name: &str, times: usize| Labels::from_pairs([("a", name.repeat(times))]);
        for (labels, ok) in [
            (Labels::empty(), true),
            (long("x", 127), true),
            (long("x", 128), false),
            (long("ü", 127), true),
            (long("ü", 128), false),
        ] {
            assert_eq!(check_labels(&labels).is_ok(), ok, "{labels}");
        }
    }
}
