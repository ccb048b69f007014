use opyard_guest::{Text, op};

/// Two inputs of one name.
#[op]
fn join(left: Text, #[port(name = "left")] right: Text) -> Text {
    left
}

fn main() {}
