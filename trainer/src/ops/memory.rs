//! Process-wide settings of what runs underneath: the allocator, and candle's own threads.

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

/// Makes candle's matrix products use `threads` threads, and everything else of candle the calling thread.
///
/// candle keeps a second pool of threads, as many as the machine has, that spin while they wait: next to rayon's
/// pool or on a machine that does other work they cost a fifth of a training step and save nothing. candle reads
/// these settings from the environment at the first tensor operation; later calls have no effect.
///
/// Call it before other threads start: on some systems, changing the environment while another thread reads it is
/// a data race.
pub fn set_candle_threads(threads: usize) {
    #[expect(
        unsafe_code,
        reason = "candle takes these settings only from the environment"
    )]
    // SAFETY: documented above: called while the program has one thread.
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::set_var("RAYON_NUM_THREADS", threads.max(1).to_string());
    }
}
