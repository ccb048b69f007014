//! Arrow streams, as Arrow's own library writes them.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringDictionaryBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Date64Array, Float32Array, Float64Array, Int64Array, LargeStringArray,
    NullArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMillisecondArray, UInt8Array,
    UInt64Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Fields, Schema};
use proptest::prelude::*;
use serde_json::json;

use super::{ARROW, CSV, broken, check, check_with, chunks, number, offending, violations};

type Columns<'a> = &'a [(&'a str, ArrayRef)];

/// A stream of record batches of the same columns.
pub(super) fn stream(batches: &[Columns<'_>]) -> Vec<u8> {
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let schema =
        Arc::new(Schema::new(batches.first().copied().unwrap_or_default().iter().map(field).collect::<Vec<_>>()));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    for columns in batches {
        let columns = columns.iter().map(|(_, column)| Arc::clone(column)).collect();
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

fn category(values: &[Option<&str>]) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int8Type>::new();
    values.iter().for_each(|value| builder.append_option(*value));
    Arc::new(builder.finish())
}

fn list(values: &[i32]) -> ArrayRef {
    let mut builder = ListBuilder::new(Int32Builder::new());
    for value in values {
        builder.values().append_value(*value);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn nested(values: &[&str]) -> ArrayRef {
    let text: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    let inner = Fields::from(vec![Field::new("inner", DataType::Utf8, true)]);
    Arc::new(StructArray::new(inner, vec![text], None))
}

/// A column of each type, between columns that are not looked at, in two batches.
pub(super) fn everything() -> Vec<u8> {
    let long = "longer than what a view holds";
    let batch = |first: &[(&'static str, ArrayRef)]| first.to_vec();
    let first = batch(&[
        ("list", list(&[1, 2])),
        ("text", Arc::new(StringArray::from(vec![Some("a"), None]))),
        ("large", Arc::new(LargeStringArray::from(vec!["é", ""]))),
        ("struct", nested(&["x", "y"])),
        ("view", Arc::new(StringViewArray::from(vec![Some("short"), Some(long)]))),
        ("category", category(&[Some("one"), Some("two")])),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("small", Arc::new(UInt8Array::from(vec![1, 255]))),
        ("number", Arc::new(Float64Array::from(vec![1.5, -2.0]))),
        ("half", Arc::new(Float32Array::from(vec![0.5, 0.25]))),
        ("day", Arc::new(Date32Array::from(vec![0, 11_016]))),
        ("moment", Arc::new(TimestampMillisecondArray::from(vec![1_500, -1]))),
        ("nothing", Arc::new(NullArray::new(2))),
    ]);
    let second: Vec<_> = first.iter().map(|(name, column)| (*name, column.slice(1, 1))).collect();
    stream(&[&first, &second])
}

#[test]
fn every_type_is_read_in_any_pieces() {
    let params = json!({ "columns": {
        "text": { "type": "utf8", "in": ["a"] },
        "large": { "type": "utf8", "in": ["é", ""] },
        "view": { "type": "utf8", "pattern": "^(short|longer than what a view holds)$" },
        "category": { "type": "utf8", "in": ["one", "two"], "nullable": false },
        "flag": { "type": "boolean", "in": [true] },
        "small": { "type": "int64", "min": 1, "max": 255 },
        "number": { "type": "float64", "min": -2, "max": 1.5 },
        "half": { "type": "float64", "in": [0.5, 0.25] },
        "day": { "type": "date", "in": ["1970-01-01", "2000-02-29"] },
        "moment": { "type": "timestamp", "in": ["1970-01-01T00:00:01.5Z", "1969-12-31T23:59:59.999Z"] },
        "nothing": { "type": "date" },
    }, "rows": { "min": 3, "max": 3 } });
    for chunk in [1, 7, 64, 1 << 20] {
        let verdict = check_with(&chunks(chunk), ARROW, &everything(), params.clone());
        assert!(verdict.is_pass(), "{verdict:?}");
        assert_eq!(number(&verdict, "rows"), 3);
    }
}

#[test]
fn every_type_breaks_what_it_breaks() {
    let params = json!({ "columns": {
        "text": { "type": "utf8", "nullable": false },
        "category": { "type": "utf8", "unique": true },
        "flag": { "type": "boolean", "in": [false] },
        "small": { "type": "int64", "max": 254 },
        "day": { "type": "date", "max": "2000-02-28" },
        "moment": { "type": "timestamp", "min": "1970-01-01T00:00:00Z" },
        "nothing": { "type": "int64", "nullable": false },
        "number": { "type": "int64" },
        "struct": { "type": "utf8" },
    }, "strict": true });
    let verdict = check(ARROW, everything(), params);
    assert_eq!(
        broken(&verdict),
        "column 'category': 1 value occurs again; column 'day': 2 values are not 2000-02-28 or below; \
         column 'flag': 1 value is not in the list; column 'moment': 2 values are not 1970-01-01T00:00:00Z or above; \
         column 'nothing': 3 nulls; column 'number' is float64, not int64; \
         column 'small': 2 values are not 254 or below; column 'struct' is struct, not utf8; column 'text': 2 nulls; \
         4 columns that the type does not have, such as 'list'"
    );
    let rows = offending(&verdict);
    for shown in
        ["3 category two unique", "2 day 2000-02-29 max", "1 flag true in", "3 moment 1969-12-31T23:59:59.999Z min"]
    {
        assert!(rows.iter().any(|row| row == shown), "{shown}: {rows:?}");
    }
}

#[test]
fn slices_and_large_numbers_are_as_they_say() {
    let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![7, u64::MAX, 9]).slice(1, 2));
    let days: ArrayRef = Arc::new(Date64Array::from(vec![0, -1, 86_400_000]).slice(1, 2));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]).slice(1, 2));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "bb", "ccc"]).slice(1, 2));
    let columns: Columns<'_> = &[("n", numbers), ("d", days), ("f", flags), ("t", texts)];
    let params = json!({ "columns": {
        "n": { "type": "int64" },
        "d": { "type": "date", "in": ["1969-12-31", "1970-01-02"] },
        "f": { "type": "boolean", "in": [false], "nullable": false },
        "t": { "type": "utf8", "in": ["bb", "ccc"] },
    } });
    let verdict = check(ARROW, stream(&[columns]), params);
    assert_eq!(number(&verdict, "rows"), 2);
    assert_eq!(offending(&verdict), ["1 n 18446744073709551615 type", "1 f (null) nullable"]);
}

