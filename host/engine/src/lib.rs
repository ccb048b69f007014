//! When: decides what a run does next, and drives it.
//!
//! The engine knows no wasm. It moves references, never bytes; whatever a component does, it does behind
//! [`StepExecutor`](opyard_model::step::StepExecutor). [`decide`] is pure; [`Engine`] is the one place where a run's
//! events are appended, folded and acted upon, in that order.

mod claims;
pub mod decide;
mod drive;
mod error;
mod launch;
mod look;
mod lookup;
mod plans;
mod repeat;
mod request;
pub mod retry;
mod seats;
mod tasks;

pub use drive::{CancelRequest, Engine, EngineSettings, Parts, RunEnd};
pub use error::EngineError;
pub use launch::{Launch, Lineage};
pub use look::MemoQuestion;
pub use request::op_call;
