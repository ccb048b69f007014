use opyard_guest::{Text, op};

/// A keyword.
#[op]
fn keyword(r#type: Text) -> Text {
    r#type
}

/// Reserved.
#[op]
fn reserved(#[port(name = "config")] text: Text) -> Text {
    text
}

/// Nothing that a definitions file could say.
#[op(name = "Shout!")]
fn shout(text: Text) -> Text {
    text
}

fn main() {}
