//! Test files of ops, and the snapshots beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use opyard_model::definitions::op_test::OpTestFile;
use opyard_model::diagnostic::Diagnostics;
use opyard_model::error::{Code, Failure};
use opyard_model::id::Name;
use opyard_model::plan::Catalog;
use opyard_server::YardError;
use serde::Serialize;

use crate::bench::{Bench, Compiling};
use crate::diff::diff;
use crate::op::{self, OpRun};
use crate::snapshot;

/// The end of the name of a test file.
const ENDING: &str = ".test.yaml";
/// What the name of the snapshot beside it ends with.
const SNAPSHOT: &str = ".test.snap";
/// Most test files below a folder, and how deep they are looked for.
const MAX_FILES: (usize, usize) = (1_000, 16);
/// Largest snapshot that is read.
const MAX_SNAPSHOT: u64 = 16 << 20;

/// Whether a case is as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Passed,
    /// It ended in another way than it says.
    Unexpected {
        /// What was expected, and what came.
        problem: String,
    },
    /// The snapshot says something else.
    Differs {
        /// `-` what the snapshot says, `+` what came.
        difference: String,
    },
    /// There is no snapshot of it.
    New {
        /// What it would be.
        snapshot: String,
    },
    /// There is a snapshot of it, and no such case.
    Gone,
    /// The snapshot was written.
    Written,
}

impl Verdict {
    /// Nothing is to be done about it.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        match self {
            Self::Passed | Self::Written => true,
            Self::Unexpected { .. } | Self::Differs { .. } | Self::New { .. } | Self::Gone => false,
        }
    }
}

/// A case, and whether it is as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseVerdict {
    /// The case.
    pub case: String,
    /// Whether it is.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A test file, and whether its cases are as they should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileVerdict {
    /// The file.
    pub file: PathBuf,
    /// Its cases, in the order of the file.
    pub cases: Vec<CaseVerdict>,
}

/// The test file at `path`, or those below a folder, in order: those whose names end with `.test.yaml`. Hidden folders and
/// symbolic links are not looked into.
///
/// # Errors
/// When there is none, or something cannot be read.
pub fn test_files(path: &Path) -> Result<Vec<PathBuf>, YardError> {
    let failed = |at: &Path, code, reason: String| Failure::new(code, format!("{}: {reason}", at.display()));
    let found = std::fs::metadata(path).map_err(|error| failed(path, Code::FileUnreadable, error.to_string()))?;
    if !found.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let unreadable = |error: std::io::Error| failed(&folder, Code::FileUnreadable, error.to_string());
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (name, kind) = (entry.file_name(), entry.file_type().map_err(unreadable)?);
            let name = name.to_string_lossy();
            if kind.is_dir() && depth < MAX_FILES.1 && !name.starts_with('.') {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() && name.ends_with(ENDING) {
                files.push(entry.path());
            }
            if files.len() > MAX_FILES.0 {
                let text = format!("more than {} test files; name a folder of fewer", MAX_FILES.0);
                return Err(failed(path, Code::TooLarge, text).into());
            }
        }
    }
    files.sort();
    if files.is_empty() {
        let text = format!("there is no test file here: no name ends with `{ENDING}`");
        return Err(failed(path, Code::NoDefinitions, text).into());
    }
    Ok(files)
}

/// A test file of ops, with its component described.
pub struct OpTests {
    path: PathBuf,
    file: OpTestFile,
    catalog: Catalog,
    bench: Bench,
}

impl OpTests {
    /// Reads the test file at `path`, and asks its components what they ship.
    ///
    /// # Errors
    /// All that is wrong with it in itself, and with its components.
    pub async fn load(path: &Path, compiling: Compiling) -> Result<Self, YardError> {
        let (source, path) = opyard_server::read_source(path, "test file")?;
        let folder = path.parent().unwrap_or(&path);
        let file = OpTestFile::parse(&source, folder)?;
        let bench = Bench::new(compiling)?;
        let problem = |name: &str, failure: &Failure| file.component_problem(name, failure.code, &failure.description);
        let catalog = bench.catalog(file.components(), problem).await?;
        Ok(Self { path, file, catalog, bench })
    }

