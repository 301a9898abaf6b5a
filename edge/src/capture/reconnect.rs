//! When to open a camera, when to read it, when to give it up: a state machine without a clock, a thread or a device.
//!
//! Enters: what happened, and when. Leaves: what to do next, from [`Reconnect::next`]. The thread in [`super::stage`]
//! does it and reports back.
//!
//! | state | what happened | next |
//! |---|---|---|
//! | Closed | the pause is over | open |
//! | Closed | opening failed | Closed, the pause twice as long, at most `longest_millis` |
//! | Closed | no frame for `give_up_after_seconds`, where that is not 0 | Gone |
//! | Closed | opened | Open |
//! | Open | a frame | Open; after `healthy_after_millis` of frames the pause is the first one again |
//! | Open | `corrupt_in_row` damaged frames | Closed (corrupt) |
//! | Open | no good frame for `stall_after_millis` | Closed (stalled) |
//! | Open | an error | Closed (gone, io, format) |
//!
//! A camera that opens, delivers a frame and fails again is therefore not opened in a tight loop: only frames over
//! some time shorten the pause.
//!
//! ```
//! use roadhound_edge::capture::Cause;
//! use roadhound_edge::capture::reconnect::{Action, Reconnect, RetryConfig};
//! use roadhound_shared::frame::Timestamp;
//!
//! let mut camera = Reconnect::new(RetryConfig::default(), Timestamp(0));
//! assert_eq!(camera.next(Timestamp(0)), Action::Open);
//! camera.open_failed(Cause::Gone, Timestamp(0));
//! assert_eq!(camera.next(Timestamp(0)), Action::WaitMillis(50));
//! assert_eq!(camera.next(Timestamp(50_000)), Action::Open);
//! ```

use roadhound_shared::frame::Timestamp;
use serde::{Deserialize, Serialize};

use super::Cause;

/// How patient to be with a camera.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Pause before the first attempt to open the camera again.
    pub first_millis: u32,
    /// The pause doubles with every failure up to this.
    pub longest_millis: u32,
    /// Frames have to come for this long before a failure counts as the first one again.
    pub healthy_after_millis: u32,
    /// Without a good frame for this long, an open camera is closed.
    pub stall_after_millis: u32,
    /// After this many damaged frames in a row, an open camera is closed.
    pub corrupt_in_row: u32,
    /// Without a good frame for this long, the program ends with status 3; 0 means never.
    pub give_up_after_seconds: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            first_millis: 50,
            longest_millis: 800,
            healthy_after_millis: 2_000,
            stall_after_millis: 2_000,
            corrupt_in_row: 30,
            give_up_after_seconds: 0,
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open the camera and report [`Reconnect::opened`] or [`Reconnect::open_failed`].
    Open,
    /// Wait for a frame, at most this long, and report what came.
    ReadMillis(u64),
    /// Do nothing for this long.
    WaitMillis(u64),
    /// Close the camera; [`Reconnect`] takes it as done.
    Close(Cause),
    /// End the program: the camera is gone for good.
    GiveUp(Cause),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed { retry_at: Timestamp },
    Open { since: Timestamp, corrupt: u32 },
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Reconnect {
    config: RetryConfig,
    state: State,
    /// Length of the next pause.
    pause_millis: u64,
    /// When the last good frame came, or when it all began.
    last_frame_at: Timestamp,
    /// Since when frames come without a failure.
    frames_since: Option<Timestamp>,
    /// Why the camera was last closed or not opened.
    last_cause: Cause,
    closings: [u64; Cause::ALL.len()],
    opened_before: bool,
    reopened: u64,
}

impl Reconnect {
    /// A camera that is not open yet and is to be opened at once.
    pub fn new(config: RetryConfig, now: Timestamp) -> Self {
        Self {
            state: State::Closed { retry_at: now },
            pause_millis: u64::from(config.first_millis),
            last_frame_at: now,
            frames_since: None,
            last_cause: Cause::Gone,
            closings: [0; Cause::ALL.len()],
            opened_before: false,
            reopened: 0,
            config,
        }
    }

