//! Pools, and who is in them.

use opyard_server::model::time::Timestamp;
use opyard_server::store::pool::{PoolStatus, Slot};

use crate::render::style::{DIM, GOOD, WARN};
use crate::render::table::{Cell, Table};
use crate::render::{quantity, text};

/// Most of those who wait in one pool that are shown.
const WAITING: usize = 10;

/// A line for each pool, and below it one for each that holds a slot, or waits for one.
pub(crate) fn table(pools: &[PoolStatus], now: Timestamp) -> String {
    let mut table = Table::new(["pool", ">slots", "", "run", "step", ">since"]);
    for pool in pools {
        let used = format!("{}/{}", pool.held.len(), pool.limit);
        // The value of a tag is whatever somebody wrote.
        table.row([text::one_line(pool.pool.as_str(), 60).into(), used.into()]);
        let mut line = |slot: &Slot, word: Cell| {
            let step = slot.by.step.as_ref().map(|step| text::one_line(&step.to_string(), 60)).unwrap_or_default();
            let since = Cell::styled(quantity::time(now.since(slot.since)), DIM);
            table.row(["".into(), "".into(), word, slot.by.run.to_string().into(), step.into(), since]);
        };
        pool.held.iter().for_each(|slot| line(slot, Cell::styled("held", GOOD)));
        pool.waiting.iter().take(WAITING).for_each(|slot| line(slot, Cell::styled("waiting", WARN)));
        if pool.waiting.len() > WAITING {
            let more = format!("and {} more", pool.waiting.len() - WAITING);
            table.row(["".into(), "".into(), Cell::styled(more, DIM)]);
        }
    }
    table.render("")
}
