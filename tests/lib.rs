//! Tests of the whole system: see `tests/system` and `hostile`; and what they share with those of single crates.

use std::sync::mpsc;
use std::time::Duration;

pub mod guests;

/// Looks again and again whether a condition holds. A minute is for ever.
#[must_use]
pub fn comes_true(condition: impl Fn() -> bool) -> bool {
    // Nothing is ever sent: only time passes.
    let (_sender, looks) = mpsc::channel::<()>();
    (0..600).any(|_| condition() || looks.recv_timeout(Duration::from_millis(100)).is_ok())
}
