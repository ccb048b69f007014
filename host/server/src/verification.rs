//! Executing what a run did once more, and comparing every digest.

use std::collections::BTreeMap;

use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure};
use opyard_model::id::{ItemKey, Name, RunId, StepKey};
use opyard_model::plan::{Plan, Step, TypeCheck};
use opyard_model::state::{InstanceId, Provenance, RunState, StepState};
use opyard_model::step::{Bound, StepResult};
use opyard_model::value::{ArtifactRef, Yielded};
use serde::Serialize;

use crate::error::YardError;
use crate::yard::Yard;

/// How much of an artifact is copied at a time.
const CHUNK: usize = 1 << 20;

/// Why a step was not executed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unverified {
    /// It has not succeeded.
    NoSuccess,
    /// It can depend on more than its inputs: another answer would prove nothing.
    NotHermetic,
    /// An IO manager loads an input when it starts.
    ReadsOutside,
    /// The run took its result from an earlier one, which is the one to be verified.
    EarlierRun,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Every output is what was recorded.
    Same {
        /// How many values.
        outputs: usize,
    },
    /// Some are not, or are missing.
    Different {
        /// Each that differs, with what was recorded and what came now.
        outputs: Vec<Difference>,
    },
    /// It did not succeed this time.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It was not executed.
    Unverified {
        /// Why.
        why: Unverified,
    },
}

/// An output that is not what was recorded: identities of values, all that a reader can tell of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The port.
    pub output: Name,
    /// Which item.
    #[serde(skip_serializing_if = "ItemKey::is_no_item")]
    pub item: ItemKey,
    /// What was recorded.
    pub recorded: Option<Digest>,
    /// What came now.
    pub now: Option<Digest>,
}

/// A step of a run, verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifiedStep {
    /// The step.
    pub step: StepKey,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Verdict {
    /// The record does not stand.
    #[must_use]
    pub const fn is_wrong(&self) -> bool {
        match self {
            Self::Different { .. } | Self::Failed { .. } => true,
            Self::Same { .. } | Self::Unverified { .. } => false,
        }
    }
}

impl Yard {
    /// Executes the hermetic steps of a run once more, each with the inputs that are recorded, in the yard `at` (this one, or
    /// another of the same tenant), and compares what they yield. Of `at`, only artifacts and components are touched.
    ///
    /// # Errors
    /// When there is no such run, it has not ended, or a recorded artifact or component cannot be read.
    pub async fn verify(&self, run: RunId, at: &Yard) -> Result<Vec<VerifiedStep>, YardError> {
        let summary = self.summary(run).await?;
        if !summary.status.is_final() {
            let text = format!("{run} has not ended: it is {}", summary.status.name());
            return Err(YardError::new(Code::BadCall, text));
        }
        let (plan, state) = self.state(run).await?;
        let mut verified = Vec::new();
        for (id, instance) in state.instances() {
            let step = plan.step(id.step);
            let verdict = match unverified(&state, &id, step) {
                Some(why) => Verdict::Unverified { why },
                None => {
                    self.lend(&plan, &state, &id, at).await?;
                    let outcome = at.engine().repeat(run, &state, &id).await;
                    verdict(&instance.yielded(&step.outputs), outcome.result)
                }
            };
            verified.push(VerifiedStep { step: id.step_key(&plan), verdict });
        }
        Ok(verified)
    }

    /// Makes sure that another yard has what a step needs. Everything is checked against its digest on the way.
    async fn lend(&self, plan: &Plan, state: &RunState, id: &InstanceId, to: &Yard) -> Result<(), YardError> {
        if self.folder() == to.folder() {
            return Ok(());
        }
        let step = plan.step(id.step);
        let checkers = step.outputs.iter().filter_map(|output| match plan.types.get(&output.type_name)? {
            TypeCheck::Checker { component, .. } => Some(*component),
            TypeCheck::Schema { .. } => None,
        });
        for component in std::iter::once(step.component).chain(checkers) {
            let bytes = self.components().verified(component).await.ok_or_else(|| {
                let text = format!("the component {component} is not kept in {}", self.folder().display());
                YardError::new(Code::ComponentUnreadable, text)
            })?;
            to.components().keep(component, &bytes)?;
        }
        for input in state.bind(id) {
            for value in input.bound.values() {
                self.copy(value.artifact, to).await?;
            }
        }
        Ok(())
    }

