//! Looking at runs and steps without driving them.

use std::sync::Arc;
use std::time::Duration;

use opyard_model::id::{RunId, TenantId};
use opyard_model::memo::{MemoKey, memo_key};
use opyard_model::plan::{Memo, Plan};
use opyard_model::state::{InstanceId, RunState};

use crate::drive::Engine;
use crate::error::EngineError;

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

/// What the memo would be asked about a step that is ready: its key, and how old a result may be (none = any age).
#[must_use]
pub fn memo_question(tenant: &TenantId, state: &RunState, id: &InstanceId) -> (MemoKey, Option<Duration>) {
    let plan = state.plan();
    let step = plan.step(id.step);
    let max_age = match step.memo {
        Memo::For(age) => Some(age),
        Memo::Off | Memo::Sound => None,
    };
    (memo_key(tenant, plan, step, &id.key, &state.bind(id)), max_age)
}
