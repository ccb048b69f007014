//! The accepted end of each run's log, in memory.

use std::collections::HashMap;

use super::RunKey;

/// Tails kept when nothing of them is on its way; more are forgotten and read again when needed.
const KEPT: usize = 16 << 10;

/// The end of one run's log.
pub(crate) struct Tail {
    /// Tells this tail from an earlier one of the same run, which was dropped.
    pub(crate) id: u64,
    /// The last accepted event.
    pub(crate) last_seq: u64,
    /// Appends on their way to the disk.
    in_flight: u32,
    /// A commit failed: what was accepted and not durable is lost. Read again before the next append.
    pub(crate) lost: bool,
}

/// The tails of all runs that this process appends to.
#[derive(Default)]
pub(crate) struct Tails {
    map: HashMap<RunKey, Tail>,
    next_id: u64,
}

impl Tails {
    /// The tail, if it is known.
    pub(crate) fn known(&mut self, key: &RunKey) -> Option<&mut Tail> {
        self.map.get_mut(key)
    }

    /// Takes up a tail that was read from the disk, unless another one was taken up meanwhile.
    pub(crate) fn load(&mut self, key: &RunKey, last_seq: u64) -> &mut Tail {
        if self.map.len() >= KEPT {
            self.map.retain(|_, tail| tail.in_flight > 0);
        }
        let known = self.map.get(key).is_some_and(|tail| !tail.lost);
        if !known {
            self.next_id += 1;
            let tail = Tail { id: self.next_id, last_seq, in_flight: 0, lost: false };
            self.map.insert(key.clone(), tail);
        }
        self.map.get_mut(key).expect("it was there or has just been put there")
    }

    /// An append reached the disk, or not. `over`: it was the run's last.
    pub(crate) fn settle(&mut self, key: &RunKey, id: u64, committed: bool, over: bool) {
        let Some(tail) = self.map.get_mut(key).filter(|tail| tail.id == id) else { return };
        tail.in_flight = tail.in_flight.saturating_sub(1);
        tail.lost |= !committed;
        if over && committed && tail.in_flight == 0 {
            self.map.remove(key);
        }
    }
}

impl Tail {
    /// Accepts `count` events; returns the sequence number of the first.
    pub(crate) fn accept(&mut self, count: u64) -> u64 {
        let first = self.last_seq + 1;
        self.last_seq += count;
        self.in_flight += 1;
        first
    }
}
