//! What is said, for a few tables.

use opyard_guest::{Reader, TypeChecker};
use serde_json::{Value, json};

use super::{ARROW, CSV, NDJSON, broken, check, check_with, number, offending, rules, violations};
use crate::input::Limits;

const PENGUINS: &str = "species,body_mass_g,id,code\nAdelie,3750,1,ABC\nGentoo,1999.5,2,AB\nEmperor,,2,XYZ\n";

fn penguins() -> Value {
    json!({
        "columns": {
            "species": { "type": "utf8", "in": ["Adelie", "Chinstrap", "Gentoo"] },
            "body_mass_g": { "type": "float64", "min": 2000, "max": 7000, "nullable": false },
            "id": { "type": "int64", "unique": true },
            "code": { "type": "utf8", "pattern": "^[A-Z]{3}$" },
        },
        "strict": true,
        "ordered": ["species", "body_mass_g", "id", "code"],
        "rows": { "min": 1, "max": 100_000 },
    })
}

#[test]
fn what_does_not_hold_is_told_with_where() {
    let verdict = check(CSV, PENGUINS, penguins());
    assert_eq!(
        verdict.description(),
        Some(
            "5 of 18 constraints do not hold: column 'body_mass_g': 1 null; \
             column 'body_mass_g': 1 value is not 2000 or above; \
             column 'code': 1 value does not match ^[A-Z]{3}$; column 'id': 1 value occurs again; \
             column 'species': 1 value is not in the list"
        )
    );
    let shown = [
        "2 body_mass_g 1999.5 min",
        "2 code AB pattern",
        "3 species Emperor in",
        "3 body_mass_g (null) nullable",
        "3 id 2 unique",
    ];
    assert_eq!(offending(&verdict), shown);
    assert_eq!((number(&verdict, "rows"), number(&verdict, "violations: body_mass_g min")), (3, 1));
    let good = "species,body_mass_g,id,code\nAdelie,3750,1,ABC\n";
    let verdict = check(CSV, good, penguins());
    assert_eq!((verdict.is_pass(), number(&verdict, "rows"), verdict.metadata().len()), (true, 1, 1));
    // A mark that some programs put before UTF-8 is no part of the first name.
    assert!(check(CSV, format!("\u{feff}{good}"), penguins()).is_pass());
}

#[test]
fn columns_and_rows_of_the_table_itself() {
    let said = |bytes: &str| broken(&check(CSV, bytes, penguins())).to_owned();
    assert_eq!(
        said("body_mass_g,species,id,more,most\n"),
        "column 'code' is missing; 2 columns that the type does not have, such as 'more'; \
         column 'body_mass_g' stands before 'species'; 0 rows, and at least 1 are demanded"
    );
    // Without a header nobody knows the columns.
    assert_eq!(said(""), "0 rows, and at least 1 are demanded");
    let params = json!({ "columns": { "a": { "type": "utf8" }, "b": { "type": "utf8" } }, "strict": true, "rows": { "max": 1 } });
    assert_eq!(
        broken(&check(NDJSON, "{\"a\": \"x\", \"c\": 1}\n{\"c\": 2}\n", params.clone())),
        "column 'b' is missing; 2 values of columns that the type does not have, such as 'c'; \
         2 rows, and at most 1 are allowed"
    );
    assert!(check(NDJSON, "", params).is_pass());
}

#[test]
fn lines_end_in_any_way_and_empty_ones_are_none() {
    for end in ["\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n"] {
        for last in ["", end] {
            let bytes = ["a,b", "1,\"x\"", "2,y"].join(end) + last;
            let params =
                json!({ "columns": { "b": { "type": "utf8", "in": ["x", "y"] } }, "rows": { "min": 2, "max": 2 } });
            let verdict = check(CSV, format!("{end}{bytes}"), params);
            assert!(verdict.is_pass(), "{end:?}: {verdict:?}");
        }
    }
}

#[test]
fn other_media_types_are_refused_with_those_that_are_read() {
    let verdict = check("application/vnd.apache.parquet", "", json!({}));
    let description = verdict.description().unwrap();
    assert!([CSV, NDJSON, ARROW].iter().all(|media_type| description.contains(media_type)), "{description}");
    assert!(description.ends_with("not 'application/vnd.apache.parquet'"));
}

