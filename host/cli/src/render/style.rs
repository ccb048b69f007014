//! The few styles there are.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

/// It went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// It went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something to look at.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// It was there already.
pub(crate) const MEMO: Style = AnsiColor::Cyan.on_default();
/// Names and titles.
pub(crate) const TITLE: Style = Style::new().bold();
/// Beside the point.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Nothing special.
pub(crate) const PLAIN: Style = Style::new();

/// `text` in a style.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
