//! The operations that are cut off at every point.

use std::path::Path;

use tsdbctl_head::live::LiveOptions;
use tsdbctl_model::histogram::BucketSpan;
use tsdbctl_model::sample::STALE_NAN_BITS;
use tsdbctl_model::{FloatHistogram, Histogram};
use tsdbctl_wal::{SegmentReader, SyncPolicy};

use crate::model::{Batch, Offer, Value};
use crate::world::{STEP, World, float, options};

/// An operation.
pub struct Operation {
    pub name: &'static str,
    pub options: fn() -> LiveOptions,
    /// What is done before, on a disk where all of it is durable in the end.
    pub before: fn(&mut World),
    /// What is cut off.
    pub act: fn(&mut World),
    /// The directory is damaged in the beginning, so that strict readers refuse it until it was opened once.
    pub damaged: bool,
}

pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn always() -> LiveOptions {
    let mut options = options();
    options.log.sync = SyncPolicy::Always;
    options
}

fn snapshots() -> LiveOptions {
    LiveOptions { snapshot_on_close: true, ..options() }
}

fn nothing(_: &mut World) {}

/// A directory with some scrapes, late samples among them.
fn some(world: &mut World) {
    world.start();
    for _ in 0..6 {
        world.scrape(&NAMES);
    }
    world.late(&["a"], &[4500, 2500]);
    world.close();
}

pub fn scrapes(world: &mut World, count: usize) {
    for _ in 0..count {
        world.scrape(&NAMES);
    }
}

/// A directory that nobody closed.
fn killed(world: &mut World) {
    world.start();
    scrapes(world, 9);
    world.late(&["a", "b"], &[4500, 2500, 5500, 3500]);
    world.maintain();
    world.kill();
}

fn newest(dir: &Path) -> Option<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).collect();
    files.retain(|p| p.is_file() && std::fs::metadata(p).is_ok_and(|m| m.len() > 0));
    files.sort();
    files.pop()
}

