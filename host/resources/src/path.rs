//! Paths below the root of an object store, as guests may write them.

use object_store::path::Path;
use opyard_store::object::Objects;

use crate::error::ResourceError;

/// Longest path, in bytes.
pub const MAX_PATH: usize = 1_024;
/// Longest segment, in bytes.
pub const MAX_SEGMENT: usize = 255;

/// Checks a guest-controlled path: relative, in segments that mean themselves everywhere.
///
/// No empty, `.` or `..` segment, nothing that any object store would have to escape (control characters, `\`, `%`, `*`,
/// `?`, quotes, brackets, …), at most [`MAX_PATH`] bytes.
///
/// # Errors
/// `Invalid`, saying which rule.
pub fn checked(path: &str) -> Result<Path, ResourceError> {
    let invalid = |rule: &str| Err(ResourceError::Invalid(format!("not a path: {rule}")));
    if path.is_empty() || path.len() > MAX_PATH {
        return invalid("1 to 1,024 bytes");
    }
    for segment in path.split('/') {
        if segment.is_empty() || segment.len() > MAX_SEGMENT {
            return invalid("segments of 1 to 255 bytes, separated by single '/'");
        }
        if segment.chars().all(|c| c == '.') {
            return invalid("no segment of dots only");
        }
    }
    // `Path::from` escapes whatever is special to some object store: what it leaves alone means itself.
    let escaped = Path::from(path);
    if escaped.as_ref() != path || path.contains(':') {
        return invalid("no control characters and none of \\ % * ? : ~ # \" | < > { } [ ] ^ `");
    }
    Ok(escaped)
}

/// As [`checked`], for the start of paths: it may be empty, and its last segment may be unfinished. Gives the folder that
/// holds whatever starts so.
///
/// # Errors
/// As [`checked`].
pub fn checked_prefix(prefix: &str) -> Result<Option<Path>, ResourceError> {
    let Some((folder, last)) = prefix.rsplit_once('/') else {
        if !prefix.is_empty() {
            checked(prefix)?;
        }
        return Ok(None);
    };
    if !last.is_empty() {
        checked(prefix)?;
    }
    checked(folder).map(Some)
}

/// On files of this machine, refuses a path that leads out of the root through a link. Links are the operator's: a guest
/// has no way to make one.
///
/// # Errors
/// `Denied`.
pub(crate) fn stays_inside(objects: &Objects, path: &Path) -> Result<(), ResourceError> {
    let Some(root) = &objects.root else { return Ok(()) };
    let mut place = root.clone();
    for segment in path.as_ref().split('/') {
        place.push(segment);
        match place.symlink_metadata() {
            Ok(found) if found.is_symlink() => match place.canonicalize() {
                Ok(target) if target.starts_with(root) => place = target,
                _ => return Err(ResourceError::Denied),
            },
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_ever_leads_out_of_the_root(path in "([a-z./\\\\%:~\u{0}\u{e9} -]|\\.\\.|%2e|/){0,40}") {
            if let Ok(path) = checked(&path) {
                let joined = std::path::Path::new("/root").join(path.as_ref());
                let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
                prop_assert!(joined.starts_with("/root") && joined.components().all(plain), "{}", path);
            }
        }
    }

    #[test]
    fn ordinary_paths_are_fine_and_tricks_are_not() {
        for fine in ["a", "a/b.csv", "incoming/2026-11-23/räksmörgås.json", "a b/c=d/e+f", ".hidden"] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        let long = "a/".repeat(600);
        for wrong in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            "./a",
            "...",
            "a\\b",
            "a%2e%2e",
            "C:/a",
            "a\u{0}",
            "a\nb",
            long.as_str(),
        ] {
            assert!(checked(wrong).is_err(), "{wrong}");
        }
        assert!(checked_prefix("").is_ok_and(|folder| folder.is_none()));
        assert!(checked_prefix("in/2026").is_ok_and(|folder| folder == Some(Path::from("in"))));
        assert!(checked_prefix("../").is_err() && checked_prefix("a/../b").is_err());
    }
}
