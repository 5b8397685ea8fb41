//! File systems made for a test. The right to mount is needed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A file system of its own, unmounted when dropped.
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn new(at: PathBuf, arguments: &[&str]) -> Self {
        fs::create_dir_all(&at).unwrap();
        let output = Command::new("mount").args(arguments).arg(&at).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
