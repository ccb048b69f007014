//! Tests of the implementations, by the suites that all of them pass.

mod backup;
mod conform;
mod faults;
mod flaky;
mod gc;
mod key_values;
mod pools;
mod processes;
mod property;
mod query;
