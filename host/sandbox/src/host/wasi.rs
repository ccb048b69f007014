//! Virtual WASI 0.2, for guests whose language needs it: clocks, randomness, streams that become log lines. No files, no
//! sockets, no environment, no arguments.
//!
//! For a hermetic op clock and randomness are functions of its call; for other ops they are the machine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::error::Code;
use opyard_model::event::{Level, Stream};
use opyard_model::time::Clock;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi_io::bindings::wasi::io;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, OutputStream, StreamError, StreamResult};

use crate::outbox::Outbox;
use crate::state::HostState;
use crate::trap::Stop;

/// 2000-01-01T00:00:00Z, in seconds since the Unix epoch.
const START: u64 = 946_684_800;
/// What one look at a virtual clock takes, in nanoseconds.
const LOOK: u64 = 1_000;
const MILLI: u64 = 1_000_000;
/// Most random bytes of one call.
const MAX_RANDOM: u64 = 64 << 10;
/// Longest line of a stream; a longer one is cut in several. A guest can have many streams open.
const MAX_LINE: usize = 8 << 10;
/// Most bytes that one write to a stream takes.
const MAX_WRITE: usize = 64 << 10;

/// Clock and randomness of one call.
pub(crate) struct World {
    time: Time,
    entropy: Entropy,
    /// The seed that hash tables ask for.
    seed: Seed,
}

enum Time {
    /// Nanoseconds since the start: advances by a look and by what is slept.
    Virtual(Arc<AtomicU64>),
    /// The machine's, in whole milliseconds.
    Real { clock: Arc<dyn Clock>, start: Instant },
}

enum Entropy {
    Virtual(Box<blake3::OutputReader>),
    System,
}

enum Seed {
    Of(Digest),
    System,
}

impl World {
    /// The same for every execution with that seed.
    pub(crate) fn hermetic(seed: Digest) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("opyard 1 randomness of hermetic ops");
        hasher.update(seed.as_bytes());
        Self {
            time: Time::Virtual(Arc::default()),
            entropy: Entropy::Virtual(Box::new(hasher.finalize_xof())),
            seed: Seed::Of(seed),
        }
    }

    /// The machine's.
    pub(crate) fn real(clock: Arc<dyn Clock>) -> Self {
        let time = Time::Real { clock, start: Instant::now() };
        Self { time, entropy: Entropy::System, seed: Seed::System }
    }

    fn monotonic(&self) -> u64 {
        match &self.time {
            Time::Virtual(nanos) => nanos.fetch_add(LOOK, Ordering::Relaxed),
            Time::Real { start, .. } => {
                u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(MILLI)
            }
        }
    }

    fn wall(&self) -> clocks::wall_clock::Datetime {
        let (seconds, nanoseconds) = match &self.time {
            Time::Virtual(_) => {
                let nanos = self.monotonic();
                (START.saturating_add(nanos / 1_000_000_000), nanos % 1_000_000_000)
            }
            Time::Real { clock, .. } => {
                let millis = u64::try_from(clock.now().as_millis()).unwrap_or(0);
                (millis / 1_000, millis % 1_000 * MILLI)
            }
        };
        clocks::wall_clock::Datetime { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) }
    }

    fn resolution(&self) -> u64 {
        match self.time {
            Time::Virtual(_) => LOOK,
            Time::Real { .. } => MILLI,
        }
    }

    fn sleep(&self, nanos: u64) -> Sleep {
        match &self.time {
            Time::Virtual(clock) => {
                let until = clock.load(Ordering::Relaxed).saturating_add(nanos);
                Sleep::Virtual { clock: Arc::clone(clock), until }
            }
            Time::Real { .. } => Sleep::Real(tokio::time::Instant::now().checked_add(Duration::from_nanos(nanos))),
        }
    }

    fn fill(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        if length > MAX_RANDOM {
            let text = format!("the op asked for {length} random bytes at once; at most {MAX_RANDOM} are given");
            return Err(Stop::because(Code::HostCallLimit, text).into());
        }
        let mut bytes = vec![0; usize::try_from(length)?];
        match &mut self.entropy {
            Entropy::Virtual(stream) => stream.fill(&mut bytes),
            Entropy::System => getrandom::fill(&mut bytes).map_err(no_randomness)?,
        }
        Ok(bytes)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.fill(8)?);
        Ok(u64::from_le_bytes(bytes))
    }
}

fn no_randomness(error: getrandom::Error) -> Stop {
    Stop::because(Code::ExecutorLost, format!("the machine gives no randomness: {error}"))
}

/// A timer.
enum Sleep {
    /// Over as soon as somebody waits for it; the clock has then advanced to its end.
    Virtual { clock: Arc<AtomicU64>, until: u64 },
    /// None = so far away that it never comes; the wall limit does.
    Real(Option<tokio::time::Instant>),
}

#[async_trait::async_trait]
impl Pollable for Sleep {
    async fn ready(&mut self) {
        match self {
            Self::Virtual { clock, until } => {
                clock.fetch_max(*until, Ordering::Relaxed);
            }
            Self::Real(Some(until)) => tokio::time::sleep_until(*until).await,
            Self::Real(None) => std::future::pending().await,
        }
    }
}

/// Standard output and error: whole lines become log lines. Not one of tokio's streams: those take memory for writes of
/// nothing.
struct Lines {
    stream: Stream,
    outbox: Arc<Outbox>,
    line: Vec<u8>,
}

