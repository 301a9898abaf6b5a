//! Panics of other people's readers become messages.
//!
//! Enters: work on bytes that came from outside. Leaves: its result, or one line of text. Our own code does not panic on
//! input; decoders and graph readers from elsewhere index and unwrap on damaged files, and a recording on a worn card must
//! end in an error, not in a crash.
//!
//! The first call puts a hook before the process's panic hook, for good. It holds its tongue on threads that are inside
//! [`quietly`] and passes every other panic on to the hook that was there: calls may nest, and other threads are heard.
//! A panic on a thread that the work started itself is heard too.
//!
//! ```
//! use roadhound_host::guard::quietly;
//! let bytes = [1_u8, 2];
//! assert_eq!(quietly(|| bytes[1]), Ok(2));
//! let at = bytes.len();
//! assert!(quietly(|| bytes[at]).is_err_and(|line| line.contains("out of bounds")));
//! ```

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::line::joined;

thread_local! {
    /// How many calls of [`quietly`] this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `work` and turns a panic into its message, without the panic's own lines on standard error.
///
/// What `work` was changing when it panicked may be half changed: a decoder that panicked is dropped, not used again.
///
/// # Errors
/// The panic's words, in one line.
pub fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    listen_by_thread();
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(work));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|payload: Box<dyn Any + Send>| {
        let said = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        format!("the reader gave up: {}", joined(said))
    })
}

/// Puts the hook in place, once a process. Swapping hooks at every call would race: two threads could put back each
/// other's silence for good, and a panic elsewhere would go unheard meanwhile.
fn listen_by_thread() {
    static PLACED: Once = Once::new();
    PLACED.call_once(|| {
        let heard = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A thread whose storage is already gone is not inside a call.
            let is_inside = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false);
            if !is_inside {
                heard(panic);
            }
        }));
    });
}
