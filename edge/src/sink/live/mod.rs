//! Sinks of a running board: none of them can make the tracker wait.
//!
//! Enters: [`TrackEvent`]s, offered by the thread that tracks. Leaves: lines, datagrams, messages, from a thread per
//! sink. Between them is a bounded queue; an event that finds it full is dropped and counted. A sink that fails is
//! opened again after a pause, and what comes in the meantime is counted too.
//!
//! ```
//! use std::time::Duration;
//! use roadhound_edge::run::event::TrackEvent;
//! use roadhound_edge::sink::live::{LiveSink, Queue};
//!
//! struct Never;
//! impl LiveSink for Never {
//!     fn write(&mut self, _: &TrackEvent) -> std::io::Result<()> { loop { std::thread::park() } }
//! }
//! # fn example(event: TrackEvent) {
//! let queue = Queue::start("never", 2, || Ok(Box::new(Never)));
//! for _ in 0..100 { queue.offer(&event); } // returns at once
//! assert!(queue.stats().dropped() >= 97); // one is stuck in the sink, two wait
//! # }
//! ```

pub mod csv;
pub mod jsonl;
#[cfg(feature = "mqtt")]
pub mod mqtt;
pub mod udp;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::run::event::TrackEvent;

/// Pause before a sink that failed is opened again.
const PAUSE: Duration = Duration::from_secs(2);
/// A failure this long after the one before is another one, and worth a line in the log.
const QUIET: Duration = Duration::from_secs(60);

/// Takes events, one by one, for as long as it likes.
pub trait LiveSink: Send {
    /// Writes one event.
    ///
    /// # Errors
    /// What the system said; unless it [stays open](Self::stays_open), the sink is opened again after a pause. A sink that
    /// says `NotConnected` has told people itself.
    fn write(&mut self, event: &TrackEvent) -> io::Result<()>;

    /// Whether the sink mends itself after an error, so that it need not be opened again.
    fn stays_open(&self) -> bool {
        false
    }
}

/// What a sink counts.
#[derive(Debug, Default)]
pub struct SinkStats {
    written: AtomicU64,
    dropped: AtomicU64,
    errors: AtomicU64,
    done: AtomicBool,
}

impl SinkStats {
    /// Events that were written.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Events that were not, because the queue was full or the sink broken.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// How often writing or opening failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }
}

/// The near end of a sink's queue.
pub struct Queue {
    name: &'static str,
    events: Option<SyncSender<TrackEvent>>,
    stats: Arc<SinkStats>,
}

