//! `tsdbctl inspect blocks`: the blocks of a directory, with gaps and overlaps marked. Only `meta.json` and file
//! sizes are read.

use anyhow::Context;
use serde_json::{Value, json};
use tsdbctl_block::meta::{HINT_OUT_OF_ORDER, HINT_SELECTED_SERIES, HINT_STALE_SERIES};
use tsdbctl_model::duration::{format_duration_ms, format_rfc3339_ms};
use tsdbctl_tsdb::{BlockEntry, Database};

use crate::data::Directories;
use crate::exit::ExitStatus;
use crate::sizes::{format_count, format_size};
use crate::table::{write_csv_line, write_table};
use crate::ui::Ui;

/// List blocks, with gaps and overlaps marked.
///
/// Downsampled ones come behind the others; their samples are counted as windows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the data is.
    #[command(flatten)]
    pub data: Directories,
    /// Times that no block covers are a gap if they are longer than this.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub gap: String,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

/// How blocks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// As the API's status/tsdb/blocks, with sizes, gaps and overlaps.
    Json,
    /// For spreadsheets.
    Csv,
}

/// Runs the command.
///
/// # Errors
/// If the directory holds no data or a meta.json is damaged.
pub fn run(args: &Args, ui: &mut Ui) -> anyhow::Result<ExitStatus> {
    let tolerance_ms = crate::times::parse_step(&args.gap).context("--gap")?;
    let database = args.data.open()?;
    match args.output {
        Output::Table => table(&database, tolerance_ms, ui)?,
        Output::Json => json_body(&database, tolerance_ms, ui)?,
        Output::Csv => csv(&database, ui)?,
    }
    Ok(ExitStatus::Success)
}

/// What is worth knowing of a block, in words.
fn flags(block: &BlockEntry) -> Vec<String> {
    let meta = &block.meta;
    let mut out = Vec::new();
    for hint in &meta.compaction.hints {
        out.push(match hint.as_str() {
            HINT_OUT_OF_ORDER => "out-of-order".to_string(),
            HINT_STALE_SERIES => "stale-series".to_string(),
            HINT_SELECTED_SERIES => "selected-series".to_string(),
            other => other.to_string(),
        });
    }
    if meta.stats.num_tombstones > 0 {
        out.push(format!("tombstones:{}", meta.stats.num_tombstones));
    }
    if meta.stats.num_histogram_samples > 0 {
        out.push("histograms".to_string());
    }
    if meta.compaction.failed {
        out.push("compaction-failed".to_string());
    }
    if meta.compaction.deletable {
        out.push("deletable".to_string());
    }
    let resolution = meta.thanos.as_ref().map(|t| t.downsample.resolution);
    if let Some(ms) = resolution.filter(|ms| *ms > 0) {
        out.push(format!("downsampled:{}", format_duration_ms(ms)));
    }
    out
}

/// The downsampled blocks, finest first, by start.
fn downsampled(database: &Database) -> Vec<&BlockEntry> {
    let mut blocks: Vec<&BlockEntry> = database.downsampled().iter().collect();
    blocks.sort_by_key(|b| (b.meta.resolution_ms(), b.meta.min_time));
    blocks
}

