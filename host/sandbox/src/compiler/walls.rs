//! What a process that compiles takes from itself before it looks at hostile bytes.
//!
//! Each wall that cannot be put up is an error: a process that is half shut in is not used.

use std::time::Duration;

use opyard_model::limits::ByteSize;
use rustix::process::{Resource, Rlimit, setrlimit};

/// The first half, before anything is prepared: the process ends with its host, has no descriptors but its pipes, and may
/// have so much memory and CPU time.
pub(super) fn limit(memory: ByteSize, cpu: Duration) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| format!("asking to end with the host: {error}"))?;
    close_descriptors()?;
    let limits = [
        (Resource::As, memory.0, memory.0),
        // The first ends the process with a signal that says why; the second is there should it be ignored.
        (Resource::Cpu, cpu.as_secs(), cpu.as_secs() + 1),
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
        // Those that are open stay open, and no other can be opened.
        (Resource::Nofile, 0, 0),
    ];
    for (resource, current, maximum) in limits {
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        setrlimit(resource, limit).map_err(|error| format!("limiting {resource:?} to {current}: {error}"))?;
    }
    Ok(())
}

/// Closes what was inherited. A program that starts ours may have left open what it likes: sockets, locks, pipes of a build.
fn close_descriptors() -> Result<(), String> {
    let seen = |error: std::io::Error| format!("listing the open descriptors: {error}");
    let mut inherited = Vec::new();
    for entry in std::fs::read_dir("/dev/fd").map_err(seen)? {
        let name = entry.map_err(seen)?.file_name();
        if let Some(fd) = name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|fd| *fd > 2) {
            inherited.push(fd);
        }
    }
    for fd in inherited {
        // The one of the listing is closed by now.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// The second half, once the compiler is ready: no system call that is not needed to compute, on any thread.
#[cfg(target_os = "linux")]
pub(super) fn shut() -> Result<(), String> {
    filter::apply()?;
    // No limit refuses this, but the filter does: one that lets it through is none.
    if std::fs::metadata("/").is_ok() { Err("a folder can be looked at behind the filter".to_owned()) } else { Ok(()) }
}

/// Other systems have no such filter: the limits stand alone.
#[cfg(not(target_os = "linux"))]
pub(super) fn shut() -> Result<(), String> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod filter {
    use std::collections::BTreeMap;

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        apply_filter_all_threads,
    };

    /// What computing needs: the pipes, memory, waiting for each other, randomness for hash maps, and ending, in whichever way.
    const NEEDED: [i64; 24] = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_tgkill,
        libc::SYS_sched_getaffinity,
        libc::SYS_rseq,
    ];

    /// Everything else answers that it is not permitted. (It does not end the process: what a library tries in passing, and
    /// can do without, differs between versions and systems, and is as far away either way.)
    pub(super) fn apply() -> Result<(), String> {
        let wrong = |error: seccompiler::BackendError| format!("making the filter of system calls: {error}");
        // Memory yes, but none that can be executed: what compiles makes code, and runs none.
        let not_executable = || {
            let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
            let masked = SeccompCmpOp::MaskedEq(executable);
            let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, masked, 0);
            condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(wrong)
        };
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEEDED.into_iter().map(|call| (call, Vec::new())).collect();
        rules.insert(libc::SYS_mmap, vec![not_executable()?]);
        rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
        let arch = std::env::consts::ARCH.try_into().map_err(wrong)?;
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch).map_err(wrong)?;
        let program: BpfProgram = filter.try_into().map_err(wrong)?;
        apply_filter_all_threads(&program).map_err(|error| format!("filtering system calls: {error}"))
    }
}
