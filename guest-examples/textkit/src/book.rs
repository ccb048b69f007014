//! From a file to the chapters of a book.

use opyard_guest::events::{self, Asset};
use opyard_guest::{Context, Dynamic, Failure, ObjectStore, Outputs, Text, info, op};
use schemars::JsonSchema;
use serde::Deserialize;

/// Which text to read.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Read {
    /// The path of the file in the object store.
    object: String,
}

/// Reads a text (UTF-8) from an object store.
#[op]
pub(crate) fn read_text(texts: ObjectStore, config: Read) -> Result<Text, Failure> {
    let text = String::from_utf8(texts.read(&config.object)?).context(&config.object)?;
    Asset::new(["texts", &config.object]).with_metadata("bytes", text.len()).observe();
    Ok(Text::new(text))
}

/// How a chapter is told.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chapters {
    /// A line that starts with this word begins a chapter.
    #[serde(default = "chapter")]
    heading: String,
    /// A line that consists of this ends the last one.
    #[serde(default = "the_end")]
    end: String,
}

fn chapter() -> String {
    "CHAPTER".to_owned()
}

fn the_end() -> String {
    "THE END".to_owned()
}

/// What belongs to no chapter.
#[derive(Outputs)]
pub(crate) struct Matter {
    /// What stands before the first chapter, if anything does.
    front: Option<Text>,
    /// What stands after the last one, if anything does.
    back: Option<Text>,
}

/// Divides a book into its chapters: `chapter-01`, `chapter-02` and so on.
#[op]
pub(crate) fn chapters(
    book: Text,
    config: Chapters,
    /// The text of each chapter, with its heading.
    chapter: Dynamic<Text>,
) -> Result<Matter, Failure> {
    let parts = divide(&book, &config.heading, &config.end);
    let count = parts.chapters.len();
    if count == 0 {
        return Err(Failure::new(format!("no line starts with {:?}", config.heading)).no_retry());
    }
    for (index, text) in parts.chapters.into_iter().enumerate() {
        let number = index + 1;
        chapter.emit(&format!("chapter-{number:02}"), Text::new(text).with_metadata("number", number))?;
        events::progress(number as u64, Some(count as u64), None);
    }
    info!(chapters = count; "divided the book");
    let filled = |text: String| (!text.trim().is_empty()).then(|| Text::new(text));
    Ok(Matter { front: filled(parts.front), back: filled(parts.back) })
}

/// Divides a text into its paragraphs: `p-001`, `p-002` and so on. Blank lines stand between them.
#[op]
pub(crate) fn paragraphs(
    text: Text,
    /// The text of each paragraph.
    paragraph: Dynamic<Text>,
) -> Result<(), Failure> {
    for (index, text) in split(&text).enumerate() {
        paragraph.emit(&format!("p-{:03}", index + 1), Text::new(text))?;
    }
    Ok(())
}

fn split(text: &str) -> impl Iterator<Item = String> {
    let lines: Vec<_> = text.lines().collect();
    let paragraphs: Vec<_> = lines.split(|line| line.trim().is_empty()).map(|lines| lines.join("\n")).collect();
    paragraphs.into_iter().filter(|paragraph| !paragraph.is_empty())
}

#[derive(Debug, Default)]
struct Parts {
    front: String,
    chapters: Vec<String>,
    back: String,
}

fn divide(book: &str, heading: &str, end: &str) -> Parts {
    let mut parts = Parts::default();
    let mut ended = false;
    for line in book.split_inclusive('\n') {
        let begins =
            line.trim_start().strip_prefix(heading).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
        if ended {
            parts.back.push_str(line);
        } else if begins {
            parts.chapters.push(line.to_owned());
        } else if line.trim() == end {
            ended = true;
        } else {
            parts.chapters.last_mut().unwrap_or(&mut parts.front).push_str(line);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_what_stands_between_blank_lines() {
        let found: Vec<_> = split("\n\none\ntwo\r\n  \nthree\n\n").collect();
        assert_eq!(found, ["one\ntwo", "three"]);
        assert_eq!(split(" \n\n").count(), 0);
    }

    #[test]
    fn a_book_is_all_its_parts() {
        let parts = divide(include_str!("../data/alice.txt"), "CHAPTER", "THE END");
        assert_eq!(parts.chapters.len(), 12);
        assert!(parts.front.contains("Lewis Carroll") && parts.back.trim().is_empty());
        assert!(parts.chapters.iter().all(|chapter| chapter.trim_start().starts_with("CHAPTER ")));
        let one = divide("before\nCHAPTERS are no heading\nCHAPTER 1\nin\nTHE END\nafter\n", "CHAPTER", "THE END");
        assert_eq!(
            (one.front.lines().count(), one.chapters, one.back.as_str()),
            (2, vec!["CHAPTER 1\nin\n".to_owned()], "after\n")
        );
    }
}
