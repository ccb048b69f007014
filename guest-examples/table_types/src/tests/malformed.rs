//! Bytes that are no table: a verdict that names the place, the same however the bytes arrive, and never a panic.

use opyard_guest::Verdict;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::arrow::{everything, stream};
use super::{ARROW, CSV, NDJSON, check, check_with, chunks, number};
use crate::input::Limits;

fn params() -> Value {
    json!({
        "columns": { "a": { "type": "int64", "min": 0, "unique": true }, "b": { "type": "utf8", "pattern": "^x" } },
        "rows": { "min": 2 },
    })
}

fn said(verdict: &Verdict) -> &str {
    let description = verdict.description().expect("it is no table");
    description.strip_prefix("not a table that can be read: ").expect("nothing is said of constraints")
}

#[test]
fn csv_that_is_none() {
    let said_of = |bytes: &[u8]| said(&check(CSV, bytes, params())).to_owned();
    assert_eq!(said_of(b"a,b\n1,x\n2\n"), "row 2 (from byte 8): 1 field in place of 2");
    assert_eq!(said_of(b"a,b\n1,x,y\n"), "row 1 (from byte 4): 3 fields in place of 2");
    assert_eq!(said_of(b"a,b\n1,\"x\n"), "row 1 (from byte 4): a quote is opened and never closed");
    assert_eq!(said_of(b"a,b\n1,\"x\"y\n"), "row 1 (from byte 4): text follows a closing quote");
    assert_eq!(said_of(b"a,b\n1,x\xff\n"), "row 1 (byte 7): not UTF-8");
    assert_eq!(said_of(b"a\xe9,b\n1,x\n"), "header (byte 1): not UTF-8");
    assert_eq!(said_of(b"a,b,a\n"), "header: there are two columns 'a'");
    // What was found before is told.
    let verdict = check(CSV, "a,b\n-1,x\n1,y,z\n", params());
    assert_eq!((number(&verdict, "rows"), number(&verdict, "violations: a min")), (1, 1));
    assert_eq!(number(&verdict, "violations: rows min"), 0);
}

#[test]
fn ndjson_that_is_none() {
    let said_of = |bytes: &[u8]| said(&check(NDJSON, bytes, params())).to_owned();
    let row = "{\"a\": 1}\n";
    assert!(said_of(b"{\"a\": 1}\n{\"a\":\n").starts_with("row 2 (from byte 9): EOF while parsing"));
    assert!(said_of(b"[1]\n").contains("expected an object at column"), "{}", said_of(b"[1]\n"));
    assert_eq!(said_of(format!("{row}{row}x\n").as_bytes()), "row 3 (from byte 18): expected value at column 1");
    assert!(said_of(b"{\"a\": 1} {}\n").contains("trailing characters"));
    assert!(said_of(b"{\"a\": 1, \"a\": 2}\n").contains("'a' is there twice"));
    assert_eq!(said_of(b"{\"a\": \"\xff\"}\n"), "row 1 (byte 7): not UTF-8");
    // However deep it is, nothing but the limit of a row bounds it.
    let deep = format!("{{\"c\": {}}}", "[".repeat(500_000));
    assert!(said_of(deep.as_bytes()).starts_with("row 1 (from byte 0): "));
    let deep = format!("{{\"a\": {}}}", "[".repeat(500_000));
    assert!(said_of(deep.as_bytes()).starts_with("row 1 (from byte 0): "));
}

#[test]
fn a_row_or_a_header_beyond_the_limit_is_no_row() {
    let limits = Limits { row: 10, columns: 3, ..chunks(4) };
    let said_of =
        |media_type, bytes: &str| said(&check_with(&limits, media_type, bytes.as_bytes(), params())).to_owned();
    let pass = |media_type, bytes: &str| check_with(&limits, media_type, bytes.as_bytes(), json!({})).is_pass();
    assert!(pass(CSV, "a,b\n12345678,\n") && pass(CSV, "a\n1234567890"));
    assert_eq!(said_of(CSV, "a,b\n123456789,\n"), "row 1 (from byte 4): longer than 10 bytes");
    assert_eq!(said_of(CSV, "a\n\"2345678901"), "row 1 (from byte 2): longer than 10 bytes");
    assert_eq!(said_of(CSV, "a,b,c,d\n"), "header: 4 columns, and at most 3 are read");
    assert!(pass(NDJSON, "{\"a\": 12}\n") && pass(NDJSON, "{\"a\": 123}"));
    assert_eq!(said_of(NDJSON, "{}\n{\"a\": 123}\n"), "row 2 (from byte 3): longer than 10 bytes");
    let limits = Limits { columns: 3, ..Limits::default() };
    let verdict = check_with(&limits, ARROW, &everything(), json!({}));
    assert!(said(&verdict).ends_with("at most 3 columns and fields are read"), "{verdict:?}");
}

