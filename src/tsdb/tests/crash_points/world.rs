//! A data directory that is written to by a script, and what was told about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tsdbctl_head::live::{Appender, Committed, LiveOptions, SeriesId};
use tsdbctl_model::sample::{Exemplar, MetricType};
use tsdbctl_model::{Labels, Matcher};
use tsdbctl_platform::disk::{Access, Disk, create_dir_all, write_all_at};
use tsdbctl_platform::real::RealDisk;
use tsdbctl_platform::recorder::Recorder;
use tsdbctl_storage::{Control, StorageError};
use tsdbctl_tsdb::LiveDatabase;
use tsdbctl_wal::Compression;

use crate::model::{Batch, Deletion, Event, Offer, Told, Value};

/// Time of the first sample, at a boundary of all ranges used here.
pub const START: i64 = 1_700_000_640_000 / 7_200_000 * 7_200_000;
/// Time between two scrapes.
pub const STEP: i64 = 1000;
/// Range of the smallest blocks, of those operations that make real ones.
pub const BLOCK_MS: i64 = 8 * STEP;

/// Small everything, so that few samples fill it.
pub fn options() -> LiveOptions {
    let mut options = LiveOptions {
        out_of_order_window_ms: 30_000,
        max_exemplars: 100,
        metadata_records: true,
        chunk_file_bytes: 1500,
        ..LiveOptions::default()
    };
    options.rules.chunk_range_ms = 60_000;
    options.rules.samples_per_chunk = 4;
    options.rules.out_of_order_cap = 3;
    options.log.segment_bytes = 32 << 10;
    options.log.compression = Compression::None;
    options
}

/// The directory, who writes to it, and what was said.
pub struct World {
    pub dir: PathBuf,
    pub options: LiveOptions,
    pub disk: Arc<dyn Disk>,
    /// Marks what was told.
    pub recorder: Option<Recorder>,
    pub db: Option<LiveDatabase>,
    pub told: Told,
    /// Time of the newest scrape.
    pub t: i64,
    /// How often a batch is sent at most.
    pub tries: usize,
    /// So many series more are scraped.
    pub width: usize,
    /// So many commits wait for their answers together.
    pub wait_for: usize,
    waiting: Vec<(Batch, Committed)>,
    /// The disk does not fail.
    pub well: bool,
    /// Where identifiers of blocks come from.
    pub seed: u64,
}

impl World {
    pub fn new(root: &Path, options: LiveOptions) -> Self {
        Self {
            dir: root.join("data"),
            options,
            disk: Arc::new(RealDisk),
            recorder: None,
            db: None,
            told: Told::default(),
            t: START,
            tries: 2,
            width: 0,
            wait_for: 1,
            waiting: Vec::new(),
            well: true,
            seed: 0,
        }
    }

