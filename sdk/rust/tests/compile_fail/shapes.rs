use opyard_guest::{Text, op};

/// By reference.
#[op]
fn borrowed(text: &Text) -> Text {
    Text::new(text.as_str())
}

/// Generic.
#[op]
fn generic<T: Into<Text>>(text: T) -> Text {
    text.into()
}

/// Without a name.
#[op]
fn unnamed((left, right): (Text, Text)) -> Text {
    left
}

/// An attribute that says nothing.
#[op(retries = 3)]
fn mistaken(text: Text) -> Text {
    text
}

/// A delay without a unit.
#[op(retry(max = 3, delay = "2"))]
fn delayed(text: Text) -> Text {
    text
}

fn main() {}
