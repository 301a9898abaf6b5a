//! What the allocator does with the memory of dropped tensors.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// mimalloc's `mi_option_purge_delay`, for which its bindings have no constant: index 15 in versions 2 and 3.
const PURGE_DELAY: mi_option_t = 15;

/// Makes mimalloc keep freed memory instead of returning it to the system after some milliseconds.
///
/// A training step frees and allocates gigabytes of tensors; without this, a tenth of its time goes into the
/// system clearing the same pages again and again. Call it first in `main` of a program whose global allocator is
/// mimalloc; elsewhere it changes nothing. Peak memory stays what it is.
pub fn keep_freed_memory() {
    #[expect(unsafe_code, reason = "a C function of the allocator")]
    // SAFETY: the function takes two integers, and options may be set at any time.
    unsafe {
        mi_option_set(PURGE_DELAY, -1);
    }
}
