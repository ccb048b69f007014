//! Values against their types: by a schema, and by a type checker in an instance of its own.

use std::sync::Arc;

use opyard_model::error::Code;
use opyard_model::event::{Direction, TypeChecked};
use opyard_model::json::CanonicalJson;
use opyard_model::limits::Limits;
use opyard_model::plan::TypeCheck;
use opyard_model::step::{Bound, Call, CheckCall, OpCall, Saying, StepResult};
use serde_json::{Value, json};

use crate::harness::{Bench, Came, Probe, name};

fn schema(schema: &Value) -> TypeCheck {
    TypeCheck::Schema { schema: CanonicalJson::new(schema).unwrap() }
}

/// Makes every output of a call one of the type `small`, which is checked so.
fn typed(mut call: OpCall, check: TypeCheck) -> Call {
    for bound in Arc::make_mut(&mut call.outputs) {
        bound.type_name = name("small");
    }
    call.types.insert(name("small"), check);
    Call::Op(Box::new(call))
}

fn checks(came: &Came) -> Vec<(bool, &TypeChecked)> {
    came.said
        .iter()
        .filter_map(|saying| match saying {
            Saying::TypeChecked { success, check } => Some((*success, check)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn an_output_has_to_be_what_its_schema_allows() {
    let probe = Probe::new().await;
    let check = schema(&json!({ "type": "number", "maximum": 10 }));
    let call = |value: u32| typed(probe.call("const", json!({ "value": value }), vec![]), check.clone());
    let came = probe.bench.request(call(7), Limits::default()).await;
    assert_eq!(came.outputs().len(), 1);
    assert!(came.memoisable());
    let told = checks(&came);
    assert_eq!(told.len(), 1);
    let (success, told) = told[0];
    assert!(success);
    assert_eq!((told.direction, told.by.as_str()), (Direction::Output, "JSON Schema"));
    assert_eq!(told.type_name, name("small"));

    let came = probe.bench.request(call(11), Limits::default()).await;
    assert_eq!(came.code(), Code::TypeCheckFailed);
    assert!(came.failure().description.contains("11 is greater than the maximum of 10"), "{:?}", came.failure());
    assert_eq!(came.failure().metadata.len(), 1);
    assert!(matches!(checks(&came)[..], [(false, _)]));
}

/// Each item is checked before it is announced: no consumer starts on one that is wrong.
#[tokio::test]
async fn an_item_is_announced_once_it_has_passed() {
    let probe = Probe::new().await;
    let call = probe.call("fan", json!({ "items": 5 }), vec![]);
    let came = probe.bench.request(typed(call, schema(&json!({ "maximum": 2 }))), Limits::default()).await;
    assert_eq!(came.code(), Code::TypeCheckFailed);
    let mut passed = 0;
    for saying in &came.said {
        match saying {
            Saying::TypeChecked { success: true, .. } => passed += 1,
            Saying::ItemCommitted(_) => {
                passed -= 1;
                assert_eq!(passed, 0, "an item was announced without its check");
            }
            _ => {}
        }
    }
    let told = checks(&came);
    assert!(told.iter().rev().skip(1).all(|(success, _)| *success));
    let (success, last) = told.last().unwrap();
    assert!(!success);
    assert!(!last.mapping_key.is_empty());
}

#[tokio::test]
async fn a_value_that_nobody_has_checked_is_checked_before_the_op_starts() {
    let probe = Probe::new().await;
    let check = schema(&json!({ "type": "number" }));
    for (text, code) in [("1", None), ("\"one\"", Some(Code::TypeCheckFailed)), ("[1", Some(Code::TypeCheckFailed))] {
        let value = probe.bench.value(text.to_owned(), "small", "application/json").await;
        let mut call = probe.call("add", json!({}), vec![("numbers", Bound::Many(vec![value]))]);
        call.types.insert(name("small"), check.clone());
        call.unchecked.push(name("numbers"));
        let came = probe.bench.request(Call::Op(Box::new(call)), Limits::default()).await;
        match code {
            None => assert_eq!(came.outputs().len(), 1),
            Some(code) => {
                assert_eq!(came.code(), code, "{text}");
                assert_eq!(came.outcome.usage.host_calls, 0, "{text}: the op has run");
            }
        }
        assert_eq!(checks(&came)[0].1.direction, Direction::Input);
    }
}

#[tokio::test]
async fn what_the_memo_has_is_checked_without_its_op() {
    let bench = Bench::new();
    let mut values = Vec::new();
    for text in ["1", "2", "\"three\""] {
        values.push(bench.value(text, "small", "application/json").await);
    }
    let call = |values: &[_], check| {
        Call::CheckType(Box::new(CheckCall { port: name("result"), check, values: values.to_vec() }))
    };
    let check = schema(&json!({ "type": "number" }));
    let came = bench.request(call(&values[..2], check.clone()), Limits::default()).await;
    assert!(matches!(&came.outcome.result, StepResult::Checked(checks) if checks.len() == 2), "{came:?}");
    let came = bench.request(call(&values, check), Limits::default()).await;
    assert_eq!(came.code(), Code::TypeCheckFailed);
    // Larger than what is held for a schema.
    let large = bench.value(vec![b' '; (16 << 20) + 1], "small", "application/json").await;
    let came = bench.request(call(&[large], schema(&json!(true))), Limits::default()).await;
    assert_eq!(came.code(), Code::TypeCheckFailed);
    // A schema that the value makes costly is given up, not worked through.
    let deep = "[".repeat(60) + &"]".repeat(60);
    let wide = format!("[{}]", vec![deep; 40_000].join(","));
    let costly = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [ { "items": { "$ref": "#/$defs/a" } }, { "items": { "$ref": "#/$defs/a" } } ] } } });
    let value = bench.value(wide, "small", "application/json").await;
    let came = bench.request(call(&[value], schema(&costly)), Limits::default()).await;
    assert_eq!(came.code(), Code::TypeCheckFailed);
    assert!(came.failure().description.contains("too long"), "{:?}", came.failure());
}
