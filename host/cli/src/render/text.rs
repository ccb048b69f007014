//! Text that somebody else wrote, made fit for a line or a block.

use opyard_server::model::error::sanitize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Most lines of one block.
const MAX_LINES: usize = 60;
/// Most bytes of one block.
const MAX_BLOCK: usize = 16 << 10;

/// `text` on one line, at most `width` columns wide.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    // Four bytes a column at most, but for combining marks, which nobody needs without end.
    let clean = sanitize(text, width.saturating_mul(4).max(16)).replace(['\n', '\t'], " ");
    clip(clean.trim(), width)
}

/// `text` cut to `width` columns.
pub(crate) fn clip(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// `text` over as many lines as it has, each after `indent`; bounded.
pub(crate) fn block(text: &str, indent: &str) -> String {
    let clean = sanitize(text.trim_end(), MAX_BLOCK);
    let mut lines: Vec<String> =
        clean.lines().take(MAX_LINES).map(|line| format!("{indent}{line}").trim_end().to_owned()).collect();
    let left = clean.lines().count().saturating_sub(MAX_LINES);
    if left > 0 {
        lines.push(format!("{indent}… {left} more lines"));
    }
    lines.join("\n")
}

/// `1 step`, `2 steps`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_text_stays_on_its_line_and_within_its_width() {
        assert_eq!(one_line("a\nb\t\u{1b}[31mc", 80), "a b \\u{1b}[31mc");
        assert_eq!(one_line("日本語テキスト", 7), "日本語…");
        assert_eq!(block("a\r\n\nb\u{7}\n\n", "  "), "  a\\u{d}\n\n  b\\u{7}");
        assert!(block(&"x\n".repeat(1_000), "").ends_with("… 940 more lines"));
    }
}
