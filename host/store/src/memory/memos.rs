//! The memo.

use std::time::Duration;

use async_trait::async_trait;
use opyard_model::id::RunId;
use opyard_model::memo::{MemoEntry, MemoKey};

use super::MemoryTenant;
use super::image::Change;
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::Durable;
use crate::memo::{MAX_ENTRY, MAX_LEASE, MemoAnswer, MemoStore};
use crate::sqlite::claims::Asked;
use crate::sqlite::unreadable;

#[async_trait]
impl MemoStore for MemoryTenant {
    async fn look_up(
        &self,
        keys: &[MemoKey],
        max_age: Option<Duration>,
        holder: RunId,
        lease: Duration,
    ) -> Result<Vec<MemoAnswer>, StoreError> {
        let now = self.0.clock.now();
        let until = now.after(lease.min(MAX_LEASE));
        let mut kept = self.0.kept();
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let image = &kept.accepted;
            let hit = image.memos.get(key).filter(|entry| {
                max_age.is_none_or(|age| now.since(entry.at) <= age)
                    && entry.outputs.iter().all(|output| image.artifacts.contains_key(&output.value.artifact.digest))
            });
            if let Some(entry) = hit {
                answers.push(MemoAnswer::Hit(Box::new(entry.clone())));
                continue;
            }
            answers.push(match kept.claims.ask(&self.0.name, *key, holder, (now, until)) {
                Asked::Busy(wait) => MemoAnswer::Busy { wait },
                Asked::Taken | Asked::Renewed => {
                    if kept.accepted.memos.contains_key(key) {
                        kept.change(now, Change::Forget(*key));
                    }
                    MemoAnswer::Miss
                }
            });
        }
        Ok(answers)
    }

    async fn record(&self, entry: MemoEntry) -> Result<Durable, StoreError> {
        let context = "recording a memo";
        let size = serde_json::to_string(&entry).map_err(|error| unreadable(context, error))?.len();
        if size > MAX_ENTRY {
            let reason = format!("{size} bytes of memo; {MAX_ENTRY} are the limit");
            return Err(StoreError::new(context, StoreErrorKind::TooLarge(reason)));
        }
        let mut kept = self.0.kept();
        kept.claims.settle(&self.0.name, entry.key);
        let digests = entry.outputs.iter().map(|output| output.value.artifact.digest);
        if let Some(digest) = digests.into_iter().find(|digest| !kept.accepted.artifacts.contains_key(digest)) {
            return Err(StoreError::new(context, StoreErrorKind::Missing(digest)));
        }
        kept.change(self.0.clock.now(), Change::Remember(entry));
        Ok(self.0.durable(&kept))
    }

    async fn release(&self, key: MemoKey, holder: RunId) -> Result<(), StoreError> {
        self.0.kept().claims.release(&self.0.name, key, holder);
        Ok(())
    }
}
