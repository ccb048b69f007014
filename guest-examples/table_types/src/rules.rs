//! The params, checked, as they are applied.

use std::cmp::Ordering;

use opyard_guest::Failure;
use regex_lite::{Regex, RegexBuilder};

use crate::params::{Column, Kind, Literal, Rows, TableParams};
use crate::text::{line, quoted};
use crate::value::{Cell, Scalar};

/// The most columns that can be constrained.
const MAX_COLUMNS: usize = 1_000;
/// The most bytes that a pattern may take once it is compiled.
const MAX_PATTERN: usize = 1 << 20;

/// What is demanded of a table.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Sorted by name.
    pub(crate) columns: Vec<Rule>,
    pub(crate) strict: bool,
    /// Indices of columns, in the order that is demanded.
    pub(crate) ordered: Vec<usize>,
    pub(crate) rows: Rows,
}

/// What is demanded of a column.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) allowed: Option<Allowed>,
    pub(crate) min: Option<Scalar<'static>>,
    pub(crate) max: Option<Scalar<'static>>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) unique: bool,
}

/// The values that a column may have, sorted.
#[derive(Debug)]
pub(crate) enum Allowed {
    Texts(Vec<String>),
    Others(Vec<Scalar<'static>>),
}

impl Allowed {
    pub(crate) fn contains(&self, value: &Scalar<'_>) -> bool {
        match (self, value) {
            (Self::Texts(texts), Scalar::Text(text)) => texts.binary_search_by(|it| it.as_str().cmp(text)).is_ok(),
            // What cannot be compared is `NaN`, which is nowhere.
            (Self::Others(others), value) => {
                others.binary_search_by(|it| it.compare(value).unwrap_or(Ordering::Less)).is_ok()
            }
            (Self::Texts(_), _) => false,
        }
    }
}

impl Rules {
    /// Checks that the params do not contradict themselves.
    ///
    /// # Errors
    /// Names the column, or `rows`. Trying again does not help.
    pub(crate) fn new(params: TableParams) -> Result<Self, Failure> {
        let TableParams { columns, strict, ordered, rows } = params;
        if let (Some(min), Some(max)) = (rows.min, rows.max)
            && min > max
        {
            return Err(wrong(format!("rows: min is {min}, and max is {max}")));
        }
        if columns.len() > MAX_COLUMNS {
            return Err(wrong(format!("columns: {}, and at most {MAX_COLUMNS} can be checked", columns.len())));
        }
        let rule = |(name, column): (String, Column)| {
            let shown = quoted(&name);
            Rule::new(name, column).map_err(|what| wrong(format!("column {shown}: {what}")))
        };
        let columns = columns.into_iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        let rules = Self { columns, strict, ordered: Vec::new(), rows };
        let mut indices = Vec::new();
        for name in &ordered {
            let index = rules.index(name).filter(|index| !indices.contains(index));
            let what = || wrong(format!("ordered: {} is not one of `columns`, or is there twice", quoted(name)));
            indices.push(index.ok_or_else(what)?);
        }
        Ok(Self { ordered: indices, ..rules })
    }

    /// Which column has this name.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.columns.binary_search_by(|rule| rule.name.as_str().cmp(name)).ok()
    }
}

impl Rule {
    fn new(name: String, column: Column) -> Result<Self, String> {
        let Column { kind, nullable, allowed, min, max, pattern, unique } = column;
        let bound = |what: &str, literal: Option<Literal>| match literal {
            Some(_) if matches!(kind, Kind::Utf8 | Kind::Boolean) => {
                Err(format!("`{what}` is not for {}", kind.name()))
            }
            Some(literal) => scalar(kind, &literal).map(Some).map_err(|error| format!("`{what}`: {error}")),
            None => Ok(None),
        };
        let (min, max) = (bound("min", min)?, bound("max", max)?);
        if let (Some(min), Some(max)) = (&min, &max)
            && min.compare(max) == Some(Ordering::Greater)
        {
            return Err("`min` is above `max`".to_owned());
        }
        if pattern.is_some() && kind != Kind::Utf8 {
            return Err(format!("`pattern` is for utf8, not for {}", kind.name()));
        }
        let compile = |pattern: String| {
            let compiled = RegexBuilder::new(&pattern).size_limit(MAX_PATTERN).build();
            compiled.map_err(|error| format!("`pattern`: {}", line(&error.to_string())))
        };
        let pattern = pattern.map(compile).transpose()?;
        let mut rule = Self { name, kind, nullable, allowed: None, min, max, pattern, unique };
        if let Some(literals) = allowed {
            rule.allowed = Some(rule.allow(literals)?);
        }
        Ok(rule)
    }

    fn allow(&self, literals: Vec<Literal>) -> Result<Allowed, String> {
        if literals.is_empty() {
            return Err("`in` allows nothing".to_owned());
        }
        let mut fits = false;
        let mut texts = Vec::new();
        let mut others = Vec::new();
        for literal in literals {
            if let (Kind::Utf8, Literal::Text(text)) = (self.kind, literal.clone()) {
                fits |= self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&text));
                texts.push(text);
            } else {
                let value = scalar(self.kind, &literal).map_err(|error| format!("`in`: {error}"))?;
                fits |= !self.is_below(&value) && !self.is_above(&value);
                others.push(value);
            }
        }
        if !fits {
            return Err("no value of `in` keeps the other constraints".to_owned());
        }
        texts.sort();
        others.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
        Ok(if self.kind == Kind::Utf8 { Allowed::Texts(texts) } else { Allowed::Others(others) })
    }

    /// Whether it does not keep `min`. `NaN` keeps none.
    pub(crate) fn is_below(&self, value: &Scalar<'_>) -> bool {
        self.min.as_ref().is_some_and(|min| !matches!(value.compare(min), Some(Ordering::Greater | Ordering::Equal)))
    }

    /// Whether it does not keep `max`. `NaN` keeps none.
    pub(crate) fn is_above(&self, value: &Scalar<'_>) -> bool {
        self.max.as_ref().is_some_and(|max| !matches!(value.compare(max), Some(Ordering::Less | Ordering::Equal)))
    }
}

/// What the definitions file says, as a value of the column's type. Text is none: nothing else than `in` takes it.
fn scalar(kind: Kind, literal: &Literal) -> Result<Scalar<'static>, String> {
    let read = match (kind, literal) {
        (Kind::Int64, Literal::Number(number)) => number.as_i64().map(Scalar::Int),
        (Kind::Float64, Literal::Number(number)) => number.as_f64().map(Scalar::Float),
        (Kind::Boolean, Literal::Boolean(value)) => Some(Scalar::Boolean(*value)),
        (Kind::Date | Kind::Timestamp, Literal::Text(text)) => match kind.read(Cell::Text(text)) {
            Some(Scalar::Day(day)) => Some(Scalar::Day(day)),
            Some(Scalar::Moment(moment)) => Some(Scalar::Moment(moment)),
            _ => None,
        },
        _ => None,
    };
    read.ok_or_else(|| {
        let shown = match literal {
            Literal::Boolean(value) => value.to_string(),
            Literal::Number(number) => number.to_string(),
            Literal::Text(text) => quoted(text),
        };
        format!("{shown} is no {}", kind.name())
    })
}

fn wrong(what: String) -> Failure {
    Failure::new(what).no_retry()
}
