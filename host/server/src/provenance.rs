//! How a value came to be, in the words that others read: an in-toto statement with SLSA's provenance.

use opyard_model::error::Code;
use opyard_model::event::{Recorded, RunEvent};
use opyard_model::id::{RunId, StepKey};
use opyard_model::plan::{Plan, Source, Step, StepInput};
use opyard_model::state::{Provenance, StepState};
use opyard_model::step::{Bound, BoundInput};
use opyard_model::value::ValueRef;
use opyard_resources::oci::Sha256;
use serde_json::{Value, json};

use crate::error::YardError;
use crate::yard::{Found, Yard};

/// How much of an artifact is read at a time.
const CHUNK: usize = 1 << 20;

impl Yard {
    /// Says how an output of a run came to be: which component, from where, signed by whom, with which config, over which
    /// inputs. The artifact is read and compared with its digest on the way.
    ///
    /// # Errors
    /// When there is no such output, or its artifact is not what was recorded.
    pub async fn provenance(&self, run: RunId, output: &str) -> Result<Value, YardError> {
        let Found { step: key, output } = self.output(run, output).await?;
        let (plan, state) = self.state(run).await?;
        let id = state.locate(&key).ok_or_else(|| YardError::new(Code::Invariant, "an output without its step"))?;
        let step = plan.step(id.step);
        let events = self.events(run).await?;
        let sha256 = self.sha256(&output.value).await?;
        let from = state.instance(&id).and_then(|instance| match instance.state {
            StepState::Success { from, .. } => Some(from),
            _ => None,
        });
        // Of a result that was taken as it was, the inputs are those of the run that it is from.
        let inputs = if from == Some(Provenance::EarlierRun) { Vec::new() } else { state.bind(&id) };
        let mut materials = vec![component(&plan, step)];
        materials.extend(inputs.iter().flat_map(|input| of_input(&plan, step, input)));
        let history = History::of(&events, &key);
        Ok(json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{
                "name": format!("{run}/{key}.{}", output.port),
                "digest": { "sha256": sha256, "blake3": blake3(&output.value) },
                "annotations": about(&output.value),
            }],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "urn:opyard:step:1",
                    "externalParameters": {
                        "job": plan.job,
                        "environment": plan.environment,
                        "step": key,
                        "component": step.component_name,
                        "op": step.op,
                        "config": step.config,
                    },
                    "internalParameters": {
                        "hermetic": step.hermetic,
                        "result": from.map(how),
                        "origin": history.origin,
                        "inputs_known": from != Some(Provenance::EarlierRun),
                        "limits": step.limits,
                    },
                    "resolvedDependencies": materials,
                },
                "runDetails": {
                    "builder": {
                        "id": "urn:opyard:host",
                        "version": { "opyard": env!("CARGO_PKG_VERSION"), "wasmtime": opyard_sandbox::WASMTIME },
                    },
                    "metadata": {
                        "invocationId": run,
                        "startedOn": history.started,
                        "finishedOn": history.finished,
                    },
                },
            },
        }))
    }

    async fn sha256(&self, value: &ValueRef) -> Result<String, YardError> {
        let mut reader = self.open_value(value).await?;
        let (mut hasher, mut offset) = (Sha256::default(), 0);
        loop {
            let chunk = reader.read_at(offset, CHUNK).await?;
            if chunk.is_empty() {
                return Ok(hasher.hex());
            }
            offset += chunk.len() as u64;
            hasher.add(&chunk);
        }
    }
}

/// What the events of a run say of a step.
#[derive(Default)]
struct History {
    started: Option<String>,
    finished: Option<String>,
    /// The run that has the result, when it was not this one.
    origin: Option<RunId>,
}

impl History {
    fn of(events: &[Recorded], key: &StepKey) -> Self {
        let mut history = Self::default();
        for recorded in events.iter().filter(|recorded| recorded.event.step() == Some(key)) {
            match &recorded.event {
                RunEvent::StepStart { .. } => history.started = Some(recorded.at.to_string()),
                RunEvent::StepSuccess { .. } => history.finished = Some(recorded.at.to_string()),
                RunEvent::StepMemoized { origin, .. } | RunEvent::StepReused { origin, .. } => {
                    history.origin = Some(*origin);
                    history.finished = Some(recorded.at.to_string());
                }
                _ => {}
            }
        }
        history
    }
}

const fn how(from: Provenance) -> &'static str {
    match from {
        Provenance::Execution => "executed",
        Provenance::Memo => "memoized",
        Provenance::EarlierRun => "reused",
    }
}

/// The component, from where, and by whom it was signed.
fn component(plan: &Plan, step: &Step) -> Value {
    let digest = step.component.to_string();
    let mut material = json!({
        "name": "component",
        "digest": { "sha256": digest.trim_start_matches("sha256:") },
        "mediaType": "application/wasm",
    });
    if let Some(origin) = plan.origins.get(&step.component) {
        material["uri"] = json!(format!("oci:{}", origin.reference));
        material["annotations"] = json!({
            "manifest": origin.manifest,
            "version": origin.version,
            "signedBy": origin.signed_by,
        });
    }
    material
}

/// The values of an input, and what yielded them.
fn of_input(plan: &Plan, step: &Step, input: &BoundInput) -> Vec<Value> {
    let wired = step.inputs.iter().find(|wired| wired.port == input.port);
    let from = wired.map(|wired| source(plan, wired)).unwrap_or_default();
    let value = |value: &ValueRef| {
        let mut annotations = about(value);
        annotations["from"] = json!(from);
        json!({
            "name": format!("input:{}", input.port),
            "digest": { "blake3": blake3(value) },
            "mediaType": value.media_type,
            "annotations": annotations,
        })
    };
    if let Bound::Outside { value, fingerprint, .. } = &input.bound {
        // The value itself is in the event `loaded_input`.
        return vec![json!({
            "name": format!("input:{}", input.port),
            "annotations": { "manager": value.manager, "locator": value.locator, "fingerprint": fingerprint },
        })];
    }
    input.bound.values().iter().map(value).collect()
}

/// The outputs that an input is connected to.
fn source(plan: &Plan, input: &StepInput) -> Vec<String> {
    match &input.source {
        Source::Unconnected => Vec::new(),
        Source::Given { latest: Some(latest), .. } => vec![format!("{}/{}", latest.run, latest.step)],
        Source::Given { latest: None, .. } => vec!["definitions".to_owned()],
        Source::Outside { value } => vec![format!("io_manager:{}", value.manager)],
        Source::Output { slot } | Source::Item { slot } | Source::SameKey { slot } | Source::Collect { slot, .. } => {
            vec![format!("{}.{}", plan.step(slot.step).path, plan.output(*slot).port)]
        }
        Source::FanIn { slots } => {
            let names = slots.iter().map(|slot| format!("{}.{}", plan.step(slot.step).path, plan.output(*slot).port));
            names.collect()
        }
    }
}

fn blake3(value: &ValueRef) -> String {
    value.artifact.digest.to_string().trim_start_matches("b3:").to_owned()
}

/// What is known of a value beside its bytes.
fn about(value: &ValueRef) -> Value {
    json!({
        "type": value.type_name,
        "mediaType": value.media_type,
        "size": value.artifact.size,
        "item": value.mapping_key.text(),
        "identity": value.identity(),
    })
}
