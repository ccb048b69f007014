//! Which run computes which memo key, in this process.

use std::collections::HashMap;
use std::time::Duration;

use opyard_model::id::{RunId, TenantId};
use opyard_model::memo::MemoKey;
use opyard_model::time::Timestamp;

/// How long to wait before asking again for a key whose result is on its way to the disk.
const SOON: Duration = Duration::from_millis(2);
/// Longest wait before asking again: the holder may be done before its lease ends.
const RETRY: Duration = Duration::from_millis(200);

struct Claim {
    holder: RunId,
    until: Timestamp,
    /// The result is accepted, and not yet committed.
    recorded: bool,
}

/// What came of asking for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It was free and is the asker's now.
    Taken,
    /// It was the asker's already.
    Renewed,
    /// It is someone else's; ask again after so long.
    Busy(Duration),
}

/// The claims of this process.
#[derive(Default)]
pub(crate) struct Claims(HashMap<(TenantId, MemoKey), Claim>);

/// The wait of someone who found a claim that lasts `until`.
pub(crate) fn wait_for(until: Timestamp, now: Timestamp) -> Duration {
    until.since(now).clamp(SOON, RETRY)
}

impl Claims {
    /// Claims a key for `holder`.
    pub(crate) fn ask(
        &mut self,
        tenant: &TenantId,
        key: MemoKey,
        holder: RunId,
        (now, until): (Timestamp, Timestamp),
    ) -> Asked {
        let slot = self.0.entry((tenant.clone(), key));
        match slot {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Claim { holder, until, recorded: false });
                Asked::Taken
            }
            std::collections::hash_map::Entry::Occupied(mut occupied) => {
                let claim = occupied.get_mut();
                if claim.recorded {
                    Asked::Busy(SOON)
                } else if claim.holder == holder {
                    claim.until = until;
                    Asked::Renewed
                } else if claim.until > now {
                    Asked::Busy(wait_for(claim.until, now))
                } else {
                    *claim = Claim { holder, until, recorded: false };
                    Asked::Taken
                }
            }
        }
    }

    /// The result is accepted: nobody else may claim the key until that is committed.
    pub(crate) fn recorded(&mut self, tenant: &TenantId, key: MemoKey, holder: RunId) {
        let until = Timestamp::from_micros(i64::MAX);
        self.0.insert((tenant.clone(), key), Claim { holder, until, recorded: true });
    }

    /// The result is committed, or lost.
    pub(crate) fn settle(&mut self, tenant: &TenantId, key: MemoKey) {
        self.0.remove(&(tenant.clone(), key));
    }

    /// Lets a key go, if it is `holder`'s and there is no result on its way. True if it was.
    pub(crate) fn release(&mut self, tenant: &TenantId, key: MemoKey, holder: RunId) -> bool {
        let slot = (tenant.clone(), key);
        let held = self.0.get(&slot).is_some_and(|claim| claim.holder == holder && !claim.recorded);
        if held {
            self.0.remove(&slot);
        }
        held
    }
}
