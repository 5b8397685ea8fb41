//! Where samples go: to the head, gathered in batches, put in order of time where that is needed, committed,
//! acknowledged; or straight into blocks.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tsdbctl_head::live::{Appender, Committed, Head, SeriesId};
use tsdbctl_model::histogram::{ConvertedHistogram, EXPONENTIAL_SCHEMA_MAX, is_exponential_schema_reserved};
use tsdbctl_model::sample::{Exemplar, MetricType};
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_storage::{Refusal, RefusalCounts, StorageError};
use tsdbctl_tsdb::backfill::{Backfill, BackfillError, Taken};

use super::batch::{Batch, Other, OtherValue};
use super::patience::{Patience, samples};
use super::series::{Known, LabelScratch, SeriesCache};

/// Samples of one commit.
pub const COMMIT_SAMPLES: usize = 5_000;
/// Commits that may wait to be acknowledged.
const ACKS_AHEAD: usize = 256;
/// After so many commits full chunks go to their files.
const MAINTAIN_COMMITS: u64 = 64;
/// What the note of what was said about a series takes, with room to grow.
const TOLD_BYTES: usize = 64;
/// A pipe that is silent for this long is waiting and not working.
const SILENCE: Duration = Duration::from_secs(2);

/// Whether samples are put in order of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Where the input turns out to be in no order that the head takes, such as series by series.
    #[default]
    Auto,
    /// All of the input, within the memory limit.
    Always,
    /// Nothing: samples go in as they come.
    Never,
}

/// What the sink is told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Labels that every series gets.
    pub added: Labels,
    /// Selectors, of which a series needs one.
    pub selectors: Vec<Vec<Matcher>>,
    /// Samples later than this are refused, Unix ms.
    pub newest_ms: Option<i64>,
    /// Order.
    pub sort: Sort,
    /// Bytes that samples may take until they are in order.
    pub buffer_bytes: usize,
    /// How far a sample may lie behind the newest one without being refused, ms.
    pub behind_ms: i64,
    /// Bytes that what is remembered of series may take.
    pub series_bytes: usize,
    /// Series that the input may bring; 0 for any number.
    pub series_max: usize,
    /// Whether exemplars are stored.
    pub exemplars: bool,
    /// Whether metadata is stored.
    pub metadata: bool,
    /// Whether acknowledgements are printed.
    pub ack: bool,
}

/// What came and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Float samples read.
    pub floats: u64,
    /// Histograms with integer counts read.
    pub histograms: u64,
    /// Histograms with float counts read.
    pub float_histograms: u64,
    /// Exemplars read.
    pub exemplars: u64,
    /// Samples that no selector matched.
    pub unmatched: u64,
    /// Samples that were refused.
    pub refused: RefusalCounts,
    /// Samples that were there already.
    pub same: u64,
    /// Samples stored.
    pub stored: u64,
    /// Of these, out of order.
    pub out_of_order: u64,
    /// Exemplars stored.
    pub exemplars_stored: u64,
    /// Exemplars that were there already.
    pub exemplars_same: u64,
    /// Exemplars of series that no selector matched.
    pub exemplars_unmatched: u64,
    /// Exemplars that were refused, or their series was.
    pub exemplars_refused: RefusalCounts,
    /// Exemplars that have no place where samples go.
    pub exemplars_without_place: u64,
    /// Types, helps and units read.
    pub metadata: u64,
    /// Exemplars that were read and not stored, as samples are.
    pub exemplars_not_stored: u64,
    /// Samples that were read and not stored: the disk did not take them until the end, or they were in no order.
    pub not_stored: u64,
    /// Series that the input brought and that were neither unmatched nor refused, each once.
    pub series: u64,
    /// The first sample refused in each class, for the message.
    pub examples: Vec<(Refusal, String)>,
    /// The first exemplar refused in each class.
    pub exemplar_examples: Vec<(Refusal, String)>,
    /// How far the oldest sample that was refused for its age lay behind the newest one, ms.
    pub behind_ms: i64,
}

