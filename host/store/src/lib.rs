//! Where it is kept: event log, artifacts, memo.
//!
//! The traits ([`event_log`], [`artifact`], [`memo`], [`pool`], [`io_manager`]) are the seam that engine and sandbox know. [`Store`]
//! implements them over one SQLite database and one object store; [`memory`] implements them without a disk; [`fault`]
//! wraps either and makes it fail. The three pass the same suite, `conformance`.

pub mod artifact;
pub mod audit;
pub mod backup;
pub mod conformance;
pub mod control;
pub mod crash;
pub mod error;
pub mod event_log;
pub mod fault;
pub mod folder;
pub mod gc;
pub mod io_manager;
pub mod key_value;
pub mod memo;
pub mod memory;
pub mod object;
pub mod pool;
pub mod query;
pub mod run;
mod sqlite;
mod store;
pub mod upload;

pub use store::{Store, StoreSettings, TenantStore};

#[cfg(test)]
mod tests;
