use std::collections::HashMap;

use opyard_guest::{Text, op};

/// A map is no port.
#[op]
fn count(words: HashMap<String, u64>, title: Text) -> Text {
    title
}

fn main() {}
