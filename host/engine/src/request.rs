//! From a step of the plan, and what it is given, to the request that its executor gets.

use opyard_model::digest::Digest;
use opyard_model::id::{RunId, TenantId};
use opyard_model::memo::{MemoKey, memo_key};
use opyard_model::plan::{Grant, IoManagerSpec, Plan, ResourceSpec, StepOutput};
use opyard_model::state::{InstanceId, RunState};
use opyard_model::step::{
    BoundInput, BoundOutput, Call, GrantedResource, HandleCall, OpCall, ResourceRight, StepIdentity, StepRequest,
};
use opyard_model::value::ValueRef;

/// One run, as requests need to know it.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
}

/// What a step is given, bound to its values.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) inputs: Vec<BoundInput>,
    /// The key of the step's result, whether or not the memo is asked.
    pub(crate) key: MemoKey,
}

impl Whose {
    pub(crate) fn given(&self, state: &RunState, id: &InstanceId) -> Given {
        let (plan, step) = (state.plan(), state.plan().step(id.step));
        let inputs = state.bind(id);
        let key = memo_key(&self.tenant, plan, step, id.key.as_ref(), &inputs);
        Given { inputs, key }
    }

    /// The request that executes one try of a step.
    pub(crate) fn op_request(&self, plan: &Plan, id: &InstanceId, given: Given, attempt: u32) -> StepRequest {
        let step = plan.step(id.step);
        let seed = if step.hermetic { given.key } else { self.seed(plan, id, attempt) };
        StepRequest {
            tenant: self.tenant.clone(),
            step: Some(self.identity(plan, id, attempt)),
            limits: step.limits.clone(),
            call: Call::Op(Box::new(OpCall {
                component: step.component,
                op: step.op.clone(),
                config: step.config.clone(),
                mapping_key: id.key.clone(),
                inputs: given.inputs,
                outputs: step.outputs.iter().map(|output| bound_output(plan, output)).collect(),
                rights: step.grants.iter().map(|grant| right(plan, grant)).collect(),
                uses_execution: step.uses_execution,
                hermetic: step.hermetic,
                seed,
                tags: plan.tags.iter().chain(&step.tags).map(|(k, v)| (k.clone(), v.clone())).collect(),
            })),
        }
    }

    /// The request that hands a value found in the memo to an IO manager.
    pub(crate) fn handle_request(
        &self,
        plan: &Plan,
        id: &InstanceId,
        output: &StepOutput,
        value: ValueRef,
    ) -> StepRequest {
        StepRequest {
            tenant: self.tenant.clone(),
            step: Some(self.identity(plan, id, 0)),
            limits: plan.step(id.step).limits.clone(),
            call: Call::HandleOutput(Box::new(HandleCall { output: bound_output(plan, output), value })),
        }
    }

    fn identity(&self, plan: &Plan, id: &InstanceId, attempt: u32) -> StepIdentity {
        StepIdentity { job: plan.job.clone(), run: self.run, key: id.step_key(plan), attempt }
    }

    /// For a step that is not hermetic: differs between runs, steps and tries.
    fn seed(&self, plan: &Plan, id: &InstanceId, attempt: u32) -> Digest {
        let mut hasher = opyard_model::digest::FieldHasher::new("opyard seed 1");
        hasher
            .field(self.run.to_string().as_bytes())
            .field(id.step_key(plan).to_string().as_bytes())
            .field(&attempt.to_le_bytes());
        hasher.finish()
    }
}

/// The output and what keeps it. A manager that the plan does not name is the artifact store: planning checked names.
pub(crate) fn bound_output(plan: &Plan, output: &StepOutput) -> BoundOutput {
    let manager = plan.io_managers.get(&output.io_manager).cloned().unwrap_or(IoManagerSpec::Artifacts);
    BoundOutput { output: output.clone(), manager }
}

fn right(plan: &Plan, grant: &Grant) -> ResourceRight {
    let granted = grant.resource.as_ref().and_then(|name| {
        let spec = plan.resources.get(name)?.clone();
        let ResourceSpec::ObjectStore { access, .. } = &spec;
        let access = grant.access.min(*access);
        Some(GrantedResource { name: name.clone(), spec, access })
    });
    ResourceRight { key: grant.key.clone(), through: grant.through, granted }
}
