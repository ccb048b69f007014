//! From a step of the plan, and what it is given, to the request that its executor gets.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use opyard_model::component::TypeName;
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::hook::{HookAction, Occasion};
use opyard_model::id::{ItemKey, Name, RunId, TenantId};
use opyard_model::limits::Limits;
use opyard_model::memo::{MemoKey, check_key, memo_key};
use opyard_model::plan::{Grant, IoManagerSpec, Plan, Source, Step, StepOutput, TypeCheck};
use opyard_model::state::{HookId, InstanceId, RunState};
use opyard_model::step::{
    BoundInput, BoundOutput, Call, CheckCall, GrantedResource, HandleCall, HookCall, OpCall, ResourceRight,
    StepIdentity, StepRequest,
};
use opyard_model::value::{ValueRef, Yielded};

/// One run, as requests need to know it.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    /// Tags of the run, those of its plan included.
    pub(crate) tags: Arc<BTreeMap<String, String>>,
}

/// The call of the op of a step that is mapped over nothing, for a run without tags.
#[must_use]
pub fn op_call(plan: &Plan, step: &Step, inputs: Vec<BoundInput>, seed: Digest) -> OpCall {
    OpCall {
        component: step.component,
        op: step.op.clone(),
        config: step.config.clone(),
        inputs,
        unchecked: unchecked(plan, step).cloned().collect(),
        types: types(plan, step),
        outputs: step.outputs.iter().map(|output| bound_output(plan, output)).collect(),
        rights: step.grants.iter().map(|grant| right(plan, grant)).collect(),
        uses_execution: step.uses_execution,
        hermetic: step.hermetic,
        seed,
        tags: Vec::new(),
    }
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
        let key = memo_key(&self.tenant, plan, step, &id.key, &inputs);
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
            call: Call::Op(Box::new(OpCall { tags: self.tags(step), ..op_call(plan, step, given.inputs, seed) })),
        }
    }

    /// The request that checks the values of an output that was found in the memo.
    pub(crate) fn check_request(&self, plan: &Plan, id: &InstanceId, call: CheckCall) -> StepRequest {
        StepRequest {
            tenant: self.tenant.clone(),
            step: Some(self.identity(plan, id, 0)),
            limits: plan.step(id.step).limits.clone(),
            call: Call::CheckType(Box::new(call)),
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

    /// The request that tells a hook what it has to be told; none when it has nothing.
    pub(crate) fn hook_request(&self, state: &RunState, hook: &HookId) -> Option<StepRequest> {
        let (plan, told) = (state.plan(), state.told(hook)?);
        let (of, _) = state.hook_name(hook)?;
        let step = plan.step(hook.id.step);
        let action = plan.hook(hook.hook)?.action.clone();
        let (rights, limits) = match &action {
            // It runs no guest: time alone is bounded here, bytes are by the client.
            HookAction::Webhook(webhook) => (Vec::new(), Limits { wall: webhook.timeout, ..Limits::default() }),
            HookAction::Component(component) => {
                let rights = component.grants.iter().map(|grant| right(plan, grant)).collect();
                (rights, component.limits.clone())
            }
        };
        let occasion = Occasion {
            job: plan.job.clone(),
            run: self.run,
            environment: plan.environment.clone(),
            op: format!("{}.{}", step.component_name, step.op),
            outcome: told.outcome,
            failure: told.failure.clone(),
            idempotency_key: Occasion::key(self.run, &of, hook.hook),
            of,
        };
        Some(StepRequest {
            tenant: self.tenant.clone(),
            step: Some(self.identity(plan, &hook.id, hook.attempt)),
            call: Call::Hook(Box::new(HookCall { action, rights, occasion })),
            limits,
        })
    }

    /// Tags of run and step; where both have one, the step's.
    fn tags(&self, step: &Step) -> Vec<(String, String)> {
        let mut tags = BTreeMap::clone(&self.tags);
        tags.extend(step.tags.iter().map(|(k, v)| (k.clone(), v.clone())));
        tags.into_iter().collect()
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

/// The inputs whose values are in the plan, and of a type that has a check: no step has yielded them.
fn unchecked<'a>(plan: &'a Plan, step: &'a Step) -> impl Iterator<Item = &'a Name> {
    let given = step.inputs.iter().filter(|input| match &input.source {
        Source::Given { value, .. } => plan.types.contains_key(&value.type_name),
        Source::Unconnected
        | Source::Output { .. }
        | Source::Item { .. }
        | Source::SameKey { .. }
        | Source::FanIn { .. }
        | Source::Collect { .. } => false,
    });
    given.map(|input| &input.port)
}

/// The checks that a step needs to know.
fn types(plan: &Plan, step: &Step) -> BTreeMap<TypeName, TypeCheck> {
    if plan.types.is_empty() {
        return BTreeMap::new();
    }
    let given = step.inputs.iter().filter_map(|input| match &input.source {
        Source::Given { value, .. } => Some(&value.type_name),
        _ => None,
    });
    let names = given.chain(step.outputs.iter().map(|output| &output.type_name));
    names.filter_map(|name| Some((name.clone(), plan.types.get(name)?.clone()))).collect()
}

/// What was yielded on an output whose type has a check.
pub(crate) struct Typed<'a> {
    pub(crate) port: &'a Name,
    pub(crate) check: &'a TypeCheck,
    pub(crate) values: Vec<&'a ValueRef>,
}

impl Typed<'_> {
    /// Names the fact that the values have passed.
    pub(crate) fn key(&self, tenant: &TenantId) -> MemoKey {
        check_key(tenant, self.check, self.values.iter().copied())
    }
}

/// Of what a step yielded, that which is of types that have a check.
pub(crate) fn typed<'a>(plan: &'a Plan, step: &'a Step, outputs: &'a [Yielded]) -> impl Iterator<Item = Typed<'a>> {
    let checked = step.outputs.iter().filter_map(|output| Some((&output.port, plan.types.get(&output.type_name)?)));
    checked.filter_map(|(port, check)| {
        let values: Vec<_> = outputs.iter().filter(|one| one.port == *port).map(|one| &one.value).collect();
        (!values.is_empty()).then_some(Typed { port, check, values })
    })
}

