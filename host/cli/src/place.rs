//! Finds the definitions file and the yard.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use opyard_server::model::error::Code;
use opyard_server::{Yard, YardSettings};

use crate::args::{File, Global};
use crate::compile;
use crate::error::CliError;

/// The definitions file where nothing else is said.
pub(crate) const DEFAULT_FILE: &str = "opyard.yaml";
/// The yard's folder beside it.
pub(crate) const YARD_FOLDER: &str = ".opyard";

/// Where a call works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The definitions file; it may not be there.
    pub(crate) file: PathBuf,
    /// The yard's folder; it may not be there.
    pub(crate) yard: PathBuf,
    /// What to add to a command line so that it finds the same yard from here.
    pub(crate) again: String,
}

impl Place {
    /// For verbs that are about a definitions file.
    pub(crate) fn of_definitions(global: &Global, file: &File) -> Self {
        let path = file.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let yard = global.yard.clone().unwrap_or_else(|| beside(&path));
        Self { again: again(global, file), file: path, yard }
    }

    /// For verbs that are about what is in a yard: the one that is named, else the one beside the definitions file that is
    /// named, else the nearest `.opyard` upwards of `here`.
    pub(crate) fn of_yard(global: &Global, file: &File, here: &Path) -> Self {
        if global.yard.is_some() || file.file.is_some() {
            return Self::of_definitions(global, file);
        }
        let found = here.ancestors().map(|folder| folder.join(YARD_FOLDER)).find(|folder| folder.is_dir());
        let yard = found.unwrap_or_else(|| here.join(YARD_FOLDER));
        let file = yard.parent().unwrap_or(here).join(DEFAULT_FILE);
        Self { file, yard, again: String::new() }
    }

    /// Whether there is a definitions file.
    ///
    /// # Errors
    /// When there is none, or something else has its name.
    pub(crate) fn check_file(&self) -> Result<(), CliError> {
        let file = self.file.display();
        let none = |text: String| Err(CliError::new(Code::NoDefinitions, text));
        match std::fs::metadata(&self.file) {
            Ok(found) if found.is_file() => Ok(()),
            Ok(found) if found.is_dir() => none(format!("{file} is a folder; name the file in it with -f FILE")),
            Ok(_) => none(format!("{file} is not a regular file; name one with -f FILE")),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => {
                    none(format!("there is no file {file}; go to its folder, or name it with -f FILE"))
                }
                ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
                    none(format!("{file} cannot be the name of a file ({error}); name one with -f FILE"))
                }
                _ => Err(CliError::new(Code::FileUnreadable, format!("{file}: {error}"))),
            },
        }
    }

    /// Opens the yard, and makes it if there is none.
    pub(crate) fn open(&self) -> Result<Yard, CliError> {
        let compile_worker = Some(compile::worker()?);
        Ok(Yard::open(&YardSettings { compile_worker, ..YardSettings::new(&self.yard) })?)
    }

    /// There is a yard. A name that something else has is no yard to be: opening it says so.
    pub(crate) fn has_yard(&self) -> bool {
        self.yard.exists()
    }

    /// Opens the yard if there is one: looking at something makes nothing.
    pub(crate) fn open_existing(&self) -> Result<Yard, CliError> {
        if self.has_yard() {
            return self.open();
        }
        let text = format!(
            "there is no yard at {}, so nothing has run there; say where it is with -f FILE or --yard DIR",
            self.yard.display()
        );
        Err(CliError::new(Code::UnknownRun, text))
    }
}

/// Where the user is.
pub(crate) fn here() -> Result<PathBuf, CliError> {
    std::env::current_dir()
        .map_err(|error| CliError::new(Code::FileUnreadable, format!("the current folder cannot be read: {error}")))
}

fn beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(YARD_FOLDER)
}

/// A yard that was named on the command line has to be named again; one of the environment, or in the current folder, is
/// found again.
fn again(global: &Global, file: &File) -> String {
    let in_environment = std::env::var_os("OPYARD_YARD")
        .is_some_and(|set| Some(set.as_os_str()) == global.yard.as_deref().map(Path::as_os_str));
    match (&global.yard, &file.file) {
        (Some(_), _) if in_environment => String::new(),
        (Some(yard), _) => format!(" --yard {}", quoted(yard)),
        (None, Some(file)) if file.parent().is_some_and(|folder| !folder.as_os_str().is_empty()) => {
            format!(" -f {}", quoted(file))
        }
        (None, _) => String::new(),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:,~".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Color;

    fn place(yard: Option<&str>, file: Option<&str>) -> Place {
        let global = Global { yard: yard.map(Into::into), color: Color::Auto, json: false };
        Place::of_definitions(&global, &File { file: file.map(Into::into) })
    }

    #[test]
    fn the_yard_is_beside_the_definitions_unless_named() {
        for (yard, file, at, again) in [
            (None, None, ".opyard", ""),
            (None, Some("other.yaml"), ".opyard", ""),
            (None, Some("a/b/opyard.yaml"), "a/b/.opyard", " -f a/b/opyard.yaml"),
            (None, Some("a b/o.yaml"), "a b/.opyard", " -f 'a b/o.yaml'"),
            (Some("it's"), Some("a/o.yaml"), "it's", " --yard 'it'\\''s'"),
        ] {
            let place = place(yard, file);
            assert_eq!((place.yard.as_path(), place.again.as_str()), (Path::new(at), again));
        }
    }

    #[test]
    fn looking_for_a_yard_goes_upwards() {
        let folder = std::env::temp_dir().join(format!("opyard-place-{}", std::process::id()));
        let deep = folder.join("a/b");
        std::fs::create_dir_all(&deep).expect("the temporary folder can be written");
        std::fs::create_dir_all(folder.join(YARD_FOLDER)).expect("the temporary folder can be written");
        let global = Global { yard: None, color: Color::Auto, json: false };
        let place = Place::of_yard(&global, &File { file: None }, &deep);
        std::fs::remove_dir_all(&folder).expect("the temporary folder can be removed");
        assert_eq!((place.yard, place.file), (folder.join(YARD_FOLDER), folder.join(DEFAULT_FILE)));
    }
}