#[test]
fn a_stream_that_is_cut_off_anywhere_is_no_table() {
    let whole = everything();
    let params = json!({ "columns": { "text": { "type": "utf8" }, "category": { "type": "utf8" } } });
    assert!(check(ARROW, &whole, params.clone()).is_pass());
    for length in 0..whole.len() {
        let verdict = check(ARROW, &whole[..length], params.clone());
        assert!(said(&verdict).ends_with("the stream is cut off"), "{length}: {verdict:?}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(said(&check(ARROW, longer, params)).ends_with("something follows the end of the stream"));
}

#[test]
fn what_a_stream_claims_takes_no_memory() {
    // A message whose head, and one whose body, would be as long as it gets.
    let huge = [&u32::MAX.to_le_bytes()[..], &(u32::MAX - 1).to_le_bytes()].concat();
    assert!(said(&check(ARROW, huge, params())).contains("at most 16777216 are read"));
    let limits = Limits { batch: 64, ..Limits::default() };
    let params = json!({ "columns": { "text": { "type": "utf8" } } });
    let verdict = check_with(&limits, ARROW, &everything(), params);
    assert!(said(&verdict).ends_with("of more than 64 bytes; write smaller batches"), "{verdict:?}");
}

/// Some bytes of a table, changed.
fn mangled(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6);
    changes.prop_map(move |changes| {
        let mut bytes = bytes.clone();
        for (at, byte, what) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match what {
                0 => bytes.insert(at, byte),
                1 => drop(bytes.remove(at)),
                2 => bytes[at] = [b'"', b',', b'\n', b'\r', 0, 1, 127, 255][usize::from(byte % 8)],
                _ => bytes[at] = byte,
            }
        }
        bytes
    })
}

fn same_however_it_arrives(media_type: &str, bytes: &[u8], params: &Value, chunk: u32) -> Result<(), TestCaseError> {
    let limits = |chunk| Limits { row: 40, ..chunks(chunk) };
    let whole = check_with(&limits(1 << 20), media_type, bytes, params.clone());
    let pieces = check_with(&limits(chunk), media_type, bytes, params.clone());
    prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    let shown = whole.description().unwrap_or_default();
    prop_assert!(shown.len() < 2_000 && !shown.contains(char::is_control), "{}", shown);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mangled_csv(bytes in mangled(b"a,b,c\r\n1,x,\"q\"\"q, r\"\r\n2,\"x\r\ny\",\xc3\xa9\n\n-3,z,\n".to_vec()), chunk in 1..9_u32) {
        same_however_it_arrives(CSV, &bytes, &params(), chunk)?;
    }

    #[test]
    fn mangled_ndjson(bytes in mangled(b"{\"a\": 1, \"b\": \"x\\n\"}\n{\"b\": null, \"c\": [{}]}\r\n\n{\"a\": -2.5e3}\n".to_vec()), chunk in 1..9_u32) {
        same_however_it_arrives(NDJSON, &bytes, &params(), chunk)?;
    }

    #[test]
    fn mangled_arrow(bytes in mangled(everything()), chunk in 1..99_u32) {
        let columns = ["text", "large", "view", "category", "flag", "small", "number", "half", "day", "moment", "nothing"];
        let kinds = ["utf8", "utf8", "utf8", "utf8", "boolean", "int64", "float64", "float64", "date", "timestamp", "date"];
        let columns: serde_json::Map<_, _> =
            columns.iter().zip(kinds).map(|(name, kind)| ((*name).to_owned(), json!({ "type": kind }))).collect();
        same_however_it_arrives(ARROW, &bytes, &json!({ "columns": columns }), chunk)?;
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), chunk in 1..9_u32) {
        for media_type in [CSV, NDJSON, ARROW] {
            same_however_it_arrives(media_type, &bytes, &params(), chunk)?;
        }
    }
}

#[test]
fn a_stream_needs_a_schema() {
    assert_eq!(said(&check(ARROW, [255, 255, 255, 255, 0, 0, 0, 0], params())), "a stream without a schema");
    assert!(check(ARROW, stream(&[]), json!({})).is_pass());
}
