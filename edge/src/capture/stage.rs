//! The thread that captures: does what [`Reconnect`] says and puts frames where the tracker takes them.
//!
//! Enters: an [`Opener`]. Leaves: the newest frame in a [`Newest`] place, counts in [`CaptureStats`], and at last an
//! [`End`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::newest::Newest;
use super::pool::Pool;
use super::reconnect::{Action, Reconnect, RetryConfig};
use super::{CaptureError, Cause, Frame, LiveSource, Opener, Poll};
use crate::clock;
use roadhound_shared::frame::Timestamp;

/// Longest time before the thread looks whether it should stop.
const LOOK_UP_MILLIS: u64 = 100;
/// Gaps in the camera's count that are longer than this are a camera that started to count anew.
const MOST_LOST: u64 = 1_000;

/// A frame on its way to the tracker, with what was dropped before it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The picture.
    pub frame: Arc<Frame>,
    /// Frames since the program began, this one included, whatever became of them.
    pub number: u64,
}

/// What the thread counts. Read by anybody.
#[derive(Debug, Default)]
pub struct CaptureStats {
    /// Good frames that the camera delivered.
    pub captured: AtomicU64,
    /// Frames that nobody took before the next one came.
    pub stale: AtomicU64,
    /// Frames for which no buffer was free: everybody held theirs for too long.
    pub no_buffer: AtomicU64,
    /// Frames that the driver dropped, by the gaps in its count.
    pub lost_by_driver: AtomicU64,
    /// Buffers that the driver marked as damaged.
    pub corrupt: AtomicU64,
    /// Times an open camera was closed, by [`Cause::index`].
    pub closed: [AtomicU64; Cause::ALL.len()],
    /// Times the camera was opened again.
    pub reopened: AtomicU64,
    /// Whether the camera is open.
    pub is_open: AtomicBool,
    /// When the thread last came by, in microseconds on the monotonic clock.
    pub alive_at: AtomicU64,
    /// When the newest frame was taken: the next capture's are behind it.
    pub newest_at: AtomicU64,
    /// By how much the frames of this capture are stamped later than its camera says, to be behind those before them.
    pub moved_micros: AtomicU64,
}

/// Why the thread ended.
#[derive(Debug)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The recording is over.
    Over,
    /// The camera stayed away for too long.
    Gone {
        /// What it is called.
        device: String,
        /// Why it was last closed or not opened.
        cause: Cause,
    },
    /// Something that trying again does not mend.
    Failed(CaptureError),
}

/// Makes time stamps grow, whatever a camera says that was opened again, or a recording that was played faster than it
/// was made, also by another capture: a stream that begins in the past of the one before is moved behind it as a whole, so
/// that its steps stay true.
#[derive(Debug, Default)]
struct Times {
    last: Timestamp,
    moved_micros: u64,
}

impl Times {
    /// Goes on where the capture before ended.
    fn after(newest_at: Timestamp) -> Self {
        Self {
            last: newest_at,
            moved_micros: 0,
        }
    }

    fn growing(&mut self, told: Timestamp) -> Timestamp {
        let at = told.0.saturating_add(self.moved_micros);
        let late = (self.last.0.saturating_add(1)).saturating_sub(at);
        self.moved_micros = self.moved_micros.saturating_add(late);
        self.last = Timestamp(at.saturating_add(late));
        self.last
    }
}

/// Why a camera cannot be opened, once for each reason: it is tried again and again, and whoever reads the log wants to know why
/// nothing happens, not how often.
#[derive(Debug, Default)]
struct Refusal(Option<String>);

impl Refusal {
    /// Whether this was not the reason the last time.
    fn is_news(&mut self, reason: String) -> bool {
        let is_news = self.0.as_ref() != Some(&reason);
        self.0 = Some(reason);
        is_news
    }

    /// It is open.
    fn is_over(&mut self) {
        self.0 = None;
    }
}

