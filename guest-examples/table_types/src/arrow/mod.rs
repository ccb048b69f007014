//! Arrow IPC streams, read here and not with Arrow's own library: that is ten times as large, and trusts the lengths
//! that a stream claims.
//!
//! A stream is messages: a length, a FlatBuffer that says what follows, and a body. The first is the schema, then come
//! dictionaries and record batches, and a length of 0 ends it.

mod column;
mod flat;
mod schema;

use std::collections::{BTreeMap, HashSet};

use column::{Layout, Values, Walk};
use flat::{Corrupt, Table};
use schema::{Field, Refused};

use crate::input::{Input, Limits, Stop, malformed};
use crate::rules::Rules;
use crate::tally::Tally;
use crate::text::quoted;
use crate::value::Cell;

/// Stands before the length since format version 0.15.
const CONTINUATION: u32 = u32::MAX;

/// Reads a table.
pub(crate) fn read(input: &mut Input<'_>, rules: &Rules, tally: &mut Tally<'_>) -> Result<(), Stop> {
    let mut stream = Stream { fields: None, columns: Vec::new(), dictionaries: BTreeMap::new(), held: 0 };
    let mut message = 0_u64;
    loop {
        message += 1;
        let place = Place { message, byte: input.offset() };
        let Some(length) = prefix(input, &place)? else { break };
        if length > input.limits.message {
            let limit = input.limits.message;
            return malformed(format!("{place}: {length} bytes before its body, and at most {limit} are read"));
        }
        if !input.fill(length)? {
            return truncated(&place);
        }
        let head = input.window().get(..length).unwrap_or_default().to_vec();
        input.take(length);
        stream.message(&head, input, rules, tally, &place)?;
    }
    if stream.fields.is_none() {
        return malformed("a stream without a schema");
    }
    if !input.window().is_empty() || input.more()? {
        return malformed(format!("byte {}: something follows the end of the stream", input.offset()));
    }
    Ok(())
}

/// Where a message is.
struct Place {
    message: u64,
    byte: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "message {} (from byte {})", self.message, self.byte)
    }
}

fn truncated<T>(place: &Place) -> Result<T, Stop> {
    malformed(format!("{place}: the stream is cut off"))
}

fn corrupt(place: &Place) -> impl Fn(Corrupt) -> Stop {
    move |Corrupt| Stop::Malformed(format!("{place}: it is not what an Arrow message is"))
}

/// The length of the next message; none at the end of the stream.
fn prefix(input: &mut Input<'_>, place: &Place) -> Result<Option<usize>, Stop> {
    let mut number = || -> Result<u32, Stop> {
        if !input.fill(4)? {
            return truncated(place);
        }
        let bytes = input.window().first_chunk().copied().unwrap_or_default();
        input.take(4);
        Ok(u32::from_le_bytes(bytes))
    };
    let mut length = number()?;
    if length == CONTINUATION {
        length = number()?;
    }
    Ok(usize::try_from(length).ok().filter(|&length| length > 0))
}

/// What is known of a stream.
struct Stream {
    /// The columns, once the schema was read.
    fields: Option<Vec<Field>>,
    /// Which of them are checked: the place among the fields, and the constrained column.
    columns: Vec<(usize, usize)>,
    /// Those that checked columns refer to.
    dictionaries: BTreeMap<i64, Held>,
    /// Bytes of all of these.
    held: usize,
}

/// A dictionary that is held.
struct Held {
    layout: Layout,
    body: Vec<u8>,
}

impl Stream {
    fn message(
        &mut self,
        head: &[u8],
        input: &mut Input<'_>,
        rules: &Rules,
        tally: &mut Tally<'_>,
        place: &Place,
    ) -> Result<(), Stop> {
        let wrong = corrupt(place);
        let message = Table::root(head).map_err(&wrong)?;
        let version = message.i16(0, 0).map_err(&wrong)?;
        if !(3..=4).contains(&version) {
            return malformed(format!("{place}: Arrow's format version {} is not read", i32::from(version) + 1));
        }
        let content = message.table(2).map_err(&wrong)?.ok_or(Corrupt).map_err(&wrong)?;
        let body = u64::try_from(message.i64(3).map_err(&wrong)?).map_err(|_| wrong(Corrupt))?;
        match (message.u8(1).map_err(&wrong)?, &self.fields) {
            (1, None) => {
                let fields =
                    schema::columns(&content, version, input.limits.columns).map_err(|refused| match refused {
                        Refused::Corrupt => wrong(Corrupt),
                        Refused::Because(what) => Stop::Malformed(format!("{place}: {what}")),
                    })?;
                self.schema(fields, rules, tally, place)?;
                if input.skip(body)? { Ok(()) } else { truncated(place) }
            }
            (2, Some(_)) => self.dictionary(&content, body, input, place),
            (3, Some(_)) => self.batch(&content, body, input, tally, place),
            (1, Some(_)) => malformed(format!("{place}: a second schema")),
            (2 | 3, None) => malformed(format!("{place}: it stands before the schema")),
            (kind, _) => malformed(format!("{place}: a message of kind {kind} has no place in a table")),
        }
    }

    fn schema(&mut self, fields: Vec<Field>, rules: &Rules, tally: &mut Tally<'_>, place: &Place) -> Result<(), Stop> {
        let mut names = HashSet::new();
        if let Some(field) = fields.iter().find(|field| !names.insert(field.name.as_str())) {
            return malformed(format!("{place}: there are two columns {}", quoted(&field.name)));
        }
        let constrained = tally.header(fields.iter().map(|field| field.name.as_str()));
        for (index, (field, column)) in fields.iter().zip(constrained).enumerate() {
            let Some(column) = column else { continue };
            if field.ty.is(rules.columns[column].kind) {
                self.columns.push((index, column));
            } else {
                tally.declared(column, &field.ty.name());
            }
        }
        self.fields = Some(fields);
        Ok(())
    }