/// The step has no effect outside, and reads nothing from there: it may run before what it builds on is on disk.
pub(crate) fn is_contained(plan: &Plan, step: &Step) -> bool {
    let artifacts = |slot| {
        let manager = plan.io_managers.get(&plan.output(slot).io_manager);
        matches!(manager, Some(IoManagerSpec::Artifacts) | None)
    };
    step.hermetic && step.keeps_artifacts_only(plan) && step.sources().all(artifacts)
}

/// The output and what keeps it. A manager that the plan does not name is the artifact store: planning checked names.
pub(crate) fn bound_output(plan: &Plan, output: &StepOutput) -> BoundOutput {
    let manager = plan.io_managers.get(&output.io_manager).cloned().unwrap_or(IoManagerSpec::Artifacts);
    BoundOutput { output: output.clone(), manager }
}

/// Checks that `outputs` are outputs of the step for `item`, each once. An executor or a memo that answers otherwise is broken, or of
/// another version.
pub(crate) fn check_outputs(step: &Step, item: &ItemKey, outputs: &[Yielded]) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    for one in outputs {
        let port = step.outputs.iter().find(|output| output.port == one.port);
        let fits = port.is_some_and(|port| {
            let key = one.value.item_of(item).filter(|_| port.dynamic);
            key.is_some() == port.dynamic && seen.insert((&one.port, key))
        });
        if !fits {
            return Err(Failure::new(Code::Invariant, format!("the executor answered with the output '{}'", one.port)));
        }
    }
    Ok(())
}

fn right(plan: &Plan, grant: &Grant) -> ResourceRight {
    let granted = grant.resource.as_ref().and_then(|name| {
        let spec = plan.granted(grant)?;
        let access = grant.access.min(spec.access());
        Some(GrantedResource { name: name.clone(), spec, access })
    });
    ResourceRight { key: grant.key.clone(), through: grant.through, granted }
}
