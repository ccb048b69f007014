//! What a step was asked to do, beyond its inputs and its config.

use crate::Failure;
pub use crate::bindings::opyard::op::context::{PartitionInfo, TimeWindow};
use crate::bindings::opyard::op::{context as host, execution as host_execution};
use crate::definition::OpDefinition;
use crate::port::{Argument, Port, Role};

/// The key of the item that this step is mapped over. Part of what the memo key covers.
#[must_use]
pub fn mapping_key() -> Option<String> {
    host::mapping_key()
}

/// The partition that this run is about. Part of what the memo key covers.
#[must_use]
pub fn partition() -> Option<PartitionInfo> {
    host::partition()
}

pub(crate) fn config() -> String {
    host::config()
}

/// Identity of this very execution: a parameter of this type sets `uses-execution`.
///
/// An op that knows which run it is in is not hermetic: it is never memoised by itself.
#[derive(Debug)]
pub struct Execution(());

impl Execution {
    /// The run's identifier.
    #[must_use]
    pub fn run_id(&self) -> String {
        host_execution::run_id()
    }

    /// The job's name.
    #[must_use]
    pub fn job(&self) -> String {
        host_execution::job()
    }

    /// The step key: `outer.inner.step[mapping-key]`.
    #[must_use]
    pub fn step_key(&self) -> String {
        host_execution::step_key()
    }

    /// The tags of the run.
    #[must_use]
    pub fn tags(&self) -> Vec<(String, String)> {
        host_execution::tags()
    }

    /// 0 on the first try.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        host_execution::attempt()
    }

    /// The same for every try of this step in this run: to make side effects idempotent.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        host_execution::idempotency_key()
    }
}

impl Argument for Execution {
    const ROLE: Role = Role::Context;

    fn declare(_: &Port, op: &mut OpDefinition) {
        op.uses_execution = true;
    }

    fn acquire(_: &Port) -> Result<Self, Failure> {
        Ok(Self(()))
    }
}
