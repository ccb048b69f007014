//! Plans that somebody in this process holds already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use opyard_model::digest::Digest;
use opyard_model::plan::Plan;

/// Plans by the digest of their JSON: whoever launches a run and drives it does not hold its plan twice, nor read it again.
/// A plan is here for as long as somebody holds it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plans(Arc<Mutex<HashMap<Digest, Weak<Plan>>>>);

impl Plans {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Plan>>> {
        // What is under it is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `plan` has this digest.
    pub(crate) fn note(&self, digest: Digest, plan: &Arc<Plan>) {
        let mut plans = self.lock();
        plans.retain(|_, plan| plan.strong_count() > 0);
        plans.insert(digest, Arc::downgrade(plan));
    }

    /// The plan of that digest, if somebody holds it.
    pub(crate) fn find(&self, digest: Digest) -> Option<Arc<Plan>> {
        self.lock().get(&digest).and_then(Weak::upgrade)
    }
}
