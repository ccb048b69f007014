//! What a call says, on its way out: bounded, sanitised, and delivered in order whenever the call pauses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use opyard_model::error::{MAX_DESCRIPTION, sanitize};
use opyard_model::event::{Level, LogLine, Stream};
use opyard_model::json::CanonicalJson;
use opyard_model::limits::Limits;
use opyard_model::step::{Said, Saying};
use opyard_model::value::Yielded;

/// Longest log line, in bytes; a longer one is cut.
const MAX_LINE: usize = 64 << 10;
/// Most items of dynamic outputs that wait for the guest to pause.
const ITEMS_AT_A_TIME: u64 = 32;

impl Said for Outbox {
    /// What a type checker says beside the op, on its way out with what the op says.
    fn say(&self, saying: Saying) {
        match saying {
            Saying::Log(line) => self.log((line.level, line.stream), &line.message, line.fields),
            Saying::TypeChecked { .. } => self.notice(saying),
            other => self.event(other),
        }
    }
}

/// Takes what a call says from inside it, and hands it to [`Said`] from outside: a `wasmtime::Store` cannot hold a
/// borrowed listener, and some sayings come from streams that do not see the store.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Vec<Saying>,
    lines_left: u32,
    bytes_left: u64,
    events_left: u32,
    dropped_lines: u64,
    dropped_events: u64,
    last_critical: Option<String>,
    /// Items that were committed.
    items: u64,
    /// The limits that were noticed.
    noticed: Vec<&'static str>,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Mutex::new(Inner {
            queue: Vec::new(),
            lines_left: limits.log_lines,
            bytes_left: limits.log_bytes.0,
            events_left: limits.events,
            dropped_lines: 0,
            dropped_events: 0,
            last_critical: None,
            items: 0,
            noticed: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it is held leaves a queue that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a log line, or drops and counts it. Guest-controlled: the message is sanitised here, and nothing of a line
    /// that is dropped is kept. A critical one is remembered all the same, since a panic explains the trap after it.
    pub(crate) fn log(
        &self,
        (level, stream): (Level, Option<Stream>),
        message: &str,
        fields: Vec<(String, CanonicalJson)>,
    ) {
        let mut inner = self.lock();
        if level == Level::Critical {
            inner.last_critical = Some(sanitize(message, MAX_DESCRIPTION));
        }
        if inner.lines_left == 0 || inner.bytes_left == 0 {
            inner.dropped_lines += 1;
            return;
        }
        let message = sanitize(message, MAX_LINE);
        let size = message.len() + fields.iter().map(|(name, json)| name.len() + json.as_str().len()).sum::<usize>();
        let size = size as u64;
        if size > inner.bytes_left {
            inner.dropped_lines += 1;
            return;
        }
        inner.lines_left -= 1;
        inner.bytes_left -= size;
        inner.queue.push(Saying::Log(LogLine { level, stream, message, fields }));
    }

    /// Takes an asset event, expectation, metric or progress report, or drops and counts it.
    pub(crate) fn event(&self, saying: Saying) {
        let mut inner = self.lock();
        if inner.events_left == 0 {
            inner.dropped_events += 1;
            return;
        }
        inner.events_left -= 1;
        inner.queue.push(saying);
    }

    /// Takes something that has to be on record before it may happen: false when there is no room for it.
    pub(crate) fn audit(&self, saying: Saying) -> bool {
        let mut inner = self.lock();
        let fits = inner.events_left > 0;
        if fits {
            inner.events_left -= 1;
            inner.queue.push(saying);
        }
        fits
    }

    /// Drops and counts an event that is too large, or malformed.
    pub(crate) fn drop_event(&self) {
        self.lock().dropped_events += 1;
    }

    /// Takes something that the sandbox itself says of the call.
    pub(crate) fn notice(&self, saying: Saying) {
        self.lock().queue.push(saying);
    }

    /// Takes an item that was committed. True when the guest is to pause, so that it gets out: soon for the first, whose
    /// consumers wait for work, and less and less often, since whoever takes them works best on many at a time.
    pub(crate) fn announce(&self, item: Yielded) -> bool {
        let mut inner = self.lock();
        inner.queue.push(Saying::ItemCommitted(item));
        inner.items += 1;
        inner.items.is_multiple_of(ITEMS_AT_A_TIME) || (inner.items < ITEMS_AT_A_TIME && inner.items.is_power_of_two())
    }

    /// The same, once for each limit.
    pub(crate) fn notice_once(&self, limit: &'static str, saying: Saying) {
        let mut inner = self.lock();
        if !inner.noticed.contains(&limit) {
            inner.noticed.push(limit);
            inner.queue.push(saying);
        }
    }

    /// Whether an event was dropped: what the op said is then not all of its result.
    pub(crate) fn has_dropped_events(&self) -> bool {
        self.lock().dropped_events > 0
    }

    /// What the guest said last with the level `critical`: the message of a panic.
    pub(crate) fn take_last_critical(&self) -> Option<String> {
        self.lock().last_critical.take()
    }

    /// Says what has come in.
    pub(crate) fn deliver(&self, said: &dyn Said) {
        let queue = {
            let mut inner = self.lock();
            if inner.queue.is_empty() {
                return;
            }
            std::mem::take(&mut inner.queue)
        };
        for saying in queue {
            said.say(saying);
        }
    }

    /// Says what has come in, and how much was dropped. Called once, at the end.
    pub(crate) fn close(&self, said: &dyn Said) {
        self.deliver(said);
        let inner = self.lock();
        let (lines, events) = (inner.dropped_lines, inner.dropped_events);
        drop(inner);
        let dropped = |limit: &str, count: u64, what: &str| {
            if count > 0 {
                said.say(Saying::LimitReached { limit: limit.to_owned(), detail: format!("{count} {what} dropped") });
            }
        };
        dropped("log_lines", lines, "log lines were");
        dropped("events", events, "events were");
    }
}
