//! Is this table what its type says? A type checker for tables in CSV, NDJSON and Arrow streams.
//!
//! A table is read once, in pieces, and is never held whole: what is held is a row (at most 1 MiB) or a record batch (at
//! most 64 MiB, and as much again for dictionaries), and some 40 bytes for every value that has to be unique (at most
//! 2,000,000 of them, over all columns). What the bytes say is the claim of a stranger: a table that cannot be read is a verdict that names
//! the place, whatever the bytes are.
//!
//! # What a column accepts
//!
//! | type | in CSV | in NDJSON | in Arrow |
//! | --- | --- | --- | --- |
//! | `utf8` | any field | a string | utf8, large utf8, utf8 view |
//! | `int64` | digits, with or without a sign, within 64 bits | a number without fraction and exponent, within 64 bits | any integer within 64 bits |
//! | `float64` | what Rust reads as `f64`: `-1.5`, `2e3`, `inf`, `NaN` | a number | float32, float64 |
//! | `boolean` | `true`, `false`, `True`, `False`, `TRUE`, `FALSE` | `true`, `false` | boolean |
//! | `date` | `YYYY-MM-DD` | a string like that | date32, date64 |
//! | `timestamp` | `YYYY-MM-DD`, `T` or a space, `hh:mm:ss`, up to 9 decimals, `Z`, an offset like `+02:00`, or nothing | a string like that | timestamp of any unit |
//!
//! Years are 0000 to 9999. A timestamp without an offset, or without a time zone, is UTC. An Arrow column may be a
//! dictionary of these; one of type null holds nulls of any type.
//!
//! A null is an empty CSV field (quoted or not), `null` or a missing key in NDJSON, an Arrow null. It keeps all
//! constraints but `nullable: false`. `NaN` keeps neither `min` nor `max`, nor is it `in` anything; all `NaN` are one
//! value, and so are 0 and -0.
//!
//! # What is demanded of the bytes
//!
//! - CSV: a header, commas, fields quoted as in RFC 4180, lines that end in LF, CRLF or CR, as many fields in every row as
//!   in the header; empty lines are skipped. No bytes at all are a table without rows whose columns nobody knows.
//! - NDJSON: one JSON object a line; blank lines are skipped. A column is missing when no row has it. Objects have no
//!   order, so `ordered` is not looked at.
//! - Arrow: a stream with its end marker, little endian, neither compressed nor with delta dictionaries.
//!
//! Patterns are those of `regex-lite`: linear time, `\d` and `\w` are ASCII. They are looked for anywhere in the value.

mod arrow;
mod csv;
mod input;
mod ndjson;
mod params;
mod rules;
mod tally;
mod text;
mod value;

use input::{Input, Limits, Stop};
use opyard_guest::{Failure, Reader, Verdict, type_checker};
use params::TableParams;
use rules::Rules;
use tally::Tally;

/// Checks the columns and the number of rows of a table in CSV, NDJSON or an Arrow stream.
///
/// The verdict tells how many values break which constraint, and shows the first of them.
#[type_checker]
fn table(value: Reader, params: TableParams) -> Result<Verdict, Failure> {
    check(value, &Rules::new(params)?, &Limits::default())
}

opyard_guest::component! { type_checkers: [table] }

fn check(value: Reader, rules: &Rules, limits: &Limits) -> Result<Verdict, Failure> {
    let media_type = value.media_type();
    let read = match media_type.as_str() {
        "text/csv" => csv::read,
        "application/x-ndjson" => ndjson::read,
        "application/vnd.apache.arrow.stream" => arrow::read,
        _ => {
            let found = text::quoted(&media_type);
            return Ok(Verdict::fail(format!(
                "a table is text/csv, application/x-ndjson or application/vnd.apache.arrow.stream, not {found}"
            )));
        }
    };
    let mut input = Input::new(value, limits);
    let mut tally = Tally::new(rules, limits);
    match read(&mut input, rules, &mut tally) {
        Ok(()) => Ok(tally.verdict()),
        Err(Stop::Malformed(place)) => Ok(tally.malformed(&place)),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

#[cfg(test)]
mod tests;
