//! Which species is this penguin? A small machine-learning pipeline: load, clean, split, fit, predict, score, report.
//!
//! Only `load_csv` reads from outside. All others see nothing but their inputs, so the host knows that the same inputs
//! give the same outputs, and does not run them again.

mod evaluate;
mod model;
mod rows;

use evaluate::{report, score};
use model::{fit, predict};
use rows::{clean, load_csv, split};

opyard_guest::component! { ops: [load_csv, clean, split, fit, predict, score, report] }

#[cfg(test)]
mod tests;
