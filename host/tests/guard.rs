//! Who is heard when decoders panic. A process of its own: the panic hook belongs to all of it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Barrier, Mutex, Once};

use roadhound_host::guard::quietly;

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Puts a hook in place, before the guard's first call, that notes what it hears.
fn listen() {
    static PLACED: Once = Once::new();
    PLACED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let said = panic.payload().downcast_ref::<String>().cloned();
            HEARD.lock().unwrap().extend(said);
        }));
    });
}

/// Panics with words that no other test says.
fn blow(words: &str) {
    std::panic::panic_any(words.to_owned());
}

fn is_heard(words: &str) -> bool {
    HEARD.lock().unwrap().iter().any(|said| said == words)
}

#[test]
fn a_panic_inside_becomes_one_line_and_is_not_heard() {
    listen();
    let error = quietly(|| blow("cut\n  short")).unwrap_err();
    assert_eq!(error, "the reader gave up: cut short");
    assert!(!is_heard("cut\n  short"));
    assert_eq!(quietly(|| 2), Ok(2));
    let error = quietly(|| std::panic::panic_any(7_u8)).unwrap_err();
    assert_eq!(error, "the reader gave up: no reason given");
}

#[test]
fn the_outer_of_two_calls_stays_quiet_after_the_inner_has_ended() {
    listen();
    let outer = quietly(|| {
        let inner = quietly(|| blow("inner of two"));
        assert!(inner.is_err());
        assert_eq!(quietly(|| 1), Ok(1));
        blow("outer of two");
    });
    assert_eq!(outer.unwrap_err(), "the reader gave up: outer of two");
    assert!(!is_heard("inner of two") && !is_heard("outer of two"));
}

#[test]
fn a_panic_after_the_call_is_heard_again() {
    listen();
    for words in ["after a result", "after a panic"] {
        let _ = quietly(|| {
            if words == "after a panic" {
                blow("quiet before");
            }
        });
        assert!(std::panic::catch_unwind(|| blow(words)).is_err());
        assert!(is_heard(words), "{words}");
    }
    assert!(!is_heard("quiet before"));
}

#[test]
fn a_panic_on_another_thread_is_heard_while_this_one_is_guarded() {
    listen();
    let both = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            both.wait();
            let panicked = std::panic::catch_unwind(|| blow("on another thread")).is_err();
            both.wait();
            panicked
        });
        let guarded = quietly(|| {
            both.wait();
            both.wait();
            blow("on the guarded thread");
        });
        assert!(other.join().unwrap() && guarded.is_err());
    });
    assert!(is_heard("on another thread") && !is_heard("on the guarded thread"));
}

#[test]
fn threads_that_race_leave_nobody_silenced_and_nothing_said() {
    listen();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for round in 0..200 {
                    let words = format!("race {thread} {round}");
                    assert!(quietly(|| blow(&words)).is_err());
                }
            });
        }
    });
    let said = HEARD.lock().unwrap().clone();
    assert!(
        !said.iter().any(|words| words.starts_with("race")),
        "{said:?}"
    );
    assert!(std::panic::catch_unwind(|| blow("after the race")).is_err());
    assert!(is_heard("after the race"));
}
