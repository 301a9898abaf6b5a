//! The machine's clocks, read in one place.
//!
//! Leaves: microseconds on `CLOCK_MONOTONIC`, the clock by which V4L2 drivers stamp their frames, so that the age of a
//! frame is a subtraction; and the wall clock, which people and other machines understand but which may jump.

use std::time::{SystemTime, UNIX_EPOCH};

use roadhound_shared::frame::Timestamp;

/// Now, on the machine's monotonic clock.
///
/// ```
/// let earlier = roadhound_edge::clock::monotonic();
/// assert!(roadhound_edge::clock::monotonic() >= earlier);
/// ```
pub fn monotonic() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Timestamp(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000)
}

/// Microseconds since 1970 on the wall clock; 0 where it is set to before that.
pub fn unix_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