    /// What to do now.
    pub fn next(&mut self, now: Timestamp) -> Action {
        let c = self.config;
        let silent_micros = now.micros_since(self.last_frame_at);
        let patience_micros = u64::from(c.give_up_after_seconds) * 1_000_000;
        match self.state {
            State::Closed { .. } if patience_micros > 0 && silent_micros >= patience_micros => {
                Action::GiveUp(self.last_cause)
            }
            State::Closed { retry_at } if now >= retry_at => Action::Open,
            State::Closed { retry_at } => {
                Action::WaitMillis(retry_at.micros_since(now).div_ceil(1000))
            }
            State::Open { corrupt, .. } if corrupt >= c.corrupt_in_row.max(1) => {
                self.close(Cause::Corrupt, now)
            }
            State::Open { since, .. } => {
                let quiet = now.micros_since(since.max(self.last_frame_at));
                let limit = u64::from(c.stall_after_millis) * 1000;
                if quiet >= limit {
                    self.close(Cause::Stalled, now)
                } else {
                    Action::ReadMillis((limit - quiet).div_ceil(1000))
                }
            }
        }
    }

    /// The camera is open and streaming.
    pub fn opened(&mut self, now: Timestamp) {
        self.reopened += u64::from(self.opened_before);
        self.opened_before = true;
        self.frames_since = None;
        self.state = State::Open {
            since: now,
            corrupt: 0,
        };
    }

    /// The camera could not be opened.
    pub fn open_failed(&mut self, cause: Cause, now: Timestamp) {
        self.pause(cause, now);
    }

    /// A good frame came.
    pub fn frame(&mut self, now: Timestamp) {
        self.last_frame_at = now;
        let since = *self.frames_since.get_or_insert(now);
        if now.micros_since(since) >= u64::from(self.config.healthy_after_millis) * 1000 {
            self.pause_millis = u64::from(self.config.first_millis);
        }
        if let State::Open { corrupt, .. } = &mut self.state {
            *corrupt = 0;
        }
    }

    /// A damaged frame came. It neither counts as a frame nor ends the stream.
    pub fn corrupt(&mut self) {
        if let State::Open { corrupt, .. } = &mut self.state {
            *corrupt = corrupt.saturating_add(1);
        }
    }

    /// Reading failed; the camera is closed now.
    pub fn failed(&mut self, cause: Cause, now: Timestamp) {
        self.close(cause, now);
    }

    /// How often an open camera was closed, by [`Cause::index`].
    pub fn closings(&self) -> [u64; Cause::ALL.len()] {
        self.closings
    }

    /// How often the camera was opened again.
    pub fn reopened(&self) -> u64 {
        self.reopened
    }

