//! Rule files as they are named on the command line: a path, `FILE:path.to.key`, or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tsdbctl_platform::file;
use tsdbctl_rules::address::read_at;
use tsdbctl_rules::file::{ReadOptions, RuleFile, WithTree, read_with_tree};
use tsdbctl_rules::finding::Finding;
use tsdbctl_yaml::Source;

use crate::findings::STDIN;
use crate::ui::Ui;

/// A text with the part of it that holds rules.
#[derive(Clone, Debug)]
pub struct Input {
    /// As it was named.
    pub name: String,
    /// The file; `None` for standard input.
    pub path: Option<PathBuf>,
    /// Where in it the rules are, if not at the top.
    pub key: Option<String>,
}

/// What the arguments name: standard input if there are none, or for `-`.
pub fn inputs(files: &[PathBuf]) -> Vec<Input> {
    let stdin = || Input { name: STDIN.to_string(), path: None, key: None };
    if files.is_empty() {
        return vec![stdin()];
    }
    files.iter().map(|path| if path.as_os_str() == "-" { stdin() } else { named(path) }).collect()
}

fn named(path: &Path) -> Input {
    let name = path.display().to_string();
    if !file::exists(path) {
        // The file's own name may hold colons.
        for (at, _) in name.rmatch_indices(':') {
            let (before, key) = (&name[..at], &name[at + 1..]);
            if !key.is_empty() && file::is_plain_file(Path::new(before)) {
                return Input {
                    path: Some(PathBuf::from(before)),
                    key: Some(key.to_string()),
                    name: before.to_string(),
                };
            }
        }
    }
    Input { name, path: Some(path.to_path_buf()), key: None }
}

impl Input {
    /// The bytes.
    ///
    /// # Errors
    /// If the system does not give them.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        match &self.path {
            Some(path) => file::read(path).map_err(|error| match remedy(path) {
                Some(remedy) => anyhow::anyhow!("{error}; {remedy}"),
                None => error.into(),
            }),
            None => {
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
                Ok(bytes)
            }
        }
    }

    /// The rules.
    ///
    /// # Errors
    /// If the file cannot be read. What is wrong in it is in the inner result.
    pub fn read(&self, options: &ReadOptions) -> anyhow::Result<Result<RuleFile, Vec<Finding>>> {
        Ok(self.read_with_tree(options)?.map(|(file, _)| file))
    }

    /// The rules, and the documents that they were read from if these are whole files.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with_tree(&self, options: &ReadOptions) -> anyhow::Result<Result<WithTree, Vec<Finding>>> {
        let source = Arc::new(Source::from_bytes(self.name.clone(), self.bytes()?));
        Ok(match &self.key {
            Some(key) => read_at(source, key, options).map(|file| (file, Vec::new())),
            None => read_with_tree(source, options),
        })
    }

    /// The rules, with a warning where a second document is passed over.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_telling(
        &self,
        options: &ReadOptions,
        ui: &mut Ui,
    ) -> anyhow::Result<Result<RuleFile, Vec<Finding>>> {
        let read = self.read(options)?;
        if let Ok(RuleFile { unread: Some(span), source, .. }) = &read {
            ui.warn(format!(
                "{}: the document that begins here is not read, as Prometheus reads the first alone; \
                 --all-documents reads all",
                source.place(*span)
            ));
        }
        Ok(read)
    }
}

/// What to name instead of a path that is no file.
fn remedy(path: &Path) -> Option<String> {
    if file::is_dir(path) {
        return Some(format!("name its files: {}", path.join("*.yml").display()));
    }
    let is_pattern = path.to_string_lossy().contains(['*', '?', '[']);
    is_pattern.then(|| "patterns are the shell's to expand, and nothing fits this one".to_string())
}
