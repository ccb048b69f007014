//! What authors write, and what the host is told of it.

mod definitions;
mod hooks;
mod mistakes;
mod type_checkers;
