//! The slots of a session: asked for, held, given back.

use std::sync::Arc;

use opyard_model::event::RunEvent;
use opyard_model::metadata::{MetadataEntry, MetadataValue};
use opyard_store::pool::{Claimant, PoolKey, SlotRequest};

use super::Session;
use crate::decide::Seat;
use crate::seats::{pools_of_run, wait_for};

impl Session<'_> {
    fn claimant(&self, seat: &Seat) -> Claimant {
        let step = seat.step().map(|id| id.step_key(self.state.plan()));
        Claimant { run: self.whose.run, step }
    }

    pub(super) fn ask_for(&mut self, seats: Vec<Seat>) {
        for seat in seats {
            let plan = self.state.plan();
            let (pools, priority) = match &seat {
                Seat::Run => (pools_of_run(&self.state), plan.policy.priority),
                Seat::Step(id) => {
                    let step = plan.step(id.step);
                    let pool = step.pool.as_ref().map(|pool| {
                        let limit = plan.pools.get(pool).copied().unwrap_or(1);
                        (PoolKey::named(pool), limit)
                    });
                    (pool.into_iter().collect(), step.priority.saturating_add(plan.policy.priority))
                }
            };
            let request = SlotRequest { by: self.claimant(&seat), pools, priority };
            let asking = wait_for(Arc::clone(&self.engine.pools), request, seat.clone(), self.tasks.news());
            self.asking.insert(seat.clone(), self.tasks.wait(asking));
            self.seats.asked.insert(seat);
        }
    }

    /// A slot is held. One that nobody wants any more is given back.
    pub(super) fn seated(&mut self, seat: Seat) {
        self.asking.remove(&seat);
        if self.seats.asked.remove(&seat) {
            self.seats.held.insert(seat);
        } else {
            self.to_free.push(seat);
        }
    }

    /// What is told of someone who stands in line.
    pub(super) fn waits(&self, seat: &Seat) -> Option<RunEvent> {
        let text =
            |label: &str, text: String| MetadataEntry { label: label.to_owned(), value: MetadataValue::Text(text) };
        match seat {
            _ if !self.seats.asked.contains(seat) => None,
            Seat::Run => {
                let pools: Vec<_> = pools_of_run(&self.state).into_iter().map(|(pool, _)| pool.to_string()).collect();
                let message = "waits for its turn: as many runs as may go side by side".to_owned();
                Some(RunEvent::EngineEvent { message, metadata: vec![text("pools", pools.join(", "))] })
            }
            Seat::Step(id) if self.state.is_runnable(id) => {
                let plan = self.state.plan();
                let generation = self.state.instance(id)?.generation;
                let pool = plan.step(id.step).pool.clone()?;
                Some(RunEvent::StepWaiting { step: id.step_key(plan), generation, pool })
            }
            Seat::Step(_) => None,
        }
    }

    /// The step has ended, or starts over: whatever it holds, or waits for, is to be given back.
    pub(super) fn leave(&mut self, seat: Seat) {
        if let Some(asking) = self.asking.remove(&seat) {
            asking.abort();
        }
        if self.seats.asked.remove(&seat) | self.seats.held.remove(&seat) {
            self.to_free.push(seat);
        }
    }

    /// Gives back what is to be given back. Before anything else is asked for: a step that is tried again asks anew.
    pub(super) async fn free(&mut self) {
        if self.to_free.is_empty() {
            return;
        }
        let seats = std::mem::take(&mut self.to_free);
        let by: Vec<_> = seats.iter().map(|seat| self.claimant(seat)).collect();
        // What is not given back ends with its lease: it is not renewed.
        let _ = self.engine.pools.release(&by).await;
    }

    pub(super) async fn renew_seats(&self) {
        let held: Vec<_> = self.seats.held.iter().map(|seat| self.claimant(seat)).collect();
        if !held.is_empty() {
            // A slot that was lost meanwhile only means that one more than may runs.
            let _ = self.engine.pools.renew(&held).await;
        }
    }
}
