//! Files of tests: which rule files they name, which tests are selected, all of them run on some threads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tsdbctl_model::regexp::Regexp;
use tsdbctl_platform::file;
use tsdbctl_promql::engine::on_big_stack;
use tsdbctl_storage::control::Control;
use tsdbctl_yaml::source::Dialect;
use tsdbctl_yaml::{Source, Spanned};

use super::file::{FileProblem, TestFile, read_test_file};
use super::glob::glob;
use super::outcome::Warning;
use super::program::Program;
use super::report::{FileReport, TestReport};
use super::run::{Settings, display_name, ordered, run_test, without_rules};
use super::trap::{file_warnings, test_warnings};
use crate::file::{ReadOptions, RuleFile};
use crate::finding::{Finding, Severity};

/// How files of tests are run.
#[derive(Clone, Debug, Default)]
pub struct SuiteOptions {
    /// How tests are run.
    pub settings: Settings,
    /// Unknown fields of rule files are passed over.
    pub ignore_unknown_fields: bool,
    /// Only tests whose name this matches, anywhere in it.
    pub run: Option<Regexp>,
    /// Threads; 0 counts as 1.
    pub jobs: usize,
}

/// The `--run` patterns of a command line as one.
///
/// # Errors
/// If one is no regular expression.
pub fn run_pattern(patterns: &[String]) -> Result<Option<Regexp>, String> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let joined = format!("(?s:.*)(?:{})(?s:.*)", patterns.join("|"));
    // Named for itself first: what is wrong with it should not speak of what was put around it.
    Regexp::new(&patterns.join("|")).map_err(|e| e.to_string())?;
    Regexp::new(&joined).map(Some).map_err(|e| e.to_string())
}

/// A file of tests with all it takes to run it.
#[derive(Debug)]
pub struct LoadedFile {
    /// Its path as given.
    pub name: String,
    /// Its text, if it could be read.
    pub source: Option<Arc<Source>>,
    /// The file, or what is wrong with it: upstream's texts, and ours with places.
    pub file: Result<TestFile, Refusal>,
    /// Indexes of the tests that are selected.
    pub selected: Vec<usize>,
    /// Its rules, or why there are none.
    pub program: Result<Arc<Program>, Refusal>,
    /// The rule files it names, as found.
    pub rule_paths: Vec<String>,
    /// The patterns for rule files that no file matches.
    pub unmatched: Vec<Spanned<String>>,
    /// What is silent upstream.
    pub warnings: Vec<Warning>,
}

/// Why a file is not run.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// Upstream's texts.
    pub texts: Vec<String>,
    /// The same with places, if they are known.
    pub findings: Vec<Finding>,
}

impl Refusal {
    fn text(text: impl Into<String>) -> Self {
        Self { texts: vec![text.into()], findings: Vec::new() }
    }
}

/// Reads files, each rule file once.
#[derive(Debug, Default)]
pub struct Loader {
    rule_files: HashMap<String, Result<Arc<RuleFile>, Refusal>>,
    programs: HashMap<Vec<String>, Arc<Program>>,
}

