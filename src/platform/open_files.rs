//! Which processes have files of a directory open for writing, as far as the system tells: a server that was told to
//! take no lock is found by its write-ahead log.

use std::path::Path;

use crate::lock::Holder;

/// What could be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// Other processes that have a file in the directory, or below it, open for writing.
    pub found: Vec<Holder>,
    /// Whether there are processes that could not be looked at: those of other users.
    pub is_incomplete: bool,
}

/// The processes that have files in a directory, or below it, open for writing; this one is left out.
#[cfg(target_os = "linux")]
pub fn writers(dir: &Path) -> Writers {
    let mut writers = Writers::default();
    let (Ok(dir), Ok(processes)) = (dir.canonicalize(), std::fs::read_dir("/proc")) else {
        return Writers { is_incomplete: true, ..writers };
    };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let files = match std::fs::read_dir(process.path().join("fd")) {
            Ok(files) => files,
            Err(e) => {
                // One that has just ended is none.
                writers.is_incomplete |= e.kind() == std::io::ErrorKind::PermissionDenied;
                continue;
            }
        };
        let is_writer = files.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|path| path.starts_with(&dir))
                && is_open_for_writing(&process.path().join("fdinfo").join(file.file_name()))
        });
        if is_writer {
            let name = std::fs::read(process.path().join("comm")).ok();
            let name = name.map(|name| String::from_utf8_lossy(&name).trim_end().to_owned());
            writers.found.push(Holder { pid, name });
        }
    }
    writers
}

/// Elsewhere the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn writers(_: &Path) -> Writers {
    Writers { is_incomplete: true, ..Writers::default() }
}

/// By the octal flags in `flags: 0100002`.
#[cfg(target_os = "linux")]
fn is_open_for_writing(info: &Path) -> bool {
    let text = std::fs::read_to_string(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| libc::c_int::from_str_radix(octal.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_found_by_the_file_that_it_writes() {
        let dir = std::env::temp_dir().join(format!("tsdbctl-writers-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("wal")).unwrap();
        let run = |stdin: Option<std::fs::File>, stdout: Option<std::fs::File>| {
            let mut command = std::process::Command::new("sleep");
            command.arg("60");
            if let Some(file) = stdin {
                command.stdin(file);
            }
            if let Some(file) = stdout {
                command.stdout(file);
            }
            command.spawn().unwrap()
        };
        let path = dir.join("wal/00000000");
        let mut writer = run(None, Some(std::fs::File::create(&path).unwrap()));
        let mut reader = run(Some(std::fs::File::open(&path).unwrap()), None);
        // Our own do not count.
        let own = std::fs::File::create(dir.join("own")).unwrap();
        let found = writers(&dir).found;
        let elsewhere = writers(&dir.join("wal/none"));
        for child in [&mut writer, &mut reader] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        drop(own);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, [Holder { pid: writer.id(), name: Some("sleep".into()) }]);
        assert_eq!((elsewhere.found.len(), elsewhere.is_incomplete), (0, true));
    }
}