fn change(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    edit(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Torn ends of both logs and of the newest chunk file; nothing that was answered for is in what is missing.
fn torn(world: &mut World) {
    killed(world);
    world.start();
    scrapes(world, 3);
    world.late(&["a"], &[1500]);
    world.maintain();
    world.kill();
    let told = world.told.clone();
    world.start();
    world.scrape(&["a", "torn"]);
    world.late(&["b"], &[1500]);
    world.kill();
    // It was not told.
    let sent = std::mem::replace(&mut world.told, told).sent;
    world.told.sent = sent;
    for log in ["wal", "wbl"] {
        change(&newest(&world.dir.join(log)).unwrap(), |bytes| bytes.truncate(bytes.len() - 3));
    }
    change(&newest(&world.dir.join("chunks_head")).unwrap(), |bytes| bytes.truncate(bytes.len() - 5));
}

fn histograms(world: &mut World) {
    for round in 0..4i64 {
        world.t += STEP;
        let (t, n) = (world.t, round as u64 + 1);
        let histogram = Histogram {
            schema: 1,
            count: 3 * n,
            sum: n as f64,
            zero_count: n,
            positive_spans: vec![BucketSpan { offset: round as i32, length: 2 }],
            positive_buckets: vec![n as i64, 0],
            ..Histogram::default()
        };
        let floats = FloatHistogram { count: 2.5 * n as f64, ..histogram.to_float() };
        let custom = Histogram {
            schema: -53,
            count: 3 * n,
            sum: n as f64,
            positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
            positive_buckets: vec![n as i64, 0, 0],
            custom_values: Some([1.0, 2.0].into()),
            ..Histogram::default()
        };
        let gauge =
            Histogram { counter_reset_hint: tsdbctl_model::CounterResetHint::Gauge, ..histogram.clone() };
        let offers = [
            ("h", Value::Histogram(histogram)),
            ("fh", Value::FloatHistogram(floats)),
            ("custom", Value::Histogram(custom.clone())),
            ("fcustom", Value::FloatHistogram(custom.to_float())),
            ("gauge", Value::Histogram(gauge)),
            ("a", Value::Float(n as f64)),
        ];
        let offers = offers.map(|(name, value)| Offer { name: name.to_string(), t, value });
        let help = format!("help {}", round / 2);
        world.send_with(
            &offers,
            &[("h", t, n as f64), ("a", t, n as f64 + 0.5)],
            &[("a", &help), ("h", "help of h")],
        );
        let late: Vec<Offer> = offers.into_iter().map(|o| Offer { t: t - 1500, ..o }).collect();
        if round > 1 {
            world.told.late.extend(late.iter().map(|o| (o.name.clone(), o.t)));
            world.send(&late);
        }
    }
    world.t += STEP;
    let stale = Value::Float(f64::from_bits(STALE_NAN_BITS));
    let t = world.t;
    world.send(&[Offer { name: "a".to_string(), t, value: stale }]);
}

/// A snapshot that ends behind its first series, as if the rest had not been written.
fn half_a_snapshot(world: &mut World) {
    world.start();
    scrapes(world, 6);
    world.delete("b", world.t - 3 * STEP, world.t - 2 * STEP);
    world.close();
    let snapshot = std::fs::read_dir(&world.dir).unwrap().flatten().map(|e| e.path());
    let snapshot = snapshot.filter(|p| p.display().to_string().contains("chunk_snapshot.")).last().unwrap();
    change(&snapshot.join("00000000"), |bytes| {
        let mut reader = SegmentReader::new(bytes, 0);
        assert!(reader.next_into(&mut Vec::new()).unwrap());
        let end = reader.offset() as usize;
        bytes.truncate(end);
    });
}

/// Long names fill segments.
fn wide(world: &mut World, count: i64) {
    for _ in 0..count {
        let name = format!("w{}{}", world.t, "x".repeat(5000));
        world.scrape(&["a", "b", &name]);
    }
}

fn segments(world: &mut World, count: usize) {
    for _ in 0..count {
        scrapes(world, 3);
        if let Some(db) = &world.db
            && let Err(e) = db.head().wal.next_segment()
        {
            assert!(!world.well, "{e}");
        }
    }
}

/// Segments and chunk files that a truncation finds something to do with.
fn long(world: &mut World) {
    world.start();
    world.scrape(&["a", "old"]);
    segments(world, 6);
    world.delete("b", world.t - 5 * STEP, world.t - 4 * STEP);
    segments(world, 3);
    world.delete("c", world.t - 2 * STEP, world.t - STEP);
    segments(world, 5);
    world.late(&["a", "c"], &[500, 1500, 2500, 3500]);
    world.close();
}

fn truncate(world: &mut World, mint: i64) {
    if !world.put_block(mint, false) {
        return;
    }
    if let Some(db) = &world.db
        && let Err(e) = db.head().truncate(mint)
    {
        assert!(!world.well, "{e}");
    }
}

/// The out-of-order log is cut and its samples go to a block.
fn truncate_late(world: &mut World) {
    let Some(db) = &world.db else { return };
    let sealed = match db.head().seal_out_of_order() {
        Ok(Some(sealed)) => sealed,
        Ok(None) => return,
        Err(e) => {
            assert!(!world.well, "{e}");
            return;
        }
    };
    if !world.put_block(world.t, true) {
        return;
    }
    if let Err(e) = sealed.take_out() {
        assert!(!world.well, "{e}");
    }
}

pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "first start",
        options,
        before: nothing,
        act: |world| {
            world.start();
            scrapes(world, 1);
            world.close();
        },
        damaged: false,
    },
    Operation {
        name: "append",
        options,
        before: some,
        act: |world| {
            world.start();
            scrapes(world, 6);
        },
        damaged: false,
    },
    Operation {
        name: "append, synced always",
        options: always,
        before: some,
        act: |world| {
            world.start();
            scrapes(world, 3);
            world.late(&["a", "b"], &[500, 1500]);
        },
        damaged: false,
    },
    Operation {
        name: "series of two appenders",
        options,
        before: some,
        act: |world| {
            world.start();
            let Some(db) = &world.db else { return };
            let (mut first, mut second, mut third) = (db.appender(), db.appender(), db.appender());
            for _ in 0..3 {
                world.t += STEP;
                let t = world.t;
                let mine = |part: f64| {
                    [format!("n{t}"), format!("m{t}")]
                        .map(|name| float(&name, t, 0.0))
                        .map(|o| Offer { t: o.t + part as i64, ..o })
                };
                let batch = |offers: &[Offer]| Batch {
                    samples: offers.iter().map(|o| (o.name.clone(), o.t)).collect(),
                    ..Batch::default()
                };
                // The first makes series that the second commits to first, the third makes one and gives up.
                let (of_first, of_second) = (mine(1.0), mine(0.0));
                let taken = world.offer(&mut first, &of_first[..1]) & world.offer(&mut first, &of_first[1..]);
                let taken_too = world.offer(&mut second, &of_second);
                World::series(&mut third, &format!("r{t}"));
                third.rollback();
                if taken_too {
                    world.commit(&mut second, batch(&of_second));
                }
                if taken {
                    world.commit(&mut first, batch(&of_first));
                }
                world.scrape(&[&format!("r{t}")]);
                first.rollback();
                second.rollback();
            }
        },
        damaged: false,
    },
    Operation {
        name: "out of order",
        options,
        before: |world| {
            world.start();
            scrapes(world, 6);
            world.close();
        },
        act: |world| {
            world.start();
            world.late(&["a", "b"], &[500, 2500, 1500, 4500]);
            scrapes(world, 1);
            world.maintain();
            world.late(&["a"], &[1700, 2700, 3700, 600]);
        },
        damaged: false,
    },
    Operation {
        name: "histograms, exemplars, metadata",
        options,
        before: nothing,
        act: |world| {
            world.start();
            histograms(world);
            world.maintain();
        },
        damaged: false,
    },
    Operation {
        name: "segment cut",
        options,
        before: some,
        act: |world| {
            world.start();
            wide(world, 14);
        },
        damaged: false,
    },
    Operation {
        name: "long batches and segment cuts",
        options,
        before: some,
        act: |world| {
            world.start();
            // What a failed write leaves is not covered by a second one.
            world.tries = 1;
            for _ in 0..3 {
                let name = format!("w{}{}", world.t, "x".repeat(40_000));
                world.scrape(&["a", "b", &name]);
                segments(world, 1);
            }
        },
        damaged: false,
    },
    Operation {
        name: "chunk file cut",
        options,
        before: some,
        act: |world| {
            world.start();
            for _ in 0..6 {
                scrapes(world, 4);
                world.maintain();
            }
        },
        damaged: false,
    },
    Operation {
        name: "delete",
        options,
        before: some,
        act: |world| {
            world.start();
            scrapes(world, 3);
            world.delete("a", world.t - 5 * STEP, world.t - 2 * STEP);
            scrapes(world, 2);
            world.delete("b", world.t - 6 * STEP, world.t);
            world.delete("c", i64::MIN, i64::MAX);
        },
        damaged: false,
    },
    Operation {
        name: "truncate",
        options,
        before: long,
        act: |world| {
            world.start();
            segments(world, 2);
            truncate(world, world.t - 40 * STEP);
            segments(world, 3);
            truncate(world, world.t - 30 * STEP);
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "truncate the out-of-order log",
        options,
        before: long,
        act: |world| {
            world.start();
            world.late(&["a", "b"], &[700, 1700, 2700]);
            truncate_late(world);
            scrapes(world, 1);
        },
        damaged: false,
    },
    Operation {
        name: "snapshot",
        options: snapshots,
        before: |world| {
            world.start();
            scrapes(world, 6);
            world.delete("b", world.t - 3 * STEP, world.t - 2 * STEP);
            world.close();
        },
        act: |world| {
            world.start();
            scrapes(world, 5);
            world.delete("a", world.t - 3 * STEP, world.t - 2 * STEP);
            world.close();
            world.start();
            scrapes(world, 1);
            world.close();
        },
        damaged: false,
    },
    Operation {
        name: "snapshot after a kill",
        options: snapshots,
        before: some,
        act: |world| {
            world.start();
            scrapes(world, 9);
            world.maintain();
            world.kill();
            world.start();
            world.scrape(&["a"]);
            world.close();
            world.start();
            world.scrape(&["a"]);
        },
        damaged: false,
    },
    Operation {
        name: "close",
        options,
        before: some,
        act: |world| {
            world.start();
            scrapes(world, 5);
            world.late(&["a"], &[500, 1500, 2500, 3500]);
            world.close();
            world.start();
            scrapes(world, 1);
            world.close();
        },
        damaged: false,
    },
    Operation {
        name: "start after kills",
        options,
        before: nothing,
        act: |world| {
            killed(world);
            world.start();
            scrapes(world, 4);
            world.late(&["a", "new"], &[500, 1500]);
            world.maintain();
            world.kill();
            world.start();
            scrapes(world, 1);
            world.close();
        },
        damaged: false,
    },
    Operation {
        name: "start after a crash",
        options,
        before: torn,
        act: |world| {
            world.start();
            scrapes(world, 2);
            world.late(&["a", "b"], &[500]);
            world.maintain();
        },
        damaged: false,
    },
    Operation {
        name: "start after half a snapshot",
        options: snapshots,
        before: half_a_snapshot,
        act: |world| {
            world.start();
            scrapes(world, 2);
            world.close();
        },
        damaged: false,
    },
    Operation {
        name: "start after damage",
        options,
        before: |world| {
            long(world);
            let files = [("wal/00000002", 60), ("wal/00000005", 40), ("chunks_head/000002", 50)];
            for (file, at) in files {
                change(&world.dir.join(file), |bytes| bytes[at] ^= 0x55);
            }
        },
        act: |world| {
            world.start();
            scrapes(world, 2);
            world.close();
        },
        damaged: true,
    },
];