impl Queue {
    /// Starts a sink's thread. `open` is called there, and again after every failure.
    pub fn start<F>(name: &'static str, length: usize, open: F) -> Self
    where
        F: FnMut() -> io::Result<Box<dyn LiveSink>> + Send + 'static,
    {
        let (events, waiting) = sync_channel(length.max(1));
        let stats = Arc::new(SinkStats::default());
        let counted = Arc::clone(&stats);
        let spawned = std::thread::Builder::new()
            .name(format!("sink-{name}"))
            .spawn(move || {
                drain(name, &waiting, open, &counted);
                counted.done.store(true, Relaxed);
            });
        if let Err(e) = spawned {
            log::error!("{name}: no thread: {e}");
            stats.done.store(true, Relaxed);
        }
        Self {
            name,
            events: Some(events),
            stats,
        }
    }

    /// Hands an event over, or drops it. Never waits.
    pub fn offer(&self, event: &TrackEvent) {
        let Some(events) = &self.events else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = events.try_send(*event)
        {
            self.stats.dropped.fetch_add(1, Relaxed);
        }
    }

    /// What the sink is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it counts.
    pub fn stats(&self) -> &SinkStats {
        &self.stats
    }

    /// Ends the sink: what is in the queue is still written, if that takes no longer than `patience`.
    pub fn finish(mut self, patience: Duration) {
        self.finish_until(Instant::now() + patience);
    }

    fn finish_until(&mut self, end: Instant) {
        self.events = None;
        while !self.stats.done.load(Relaxed) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !self.stats.done.load(Relaxed) {
            log::warn!("{}: still busy, left behind", self.name);
        }
    }
}

/// Ends several sinks at once, all within the same `patience`: the service manager's watchdog does not wait for each. What
/// they counted can still be read then.
pub fn finish_all(queues: &mut [Queue], patience: Duration) {
    let end = Instant::now() + patience;
    queues.iter_mut().for_each(|queue| queue.events = None);
    queues.iter_mut().for_each(|queue| queue.finish_until(end));
}

/// When to say that a sink is broken: a disk that is full would say so thirty times a second.
#[derive(Default)]
struct Complaints {
    last_at: Option<Instant>,
}

impl Complaints {
    /// Whether nothing was said for so long that this is another trouble than the last.
    fn is_news(&mut self, now: Instant) -> bool {
        let before = self.last_at.replace(now);
        before.is_none_or(|before| now.duration_since(before) > QUIET)
    }
}

fn drain<F>(name: &str, waiting: &Receiver<TrackEvent>, mut open: F, stats: &SinkStats)
where
    F: FnMut() -> io::Result<Box<dyn LiveSink>>,
{
    let mut sink: Option<Box<dyn LiveSink>> = None;
    let mut retry_at = Instant::now();
    let mut complaints = Complaints::default();
    let mut failed = |what: &str, e: &io::Error| {
        stats.errors.fetch_add(1, Relaxed);
        if e.kind() != io::ErrorKind::NotConnected && complaints.is_news(Instant::now()) {
            log::error!("{name}: {what}: {e}");
        }
    };
    loop {
        // Opened before the first event: a sink may have something to say on its own.
        if sink.is_none() && Instant::now() >= retry_at {
            match open() {
                Ok(opened) => sink = Some(opened),
                Err(e) => {
                    failed("cannot be opened", &e);
                    retry_at = Instant::now() + PAUSE;
                }
            }
        }
        let event = match waiting.recv_timeout(PAUSE / 4) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match sink.as_mut().map(|sink| sink.write(&event)) {
            Some(Ok(())) => {
                stats.written.fetch_add(1, Relaxed);
            }
            Some(Err(e)) => {
                stats.dropped.fetch_add(1, Relaxed);
                failed("cannot be written", &e);
                if !sink.as_ref().is_some_and(|sink| sink.stays_open()) {
                    sink = None;
                    retry_at = Instant::now() + PAUSE;
                }
            }
            None => {
                stats.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

/// A file that lines are appended to, or standard output for `-`. A line is one call of `write_all`; in a file it is whole or
/// absent, also where the disk is full half way through it.
pub(crate) fn lines_file(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    Ok(Box::new(Appended::open(path).map_err(named)?))
}

/// A file whose last line is whole.
struct Appended(File);

impl Appended {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let mut file = Self(file);
        // A kill or a power cut left half a line: it is lost, and the next one is not to be lost with it.
        if file.0.metadata()?.is_file() && ends_within_a_line(path) {
            file.write_all(b"\n")?;
        }
        Ok(file)
    }

    /// Takes away what was written of a line. Where somebody else has written behind it, it stays.
    fn take_back(&mut self, bytes: usize) -> io::Result<()> {
        let end = self.0.stream_position()?;
        if self.0.metadata()?.len() == end {
            self.0.set_len(end.saturating_sub(bytes as u64))?;
        }
        Ok(())
    }
}

/// Whether a file has a last line without an end. One that may be written and not read is taken to have none.
fn ends_within_a_line(path: &Path) -> bool {
    let mut last = [b'\n'];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)
    });
    read.is_ok() && last != [b'\n']
}

impl Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < line.len() {
            let failed = match self.0.write(&line[written..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(more) => {
                    written += more;
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            // A pipe cannot take anything back, and what it was given is gone anyway.
            if written > 0 {
                let _ = self.take_back(written);
            }
            return Err(failed);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether a file could be there at all: said before anything starts.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run::event::testing::event;

    struct Flaky {
        failures_left: Arc<AtomicU64>,
        lines: Arc<AtomicU64>,
    }

    impl LiveSink for Flaky {
        fn write(&mut self, _: &TrackEvent) -> io::Result<()> {
            if self.failures_left.load(Relaxed) > 0 {
                self.failures_left.fetch_sub(1, Relaxed);
                return Err(io::Error::other("on purpose"));
            }
            self.lines.fetch_add(1, Relaxed);
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_never_returns_costs_events_but_no_time() {
        struct Never;
        impl LiveSink for Never {
            fn write(&mut self, _: &TrackEvent) -> io::Result<()> {
                loop {
                    std::thread::park();
                }
            }
        }
        let queue = Queue::start("never", 2, || Ok(Box::new(Never)));
        let started = Instant::now();
        (0..1000).for_each(|n| queue.offer(&event(n)));
        assert!(started.elapsed() < Duration::from_millis(500));
        assert!(
            queue.stats().dropped() >= 997,
            "{}",
            queue.stats().dropped()
        );
        queue.finish(Duration::from_millis(10));
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_take_the_next_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        for (there, expected) in [
            ("", "{}\n"),
            ("{\"frame\":1}\n", "{\"frame\":1}\n{}\n"),
            ("{\"frame\":1}\n{\"fra", "{\"frame\":1}\n{\"fra\n{}\n"),
        ] {
            std::fs::write(&path, there).unwrap();
            lines_file(&path).unwrap().write_all(b"{}\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn what_was_written_of_a_line_is_taken_back_unless_somebody_wrote_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let (mut ours, mut theirs) = (
            Appended::open(&path).unwrap(),
            Appended::open(&path).unwrap(),
        );
        ours.write_all(b"{}\n").unwrap();
        theirs.write_all(b"[]\n").unwrap();
        ours.write_all(b"{\"fra").unwrap();
        ours.take_back(5).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n[]\n");
        ours.write_all(b"{\"fra").unwrap();
        theirs.write_all(b"[]\n").unwrap();
        ours.take_back(5).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{}\n[]\n{\"fra[]\n");
    }

    #[test]
    fn a_trouble_is_told_once_and_the_next_one_again() {
        let mut complaints = Complaints::default();
        let began = Instant::now();
        let told: Vec<u64> = (0..300)
            .filter(|second| !(100..200).contains(second))
            .filter(|&second| complaints.is_news(began + Duration::from_secs(second)))
            .collect();
        assert_eq!(told, [0, 200]);
    }

    #[test]
    fn what_is_in_the_queue_is_written_before_the_sink_ends() {
        let lines = Arc::new(AtomicU64::new(0));
        let sink = lines.clone();
        let queue = Queue::start("slow", 50, move || {
            Ok(Box::new(Flaky {
                failures_left: Arc::default(),
                lines: sink.clone(),
            }))
        });
        (0..50).for_each(|n| queue.offer(&event(n)));
        queue.finish(Duration::from_secs(5));
        assert_eq!(lines.load(Relaxed), 50);
    }

    #[test]
    fn a_sink_that_failed_is_opened_again_and_every_event_is_counted() {
        let (lines, failures, opened) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicU64::new(1)),
            Arc::new(AtomicU64::new(0)),
        );
        let queue = Queue::start("flaky", 8, {
            let (lines, failures, opened) = (lines.clone(), failures.clone(), opened.clone());
            move || {
                opened.fetch_add(1, Relaxed);
                Ok(Box::new(Flaky {
                    failures_left: failures.clone(),
                    lines: lines.clone(),
                }))
            }
        });
        let end = Instant::now() + Duration::from_secs(10);
        let mut offered = 0;
        while lines.load(Relaxed) < 3 && Instant::now() < end {
            queue.offer(&event(offered));
            offered += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        let stats = queue.stats.clone();
        queue.finish(Duration::from_secs(5));
        assert_eq!(opened.load(Relaxed), 2);
        assert_eq!(stats.errors(), 1);
        assert_eq!(stats.written() + stats.dropped(), offered);
    }
}
