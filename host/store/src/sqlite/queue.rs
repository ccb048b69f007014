//! What waits for the writer, in order, and who waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::event::RunEvent;
use opyard_model::id::{RunId, TenantId};
use opyard_model::memo::MemoKey;
use opyard_model::time::Timestamp;
use rusqlite::Transaction;
use tokio::sync::{Semaphore, watch};

use super::{closed, lock};
use crate::error::StoreError;
use crate::event_log::Durable;

/// Most that waits for the writer: 16 MiB, in steps of 1 KiB; each command counts as one step at least. Who adds more
/// waits, so that a slow disk slows its users down and fills no memory.
const CAPACITY: u32 = 16 << 10;
/// A batch of so much is committed at once: a quarter of what may wait.
const FULL: usize = CAPACITY as usize / 4;
/// How long a batch that nobody waits for grows. A commit writes each page that it touches once, so that one of 200 steps
/// costs far less than ten of 20; what a crash takes is what nobody was told of. Followers see events this much later.
const GATHER: Duration = Duration::from_millis(20);

/// An event, ready to be written.
pub(crate) struct Encoded {
    pub(crate) at: Timestamp,
    pub(crate) event: RunEvent,
    pub(crate) payload: String,
}

/// Events to append.
pub(crate) struct Append {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    /// Which incarnation of the tail accepted them.
    pub(crate) tail: u64,
    pub(crate) first_seq: u64,
    pub(crate) events: Vec<Encoded>,
    /// Artifacts that they name; each must be there.
    pub(crate) names: Vec<Digest>,
}

/// A memo row to store.
pub(crate) struct Remember {
    pub(crate) tenant: TenantId,
    pub(crate) key: MemoKey,
    pub(crate) run: RunId,
    /// The last event of `run` that was accepted before: stored only if that is committed.
    pub(crate) after: u64,
    pub(crate) at: Timestamp,
    pub(crate) op: String,
    pub(crate) wasmtime: String,
    pub(crate) entry: String,
    pub(crate) names: Vec<Digest>,
}

/// A claim to show to other processes, or (`until` none) to take back.
pub(crate) struct ClaimRow {
    pub(crate) tenant: TenantId,
    pub(crate) key: MemoKey,
    pub(crate) holder: RunId,
    pub(crate) until: Option<Timestamp>,
    /// When the result that is there was made, if it cannot be used.
    pub(crate) stale: Option<Timestamp>,
    /// No row of the key is in the database, so that none has to go when its result comes in the same batch.
    pub(crate) is_new: bool,
}

/// Work of a control verb inside the transaction; what it returns is called with how the commit went.
pub(crate) type Call = Box<dyn FnOnce(&Transaction<'_>) -> Answer + Send>;
/// Hands the outcome to whoever waits.
pub(crate) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One thing for the writer to do.
pub(crate) enum Command {
    Append(Append),
    /// A small artifact, for the pack.
    Put {
        tenant: TenantId,
        digest: Digest,
        bytes: Bytes,
    },
    /// A large artifact whose object is written.
    Register {
        tenant: TenantId,
        digest: Digest,
        size: u64,
        object: String,
    },
    Remember(Remember),
    Claims(Vec<ClaimRow>),
    Call(Call),
}

impl Command {
    /// Whose it is, if it names artifacts.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Append(append) => Some(&append.tenant),
            Self::Put { tenant, .. } | Self::Register { tenant, .. } => Some(tenant),
            Self::Remember(row) => Some(&row.tenant),
            Self::Claims(_) | Self::Call(_) => None,
        }
    }
}

/// How a batch ended: all of it failed, or some of its commands did.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) all: Option<StoreError>,
    pub(crate) some: HashMap<usize, StoreError>,
}

