//! Damaged blocks set aside: moved to `quarantine/<ULID>/` in their directory with a `reason.json`. Nothing is deleted;
//! moved back, the block is as it was.

use std::path::{Path, PathBuf};

use serde_json::json;
use tsdbctl_model::duration::format_rfc3339_ms;
use tsdbctl_platform::disk::{Disk, create_dir_all};
use tsdbctl_platform::file::{self, FileError};
use tsdbctl_storage::{Loss, StorageError};

/// The directory, in a data directory.
pub const DIRECTORY: &str = "quarantine";
/// The file with the reason, in the block's directory.
pub const REASON_FILE: &str = "reason.json";

/// A block that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its identifier.
    pub ulid: String,
    /// Where it is now.
    pub dir: PathBuf,
    /// What is wrong; the file is where it was before.
    pub loss: Loss,
    /// What was being done.
    pub step: String,
}

/// What is wrong with the block in `dir`, if an error is its damage: bytes that are not what they should be, or a file
/// that is missing. What the system refuses is not the block's fault.
pub fn damage_of(error: &StorageError, dir: &Path) -> Option<Loss> {
    match error {
        StorageError::Corrupt(loss) if loss.file.starts_with(dir) => Some(loss.clone()),
        StorageError::File(e) if e.is_not_found() && e.path.starts_with(dir) => {
            Some(Loss { file: e.path.clone(), offset: 0, reason: e.to_string() })
        }
        _ => None,
    }
}

/// Moves the block in `block_dir` out of the way, durably. A crash leaves it at one of the two places.
///
/// # Errors
/// If the system refuses; the block is where it was then.
pub fn set_aside(
    disk: &dyn Disk,
    dir: &Path,
    block_dir: &Path,
    loss: Loss,
    step: String,
    now_ms: i64,
) -> Result<Quarantined, FileError> {
    let ulid = block_dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let reason = json!({
        "time": format_rfc3339_ms(now_ms),
        "block": ulid,
        "moved_from": block_dir.display().to_string(),
        "file": loss.file.strip_prefix(block_dir).unwrap_or(&loss.file).display().to_string(),
        "offset": loss.offset,
        "reason": loss.reason,
        "step": step,
    });
    let quarantine = dir.join(DIRECTORY);
    create_dir_all(disk, &quarantine)?;
    // With the block before it moves, so that none is ever there without its reason.
    file::replace(disk, &block_dir.join(REASON_FILE), format!("{reason:#}\n").as_bytes())?;
    let mut to = quarantine.join(&ulid);
    let mut copies = 1;
    while file::exists(&to) {
        copies += 1;
        to = quarantine.join(format!("{ulid}.{copies}"));
    }
    file::move_to(disk, block_dir, &to)?;
    Ok(Quarantined { ulid, dir: to, loss, step })
}

#[cfg(test)]
mod tests {
    use tsdbctl_platform::real::RealDisk;

    use super::*;

    #[test]
    fn a_block_is_moved_with_its_reason_and_no_other_is_written_over() {
        let scratch = tsdbctl_testkit::scratch();
        let (dir, ulid) = (scratch.path(), "01BKGTZQ1SYQJTR4PB43C8PD90");
        let block = dir.join(ulid);
        for place in [ulid.to_owned(), format!("{ulid}.2"), format!("{ulid}.3")] {
            std::fs::create_dir(&block).unwrap();
            std::fs::write(block.join("index"), &place).unwrap();
            let loss = Loss { file: block.join("index"), offset: 7, reason: "bad \"sum\"".into() };
            let done = set_aside(&RealDisk, dir, &block, loss, "merging".into(), 1_700_000_000_000).unwrap();
            assert_eq!(done.dir, dir.join(DIRECTORY).join(&place));
            assert!(!block.exists());
            assert_eq!(std::fs::read_to_string(done.dir.join("index")).unwrap(), place);
            let reason: serde_json::Value =
                serde_json::from_slice(&std::fs::read(done.dir.join(REASON_FILE)).unwrap()).unwrap();
            assert_eq!(reason["time"], "2023-11-14T22:13:20Z");
            assert_eq!((&reason["file"], &reason["offset"]), (&json!("index"), &json!(7)));
            assert_eq!((&reason["reason"], &reason["step"]), (&json!("bad \"sum\""), &json!("merging")));
        }
    }

    #[test]
    fn only_damage_of_the_block_itself_is_its_damage() {
        let block = Path::new("/db/01BKGTZQ1SYQJTR4PB43C8PD90");
        let corrupt =
            |path: &str| StorageError::Corrupt(Loss { file: path.into(), offset: 1, reason: "x".into() });
        let refused = |path: &str, kind: std::io::ErrorKind| {
            StorageError::File(FileError::new("open", Path::new(path), kind.into()))
        };
        use std::io::ErrorKind::{NotFound, PermissionDenied, StorageFull};
        for (error, want) in [
            (corrupt("/db/01BKGTZQ1SYQJTR4PB43C8PD90/index"), true),
            (corrupt("/db/01BKGTZQ1SYQJTR4PB43C8PD91/index"), false),
            (corrupt("/db/01BKGTZQ1SYQJTR4PB43C8PD90.tmp-for-creation/index"), false),
            (refused("/db/01BKGTZQ1SYQJTR4PB43C8PD90/index", NotFound), true),
            (refused("/db/01BKGTZQ1SYQJTR4PB43C8PD91/index", NotFound), false),
            (refused("/db/01BKGTZQ1SYQJTR4PB43C8PD90/index", PermissionDenied), false),
            (refused("/db/01BKGTZQ1SYQJTR4PB43C8PD90/index", StorageFull), false),
        ] {
            assert_eq!(damage_of(&error, block).is_some(), want, "{error}");
        }
    }
}
