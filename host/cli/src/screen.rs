//! Where text goes: results to stdout, the rest to stderr. Texts carry ANSI styles; they are dropped here when nobody who
//! could show them reads.

use std::io::{self, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use serde_json::Value;

use crate::args::Color;

/// The two streams, and how to write on them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    color: ColorChoice,
    json: bool,
}

impl Screen {
    /// A screen with colours as asked for, for people or for machines.
    pub(crate) fn new(color: Color, json: bool) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self { color, json }
    }

    /// A machine reads.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// Writes a result, ended by a line end.
    pub(crate) fn print(self, text: &str) -> io::Result<()> {
        write(AutoStream::new(io::stdout().lock(), self.color), text)
    }

    /// Writes a result for machines.
    pub(crate) fn print_json(self, value: &Value) -> io::Result<()> {
        self.print_as_is(&json_text(&format!("{value:#}")))
    }

    /// Writes a result that has no styles: what looks like one is part of it.
    pub(crate) fn print_as_is(self, text: &str) -> io::Result<()> {
        write(io::stdout().lock(), text)
    }

    /// Writes an object for machines on the way to the result, on one line.
    pub(crate) fn note_json(self, value: &Value) {
        drop(write(io::stderr().lock(), &json_text(&value.to_string())));
    }

    /// Writes something on the way to the result, or about it. Whoever closed stderr does not want to know.
    pub(crate) fn note(self, text: &str) {
        drop(write(AutoStream::new(io::stderr().lock(), self.color), text));
    }

    /// Text on stderr can be coloured.
    pub(crate) fn colours_notes(self) -> bool {
        AutoStream::new(io::stderr().lock(), self.color).current_choice() != ColorChoice::Never
    }

    /// Somebody watches stderr, on a terminal that can go back to a line.
    pub(crate) fn is_watched(self) -> bool {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        !self.json && !dumb && io::stderr().is_terminal()
    }
}

/// JSON text that cannot drive a terminal: strings are the only place where such characters may be, and they may be
/// escaped there.
pub(crate) fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

fn write(mut stream: impl Write, text: &str) -> io::Result<()> {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    stream.write_all(format!("{text}{end}").as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same_and_cannot_drive_a_terminal() {
        let value = serde_json::json!({ "a\u{9b}": "\u{1b}[2J\u{202e}\u{7f}ä" });
        let written = json_text(&value.to_string());
        assert!(!written.contains(char::is_control) && !written.contains('\u{202e}'));
        assert_eq!(serde_json::from_str::<Value>(&written).ok(), Some(value));
    }
}
