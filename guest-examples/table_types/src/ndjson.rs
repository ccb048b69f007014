//! One JSON object a line.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::input::{Input, Stop, malformed};
use crate::rules::Rules;
use crate::tally::Tally;
use crate::text::{line, quoted};
use crate::value::Cell;

/// Reads a table.
pub(crate) fn read(input: &mut Input<'_>, rules: &Rules, tally: &mut Tally<'_>) -> Result<(), Stop> {
    let mut seen = vec![false; rules.columns.len()];
    while let Some(length) = next(input, tally.rows() + 1)? {
        let bytes = input.window().get(..length).unwrap_or_default();
        if !bytes.trim_ascii().is_empty() {
            row(bytes, input.offset(), rules, tally, &mut seen)?;
        }
        input.take(length);
    }
    if tally.rows() > 0 {
        for (column, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
            tally.missing(column);
        }
    }
    Ok(())
}

/// Has the next line at the beginning of the window, and says how long it is, its end included; none at the end.
fn next(input: &mut Input<'_>, number: u64) -> Result<Option<usize>, Stop> {
    let limit = input.limits.row;
    let mut searched = 0;
    loop {
        let window = input.window();
        let visible = &window[..window.len().min(limit)];
        let found = visible.get(searched..).and_then(|rest| rest.iter().position(|&byte| byte == b'\n'));
        if let Some(length) = found {
            return Ok(Some(searched + length + 1));
        }
        if window.len() > limit || (visible.len() == limit && !input.is_last()) {
            return malformed(format!("row {number} (from byte {}): longer than {limit} bytes", input.offset()));
        }
        searched = visible.len();
        if !input.more()? {
            let rest = input.window().len();
            return Ok((rest > 0).then_some(rest));
        }
    }
}

/// Looks at one row.
fn row(bytes: &[u8], offset: u64, rules: &Rules, tally: &mut Tally<'_>, seen: &mut [bool]) -> Result<(), Stop> {
    let number = tally.rows() + 1;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let byte = offset + error.valid_up_to() as u64;
            return malformed(format!("row {number} (byte {byte}): not UTF-8"));
        }
    };
    let mut found = Found { cells: vec![None; rules.columns.len()], other: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Object { rules, found: &mut found }.deserialize(&mut json).and_then(|()| json.end());
    if let Err(error) = read {
        // Each line is a text of its own, so its number is always 1.
        let error = error.to_string().replace(" at line 1 column ", " at column ");
        return malformed(format!("row {number} (from byte {offset}): {}", line(&error)));
    }
    tally.add_rows(1)?;
    if let Some((others, example)) = &found.other {
        tally.others(*others, example, "value");
    }
    for (column, cell) in found.cells.iter().enumerate() {
        let cell = match cell {
            Some(cell) => {
                seen[column] = true;
                cell.as_cell()
            }
            None => Cell::Null,
        };
        tally.cell(column, number, cell);
    }
    Ok(())
}

/// A value of a row.
#[derive(Clone)]
enum Json<'a> {
    /// Text, of which only that with escapes is a copy.
    Text(Cow<'a, str>),
    /// Anything else.
    Cell(Cell<'a>),
}

impl Json<'_> {
    fn as_cell(&self) -> Cell<'_> {
        match self {
            Self::Text(text) => Cell::Text(text),
            Self::Cell(cell) => *cell,
        }
    }
}

/// What a row has.
struct Found<'a> {
    /// By column.
    cells: Vec<Option<Json<'a>>>,
    /// How many other keys, and one of them.
    other: Option<(u64, String)>,
}

/// Reads the object of a row.
struct Object<'r, 'a> {
    rules: &'r Rules,
    found: &'r mut Found<'a>,
}

impl<'a> DeserializeSeed<'a> for Object<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Object<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key { rules: self.rules, found: &mut *self.found })? {
            match key {
                Some(column) => {
                    let value = map.next_value::<Json<'a>>()?;
                    if self.found.cells[column].replace(value).is_some() {
                        let name = quoted(&self.rules.columns[column].name);
                        return Err(A::Error::custom(format_args!("{name} is there twice")));
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a key: which column it names, if any.
struct Key<'r, 'a> {
    rules: &'r Rules,
    found: &'r mut Found<'a>,
}

impl<'a> DeserializeSeed<'a> for Key<'_, 'a> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key<'_, 'a> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let column = self.rules.index(name);
        if column.is_none() && self.rules.strict {
            self.found.other.get_or_insert_with(|| (0, crate::text::cut(name))).0 += 1;
        }
        Ok(column)
    }
}

impl<'a> Deserialize<'a> for Json<'a> {
    fn deserialize<D: Deserializer<'a>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Any)
    }
}

/// Reads any value, and nothing of what is nested in it.
struct Any;

impl<'a> Visitor<'a> for Any {
    type Value = Json<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'a>, E> {
        Ok(Json::Cell(Cell::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'a>, E> {
        Ok(Json::Cell(Cell::Boolean(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'a>, E> {
        Ok(Json::Cell(Cell::Int(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'a>, E> {
        Ok(Json::Cell(i64::try_from(value).map_or(Cell::Large(value), Cell::Int)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'a>, E> {
        Ok(Json::Cell(Cell::Float(value)))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<Json<'a>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json<'a>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Json<'a>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::Cell(Cell::Nested))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Json<'a>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Json::Cell(Cell::Nested))
    }
}
