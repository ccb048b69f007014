use opyard_guest::{Failure, Text, op};

/// A number is no output.
#[op]
fn length(text: Text) -> Result<f64, Failure> {
    Ok(text.len() as f64)
}

fn main() {}