/// The rows of the table: blocks, and gaps before them.
fn table(database: &Database, tolerance_ms: i64, ui: &mut Ui) -> anyhow::Result<()> {
    let blocks = database.blocks();
    let gaps = database.gaps(tolerance_ms);
    let overlaps = database.overlaps();
    let mut rows = Vec::new();
    let mut superseded: Vec<&BlockEntry> = database.superseded().iter().collect();
    superseded.sort_by_key(|b| b.meta.min_time);
    let mut next_gap = gaps.iter().peekable();
    let downsampled = downsampled(database);
    let all = blocks.iter().map(|b| (b, true));
    let all = all.chain(downsampled.iter().map(|b| (*b, true)));
    let all = all.chain(superseded.iter().map(|b| (*b, false)));
    for (i, (block, live)) in all.enumerate() {
        let meta = &block.meta;
        let is_raw = live && i < blocks.len();
        if is_raw && let Some((mint, maxt)) = next_gap.next_if(|(_, maxt)| *maxt == meta.min_time) {
            rows.push(vec![
                "-- gap --".to_string(),
                format_rfc3339_ms(*mint),
                format_rfc3339_ms(*maxt),
                format_duration_ms(maxt.saturating_sub(*mint)),
            ]);
        }
        let mut flags = flags(block);
        if is_raw && overlaps.iter().any(|o| o.blocks.0 == i || o.blocks.1 == i) {
            flags.push("overlap".to_string());
        }
        if !live {
            flags.push("superseded".to_string());
        }
        rows.push(vec![
            meta.ulid.clone(),
            format_rfc3339_ms(meta.min_time),
            format_rfc3339_ms(meta.max_time),
            format_duration_ms(meta.max_time.saturating_sub(meta.min_time)),
            format_count(meta.stats.num_samples),
            format_count(meta.stats.num_chunks),
            format_count(meta.stats.num_series),
            format_size(block.size_bytes()?),
            meta.compaction.level.to_string(),
            flags.join(" "),
        ]);
    }
    if rows.is_empty() {
        ui.say("no blocks: all data is in the write-ahead log");
        return Ok(());
    }
    let head = [
        "block ulid",
        "min time",
        "max time",
        "duration",
        "samples",
        "chunks",
        "series",
        "size",
        "level",
        "flags",
    ];
    write_table(ui.out(), &head, rows, &[3, 4, 5, 6, 7, 8])?;
    for o in &overlaps {
        let (a, b) = (&blocks[o.blocks.0].meta.ulid, &blocks[o.blocks.1].meta.ulid);
        ui.say(format!(
            "overlap: {a} and {b} both cover {} to {}",
            format_rfc3339_ms(o.mint),
            format_rfc3339_ms(o.maxt)
        ));
    }
    Ok(())
}

fn json_body(database: &Database, tolerance_ms: i64, ui: &mut Ui) -> anyhow::Result<()> {
    let describe = |block: &BlockEntry| -> anyhow::Result<Value> {
        let mut value = serde_json::to_value(&block.meta)?;
        value["sizeBytes"] = json!(block.size_bytes()?);
        value["dir"] = json!(block.dir.display().to_string());
        Ok(value)
    };
    let live: Vec<Value> = database.blocks().iter().map(describe).collect::<Result<_, _>>()?;
    let downsampled: Vec<Value> =
        downsampled(database).into_iter().map(describe).collect::<Result<_, _>>()?;
    let superseded: Vec<Value> = database.superseded().iter().map(describe).collect::<Result<_, _>>()?;
    let gaps: Vec<Value> = database
        .gaps(tolerance_ms)
        .into_iter()
        .map(|(mint, maxt)| json!({"minTime": mint, "maxTime": maxt}))
        .collect();
    let ulid = |i: usize| &database.blocks()[i].meta.ulid;
    let overlaps: Vec<Value> = database
        .overlaps()
        .into_iter()
        .map(
            |o| json!({"minTime": o.mint, "maxTime": o.maxt, "blocks": [ulid(o.blocks.0), ulid(o.blocks.1)]}),
        )
        .collect();
    let body = json!({
        "status": "success",
        "data": {
            "blocks": live,
            "downsampled": downsampled,
            "superseded": superseded,
            "gaps": gaps,
            "overlaps": overlaps,
        },
    });
    serde_json::to_writer(ui.out(), &body)?;
    writeln!(ui.out())?;
    Ok(())
}

fn csv(database: &Database, ui: &mut Ui) -> anyhow::Result<()> {
    let head =
        ["ulid", "min_time_ms", "max_time_ms", "samples", "chunks", "series", "size_bytes", "level", "flags"];
    write_csv_line(ui.out(), head)?;
    let live = database.blocks().iter().chain(downsampled(database)).map(|b| (b, true));
    let all = live.chain(database.superseded().iter().map(|b| (b, false)));
    for (block, live) in all {
        let meta = &block.meta;
        let mut flags = flags(block);
        if !live {
            flags.push("superseded".to_string());
        }
        let fields = [
            meta.ulid.clone(),
            meta.min_time.to_string(),
            meta.max_time.to_string(),
            meta.stats.num_samples.to_string(),
            meta.stats.num_chunks.to_string(),
            meta.stats.num_series.to_string(),
            block.size_bytes()?.to_string(),
            meta.compaction.level.to_string(),
            flags.join(" "),
        ];
        write_csv_line(ui.out(), &fields)?;
    }
    Ok(())
}