impl Lines {
    fn end_line(&mut self) {
        if !self.line.is_empty() {
            let level = match self.stream {
                Stream::Stdout => Level::Info,
                Stream::Stderr => Level::Warning,
            };
            self.outbox.log((level, Some(self.stream)), &String::from_utf8_lossy(&self.line), Vec::new());
            self.line.clear();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > MAX_WRITE {
            return Err(StreamError::trap("more bytes than were permitted"));
        }
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                byte => self.line.push(byte),
            }
            if self.line.len() >= MAX_LINE {
                self.end_line();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}

/// WASI's view of a call.
pub(crate) struct Wasi<'a>(&'a mut HostState);

struct HasWasi;

impl HasData for HasWasi {
    type Data<'a> = Wasi<'a>;
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn wasi(state: &mut HostState) -> Wasi<'_> {
    state.guard.count_call_silently();
    Wasi(state)
}

fn table(state: &mut HostState) -> &mut ResourceTable {
    state.guard.count_call_silently();
    &mut state.table
}

/// Links the interfaces that have something behind them here; the others are closed (`host::closed`).
pub(crate) fn add_to_linker(l: &mut Linker<HostState>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<_, HasTable>(l, table)?;
    io::poll::add_to_linker::<_, HasTable>(l, table)?;
    io::streams::add_to_linker::<_, HasTable>(l, table)?;
    clocks::wall_clock::add_to_linker::<_, HasWasi>(l, wasi)?;
    clocks::monotonic_clock::add_to_linker::<_, HasWasi>(l, wasi)?;
    random::random::add_to_linker::<_, HasWasi>(l, wasi)?;
    random::insecure::add_to_linker::<_, HasWasi>(l, wasi)?;
    random::insecure_seed::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::environment::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::exit::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::stdin::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::stdout::add_to_linker::<_, HasWasi>(l, wasi)?;
    cli::stderr::add_to_linker::<_, HasWasi>(l, wasi)?;
    Ok(())
}

impl Wasi<'_> {
    fn lines(&mut self, stream: Stream) -> wasmtime::Result<Resource<DynOutputStream>> {
        let lines: DynOutputStream = Box::new(Lines { stream, outbox: Arc::clone(&self.0.outbox), line: Vec::new() });
        Ok(self.0.table.push(lines)?)
    }

    fn timer(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let sleep = self.0.table.push(self.0.world.sleep(nanos))?;
        subscribe(&mut self.0.table, sleep)
    }
}

impl clocks::wall_clock::Host for Wasi<'_> {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(self.0.world.wall())
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let nanoseconds = u32::try_from(self.0.world.resolution()).unwrap_or(u32::MAX);
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds })
    }
}

impl clocks::monotonic_clock::Host for Wasi<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.0.world.monotonic())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(self.0.world.resolution())
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.0.world.monotonic();
        self.timer(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.timer(when)
    }
}

impl random::random::Host for Wasi<'_> {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.0.world.fill(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.0.world.random_u64()
    }
}

impl random::insecure::Host for Wasi<'_> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.0.world.fill(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.0.world.random_u64()
    }
}

impl random::insecure_seed::Host for Wasi<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        match self.0.world.seed {
            Seed::System => Ok((self.0.world.random_u64()?, self.0.world.random_u64()?)),
            Seed::Of(seed) => {
                // Its own hash, so that it says nothing about the stream.
                let hash = blake3::derive_key("opyard 1 hash seed of hermetic ops", seed.as_bytes());
                let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
                Ok((word(&hash[..8]), word(&hash[8..16])))
            }
        }
    }
}

impl cli::environment::Host for Wasi<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::exit::Host for Wasi<'_> {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        self.exit_with_code(u8::from(status.is_err()))
    }

    fn exit_with_code(&mut self, status_code: u8) -> wasmtime::Result<()> {
        let text = format!("the op ended its own program with exit code {status_code}");
        Err(Stop::because(Code::Trapped, text).into())
    }
}

impl cli::stdin::Host for Wasi<'_> {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(ClosedInputStream);
        Ok(self.0.table.push(stream)?)
    }
}

impl cli::stdout::Host for Wasi<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.lines(Stream::Stdout)
    }
}

impl cli::stderr::Host for Wasi<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.lines(Stream::Stderr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hermetic_world_is_a_function_of_its_seed() {
        let look = |seed: &[u8]| {
            let mut world = World::hermetic(Digest::of(seed));
            let first = world.wall();
            let bytes = world.fill(16).unwrap();
            (first.seconds, first.nanoseconds, world.monotonic(), bytes, world.random_u64().unwrap())
        };
        assert_eq!(look(b"a"), look(b"a"));
        assert_ne!(look(b"a").3, look(b"b").3);
        assert_eq!((look(b"a").0, look(b"a").1, look(b"a").2), (START, 0, LOOK));
    }

    #[tokio::test]
    async fn virtual_sleep_takes_no_time_and_advances_the_clock() {
        let world = World::hermetic(Digest::of(b""));
        let before = world.monotonic();
        world.sleep(u64::MAX / 2).ready().await;
        assert!(world.monotonic() >= before + u64::MAX / 2);
    }

    #[test]
    fn real_clocks_show_whole_milliseconds() {
        struct Odd;
        impl Clock for Odd {
            fn now(&self) -> opyard_model::time::Timestamp {
                opyard_model::time::Timestamp::from_micros(1_234_567)
            }
        }
        let mut world = World::real(Arc::new(Odd));
        assert_eq!((world.wall().seconds, world.wall().nanoseconds), (1, 234_000_000));
        assert_eq!(world.monotonic() % MILLI, 0);
        assert!(world.fill(MAX_RANDOM + 1).is_err());
    }
}
