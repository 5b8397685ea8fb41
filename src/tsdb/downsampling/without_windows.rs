//! Raw blocks that have nothing for a window, stale markers and not-a-numbers alone: no downsampled block says that these
//! were done, so this file beside the downsampled ones does, `{"version":1,"sources":["<ULID>",…]}`.
//!
//! Named are the blocks of level 1 that samples first were in (`compaction.sources`), so that it holds after compaction
//! too, and late samples, which bring another source, are looked at. Without the file, or if it is damaged, such blocks are
//! read once more: nothing depends on it being there.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use serde_json::{Value, json};
use tsdbctl_block::meta::is_ulid;
use tsdbctl_platform::disk::{Disk, create_dir_all};
use tsdbctl_platform::file::{self, FileError};

/// Its name.
const FILE_NAME: &str = "without-windows.json";
const VERSION: u32 = 1;

/// The sources that are named in a directory.
pub(crate) fn read(dir: &Path) -> HashSet<String> {
    let note: Option<Value> =
        file::read(&dir.join(FILE_NAME)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let note = note.filter(|n| n["version"] == VERSION).unwrap_or_default();
    let named = note["sources"].as_array().into_iter().flatten().filter_map(Value::as_str);
    named.filter(|s| is_ulid(s)).map(str::to_string).collect()
}

/// Names more, durably; those that `is_there` denies are left out from now on.
pub(super) fn add<'s>(
    disk: &dyn Disk,
    dir: &Path,
    sources: impl Iterator<Item = &'s str>,
    is_there: impl Fn(&str) -> bool,
) -> Result<(), FileError> {
    let mut all: BTreeSet<String> = read(dir).into_iter().filter(|s| is_there(s)).collect();
    all.extend(sources.map(str::to_string));
    create_dir_all(disk, dir)?;
    let note = json!({ "version": VERSION, "sources": all });
    file::replace(disk, &dir.join(FILE_NAME), format!("{note}\n").as_bytes())
}
