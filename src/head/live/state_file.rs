//! `wal/series_state.json`: what upstream's fast start believes about the last reference that was given. One that says
//! `clean_shutdown` although series came since makes it give references a second time, so where the file exists it is
//! kept true; where it does not, none is made.
//!
//! ```text
//! {"last_series_id":12,"last_wal_segment":3,"clean_shutdown":true}
//! ```

use std::path::{Path, PathBuf};

use tsdbctl_platform::disk::{Access, Disk, write_all_at};
use tsdbctl_storage::StorageError;

const NAME: &str = "series_state.json";

/// The file, where there is one.
#[derive(Debug)]
pub struct StateFile {
    dir: PathBuf,
}

impl StateFile {
    /// The file of a log directory.
    ///
    /// # Errors
    /// If it cannot be told whether there is one.
    pub fn find(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, StorageError> {
        match disk.open(&dir.join(NAME), Access::Read) {
            Ok(_) => Ok(Some(Self { dir: dir.to_owned() })),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Replaces its content; durable afterwards.
    ///
    /// # Errors
    /// If the system refuses; the old content is there then.
    pub fn write(
        &self,
        disk: &dyn Disk,
        last_series: u64,
        last_segment: u64,
        clean_shutdown: bool,
    ) -> Result<(), StorageError> {
        let text = format!(
            "{{\"last_series_id\":{last_series},\"last_wal_segment\":{last_segment},\"clean_shutdown\":{clean_shutdown}}}\n"
        );
        let temporary = self.dir.join(format!("{NAME}.tmp"));
        let file = disk.open(&temporary, Access::Truncate)?;
        let written = write_all_at(&*file, text.as_bytes(), 0).and_then(|()| file.sync_data());
        written.and_then(|()| disk.rename(&temporary, &self.dir.join(NAME))).inspect_err(|_| {
            let _ = disk.remove_file(&temporary);
        })?;
        Ok(disk.sync_dir(&self.dir)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tsdbctl_platform::faulty::Faulty;
    use tsdbctl_platform::real::RealDisk;

    use super::*;

    #[test]
    fn the_file_is_replaced_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(StateFile::find(&RealDisk, dir.path()).unwrap().is_none());
        std::fs::write(dir.path().join(NAME), "{}").unwrap();
        let file = StateFile::find(&RealDisk, dir.path()).unwrap().unwrap();
        file.write(&RealDisk, 12, 3, true).unwrap();
        assert_eq!(
            std::fs::read_to_string(dir.path().join(NAME)).unwrap(),
            "{\"last_series_id\":12,\"last_wal_segment\":3,\"clean_shutdown\":true}\n"
        );
        let disk = Faulty::new(Arc::new(RealDisk));
        disk.fill_after(20);
        assert!(file.write(&disk, 99, 4, true).unwrap_err().may_pass());
        assert!(std::fs::read_to_string(dir.path().join(NAME)).unwrap().contains(":12,"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
