//! What a tenant holds: what was accepted, and what is on the disk of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::event::Recorded;
use opyard_model::id::RunId;
use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::time::Timestamp;

use crate::error::{StoreError, StoreErrorKind};
use crate::sqlite::claims::Claims;

/// How long changes are gathered before they are synced.
pub(super) const GATHER: Duration = Duration::from_millis(20);

/// All that a disk holds.
#[derive(Default, Clone)]
pub(super) struct Image {
    pub(super) runs: HashMap<RunId, Vec<Recorded>>,
    pub(super) artifacts: BTreeMap<Digest, Bytes>,
    pub(super) memos: HashMap<MemoKey, MemoEntry>,
}

/// What is on the disk whole, or not at all.
#[derive(Clone)]
pub(super) enum Change {
    Append(RunId, Vec<Recorded>),
    Put(Digest, Bytes),
    Remember(MemoEntry),
    Forget(MemoKey),
}

impl Image {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(run, events) => self.runs.entry(run).or_default().extend(events),
            Change::Put(digest, bytes) => _ = self.artifacts.insert(digest, bytes),
            Change::Remember(entry) => _ = self.memos.entry(entry.key).or_insert(entry),
            Change::Forget(key) => _ = self.memos.remove(&key),
        }
    }
}

/// What is not on the disk yet, in order.
#[derive(Default)]
struct Behind {
    disk: Image,
    unsynced: VecDeque<(Timestamp, Change)>,
    synced: u64,
    cuts: u64,
}

/// A moment: all that was accepted before.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    accepted: u64,
    cuts: u64,
}

/// What a tenant holds.
pub(super) struct Kept {
    /// As those see it who use the store.
    pub(super) accepted: Image,
    pub(super) claims: Claims,
    behind: Option<Behind>,
}

impl Kept {
    pub(super) fn new(write_behind: bool) -> Self {
        let behind = write_behind.then(Behind::default);
        Self { accepted: Image::default(), claims: Claims::default(), behind }
    }

    pub(super) fn change(&mut self, now: Timestamp, change: Change) {
        if let Some(behind) = &mut self.behind {
            behind.unsynced.push_back((now, change.clone()));
        }
        self.accepted.apply(change);
    }

    /// The events of a run that are on the disk.
    pub(super) fn durable_events(&self, run: RunId) -> &[Recorded] {
        let image = self.behind.as_ref().map_or(&self.accepted, |behind| &behind.disk);
        image.runs.get(&run).map_or(&[], Vec::as_slice)
    }

    /// This moment; none where everything is durable at once.
    pub(super) fn mark(&self) -> Option<Mark> {
        let behind = self.behind.as_ref()?;
        Some(Mark { accepted: behind.synced + behind.unsynced.len() as u64, cuts: behind.cuts })
    }

    /// What came of all that was accepted before `mark`, if that is known.
    pub(super) fn answer(&self, mark: Mark) -> Option<Result<(), StoreError>> {
        let behind = self.behind.as_ref()?;
        if behind.cuts != mark.cuts {
            let lost = StoreErrorKind::Unavailable("the power was cut".into());
            return Some(Err(StoreError::new("committing", lost)));
        }
        (behind.synced >= mark.accepted).then_some(Ok(()))
    }

    /// Syncs, if something waits for it since [`GATHER`].
    pub(super) fn sync_overdue(&mut self, now: Timestamp) {
        let oldest = self.behind.as_ref().and_then(|behind| behind.unsynced.front());
        if oldest.is_some_and(|(since, _)| now.since(*since) >= GATHER) {
            self.sync();
        }
    }

    pub(super) fn sync(&mut self) {
        if let Some(behind) = &mut self.behind {
            behind.sync(usize::MAX);
        }
    }

    pub(super) fn cut(&mut self, luck: usize) {
        self.claims = Claims::default();
        let Some(behind) = &mut self.behind else { return };
        behind.sync(luck);
        behind.unsynced.clear();
        behind.cuts += 1;
        self.accepted = behind.disk.clone();
    }
}

impl Behind {
    fn sync(&mut self, most: usize) {
        let synced = most.min(self.unsynced.len());
        for (_, change) in self.unsynced.drain(..synced) {
            self.disk.apply(change);
        }
        self.synced += synced as u64;
    }
}