    /// Whether the camera is open.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    fn close(&mut self, cause: Cause, now: Timestamp) -> Action {
        self.closings[cause.index()] += 1;
        self.pause(cause, now);
        Action::Close(cause)
    }

    fn pause(&mut self, cause: Cause, now: Timestamp) {
        self.last_cause = cause;
        self.state = State::Closed {
            retry_at: now.plus_millis(self.pause_millis),
        };
        self.pause_millis =
            (self.pause_millis.max(1) * 2).min(u64::from(self.config.longest_millis));
        self.frames_since = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Timestamp {
        Timestamp(millis * 1000)
    }

    fn open_at(config: RetryConfig, at: u64) -> Reconnect {
        let mut camera = Reconnect::new(config, ms(at));
        assert_eq!(camera.next(ms(at)), Action::Open);
        camera.opened(ms(at));
        camera
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut camera = Reconnect::new(RetryConfig::default(), ms(0));
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(camera.next(ms(now)), Action::Open);
            camera.open_failed(Cause::Gone, ms(now));
            let Action::WaitMillis(pause) = camera.next(ms(now)) else {
                panic!("a pause follows a failure")
            };
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 800, 800]);
    }

    #[test]
    fn a_camera_that_fails_after_each_frame_is_opened_ever_more_slowly() {
        let mut camera = Reconnect::new(RetryConfig::default(), ms(0));
        let (mut now, mut opened) = (0, 0);
        while now < 10_000 {
            match camera.next(ms(now)) {
                Action::Open => {
                    camera.opened(ms(now));
                    opened += 1;
                }
                Action::ReadMillis(_) => {
                    camera.frame(ms(now));
                    camera.failed(Cause::Io, ms(now));
                }
                Action::WaitMillis(pause) => now += pause,
                action => panic!("{action:?}"),
            }
        }
        assert!((12..=18).contains(&opened), "opened {opened} times in 10 s");
        assert_eq!(camera.closings()[Cause::Io.index()], opened);
    }

    #[test]
    fn frames_over_some_time_shorten_the_pause_again() {
        let mut camera = open_at(RetryConfig::default(), 0);
        for _ in 0..5 {
            camera.failed(Cause::Gone, ms(0));
            camera.opened(ms(0));
        }
        for at in 0..100 {
            camera.frame(ms(at * 33));
        }
        camera.failed(Cause::Gone, ms(3_300));
        assert_eq!(camera.next(ms(3_300)), Action::WaitMillis(50));
    }

    #[test]
    fn an_open_camera_that_delivers_nothing_is_closed() {
        let mut camera = open_at(RetryConfig::default(), 0);
        camera.frame(ms(100));
        assert_eq!(camera.next(ms(100)), Action::ReadMillis(2_000));
        assert_eq!(camera.next(ms(2_099)), Action::ReadMillis(1));
        assert_eq!(camera.next(ms(2_100)), Action::Close(Cause::Stalled));
        assert!(!camera.is_open());
    }

    #[test]
    fn damaged_frames_alone_are_a_stall_or_a_failure_but_a_good_one_forgives_them() {
        let config = RetryConfig {
            corrupt_in_row: 3,
            ..RetryConfig::default()
        };
        let mut camera = open_at(config, 0);
        for at in 0..50 {
            camera.corrupt();
            camera.corrupt();
            camera.frame(ms(at));
            assert!(matches!(camera.next(ms(at)), Action::ReadMillis(_)));
        }
        (0..3).for_each(|_| camera.corrupt());
        assert_eq!(camera.next(ms(50)), Action::Close(Cause::Corrupt));
    }

    #[test]
    fn a_camera_that_stays_away_is_given_up_and_one_that_comes_back_is_not() {
        let config = RetryConfig {
            give_up_after_seconds: 10,
            ..RetryConfig::default()
        };
        let mut camera = open_at(config, 0);
        camera.frame(ms(5_000));
        camera.failed(Cause::Gone, ms(5_000));
        camera.next(ms(14_900));
        camera.open_failed(Cause::Gone, ms(14_990));
        assert!(matches!(camera.next(ms(14_999)), Action::WaitMillis(_)));
        assert_eq!(camera.next(ms(15_000)), Action::GiveUp(Cause::Gone));

        let mut camera = open_at(config, 0);
        camera.failed(Cause::Gone, ms(0));
        camera.opened(ms(9_000));
        camera.frame(ms(9_100));
        camera.failed(Cause::Gone, ms(9_200));
        assert!(matches!(camera.next(ms(12_000)), Action::Open));
    }

    proptest! {
        /// Whatever happens: an open camera is always read or closed, a closed one always opened in the end, and no
        /// pause is longer than the longest.
        #[test]
        fn it_always_gets_somewhere(events in prop::collection::vec((0u8..6, 0u64..3_000), 1..200)) {
            let config = RetryConfig::default();
            let mut camera = Reconnect::new(config, ms(0));
            let mut now = 0;
            let mut opened = 0;
            for (event, step) in events {
                now += step;
                match camera.next(ms(now)) {
                    Action::Open => {
                        prop_assert!(!camera.is_open());
                        if event < 3 { camera.opened(ms(now)); opened += 1; } else { camera.open_failed(Cause::Gone, ms(now)); }
                    }
                    Action::ReadMillis(wait) => {
                        prop_assert!(camera.is_open() && (1..=2_000).contains(&wait));
                        match event {
                            0..=2 => camera.frame(ms(now)),
                            3 => camera.corrupt(),
                            4 => camera.failed(Cause::Io, ms(now)),
                            _ => {}
                        }
                    }
                    Action::WaitMillis(wait) => {
                        prop_assert!(!camera.is_open() && (1..=800).contains(&wait));
                        now += wait;
                        prop_assert_eq!(camera.next(ms(now)), Action::Open);
                    }
                    Action::Close(_) => prop_assert!(!camera.is_open()),
                    Action::GiveUp(_) => prop_assert!(false, "it was told never to give up"),
                }
            }
            let closed: u64 = camera.closings().iter().sum();
            prop_assert_eq!(closed + u64::from(camera.is_open()), opened);
        }
    }
}
