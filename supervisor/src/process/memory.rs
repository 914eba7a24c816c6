//! What this process holds of the heap and does not need.
#![expect(unsafe_code, reason = "nobody offers this call as a safe one")]

/// Gives free memory back, which the allocator would keep after a burst. Takes about a millisecond.
/// Does nothing where it does not know how.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) touches only what is free, under the allocator's own locks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
