//! The behaviour that every implementation of the traits has, as suites that panic where it has not.
//!
//! Each suite takes a fresh, empty store of some tenant.

#![expect(clippy::unwrap_used, reason = "a suite panics where something is not as it must be")]

mod artifacts;
mod events;
mod io_manager;
mod memos;
pub mod samples;

pub use artifacts::artifacts;
#[cfg(test)]
pub(crate) use artifacts::noise;
pub use events::{events, survives_faults};
pub use io_manager::io_manager;
pub use memos::memos;
