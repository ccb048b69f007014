//! What was found: rows, broken constraints, the first rows that break one.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use opyard_guest::serde_json::{Value, json};
use opyard_guest::{MetadataValue, Verdict};

use crate::input::{Limits, Stop, malformed};
use crate::rules::{Rule, Rules};
use crate::text::{count, cut, line, quoted};
use crate::value::{Cell, Scalar};

/// Rows of the table `offending rows`.
const MAX_OFFENDING: usize = 20;
/// Broken constraints that have an entry of their own.
const MAX_ENTRIES: usize = 50;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 1_000;
/// The largest number that every guest language can hold.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// What a column can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Constraint {
    Missing,
    Type,
    Nullable,
    In,
    Min,
    Max,
    Pattern,
    Unique,
}

impl Constraint {
    const ALL: [Self; 8] =
        [Self::Missing, Self::Type, Self::Nullable, Self::In, Self::Min, Self::Max, Self::Pattern, Self::Unique];

    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Type => "type",
            Self::Nullable => "nullable",
            Self::In => "in",
            Self::Min => "min",
            Self::Max => "max",
            Self::Pattern => "pattern",
            Self::Unique => "unique",
        }
    }

    /// Whether the rule has this constraint.
    fn is_of(self, rule: &Rule) -> bool {
        match self {
            Self::Missing | Self::Type => true,
            Self::Nullable => !rule.nullable,
            Self::In => rule.allowed.is_some(),
            Self::Min => rule.min.is_some(),
            Self::Max => rule.max.is_some(),
            Self::Pattern => rule.pattern.is_some(),
            Self::Unique => rule.unique,
        }
    }
}

/// A broken constraint: a short name, how often it was broken, and what to say about it.
struct Broken {
    name: String,
    count: u64,
    said: String,
}

/// What was found in one column.
#[derive(Default)]
struct Found {
    counts: [u64; 8],
    /// The type that the table says it has, where that is the wrong one.
    declared: Option<String>,
    /// Hashes of the values so far.
    values: HashSet<u128, BuildHasherDefault<Halves>>,
    /// There were too many to tell.
    undecided: bool,
}

/// Hashes that are hashes already.
#[derive(Default)]
struct Halves(u64);

impl Hasher for Halves {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, &byte| sum.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u128(&mut self, hash: u128) {
        // Either half does: they are independent.
        self.0 = hash as u64;
    }
}

/// A value that breaks a constraint.
struct Offending {
    row: u64,
    column: usize,
    value: String,
    constraint: Constraint,
}