impl Outcome {
    /// How the command at `index` of the batch ended.
    pub(crate) fn of(&self, index: usize) -> Result<(), StoreError> {
        match self.all.as_ref().or_else(|| self.some.get(&index)) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

type Told = Option<Arc<Outcome>>;

/// Commands that are committed together.
pub(crate) struct Batch {
    pub(crate) commands: Vec<Command>,
    permits: usize,
    told: watch::Sender<Told>,
}

impl Batch {
    fn new() -> Self {
        Self { commands: Vec::new(), permits: 0, told: watch::Sender::new(None) }
    }
}

/// Names a queued command, to wait for it. Cheap.
pub(crate) struct Ticket {
    index: usize,
    told: watch::Receiver<Told>,
    gate: Arc<Gate>,
    batch: u64,
}

impl Ticket {
    /// When the command is committed.
    pub(crate) fn durable(self) -> Durable {
        let Self { index, mut told, gate, batch } = self;
        let settled = async move {
            let outcome = told.wait_for(Option::is_some).await.map_err(|_| closed("committing"))?;
            outcome.as_ref().map_or(Ok(()), |outcome| outcome.of(index))
        };
        Durable::new(settled).hurried_by(move || gate.hurry(batch))
    }
}

/// Room in the queue for one command.
pub(crate) struct Room(u32);

struct State {
    open: Batch,
    /// The number of the open batch.
    number: u64,
    /// Somebody waits for the open batch.
    urgent: bool,
    closed: bool,
}

/// Where commands and the writer meet.
struct Gate {
    state: Mutex<State>,
    wake: Condvar,
}

impl Gate {
    /// Has a batch committed at once, if it is still open.
    fn hurry(&self, batch: u64) {
        let mut state = lock(&self.state);
        if state.number == batch && !std::mem::replace(&mut state.urgent, true) {
            drop(state);
            self.wake.notify_one();
        }
    }
}

/// The queue.
pub(crate) struct Queue {
    gate: Arc<Gate>,
    room: Semaphore,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            gate: Arc::new(Gate {
                state: Mutex::new(State { open: Batch::new(), number: 0, urgent: false, closed: false }),
                wake: Condvar::new(),
            }),
            room: Semaphore::new(CAPACITY as usize),
        }
    }

    /// Waits until there is room for a command of `bytes`.
    ///
    /// # Errors
    /// `Unavailable` when the store is closed.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Room, StoreError> {
        let steps = u32::try_from(bytes / 1024 + 1).unwrap_or(CAPACITY).min(CAPACITY);
        let permit = self.room.acquire_many(steps).await.map_err(|_| closed("queueing"))?;
        // Given back by the writer when the command is done; until it is queued, by dropping.
        permit.forget();
        Ok(Room(steps))
    }

    /// Adds a command at the end. Does not wait.
    ///
    /// # Errors
    /// `Unavailable` when the store is closed.
    pub(crate) fn push(&self, room: Room, command: Command) -> Result<Ticket, StoreError> {
        let mut state = lock(&self.gate.state);
        if state.closed {
            drop(state);
            self.give_back(room);
            return Err(closed("queueing"));
        }
        // Whoever sent a call waits for its answer.
        let hurries = matches!(command, Command::Call(_));
        let batch = &mut state.open;
        let is_first = batch.commands.is_empty();
        batch.permits += room.0 as usize;
        batch.commands.push(command);
        let (index, told, is_full) = (batch.commands.len() - 1, batch.told.subscribe(), batch.permits >= FULL);
        let becomes_urgent = !state.urgent && (hurries || is_full);
        state.urgent |= becomes_urgent;
        let ticket = Ticket { index, told, gate: Arc::clone(&self.gate), batch: state.number };
        drop(state);
        // Otherwise the writer is awake, or lets the batch grow.
        if is_first || becomes_urgent {
            self.gate.wake.notify_one();
        }
        Ok(ticket)
    }

    /// Gives back room that is not needed.
    pub(crate) fn give_back(&self, room: Room) {
        self.room.add_permits(room.0 as usize);
    }

    /// Refuses what comes from now on; what is queued is still done.
    pub(crate) fn close(&self) {
        lock(&self.gate.state).closed = true;
        self.room.close();
        self.gate.wake.notify_one();
    }

    /// Throws away what is queued, as the end of the process would.
    #[cfg(test)]
    pub(crate) fn discard(&self) {
        lock(&self.gate.state).open = Batch::new();
    }

    /// Waits for commands, lets more come while nobody waits for them, and takes all that are there; none when the queue is
    /// closed and empty. For the writer.
    pub(crate) fn take(&self) -> Option<Batch> {
        let Gate { state, wake } = &*self.gate;
        let mut state = lock(state);
        while state.open.commands.is_empty() {
            if state.closed {
                return None;
            }
            state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let gathers = |state: &mut State| !state.urgent && !state.closed;
        let (mut state, _) = wake.wait_timeout_while(state, GATHER, gathers).unwrap_or_else(PoisonError::into_inner);
        state.number += 1;
        state.urgent = false;
        Some(std::mem::replace(&mut state.open, Batch::new()))
    }

    /// Tells everyone who waits for a batch.
    pub(crate) fn tell(&self, batch: Batch, outcome: Arc<Outcome>) {
        self.room.add_permits(batch.permits);
        batch.told.send_replace(Some(outcome));
    }
}
