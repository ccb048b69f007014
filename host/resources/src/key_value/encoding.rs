//! Names of values as paths of objects.
//!
//! A name's bytes are written in base 32 (`0-9a-v`, five bits a character, the last padded with zeros), in folders of
//! [`FOLDER`] characters whose names end with `_`. So different names have different paths, also where case is not told
//! apart; no path is the folder of another; and paths stand in the order of the names.

use super::check_name;

const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Characters in the name of a folder, without the `_` after them: below what file systems take.
const FOLDER: usize = 200;
/// Ends the name of a folder.
const MARK: char = '_';

/// The base-32 digits of `bytes`; of the last, incomplete one only with `padded`.
fn digits(bytes: &[u8], padded: bool) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(DIGITS[(held >> bits) as usize & 31]));
        }
        held &= (1 << bits) - 1;
    }
    if padded && bits > 0 {
        out.push(char::from(DIGITS[(held << (5 - bits)) as usize & 31]));
    }
    out
}

/// Digits in their folders.
fn in_folders(digits: &str) -> String {
    let mut path = String::with_capacity(digits.len() + 16);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % FOLDER == 0 {
            path.push(MARK);
            path.push('/');
        }
        path.push(digit);
    }
    path
}

/// The path of a name.
pub(super) fn path_of(name: &str) -> String {
    in_folders(&digits(name.as_bytes(), true))
}

/// What the paths of all names start with that start with `prefix`. Other paths may start so too.
pub(super) fn start_of(prefix: &str) -> String {
    in_folders(&digits(prefix.as_bytes(), false))
}

/// The name whose path this is; none when it is the path of none.
pub(super) fn name_of(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let (mut bits, mut held) = (0u32, 0u32);
    for digit in path.bytes().filter(|byte| *byte != b'/' && *byte != b'_') {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        held = (held << 5) | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 255).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    let name = String::from_utf8(bytes).ok()?;
    check_name(&name).ok()?;
    // Whatever was skipped or padded above: it is the path of that name, or of none.
    (path_of(&name) == path).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key_value::MAX_NAME;
    use crate::path::ObjectPath;

    #[test]
    fn names_are_written_as_documented() {
        assert_eq!(path_of("a"), "c4");
        assert_eq!(path_of("counter"), "cdnnarjkclp0");
        let long = path_of(&"x".repeat(MAX_NAME));
        assert!(ObjectPath::parse(&long).is_ok() && long.len() == 820 + 2 * 4, "{long}");
        for none in ["", "c", "c5", "C4", "c4_", "/c4", "c4/", "c4_/c4", "readme.md", "08"] {
            assert_eq!(name_of(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn names_come_back_and_keep_their_order(a in "[^\\p{Cc}]{1,150}", b in "[^\\p{Cc}]{1,150}", cut in 0usize..150) {
            let (a, b) = (&a[..a.floor_char_boundary(MAX_NAME)], &b[..b.floor_char_boundary(MAX_NAME)]);
            let (path_a, path_b) = (path_of(a), path_of(b));
            prop_assert_eq!(name_of(&path_a), Some(a.to_owned()));
            prop_assert_eq!(a.cmp(b), path_a.cmp(&path_b));
            let start = &a[..a.floor_char_boundary(cut)];
            prop_assert!(path_a.starts_with(&start_of(start)));
            let lower = path_a.to_lowercase();
            prop_assert_eq!(&path_a, &lower, "no case to lose");
        }
    }
}
