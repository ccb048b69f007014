//! What was measured, as data: the committed table, the page that shows it, and what is over.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// How much worse a ratio may be than the committed one, before it counts as worse: machines are noisy.
pub(crate) const TOLERANCE: f64 = 0.3;

/// Everything that one run measured, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

/// The machine, without names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Processes that ran or waited to run when the measurement began: much more than none, and the figures are too high.
    pub(crate) load: f64,
}

/// One figure, beside its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
    /// Wall time, where `value` is CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wall: Option<f64>,
    /// The same unit, measured in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<Reference>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) budgets: Vec<Budget>,
}

/// What a figure is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    pub(crate) what: String,
    pub(crate) value: f64,
    /// The row's value over this one.
    pub(crate) ratio: f64,
    pub(crate) better: Better,
}

/// Which way a ratio is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// A bound on one figure of a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    pub(crate) of: Figure,
    pub(crate) is: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    Value,
    Wall,
    Ratio,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// Three significant digits: more would be noise.
fn tidy(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a double is small")]
    let digits = value.abs().log10().floor() as i32;
    let scale = 10f64.powi(2 - digits);
    let rounded = (value * scale).round() / scale;
    if digits >= 2 { rounded.round() } else { rounded }
}

impl Row {
    pub(crate) fn new(name: &str, unit: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            value: tidy(value),
            wall: None,
            reference: None,
            budgets: Vec::new(),
        }
    }

    pub(crate) fn wall(mut self, wall: f64) -> Self {
        self.wall = Some(tidy(wall));
        self
    }

    pub(crate) fn beside(mut self, what: &str, value: f64, better: Better) -> Self {
        let ratio = tidy(self.value / value);
        self.reference = Some(Reference { what: what.to_owned(), value: tidy(value), ratio, better });
        self
    }

    pub(crate) fn at_most(mut self, of: Figure, bound: f64) -> Self {
        self.budgets.push(Budget { of, is: Bound::AtMost(bound) });
        self
    }

    pub(crate) fn at_least(mut self, of: Figure, bound: f64) -> Self {
        self.budgets.push(Budget { of, is: Bound::AtLeast(bound) });
        self
    }

    fn figure(&self, of: Figure) -> Option<f64> {
        match of {
            Figure::Value => Some(self.value),
            Figure::Wall => self.wall,
            Figure::Ratio => self.reference.as_ref().map(|reference| reference.ratio),
        }
    }

    /// The budgets that are not kept.
    fn missed(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.iter().filter(|budget| match (self.figure(budget.of), budget.is) {
            (Some(figure), Bound::AtMost(bound)) => figure > bound,
            (Some(figure), Bound::AtLeast(bound)) => figure < bound,
            (None, _) => true,
        })
    }

    /// This row misses the budget as well, by as much as `other` but for noise.
    fn is_no_better(&self, other: &Self, budget: &Budget) -> bool {
        let misses = self.missed().any(|missed| missed.of == budget.of);
        let figures = self.figure(budget.of).zip(other.figure(budget.of));
        misses
            && figures.is_some_and(|(this, other)| match budget.is {
                Bound::AtMost(_) => other <= this * (1.0 + TOLERANCE),
                Bound::AtLeast(_) => other >= this / (1.0 + TOLERANCE),
            })
    }

    /// The budget as the tables show it.
    fn budget_text(&self, budget: &Budget) -> String {
        let (sign, bound) = match budget.is {
            Bound::AtMost(bound) => ("≤", bound),
            Bound::AtLeast(bound) => ("≥", bound),
        };
        match budget.of {
            Figure::Value => format!("{sign} {bound} {}", self.unit),
            Figure::Wall => format!("{sign} {bound} {} wall", self.unit),
            Figure::Ratio => format!("{sign} {bound}×"),
        }
    }

    /// The cells of this row: name, value, wall, reference, ratio, budget, whether it is kept.
    fn cells(&self) -> [String; 7] {
        let with_unit = |value: f64| format!("{} {}", shown(value), self.unit);
        let reference = |reference: &Reference| format!("{}: {}", reference.what, with_unit(reference.value));
        let budgets: Vec<_> = self.budgets.iter().map(|budget| self.budget_text(budget)).collect();
        let kept = match (self.budgets.is_empty(), self.missed().next()) {
            (true, _) => "",
            (false, None) => "kept",
            (false, Some(_)) => "missed",
        };
        [
            self.name.clone(),
            with_unit(self.value),
            self.wall.map(with_unit).unwrap_or_default(),
            self.reference.as_ref().map(reference).unwrap_or_default(),
            self.reference.as_ref().map(|reference| format!("{}×", shown(reference.ratio))).unwrap_or_default(),
            budgets.join(", "),
            kept.to_owned(),
        ]
    }
}