#[test]
fn a_dictionary_is_replaced_by_the_next() {
    let (first, second) = (category(&[Some("a"), None]), category(&[Some("b"), Some("c")]));
    let bytes = stream(&[&[("c", first)], &[("c", second)]]);
    let params = |allowed: &[&str]| json!({ "columns": { "c": { "type": "utf8", "in": allowed } } });
    assert!(check(ARROW, &bytes, params(&["a", "b", "c"])).is_pass());
    assert_eq!(offending(&check(ARROW, &bytes, params(&["a", "b"]))), ["4 c c in"]);
}

#[test]
fn columns_that_nobody_asks_for_are_passed_over() {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
    let verdict =
        check(ARROW, stream(&[&[("n", Arc::clone(&column))], &[("n", column)]]), json!({ "rows": { "max": 1 } }));
    assert_eq!(broken(&verdict), "2000 rows, and at most 1 are allowed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_checked_in_arrow_as_in_csv(
        rows in prop::collection::vec((prop::option::of(-4..20_i64), any::<Option<bool>>(), prop::option::of("[a-c]{1,15}")), 0..60),
        per_batch in 1..40_usize,
        chunk in 1..200_u32,
    ) {
        let mut text = "n,f,t,d\n".to_owned();
        for (n, f, t) in &rows {
            let (n, f) = (n.map_or_else(String::new, |n| n.to_string()), f.map_or_else(String::new, |f| f.to_string()));
            let t = t.as_deref().unwrap_or_default();
            text += &format!("{n},{f},{t},{t}\n");
        }
        let batch = |rows: &[(Option<i64>, Option<bool>, Option<String>)]| -> Vec<(&str, ArrayRef)> {
            let texts: Vec<_> = rows.iter().map(|row| row.2.as_deref()).collect();
            vec![
                ("n", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)))),
                ("f", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.1)))),
                ("t", Arc::new(StringViewArray::from_iter(texts.iter().copied()))),
                ("d", category(&texts)),
            ]
        };
        let batches: Vec<_> = if rows.is_empty() { vec![batch(&[])] } else { rows.chunks(per_batch).map(batch).collect() };
        let batches: Vec<_> = batches.iter().map(Vec::as_slice).collect();
        let params = json!({ "columns": {
            "n": { "type": "int64", "min": 0, "max": 15, "unique": true },
            "f": { "type": "boolean", "nullable": false, "in": [true] },
            "t": { "type": "utf8", "pattern": "a$", "nullable": false },
            "d": { "type": "utf8", "unique": true, "pattern": "^b" },
        } });
        let in_arrow = check_with(&chunks(chunk), ARROW, &stream(&batches), params.clone());
        let in_csv = check(CSV, text, params);
        prop_assert_eq!(number(&in_arrow, "rows"), rows.len() as i64);
        prop_assert_eq!(violations(&in_arrow), violations(&in_csv));
        prop_assert_eq!(offending(&in_arrow), offending(&in_csv));
        prop_assert_eq!(in_arrow.description(), in_csv.description());
    }
}