impl Counts {
    /// Samples read.
    pub fn read(&self) -> u64 {
        self.floats + self.histograms + self.float_histograms
    }
}

/// Why reading ends before the end of the input.
#[derive(Debug)]
pub enum Stop {
    /// A signal.
    Asked,
    /// Something that cannot be read, which was shown.
    Unreadable,
    /// More samples than fit in memory are in no order that the head takes.
    Unordered {
        /// Samples that were not stored.
        held: usize,
        /// How far they jump back, ms.
        back_ms: i64,
    },
    /// The disk did not take what was read, or may not have it.
    Disk {
        /// What it said.
        error: StorageError,
        /// A signal ended waiting for it.
        asked: bool,
    },
    /// A sample belongs to a time that the directory has already, or blocks did not all get their names.
    Blocks(BackfillError),
    /// The input or the store failed.
    Failed(anyhow::Error),
}

impl Stop {
    /// What a backfill ends for.
    pub fn of_backfill(error: BackfillError) -> Self {
        match error {
            e @ (BackfillError::Overlap { .. } | BackfillError::Partly { .. }) => Self::Blocks(e),
            BackfillError::Storage(error) if error.may_pass() => Self::Disk { error, asked: false },
            BackfillError::Storage(error) => Self::Failed(error.into()),
        }
    }
}