const HEAD: [&str; 7] = ["what", "value", "wall", "beside it", "ratio", "budget", ""];

/// A number without needless digits.
fn shown(value: f64) -> String {
    let value = tidy(value);
    let decimals = if value == value.trunc() || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_gib, kernel, load } = self;
        write!(f, "{cpu}, {cores} cores, {} GiB, Linux {kernel}, load {load:.1} at the start", shown(*memory_gib))
    }
}

impl Table {
    /// The table for a terminal.
    pub(crate) fn text(&self) -> String {
        let cells: Vec<_> = self.rows.iter().map(Row::cells).collect();
        let head = HEAD.map(str::to_owned);
        let widths: Vec<_> = (0..HEAD.len())
            .map(|column| {
                std::iter::once(&head).chain(&cells).map(|row| row[column].chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = format!("{}, {}\n\n", self.date, self.machine);
        for row in std::iter::once(&head).chain(&cells) {
            let line: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// The table for the page.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("Measured on {}: {}.\n\n", self.date, self.machine);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text.push_str(&line(&HEAD.map(str::to_owned)));
        text.push_str("| --- | ---: | ---: | --- | ---: | --- | --- |\n");
        self.rows.iter().for_each(|row| text.push_str(&line(&row.cells())));
        text
    }

    /// What misses a budget that the committed table keeps, or is worse than the committed table: a line each. A budget that
    /// the committed table misses is explained beside it.
    pub(crate) fn complaints(&self, committed: &Self) -> Vec<String> {
        let mut complaints = Vec::new();
        for row in &self.rows {
            let before = committed.rows.iter().find(|before| before.name == row.name);
            let is_known = |budget: &&Budget| before.is_some_and(|before| before.is_no_better(row, budget));
            for budget in row.missed().filter(|budget| !is_known(budget)) {
                let figure = row.figure(budget.of).map_or_else(|| "nothing".to_owned(), shown);
                complaints.push(format!("{}: {figure}, and the budget is {}", row.name, row.budget_text(budget)));
            }
            let Some(before) = before.and_then(|before| before.reference.as_ref()) else { continue };
            let Some(now) = &row.reference else { continue };
            let worse = match now.better {
                Better::Lower => now.ratio > before.ratio * (1.0 + TOLERANCE),
                Better::Higher => now.ratio < before.ratio / (1.0 + TOLERANCE),
            };
            if worse {
                let (now, before) = (shown(now.ratio), shown(before.ratio));
                complaints.push(format!("{}: {now} times its reference, and {before} is committed", row.name));
            }
        }
        complaints
    }
}

const BEGIN: &str = "<!-- From bench.json, by `cargo xtask bench`: a test compares them. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

/// `page` with the table in its place; none when it has no such place.
pub(crate) fn placed(page: &str, table: &Table) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "{before}{BEGIN}{}{END}{after}", table.markdown());
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_committed_table() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let table: Table = serde_json::from_slice(&std::fs::read(docs.join("bench.json")).unwrap()).unwrap();
        assert!(!table.rows.is_empty());
        let page = std::fs::read_to_string(docs.join("performance.md")).unwrap();
        assert_eq!(placed(&page, &table).as_deref(), Some(page.as_str()));
    }

    #[test]
    fn what_is_over_is_told() {
        let machine = Machine { cpu: "c".into(), cores: 2, memory_gib: 1.0, kernel: "6".into(), load: 0.0 };
        let table = |rows| Table { date: "d".into(), machine: machine.clone(), rows };
        let row = |value: f64| {
            let row = Row::new("step", "µs", value).wall(200.0).beside("bare loop", 50.0, Better::Lower);
            row.at_most(Figure::Value, 120.0).at_most(Figure::Wall, 300.0).at_most(Figure::Ratio, 3.0)
        };
        let committed = table(vec![row(100.0)]);
        assert!(table(vec![row(119.0)]).complaints(&committed).is_empty());
        // The value is over its budget, and the ratio over its own and over the committed one.
        assert_eq!(table(vec![row(160.0)]).complaints(&committed).len(), 3);
        // What is missed already may be missed again, and not by more.
        let missed = table(vec![row(160.0)]);
        assert!(table(vec![row(170.0)]).complaints(&missed).is_empty());
        assert_eq!(table(vec![row(250.0)]).complaints(&missed).len(), 3);
        let flow = |value: f64| table(vec![Row::new("f", "GB/s", value).beside("disk", 1.0, Better::Higher)]);
        assert!(flow(0.8).complaints(&flow(1.0)).is_empty());
        assert_eq!(flow(0.7).complaints(&flow(1.0)), ["f: 0.700 times its reference, and 1 is committed"]);
    }
}
