//! Which slots a run needs, and waiting for them.

use std::sync::Arc;

use opyard_model::plan::Plan;
use opyard_model::state::RunState;
use opyard_store::pool::{POLL, PoolKey, Pools, SlotRequest};
use tokio::sync::mpsc::UnboundedSender;

use crate::decide::Seat;
use crate::tasks::News;

/// The pools in which a run as a whole needs a slot: that of all runs, and those of its tags.
pub(crate) fn pools_of_run(state: &RunState) -> Vec<(PoolKey, u32)> {
    let queue = &state.plan().run_queue;
    let all = queue.limit.map(|limit| (PoolKey::runs(), limit));
    let by_tag = queue.tag_limits.iter().filter_map(|limit| {
        let group = limit.group(state.tags())?;
        let value = if group.is_empty() { None } else { Some(group) };
        Some((PoolKey::runs_with(&limit.key, value), limit.limit))
    });
    let mut pools: Vec<_> = all.into_iter().chain(by_tag).collect();
    // Of two limits of the same runs the lower one holds.
    pools.sort();
    pools.dedup_by(|next, first| next.0 == first.0);
    pools
}

/// Whether any run of a plan needs slots.
pub(crate) fn uses_pools(plan: &Plan) -> bool {
    !plan.pools.is_empty() || !plan.run_queue.is_default()
}

/// Asks until the slots are held, and says once that it waits: again whenever slots are given back here, and every now and
/// then, since those that other processes give back are not announced.
pub(crate) async fn wait_for(pools: Arc<dyn Pools>, request: SlotRequest, seat: Seat, news: UnboundedSender<News>) {
    let mut freed = pools.freed();
    let mut told = false;
    loop {
        freed.mark_unchanged();
        match pools.ask(&request).await {
            Ok(true) => {
                let _ = news.send(News::Seated { seat });
                return;
            }
            Ok(false) if !told => {
                told = true;
                let _ = news.send(News::Waits { seat: seat.clone() });
            }
            // The store's trouble may pass; what the run appends says when it does not.
            Ok(false) | Err(_) => {}
        }
        if let Ok(Err(_)) = tokio::time::timeout(POLL, freed.changed()).await {
            tokio::time::sleep(POLL).await;
        }
    }
}