/// Where samples end up.
#[allow(clippy::large_enum_variant, reason = "there is one of them")]
pub enum Store {
    /// In the head.
    Head(Appender),
    /// In new blocks.
    Blocks(Box<Backfill>),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Stop {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

/// Takes samples.
pub struct Sink {
    store: Store,
    settings: Settings,
    patience: Arc<Patience>,
    /// Series that were met.
    pub cache: SeriesCache,
    /// A label set in the making.
    pub scratch: LabelScratch,
    /// Which series were counted, a bit each: the head numbers them densely.
    counted: Vec<u64>,
    /// What was said last about a series; forgotten when it is too much, the head knows it too.
    told: HashMap<SeriesId, u64>,
    /// Metadata that waits for a commit.
    said: usize,
    /// Exemplars that the next commit takes.
    exemplars: u64,
    batch: Batch,
    /// The part of the batch whose order is known.
    seen: (usize, usize),
    /// At which length the batch is looked at.
    look_at: usize,
    /// Whether samples are kept back until all are there.
    holding: bool,
    /// The newest time read.
    high: i64,
    /// How far samples of the batch jump back.
    back_ms: i64,
    last_commit: Committed,
    commits: u64,
    acks: Option<Acks>,
    /// What came of it all.
    pub counts: Counts,
}

impl Sink {
    /// A sink into the head.
    pub fn new(appender: Appender, settings: Settings, patience: Arc<Patience>) -> Self {
        let acks = settings.ack.then(|| Acks::start(appender.head(), Arc::clone(&patience)));
        Self::with_store(Store::Head(appender), acks, settings, patience)
    }

    /// A sink into blocks, which are made when [`Sink::into_blocks`] hands their backfill back.
    pub fn into(backfill: Backfill, settings: Settings, patience: Arc<Patience>) -> Self {
        Self::with_store(Store::Blocks(Box::new(backfill)), None, settings, patience)
    }

    fn with_store(store: Store, acks: Option<Acks>, settings: Settings, patience: Arc<Patience>) -> Self {
        let cache = SeriesCache::with_bytes(settings.series_bytes / 4 * 3);
        Self {
            store,
            settings,
            patience,
            cache,
            scratch: LabelScratch::default(),
            counted: Vec::new(),
            told: HashMap::new(),
            said: 0,
            exemplars: 0,
            batch: Batch::default(),
            seen: (0, 0),
            look_at: COMMIT_SAMPLES,
            holding: false,
            high: i64::MIN,
            back_ms: 0,
            last_commit: Committed::default(),
            commits: 0,
            acks,
            counts: Counts::default(),
        }
    }

    /// Goes on with another target: its labels, and the series met there; those of the target before come back.
    pub fn swap_target(&mut self, cache: &mut SeriesCache, added: &mut Labels) {
        std::mem::swap(&mut self.cache, cache);
        std::mem::swap(&mut self.settings.added, added);
    }

    /// Whether exemplars are wanted.
    pub fn wants_exemplars(&self) -> bool {
        self.settings.exemplars
    }

    /// Whether metadata is wanted.
    pub fn wants_metadata(&self) -> bool {
        self.settings.metadata
    }

    /// The series whose labels lie in the scratch, new to the cache under `key`.
    pub fn resolve(&mut self, key: u128) -> Known {
        let known = match self.scratch.finish(&self.settings.added) {
            Err(refusal) => Known::Refused(refusal),
            Ok(()) if !self.scratch.matches(&self.settings.selectors) => Known::Unmatched,
            Ok(()) => match self.series() {
                Ok(id) => Known::Id(id),
                Err(refusal) => Known::Refused(refusal),
            },
        };
        if let Known::Refused(refusal) = known
            && !self.counts.examples.iter().any(|e| e.0 == refusal)
        {
            let labels: Vec<(&str, &str)> = self.scratch.iter().collect();
            let text = format!(
                "{{{}}}",
                labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect::<Vec<_>>().join(", ")
            );
            self.example(refusal, text);
        }
        // The head may have room for it later; --max-series never has.
        if known != Known::Refused(Refusal::Limit) || self.has_all_series() {
            self.cache.insert(key, known);
        }
        known
    }

    /// The series whose labels lie in the scratch, fit to be stored.
    fn series(&mut self) -> Result<SeriesId, Refusal> {
        let id = if self.has_all_series() {
            // One that came before may come again, spelled otherwise.
            let found = match &self.store {
                Store::Head(appender) => appender.find(self.scratch.iter()),
                Store::Blocks(backfill) => backfill.find(self.scratch.iter()).map(SeriesId),
            };
            found.filter(|id| self.is_counted(*id)).ok_or(Refusal::Limit)?
        } else {
            match &mut self.store {
                Store::Head(appender) => appender.series(self.scratch.iter())?,
                Store::Blocks(backfill) => SeriesId(backfill.series(self.scratch.iter())),
            }
        };
        if !self.is_counted(id) {
            let word = id.0 as usize / 64;
            if word >= self.counted.len() {
                self.counted.resize(word + 1, 0);
            }
            self.counted[word] |= 1 << (id.0 % 64);
            self.counts.series += 1;
        }
        Ok(id)
    }

    /// Whether the input has brought as many series as it may.
    fn has_all_series(&self) -> bool {
        self.settings.series_max > 0 && self.counts.series >= self.settings.series_max as u64
    }

    fn is_counted(&self, id: SeriesId) -> bool {
        self.counted.get(id.0 as usize / 64).is_some_and(|word| word >> (id.0 % 64) & 1 == 1)
    }

    /// The series whose labels lie in the scratch.
    pub fn series_of_scratch(&mut self, class: u64) -> Known {
        let key = self.scratch.key(&self.cache, class);
        match self.cache.get(key) {
            Some(known) => known,
            None => self.resolve(key),
        }
    }

    fn example(&mut self, refusal: Refusal, text: String) {
        if !self.counts.examples.iter().any(|e| e.0 == refusal) {
            self.counts.examples.push((refusal, text));
        }
    }

    /// The series, if a sample of it at `t` may go on to the head.
    #[inline]
    fn admitted(&mut self, known: Known, t: i64) -> Option<SeriesId> {
        match known {
            Known::Id(id) => match self.settings.newest_ms {
                Some(newest) if t > newest => {
                    self.refuse(id, t, Refusal::TooFarAhead);
                    None
                }
                _ => Some(id),
            },
            Known::Unmatched => {
                self.counts.unmatched += 1;
                None
            }
            Known::Refused(refusal) => {
                self.counts.refused.add(refusal);
                None
            }
        }
    }

    /// A float sample. [`Sink::check`] is due afterwards.
    #[inline]
    pub fn float(&mut self, known: Known, t: i64, v: f64, st: i64) {
        self.counts.floats += 1;
        if let Some(id) = self.admitted(known, t) {
            match &mut self.store {
                Store::Head(_) => self.batch.float(id, t, v, st),
                Store::Blocks(backfill) => {
                    let taken = backfill.float(id.0, t, v, st);
                    if taken != Taken::Kept {
                        self.refuse_taken(id, t, taken);
                    }
                }
            }
        }
    }

    #[cold]
    fn refuse_taken(&mut self, id: SeriesId, t: i64, taken: Taken) {
        match taken {
            Taken::Kept => {}
            Taken::OutOfBounds => self.refuse(id, t, Refusal::OutOfBounds),
            Taken::InvalidHistogram => self.refuse(id, t, Refusal::InvalidHistogram),
        }
    }

    /// A histogram. [`Sink::check`] is due afterwards.
    pub fn histogram(&mut self, known: Known, t: i64, mut h: ConvertedHistogram, st: i64) {
        match &h {
            ConvertedHistogram::Integer(_) => self.counts.histograms += 1,
            ConvertedHistogram::Float(_) => self.counts.float_histograms += 1,
        }
        let Some(id) = self.admitted(known, t) else { return };
        // Finer than is stored: made as coarse as it must be.
        let too_fine =
            |schema: i32| is_exponential_schema_reserved(schema) && schema > EXPONENTIAL_SCHEMA_MAX;
        let reduced = match &mut h {
            ConvertedHistogram::Integer(h) if too_fine(h.schema) => {
                h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX)
            }
            ConvertedHistogram::Float(h) if too_fine(h.schema) => h.reduce_resolution(EXPONENTIAL_SCHEMA_MAX),
            _ => Ok(()),
        };
        match reduced {
            Ok(()) => match &mut self.store {
                Store::Head(_) => self.batch.histogram(id, t, h, st),
                Store::Blocks(backfill) => {
                    let taken = backfill.histogram(id.0, t, &h, st);
                    self.refuse_taken(id, t, taken);
                }
            },
            Err(_) => self.refuse(id, t, Refusal::InvalidHistogram),
        }
    }

    /// An exemplar of a series.
    pub fn exemplar(&mut self, known: Known, exemplar: Exemplar) {
        self.counts.exemplars += 1;
        let t = exemplar.timestamp_ms;
        if matches!(self.store, Store::Blocks(_)) {
            // They have no place in blocks.
            self.counts.exemplars_without_place += 1;
            return;
        }
        match known {
            Known::Id(id) if self.settings.newest_ms.is_some_and(|newest| t > newest) => {
                self.refuse_exemplar(id, t, Refusal::TooFarAhead);
            }
            Known::Id(id) => self.batch.exemplar(id, exemplar),
            Known::Unmatched => self.counts.exemplars_unmatched += 1,
            Known::Refused(refusal) => self.counts.exemplars_refused.add(refusal),
        }
    }

    /// What is said about a series.
    pub fn metadata(&mut self, known: Known, metric_type: MetricType, unit: &str, help: &str) {
        let Known::Id(id) = known else { return };
        let Store::Head(appender) = &mut self.store else { return };
        let said = self.cache.key(u64::MAX, format!("{metric_type:?}\n{unit}\n{help}").as_bytes()) as u64;
        if self.told.len() >= self.settings.series_bytes / 4 / TOLD_BYTES {
            self.told = HashMap::new();
        }
        if self.told.insert(id, said) != Some(said) {
            appender.set_metadata(id, metric_type, unit, help);
            self.said += 1;
        }
    }

    fn labels(&self, id: SeriesId) -> Labels {
        match &self.store {
            Store::Head(appender) => appender.labels(id),
            Store::Blocks(backfill) => backfill.labels(id.0),
        }
    }

    fn refuse_exemplar(&mut self, id: SeriesId, t: i64, refusal: Refusal) {
        self.counts.exemplars_refused.add(refusal);
        if !self.counts.exemplar_examples.iter().any(|e| e.0 == refusal) {
            let text = format!("{} at {t}", self.labels(id));
            self.counts.exemplar_examples.push((refusal, text));
        }
    }

    fn refuse(&mut self, id: SeriesId, t: i64, refusal: Refusal) {
        self.counts.refused.add(refusal);
        if matches!(refusal, Refusal::OutOfBounds | Refusal::OutOfOrder | Refusal::TooOld) {
            let newest = match &self.store {
                Store::Head(appender) => appender.head().bounds().head_max_ms.max(self.high),
                Store::Blocks(_) => self.high,
            };
            self.counts.behind_ms = self.counts.behind_ms.max(newest.saturating_sub(t));
        }
        if !self.counts.examples.iter().any(|e| e.0 == refusal) {
            let text = format!("{} at {t}", self.labels(id));
            self.example(refusal, text);
        }
    }

    /// Commits if enough has come.
    ///
    /// # Errors
    /// If it cannot, or the samples are in no order.
    #[inline]
    pub fn check(&mut self) -> Result<(), Stop> {
        if let Store::Blocks(backfill) = &mut self.store {
            return backfill.check().map_err(Stop::of_backfill);
        }
        if self.batch.len() >= self.look_at || self.batch.exemplars.len() >= self.look_at {
            self.look()
        } else if self.said >= COMMIT_SAMPLES {
            // It has no order: samples may go on waiting for theirs.
            self.commit()
        } else {
            Ok(())
        }
    }

    fn look(&mut self) -> Result<(), Stop> {
        self.judge();
        if !self.holding {
            return self.flush();
        }
        if self.batch.bytes() < self.settings.buffer_bytes {
            self.look_at = self.batch.len().max(self.batch.exemplars.len()) + COMMIT_SAMPLES;
            return Ok(());
        }
        if self.back_ms > self.settings.behind_ms {
            let held = self.batch.len();
            self.counts.not_stored += held as u64;
            self.counts.exemplars_not_stored += self.batch.exemplars.len() as u64;
            self.batch.clear();
            return Err(Stop::Unordered { held, back_ms: self.back_ms });
        }
        self.flush()
    }

    /// Decides from the order of what has come whether it is kept back.
    fn judge(&mut self) {
        let order = self.batch.order(self.seen, &mut self.high);
        let new = self.batch.len() - self.seen.0 - self.seen.1;
        self.seen = (self.batch.floats.len(), self.batch.others.len());
        self.back_ms = self.back_ms.max(order.back_ms);
        self.holding |= match self.settings.sort {
            Sort::Never => false,
            Sort::Always => true,
            // Samples that mostly follow one of their own series are a dump, series by series: what comes next may
            // begin anywhere.
            Sort::Auto => order.runs * 2 > new || self.back_ms > self.settings.behind_ms,
        };
    }

    /// The input is silent, for as long as is said.
    ///
    /// # Errors
    /// If what has come cannot be committed.
    pub fn idle(&mut self, silent: Duration) -> Result<(), Stop> {
        if matches!(self.store, Store::Blocks(_)) {
            return Ok(());
        }
        if self.batch.is_empty() {
            return if self.said > 0 { self.commit() } else { Ok(()) };
        }
        self.judge();
        let waits = self.settings.sort != Sort::Always && self.back_ms <= self.settings.behind_ms;
        if !self.holding || (waits && silent >= SILENCE) { self.flush() } else { Ok(()) }
    }

    /// Commits all that has come.
    ///
    /// # Errors
    /// If it cannot.
    pub fn flush(&mut self) -> Result<(), Stop> {
        self.judge();
        if self.settings.sort != Sort::Never && self.back_ms > 0 {
            self.batch.sort();
        }
        let mut batch = std::mem::take(&mut self.batch);
        let result = self.append(&batch);
        batch.clear();
        self.batch = batch;
        (self.seen, self.look_at, self.holding, self.back_ms) = ((0, 0), COMMIT_SAMPLES, false, 0);
        result
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Stop> {
        let (floats, others) = (&batch.floats, &batch.others);
        let (mut f, mut o) = (0, 0);
        let mut refused = Vec::new();
        while f < floats.len() || o < others.len() {
            let mut room = COMMIT_SAMPLES;
            while room > 0 && (f < floats.len() || o < others.len()) {
                let until =
                    others.get(o).map_or(floats.len(), |other| other.after).min(f.saturating_add(room));
                if until > f {
                    let Store::Head(appender) = &mut self.store else { return Ok(()) };
                    appender.append_floats(&floats[f..until], |i, refusal| refused.push((f + i, refusal)));
                    for (i, refusal) in refused.drain(..) {
                        self.refuse(floats[i].0, floats[i].1, refusal);
                    }
                    room -= until - f;
                    f = until;
                } else if let Some(other) = others.get(o) {
                    let Store::Head(appender) = &mut self.store else { return Ok(()) };
                    if let Err(refusal) = append_other(appender, other) {
                        self.refuse(other.id, other.t, refusal);
                    }
                    room -= 1;
                    o += 1;
                }
            }
            if f < floats.len() || o < others.len() {
                self.commit().inspect_err(|_| {
                    self.counts.not_stored += (floats.len() - f + others.len() - o) as u64;
                    self.counts.exemplars_not_stored += batch.exemplars.len() as u64;
                })?;
            }
        }
        for (id, exemplar) in &batch.exemplars {
            let Store::Head(appender) = &mut self.store else { return Ok(()) };
            match appender.append_exemplar(*id, exemplar) {
                Ok(()) => self.exemplars += 1,
                Err(refusal) => self.refuse_exemplar(*id, exemplar.timestamp_ms, refusal),
            }
        }
        self.commit()
    }

    /// Commits what the appender has; while the disk does not take it, this waits.
    fn commit(&mut self) -> Result<(), Stop> {
        let patience = Arc::clone(&self.patience);
        let mut wait = patience.wait();
        let committed = loop {
            let Store::Head(appender) = &mut self.store else { return Ok(()) };
            match appender.commit() {
                Ok(committed) => break committed,
                Err(e) => {
                    let kept = appender.len() as u64;
                    if let Err(stop) = wait.pause(e, || samples(kept)) {
                        self.counts.not_stored += kept;
                        let partly = appender.partly();
                        appender.rollback();
                        self.count(&partly);
                        self.counts.exemplars_not_stored += std::mem::take(&mut self.exemplars);
                        self.said = 0;
                        return Err(stop);
                    }
                }
            }
        };
        drop(wait);
        self.count(&committed);
        // What the head took and neither stored nor refused it had.
        self.counts.exemplars_same += std::mem::take(&mut self.exemplars);
        self.said = 0;
        self.commits += 1;
        if self.commits.is_multiple_of(MAINTAIN_COMMITS)
            && let Store::Head(appender) = &self.store
            && let Err(e) = appender.head().files.flush()
            && !e.may_pass()
        {
            // Else they stay in memory until there is room; the log, which has them too, sets the bound.
            return Err(e.into());
        }
        if let Some(acks) = &self.acks {
            acks.send(self.last_commit, self.counts.stored + self.counts.same)?;
        }
        Ok(())
    }

    fn count(&mut self, committed: &Committed) {
        let counts = &mut self.counts;
        counts.stored += committed.stored;
        counts.out_of_order += committed.out_of_order;
        counts.same += committed.same;
        counts.exemplars_stored += committed.exemplars;
        let mut refused = committed.refused;
        let exemplars = refused.take(Refusal::OutOfOrderExemplar);
        counts.refused.merge(&refused);
        (0..exemplars).for_each(|_| counts.exemplars_refused.add(Refusal::OutOfOrderExemplar));
        self.exemplars = self.exemplars.saturating_sub(committed.exemplars + exemplars);
        self.last_commit.wal = self.last_commit.wal.max(committed.wal);
        self.last_commit.wbl = self.last_commit.wbl.max(committed.wbl);
    }

    /// What came, and the backfill that has it, to be finished.
    pub fn into_blocks(self) -> (Counts, Option<Box<Backfill>>) {
        let Store::Blocks(backfill) = self.store else { return (self.counts, None) };
        (self.counts, Some(backfill))
    }

    /// Commits all that has come and waits until it is as safe as the policy promises. What was kept back when reading
    /// stopped goes in too.
    ///
    /// # Errors
    /// If it cannot.
    pub fn finish(mut self) -> (Counts, Result<(), Stop>) {
        let mut result = if self.batch.is_empty() && self.said == 0 { Ok(()) } else { self.flush() };
        if result.is_ok() {
            let kept = || samples(self.counts.stored + self.counts.same);
            result = match &mut self.store {
                Store::Head(appender) => self.patience.insist(kept, || appender.wait(&self.last_commit)),
                Store::Blocks(_) => Ok(()),
            };
        }
        if let Some(acks) = self.acks.take() {
            let told = acks.finish();
            result = result.and(told);
        }
        (self.counts, result)
    }
}

fn append_other(appender: &mut Appender, other: &Other) -> Result<(), Refusal> {
    match &other.value {
        OtherValue::Float(v) => appender.append_float(other.id, other.t, *v, other.st),
        OtherValue::Histogram(h) => match &**h {
            ConvertedHistogram::Integer(h) => appender.append_histogram(other.id, other.t, h, other.st),
            ConvertedHistogram::Float(h) => appender.append_float_histogram(other.id, other.t, h, other.st),
        },
    }
}

/// Prints how many samples are safe, as soon as they are.
struct Acks {
    commits: SyncSender<(Committed, u64)>,
    failed: Arc<Mutex<Option<Stop>>>,
    thread: JoinHandle<()>,
}

impl Acks {
    fn start(head: &Arc<Head>, patience: Arc<Patience>) -> Self {
        let (commits, incoming) = sync_channel(ACKS_AHEAD);
        let failed = Arc::new(Mutex::new(None));
        let waiter = Appender::new(Arc::clone(head));
        let thread = std::thread::spawn({
            let failed = Arc::clone(&failed);
            move || {
                if let Err(stop) = acknowledge(&waiter, &incoming, &patience) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
                }
            }
        });
        Self { commits, failed, thread }
    }

    fn send(&self, committed: Committed, safe: u64) -> Result<(), Stop> {
        // The thread is gone only if it failed.
        self.commits.send((committed, safe)).map_err(|_| self.failure())
    }

    fn failure(&self) -> Stop {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.unwrap_or_else(|| Stop::Failed(anyhow::anyhow!("acknowledgements ended")))
    }

    fn finish(self) -> Result<(), Stop> {
        drop(self.commits);
        let ended = self.thread.join();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (ended, failed) {
            (Ok(()), None) => Ok(()),
            (_, Some(stop)) => Err(stop),
            (Err(_), None) => Err(Stop::Failed(anyhow::anyhow!("acknowledgements ended"))),
        }
    }
}

fn acknowledge(
    waiter: &Appender,
    commits: &Receiver<(Committed, u64)>,
    patience: &Patience,
) -> Result<(), Stop> {
    let mut told = 0;
    while let Ok((mut committed, mut safe)) = commits.recv() {
        // One sync makes all safe that were committed before it.
        while let Ok(next) = commits.try_recv() {
            (committed, safe) = next;
        }
        // After a failed sync the log writes it again, elsewhere; only when that is durable is it acknowledged.
        patience.insist(|| samples(safe - told), || waiter.wait(&committed))?;
        told = safe;
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{safe}").and_then(|()| out.flush());
        written.map_err(|e| Stop::Failed(anyhow::Error::new(e).context("stdout")))?;
    }
    Ok(())
}
