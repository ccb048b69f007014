//! Executing a step of a run again, beside the run.

use opyard_model::id::RunId;
use opyard_model::state::{InstanceId, RunState};
use opyard_model::step::{Call, Said, Saying, StepOutcome};

use crate::drive::Engine;
use crate::request::Whose;

/// Nobody records what is said: it was recorded when the step ran.
struct Unheard;

impl Said for Unheard {
    fn say(&self, _: Saying) {}
}

impl Engine {
    /// Executes a step once more, with the very inputs, config, limits and seed that it had in `run`. Nothing of that becomes
    /// part of the run, the memo is neither asked nor told, and no IO manager keeps anything: outputs go to the artifact store
    /// of this engine's yard alone.
    ///
    /// Meant for hermetic steps whose inputs are artifacts; these have to be in that yard, and so has the component.
    pub async fn repeat(&self, run: RunId, state: &RunState, id: &InstanceId) -> StepOutcome {
        let whose = Whose { tenant: self.tenant.clone(), run, tags: std::sync::Arc::default() };
        let given = whose.given(state, id, None);
        let mut request = whose.op_request(state.plan(), id, given, 0);
        if let Call::Op(call) = &mut request.call {
            call.managers.clear();
        }
        self.executor.execute(request, &Unheard).await
    }
}