/// Runs until told to stop, or until there is nothing more to capture. `watch` sees every good frame before the tracker
/// does, and must not wait.
pub fn capture(
    opener: &mut dyn Opener,
    retry: RetryConfig,
    buffers: usize,
    place: &Newest<Captured>,
    stats: &CaptureStats,
    stop: &AtomicBool,
    watch: &dyn Fn(&Captured),
) -> End {
    let mut camera = Reconnect::new(retry, clock::monotonic());
    let mut stream: Option<Box<dyn LiveSource>> = None;
    let mut pool = Pool::new(buffers);
    let mut next = Frame::default();
    let mut last_sequence: Option<u64> = None;
    let mut times = Times::after(Timestamp(stats.newest_at.load(Relaxed)));
    let mut refusal = Refusal::default();
    while !stop.load(Relaxed) {
        let now = clock::monotonic();
        stats.alive_at.store(now.0, Relaxed);
        match camera.next(now) {
            Action::Open => match opener.open() {
                Ok(opened) => {
                    log::info!("{}: open, {}", opener.name(), opened.format());
                    stream = Some(opened);
                    refusal.is_over();
                    last_sequence = None;
                    camera.opened(clock::monotonic());
                }
                Err(error) => match error.cause() {
                    Some(cause) => {
                        if refusal.is_news(error.to_string()) {
                            log::warn!("{error}; trying again");
                        }
                        camera.open_failed(cause, clock::monotonic());
                    }
                    None => return End::Failed(error),
                },
            },
            Action::WaitMillis(millis) => {
                std::thread::sleep(Duration::from_millis(millis.min(LOOK_UP_MILLIS)));
            }
            Action::Close(cause) => {
                log::warn!("{}: closed ({})", opener.name(), cause.name());
                stream = None;
            }
            Action::GiveUp(cause) => {
                let device = opener.name();
                return End::Gone { device, cause };
            }
            Action::ReadMillis(millis) => {
                let Some(open) = stream.as_mut() else {
                    camera.failed(Cause::Io, now);
                    continue;
                };
                let wait = Duration::from_millis(millis.min(LOOK_UP_MILLIS));
                match open.poll(&mut next, wait) {
                    Ok(Poll::Frame) => {
                        camera.frame(clock::monotonic());
                        let number = stats.captured.fetch_add(1, Relaxed);
                        count_gap(&mut last_sequence, next.sequence, stats);
                        next.captured_at = times.growing(next.captured_at);
                        stats.newest_at.store(times.last.0, Relaxed);
                        stats.moved_micros.store(times.moved_micros, Relaxed);
                        let waits = open.waits();
                        let frame = pool.fill(|free| std::mem::swap(free, &mut next));
                        match frame {
                            Some(frame) => {
                                let captured = Captured { frame, number };
                                watch(&captured);
                                hand_over(captured, waits, place, stats, stop);
                            }
                            None => {
                                stats.no_buffer.fetch_add(1, Relaxed);
                            }
                        }
                    }
                    Ok(Poll::Corrupt) => {
                        stats.corrupt.fetch_add(1, Relaxed);
                        // Counted as damaged, so it must not be missed in the camera's count as well.
                        count_gap(&mut last_sequence, next.sequence, stats);
                        camera.corrupt();
                    }
                    Ok(Poll::Nothing) => {}
                    Ok(Poll::End) => return End::Over,
                    Err(error) => match error.cause() {
                        Some(cause) => {
                            log::warn!("{error}");
                            stream = None;
                            camera.failed(cause, clock::monotonic());
                        }
                        None => return End::Failed(error),
                    },
                }
            }
        }
        for (count, closings) in stats.closed.iter().zip(camera.closings()) {
            count.store(closings, Relaxed);
        }
        stats.reopened.store(camera.reopened(), Relaxed);
        stats.is_open.store(camera.is_open(), Relaxed);
    }
    End::Stopped
}

/// Counts the frames that the driver dropped between the last one and this one.
fn count_gap(last: &mut Option<u64>, sequence: u64, stats: &CaptureStats) {
    let gap = last
        .and_then(|last| sequence.checked_sub(last + 1))
        .filter(|&gap| gap < MOST_LOST);
    stats.lost_by_driver.fetch_add(gap.unwrap_or(0), Relaxed);
    *last = Some(sequence);
}

