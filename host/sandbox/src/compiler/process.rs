//! Compiling in a process of its own: its host's side.
//!
//! Compiling is the cheapest attack there is: some KiB of nested loops take half a minute, and no setting of wasmtime's
//! bounds it. The process limits itself before it is given a byte (see [`worker`](super::worker)), and here it is ended when
//! it takes too long, when nobody waits for it any more, or when it says what it should not.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::digest::Digest;
use opyard_model::error::{Code, Failure, MAX_DESCRIPTION, sanitize};
use opyard_model::limits::ByteSize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::Signal;
use tokio::sync::Semaphore;

use super::wire::{self, Answer, Ear, Garbage, Heard};
use super::{Compiler, MAX_CODE};

/// Components up to this size are compiled within [`CompileLimits`]; each such amount begun has them once more.
const SHARE: u64 = 16 << 20;
/// How long a process that has closed its pipe may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most that is kept of what a process writes to its standard error.
const MAX_COMPLAINTS: usize = 4 << 10;
/// What is read or written at one time.
const PIECE: usize = 64 << 10;

/// What compiling one component of at most 16 MiB may take. A larger one, where such are admitted at all, may take this much
/// for each 16 MiB begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the process.
    pub memory: ByteSize,
    /// CPU time, in whole seconds; at least one.
    pub cpu: Duration,
    /// Time from outside: however busy the machine is, and whatever becomes of the process.
    pub wall: Duration,
    /// Components that are compiled at one time; more wait.
    pub parallel: usize,
}

impl Default for CompileLimits {
    /// 2 GiB, 30 s of CPU, 2 minutes, as many at a time as there are cores, 4 at most.
    fn default() -> Self {
        Self {
            memory: ByteSize(2 << 30),
            cpu: Duration::from_secs(30),
            wall: Duration::from_secs(120),
            parallel: available_parallelism().map_or(1, std::num::NonZero::get).min(4),
        }
    }
}

impl CompileLimits {
    fn of_size(self, bytes: u64) -> Self {
        let times = u32::try_from(bytes.div_ceil(SHARE)).unwrap_or(u32::MAX).max(1);
        Self {
            memory: ByteSize(self.memory.0.saturating_mul(times.into())),
            cpu: self.cpu.saturating_mul(times),
            wall: self.wall.saturating_mul(times),
            parallel: self.parallel,
        }
    }
}

/// The program that compiles, in a process of its own for each component. It has to call
/// [`compile_worker`](crate::compile_worker) when it is started with `arguments` and, behind them, the bytes of address
/// space and the seconds of CPU time that it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileWorker {
    /// The program's file.
    pub program: PathBuf,
    /// What it is started with.
    pub arguments: Vec<OsString>,
    /// What it may take.
    pub limits: CompileLimits,
}

impl CompileWorker {
    /// This very program, started with one argument.
    ///
    /// # Errors
    /// When it cannot be said which file that is.
    pub fn this_program(argument: &str) -> io::Result<Self> {
        // The file that was started, also when another has its name by now.
        let itself = PathBuf::from("/proc/self/exe");
        let program = if itself.exists() { itself } else { std::env::current_exe()? };
        Ok(Self { program, arguments: vec![argument.into()], limits: CompileLimits::default() })
    }

    /// Starts it: with pipes and nothing else of ours.
    fn start(&self, limits: CompileLimits) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .arg(limits.memory.0.to_string())
            .arg(limits.cpu.as_secs().max(1).to_string())
            .env_clear()
            .current_dir("/")
            // An interrupt at the terminal is for the host, which ends this process in its own time.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// Compiles each component in a process of its own, a few at a time.
pub struct ProcessCompiler {
    worker: CompileWorker,
    /// The engine that the code is for.
    engine: Digest,
    permits: Semaphore,
}

impl ProcessCompiler {
    /// A compiler for the engine of this fingerprint.
    pub(crate) fn new(worker: CompileWorker, engine: Digest) -> Self {
        let permits = Semaphore::new(worker.limits.parallel.max(1));
        Self { worker, engine, permits }
    }
}

#[async_trait]
impl Compiler for ProcessCompiler {
    async fn compile(&self, component: Bytes) -> Result<Vec<u8>, Failure> {
        let _permit = self.permits.acquire().await.map_err(|error| Failure::new(Code::Invariant, error.to_string()))?;
        let (watched, caller): (PipeReader, PipeWriter) = io::pipe().map_err(|error| not_started(&error))?;
        let (worker, engine) = (self.worker.clone(), self.engine);
        // One thread from beginning to end: on Linux the process is killed when the thread that started it is gone.
        let session = tokio::task::spawn_blocking(move || {
            let limits = worker.limits.of_size(component.len() as u64);
            let child = worker.start(limits).map_err(|error| not_started(&error))?;
            Session::new(child, wire::greeting(&engine), limits, component.len()).run(&component, &watched)
        });
        let compiled = session.await;
        // Closed before, when this future is dropped: the session sees that nobody waits.
        drop(caller);
        compiled.unwrap_or_else(|error| Err(Failure::new(Code::HostPanic, format!("compiling stopped: {error}"))))
    }
}

/// A process that compiles, and what was heard of it. Dropped, it is killed.
struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    ear: Ear,
    /// What it wrote to its standard error: for whoever has to find out why it ended.
    complaints: Vec<u8>,
    limits: CompileLimits,
    start: Instant,
}

