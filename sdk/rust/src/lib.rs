#![doc = include_str!("../README.md")]

#[cfg(feature = "arrow")]
mod arrow;
#[doc(hidden)]
pub mod bindings;
mod component;
pub mod context;
pub mod definition;
pub mod events;
mod failure;
pub mod hook;
pub mod http;
pub mod metadata;
pub mod port;
pub mod resource;
pub mod secret;
mod stream;
mod type_check;
mod value;

#[cfg(feature = "arrow")]
pub use arrow::Arrow;
pub use component::Op;
pub use context::Execution;
pub use failure::{Context, Failure, Retry};
pub use hook::{Hook, Occasion};
pub use http::HttpClient;
pub use metadata::MetadataValue;
pub use opyard_guest_macros::{Outputs, hook, op, type_checker};
pub use port::Nothing;
pub use resource::{KeyValue, ModelRegistry, ObjectStore};
pub use secret::Secret;
pub use stream::{Dynamic, Reader, Writer};
pub use type_check::{TypeChecker, Verdict};
pub use value::{Bytes, Csv, Json, JsonLines, Text};

pub use schemars;
pub use serde;
pub use serde_json;

/// What the macros refer to. Not part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::Failure;
    pub use crate::bindings::hook::exports::opyard::op::hooks::{Guest as Hooks, Occasion as HostOccasion};
    pub use crate::bindings::opyard::op::types::OpError;
    pub use crate::bindings::opyard::op::values::Reader as LentReader;
    pub use crate::bindings::type_checker::exports::opyard::op::type_checks::{
        Guest as TypeChecks, Verdict as HostVerdict,
    };
    pub use crate::component::{
        Config, assert_checkers_distinct, assert_distinct, assert_hooks_distinct, assert_outputs_distinct, definition,
        execute, json, unknown,
    };
    pub use crate::definition::{Backoff, ExtensionDefinition, Jitter, OpDefinition, RetryPolicy, extension};
    pub use crate::hook::{Handled, Heard, handle, unknown_hook};
    pub use crate::port::{Argument, Outcome, OutputField, Outputs, Port, Role};
    pub use crate::type_check::{Checked, Judgement, check, unknown_checker};
}
