//! Tests of the implementations, by the suites that all of them pass.

mod conform;
mod faults;
mod processes;
mod property;
mod query;
