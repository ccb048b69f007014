//! The limits of one call, counted.

use std::sync::Arc;

use opyard_model::error::{Code, Failure};
use opyard_model::limits::Limits;
use wasmtime::ResourceLimiter;

use crate::runtime::MAX_TABLE_ELEMENTS;
use crate::trap::Stop;

/// Bytes of host memory that one element of a table takes.
const ELEMENT: u64 = 8;

/// Most large values and objects that are on their way at one time.
const MAX_FLOWS: usize = 32;

/// Counts what a call uses against its limits.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) limits: Limits,
    /// The largest single memory that the pool can hold.
    max_memory: u64,
    memory: u64,
    pub(crate) peak_memory: u64,
    pub(crate) host_calls: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    metadata_bytes: u64,
    items: u32,
    http_calls: u32,
    http_bytes: u64,
    /// One clone for each value or object on its way out, and for each object on its way in: the host holds part of each.
    pub(crate) flows: Arc<()>,
    /// The guest was told of a limit: its result depends on it.
    told_of_limit: bool,
    /// The first thing that failed in the surroundings and that the guest was told of.
    pub(crate) unavailable: Option<Failure>,
}

/// A limit that a host call answers, in place of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) &'static str);

impl Guard {
    pub(crate) fn new(limits: Limits, max_memory: u64) -> Self {
        Self {
            limits,
            max_memory,
            memory: 0,
            peak_memory: 0,
            host_calls: 0,
            read_bytes: 0,
            written_bytes: 0,
            metadata_bytes: 0,
            items: 0,
            http_calls: 0,
            http_bytes: 0,
            flows: Arc::default(),
            told_of_limit: false,
            unavailable: None,
        }
    }

    /// Counts a host call.
    ///
    /// # Errors
    /// A trap when there were too many.
    pub(crate) fn count_call(&mut self) -> Result<(), Stop> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls { Err(self.too_many_calls()) } else { Ok(()) }
    }

    /// The same for calls that cannot answer with a trap; the next tick ends the guest.
    pub(crate) fn count_call_silently(&mut self) {
        self.host_calls += 1;
    }

    /// Checks what [`count_call_silently`](Self::count_call_silently) has counted.
    pub(crate) fn check_calls(&self) -> Result<(), Stop> {
        if self.host_calls > self.limits.host_calls { Err(self.too_many_calls()) } else { Ok(()) }
    }

    fn too_many_calls(&self) -> Stop {
        Stop::because(Code::HostCallLimit, format!("the op made more than {} host calls", self.limits.host_calls))
    }

    /// How many of `wanted` bytes may be read; refused once none are left. The exact number is given, whatever the limit,
    /// so that a short read cannot be told from the end of a value.
    pub(crate) fn take_read(&mut self, bytes: u64) -> Result<(), Limit> {
        if self.read_bytes.saturating_add(bytes) > self.limits.read_bytes.0 {
            return Err(self.told("read_bytes"));
        }
        self.read_bytes += bytes;
        Ok(())
    }

    pub(crate) fn take_written(&mut self, bytes: u64) -> Result<(), Limit> {
        if self.written_bytes.saturating_add(bytes) > self.limits.output_bytes.0 {
            return Err(self.told("output_bytes"));
        }
        self.written_bytes += bytes;
        Ok(())
    }

    /// Counts an HTTP request, before it is sent.
    pub(crate) fn take_http_call(&mut self) -> Result<(), Limit> {
        if self.http_calls >= self.limits.http_calls {
            return Err(self.told("http_calls"));
        }
        self.http_calls += 1;
        Ok(())
    }

    /// Counts bytes of a request, before it is sent, or of an answer.
    pub(crate) fn take_http_bytes(&mut self, bytes: u64) -> Result<(), Limit> {
        if self.http_bytes.saturating_add(bytes) > self.limits.http_bytes.0 {
            return Err(self.told("http_bytes"));
        }
        self.http_bytes += bytes;
        Ok(())
    }

    pub(crate) fn take_metadata(&mut self, bytes: u64) -> Result<(), Limit> {
        if !self.has_metadata(bytes) {
            return Err(self.told("metadata_bytes"));
        }
        self.metadata_bytes += bytes;
        Ok(())
    }

    fn has_metadata(&self, bytes: u64) -> bool {
        self.metadata_bytes.saturating_add(bytes) <= self.limits.metadata_bytes.0
    }

    /// Takes metadata of something that is dropped when there is too much, rather than answered.
    pub(crate) fn try_metadata(&mut self, bytes: u64) -> bool {
        let fits = self.has_metadata(bytes);
        if fits {
            self.metadata_bytes += bytes;
        }
        fits
    }

    /// Opens one more flow; it is closed when the answer is dropped.
    ///
    /// # Errors
    /// A trap when there are too many.
    pub(crate) fn open_flow(flows: &Arc<()>) -> Result<Arc<()>, Stop> {
        if Arc::strong_count(flows) > MAX_FLOWS {
            let text = format!("the op has more than {MAX_FLOWS} large values or objects open at once");
            return Err(Stop::because(Code::HandleLimit, text));
        }
        Ok(Arc::clone(flows))
    }

    /// Whether one more item may be started.
    pub(crate) fn check_item(&mut self) -> Result<(), Limit> {
        if self.items >= self.limits.items { Err(self.told("items")) } else { Ok(()) }
    }

    pub(crate) fn take_item(&mut self) -> Result<(), Limit> {
        self.check_item()?;
        self.items += 1;
        Ok(())
    }

    /// The guest is told of a limit that is not counted here.
    pub(crate) fn tell_of_limit(&mut self) {
        self.told_of_limit = true;
    }

    fn told(&mut self, limit: &'static str) -> Limit {
        self.tell_of_limit();
        Limit(limit)
    }

    /// Nothing that the guest was told depends on limits or on the state of the surroundings.
    pub(crate) fn result_is_its_own(&self) -> bool {
        !self.told_of_limit && self.unavailable.is_none()
    }

    fn grow(&mut self, by: u64) -> Result<(), Stop> {
        let memory = self.memory.saturating_add(by);
        if memory > self.limits.memory.0 {
            return Err(Stop::because(
                Code::MemoryExceeded,
                format!(
                    "the op needed {memory} bytes of memory and tables; its limit is {} bytes",
                    self.limits.memory.0
                ),
            ));
        }
        self.memory = memory;
        self.peak_memory = self.peak_memory.max(memory);
        Ok(())
    }
}

