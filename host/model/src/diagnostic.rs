//! What is wrong with something that a person wrote, said so that it can be mended: a code, the place with a caret, the
//! other place when two sides are involved, and a way out.
//!
//! All that is wrong is said at once: checks push a [`Diagnostic`] and go on. Rendering is a view of plain data, which
//! also serialises, for machines.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};

use crate::error::{Code, MAX_DESCRIPTION, sanitize};

/// Largest text that is parsed, in bytes.
pub const MAX_SOURCE: usize = 1 << 20;
/// Most errors, and most warnings, that are kept; a file with more has one cause, or is hostile.
pub const MAX_DIAGNOSTICS: usize = 100;

/// A text that a person wrote, and what to call it: a definitions file, a config file, a `--set`.
#[derive(Clone)]
pub struct Source(Arc<SourceText>);

struct SourceText {
    name: String,
    text: String,
    /// The text without C1 controls, which drive some terminals and which drawing leaves in; each byte where it was.
    shown: Option<String>,
}

impl Source {
    /// Takes bytes as they were read. A byte order mark is dropped.
    ///
    /// # Errors
    /// When they are more than [`MAX_SOURCE`], or not UTF-8: says where.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        if bytes.len() > MAX_SOURCE {
            return Err(Diagnostic::error(
                Code::TooLarge,
                format!("`{name}` has {} bytes; the most that is read is {MAX_SOURCE}", bytes.len()),
            )
            .into());
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(name, text.strip_prefix('\u{feff}').unwrap_or(text))),
            Err(error) => {
                let valid = &bytes[..error.valid_up_to()];
                let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
                Err(Diagnostic::error(
                    Code::Syntax,
                    format!(
                        "`{name}` is not UTF-8: line {line} has the byte 0x{:02x}",
                        bytes.get(valid.len()).copied().unwrap_or_default()
                    ),
                )
                .help("save the file as UTF-8")
                .into())
            }
        }
    }

    /// A text that is known to be small. The name is made fit to be shown: whoever named the file may be hostile.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        let name = sanitize(name, MAX_DESCRIPTION).replace(['\n', '\t'], " ");
        let is_c1 = |c: char| matches!(c, '\u{80}'..='\u{9f}');
        let shown = text.contains(is_c1).then(|| text.replace(is_c1, "\u{b7}"));
        Self(Arc::new(SourceText { name, text: text.to_owned(), shown }))
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The place of a range of bytes. Brought into the text and onto character boundaries if it is not.
    #[must_use]
    pub fn place(&self, range: Range<usize>) -> Place {
        let text = self.text();
        let floor = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(range.start);
        Place { source: self.clone(), start, end: floor(range.end).max(start) }
    }

    /// The whole text, without the white space around it.
    #[must_use]
    pub fn whole(&self) -> Place {
        let start = self.text().len() - self.text().trim_start().len();
        self.place(start..self.text().trim_end().len())
    }

    /// Line and column (in characters) of a byte, both from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text()[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.name(), self.text().len())
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.name() == other.name() && self.text() == other.text())
    }
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    source: Source,
    start: usize,
    end: usize,
}

impl Place {
    /// The text that it is in.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The line that it starts in, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.source.position(self.start).0
    }

    /// The column that it starts at, in characters, from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.source.position(self.start).1
    }

    /// What stands there.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.source.text()[self.start..self.end]
    }

    /// The bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.source.position(self.start);
        write!(f, "{}:{line}:{column}", self.source.name())
    }
}

/// A place, and what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Where.
    pub place: Place,
    /// What; may be empty.
    pub text: String,
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            file: &'a str,
            line: usize,
            column: usize,
            end_line: usize,
            end_column: usize,
            label: &'a str,
        }
        let source = &self.place.source;
        let ((line, column), (end_line, end_column)) =
            (source.position(self.place.start), source.position(self.place.end));
        Form { file: source.name(), line, column, end_line, end_column, label: &self.text }.serialize(serializer)
    }
}

/// Whether a diagnostic stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing runs before it is mended.
    Error,
    /// It would run, but hardly as meant.
    Warning,
}

