//! The event log.

use std::collections::VecDeque;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use opyard_model::event::{Recorded, RunEvent};
use opyard_model::id::RunId;
use opyard_model::time::Timestamp;

use super::MemoryTenant;
use super::image::Change;
use crate::error::{StoreError, StoreErrorKind};
use crate::event_log::{Accepted, EventLog};
use crate::sqlite::events::{check_first, encode, named};
use crate::sqlite::writer::ends_run;

#[async_trait]
impl EventLog for MemoryTenant {
    async fn append(
        &self,
        run: RunId,
        expected: u64,
        events: Vec<(Timestamp, RunEvent)>,
    ) -> Result<Accepted, StoreError> {
        let context = "appending to a run";
        let (events, _) = encode(events)?;
        check_first(expected, &events)?;
        let mut kept = self.0.kept();
        let last = kept.accepted.runs.get(&run).map_or(0, |events| events.len() as u64);
        if last != expected {
            return Err(StoreError::new(context, StoreErrorKind::Conflict { run, expected, last }));
        }
        let missing = events
            .iter()
            .flat_map(|encoded| named(&encoded.event))
            .find(|digest| !kept.accepted.artifacts.contains_key(digest));
        if let Some(digest) = missing {
            return Err(StoreError::new(context, StoreErrorKind::Missing(digest)));
        }
        let mut seq = last;
        let new: Vec<_> = events
            .into_iter()
            .map(|encoded| {
                seq += 1;
                Recorded { run, seq, at: encoded.at, event: encoded.event }
            })
            .collect();
        if !new.is_empty() {
            kept.change(self.0.clock.now(), Change::Append(run, new));
        }
        let durable = self.0.durable(&kept);
        drop(kept);
        self.0.news.send_replace(());
        Ok(Accepted { last_seq: seq, durable })
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Recorded>, StoreError> {
        let kept = self.0.kept();
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(kept.durable_events(run).iter().skip(after).take(limit).cloned().collect())
    }

    fn follow(&self, run: RunId, after: u64) -> BoxStream<'static, Result<Recorded, StoreError>> {
        let state = (self.clone(), self.0.news.subscribe(), after, VecDeque::<Recorded>::new(), false);
        futures::stream::unfold(state, move |(tenant, mut news, mut after, mut page, over)| async move {
            loop {
                if let Some(recorded) = page.pop_front() {
                    after = recorded.seq;
                    let over = ends_run(&recorded.event);
                    return Some((Ok(recorded), (tenant, news, after, page, over)));
                }
                if over {
                    return None;
                }
                news.mark_unchanged();
                match tenant.read(run, after, 512).await {
                    Ok(found) if found.is_empty() => news.changed().await.ok()?,
                    Ok(found) => page = found.into(),
                    Err(error) => return Some((Err(error), (tenant, news, after, page, true))),
                }
            }
        })
        .boxed()
    }
}