impl Loader {
    /// Reads a file of tests and the rule files it names.
    pub fn load(&mut self, name: &str, options: &SuiteOptions) -> LoadedFile {
        let mut loaded = LoadedFile {
            name: name.to_string(),
            source: None,
            file: Err(Refusal::default()),
            selected: Vec::new(),
            program: Ok(Arc::default()),
            rule_paths: Vec::new(),
            unmatched: Vec::new(),
            warnings: Vec::new(),
        };
        let source = match read_source(name) {
            Ok(source) => Arc::new(source.with_dialect(Dialect::V2)),
            Err(text) => {
                loaded.file = Err(Refusal::text(text));
                return loaded;
            }
        };
        loaded.source = Some(Arc::clone(&source));
        let test_file = match read_test_file(Arc::clone(&source)) {
            Ok(test_file) => test_file,
            Err(problems) => {
                loaded.file = Err(refusal(&source, &problems));
                return loaded;
            }
        };
        let dir = Path::new(name).parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
        for pattern in &test_file.rule_files {
            let Ok(found) = glob(&dir, &pattern.value) else {
                let problem = FileProblem {
                    message: "syntax error in pattern".to_string(),
                    span: pattern.span,
                    hint: Some("patterns know *, ? and [a-z]; close the bracket or write \\[".to_string()),
                };
                loaded.file = Err(refusal(&source, &[problem]));
                return loaded;
            };
            if found.is_empty() {
                loaded.unmatched.push(pattern.clone());
                loaded.warnings.push(Warning {
                    message: format!("no file match pattern {}", super::glob::join(&dir, &pattern.value)),
                    span: pattern.span,
                    hint: Some("no rules are read from it; paths are relative to the test file".to_string()),
                });
            }
            loaded.rule_paths.extend(found);
        }
        let fits = |i: &usize| match &options.run {
            Some(run) => run.is_match(test_file.tests[*i].name.as_ref().map_or("", |n| n.value.as_str())),
            None => true,
        };
        loaded.selected = (0..test_file.tests.len()).filter(fits).collect();
        if !loaded.selected.is_empty() {
            loaded.program = self.program(&loaded.rule_paths, options);
        }
        if let Ok(program) = &loaded.program {
            loaded.warnings.extend(file_warnings(&test_file, program));
        }
        loaded.file = Ok(test_file);
        loaded
    }

    fn program(&mut self, paths: &[String], options: &SuiteOptions) -> Result<Arc<Program>, Refusal> {
        if let Some(program) = self.programs.get(paths) {
            return Ok(Arc::clone(program));
        }
        let mut files = Vec::new();
        for (i, path) in paths.iter().enumerate() {
            // A file that two patterns match is loaded once, as its groups have the same key.
            if paths[..i].contains(path) {
                continue;
            }
            let read = self.rule_files.entry(path.clone()).or_insert_with(|| read_rules(path, options));
            files.push(read.clone()?);
        }
        let program = Arc::new(Program::of(&files).map_err(Refusal::text)?);
        self.programs.insert(paths.to_vec(), Arc::clone(&program));
        Ok(program)
    }
}

fn read_source(path: &str) -> Result<Source, String> {
    let bytes = file::read(Path::new(path)).map_err(|e| {
        if e.is_not_found() { format!("open {path}: no such file or directory") } else { e.to_string() }
    })?;
    Ok(Source::from_bytes(path, bytes))
}

