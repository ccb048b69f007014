//! What makes two steps the same step.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, FieldHasher};
use crate::event::{AssetEvent, Expectation, MetricPoint};
use crate::id::{ItemKey, Name, RunId, StepKey, TenantId};
use crate::plan::{Plan, Step, TypeCheck};
use crate::step::BoundInput;
use crate::time::Timestamp;
use crate::value::{ValueRef, Yielded};

/// Raised when the host gives guests different answers for the same question (clock, randomness, encodings), so that
/// results of before are not taken for results of now. wasmtime's version is recorded, not keyed.
pub const HOST_SEMANTICS: u32 = 1;

/// The key under which a step's result is stored and found again.
pub type MemoKey = Digest;

/// Computes the key of a step: BLAKE3 over all that a guest can tell of its call.
///
/// `inputs` are the step's bound inputs in port order. Per input, the identities of its values are hashed in order, with
/// their count, so that a fan-in of two and two inputs differ. A step that can reach resources also hashes kind, address,
/// access and declared version of each, and the environment.
#[must_use]
pub fn memo_key(tenant: &TenantId, plan: &Plan, step: &Step, item: &ItemKey, inputs: &[BoundInput]) -> MemoKey {
    let mut hasher = FieldHasher::new("opyard memo 1");
    hasher
        .field(tenant.as_str().as_bytes())
        .field(&HOST_SEMANTICS.to_le_bytes())
        .field(step.component.as_bytes())
        .field(step.op.as_str().as_bytes())
        .field(step.config.as_str().as_bytes())
        .option(item.text().as_deref().map(str::as_bytes))
        .option(None) // partition
        .count(inputs.len());
    for input in inputs {
        let values = input.bound.values();
        hasher.field(input.port.as_str().as_bytes()).count(values.len());
        for value in values {
            hasher.field(value.identity().as_bytes());
        }
    }
    if !step.grants.is_empty() {
        hasher.option(plan.environment.as_ref().map(|name| name.as_str().as_bytes()));
        hasher.count(step.grants.len());
        for grant in &step.grants {
            let spec = plan.granted(grant);
            hasher.field(grant.key.as_str().as_bytes()).field(&[grant.access as u8]);
            hasher.option(spec.and_then(|spec| serde_json::to_vec(&spec).ok()).as_deref());
        }
    }
    hasher.finish()
}

/// Computes the key of the fact that the values of one output passed the check of their type: BLAKE3 over the check and the
/// identities of the values, in order. A check has no other input.
#[must_use]
pub fn check_key<'a>(
    tenant: &TenantId,
    check: &TypeCheck,
    values: impl ExactSizeIterator<Item = &'a ValueRef>,
) -> MemoKey {
    let mut hasher = FieldHasher::new("opyard check 1");
    hasher.field(tenant.as_str().as_bytes()).field(&HOST_SEMANTICS.to_le_bytes());
    match check {
        TypeCheck::Schema { schema } => hasher.option(None).field(schema.as_str().as_bytes()),
        TypeCheck::Checker { component, checker, params, .. } => hasher
            .option(Some(component.as_bytes()))
            .field(checker.as_str().as_bytes())
            .field(params.as_str().as_bytes()),
    };
    hasher.count(values.len());
    for value in values {
        hasher.field(value.identity().as_bytes());
    }
    hasher.finish()
}

/// The stored fact "this op, with this config, on these inputs, gave these outputs", and what it said on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoEntry {
    /// The key.
    pub key: MemoKey,
    /// Where it was computed.
    pub run: RunId,
    /// The step that computed it.
    pub step: StepKey,
    /// The op, for `opyard memo`.
    pub op: Name,
    /// When.
    pub at: Timestamp,
    /// Version of wasmtime that computed it.
    pub wasmtime: String,
    /// What it yielded.
    pub outputs: Vec<Yielded>,
    /// Events to say again.
    pub said: Vec<Resaid>,
    /// Checks of types that the outputs have passed, as [`check_key`] names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checked: Vec<MemoKey>,
}

/// Something that an op said which is part of its result, so that a memo hit says it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Resaid {
    /// An asset was made.
    Materialized(AssetEvent),
    /// An asset was looked at.
    Observed(AssetEvent),
    /// Something was expected, and was so or not.
    Expected(Expectation),
    /// One point of a series.
    Metric(MetricPoint),
}
