use opyard_guest::{Failure, HttpClient, Occasion, Text, hook};

/// Deaf.
#[hook]
fn deaf() {}

/// Told something else.
#[hook]
fn other(_words: Text) {}

/// Takes an input.
#[hook]
fn hungry(_occasion: Occasion, _rows: Text) {}

/// Answers.
#[hook]
fn chatty(_occasion: Occasion) -> Result<bool, Failure> {
    Ok(true)
}

/// By reference.
#[hook]
fn lent(_occasion: Occasion, _hub: &HttpClient) {}

/// An attribute that says nothing.
#[hook(on = "failure")]
fn picky(_occasion: Occasion) {}

fn main() {}
