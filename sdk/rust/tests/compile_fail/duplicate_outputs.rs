use opyard_guest::{Outputs, Text, Writer, op};

#[derive(Outputs)]
struct Parts {
    head: Text,
    #[port(name = "head")]
    tail: Text,
}

/// The result and a parameter are the same output.
#[op]
fn copy(text: Text, result: Writer) -> Text {
    text
}

fn main() {}
