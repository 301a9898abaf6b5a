//! Panics of our own code that somebody caught. Readers of other people's files run behind a guard that turns their panics into
//! errors, and parts of ours run in the middle of them: what panics there looks like a damaged file unless a test looks closer.

#![allow(unreachable_pub)]

use std::cell::RefCell;
use std::sync::Once;

use roadhound_host::guard::quietly;

thread_local! {
    /// Where this thread panicked, while somebody wants to know.
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Stops listening also where the work's panic is not caught.
struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        SEEN.with(|seen| seen.take());
    }
}

/// Runs `work`, and gives beside its result the places in files of this project where this thread panicked meanwhile.
pub fn of_ours<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    listen();
    SEEN.with(|seen| seen.replace(Some(Vec::new())));
    let _listening = Listening;
    let result = work();
    let places = SEEN.with(RefCell::take).unwrap_or_default();
    (result, places)
}

/// A hook before that of the guard, which says nothing of what it catches; once a process.
fn listen() {
    static PLACED: Once = Once::new();
    PLACED.call_once(|| {
        // The guard's comes first, so that ours is before it.
        let _ = quietly(|| ());
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(place) = panic.location()
                && is_ours(place.file())
            {
                let note = |seen: &RefCell<Option<Vec<String>>>| {
                    if let Ok(mut seen) = seen.try_borrow_mut()
                        && let Some(places) = seen.as_mut()
                    {
                        places.push(format!("{}:{}", place.file(), place.line()));
                    }
                };
                // A thread whose storage is already gone is in nobody's work.
                let _ = SEEN.try_with(note);
            }
            next(panic);
        }));
    });
}

/// Whether a file is one of the sources of this project: their names are relative or not, as they were compiled.
fn is_ours(file: &str) -> bool {
    ["edge/src/", "host/src/", "shared/src/", "trainer/src/"]
        .iter()
        .any(|folder| file.contains(folder))
}
