use opyard_guest::{Reader, Verdict, component, type_checker};

/// One.
#[type_checker]
fn table(_value: Reader) -> Verdict {
    Verdict::pass()
}

/// Another of the same name.
#[type_checker(name = "table")]
fn rows(_value: Reader) -> Verdict {
    Verdict::pass()
}

component! { type_checkers: [table, rows] }

fn main() {}
