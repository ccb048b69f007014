//! Counting words.

use std::collections::BTreeMap;
use std::fmt::Write;

use opyard_guest::{Csv, Failure, Json, Text, events, op};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What there is to say about a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stats {
    /// Lines that are not blank.
    lines: u64,
    /// Words.
    words: u64,
    /// Letters of all words.
    letters: u64,
    /// How often each word occurs, in lower case.
    counts: BTreeMap<String, u64>,
}

impl Stats {
    fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count() as u64;
        let mut stats = Self { lines, ..Self::default() };
        for word in words(text) {
            stats.words += 1;
            stats.letters += word.chars().filter(|c| c.is_alphanumeric()).count() as u64;
            *stats.counts.entry(word.to_lowercase()).or_default() += 1;
        }
        stats
    }

    fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.words += other.words;
        self.letters += other.letters;
        for (word, count) in &other.counts {
            *self.counts.entry(word.clone()).or_default() += count;
        }
    }

    /// The most frequent words; of equally frequent ones, the first in the alphabet.
    fn top(&self, count: usize, least_letters: usize) -> Vec<WordCount> {
        let long = self.counts.iter().filter(|(word, _)| word.chars().count() >= least_letters);
        let mut top: Vec<_> = long.map(|(word, &count)| WordCount { word: word.clone(), count }).collect();
        top.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
        top.truncate(count);
        top
    }
}

/// Letters and digits, with single apostrophes and hyphens inside.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let runs = text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '-'));
    let parts = runs.flat_map(|run| run.split("--"));
    parts.map(|part| part.trim_matches(|c: char| !c.is_alphanumeric())).filter(|word| !word.is_empty())
}

/// Counts the lines, words and letters of a text, and how often each word occurs.
#[op]
pub(crate) fn stats(text: Text) -> Json<Stats> {
    let stats = Stats::of(&text);
    events::metric("words", stats.words as f64);
    let (words, distinct) = (stats.words, stats.counts.len());
    Json::new(stats).with_metadata("words", words).with_metadata("distinct_words", distinct)
}

/// The statistics of a whole and of its parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whole {
    total: Stats,
    /// Words of each part, by its key.
    parts: BTreeMap<String, u64>,
}

/// Adds up the statistics of the parts of a text.
#[op]
pub(crate) fn merge(parts: Vec<Json<Stats>>) -> Json<Whole> {
    let mut whole = Whole { total: Stats::default(), parts: BTreeMap::new() };
    for (index, part) in parts.iter().enumerate() {
        whole.total.add(part);
        let key = part.mapping_key().unwrap_or_else(|| format!("part-{:02}", index + 1));
        whole.parts.insert(key, part.words);
    }
    let (count, words) = (parts.len(), whole.total.words);
    Json::new(whole).with_metadata("parts", count).with_metadata("words", words)
}

/// Which words to list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Top {
    /// How many.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10_000))]
    count: usize,
    /// Only words of at least so many letters.
    #[serde(default)]
    least_letters: usize,
}

fn ten() -> usize {
    10
}

/// A word and how often it occurs.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct WordCount {
    word: String,
    count: u64,
}

/// Lists the most frequent words of a text.
#[op]
pub(crate) fn top_words(text: Text, config: Top) -> Csv<WordCount> {
    Csv::new(Stats::of(&text).top(config.count, config.least_letters))
}

/// Describes a text in Markdown.
#[op(result(media = "text/markdown"))]
pub(crate) fn summary(
    /// The statistics of the text and its parts.
    whole: Json<Whole>,
    /// Of what stands before the first part.
    front: Option<Json<Stats>>,
    /// Of what stands after the last part.
    back: Option<Json<Stats>>,
    config: Top,
) -> Result<Text, Failure> {
    let total = &whole.total;
    let mut text = String::from("# The words of a book\n\n");
    writeln!(text, "{} words, {} of them distinct, in {} lines.\n", total.words, total.counts.len(), total.lines)?;
    for (name, matter) in [("Before the first part", front), ("After the last part", back)] {
        if let Some(matter) = matter {
            writeln!(text, "{name}: {} words.\n", matter.words)?;
        }
    }
    writeln!(text, "| part | words |\n| --- | ---: |")?;
    for (key, words) in &whole.parts {
        writeln!(text, "| {key} | {words} |")?;
    }
    writeln!(text, "\n| word | occurs |\n| --- | ---: |")?;
    for WordCount { word, count } in total.top(config.count, config.least_letters) {
        writeln!(text, "| {word} | {count} |")?;
    }
    Ok(Text::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_is_inside_them() {
        let found: Vec<_> = words("`Oh dear!' said the Mock-Turtle--it's 7 o'clock, 'tis --").collect();
        assert_eq!(found, ["Oh", "dear", "said", "the", "Mock-Turtle", "it's", "7", "o'clock", "tis"]);
    }

    #[test]
    fn the_whole_is_the_sum_of_its_parts() {
        let text = include_str!("../data/alice.txt");
        let half = text[..text.len() / 2].rfind('\n').map_or(0, |newline| newline + 1);
        let mut sum = Stats::of(&text[..half]);
        sum.add(&Stats::of(&text[half..]));
        assert_eq!(sum, Stats::of(text));
        assert_eq!(sum.top(1, 5), [WordCount { word: "alice".to_owned(), count: sum.counts["alice"] }]);
    }
}
