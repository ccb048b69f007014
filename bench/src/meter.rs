//! CPU time, wall time and memory of this process, and what machine it runs on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::table::Machine;

/// What something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

impl Spent {
    /// Microseconds of CPU and wall time, each of `count`.
    pub(crate) fn micros(self, count: usize) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "counts of steps are small")]
        let count = count as f64;
        (self.cpu.as_secs_f64() * 1e6 / count, self.wall.as_secs_f64() * 1e6 / count)
    }
}

/// A measurement that has begun.
pub(crate) struct Meter {
    cpu: Duration,
    wall: Instant,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { cpu: process_cpu(), wall: Instant::now() }
    }

    pub(crate) fn stop(&self) -> Spent {
        Spent { cpu: process_cpu().saturating_sub(self.cpu), wall: self.wall.elapsed() }
    }
}

/// User and system time of the process: what `getrusage` says, in nanoseconds.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The most memory that was resident since the process began or since [`forget_peak`], in bytes.
pub(crate) fn peak_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading the peak of memory")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
    Ok(kib.context("no peak of memory")?.trim().parse::<f64>()? * 1024.0)
}

/// Takes the memory that is resident now for the peak.
pub(crate) fn forget_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak of memory")
}

/// What machine this is.
pub(crate) fn machine() -> Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = read("/proc/meminfo")?;
    let kib: f64 = value(&memory, "MemTotal")
        .and_then(|text| text.strip_suffix(" kB")?.parse().ok())
        .context("no size of memory")?;
    let release = read("/proc/sys/kernel/osrelease")?;
    let load = read("/proc/loadavg")?;
    Ok(Machine {
        cpu: value(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_gib: (kib / 1024.0 / 1024.0).round(),
        // What comes after the version is the name that somebody gave to a build.
        kernel: release.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default().to_owned(),
        load: load.split(' ').next().context("no load")?.parse()?,
    })
}
