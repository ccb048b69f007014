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
use opyard_model::plan::{Grant, IoManagerSpec, OutsideValue, Plan, Source, Step, StepOutput, TypeCheck};
use opyard_model::state::{HookId, InstanceId, RunState};
use opyard_model::step::{
    Bound, BoundInput, BoundManager, Call, CheckCall, GrantedResource, HandleCall, HookCall, KeptCall, OpCall,
    ResourceRight, StepIdentity, StepRequest,
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
        config: step.config.clone(),
        managers: managers(plan, step, &inputs),
        inputs,
        unchecked: unchecked(plan, step).cloned().collect(),
        types: types(plan, step),
        outputs: Arc::clone(&step.outputs),
        rights: step.grants.iter().map(|grant| right(plan, grant)).collect(),
        uses_execution: step.uses_execution,
        hermetic: step.hermetic,
        seed,
        ..OpCall::new(step.component, step.op.clone())
    }
}

/// What a step is given, bound to its values.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) inputs: Vec<BoundInput>,
    /// The key of the step's result, whether or not the memo is asked.
    pub(crate) key: MemoKey,
    /// Of every input that is outside it is known what tells whether it has changed: the key is that of a result.
    pub(crate) is_proven: bool,
}

/// What IO managers said that tells whether a step's inputs from outside have changed, by input.
pub(crate) type Fingerprints = BTreeMap<Name, Option<String>>;

impl Whose {
    /// `told`: what is known of its inputs from outside.
    pub(crate) fn given(&self, state: &RunState, id: &InstanceId, told: Option<&Fingerprints>) -> Given {
        let (plan, step) = (state.plan(), state.plan().step(id.step));
        let mut inputs = state.bind(id);
        let mut is_proven = true;
        for BoundInput { port, bound } in &mut inputs {
            if let Bound::Outside { fingerprint, .. } = bound {
                *fingerprint = told.and_then(|told| told.get(port).cloned().flatten());
                is_proven &= fingerprint.is_some();
            }
        }
        let key = memo_key(&self.tenant, plan, step, &id.key, &inputs);
        Given { inputs, key, is_proven }
    }

    /// The request that executes one try of a step.
    pub(crate) fn op_request(&self, plan: &Plan, id: &InstanceId, given: Given, attempt: u32) -> StepRequest {
        let step = plan.step(id.step);
        let seed = if step.hermetic { given.key } else { self.seed(plan, id, attempt) };
        StepRequest {
            tenant: self.tenant.clone(),
            step: Some(self.identity(plan, id, attempt)),
            limits: Limits::clone(&step.limits),
            call: Call::Op(Box::new(OpCall { tags: self.tags(step), ..op_call(plan, step, given.inputs, seed) })),
        }
    }

    /// The request that checks the values of an output that was found in the memo.
    pub(crate) fn check_request(&self, plan: &Plan, id: &InstanceId, call: CheckCall) -> StepRequest {
        StepRequest {
            tenant: self.tenant.clone(),
            step: Some(self.identity(plan, id, 0)),
            limits: Limits::clone(&plan.step(id.step).limits),
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
            limits: Limits::clone(&plan.step(id.step).limits),
            call: Call::HandleOutput(Box::new(HandleCall {
                output: output.clone(),
                manager: bound_manager(plan, &output.io_manager),
                value,
            })),
        }
    }

    /// The request that asks an IO manager whether what a step is to be given has changed.
    pub(crate) fn fingerprint_request(&self, plan: &Plan, id: &InstanceId, value: &OutsideValue) -> StepRequest {
        StepRequest {
            tenant: self.tenant.clone(),
            step: Some(self.identity(plan, id, 0)),
            limits: Limits::clone(&plan.step(id.step).limits),
            call: Call::Fingerprint(Box::new(KeptCall {
                name: value.manager.clone(),
                manager: bound_manager(plan, &value.manager),
                locator: value.locator.clone(),
            })),
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

/// The inputs whose values are in the plan, or outside, and of a type that has a check: no step has yielded them.
fn unchecked<'a>(plan: &'a Plan, step: &'a Step) -> impl Iterator<Item = &'a Name> {
    let given = step.inputs.iter().filter(|input| match &input.source {
        Source::Given { value, .. } => plan.types.contains_key(&value.type_name),
        Source::Outside { value } => plan.types.contains_key(&value.type_name),
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
        Source::Outside { value } => Some(&value.type_name),
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
    let artifacts = |slot| is_on_artifacts(plan, plan.output(slot));
    step.hermetic && step.keeps_artifacts_only(plan) && step.outside().next().is_none() && step.sources().all(artifacts)
}

/// An IO manager and what it may use. One that the plan does not name is the artifact store: planning checked names.
fn bound_manager(plan: &Plan, name: &Name) -> BoundManager {
    let spec = plan.io_managers.get(name).cloned().unwrap_or(IoManagerSpec::Artifacts);
    let rights = spec.grants().iter().map(|grant| right(plan, grant)).collect();
    BoundManager { spec, rights }
}

/// The output is kept by the artifact store alone.
pub(crate) fn is_on_artifacts(plan: &Plan, output: &StepOutput) -> bool {
    matches!(plan.io_managers.get(&output.io_manager), Some(IoManagerSpec::Artifacts) | None)
}

/// The IO managers that a step needs: of its outputs, of what its inputs are loaded from, and of copies of its inputs, in case
/// their artifacts are gone.
fn managers(plan: &Plan, step: &Step, inputs: &[BoundInput]) -> BTreeMap<Name, BoundManager> {
    let is_another = |name: &&Name| !matches!(plan.io_managers.get(*name), Some(IoManagerSpec::Artifacts) | None);
    let of_outputs = step.outputs.iter().map(|output| &output.io_manager);
    let of_inputs = inputs.iter().flat_map(|input| {
        let outside = match &input.bound {
            Bound::Outside { value, .. } => Some(&value.manager),
            Bound::Absent | Bound::One(_) | Bound::Many(_) => None,
        };
        let copies = input.bound.values().iter().filter_map(|value| Some(&value.kept.as_ref()?.manager));
        outside.into_iter().chain(copies)
    });
    let names = of_outputs.chain(of_inputs).filter(is_another);
    names.map(|name| (name.clone(), bound_manager(plan, name))).collect()
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
