//! Comma-separated values, row by row.

use std::collections::HashSet;

use crate::input::{Input, Stop, malformed};
use crate::rules::Rules;
use crate::tally::Tally;
use crate::text::{count, quoted};
use crate::value::Cell;

/// Some programs begin UTF-8 with this.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where a field stands: in the row, or, when there are quotes in it, in what was unescaped.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: usize,
    end: usize,
    escaped: bool,
}

/// The fields of a row.
#[derive(Default)]
struct Row {
    fields: Vec<Field>,
    unescaped: Vec<u8>,
}

/// What the window begins with.
enum Scanned {
    /// A row of so many bytes, its end included.
    Row(usize),
    /// Some of a row.
    Part,
}

/// Reads a table.
pub(crate) fn read(input: &mut Input<'_>, _: &Rules, tally: &mut Tally<'_>) -> Result<(), Stop> {
    while input.window().len() < BYTE_ORDER_MARK.len() && input.more()? {}
    if input.window().starts_with(BYTE_ORDER_MARK) {
        input.take(BYTE_ORDER_MARK.len());
    }
    let mut row = Row::default();
    let Some(length) = next(input, &mut row, 0)? else {
        // Without a header nobody knows the columns, and there are no rows.
        return Ok(());
    };
    let columns = header(input, &row, length, tally)?;
    input.take(length);

    loop {
        let number = tally.rows() + 1;
        let Some(length) = next(input, &mut row, number)? else { return Ok(()) };
        if row.fields.len() != columns.len() {
            let found = count(row.fields.len() as u64, "field");
            return malformed(format!("{}: {found} in place of {}", place(input, number), columns.len()));
        }
        let texts = row.texts(input, length, number)?;
        tally.add_rows(1)?;
        for (field, column) in row.fields.iter().zip(&columns) {
            let Some(column) = *column else { continue };
            let text = texts.of(field);
            tally.cell(column, number, if text.is_empty() { Cell::Null } else { Cell::Field(text) });
        }
        input.take(length);
    }
}

/// Which columns are constrained.
fn header(input: &Input<'_>, row: &Row, length: usize, tally: &mut Tally<'_>) -> Result<Vec<Option<usize>>, Stop> {
    if row.fields.len() > input.limits.columns {
        let (found, limit) = (row.fields.len(), input.limits.columns);
        return malformed(format!("header: {found} columns, and at most {limit} are read"));
    }
    let texts = row.texts(input, length, 0)?;
    let mut names = HashSet::new();
    for field in &row.fields {
        let name = texts.of(field);
        if !names.insert(name) {
            return malformed(format!("header: there are two columns {}", quoted(name)));
        }
    }
    Ok(tally.header(row.fields.iter().map(|field| texts.of(field))))
}

/// Has the next row at the beginning of the window, and says how long it is; none at the end.
fn next(input: &mut Input<'_>, row: &mut Row, number: u64) -> Result<Option<usize>, Stop> {
    loop {
        // Empty lines, and the second half of CRLF.
        let empty = input.window().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        input.take(empty);
        if !input.window().is_empty() {
            break;
        }
        if !input.more()? {
            return Ok(None);
        }
    }
    let limit = input.limits.row;
    loop {
        // Nothing is seen beyond the limit, so that what is said does not hang on how much happens to be there.
        let window = input.window();
        let (window, whole) = if window.len() > limit { (&window[..limit], false) } else { (window, input.is_last()) };
        match row.scan(window, whole) {
            Ok(Scanned::Row(length)) => return Ok(Some(length)),
            Ok(Scanned::Part) if window.len() == limit => {
                return malformed(format!("{}: longer than {limit} bytes", place(input, number)));
            }
            Ok(Scanned::Part) => {
                input.more()?;
            }
            Err(what) => return malformed(format!("{}: {what}", place(input, number))),
        }
    }
}

/// Where the row at the beginning of the window is.
fn place(input: &Input<'_>, number: u64) -> String {
    let what = if number == 0 { "header".to_owned() } else { format!("row {number}") };
    format!("{what} (from byte {})", input.offset())
}

impl Row {
    /// Finds the fields of the row that `bytes` begin with. `whole`: nothing follows them.
    fn scan(&mut self, bytes: &[u8], whole: bool) -> Result<Scanned, &'static str> {
        self.fields.clear();
        self.unescaped.clear();
        let mut at = 0;
        loop {
            if bytes.get(at) == Some(&b'"') {
                match self.scan_quoted(bytes, at + 1, whole)? {
                    Some(end) => at = end,
                    None => return Ok(Scanned::Part),
                }
            } else {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = rest.iter().position(|byte| matches!(byte, b',' | b'\n' | b'\r'));
                if length.is_none() && !whole {
                    return Ok(Scanned::Part);
                }
                let end = at + length.unwrap_or(rest.len());
                self.fields.push(Field { start: at, end, escaped: false });
                at = end;
            }
            match bytes.get(at) {
                Some(b',') => at += 1,
                Some(_) => return Ok(Scanned::Row(at + 1)),
                None if whole => return Ok(Scanned::Row(at)),
                None => return Ok(Scanned::Part),
            }
        }
    }

    /// Finds the end of a field whose quote was opened before `start`; none when it is not there.
    fn scan_quoted(&mut self, bytes: &[u8], start: usize, whole: bool) -> Result<Option<usize>, &'static str> {
        let unescaped = self.unescaped.len();
        let mut piece = start;
        loop {
            let rest = bytes.get(piece..).unwrap_or_default();
            let Some(length) = rest.iter().position(|&byte| byte == b'"') else {
                return if whole { Err("a quote is opened and never closed") } else { Ok(None) };
            };
            let quote = piece + length;
            match bytes.get(quote + 1) {
                Some(b'"') => {
                    self.unescaped.extend_from_slice(&bytes[piece..=quote]);
                    piece = quote + 2;
                }
                Some(b',' | b'\n' | b'\r') => {}
                None if whole => {}
                None => return Ok(None),
                Some(_) => return Err("text follows a closing quote"),
            }
            if bytes.get(quote + 1) == Some(&b'"') {
                continue;
            }
            let field = if piece == start {
                Field { start, end: quote, escaped: false }
            } else {
                self.unescaped.extend_from_slice(&bytes[piece..quote]);
                Field { start: unescaped, end: self.unescaped.len(), escaped: true }
            };
            self.fields.push(field);
            return Ok(Some(quote + 1));
        }
    }

    /// The texts of the fields of the row, which is `length` bytes of the window.
    fn texts<'t>(&'t self, input: &'t Input<'_>, length: usize, number: u64) -> Result<Texts<'t>, Stop> {
        let bytes = input.window().get(..length).unwrap_or_default();
        match (std::str::from_utf8(bytes), std::str::from_utf8(&self.unescaped)) {
            (Ok(plain), Ok(unescaped)) => Ok(Texts { plain, unescaped }),
            (Err(error), _) | (_, Err(error)) => {
                let byte = input.offset() + error.valid_up_to() as u64;
                let what = if number == 0 { "header".to_owned() } else { format!("row {number}") };
                malformed(format!("{what} (byte {byte}): not UTF-8"))
            }
        }
    }
}

/// A row as text.
struct Texts<'t> {
    plain: &'t str,
    unescaped: &'t str,
}

impl<'t> Texts<'t> {
    /// Fields begin and end at quotes, commas and line ends, which are characters of their own.
    fn of(&self, field: &Field) -> &'t str {
        let text = if field.escaped { self.unescaped } else { self.plain };
        text.get(field.start..field.end).unwrap_or_default()
    }
}
