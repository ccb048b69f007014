//! The system as its users meet it: the binary, the example components, the README.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod again;
mod assets;
mod capabilities;
mod chaos;
mod compiling;
mod damage;
mod docs;
mod events;
mod failing;
mod harness;
mod hooks;
mod input;
mod io_managers;
mod layering;
mod network;
mod op_tests;
mod penguins;
mod pools;
mod provenance;
mod registry;
mod server;
mod stateful;
mod stories;
mod upkeep;
mod workflows;
