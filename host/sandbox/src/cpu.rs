//! CPU time of one call: the thread's clock, read before and after each time that the call runs on a thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Counts the CPU time of one call, of guest and host functions alike.
///
/// A call moves from thread to thread, but is on one at a time: [`enter`](Self::enter) and [`leave`](Self::leave) stand
/// around each poll, and what is read in between adds what the present poll has taken so far.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    spent: AtomicU64,
    entered: AtomicU64,
}

fn thread_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

impl CpuMeter {
    /// The call starts to run on this thread.
    pub(crate) fn enter(&self) {
        self.entered.store(thread_nanos(), Ordering::Relaxed);
    }

    /// The call stops running on this thread.
    pub(crate) fn leave(&self) {
        let since = thread_nanos().saturating_sub(self.entered.load(Ordering::Relaxed));
        self.spent.fetch_add(since, Ordering::Relaxed);
    }

    /// The time so far, asked from inside the call.
    pub(crate) fn so_far(&self) -> Duration {
        let since = thread_nanos().saturating_sub(self.entered.load(Ordering::Relaxed));
        Duration::from_nanos(self.spent.load(Ordering::Relaxed).saturating_add(since))
    }

    /// The time in all, asked when the call has left.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }
}
