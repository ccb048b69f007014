//! Small values in memory: those on their way to the disk, and the ones used last.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::id::TenantId;

use crate::event_log::Durable;

type Key = (TenantId, Digest);

/// What a kept value costs beside its bytes.
const OVERHEAD: usize = 256;

struct Entry {
    bytes: Bytes,
    used: u64,
    /// Not on the disk yet.
    durable: Option<Durable>,
}

/// Small values by digest. Values on their way to the disk are kept whatever the bound (the queue bounds them).
pub(crate) struct ValueCache {
    entries: HashMap<Key, Entry>,
    /// Entries that may go, by last use.
    order: BTreeMap<u64, Key>,
    clock: u64,
    size: usize,
    bound: usize,
}

impl ValueCache {
    pub(crate) fn new(bound: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, size: 0, bound }
    }

    /// The value, and when it is durable if it is not yet.
    pub(crate) fn get(&mut self, tenant: &TenantId, digest: Digest) -> Option<(Bytes, Option<Durable>)> {
        let key = (tenant.clone(), digest);
        let entry = self.entries.get_mut(&key)?;
        if entry.durable.is_none() {
            self.order.remove(&entry.used);
            self.clock += 1;
            entry.used = self.clock;
            self.order.insert(self.clock, key);
        }
        Some((entry.bytes.clone(), entry.durable.clone()))
    }

    /// Keeps a value that is on its way to the disk.
    pub(crate) fn pending(&mut self, tenant: &TenantId, digest: Digest, bytes: Bytes, durable: Durable) {
        self.entries.insert((tenant.clone(), digest), Entry { bytes, used: 0, durable: Some(durable) });
    }

    /// The value is on the disk, or will never be: then it is forgotten.
    pub(crate) fn settle(&mut self, tenant: &TenantId, digest: Digest, committed: bool) {
        if let Some(entry) = self.entries.remove(&(tenant.clone(), digest))
            && committed
        {
            self.keep(tenant, digest, entry.bytes);
        }
    }

    /// Keeps a value that is on the disk, as long as there is room.
    pub(crate) fn keep(&mut self, tenant: &TenantId, digest: Digest, bytes: Bytes) {
        let key = (tenant.clone(), digest);
        if self.entries.contains_key(&key) {
            return;
        }
        self.clock += 1;
        self.size += bytes.len() + OVERHEAD;
        self.order.insert(self.clock, key.clone());
        self.entries.insert(key, Entry { bytes, used: self.clock, durable: None });
        while self.size > self.bound
            && let Some((_, key)) = self.order.pop_first()
        {
            if let Some(entry) = self.entries.remove(&key) {
                self.size -= entry.bytes.len() + OVERHEAD;
            }
        }
    }
}
