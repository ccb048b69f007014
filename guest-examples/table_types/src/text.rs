//! What strangers wrote, as it is shown: on one line, and short.

/// The most characters that are shown of a name, a value or a pattern.
const SHOWN: usize = 100;

/// The first 100 characters, with `…` where more follow.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Like [`cut`], without control characters.
pub(crate) fn line(text: &str) -> String {
    cut(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Like [`line`], in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("'{}'", line(name))
}

/// `1 value`, `2 values`.
pub(crate) fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}
