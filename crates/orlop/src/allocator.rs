//! The system's allocator, told how this program uses memory.

/// Threads share two heaps. By default glibc gives each of the many threads that wait for disks a
/// heap of its own, and what is freed in one is of no use to the others.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(crate) fn share_heaps() {
    const HEAPS: libc::c_int = 2;
    // SAFETY: mallopt(3) takes two numbers, changes only the allocator's own state, and is called
    // before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Other allocators need no telling.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_heaps() {}
