//! Values cut at line ends.

use std::fmt::Write as _;

use opyard_guest::{Failure, Reader};
use sha2::{Digest as _, Sha256};

/// What is read at a time.
const CHUNK: u32 = 1 << 20;

/// The SHA-256 of bytes, as hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Cuts a value into parts of at most `max` bytes that end with a line. A line that is longer is a part of its own. What is held
/// is a part, and what was read beyond it.
///
/// # Errors
/// Those of the reader, and of `part`.
pub(crate) fn cut(
    value: &mut Reader,
    max: usize,
    mut part: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut held: Vec<u8> = Vec::new();
    loop {
        let chunk = value.next_chunk(CHUNK)?;
        let is_end = chunk.is_empty();
        held.extend_from_slice(&chunk);
        let mut done = 0;
        while let Some(length) = first_part(&held[done..], max, is_end) {
            part(&held[done..done + length])?;
            done += length;
        }
        held.drain(..done);
        if is_end {
            return Ok(());
        }
    }
}

/// How long the first part is; none when more has to be read to know, or nothing is left.
fn first_part(held: &[u8], max: usize, is_end: bool) -> Option<usize> {
    if held.is_empty() || held.len() < max && !is_end {
        return None;
    }
    let within = &held[..held.len().min(max)];
    if is_end && held.len() <= max {
        return Some(held.len());
    }
    if let Some(end) = within.iter().rposition(|byte| *byte == b'\n') {
        return Some(end + 1);
    }
    match held.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(end + 1),
        None if is_end => Some(held.len()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, max: usize) -> Vec<String> {
        let mut parts = Vec::new();
        let mut reader = Reader::from_bytes("text/plain", text);
        let taken = cut(&mut reader, max, |bytes| {
            parts.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(())
        });
        assert!(taken.is_ok());
        assert_eq!(parts.concat(), text);
        parts
    }

    #[test]
    fn parts_end_with_lines_and_nothing_is_lost() {
        assert!(parts("", 4).is_empty());
        assert_eq!(parts("a\nb\nc\n", 4), ["a\nb\n", "c\n"]);
        assert_eq!(parts("a\nb\nc", 5), ["a\nb\n", "c"]);
        assert_eq!(parts("long line\nb\n", 4), ["long line\n", "b\n"]);
        assert_eq!(parts("no end", 2), ["no end"]);
        let rows: String = (0..300_000).map(|row| format!("{{\"row\":{row}}}\n")).collect();
        for max in [1, 1_000, 1 << 20, 1 << 22] {
            let parts = parts(&rows, max);
            assert!(parts.iter().all(|part| part.ends_with('\n')), "{max}");
            assert!(max == 1 || parts.iter().all(|part| part.len() <= max), "{max}");
        }
    }
}
