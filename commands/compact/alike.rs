//! What `compact` and `downsample` say in the same words: of blocks that were left alone, set aside or lie in the future.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tsdbctl_block::BlockMeta;
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_tsdb::quarantine::Quarantined;

use crate::exit::ExitStatus;
use crate::ui::Ui;

/// Warns of blocks that could not be judged, and of such from the future.
pub(crate) fn warn_of<'a>(
    dir: &Path,
    left_alone: &[(PathBuf, String)],
    future: impl Iterator<Item = &'a BlockMeta>,
    ui: &mut Ui,
) {
    for (path, why) in left_alone {
        let path = path.display().to_string();
        ui.warn(if why.starts_with(&path) { why.clone() } else { format!("{path}: {why}") });
    }
    for meta in future {
        ui.warn(format!("{}: {}", dir.display(), future_text(meta)));
    }
}

/// Why a block from the future is left alone.
pub(crate) fn future_text(meta: &BlockMeta) -> String {
    format!(
        "{} ends in the future, at {}: it is left alone and counts for nothing",
        meta.ulid,
        format_rfc3339_ms(meta.max_time)
    )
}

/// How it ended, as a word of the JSON.
pub(crate) fn status_word(status: ExitStatus) -> &'static str {
    match status {
        ExitStatus::Success => "done",
        ExitStatus::Partial => "in part",
        _ => "failed",
    }
}

/// Blocks that were set aside.
pub(crate) fn quarantined_json(blocks: &[Quarantined]) -> Vec<Value> {
    let json = |q: &Quarantined| {
        json!({
            "ulid": q.ulid,
            "path": q.dir.display().to_string(),
            "file": q.loss.file.display().to_string(),
            "offset": q.loss.offset,
            "reason": q.loss.reason,
        })
    };
    blocks.iter().map(json).collect()
}

/// Blocks that could not be judged.
pub(crate) fn left_alone_json(blocks: &[(PathBuf, String)]) -> Vec<Value> {
    blocks.iter().map(|(path, why)| json!({ "path": path.display().to_string(), "reason": why })).collect()
}
