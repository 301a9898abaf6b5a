//! A place for one thing: a newer one takes the place of an older one that nobody took.
//!
//! Enters: frames from the thread that captures. Leaves: the newest, to the thread that tracks, and the one that was
//! replaced, to be counted. A tracker that is slower than the camera thus never looks at a stale picture.
//!
//! ```
//! use std::time::Duration;
//! use roadhound_edge::capture::newest::Newest;
//! let slot = Newest::default();
//! assert_eq!(slot.put(1), None);
//! assert_eq!(slot.put(2), Some(1)); // nobody took it: one dropped
//! assert_eq!(slot.take(Duration::ZERO), Some(2));
//! assert_eq!(slot.take(Duration::ZERO), None);
//! ```

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The place.
#[derive(Debug)]
pub struct Newest<T> {
    held: Mutex<Option<T>>,
    changed: Condvar,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self {
            held: Mutex::new(None),
            changed: Condvar::new(),
        }
    }
}

impl<T> Newest<T> {
    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        // What is held is replaced as a whole, so a thread that panicked left nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a thing there and gives back the one that nobody took. Never waits for a taker.
    pub fn put(&self, thing: T) -> Option<T> {
        let replaced = self.lock().replace(thing);
        self.changed.notify_all();
        replaced
    }

    /// Puts a thing there once the place is empty; gives it back where that takes longer than `wait`. For sources that
    /// wait for whoever looks.
    ///
    /// # Errors
    /// The thing, where the place stayed taken.
    pub fn put_when_empty(&self, thing: T, wait: Duration) -> Result<(), T> {
        let end = Instant::now() + wait;
        let mut held = self.lock();
        while held.is_some() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(thing);
            }
            held = self
                .changed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *held = Some(thing);
        drop(held);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes the thing, waiting at most `wait` for one.
    pub fn take(&self, wait: Duration) -> Option<T> {
        let end = Instant::now() + wait;
        let mut held = self.lock();
        loop {
            if let Some(thing) = held.take() {
                drop(held);
                self.changed.notify_all();
                return Some(thing);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            held = self
                .changed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.lock().is_none()
    }

    /// Wakes whoever waits, to look at other things than this place.
    pub fn wake(&self) {
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_slow_taker_sees_numbers_that_only_grow_and_none_is_unaccounted_for() {
        const PUT: u64 = 20_000;
        let slot = Arc::new(Newest::default());
        let taker = std::thread::spawn({
            let slot = slot.clone();
            move || {
                let (mut seen, mut last) = (0, None);
                while let Some(number) = slot.take(Duration::from_secs(10)) {
                    assert!(last.is_none_or(|last| number > last));
                    last = Some(number);
                    seen += 1;
                    if number % 97 == 0 {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    if number == PUT - 1 {
                        break;
                    }
                }
                seen
            }
        });
        let dropped = (0..PUT).filter(|&n| slot.put(n).is_some()).count() as u64;
        assert_eq!(taker.join().unwrap() + dropped, PUT);
    }

    #[test]
    fn a_source_that_waits_drops_nothing() {
        let slot = Arc::new(Newest::default());
        let taker = std::thread::spawn({
            let slot = slot.clone();
            move || {
                (0..500)
                    .map(|_| slot.take(Duration::from_secs(10)).unwrap())
                    .collect::<Vec<u32>>()
            }
        });
        for n in 0..500 {
            slot.put_when_empty(n, Duration::from_secs(10)).unwrap();
        }
        assert_eq!(taker.join().unwrap(), (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_place_that_stays_taken_gives_the_thing_back() {
        let slot = Newest::default();
        slot.put(1);
        assert_eq!(slot.put_when_empty(2, Duration::from_millis(5)), Err(2));
        assert_eq!(slot.take(Duration::ZERO), Some(1));
    }
}
