//! Looking at runs and steps without driving them.

use std::sync::Arc;
use std::time::Duration;

use opyard_model::id::{Name, RunId};
use opyard_model::memo::MemoKey;
use opyard_model::plan::{Memo, Plan, Source};
use opyard_model::state::{InstanceId, RunState};

use crate::drive::Engine;
use crate::error::EngineError;
use crate::lookup::fingerprints;
use crate::request::Whose;

impl Engine {
    /// Folds the durable events of a run, whoever drives it.
    ///
    /// # Errors
    /// When there is no such run, the store does not answer, or the events make no sense.
    pub async fn look_at(&self, run: RunId) -> Result<(Arc<Plan>, RunState), EngineError> {
        let plan = self.plan_of(run).await?;
        let state = self.fold(run, &plan).await?;
        Ok((plan, state))
    }
}

/// What the memo would be asked about a step that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoQuestion {
    /// This.
    Ask {
        /// The key.
        key: MemoKey,
        /// How old a result may be; none = any age.
        max_age: Option<Duration>,
    },
    /// Nothing: an input is outside, and its IO manager cannot tell whether it has changed.
    Unproven {
        /// The key of no result, for the event.
        key: MemoKey,
        /// The input.
        input: Name,
        /// The IO manager.
        manager: Name,
    },
}

impl Engine {
    /// What the memo would be asked about a step of `run` that is ready. IO managers of inputs from outside are asked for
    /// fingerprints; nothing else runs.
    pub async fn memo_question(&self, run: RunId, state: &RunState, id: &InstanceId) -> MemoQuestion {
        let (plan, step) = (state.plan(), state.plan().step(id.step));
        let whose = Whose { tenant: self.tenant.clone(), run, tags: Arc::default() };
        let told = fingerprints(&*self.executor, &whose, plan, id).await;
        let key = whose.given(state, id, Some(&told)).key;
        let unproven = step.inputs.iter().find_map(|input| match &input.source {
            Source::Outside { value } if told.get(&input.port).is_none_or(Option::is_none) => {
                Some((input.port.clone(), value.manager.clone()))
            }
            _ => None,
        });
        match unproven {
            Some((input, manager)) => MemoQuestion::Unproven { key, input, manager },
            None => {
                let max_age = match step.memo {
                    Memo::For(age) => Some(age),
                    Memo::Off | Memo::Sound => None,
                };
                MemoQuestion::Ask { key, max_age }
            }
        }
    }
}
