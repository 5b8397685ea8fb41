//! The files of a log: segments `00000000`, `00000001`…, and checkpoints `checkpoint.00000000`, directories
//! of segments that replace the segments up to their number.

use std::path::{Path, PathBuf};

use tsdbctl_platform::file::{self, Entry, FileError};
use tsdbctl_platform::map::Map;

use crate::damage::{Damage, WalError};

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub index: u64,
    /// Its path.
    pub path: PathBuf,
    /// Length in bytes when it was listed.
    pub size: u64,
}

impl Segment {
    /// Maps the file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(&self) -> Result<Map, FileError> {
        Map::open(&self.path)
    }
}

/// The file name of a segment.
pub fn segment_name(index: u64) -> String {
    format!("{index:08}")
}

/// The directory name of a checkpoint.
pub fn checkpoint_name(index: u64) -> String {
    format!("checkpoint.{index:08}")
}

/// A decimal number as Go's `strconv.Atoi` takes it, signs aside: of 63 bits.
fn number(name: &str) -> Option<u64> {
    if !name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    name.parse().ok().filter(|n| i64::try_from(*n).is_ok())
}

/// The segments of a directory in order. Other files are ignored.
///
/// # Errors
/// If the directory cannot be read.
pub fn list_segments(dir: &Path) -> Result<Vec<Segment>, FileError> {
    Ok(segments_among(file::read_dir(dir)?))
}

/// The segments among a directory's entries, in order.
pub fn segments_among(entries: Vec<Entry>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = entries
        .into_iter()
        .filter(|e| !e.is_dir)
        .filter_map(|e| Some(Segment { index: number(&e.name)?, path: e.path, size: e.size }))
        .collect();
    segments.sort_by_key(|s| s.index);
    segments
}

/// The checkpoints of a directory, oldest first: number and path.
///
/// # Errors
/// If the directory cannot be read.
pub fn list_checkpoints(dir: &Path) -> Result<Vec<(u64, PathBuf)>, FileError> {
    Ok(checkpoints_among(file::read_dir(dir)?))
}

/// The checkpoints among a directory's entries, oldest first.
pub fn checkpoints_among(entries: Vec<Entry>) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> = entries
        .into_iter()
        .filter(|e| e.is_dir)
        .filter_map(|e| Some((number(e.name.strip_prefix("checkpoint.")?)?, e.path)))
        .collect();
    found.sort_by_key(|(index, _)| *index);
    found
}

/// The parts of a log that make up its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The newest checkpoint: its number and its segments.
    pub checkpoint: Option<(u64, Vec<Segment>)>,
    /// The segments behind the checkpoint.
    pub segments: Vec<Segment>,
    /// Segments that should be there but are not.
    pub gaps: Vec<Damage>,
}

impl Log {
    /// Lists a log directory; `None` if it does not exist.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn list(dir: &Path) -> Result<Option<Self>, WalError> {
        let segments = match list_segments(dir) {
            Ok(segments) => segments,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut log = Self::default();
        if let Some((index, path)) = list_checkpoints(dir)?.pop() {
            let parts = list_segments(&path)?;
            log.note_gaps(&path, &parts, 0);
            log.checkpoint = Some((index, parts));
        }
        let behind = log.checkpoint.as_ref().map(|(index, _)| index + 1);
        log.segments = segments.into_iter().filter(|s| behind.is_none_or(|b| s.index >= b)).collect();
        let kept = std::mem::take(&mut log.segments);
        let first = kept.first().map_or(0, |s| s.index);
        log.note_gaps(dir, &kept, behind.unwrap_or(first));
        log.segments = kept;
        Ok(Some(log))
    }

    fn note_gaps(&mut self, dir: &Path, segments: &[Segment], first: u64) {
        let mut expected = first;
        for s in segments {
            if s.index > expected {
                let missing = s.index - expected;
                self.gaps.push(Damage {
                    file: dir.join(segment_name(expected)),
                    offset: 0,
                    reason: match missing {
                        1 => "this segment is missing".to_string(),
                        2 => "this segment and the one behind it are missing".to_string(),
                        n => format!("this segment and the {} behind it are missing", n - 1),
                    },
                });
            }
            expected = s.index + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_checkpoint_and_what_follows_it_make_up_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["checkpoint.00000003", "checkpoint.00000012", "checkpoint.00000013.tmp"] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("00000000"), b"").unwrap();
        }
        for name in ["00000011", "00000012", "00000013", "00000014", "00000017", "series_state.json", "x"] {
            std::fs::write(at(name), b"").unwrap();
        }
        let log = Log::list(dir.path()).unwrap().unwrap();
        assert_eq!(log.checkpoint.as_ref().unwrap().0, 12);
        assert_eq!(log.segments.iter().map(|s| s.index).collect::<Vec<_>>(), [13, 14, 17]);
        assert_eq!(log.gaps.len(), 1);
        assert_eq!(log.gaps[0].file, at("00000015"));
        assert!(log.gaps[0].reason.contains("the one behind it"), "{}", log.gaps[0].reason);
        assert_eq!(Log::list(&at("nothing")).unwrap(), None);
    }

    #[test]
    fn the_highest_numbers_do_not_overflow() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["9223372036854775807", "9223372036854775808", "18446744073709551615", "+1"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let log = Log::list(dir.path()).unwrap().unwrap();
        assert_eq!(log.segments.iter().map(|s| s.index).collect::<Vec<_>>(), [i64::MAX as u64]);
        std::fs::create_dir(dir.path().join("checkpoint.9223372036854775807")).unwrap();
        std::fs::create_dir(dir.path().join("checkpoint.18446744073709551615")).unwrap();
        let log = Log::list(dir.path()).unwrap().unwrap();
        assert_eq!((log.checkpoint.map(|(i, _)| i), log.segments.len()), (Some(i64::MAX as u64), 0));
    }

    #[test]
    fn a_segment_missing_right_behind_the_checkpoint_is_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("checkpoint.00000005")).unwrap();
        std::fs::write(dir.path().join("00000007"), b"").unwrap();
        let log = Log::list(dir.path()).unwrap().unwrap();
        assert_eq!(log.gaps[0].file, dir.path().join("00000006"));
    }
}
