//! What was sent to a data directory, what of it was answered for, and what must be found after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use tsdbctl_model::{FloatHistogram, Histogram};

/// Name of the series and time.
pub type Key = (String, i64);

/// Values by series and time; of histograms a hash of their text.
pub type Samples = BTreeMap<Key, u64>;

/// A value that is sent.
#[derive(Clone, Debug)]
pub enum Value {
    Float(f64),
    Histogram(Histogram),
    FloatHistogram(FloatHistogram),
}

impl Value {
    /// As it is compared.
    pub fn code(&self) -> u64 {
        match self {
            Self::Float(v) => v.to_bits(),
            Self::Histogram(h) => text_code(&h.to_float().to_string()),
            Self::FloatHistogram(h) => text_code(&h.to_string()),
        }
    }
}

/// A text as it is compared.
pub fn text_code(text: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    hash.finish()
}

/// A sample that is sent.
#[derive(Clone, Debug)]
pub struct Offer {
    pub name: String,
    pub t: i64,
    pub value: Value,
}

/// Samples of one series that are deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub name: String,
    pub mint: i64,
    pub maxt: i64,
}

/// Something the directory's owner was told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A batch is safe.
    Acknowledged(Batch),
    /// A deletion was begun; it may be there from here on.
    DeletionBegun(Deletion),
    /// It is there.
    Deleted(Deletion),
}

/// What is answered for at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub samples: Vec<Key>,
    /// Series, time and value of exemplars.
    pub exemplars: Vec<(String, i64, u64)>,
    /// Help texts.
    pub metadata: Vec<(String, String)>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub sent: Samples,
    /// Samples that come late, which blocks made of samples in order do not have.
    pub late: BTreeSet<Key>,
    pub sent_metadata: BTreeSet<(String, String)>,
    pub events: Vec<Event>,
}

/// What a directory has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub samples: Samples,
    pub exemplars: BTreeSet<(String, i64, u64)>,
    pub metadata: BTreeMap<String, String>,
}

/// Why an image is not as it must be.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the texts are for messages")]
pub enum Fault {
    Unreadable(String),
    Lost(String),
    Doubled(String),
    Other(String),
}

impl Told {
    /// What must be there after the first `done` events. `floor` is where the head begins: before it all is in blocks;
    /// late samples too if `late_in_blocks`.
    pub fn check(
        &self,
        done: usize,
        found: &Found,
        floor: i64,
        late_in_blocks: bool,
        metadata: bool,
    ) -> Result<(), Fault> {
        let (mut must, mut gone, mut may_be_gone) = (BTreeSet::new(), Vec::new(), Vec::new());
        for (i, event) in self.events.iter().enumerate() {
            match event {
                Event::Acknowledged(batch) if i < done => {
                    must.extend(batch.samples.iter());
                    if let Some(lost) = batch.exemplars.iter().find(|e| !found.exemplars.contains(e)) {
                        return Err(Fault::Lost(format!("exemplar {lost:?}")));
                    }
                    // A later one may have taken its place.
                    let is_lost = |(name, _): &&(String, String)| !found.metadata.contains_key(name);
                    if metadata && let Some(lost) = batch.metadata.iter().find(is_lost) {
                        return Err(Fault::Lost(format!("metadata {lost:?}")));
                    }
                }
                Event::DeletionBegun(deletion) if i <= done => may_be_gone.push(deletion),
                Event::Deleted(deletion) if i < done => gone.push(deletion),
                _ => {}
            }
        }
        let in_any = |all: &[&Deletion], (name, t): &Key| {
            all.iter().any(|d| crate::on_blocks::is_of(d, name) && (d.mint..=d.maxt).contains(t))
        };
        for key in must {
            let is_in_block = key.1 < floor || (late_in_blocks && self.late.contains(key));
            match found.samples.get(key) {
                None if is_in_block || in_any(&may_be_gone, key) => {}
                None => return Err(Fault::Lost(format!("{key:?} of {} samples", found.samples.len()))),
                Some(_) if in_any(&gone, key) => return Err(Fault::Other(format!("{key:?} was deleted"))),
                Some(_) => {}
            }
        }
        for (key, value) in &found.samples {
            match self.sent.get(key) {
                Some(sent) if sent == value => {}
                sent => return Err(Fault::Other(format!("{key:?} is {value:x}, sent was {sent:x?}"))),
            }
        }
        for (name, help) in &found.metadata {
            if !self.sent_metadata.contains(&(name.clone(), help.clone())) {
                return Err(Fault::Other(format!("metadata {help} of {name} was never sent")));
            }
        }
        Ok(())
    }
}