    /// The names of its cases, in the order of the file.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.file.cases().map(|(name, _)| name.as_str())
    }

    /// Runs one case.
    ///
    /// # Errors
    /// When there is no such case, or something is wrong with it. What the op does is in the answer.
    pub async fn run(&self, case: &str) -> Result<OpRun, YardError> {
        let Some((_, found)) = self.file.cases().find(|(name, _)| name.as_str() == case) else {
            return Err(Diagnostics::from(self.file.no_case(case)).into());
        };
        op::run(&self.bench, (&self.file, &self.catalog), found).await
    }

    /// Runs the cases of these names (none = all), compares each with the snapshot beside the file, and, with `update`, writes
    /// what is new or different there. A case that ends in another way than it says is never written.
    ///
    /// # Errors
    /// All that is wrong with the cases; nothing is written then.
    pub async fn check(&self, only: &[String], update: bool) -> Result<FileVerdict, YardError> {
        let mut runs: Vec<(&Name, Option<String>, String)> = Vec::new();
        let mut problems = Diagnostics::default();
        for name in only {
            if !self.cases().any(|case| case == name) {
                problems.push(self.file.no_case(name));
            }
        }
        for (name, case) in
            self.file.cases().filter(|(name, _)| only.is_empty() || only.iter().any(|one| one == name.as_str()))
        {
            match op::run(&self.bench, (&self.file, &self.catalog), case).await {
                Ok(run) => runs.push((name, run.unexpected(case.expected), snapshot::text(&run))),
                Err(YardError::Definitions(more)) => problems.append(more),
                Err(error) => return Err(error),
            }
        }
        if problems.has_errors() {
            return Err(problems.into());
        }
        let mut recorded = self.recorded()?;
        let mut cases = Vec::new();
        for (name, unexpected, text) in runs {
            let before = recorded.get(name.as_str());
            let verdict = match (unexpected, before) {
                (Some(problem), _) => Verdict::Unexpected { problem },
                (None, Some(before)) if *before == text => Verdict::Passed,
                (None, _) if update => {
                    recorded.insert(name.to_string(), text);
                    Verdict::Written
                }
                (None, None) => Verdict::New { snapshot: text },
                (None, Some(before)) => Verdict::Differs { difference: diff(before, &text).unwrap_or_default() },
            };
            cases.push(CaseVerdict { case: name.to_string(), verdict });
        }
        let gone: Vec<_> = recorded.keys().filter(|name| !self.cases().any(|case| case == *name)).cloned().collect();
        let is_removed = update && only.is_empty();
        for name in &gone {
            if is_removed {
                recorded.remove(name);
            } else if only.is_empty() {
                cases.push(CaseVerdict { case: name.clone(), verdict: Verdict::Gone });
            }
        }
        if cases.iter().any(|case| case.verdict == Verdict::Written) || is_removed && !gone.is_empty() {
            self.record(&recorded)?;
        }
        Ok(FileVerdict { file: self.path.clone(), cases })
    }

    /// The snapshot beside the file.
    fn snapshot(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(ENDING).or_else(|| name.strip_suffix(".yaml")).unwrap_or(&name);
        self.path.with_file_name(format!("{stem}{SNAPSHOT}"))
    }

    /// What the snapshot says of each case.
    fn recorded(&self) -> Result<BTreeMap<String, String>, YardError> {
        let path = self.snapshot();
        let failed = |code, reason: String| Failure::new(code, format!("{}: {reason}", path.display()));
        let text = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Ok(found) if found.len() > MAX_SNAPSHOT => {
                return Err(failed(Code::TooLarge, format!("more than {MAX_SNAPSHOT} bytes")).into());
            }
            Ok(_) | Err(_) => std::fs::read_to_string(&path),
        };
        let text = text.map_err(|error| failed(Code::FileUnreadable, error.to_string()))?;
        let mut cases: BTreeMap<String, String> = BTreeMap::new();
        let mut open = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
                open = Some(name.to_owned());
                cases.insert(name.to_owned(), String::new());
            } else if let Some(text) = open.as_ref().and_then(|name| cases.get_mut(name)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        // The blank line between two cases.
        cases
            .values_mut()
            .for_each(|text| text.truncate(text.trim_end().len() + usize::from(!text.trim_end().is_empty())));
        Ok(cases)
    }

    /// Writes the snapshot: the cases in the order of the file. A new file in place of the old one, whole or not at all.
    fn record(&self, recorded: &BTreeMap<String, String>) -> Result<(), YardError> {
        let path = self.snapshot();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut text = format!("# What `opyard op test {name}` saw; `--update` writes it anew.\n");
        let order = self.cases().filter_map(|case| recorded.get_key_value(case));
        for (name, case) in order {
            text.push_str(&format!("{name}:\n{case}\n"));
        }
        let text = text.trim_end().to_owned() + "\n";
        let half = path.with_extension(format!("snap.{}", std::process::id()));
        let written = std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, &path));
        written.map_err(|error| {
            drop(std::fs::remove_file(&half));
            Failure::new(Code::FileUnreadable, format!("{}: {error}", path.display())).into()
        })
    }
}
