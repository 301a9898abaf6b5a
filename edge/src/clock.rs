//! The machine's clocks, read in one place.
//!
//! Leaves: microseconds on `CLOCK_MONOTONIC`, the clock by which V4L2 drivers stamp their frames, so that the age of a
//! frame is a subtraction; the wall clock, which people and other machines understand but which may jump; and, for
//! measurements, time since some moment in nanoseconds, as it passes or as the processor spends it on a thread.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use roadhound_shared::frame::Timestamp;

/// Now, on the machine's monotonic clock.
///
/// ```
/// let earlier = roadhound_edge::clock::monotonic();
/// assert!(roadhound_edge::clock::monotonic() >= earlier);
/// ```
pub fn monotonic() -> Timestamp {
    Timestamp(elapsed().as_micros() as u64)
}

/// Time on the monotonic clock, in full.
pub fn elapsed() -> Duration {
    since(ClockId::Monotonic)
}

/// What the processor has spent on this thread.
///
/// ```
/// use std::time::Duration;
///
/// let before = roadhound_edge::clock::of_this_thread();
/// std::thread::sleep(Duration::from_millis(50));
/// // Who sleeps costs nothing.
/// assert!(roadhound_edge::clock::of_this_thread() - before < Duration::from_millis(25));
/// ```
pub fn of_this_thread() -> Duration {
    since(ClockId::ThreadCPUTime)
}

fn since(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Microseconds since 1970 on the wall clock; 0 where it is set to before that.
pub fn unix_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