#[test]
fn little_is_shown_of_much() {
    let long = "é".repeat(200);
    let rows: String = (0..30).map(|_| format!("{long}\n")).collect();
    let verdict = check(CSV, format!("n\n{rows}"), json!({ "columns": { "n": { "type": "int64" } } }));
    let shown = offending(&verdict);
    assert_eq!((shown.len(), number(&verdict, "violations: n type")), (20, 30));
    assert_eq!(shown[0], format!("1 n {}… type", "é".repeat(100)));

    let names: Vec<_> = (0..500).map(|index| format!("column_{index}\n{long}")).collect();
    let columns: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!({ "type": "utf8" }))).collect();
    let verdict = check(CSV, "other\n", json!({ "columns": columns }));
    let description = verdict.description().unwrap();
    assert!(
        description.len() < 1_200 && description.contains("; and 49") && !description.contains('\n'),
        "{description}"
    );
    assert_eq!(violations(&verdict).len(), 50);
    assert!(verdict.metadata().iter().all(|entry| entry.label.chars().count() < 150));
}

#[test]
fn uniqueness_is_told_as_far_as_it_can_be() {
    let limits = Limits { unique: 3, ..Limits::default() };
    let params =
        json!({ "columns": { "a": { "type": "int64", "unique": true }, "b": { "type": "int64", "unique": true } } });
    let said = |bytes: &str| {
        let verdict = check_with(&limits, CSV, bytes.as_bytes(), params.clone());
        (verdict.is_pass(), broken(&verdict).to_owned())
    };
    assert_eq!(said("a,b\n1,1\n2,\n"), (true, String::new()));
    assert_eq!(said("a,b\n1,\n2,\n3,\n1,\n"), (false, "column 'a': 1 value occurs again".to_owned()));
    let too_many = "column 'a': whether values are unique can be told for 3 of them, and there are more";
    assert_eq!(said("a,b\n1,\n2,\n3,\n4,\n"), (false, too_many.to_owned()));
    // What is given up for one column is there for the other.
    let (_, said) = said("a,b\n1,\n2,\n3,\n4,\n,1\n,2\n,1\n");
    assert_eq!(said, format!("{too_many}; column 'b': 1 value occurs again"));
}

#[test]
fn params_that_contradict_themselves_are_a_failure_that_names_the_column() {
    let said = |params: Value| rules(params).unwrap_err().to_string();
    let column = |column: Value| said(json!({ "columns": { "mass": column } }));
    assert_eq!(column(json!({ "type": "int64", "min": 2, "max": 1 })), "column 'mass': `min` is above `max`");
    assert_eq!(column(json!({ "type": "int64", "min": 2.5 })), "column 'mass': `min`: 2.5 is no int64");
    assert_eq!(column(json!({ "type": "float64", "max": "7" })), "column 'mass': `max`: '7' is no float64");
    assert_eq!(column(json!({ "type": "date", "min": "2023-02-29" })), "column 'mass': `min`: '2023-02-29' is no date");
    assert_eq!(column(json!({ "type": "utf8", "min": "a" })), "column 'mass': `min` is not for utf8");
    assert_eq!(
        column(json!({ "type": "int64", "pattern": "1" })),
        "column 'mass': `pattern` is for utf8, not for int64"
    );
    assert!(column(json!({ "type": "utf8", "pattern": "(" })).starts_with("column 'mass': `pattern`: "));
    assert!(
        column(json!({ "type": "utf8", "pattern": "(((a{1000}){1000}){1000}" }))
            .starts_with("column 'mass': `pattern`")
    );
    assert_eq!(column(json!({ "type": "boolean", "in": [1] })), "column 'mass': `in`: 1 is no boolean");
    assert_eq!(column(json!({ "type": "boolean", "in": [] })), "column 'mass': `in` allows nothing");
    assert_eq!(
        column(json!({ "type": "int64", "in": [1, 2], "min": 3 })),
        "column 'mass': no value of `in` keeps the other constraints"
    );
    assert_eq!(said(json!({ "rows": { "min": 2, "max": 1 } })), "rows: min is 2, and max is 1");
    assert_eq!(said(json!({ "ordered": ["a"] })), "ordered: 'a' is not one of `columns`, or is there twice");
    // The host is told not to try again.
    let failure = crate::rules::Rules::new(serde_json::from_value(json!({ "rows": { "min": 2, "max": 1 } })).unwrap());
    let shown = format!("{:?}", failure.unwrap_err());
    assert!(shown.contains("allow-retries: false"), "{shown}");
}

#[test]
fn the_schema_says_what_params_there_are() {
    let definition = <crate::table as TypeChecker>::definition();
    let schema: Value = serde_json::from_str(&definition.config_schema.unwrap()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Column"]["additionalProperties"], false);
    assert_eq!(schema["$defs"]["Column"]["required"], json!(["type"]));
    assert!(schema.get("required").is_none(), "{schema}");
    let check = |params: &str| <crate::table as TypeChecker>::check(Reader::from_bytes(CSV, "a\n1\n"), params);
    assert!(check("{}").unwrap().is_pass());
    assert!(check(r#"{"colums": {}}"#).is_err());
    assert!(check(r#"{"columns": {"a": {"type": "int32"}}}"#).is_err());
}
