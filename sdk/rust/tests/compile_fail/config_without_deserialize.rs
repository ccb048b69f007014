use opyard_guest::schemars::JsonSchema;
use opyard_guest::{Text, op};

#[derive(JsonSchema)]
struct Config {
    seed: u32,
}

/// The config cannot be read.
#[op]
fn shuffle(text: Text, config: Config) -> Text {
    text
}

fn main() {}
