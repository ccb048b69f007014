//! Small values in memory: those on their way to the disk, and the ones used last.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::id::TenantId;
use opyard_model::time::Timestamp;

use crate::event_log::Durable;

type Key = (TenantId, Digest);

/// What a kept value costs beside its bytes: its places in a table and in an order, both of which have free ones.
const OVERHEAD: usize = 640;

struct Entry {
    bytes: Bytes,
    used: u64,
    kept: Kept,
}

/// What is known of a value on the disk.
#[derive(Clone)]
pub(crate) enum Kept {
    /// It is on its way there.
    Soon(Durable),
    /// It was put there, or found there by a put, at that moment. Nothing removes it for a while.
    Since(Timestamp),
    /// It was read from there. It may be removed at any time.
    Seen,
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

    /// The value, and what is known of it on the disk.
    pub(crate) fn get(&mut self, tenant: &TenantId, digest: Digest) -> Option<(Bytes, Kept)> {
        let key = (tenant.clone(), digest);
        let entry = self.entries.get_mut(&key)?;
        if !matches!(entry.kept, Kept::Soon(_)) {
            self.order.remove(&entry.used);
            self.clock += 1;
            entry.used = self.clock;
            self.order.insert(self.clock, key);
        }
        Some((entry.bytes.clone(), entry.kept.clone()))
    }

    /// Keeps a value that is on its way to the disk.
    pub(crate) fn pending(&mut self, tenant: &TenantId, digest: Digest, bytes: Bytes, durable: Durable) {
        self.forget(tenant, digest);
        self.entries.insert((tenant.clone(), digest), Entry { bytes, used: 0, kept: Kept::Soon(durable) });
    }

    /// The value is on the disk since that moment, or (none) will never be: then it is forgotten.
    pub(crate) fn settle(&mut self, tenant: &TenantId, digest: Digest, since: Option<Timestamp>) {
        if let Some(entry) = self.entries.remove(&(tenant.clone(), digest)) {
            if !matches!(entry.kept, Kept::Soon(_)) {
                self.order.remove(&entry.used);
                self.size -= entry.bytes.len() + OVERHEAD;
            }
            if let Some(since) = since {
                self.keep(tenant, digest, entry.bytes, Kept::Since(since));
            }
        }
    }

    /// The value may not be on the disk any more. One that is on its way there stays.
    pub(crate) fn forget(&mut self, tenant: &TenantId, digest: Digest) {
        let settled = self.entries.get(&(tenant.clone(), digest)).is_some_and(|e| !matches!(e.kept, Kept::Soon(_)));
        if settled {
            self.settle(tenant, digest, None);
        }
    }

    /// Keeps a value that was read from the disk, as long as there is room.
    pub(crate) fn seen(&mut self, tenant: &TenantId, digest: Digest, bytes: Bytes) {
        self.keep(tenant, digest, bytes, Kept::Seen);
    }

    fn keep(&mut self, tenant: &TenantId, digest: Digest, bytes: Bytes, kept: Kept) {
        let key = (tenant.clone(), digest);
        if self.entries.contains_key(&key) {
            return;
        }
        self.clock += 1;
        self.size += bytes.len() + OVERHEAD;
        self.order.insert(self.clock, key.clone());
        self.entries.insert(key, Entry { bytes, used: self.clock, kept });
        while self.size > self.bound
            && let Some((_, key)) = self.order.pop_first()
        {
            if let Some(entry) = self.entries.remove(&key) {
                self.size -= entry.bytes.len() + OVERHEAD;
            }
        }
    }
}