/// What was found so far.
pub(crate) struct Tally<'a> {
    rules: &'a Rules,
    rows: u64,
    columns: Vec<Found>,
    /// Other columns, or their values where rows name their columns.
    others: u64,
    other_noun: &'static str,
    example: Option<String>,
    /// Two columns in the wrong order.
    disorder: Option<(usize, usize)>,
    offending: Vec<Offending>,
    /// How many more values may be kept to find those that are not unique.
    unique_left: usize,
    unique_limit: usize,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(rules: &'a Rules, limits: &Limits) -> Self {
        Self {
            rules,
            rows: 0,
            columns: rules.columns.iter().map(|_| Found::default()).collect(),
            others: 0,
            other_noun: "column",
            example: None,
            disorder: None,
            offending: Vec::new(),
            unique_left: limits.unique,
            unique_limit: limits.unique,
        }
    }

    /// Rows that were counted.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Counts rows. Their number from 1 is [`rows`](Self::rows) after the first, and so on.
    pub(crate) fn add_rows(&mut self, rows: u64) -> Result<(), Stop> {
        match self.rows.checked_add(rows).filter(|&sum| sum <= MAX_NUMBER) {
            Some(sum) => self.rows = sum,
            None => return malformed(format!("after row {}: more rows than can be counted", self.rows)),
        }
        Ok(())
    }

    /// Looks at the names of all columns, in order. Says which of them are constrained. Names are distinct.
    pub(crate) fn header<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Vec<Option<usize>> {
        let mut columns = Vec::new();
        for name in names {
            let index = self.rules.index(name);
            if index.is_none() {
                self.others(1, name, "column");
            }
            columns.push(index);
        }
        let place = |column: &usize| columns.iter().position(|it| *it == Some(*column));
        let there: Vec<_> = self.rules.ordered.iter().filter_map(|column| Some((place(column)?, *column))).collect();
        self.disorder = there.windows(2).find(|pair| pair[0].0 > pair[1].0).map(|pair| (pair[0].1, pair[1].1));
        for column in 0..self.columns.len() {
            if !columns.contains(&Some(column)) {
                self.missing(column);
            }
        }
        columns
    }

    /// Columns, or values of them, that are not constrained. `noun` says which of the two, `name` names one.
    pub(crate) fn others(&mut self, count: u64, name: &str, noun: &'static str) {
        if self.rules.strict {
            self.others = self.others.saturating_add(count);
            self.other_noun = noun;
            self.example.get_or_insert_with(|| quoted(name));
        }
    }

    /// The table does not have the column.
    pub(crate) fn missing(&mut self, column: usize) {
        self.columns[column].counts[Constraint::Missing as usize] = 1;
    }

    /// The table says that the column is of another type.
    pub(crate) fn declared(&mut self, column: usize, name: &str) {
        let found = &mut self.columns[column];
        found.counts[Constraint::Type as usize] = 1;
        found.declared = Some(name.to_owned());
    }

    /// Looks at the value of a column in a row, counted from 1.
    pub(crate) fn cell(&mut self, column: usize, row: u64, cell: Cell<'_>) {
        let rule = &self.rules.columns[column];
        if cell == Cell::Null {
            if !rule.nullable {
                self.broken(column, row, cell, Constraint::Nullable);
            }
            return;
        }
        let Some(value) = rule.kind.read(cell) else {
            self.broken(column, row, cell, Constraint::Type);
            return;
        };
        if rule.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&value)) {
            self.broken(column, row, cell, Constraint::In);
        }
        if rule.is_below(&value) {
            self.broken(column, row, cell, Constraint::Min);
        }
        if rule.is_above(&value) {
            self.broken(column, row, cell, Constraint::Max);
        }
        if let (Some(pattern), Scalar::Text(text)) = (&rule.pattern, value)
            && !pattern.is_match(text)
        {
            self.broken(column, row, cell, Constraint::Pattern);
        }
        if rule.unique && self.is_repeated(column, &value) {
            self.broken(column, row, cell, Constraint::Unique);
        }
    }

    /// Looks at `count` nulls of a column, in the rows from `row`.
    pub(crate) fn nulls(&mut self, column: usize, row: u64, count: u64) {
        if self.rules.columns[column].nullable {
            return;
        }
        let shown = count.min(MAX_OFFENDING as u64);
        for row in row..row + shown {
            self.broken(column, row, Cell::Null, Constraint::Nullable);
        }
        let sum = &mut self.columns[column].counts[Constraint::Nullable as usize];
        *sum = sum.saturating_add(count - shown);
    }

    fn broken(&mut self, column: usize, row: u64, cell: Cell<'_>, constraint: Constraint) {
        let sum = &mut self.columns[column].counts[constraint as usize];
        *sum = sum.saturating_add(1);
        if self.offending.len() < MAX_OFFENDING {
            self.offending.push(Offending { row, column, value: cut(&cell.shown()), constraint });
        }
    }

    /// Whether the value was there before. Beyond the limit nothing is kept, and the column is undecided.
    fn is_repeated(&mut self, column: usize, value: &Scalar<'_>) -> bool {
        let found = &mut self.columns[column];
        if found.undecided {
            return false;
        }
        let hash = value.hash();
        if found.values.contains(&hash) {
            return true;
        }
        if self.unique_left == 0 {
            found.undecided = true;
            self.unique_left += found.values.len();
            found.values = HashSet::default();
            return false;
        }
        self.unique_left -= 1;
        found.values.insert(hash);
        false
    }

    /// How many constraints there are, and which do not hold.
    fn broken_constraints(&self) -> (usize, Vec<Broken>) {
        let mut all = 0;
        let mut broken = Vec::new();
        for (rule, found) in self.rules.columns.iter().zip(&self.columns) {
            for constraint in Constraint::ALL.into_iter().filter(|constraint| constraint.is_of(rule)) {
                all += 1;
                let count = found.counts[constraint as usize];
                let undecided = constraint == Constraint::Unique && found.undecided;
                if count > 0 || undecided {
                    let name = format!("{} {}", line(&rule.name), constraint.name());
                    let said = self.say(rule, found, constraint, count);
                    broken.push(Broken { name, count: count.max(1), said });
                }
            }
        }
        if self.rules.strict {
            all += 1;
            if self.others > 0 {
                let others = count(self.others, self.other_noun);
                let of = if self.other_noun == "column" { "" } else { " of columns" };
                let example = self.example.as_deref().unwrap_or_default();
                let said = format!("{others}{of} that the type does not have, such as {example}");
                broken.push(Broken { name: "strict".to_owned(), count: self.others, said });
            }
        }
        if !self.rules.ordered.is_empty() {
            all += 1;
            if let Some((first, second)) = self.disorder {
                let name = |column: usize| quoted(&self.rules.columns[column].name);
                let said = format!("column {} stands before {}", name(second), name(first));
                broken.push(Broken { name: "ordered".to_owned(), count: 1, said });
            }
        }
        let rows = count(self.rows, "row");
        if let Some(min) = self.rules.rows.min {
            all += 1;
            if self.rows < min {
                let said = format!("{rows}, and at least {min} are demanded");
                broken.push(Broken { name: "rows min".to_owned(), count: 1, said });
            }
        }
        if let Some(max) = self.rules.rows.max {
            all += 1;
            if self.rows > max {
                let said = format!("{rows}, and at most {max} are allowed");
                broken.push(Broken { name: "rows max".to_owned(), count: 1, said });
            }
        }
        (all, broken)
    }

    fn say(&self, rule: &Rule, found: &Found, constraint: Constraint, number: u64) -> String {
        let column = format!("column {}", quoted(&rule.name));
        let values = count(number, "value");
        let (is, does, occurs) = if number == 1 { ("is", "does", "occurs") } else { ("are", "do", "occur") };
        let bound = |bound: &Option<Scalar<'_>>| bound.as_ref().map(Scalar::shown).unwrap_or_default();
        match constraint {
            Constraint::Missing => format!("{column} is missing"),
            Constraint::Type => match &found.declared {
                Some(declared) => format!("{column} is {declared}, not {}", rule.kind.name()),
                None => format!("{column}: {values} {is} no {}", rule.kind.name()),
            },
            Constraint::Nullable => format!("{column}: {}", count(number, "null")),
            Constraint::In => format!("{column}: {values} {is} not in the list"),
            Constraint::Min => format!("{column}: {values} {is} not {} or above", bound(&rule.min)),
            Constraint::Max => format!("{column}: {values} {is} not {} or below", bound(&rule.max)),
            Constraint::Pattern => {
                let pattern = rule.pattern.as_ref().map(|pattern| line(pattern.as_str())).unwrap_or_default();
                format!("{column}: {values} {does} not match {pattern}")
            }
            Constraint::Unique if found.undecided => {
                let limit = self.unique_limit;
                format!("{column}: whether values are unique can be told for {limit} of them, and there are more")
            }
            Constraint::Unique => format!("{column}: {values} {occurs} again"),
        }
    }

    /// The verdict on a table that was read to its end.
    pub(crate) fn verdict(&self) -> Verdict {
        let (all, broken) = self.broken_constraints();
        let verdict = if broken.is_empty() {
            Verdict::pass()
        } else {
            let hold = if broken.len() == 1 { "does" } else { "do" };
            let start = format!("{} of {} {hold} not hold: ", broken.len(), count(all as u64, "constraint"));
            Verdict::fail(list(start, &broken))
        };
        self.attach(verdict, &broken)
    }

    /// The verdict on bytes that are no table.
    pub(crate) fn malformed(&self, place: &str) -> Verdict {
        let (_, mut broken) = self.broken_constraints();
        // More rows may have been meant.
        broken.retain(|broken| broken.name != "rows min");
        self.attach(Verdict::fail(format!("not a table that can be read: {place}")), &broken)
    }

    fn attach(&self, mut verdict: Verdict, broken: &[Broken]) -> Verdict {
        verdict = verdict.with_metadata("rows", self.rows);
        for Broken { name, count, .. } in broken.iter().take(MAX_ENTRIES) {
            verdict = verdict.with_metadata(format!("violations: {name}"), (*count).min(MAX_NUMBER));
        }
        if self.offending.is_empty() {
            return verdict;
        }
        let columns = [("row", "int"), ("column", "text"), ("value", "text"), ("constraint", "text")];
        let row = |Offending { row, column, value, constraint }: &Offending| -> Vec<Value> {
            vec![json!(row), json!(cut(&self.rules.columns[*column].name)), json!(value), json!(constraint.name())]
        };
        verdict.with_metadata("offending rows", MetadataValue::table(&columns, self.offending.iter().map(row)))
    }
}

/// What is wrong, until it is too long for one line.
fn list(mut start: String, broken: &[Broken]) -> String {
    for (index, Broken { said, .. }) in broken.iter().enumerate() {
        if index > 0 && start.len() + said.len() > MAX_DESCRIPTION {
            return format!("{start}; and {} more", broken.len() - index);
        }
        if index > 0 {
            start.push_str("; ");
        }
        start.push_str(said);
    }
    start
}
