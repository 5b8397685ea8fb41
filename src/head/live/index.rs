//! Which series there are: label pairs, label sets, postings, and the way from labels to a series.

use tsdbctl_model::{Labels, Matcher};
use tsdbctl_storage::Control;
use tsdbctl_storage::control::ControlError;

/// Number of a series in this head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u32);

/// The index of a head, without the samples. Label sets are runs of pair numbers, a pair is a name with a value.
#[derive(Debug, Default)]
pub struct Index {}

impl Index {
    /// The series of a label set: sorted by name, names unique, no empty values.
    pub fn find<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<SeriesId> {
        let _ = labels;
        todo!()
    }

    /// The series of a label set, made if it is new, which the second says. The caller makes its record under the same
    /// lock.
    pub fn find_or_create<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> (SeriesId, bool) {
        let _ = labels;
        todo!()
    }

    /// Names and values of a series in order of the names; none if it was removed.
    pub fn labels(&self, id: SeriesId) -> impl Iterator<Item = (&str, &str)> {
        let _ = id;
        std::iter::empty()
    }

    /// The label set as strings.
    pub fn owned_labels(&self, id: SeriesId) -> Labels {
        Labels::from_pairs(self.labels(id))
    }

    /// Takes series out; their numbers are not used again.
    pub fn remove(&mut self, ids: &[SeriesId]) {
        let _ = ids;
        todo!()
    }

    /// Live series that satisfy all matchers, ascending.
    ///
    /// # Errors
    /// If the control says stop.
    pub fn select(&self, matchers: &[Matcher], control: &Control) -> Result<Vec<SeriesId>, ControlError> {
        let _ = (matchers, control);
        todo!()
    }

    /// All label names of live series, sorted.
    pub fn label_names(&self) -> Vec<String> {
        todo!()
    }

    /// All values of a name among live series, sorted.
    pub fn label_values(&self, name: &str) -> Vec<String> {
        let _ = name;
        todo!()
    }

    /// Number of live series.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number that the next new series gets: one above the highest ever given.
    pub fn next_id(&self) -> u32 {
        todo!()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        todo!()
    }
}
