//! The sandbox, with real components, a real store, and guests that mean harm.

#![expect(clippy::unwrap_used, reason = "tests")]

mod cost;
mod harness;
mod hermetic;
mod hostile;
mod loading;
mod managers;
mod network;
mod ops;
mod resources;
mod stateful;
mod types;
mod world;