fn hand_over(
    mut captured: Captured,
    waits: bool,
    place: &Newest<Captured>,
    stats: &CaptureStats,
    stop: &AtomicBool,
) {
    if !waits {
        let stale = place.put(captured).is_some();
        stats.stale.fetch_add(u64::from(stale), Relaxed);
        return;
    }
    while !stop.load(Relaxed) {
        stats.alive_at.store(clock::monotonic().0, Relaxed);
        match place.put_when_empty(captured, Duration::from_millis(LOOK_UP_MILLIS)) {
            Ok(()) => return,
            Err(back) => captured = back,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::frame::PixelFormat;

    use super::super::{Encoding, StreamFormat};
    use super::*;
    use proptest::prelude::*;

    /// Delivers buffers with these numbers, which are their times as well, the damaged ones marked, and is over.
    struct Numbered(std::vec::IntoIter<(u64, Poll)>);

    impl LiveSource for Numbered {
        fn poll(&mut self, frame: &mut Frame, _: Duration) -> Result<Poll, CaptureError> {
            let Some((sequence, poll)) = self.0.next() else {
                return Ok(Poll::End);
            };
            frame.sequence = sequence;
            frame.captured_at = Timestamp(sequence);
            Ok(poll)
        }

        fn format(&self) -> StreamFormat {
            StreamFormat {
                encoding: Encoding::Raw(PixelFormat::Grey8),
                width_px: 2,
                height_px: 2,
                fps: 30.0,
            }
        }
    }

    impl Opener for Vec<(u64, Poll)> {
        fn open(&mut self) -> Result<Box<dyn LiveSource>, CaptureError> {
            Ok(Box::new(Numbered(self.clone().into_iter())))
        }

        fn name(&self) -> String {
            "numbers".into()
        }
    }

    #[test]
    fn why_a_camera_cannot_be_opened_is_said_once_for_each_reason_and_each_time_it_was_open() {
        let mut refusal = Refusal::default();
        let mut said = |reason: &str| refusal.is_news(reason.into());
        assert_eq!(
            ["no such device", "no such device", "busy", "busy"].map(&mut said),
            [true, false, true, false]
        );
        refusal.is_over();
        assert!(refusal.is_news("busy".into()));
    }

    #[test]
    fn a_damaged_buffer_is_counted_as_damaged_and_not_as_dropped_by_the_driver_as_well() {
        let mut buffers = vec![
            (7, Poll::Frame),
            (8, Poll::Corrupt),
            (9, Poll::Frame),
            (12, Poll::Corrupt),
            (13, Poll::Frame),
            (MOST_LOST * 2, Poll::Frame),
        ];
        let stats = CaptureStats::default();
        let end = capture(
            &mut buffers,
            RetryConfig::default(),
            8,
            &Newest::default(),
            &stats,
            &AtomicBool::new(false),
            &|_| (),
        );
        assert!(matches!(end, End::Over));
        let counts = [
            &stats.captured,
            &stats.corrupt,
            &stats.lost_by_driver,
            &stats.stale,
        ];
        assert_eq!(counts.map(|count| count.load(Relaxed)), [4, 2, 2, 3]);
    }

    #[test]
    fn a_stream_that_begins_in_the_past_is_moved_behind_the_last_frame_and_keeps_its_steps() {
        let mut times = Times::default();
        let told = [100, 133, 166, 20, 53, 86, 500];
        let found = told.map(|at| times.growing(Timestamp(at)).0);
        assert_eq!(found, [100, 133, 166, 167, 200, 233, 647]);
    }

    #[test]
    fn time_goes_on_behind_the_last_frame_of_the_capture_before() {
        let stats = CaptureStats::default();
        let seen = std::sync::Mutex::new(Vec::new());
        let mut moved = Vec::new();
        // A recording that ran ahead of the clock, a camera, and the same camera later.
        for mut buffers in
            [[900, 933], [40, 73], [2_000, 2_033]].map(|at| at.map(|at| (at, Poll::Frame)).to_vec())
        {
            capture(
                &mut buffers,
                RetryConfig::default(),
                8,
                &Newest::default(),
                &stats,
                &AtomicBool::new(false),
                &|captured| seen.lock().unwrap().push(captured.frame.captured_at.0),
            );
            moved.push(stats.moved_micros.load(Relaxed));
        }
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen, [900, 933, 934, 967, 2_000, 2_033]);
        assert_eq!(moved, [0, 894, 0]);
    }

    proptest! {
        #[test]
        fn whatever_is_told_time_grows(told in prop::collection::vec(0u64..1 << 60, 1..50)) {
            let mut times = Times::default();
            let found: Vec<u64> = told.iter().map(|&at| times.growing(Timestamp(at)).0).collect();
            prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
