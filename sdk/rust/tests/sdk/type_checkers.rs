//! Type checkers, driven as the host drives them but for the handle.

use opyard_guest::schemars::JsonSchema;
use opyard_guest::serde::Deserialize;
use opyard_guest::{Failure, MetadataValue, Reader, Text, TypeChecker, Verdict, component, op, type_checker};

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "opyard_guest::serde", deny_unknown_fields)]
#[schemars(crate = "opyard_guest::schemars")]
struct Limit {
    /// The most bytes.
    max: u64,
}

/// Checks that a value is small.
///
/// At some length.
#[type_checker(name = "small")]
fn few_bytes(mut value: Reader, params: Limit) -> Result<Verdict, Failure> {
    if params.max == 0 {
        return Err(Failure::new("nothing is that small").no_retry());
    }
    let mut bytes = 0;
    loop {
        let chunk = value.next_chunk(3)?;
        if chunk.is_empty() {
            break;
        }
        bytes += chunk.len() as u64;
    }
    let verdict = if bytes > params.max { Verdict::fail(format!("{bytes} bytes")) } else { Verdict::pass() };
    Ok(verdict.with_metadata("bytes", bytes))
}

/// Accepts text.
#[type_checker]
fn text_only(value: Reader) -> Verdict {
    if value.media_type() == "text/plain" { Verdict::pass() } else { Verdict::fail("not text") }
}

/// Stands in the same component.
#[op]
fn same(text: Text) -> Text {
    text
}

// One component may ship both, in either order; each is a world of its own.
component! { ops: [same], type_checkers: [few_bytes, text_only] }

mod the_other_way_round {
    use super::{few_bytes, same};

    opyard_guest::component! { type_checkers: [few_bytes], ops: [same] }
}

#[test]
fn the_definition_follows_from_the_signature() {
    let definition = <few_bytes as TypeChecker>::definition();
    assert_eq!((definition.name.as_str(), <few_bytes as TypeChecker>::NAME), ("small", "small"));
    assert_eq!(definition.description.as_deref(), Some("Checks that a value is small.\n\nAt some length."));
    let schema = definition.config_schema.expect("it takes params");
    assert!(schema.contains(r#""additionalProperties":false"#) && schema.contains("The most bytes."), "{schema}");
    assert!(definition.resources.is_empty());
    assert!(<text_only as TypeChecker>::definition().config_schema.is_none());
}

#[test]
fn a_check_reads_its_params_and_the_value() {
    let check = |bytes: &str, params: &str| <few_bytes as TypeChecker>::check(Reader::from_bytes("a/b", bytes), params);
    assert!(check("12345", r#"{"max":5}"#).unwrap().is_pass());
    let verdict = check("123456", r#"{"max":5}"#).unwrap();
    assert_eq!(verdict.description(), Some("6 bytes"));
    assert!(matches!(verdict.metadata()[0].value, MetadataValue::Int(6)));
    assert_eq!(check("", r#"{"max":0}"#).unwrap_err().to_string(), "nothing is that small");
    let failure = check("", r#"{"most":1}"#).unwrap_err();
    assert!(failure.to_string().starts_with("params: unknown field `most`"), "{failure}");
    // One without params does not mind what it is told.
    assert!(<text_only as TypeChecker>::check(Reader::from_bytes("text/plain", ""), "{}").unwrap().is_pass());
    assert!(!text_only(Reader::from_bytes("text/csv", "")).is_pass());
}

#[test]
fn a_value_in_memory_is_read_as_one_of_the_host() {
    let mut value = Reader::from_bytes("text/plain", vec![7; (1 << 20) + 5]);
    assert_eq!((value.size(), value.type_name(), value.mapping_key()), ((1 << 20) + 5, "bytes".to_owned(), None));
    assert_eq!(value.read_at(1 << 20, 100).unwrap().len(), 5);
    assert!(value.read_at(u64::MAX, 1).unwrap().is_empty());
    assert_eq!(value.next_chunk(u32::MAX).unwrap().len(), 1 << 20);
    assert_eq!(value.next_chunk(u32::MAX).unwrap().len(), 5);
    assert!(value.next_chunk(1).unwrap().is_empty());
}
