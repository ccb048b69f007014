use opyard_guest::{Text, op};

/// There is nothing to await.
#[op]
async fn shout(text: Text) -> Text {
    text
}

fn main() {}
