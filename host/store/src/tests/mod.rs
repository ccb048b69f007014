//! Tests of the implementations, by the suites that all of them pass.

#![expect(clippy::unwrap_used, reason = "tests")]

mod conform;
mod faults;
mod processes;
mod property;
mod query;
