//! `context` and `execution`: what a step was asked to do, and which execution it is.

use std::fmt::Write as _;

use crate::bindings::opyard::op::{context, execution};
use crate::gate::{Context, Doorway, Execution};

impl context::Host for Doorway<'_, Context> {
    async fn config(&mut self) -> wasmtime::Result<String> {
        Ok(self.enter()?.op()?.call.config.as_str().to_owned())
    }

    async fn mapping_key(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.enter()?.op()?.step.key.mapping.text())
    }

    async fn partition(&mut self) -> wasmtime::Result<Option<context::PartitionInfo>> {
        self.enter()?;
        Ok(None)
    }
}

impl execution::Host for Doorway<'_, Execution> {
    async fn run_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.enter()?.op()?.step.run.to_string())
    }

    async fn job(&mut self) -> wasmtime::Result<String> {
        Ok(self.enter()?.op()?.step.job.to_string())
    }

    async fn step_key(&mut self) -> wasmtime::Result<String> {
        Ok(self.enter()?.op()?.step.key.to_string())
    }

    async fn tags(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.enter()?.op()?.call.tags.clone())
    }

    async fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.enter()?.op()?.step.attempt)
    }

    async fn idempotency_key(&mut self) -> wasmtime::Result<String> {
        let step = &self.enter()?.op()?.step;
        let mut hasher = opyard_model::digest::FieldHasher::new("opyard idempotency 1");
        hasher.field(step.run.to_string().as_bytes()).field(step.key.to_string().as_bytes());
        let mut key = String::with_capacity(64);
        for byte in hasher.finish().as_bytes() {
            let _ = write!(key, "{byte:02x}");
        }
        Ok(key)
    }
}
