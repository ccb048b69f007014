//! The engine against random plans, against a naive scheduler, and against stores and executors that misbehave.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::cast_possible_truncation, reason = "small numbers of tests")]

mod drive;
mod histories;
mod plans;
mod policies;
mod reference;
mod reruns;
mod simulate;
mod yard;
