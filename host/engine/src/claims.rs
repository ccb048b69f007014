//! Which results this run computes or asks for, and who waits for them.

use std::collections::{HashMap, HashSet};

use opyard_model::memo::MemoKey;
use opyard_model::state::InstanceId;

/// Keys that steps of this run hold. Of two steps that are the same, one computes and the other waits for its result.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    holders: HashMap<MemoKey, InstanceId>,
    held: HashMap<InstanceId, MemoKey>,
    parked: HashMap<MemoKey, Vec<InstanceId>>,
    /// Keys that the memo store has given to this run: it answered that it has nothing.
    granted: HashSet<MemoKey>,
}

impl Claims {
    /// Gives the key to the step, or parks the step when another holds it. True when it has it.
    pub(crate) fn claim_or_park(&mut self, key: MemoKey, id: InstanceId) -> bool {
        if self.holders.contains_key(&key) {
            self.parked.entry(key).or_default().push(id);
            return false;
        }
        self.held.insert(id.clone(), key);
        self.holders.insert(key, id);
        true
    }

    /// Gives the key to the step if nobody holds it.
    pub(crate) fn claim_if_free(&mut self, key: MemoKey, id: &InstanceId) {
        if !self.holders.contains_key(&key) && !self.held.contains_key(id) {
            self.held.insert(id.clone(), key);
            self.holders.insert(key, id.clone());
        }
    }

    /// Somebody holds the key.
    pub(crate) fn is_held(&self, key: &MemoKey) -> bool {
        self.holders.contains_key(key)
    }

    /// The key that a step holds.
    pub(crate) fn held_by(&self, id: &InstanceId) -> Option<MemoKey> {
        self.held.get(id).copied()
    }

    /// All keys that are held.
    pub(crate) fn keys(&self) -> Vec<MemoKey> {
        self.holders.keys().copied().collect()
    }

    /// The memo store has given a key that is held to this run.
    pub(crate) fn grant(&mut self, key: MemoKey) {
        if self.holders.contains_key(&key) {
            self.granted.insert(key);
        }
    }

    /// The keys that the memo store has given to this run, and whose lease is to be renewed. Never one that is only being
    /// asked for: asking for a fresh result would throw away the one that is there.
    pub(crate) fn granted(&self) -> Vec<MemoKey> {
        self.granted.iter().copied().collect()
    }

    /// The memo store has given this run nothing.
    pub(crate) fn none_granted(&self) -> bool {
        self.granted.is_empty()
    }

    /// Frees a key. Returns the steps that waited for it.
    pub(crate) fn free(&mut self, key: &MemoKey) -> Vec<InstanceId> {
        self.granted.remove(key);
        if let Some(holder) = self.holders.remove(key) {
            self.held.remove(&holder);
        }
        self.parked.remove(key).unwrap_or_default()
    }

    /// A step that waited does not any more.
    pub(crate) fn unpark(&mut self, id: &InstanceId) {
        for waiting in self.parked.values_mut() {
            waiting.retain(|other| other != id);
        }
    }
}
