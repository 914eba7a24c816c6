//! What this process holds of memory and does not need.
#![expect(unsafe_code, reason = "nobody offers these calls as safe ones")]

/// Blocks of this size and more come from the kernel and go back there at once (mallopt(3)): else one
/// that is freed makes all later ones come out of the heap, in which they leave holes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: std::ffi::c_int = 128 * 1024;

/// To be called once, at the start.
pub fn keep_large_blocks_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt(3) sets a number under the allocator's own locks.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives back what a burst leaves: free memory, which the allocator would keep, and pages of the
/// program and its libraries, which the kernel maps by the dozen around each one that is touched, and
/// counts for each process. Those that are needed again are mapped again, from memory. Takes about a
/// millisecond. Does nothing where it does not know how.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) touches only what is free, under the allocator's own locks; the callback is
    // given a valid description of each loaded object, and keeps none.
    unsafe {
        nix::libc::malloc_trim(0);
        nix::libc::dl_iterate_phdr(Some(unmap), std::ptr::null_mut());
    }
}

/// Unmaps what nobody can have written of one loaded object (madvise(2), `MADV_DONTNEED`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" fn unmap(
    object: *mut nix::libc::dl_phdr_info,
    _: usize,
    _: *mut std::ffi::c_void,
) -> std::ffi::c_int {
    use nix::libc::{MADV_DONTNEED, PF_W, PT_LOAD, madvise};

    const PAGE: usize = 4096;
    // SAFETY: dl_iterate_phdr(3) promises both.
    let (object, segments) = unsafe {
        let object = &*object;
        (object, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for segment in segments.iter().filter(|one| one.p_type == PT_LOAD && one.p_flags & PF_W == 0) {
        let begins = usize::try_from(object.dlpi_addr + segment.p_vaddr);
        let (Ok(begins), Ok(size)) = (begins, usize::try_from(segment.p_memsz)) else { continue };
        let from = begins & !(PAGE - 1);
        let length = (begins + size).next_multiple_of(PAGE) - from;
        // SAFETY: these pages are as they are in the file, and come from there again.
        unsafe { madvise(from as *mut _, length, MADV_DONTNEED) };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is given back is there again, with what was written at the start: addresses in tables.
    #[test]
    fn a_program_goes_on_with_what_it_has_given_back() {
        const TABLE: [fn(&str) -> String; 2] = [str::to_uppercase, str::to_lowercase];
        let held = vec![7_u8; 1 << 20];
        keep_large_blocks_apart();
        for _ in 0..3 {
            give_back();
            let said: Vec<String> = std::hint::black_box(TABLE).iter().map(|f| f("Aa")).collect();
            assert_eq!(said, ["AA", "aa"]);
            assert!(held.iter().all(|byte| *byte == 7));
        }
    }
}
