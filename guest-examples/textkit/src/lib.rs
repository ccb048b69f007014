//! How many words, and which: statistics of text, chapter by chapter.

mod book;
mod words;

use book::{chapters, paragraphs, read_text};
use words::{merge, stats, summary, top_words};

opyard_guest::component! { ops: [read_text, chapters, paragraphs, stats, merge, top_words, summary] }
