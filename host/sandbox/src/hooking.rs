//! Hooks: a request that is sent, or a guest in an instance of its own that is told what became of a step.

use std::sync::Arc;
use std::time::Instant;

use opyard_model::error::Failure;
use opyard_model::hook::{ComponentHook, HookAction, Occasion, Outcome};
use opyard_model::limits::{Limits, Usage};
use opyard_model::step::{HookCall, ResourceRight, Said, StepOutcome, StepResult};

use crate::bindings::hooking::exports::opyard::op::hooks as guest;
use crate::executor::another_answer;
use crate::gate::{Doors, Events};
use crate::host::wasi::World;
use crate::metadata;
use crate::output::Keeper;
use crate::state::{HookState, Work};
use crate::visit::{Allowed, Came, Errand, Visit, too_slow};

/// The occasion in the contract's words.
pub(crate) fn theirs(occasion: &Occasion) -> guest::Occasion {
    let failure = occasion.failure.as_ref();
    guest::Occasion {
        job: occasion.job.to_string(),
        run_id: occasion.run.to_string(),
        environment: occasion.environment.as_ref().map(ToString::to_string),
        step_key: occasion.of.step.to_string(),
        op: occasion.op.clone(),
        outcome: match occasion.outcome {
            Outcome::Success => guest::Outcome::Success,
            Outcome::Failure => guest::Outcome::Failure,
            Outcome::Retry => guest::Outcome::Retry,
        },
        attempt: occasion.of.attempt,
        code: failure.map(|failure| failure.code.to_string()),
        description: failure.map(|failure| failure.description.clone()),
        metadata: failure.into_iter().flat_map(|failure| failure.metadata.iter().map(metadata::give)).collect(),
        idempotency_key: occasion.idempotency_text(),
        attributes: Vec::new(),
    }
}

impl Keeper {
    /// Tells a hook something, within the wall limit of `limits`.
    ///
    /// # Errors
    /// Why it could not be told.
    pub(crate) async fn tell(self, call: HookCall, limits: Limits, said: &dyn Said) -> Result<StepOutcome, Failure> {
        let HookCall { action, rights, occasion } = call;
        match action {
            HookAction::Webhook(webhook) => {
                let start = Instant::now();
                let sent = self.inside.resources.webhook(&self.tenant, &webhook, &occasion);
                let sent = tokio::time::timeout(limits.wall, sent).await.unwrap_or_else(|_| Err(too_slow(limits.wall)));
                let result = sent.map_or_else(StepResult::Failure, |()| StepResult::Hooked);
                Ok(StepOutcome { result, usage: Usage { wall: start.elapsed(), ..Usage::default() } })
            }
            HookAction::Component(hook) => self.ask_hook(*hook, (rights, occasion), limits, said).await,
        }
    }

    async fn ask_hook(
        self,
        hook: ComponentHook,
        (rights, occasion): (Vec<ResourceRight>, Occasion),
        limits: Limits,
        said: &dyn Said,
    ) -> Result<StepOutcome, Failure> {
        let inside = Arc::clone(&self.inside);
        let (inside, source) = (&*inside, &*self.inside.surroundings.components);
        let loaded = inside.components.get(&self.tenant, hook.component, source).await?;
        let allowed = Allowed::new(Doors::NONE.and::<Events>(), &rights);
        let name = format!("{}.{}", hook.component_name, hook.hook);
        let (config, hook) = (hook.config.as_str().to_owned(), hook.hook.to_string());
        // It has effects outside: the real clock and the system's randomness.
        let world = World::real(Arc::clone(&inside.surroundings.clock));
        let errand = Errand::Hook { hook, config, occasion: Box::new(occasion) };
        let work = Work::Hook(Box::new(HookState { name, rights, keeper: self.clone() }));
        let visit = Visit::new((inside, &inside.slots), work, allowed, world, limits);
        let (came, usage) = visit.run(&loaded, errand, said).await;
        let result = match came {
            Ok(Came::Hooked) => StepResult::Hooked,
            Ok(Came::Op(_) | Came::Described(_) | Came::Checked(_)) => StepResult::Failure(another_answer()),
            Err(failure) => StepResult::Failure(failure),
        };
        Ok(StepOutcome { result, usage })
    }
}
