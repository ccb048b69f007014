//! What Opyard is about: definitions, plans, events, state, limits and errors, as pure data.
//!
//! This crate has no clock, no I/O, no randomness and no runtime: what it computes is a function of what it is given.

pub mod component;
pub mod condition;
pub mod definitions;
pub mod diagnostic;
pub mod digest;
pub mod error;
pub mod event;
pub mod hook;
pub mod http;
pub mod id;
pub mod json;
pub mod limits;
pub mod location;
pub mod memo;
pub mod metadata;
pub mod plan;
pub mod schema;
pub mod secret;
pub mod selection;
pub mod state;
pub mod step;
pub mod supply;
pub mod time;
pub mod upgrade;
pub mod value;