fn read_rules(path: &str, options: &SuiteOptions) -> Result<Arc<RuleFile>, Refusal> {
    let source = read_source(path).map_err(Refusal::text)?;
    let read = ReadOptions {
        ignore_unknown_fields: options.ignore_unknown_fields,
        all_documents: false,
        features: options.settings.features,
    };
    crate::file::read(Arc::new(source), &read).map(Arc::new).map_err(|findings| {
        let mut texts: Vec<String> = Vec::new();
        // The first duration that is none ends the reading.
        let upstream = |f: &Finding| f.upstream.as_ref().unwrap_or(&f.message).clone();
        if let Some(first) =
            findings.iter().map(upstream).find(|text| text.starts_with("not a valid duration"))
        {
            return Refusal { texts: vec![format!("{path}: {first}")], findings };
        }
        for f in findings.iter().filter(|f| f.severity == Severity::Error) {
            let upstream = f.upstream.as_ref().unwrap_or(&f.message);
            let text = format!("{path}: {upstream}");
            // All that the decoder says is one error.
            let decoded = "yaml: unmarshal errors:\n";
            if let (Some(line), Some(first)) = (upstream.strip_prefix(decoded), texts.first_mut())
                && first.contains(decoded)
            {
                if !first.lines().any(|l| l == line) {
                    first.push('\n');
                    first.push_str(line);
                }
                continue;
            }
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        Refusal { texts, findings }
    })
}

fn refusal(source: &Arc<Source>, problems: &[FileProblem]) -> Refusal {
    let finding = |p: &FileProblem| {
        let finding = Finding::refused("test-file", source, p.span, p.message.as_str(), p.message.as_str());
        match &p.hint {
            Some(hint) => finding.with_hint(hint.as_str()),
            None => finding,
        }
    };
    // A value of the wrong shape is told with all others of its kind; what a value's own reader refuses ends the reading;
    // the order of groups is looked at behind it all.
    let shape = |p: &&FileProblem| {
        p.message.starts_with("field ")
            || p.message.starts_with("key ")
            || p.message.starts_with("cannot unmarshal")
    };
    let order = |p: &&FileProblem| p.message.starts_with("group name repeated");
    let texts = if let Some(first) = problems.iter().find(|p| !shape(p) && !order(p)) {
        vec![first.message.clone()]
    } else if problems.iter().any(|p| shape(&p)) {
        let line =
            |p: &FileProblem| format!("  line {}: {}", source.line_col(p.span.start as usize).0, p.message);
        let lines: Vec<String> = problems.iter().filter(shape).map(line).collect();
        vec![format!("yaml: unmarshal errors:\n{}", lines.join("\n"))]
    } else {
        problems.first().map(|p| p.message.clone()).into_iter().collect()
    };
    Refusal { texts, findings: problems.iter().map(finding).collect() }
}

/// Runs the selected tests of all files; reports come in the order of files and tests.
pub fn run_suite(files: &[LoadedFile], options: &SuiteOptions, control: &Control) -> Vec<FileReport> {
    let mut reports: Vec<FileReport> = files
        .iter()
        .map(|f| FileReport {
            name: f.name.clone(),
            source: f.source.clone(),
            refused: f.file.as_ref().err().map(|r| r.texts.clone()).unwrap_or_default(),
            problems: f.file.as_ref().err().map(|r| r.findings.clone()).unwrap_or_default(),
            tests: Vec::new(),
        })
        .collect();
    let mut tasks = Vec::new();
    for (i, loaded) in files.iter().enumerate() {
        if loaded.file.is_ok() {
            tasks.extend(loaded.selected.iter().map(|t| (i, *t)));
        }
    }
    let orders: Vec<_> = files
        .iter()
        .map(|f| match (&f.file, &f.program) {
            (Ok(file), Ok(program)) => ordered(program, &file.group_eval_order),
            _ => Vec::new(),
        })
        .collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<TestReport>>> = Mutex::new(vec![None; tasks.len()]);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some((f, t)) = tasks.get(i) else { return };
            let Ok(file) = &files[*f].file else { continue };
            let report = run_one(file, *t, &files[*f], &orders[*f], options, control);
            done.lock().unwrap_or_else(PoisonError::into_inner)[i] = Some(report);
        }
    };
    let jobs = options.jobs.clamp(1, 64).min(tasks.len().max(1));
    if jobs == 1 {
        on_big_stack(work);
    } else {
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| on_big_stack(work));
            }
        });
    }
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    for ((f, _), report) in tasks.iter().zip(done) {
        reports[*f].tests.extend(report);
    }
    reports
}

fn run_one(
    file: &TestFile,
    index: usize,
    loaded: &LoadedFile,
    groups: &[&super::program::GroupProgram],
    options: &SuiteOptions,
    control: &Control,
) -> TestReport {
    let started = Instant::now();
    let test = &file.tests[index];
    let mut outcome = match &loaded.program {
        Ok(_) => run_test(file, test, groups, &options.settings, control),
        Err(refusal) => without_rules(file, test, &refusal.texts),
    };
    if loaded.program.is_ok() {
        outcome.warnings.extend(test_warnings(file, test, groups));
    }
    TestReport {
        name: display_name(file, index),
        named: test.name.is_some(),
        span: test.span,
        outcome,
        seconds: started.elapsed().as_secs_f64(),
    }
}