/// One thing that is wrong. Texts are lower-case fragments without a full stop; control characters are escaped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnostic {
    /// What kind of thing; also says whose move it is.
    pub code: Code,
    /// Whether it stands in the way.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where: the place to mend first, then other places that are involved.
    pub labels: Vec<Label>,
    /// What to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// Something that stands in the way.
    #[must_use]
    pub fn error(code: Code, message: impl AsRef<str>) -> Self {
        let message = sanitize(message.as_ref(), MAX_DESCRIPTION);
        Self { code, severity: Severity::Error, message, labels: Vec::new(), help: Vec::new() }
    }

    /// Something that does not stand in the way.
    #[must_use]
    pub fn warning(code: Code, message: impl AsRef<str>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds a place; the first one added is the one to mend.
    #[must_use]
    pub fn at(mut self, place: &Place, text: impl AsRef<str>) -> Self {
        self.labels.push(Label { place: place.clone(), text: sanitize(text.as_ref(), 400) });
        self
    }

    /// Adds something to do.
    #[must_use]
    pub fn help(mut self, text: impl AsRef<str>) -> Self {
        self.help.push(sanitize(text.as_ref(), MAX_DESCRIPTION));
        self
    }

    /// Adds the known name that is nearest to `name`; when none is near, the known names.
    #[must_use]
    pub fn nearest<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        const LISTED: usize = 12;
        let mut known: Vec<&str> = known.into_iter().collect();
        known.sort_unstable();
        known.dedup();
        if let Some(near) = nearest(name, &known) {
            return self.help(format!("did you mean `{near}`?"));
        }
        match known.len() {
            0 => self,
            1 => self.help(format!("there is only `{}`", known[0])),
            count => {
                let listed: Vec<_> = known.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
                let more = if count > LISTED { format!(", and {} more", count - LISTED) } else { String::new() };
                self.help(format!("there are {}{more}", listed.join(", ")))
            }
        }
    }

    fn render_into(&self, renderer: &Renderer, out: &mut String) {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let code = self.code.to_string();
        let mut group = Group::with_title(level.primary_title(self.message.as_str()).id(code.as_str()));
        let mut labels = self.labels.iter().enumerate().peekable();
        while let Some((index, label)) = labels.next() {
            let source = label.place.source();
            let annotate = |index: usize, label: &Label| {
                let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                let text = (!label.text.is_empty()).then(|| label.text.clone());
                kind.span(label.place.range()).label(text)
            };
            let shown = source.0.shown.as_deref().unwrap_or_else(|| source.text());
            let mut snippet = Snippet::source(shown).path(source.name()).annotation(annotate(index, label));
            while let Some((index, label)) = labels.next_if(|(_, next)| next.place.source() == source) {
                snippet = snippet.annotation(annotate(index, label));
            }
            group = group.element(snippet);
        }
        if self.labels.is_empty() {
            // Nothing of a text is shown, so there is no gutter to hang the help on.
            out.push_str(&renderer.render(&[group]));
            self.help.iter().for_each(|help| out.extend(["\n  = help: ", help]));
        } else {
            for help in &self.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            out.push_str(&renderer.render(&[group]));
        }
        out.push_str("\n\n");
    }
}

/// The known name that `name` is most likely a slip of, if any is near.
///
/// # Limits
/// Edit distance is quadratic in the length, and both sides may be hostile: only names of at most 64 bytes are compared,
/// and at most 2,000 of a length that could be near.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 64;
    const COMPARED: usize = 2_000;
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let bound = (name.chars().count() / 3).max(1);
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    known
        .iter()
        .copied()
        .filter(|other| other.len() <= LONGEST && other.len().abs_diff(name.len()) <= 4 * bound)
        .take(COMPARED)
        .map(|other| (if plain(other) == wanted { 0 } else { strsim::damerau_levenshtein(name, other) }, other))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, other)| other)
}

/// How diagnostics are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drawing {
    /// Plain text, for files and pipes.
    #[default]
    Plain,
    /// With ANSI colours, for a terminal.
    Coloured,
}

/// All that is wrong, in the order of the text: at most [`MAX_DIAGNOSTICS`] errors and as many warnings.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Diagnostics {
    diagnostics: Vec<Diagnostic>,
    /// How many more were found, at least: looking stops when there are enough.
    left_out: usize,
}

impl Diagnostics {
    /// Adds one, unless the very same is there already (a graph that is used twice has its mistakes once).
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.contains(&diagnostic) {
            return;
        }
        // Counted apart, so that no number of warnings hides an error.
        if self.count(diagnostic.severity) < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds those of another pass.
    pub fn append(&mut self, other: Self) {
        other.diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
        self.left_out += other.left_out;
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// No more errors are kept: whoever looks for costly things to say can stop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count(Severity::Error) >= MAX_DIAGNOSTICS
    }

    /// Nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Something stands in the way.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// What was found.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.diagnostics.iter()
    }

    /// The diagnostics as an error when one of them stands in the way, else `value` and the warnings.
    ///
    /// # Errors
    /// When there are errors.
    pub fn or<T>(mut self, value: Option<T>) -> Result<(T, Self), Self> {
        self.sort();
        match value {
            Some(value) if !self.has_errors() => Ok((value, self)),
            _ => Err(self),
        }
    }

    fn sort(&mut self) {
        self.diagnostics.sort_by_key(|diagnostic| {
            let first =
                diagnostic.labels.first().map(|label| (label.place.source.name().to_owned(), label.place.start));
            (diagnostic.severity, first)
        });
    }

    /// Draws them for people, one after the other, with a count at the end.
    #[must_use]
    pub fn render(&self, drawing: Drawing) -> String {
        let renderer = match drawing {
            Drawing::Plain => Renderer::plain(),
            Drawing::Coloured => Renderer::styled(),
        };
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            diagnostic.render_into(&renderer, &mut out);
        }
        let counted = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            count => Some(format!("{count} {what}s")),
        };
        let counts: Vec<_> = [
            counted(self.count(Severity::Error), "error"),
            counted(self.count(Severity::Warning), "warning"),
            (self.is_full() || self.left_out > 0).then(|| "and perhaps more: mend these first".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        out.push_str(&counts.join(", "));
        out
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], left_out: 0 }
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Drawing::Plain))
    }
}

impl std::error::Error for Diagnostics {}
