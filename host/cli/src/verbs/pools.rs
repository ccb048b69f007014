//! `pools`: who holds a slot, and who waits for one.

use opyard_server::model::time::{Clock as _, Timestamp};
use opyard_server::store::pool::{PoolStatus, Slot};
use serde_json::json;

use crate::args::{self, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::render;
use crate::screen::Screen;

pub(crate) async fn pools(global: &Global, args: &args::Pools, screen: &Screen) -> Outcome {
    let place = Place::of_yard(global, &args.file, &here()?);
    // Looking makes no yard; none has no pools.
    let pools = if place.has_yard() { place.open()?.tenant_store().pools().list().await? } else { Vec::new() };
    if screen.json() {
        screen.print_json(&pools.iter().map(told).collect())?;
    } else if pools.is_empty() {
        screen.note("no pools; a run whose steps have one makes it");
    } else {
        screen.print(&render::pools::table(&pools, opyard_server::SystemClock.now()))?;
    }
    Ok(Exit::Success)
}

fn told(pool: &PoolStatus) -> serde_json::Value {
    let slots = |slots: &[Slot]| -> serde_json::Value {
        let slot = |slot: &Slot| json!({ "run": slot.by.run, "step": slot.by.step, "since": moment(slot.since) });
        slots.iter().map(slot).collect()
    };
    json!({
        "pool": pool.pool.as_str(), "limit": pool.limit, "held": slots(&pool.held), "waiting": slots(&pool.waiting),
    })
}

fn moment(at: Timestamp) -> String {
    at.to_string()
}
