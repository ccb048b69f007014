//! Where it is kept: event log, artifacts, memo.

pub mod artifact;
pub mod error;
pub mod event_log;
pub mod io_manager;
pub mod memo;