    async fn copy(&self, artifact: ArtifactRef, to: &Yard) -> Result<(), YardError> {
        if to.artifact_size(artifact.digest).await?.is_some() {
            return Ok(());
        }
        let mut from = self.tenant_store().artifacts().get(artifact.digest).await?;
        let mut writer = to.tenant_store().artifacts().begin().await?;
        let mut offset = 0;
        loop {
            let chunk = from.read_at(offset, CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            offset += chunk.len() as u64;
            writer.write(chunk).await?;
        }
        writer.finish().await?.durable.wait().await?;
        Ok(())
    }
}

fn unverified(state: &RunState, id: &InstanceId, step: &Step) -> Option<Unverified> {
    match state.instance(id).map(|instance| &instance.state) {
        Some(StepState::Success { from: Provenance::EarlierRun, .. }) => Some(Unverified::EarlierRun),
        Some(StepState::Success { .. }) if !step.hermetic => Some(Unverified::NotHermetic),
        Some(StepState::Success { .. }) => {
            let outside = state.bind(id).iter().any(|input| matches!(input.bound, Bound::Outside { .. }));
            outside.then_some(Unverified::ReadsOutside)
        }
        Some(_) | None => Some(Unverified::NoSuccess),
    }
}

/// Compares what was recorded with what came now.
fn verdict(recorded: &[Yielded], result: StepResult) -> Verdict {
    let now = match result {
        StepResult::Success { outputs, .. } => outputs,
        StepResult::Failure(failure) => return Verdict::Failed { failure },
        StepResult::Retry { description, .. } => {
            let failure = Failure::new(Code::RetryPointless, format!("it asks for another try: {description}"));
            return Verdict::Failed { failure };
        }
        StepResult::Described(_)
        | StepResult::Checked(_)
        | StepResult::Handled { .. }
        | StepResult::Fingerprint(_)
        | StepResult::Forgotten
        | StepResult::Hooked => {
            let failure = Failure::new(Code::Invariant, "the sandbox answered another question than it was asked");
            return Verdict::Failed { failure };
        }
    };
    let by_place = |outputs: &[Yielded]| -> BTreeMap<(Name, ItemKey), Digest> {
        let places =
            outputs.iter().map(|one| ((one.port.clone(), one.value.mapping_key.clone()), one.value.identity()));
        places.collect()
    };
    let (mut then, now) = (by_place(recorded), by_place(&now));
    let mut outputs = Vec::new();
    let count = now.len();
    for ((output, item), now) in now {
        let recorded = then.remove(&(output.clone(), item.clone()));
        if recorded != Some(now) {
            outputs.push(Difference { output, item, recorded, now: Some(now) });
        }
    }
    let gone = then.into_iter();
    outputs.extend(gone.map(|((output, item), was)| Difference { output, item, recorded: Some(was), now: None }));
    if outputs.is_empty() { Verdict::Same { outputs: count } } else { Verdict::Different { outputs } }
}

#[cfg(test)]
mod tests {
    use opyard_model::id::MediaType;
    use opyard_model::value::ValueRef;

    use super::*;

    fn yielded(port: &str, bytes: &[u8], item: &str) -> Yielded {
        let media_type = MediaType::new("text/plain").unwrap();
        let mut value = ValueRef::plain(ArtifactRef::of(bytes), Name::new("text").unwrap(), media_type);
        if !item.is_empty() {
            value.mapping_key = item.parse().unwrap();
        }
        Yielded { port: Name::new(port).unwrap(), value }
    }

    /// Other bytes, other items, more, less: each is told, and told as what it is.
    #[test]
    fn whatever_differs_is_told() {
        let recorded = [yielded("a", b"1", ""), yielded("items", b"2", "x"), yielded("items", b"3", "y")];
        let against = |outputs: Vec<Yielded>| verdict(&recorded, StepResult::Success { outputs, memoisable: true });
        let mut turned = recorded.to_vec();
        turned.reverse();
        assert_eq!(against(turned), Verdict::Same { outputs: 3 });
        let differing = |outputs: Vec<Yielded>| match against(outputs) {
            Verdict::Different { outputs } => outputs
                .into_iter()
                .map(|one| (one.output.to_string(), one.item.to_string(), one.recorded.is_some(), one.now.is_some()))
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let place = |port: &str, item: &str, then, now| (port.to_owned(), item.to_owned(), then, now);
        let [a, x, y] = recorded.clone();
        let none = ItemKey::default().to_string();
        let altered = yielded("a", b"4", "");
        assert_eq!(differing(vec![altered, x.clone(), y.clone()]), [place("a", &none, true, true)]);
        assert_eq!(differing(vec![a.clone(), x.clone()]), [place("items", "y", true, false)]);
        let (more, moved) = (yielded("items", b"3", "z"), yielded("b", b"1", ""));
        assert_eq!(differing(vec![a, x.clone(), y.clone(), more]), [place("items", "z", false, true)]);
        assert_eq!(differing(vec![moved, x, y]), [place("b", &none, false, true), place("a", &none, true, false)]);
        assert!(verdict(&[], StepResult::Failure(Failure::new(Code::Trapped, "x"))).is_wrong());
    }
}