    /// The fields of checked columns.
    fn checked(&self) -> impl Iterator<Item = &Field> {
        let fields = self.fields.as_deref().unwrap_or_default();
        self.columns.iter().filter_map(|&(index, _)| fields.get(index))
    }

    fn dictionary(&mut self, content: &Table<'_>, body: u64, input: &mut Input<'_>, place: &Place) -> Result<(), Stop> {
        let wrong = corrupt(place);
        let id = content.i64(0).map_err(&wrong)?;
        let of = |field: &&Field| field.dictionary.is_some_and(|dictionary| dictionary.id == id);
        let Some(ty) = self.checked().find(of).map(|field| field.ty) else {
            return if input.skip(body)? { Ok(()) } else { truncated(place) };
        };
        if content.u8(2).map_err(&wrong)? != 0 {
            return malformed(format!("{place}: it adds to a dictionary, which is not read"));
        }
        let batch = content.table(1).map_err(&wrong)?.ok_or(Corrupt).map_err(&wrong)?;
        refuse_compression(&batch, place)?;
        let layout = Walk::new(&batch).and_then(|mut walk| walk.take(ty)).map_err(&wrong)?;
        if let Some(before) = self.dictionaries.remove(&id) {
            self.held -= before.body.len();
        }
        let length = hold(body, self.held, input, "dictionaries", place)?;
        let body = input.window().get(..length).unwrap_or_default().to_vec();
        input.take(length);
        self.held += length;
        self.dictionaries.insert(id, Held { layout, body });
        Ok(())
    }

    fn batch(
        &mut self,
        content: &Table<'_>,
        body: u64,
        input: &mut Input<'_>,
        tally: &mut Tally<'_>,
        place: &Place,
    ) -> Result<(), Stop> {
        let wrong = corrupt(place);
        let rows = u64::try_from(content.i64(0).map_err(&wrong)?).map_err(|_| wrong(Corrupt))?;
        if self.columns.is_empty() {
            return if input.skip(body)? { tally.add_rows(rows) } else { truncated(place) };
        }
        refuse_compression(content, place)?;
        let length = hold(body, 0, input, "a record batch", place)?;
        self.look(content, input.window().get(..length).unwrap_or_default(), rows, tally).map_err(&wrong)?;
        input.take(length);
        tally.add_rows(rows)
    }

    /// Looks at the rows of a record batch.
    fn look(&self, content: &Table<'_>, body: &[u8], rows: u64, tally: &mut Tally<'_>) -> Result<(), Corrupt> {
        let first = tally.rows() + 1;
        let mut walk = Walk::new(content)?;
        let mut checked = Vec::new();
        for (index, field) in self.fields.as_deref().unwrap_or_default().iter().enumerate() {
            let layout = walk.next(field)?;
            if layout.length != rows {
                return Err(Corrupt);
            }
            let Some(&(_, column)) = self.columns.iter().find(|(checked, _)| *checked == index) else { continue };
            let ty = field.dictionary.map_or(field.ty, |dictionary| dictionary.index);
            if ty == schema::Type::Null {
                // No byte stands for these, so their number costs nothing to claim.
                tally.nulls(column, first, rows);
                continue;
            }
            let dictionary = match field.dictionary {
                Some(dictionary) => {
                    let held = self.dictionaries.get(&dictionary.id);
                    let values = held.map(|held| {
                        Ok::<_, Corrupt>((held.layout.length, Values::new(field.ty, &held.layout, &held.body)?))
                    });
                    // All values may be null, and then there may be no dictionary.
                    Some(values.transpose()?)
                }
                None => None,
            };
            checked.push((column, Values::new(ty, &layout, body)?, dictionary));
        }
        if checked.is_empty() {
            return Ok(());
        }
        let rows = usize::try_from(rows).map_err(|_| Corrupt)?;
        for row in 0..rows {
            for (column, values, dictionary) in &checked {
                let cell = match dictionary {
                    None => values.cell(row)?,
                    Some(dictionary) => match (values.index(row)?, dictionary) {
                        (None, _) => Cell::Null,
                        (Some(index), Some((length, dictionary))) if (index as u64) < *length => {
                            dictionary.cell(index)?
                        }
                        (Some(_), _) => return Err(Corrupt),
                    },
                };
                tally.cell(*column, first + row as u64, cell);
            }
        }
        Ok(())
    }
}

fn refuse_compression(batch: &Table<'_>, place: &Place) -> Result<(), Stop> {
    match batch.table(3).map_err(corrupt(place))? {
        Some(_) => malformed(format!("{place}: its buffers are compressed, which is not read")),
        None => Ok(()),
    }
}

/// Has a body of `length` bytes in the window, where `held` bytes of its kind are held already.
fn hold(length: u64, held: usize, input: &mut Input<'_>, what: &str, place: &Place) -> Result<usize, Stop> {
    let Limits { batch: limit, .. } = *input.limits;
    let fits = |length: &usize| length.checked_add(held).is_some_and(|sum| sum <= limit);
    let Some(length) = usize::try_from(length).ok().filter(fits) else {
        return malformed(format!("{place}: {what} of more than {limit} bytes; write smaller batches"));
    };
    if input.fill(length)? { Ok(length) } else { truncated(place) }
}