/// `desired` beyond what the module itself declares is its own affair (-1); beyond what the pool can hold, a limit.
fn beyond_its_own(desired: usize, maximum: Option<usize>, pool: usize) -> bool {
    maximum.is_some_and(|maximum| desired > maximum && maximum < pool)
}

/// Sums over all memories and tables of the call: the limiter that comes with wasmtime looks at each by itself.
///
/// A refusal traps, so that no result depends on a limit: a guest that saw -1 could go on and succeed with another result.
impl ResourceLimiter for Guard {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let pool = usize::try_from(self.max_memory).unwrap_or(usize::MAX);
        if beyond_its_own(desired, maximum, pool) {
            return Ok(false);
        }
        if desired > pool {
            return Err(Stop::because(
                Code::MemoryExceeded,
                format!("the op needed a memory of {desired} bytes; no memory may be larger than {pool} bytes here"),
            )
            .into());
        }
        self.grow((desired - current.min(desired)) as u64)?;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(machine_is_full(&error).into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if beyond_its_own(desired, maximum, MAX_TABLE_ELEMENTS) {
            return Ok(false);
        }
        if desired > MAX_TABLE_ELEMENTS {
            return Err(Stop::because(
                Code::MemoryExceeded,
                format!(
                    "the op needed a table of {desired} elements; no table may have more than {MAX_TABLE_ELEMENTS}"
                ),
            )
            .into());
        }
        self.grow(((desired - current.min(desired)) as u64).saturating_mul(ELEMENT))?;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(machine_is_full(&error).into())
    }

    fn instances(&self) -> usize {
        usize::try_from(self.limits.instances).unwrap_or(usize::MAX)
    }
}

/// The growth was granted, but the machine could not give it: not the op's fault.
fn machine_is_full(error: &wasmtime::Error) -> Stop {
    Stop::because(Code::ExecutorLost, format!("the machine has no memory left for the op: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opyard_model::limits::ByteSize;

    #[test]
    fn memories_and_tables_are_summed_and_only_the_modules_own_maximum_is_quiet() {
        let limits = Limits { memory: ByteSize(1 << 20), ..Limits::default() };
        let mut guard = Guard::new(limits, 1 << 30);
        assert!(guard.memory_growing(0, 512 << 10, None).unwrap());
        assert!(guard.memory_growing(0, 256 << 10, None).unwrap());
        assert!(!guard.memory_growing(64 << 10, 128 << 10, Some(64 << 10)).unwrap(), "its own maximum");
        assert!(guard.table_growing(0, 32 << 10, None).unwrap());
        assert_eq!(guard.peak_memory, 1 << 20);
        let error = guard.table_growing(0, 1, None).unwrap_err();
        assert!(error.is::<Stop>());
        assert!(guard.memory_growing(0, 2 << 30, None).unwrap_err().is::<Stop>(), "larger than the pool holds");
    }

    #[test]
    fn a_limit_that_was_told_makes_the_result_depend_on_it() {
        let mut guard = Guard::new(Limits { read_bytes: ByteSize(10), ..Limits::default() }, 1 << 30);
        assert_eq!(guard.take_read(10), Ok(()));
        assert!(guard.result_is_its_own());
        assert_eq!(guard.take_read(1), Err(Limit("read_bytes")));
        assert!(!guard.result_is_its_own());
    }
}
