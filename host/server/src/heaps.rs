//! The memory of a process that drives runs.

/// Has the allocator of the C library share few heaps between threads. To be called before any thread is started; does
/// nothing where the allocator is another.
///
/// It would give threads heaps of their own, up to eight a core, and keep in each what was freed there. Here values are made
/// by one thread and freed by another, so that the peaks of all heaps would add up: a map over 10,000 items took twice the
/// memory, and no less CPU time.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "a setting of the C library that has no safe form")
)]
pub fn share_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let heaps = i32::try_from(cores).unwrap_or(i32::MAX).max(2);
        // SAFETY: `mallopt` takes two numbers, and no other thread is there that could allocate meanwhile.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, heaps);
        }
    }
}
