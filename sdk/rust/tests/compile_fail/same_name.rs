use opyard_guest::{Text, component, op};

/// One.
#[op]
fn shout(text: Text) -> Text {
    text
}

/// Another of the same name.
#[op(name = "shout")]
fn cry(text: Text) -> Text {
    text
}

component! { ops: [shout, cry] }

fn main() {}
