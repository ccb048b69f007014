//! What stands around a model: keeping it in a registry, and watching whether data still look like what it learned from.
//!
//! Whose model it is, and of what, makes no difference: a model is bytes of JSON, rows are any CSV with a header.

mod registry;
mod watch;

use registry::{champion, publish};
use watch::{describe, drift};

opyard_guest::component! { ops: [publish, champion, describe, drift] }