    pub fn expect<T>(&self, result: Result<T, StorageError>, what: &str) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(e) if self.well => panic!("{what}: {e}"),
            Err(_) => None,
        }
    }

    /// Opens the directory if it is not open.
    pub fn start(&mut self) {
        if self.db.is_none() {
            let opened = LiveDatabase::open(self.disk.clone(), &self.dir, self.options, &Control::default());
            self.db = self.expect(opened, "start").map(|(db, _)| db);
        }
    }

    /// Closes it.
    pub fn close(&mut self) {
        self.wait();
        if let Some(db) = self.db.take() {
            let closed = db.close();
            self.expect(closed, "close");
        }
    }

    /// As if its process was killed: what the system has stays.
    pub fn kill(&mut self) {
        self.waiting.clear();
        self.db = None;
    }

    /// Hands full chunks to the system.
    pub fn maintain(&mut self) {
        if let Some(db) = &self.db {
            self.expect(db.maintain(), "maintain");
        }
    }

    pub fn tell(&mut self, event: Event) {
        if let Some(recorder) = &self.recorder {
            recorder.mark(self.told.events.len().to_string());
        }
        self.told.events.push(event);
    }

    /// The series of a name.
    pub fn series(appender: &mut Appender, name: &str) -> Option<SeriesId> {
        appender.series([("__name__", name), ("job", "crash")].into_iter()).ok()
    }

    /// Appends to a batch; whether all was taken.
    pub fn offer(&mut self, appender: &mut Appender, offers: &[Offer]) -> bool {
        let mut taken = true;
        for Offer { name, t, value } in offers {
            self.told.sent.insert((name.clone(), *t), value.code());
            let Some(id) = Self::series(appender, name) else { return false };
            let done = match value {
                Value::Float(v) => appender.append_float(id, *t, *v, 0),
                Value::Histogram(h) => appender.append_histogram(id, *t, h, 0),
                Value::FloatHistogram(h) => appender.append_float_histogram(id, *t, h, 0),
            };
            assert!(done.is_ok() || !self.well, "{name} {t}: {done:?}");
            taken &= done.is_ok();
        }
        taken
    }

    /// Commits a batch, waits for the answer and notes it.
    pub fn commit(&mut self, appender: &mut Appender, batch: Batch) -> bool {
        let sent = appender.len() as u64;
        let done = appender.commit();
        let Some(done) = self.expect(done, "commit") else { return false };
        let all = done.stored + done.same == sent;
        assert!(all || !self.well, "{done:?} of {sent}");
        if !all {
            return false;
        }
        self.waiting.push((batch, done));
        self.waiting.len() < self.wait_for || self.wait()
    }

    /// Waits for the answers and notes them; whether all were good.
    fn wait(&mut self) -> bool {
        let mut good = true;
        for (batch, done) in std::mem::take(&mut self.waiting) {
            let Some(db) = &self.db else { return false };
            let answer = db.head().wait(&done);
            match self.expect(answer, "wait") {
                Some(()) => self.tell(Event::Acknowledged(batch)),
                None => good = false,
            }
        }
        good
    }

    /// Sends a batch; once more if it fails and nothing else is wanted.
    pub fn send(&mut self, offers: &[Offer]) -> bool {
        self.send_with(offers, &[], &[])
    }

    /// The same with exemplars (series, time, value) and help texts.
    pub fn send_with(
        &mut self,
        offers: &[Offer],
        exemplars: &[(&str, i64, f64)],
        metadata: &[(&str, &str)],
    ) -> bool {
        let Some(db) = &self.db else { return false };
        let mut appender = db.appender();
        for _ in 0..self.tries {
            let taken = self.offer(&mut appender, offers);
            let mut batch =
                Batch { samples: offers.iter().map(|o| (o.name.clone(), o.t)).collect(), ..Batch::default() };
            for (name, t, value) in exemplars {
                let Some(id) = Self::series(&mut appender, name) else { continue };
                let labels = Labels::from_pairs([("trace", "x")]);
                let exemplar = Exemplar { labels, value: *value, timestamp_ms: *t };
                if appender.append_exemplar(id, &exemplar).is_ok() {
                    batch.exemplars.push(((*name).to_string(), *t, value.to_bits()));
                }
            }
            for (name, help) in metadata {
                let Some(id) = Self::series(&mut appender, name) else { continue };
                appender.set_metadata(id, MetricType::Gauge, "", help);
                self.told.sent_metadata.insert(((*name).to_string(), (*help).to_string()));
                batch.metadata.push(((*name).to_string(), (*help).to_string()));
            }
            if taken && self.commit(&mut appender, batch) {
                return true;
            }
            appender.rollback();
        }
        false
    }

    /// A scrape of these series: floats, one step behind the last.
    pub fn scrape(&mut self, names: &[&str]) -> bool {
        self.t += STEP;
        let mut offers: Vec<Offer> =
            (0u32..).zip(names).map(|(i, name)| float(name, self.t, f64::from(i))).collect();
        offers.extend((0..self.width).map(|i| float(&format!("x{i}"), self.t, i as f64)));
        self.send(&offers)
    }

    /// Late samples: these series, so far behind the newest scrape.
    pub fn late(&mut self, names: &[&str], behind: &[i64]) {
        for behind in behind {
            let t = self.t - behind;
            let offers: Vec<Offer> = names.iter().map(|name| float(name, t, 0.5)).collect();
            self.told.late.extend(offers.iter().map(|o| (o.name.clone(), o.t)));
            self.send(&offers);
        }
    }

    /// Deletes a range of a series.
    pub fn delete(&mut self, name: &str, mint: i64, maxt: i64) {
        if self.db.is_none() {
            return;
        }
        let deletion = Deletion { name: name.to_string(), mint, maxt };
        self.tell(Event::DeletionBegun(deletion.clone()));
        let Some(db) = &self.db else { return };
        let done = db.head().delete(mint, maxt, &[Matcher::equal("__name__", name)], &Control::default());
        if self.expect(done, "delete").is_some() {
            self.tell(Event::Deleted(deletion));
        }
    }

    /// A block up to `maxt`, of which there is only the description: nothing here reads what is before that.
    pub fn put_block(&mut self, maxt: i64, late: bool) -> bool {
        let ulid = format!("01HGW2N5E{}{:016}", u8::from(late), maxt);
        let hints = if late { "\"from-out-of-order\"" } else { "" };
        let mint = if late { 0 } else { START };
        let text = format!(
            "{{\"ulid\":\"{ulid}\",\"minTime\":{mint},\"maxTime\":{},\"version\":1,\
             \"compaction\":{{\"hints\":[{hints}]}}}}",
            if late { 1 } else { maxt }
        );
        let (made, block) = (self.dir.join(format!("{ulid}.tmp-for-creation")), self.dir.join(&ulid));
        let disk = self.disk.clone();
        let put = || -> Result<(), StorageError> {
            create_dir_all(&*disk, &made)?;
            let file = disk.open(&made.join("meta.json"), Access::Truncate)?;
            write_all_at(&*file, text.as_bytes(), 0)?;
            file.sync_data()?;
            disk.sync_dir(&made)?;
            disk.rename(&made, &block)?;
            Ok(disk.sync_dir(&self.dir)?)
        };
        let done = put();
        self.expect(done, "block").is_some()
    }

    /// Waits until the disk, which is well again, takes samples: by itself, without a start. `with_blocks`:
    /// and until all of the head is in blocks, and these are compacted.
    pub fn comes_back(&mut self, with_blocks: bool) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            self.start();
            if self.scrape(&["back"]) && (!with_blocks || self.flush() > 0) {
                if with_blocks {
                    self.well = true;
                    self.compact(&crate::on_blocks::compaction_options());
                }
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// A float of a series: the value is made of the time.
pub fn float(name: &str, t: i64, part: f64) -> Offer {
    Offer { name: name.to_string(), t, value: Value::Float(((t - START) / STEP) as f64 * 100.0 + part) }
}
