//! Paths of objects, as guests and templates may write them.

use object_store::path::Path;

use crate::error::ResourceError;

/// Longest path, in bytes.
pub const MAX_PATH: usize = 1_024;
/// Longest segment, in bytes: what file systems take.
const MAX_SEGMENT: usize = 255;

/// The path of an object below the root of its store: segments joined by `/`, none of which leads anywhere else.
///
/// Guest-controlled. Refused: absolute paths, empty segments, `.` and `..`, `%` (object stores and file systems disagree on
/// what it stands for), `\`, control characters, segments of more than 255 bytes, more than [`MAX_PATH`] bytes in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPath(Path);

fn invalid(reason: &str) -> ResourceError {
    ResourceError::Invalid(format!("not a path: {reason}"))
}

fn check_text(text: &str) -> Result<(), ResourceError> {
    if text.len() > MAX_PATH {
        return Err(invalid("over 1,024 bytes"));
    }
    if text.chars().any(|c| c.is_control() || matches!(c, '%' | '\\')) {
        return Err(invalid("it holds '%', '\\' or a control character"));
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), ResourceError> {
    match segment {
        "" => Err(invalid("it starts or ends with '/', or holds '//'")),
        "." | ".." => Err(invalid("it holds '.' or '..'")),
        _ if segment.len() > MAX_SEGMENT => Err(invalid("a segment of over 255 bytes")),
        _ => Ok(()),
    }
}

impl ObjectPath {
    /// Checks `text` and wraps it.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn parse(text: &str) -> Result<Self, ResourceError> {
        check_text(text)?;
        text.split('/').try_for_each(check_segment)?;
        let path = Path::parse(text).map_err(|_| invalid("no object store takes it"))?;
        // Whatever the library would read it as, it is what was checked.
        if path.as_ref() == text { Ok(Self(path)) } else { Err(invalid("no object store takes it")) }
    }

    /// The path, for an object store.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }
}

/// What paths are listed: those that start with a text. Any start of a path is one, the empty text too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix<'a> {
    /// The whole.
    pub(crate) text: &'a str,
    /// The folder that it lies in; none = the root.
    pub(crate) folder: Option<Path>,
}

impl<'a> Prefix<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, ResourceError> {
        check_text(text)?;
        if text.split('/').any(|segment| segment.len() > MAX_SEGMENT) {
            return Err(invalid("a segment of over 255 bytes"));
        }
        let folder = match text.rsplit_once('/') {
            None => None,
            Some((folder, _)) => Some(ObjectPath::parse(folder)?.0),
        };
        // The last segment may be the start of any name, but of no other folder.
        let last = text.rsplit('/').next().unwrap_or(text);
        if matches!(last, "." | "..") { Err(invalid("it ends with '.' or '..'")) } else { Ok(Self { text, folder }) }
    }
}