/// How a session ended.
enum End {
    Answered(Answer),
    /// The process closed its pipe before it had answered.
    Silent,
    Garbage,
    TooLong,
    /// Nobody waits for the code.
    Alone,
}

/// What there is to be done about a process.
#[derive(Default)]
struct Ready {
    alone: bool,
    to_hear: bool,
    complains: bool,
    takes_more: bool,
}

impl Session {
    fn new(mut child: Child, greeting: [u8; wire::GREETING], limits: CompileLimits, size: usize) -> Self {
        // Code is some ten times as large as wasm, with a floor for what every component has.
        let max_code = (size as u64).saturating_mul(64).saturating_add(16 << 20).min(MAX_CODE);
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            ear: Ear::new(greeting, max_code),
            complaints: Vec::new(),
            limits,
            start: Instant::now(),
        }
    }

    fn run(mut self, component: &[u8], caller: &PipeReader) -> Result<Vec<u8>, Failure> {
        let end = self.talk(component, caller).map_err(|error| {
            Failure::new(Code::CompilerFailed, format!("the compiler's process cannot be talked to: {error}"))
        })?;
        let limits = self.limits;
        Err(match end {
            End::Answered(Answer::Code(code)) => return Ok(code),
            // In the very words of a compiler in this process.
            End::Answered(Answer::Invalid(why)) => {
                Failure::new(Code::ComponentInvalid, sanitize(&why, MAX_DESCRIPTION))
            }
            End::Answered(Answer::TooLarge(what)) => Failure::new(Code::TooLarge, sanitize(&what, MAX_DESCRIPTION)),
            End::Answered(Answer::OutOfMemory) => out_of_memory(&limits),
            End::Answered(Answer::Panicked(words)) => {
                let text = format!("the compiler panicked, in its own process: {}", sanitize(&words, 1 << 10));
                Failure::new(Code::HostPanic, text)
            }
            End::Silent => {
                let status = self.status().map_err(|error| Failure::new(Code::CompilerFailed, error.to_string()))?;
                of_status(status, &self.complaints, &limits)
            }
            End::Garbage => Failure::new(
                Code::CompilerFailed,
                "the compiler's process says what no process of this program says: was the program replaced?",
            ),
            End::TooLong => {
                Failure::new(Code::CompilerFailed, format!("the compiler's process took longer than {:?}", limits.wall))
            }
            End::Alone => Failure::new(Code::Canceled, "nobody waits for the component any more"),
        })
    }

    /// Gives the process its component once it has shut itself in, and listens until it has answered or there is no more to
    /// be heard.
    fn talk(&mut self, component: &[u8], caller: &PipeReader) -> io::Result<End> {
        if let Some(stdin) = &self.stdin {
            let flags = rustix::fs::fcntl_getfl(stdin)?;
            rustix::fs::fcntl_setfl(stdin, flags | OFlags::NONBLOCK)?;
        }
        let (mut unsent, mut greeted) = (component, false);
        let mut piece = vec![0; PIECE];
        loop {
            let Some(left) = self.limits.wall.checked_sub(self.start.elapsed()) else { return Ok(End::TooLong) };
            let ready = self.wait(caller, left, greeted)?;
            if ready.alone {
                return Ok(End::Alone);
            }
            if ready.complains {
                self.take_complaints(&mut piece);
            }
            if ready.to_hear {
                let Some(stdout) = &mut self.stdout else { return Ok(End::Silent) };
                let length = match stdout.read(&mut piece) {
                    Ok(0) => return Ok(End::Silent),
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                match self.ear.hear(&piece[..length]) {
                    Ok(Heard::Nothing) => {}
                    Ok(Heard::Greeting) => greeted = true,
                    Ok(Heard::Answer(answer)) => return Ok(End::Answered(answer)),
                    Err(Garbage) => return Ok(End::Garbage),
                }
            }
            if ready.takes_more {
                self.send(&mut unsent);
            }
        }
    }

    /// Waits until there is something to do, `left` at most.
    fn wait(&self, caller: &PipeReader, left: Duration, greeted: bool) -> io::Result<Ready> {
        let (mut fds, mut whose) = (Vec::with_capacity(4), Vec::with_capacity(4));
        // Nothing is ever written there: it is ready when its other end is closed.
        fds.push(PollFd::new(caller, PollFlags::IN));
        whose.push((|ready| ready.alone = true) as fn(&mut Ready));
        if let Some(stdout) = &self.stdout {
            fds.push(PollFd::new(stdout, PollFlags::IN));
            whose.push(|ready| ready.to_hear = true);
        }
        if let Some(stderr) = &self.stderr {
            fds.push(PollFd::new(stderr, PollFlags::IN));
            whose.push(|ready| ready.complains = true);
        }
        // A process that has not shut itself in is given nothing.
        if let Some(stdin) = self.stdin.as_ref().filter(|_| greeted) {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
            whose.push(|ready| ready.takes_more = true);
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut ready = Ready::default();
        match poll(&mut fds, Some(&left)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(ready),
            Err(error) => return Err(error.into()),
        }
        for (fd, mark) in fds.iter().zip(whose) {
            if !fd.revents().is_empty() {
                mark(&mut ready);
            }
        }
        Ok(ready)
    }

    /// Sends what the pipe takes; at the end, closes it. One that takes nothing any more has its reasons: they are heard on
    /// the other pipe.
    fn send(&mut self, unsent: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(&unsent[..unsent.len().min(PIECE)]) {
            Ok(sent) => *unsent = &unsent[sent..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Err(_) => *unsent = &[],
        }
        if unsent.is_empty() {
            self.stdin = None;
        }
    }

    fn take_complaints(&mut self, piece: &mut [u8]) {
        let Some(stderr) = &mut self.stderr else { return };
        match stderr.read(piece) {
            Ok(length) if length > 0 => {
                let room = MAX_COMPLAINTS - self.complaints.len();
                self.complaints.extend_from_slice(&piece[..length.min(room)]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => self.stderr = None,
        }
    }

    /// How the process ended. One that has closed its pipes and goes on is ended; of one that is ending, that changes nothing.
    fn status(&mut self) -> io::Result<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        let mut piece = vec![0; PIECE];
        // What it had to say of its end comes with its end.
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|_| self.stderr.is_some()) {
            let Some(stderr) = &self.stderr else { break };
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(stderr, PollFlags::IN)], Some(&left)) {
                Ok(0) => break,
                Ok(_) => self.take_complaints(&mut piece),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Already ended, or ended now: neither can fail in a way that anybody could mend.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn not_started(error: &io::Error) -> Failure {
    Failure::new(Code::CompilerFailed, format!("the compiler's process cannot be started: {error}"))
}

fn out_of_memory(limits: &CompileLimits) -> Failure {
    let text = format!("compiling the component takes more memory than it may: {}", limits.memory);
    Failure::new(Code::CompileLimit, text)
}

/// What it means that a process ended before it had answered.
fn of_status(status: ExitStatus, complaints: &[u8], limits: &CompileLimits) -> Failure {
    let complaints = String::from_utf8_lossy(complaints);
    let told = |text: String| match complaints.trim() {
        "" => text,
        said => format!("{text}: {}", sanitize(said, 1 << 10)),
    };
    let Some(signal) = status.signal() else {
        let text = told(format!("the compiler's process ended without an answer ({status})"));
        return Failure::new(Code::CompilerFailed, text);
    };
    // In the words of Rust's library, which ends the process in these two cases.
    if complaints.contains("memory allocation of") {
        return out_of_memory(limits);
    }
    if complaints.contains("overflowed its stack") {
        let text = "compiling the component needs a deeper stack than it may have";
        return Failure::new(Code::CompileLimit, text);
    }
    let is = |known: Signal| known.as_raw() == signal;
    if is(Signal::XCPU) {
        let text = format!("compiling the component takes more CPU time than it may: {:?}", limits.cpu);
        return Failure::new(Code::CompileLimit, text);
    }
    if [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE, Signal::ABORT, Signal::TRAP].into_iter().any(is) {
        return Failure::new(Code::HostPanic, told(format!("the compiler crashed, in its own process ({status})")));
    }
    Failure::new(Code::CompilerFailed, told(format!("the compiler's process was ended by something else ({status})")))
}
