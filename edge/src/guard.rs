//! Panics of other people's readers become messages.
//!
//! Enters: work on bytes that came from outside. Leaves: its result, or one line of text. Our own code does not panic on
//! input; decoders and graph readers from elsewhere index and unwrap on damaged files, and a recording on a worn card must
//! end in an error, not in a crash.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` and turns a panic into its message, without the panic's own lines on standard error.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    result.map_err(|payload: Box<dyn Any + Send>| {
        let said = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        format!(
            "the reader gave up: {}",
            said.split_whitespace().collect::<Vec<_>>().join(" ")
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_panic_becomes_one_line() {
        let values = [1, 2, 3];
        let at = std::hint::black_box(7);
        let error = quietly(|| values[at]).unwrap_err();
        assert!(
            error.contains("gave up") && error.contains("index is 7") && !error.contains('\n'),
            "{error}"
        );
        assert_eq!(quietly(|| values[1]), Ok(2));
    }
}
