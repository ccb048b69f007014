use opyard_guest::schemars::JsonSchema;
use opyard_guest::{Failure, Reader, Text, Verdict, type_checker};

/// Read whole.
#[type_checker]
fn whole(_value: Text) -> Verdict {
    Verdict::pass()
}

/// Without a value.
#[type_checker]
fn blind() -> Verdict {
    Verdict::pass()
}

/// With too much.
#[type_checker]
fn greedy(_value: Reader, _params: Params, _more: Reader) -> Verdict {
    Verdict::pass()
}

#[derive(JsonSchema)]
#[schemars(crate = "opyard_guest::schemars")]
struct Params {
    max: u64,
}

/// Serde cannot read its params.
#[type_checker]
fn unread(_value: Reader, _params: Params) -> Verdict {
    Verdict::pass()
}

/// Says yes or no.
#[type_checker]
fn terse(_value: Reader) -> Result<bool, Failure> {
    Ok(true)
}

/// By reference.
#[type_checker]
fn lent(_value: &Reader) -> Verdict {
    Verdict::pass()
}

/// Nothing that a definitions file could say.
#[type_checker(name = "Table!")]
fn table(_value: Reader) -> Verdict {
    Verdict::pass()
}

/// An attribute that says nothing.
#[type_checker(strict = true)]
fn strict(_value: Reader) -> Verdict {
    Verdict::pass()
}

fn main() {}
