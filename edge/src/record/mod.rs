//! What the camera saw, on the board's disk: segments of MJPEG with a track beside each, the oldest deleted first.
//!
//! Enters: every frame of the camera from the thread that captures, every [`TrackEvent`] from the one that tracks; both
//! through bounded queues that neither waits on. Leaves: `NAME.avi` and `NAME.jsonl` (see [`segments`]). The JPEGs of a
//! camera that delivers JPEGs are stored as they come; others are encoded, at most `fps` of them a second.
//!
//! **What a power cut costs.** Pictures are appended as they come, and every `sync_millis` pictures, track and lengths are
//! brought to the disk, so that at most that much and the picture under way is lost. A segment that was ended before is
//! synced with its folder and never opened for writing again. At the next start the one that was cut off is ended.
//!
//! **What is kept.** A segment in which the target was lost, the car was driven hard ([`crate::run::manoeuvre`]) or a user
//! asked for the moment to be kept, and those that reach to within `event_seconds` of it, are events: they have room of their own. On a disk that is full the oldest plain
//! segments go; where none is left, recording waits and tracking goes on.
//!
//! - [`avi`]: the file of pictures; [`encode`]: a frame as a JPEG; [`segments`]: names, and which have to go.

pub mod avi;
pub mod encode;
pub mod segments;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use roadhound_shared::frame::Timestamp;
use roadhound_shared::tracker::Phase;
use serde::{Deserialize, Serialize};

use crate::capture::Frame;
use crate::capture::stage::Captured;
use crate::clock;
use crate::run::event::TrackEvent;
use crate::sink::live::jsonl::json;
use avi::Recovered;
use encode::Jpegs;
use segments::{Limits, Name, delete, list, paths, to_delete};

/// Frames that wait for the disk; more are dropped and counted.
pub const QUEUE: usize = 4;
/// Events are small, and one of them may be what the segment is kept for.
const EVENTS: usize = 256;
/// How often the folder is looked through while a segment grows.
const TIDY_MICROS: u64 = 10_000_000;
/// After a failure, nothing is tried for this long.
const PAUSE_MICROS: u64 = 1_000_000;
const MIB: u64 = 1 << 20;
/// What a line of the track says where its segment is an event.
const HAPPENED: [&str; 3] = ["\"phase\":\"lost\"", "\"mark\":true", "\"manoeuvre\":true"];
/// Bytes of lines that wait for a disk that takes none: minutes of them.
const MOST_LINES: usize = 1 << 20;

/// What to record, and how much to keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingConfig {
    /// Where segments go; made where it is not there.
    pub folder: PathBuf,
    /// Most frames a second; those in between are left out.
    #[serde(default = "fifteen")]
    pub fps: f64,
    /// Quality of JPEGs that the camera does not make itself, 1 to 100.
    #[serde(default = "eighty")]
    pub quality: u8,
    /// Length of a segment.
    #[serde(default = "minute")]
    pub segment_seconds: u32,
    /// Room of segments in which nothing happened.
    #[serde(default = "four_gib")]
    pub plain_mib: u32,
    /// Room of those in which something did.
    #[serde(default = "two_gib")]
    pub event_mib: u32,
    /// Room that is left for everybody else on that disk.
    #[serde(default = "half_gib")]
    pub free_mib: u32,
    /// Nothing in which nothing happened is kept longer; 0 is no limit.
    #[serde(default)]
    pub keep_hours: u32,
    /// How much before and after something is kept with it.
    #[serde(default = "ten")]
    pub event_seconds: u32,
    /// What a power cut may cost.
    #[serde(default = "half_second")]
    pub sync_millis: u32,
}

fn fifteen() -> f64 {
    15.0
}

fn eighty() -> u8 {
    80
}

fn minute() -> u32 {
    60
}

fn four_gib() -> u32 {
    4096
}

fn two_gib() -> u32 {
    2048
}

fn half_gib() -> u32 {
    512
}

fn ten() -> u32 {
    10
}

fn half_second() -> u32 {
    500
}

/// What is counted. Read by anybody.
#[derive(Debug, Default)]
pub struct RecordStats {
    /// Pictures that were written.
    pub pictures: AtomicU64,
    /// Pictures that were not: the disk was too slow, full or broken.
    pub dropped: AtomicU64,
    /// Failures of the disk or of a picture.
    pub errors: AtomicU64,
    /// Segments that were begun.
    pub segments: AtomicU64,
    /// Segments that were deleted to make room.
    pub deleted: AtomicU64,
    done: AtomicBool,
}

/// The near end: where frames and events are handed over.
#[derive(Clone)]
pub struct Recorder {
    frames: SyncSender<Captured>,
    events: SyncSender<TrackEvent>,
    stats: Arc<RecordStats>,
}

impl Recorder {
    /// Ends what a power cut left, and starts the thread that writes.
    ///
    /// # Errors
    /// A folder that cannot be made or read; no thread.
    pub fn start(config: RecordingConfig) -> io::Result<Self> {
        let stats = Arc::new(RecordStats::default());
        let mut tape = Tape::open(config, Arc::clone(&stats))?;
        let (frames, waiting) = sync_channel(QUEUE);
        let (events, waiting_events) = sync_channel(EVENTS);
        let counted = Arc::clone(&stats);
        std::thread::Builder::new()
            .name("recording".into())
            .spawn(move || {
                write_down(&mut tape, &waiting, &waiting_events);
                counted.done.store(true, Relaxed);
            })?;
        Ok(Self {
            frames,
            events,
            stats,
        })
    }

    /// Hands a frame over, or drops it. Never waits.
    pub fn frame(&self, captured: &Captured) {
        if self.frames.try_send(captured.clone()).is_err() {
            self.stats.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Hands an event over. Never waits.
    pub fn event(&self, event: &TrackEvent) {
        if self.events.try_send(*event).is_err() {
            self.stats.errors.fetch_add(1, Relaxed);
        }
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<RecordStats> {
        &self.stats
    }

    /// Ends the segment, if that takes no longer than `patience`. All copies of this handle have to be gone by then.
    pub fn finish(self, patience: Duration) {
        let stats = Arc::clone(&self.stats);
        drop(self);
        let end = Instant::now() + patience;
        while !stats.done.load(Relaxed) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !stats.done.load(Relaxed) {
            log::warn!("recording: still busy, left behind");
        }
    }
}

fn write_down(tape: &mut Tape, frames: &Receiver<Captured>, events: &Receiver<TrackEvent>) {
    loop {
        // A camera that is silent must not make what it delivered before wait for the disk.
        let left_micros = tape.sync_due.micros_since(clock::monotonic());
        let wait = Duration::from_micros(left_micros.clamp(1_000, 500_000));
        let captured = frames.recv_timeout(wait);
        let now = clock::monotonic();
        if let Ok(captured) = &captured {
            tape.frame(&captured.frame, captured.number, now);
        }
        while let Ok(event) = events.try_recv() {
            tape.event(&event, now);
        }
        tape.tick(now);
        if matches!(captured, Err(RecvTimeoutError::Disconnected)) {
            tape.end();
            return;
        }
    }
}

/// A picture's place in the file and in time.
#[derive(Serialize)]
struct PictureLine {
    picture: usize,
    frame: u64,
    t_micros: u64,
    unix_micros: u64,
}

/// The segment that grows.
struct Open {
    name: Name,
    pictures: avi::Writer,
    track: File,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    size_px: (u32, u32),
    began: Timestamp,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// Everything that decides what is written where; time is an argument.
struct Tape {
    config: RecordingConfig,
    stats: Arc<RecordStats>,
    jpegs: Jpegs,
    open: Option<Open>,
    next_number: u64,
    previous: Option<Name>,
    /// When something last happened.
    happened_at: Option<Timestamp>,
    last_phase: Phase,
    /// When the next picture is due.
    due: Timestamp,
    sync_due: Timestamp,
    tidy_due: Timestamp,
    paused_until: Timestamp,
    complained: bool,
    line: Vec<u8>,
}

impl Tape {
    fn open(config: RecordingConfig, stats: Arc<RecordStats>) -> io::Result<Self> {
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", config.folder.display()));
        std::fs::create_dir_all(&config.folder).map_err(named)?;
        recover_all(&config.folder).map_err(named)?;
        let last = list(&config.folder).map_err(named)?.last().copied();
        Ok(Self {
            jpegs: Jpegs::new(config.quality),
            open: None,
            next_number: last.map_or(1, |last| last.name.number + 1),
            previous: None,
            happened_at: None,
            last_phase: Phase::Idle,
            due: Timestamp(0),
            sync_due: Timestamp(0),
            tidy_due: Timestamp(0),
            paused_until: Timestamp(0),
            complained: false,
            line: Vec::new(),
            stats,
            config,
        })
    }

    /// Says what is wrong, once until it is right again, and waits a moment. On a full disk, wherever that showed, the
    /// oldest plain segment goes: a header or an index that does not fit would else stop everything for good.
    fn failed(&mut self, e: &io::Error, now: Timestamp) {
        self.stats.errors.fetch_add(1, Relaxed);
        self.paused_until = Timestamp(now.0 + PAUSE_MICROS);
        if !self.complained {
            log::error!("recording: {}: {e}", self.config.folder.display());
        }
        self.complained = true;
        if is_full(e)
            && let Err(e) = self.delete_oldest()
        {
            log::debug!("recording: {}: {e}", self.config.folder.display());
        }
    }

    fn frame(&mut self, frame: &Frame, number: u64, now: Timestamp) {
        let step = (1e6 / self.config.fps) as u64;
        let at = frame.captured_at;
        // A frame that is a little early is not a whole one too many.
        if at.0 + step / 4 < self.due.0 {
            return;
        }
        // After a pause of the camera there is nothing to catch up with.
        let from = if at.0 > self.due.0 + step {
            at.0
        } else {
            self.due.0
        };
        self.due = Timestamp(from + step);
        if now < self.paused_until {
            self.stats.dropped.fetch_add(1, Relaxed);
            return;
        }
        match self.write(frame, number, now) {
            Ok(()) => {
                self.stats.pictures.fetch_add(1, Relaxed);
                self.complained = false;
            }
            Err(e) => {
                self.stats.dropped.fetch_add(1, Relaxed);
                self.failed(&e, now);
            }
        }
    }

    fn write(&mut self, frame: &Frame, number: u64, now: Timestamp) -> io::Result<()> {
        let size_px = (frame.width_px, frame.height_px);
        let longest = u64::from(self.config.segment_seconds) * 1_000_000;
        let over = self.open.as_ref().is_some_and(|open| {
            open.size_px != size_px
                || now.micros_since(open.began) >= longest
                || open.pictures.bytes() + frame.bytes.len() as u64 + MIB >= avi::MOST_BYTES
        });
        if over {
            self.close()?;
        }
        // Taken out so that the encoder's buffer can be lent while the segment changes.
        let mut jpegs = std::mem::replace(&mut self.jpegs, Jpegs::new(self.config.quality));
        let written = jpegs
            .of(frame)
            .map_err(io::Error::other)
            .and_then(|jpeg| self.append(jpeg, frame, number, now));
        self.jpegs = jpegs;
        written
    }

    fn append(
        &mut self,
        jpeg: &[u8],
        frame: &Frame,
        number: u64,
        now: Timestamp,
    ) -> io::Result<()> {
        if self.open.is_none() {
            self.open = Some(self.begin(frame, now)?);
        }
        let mut pushed = self.push(jpeg);
        // Recording goes on at the cost of what is oldest, for as long as there is something.
        while pushed.as_ref().is_err_and(is_full) && self.delete_oldest()? {
            pushed = self.push(jpeg);
        }
        pushed?;
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        if open.pictures.frames() == 1 {
            open.first_at = frame.captured_at;
        }
        open.last_at = frame.captured_at;
        let age = clock::monotonic().micros_since(frame.captured_at);
        let line = PictureLine {
            picture: open.pictures.frames() - 1,
            frame: number,
            t_micros: frame.captured_at.0,
            unix_micros: clock::unix_micros().saturating_sub(age),
        };
        if open.lines.len() < MOST_LINES {
            serde_json::to_writer(&mut open.lines, &line)?;
            open.lines.push(b'\n');
        }
        Ok(())
    }

    fn push(&mut self, jpeg: &[u8]) -> io::Result<()> {
        self.open
            .as_mut()
            .map_or(Ok(()), |open| open.pictures.push(jpeg))
    }

    fn begin(&mut self, frame: &Frame, now: Timestamp) -> io::Result<Open> {
        self.tidy()?;
        let name = Name {
            number: self.next_number,
            unix_seconds: clock::unix_micros() / 1_000_000,
            event: false,
        };
        // Also where it fails: a name is used once.
        self.next_number += 1;
        let [pictures, track] = paths(&self.config.folder, &name);
        let begun =
            avi::Writer::create(&pictures, frame.width_px, frame.height_px, self.config.fps)
                .and_then(|pictures| {
                    let track = OpenOptions::new()
                        .append(true)
                        .create_new(true)
                        .open(&track)?;
                    // The names have to be on the disk too.
                    File::open(&self.config.folder)?.sync_all()?;
                    Ok((pictures, track))
                });
        let (pictures, track) = match begun {
            Ok(begun) => begun,
            Err(e) => {
                let _ = delete(&self.config.folder, &name);
                return Err(e);
            }
        };
        self.stats.segments.fetch_add(1, Relaxed);
        Ok(Open {
            name,
            pictures,
            track,
            lines: Vec::new(),
            size_px: (frame.width_px, frame.height_px),
            began: now,
            first_at: frame.captured_at,
            last_at: frame.captured_at,
        })
    }

    fn event(&mut self, event: &TrackEvent, now: Timestamp) {
        let phase = event.report.phase;
        let happened = event.mark
            || event.manoeuvre
            || (phase == Phase::Lost && self.last_phase != Phase::Lost);
        self.last_phase = phase;
        if let Some(open) = self.open.as_mut()
            && open.lines.len() < MOST_LINES
            && json(event, &mut self.line).is_ok()
        {
            open.lines.extend_from_slice(&self.line);
            open.lines.push(b'\n');
        }
        if !happened {
            return;
        }
        self.happened_at = Some(now);
        let around = self.around_micros();
        let reaches_back = self
            .open
            .as_ref()
            .is_none_or(|open| now.micros_since(open.began) < around);
        if reaches_back && let Some(previous) = self.previous.take() {
            self.previous = Some(self.keep(previous, now));
        }
    }

    fn around_micros(&self) -> u64 {
        u64::from(self.config.event_seconds) * 1_000_000
    }

    /// Gives a segment that is ended the name of an event.
    fn keep(&mut self, name: Name, now: Timestamp) -> Name {
        let kept = Name {
            event: true,
            ..name
        };
        if name.event {
            return name;
        }
        let renamed = rename(&self.config.folder, &name, &kept)
            // A power cut would give it its old name back.
            .and_then(|()| File::open(&self.config.folder)?.sync_all());
        match renamed {
            Ok(()) => kept,
            // Deleted to make room.
            Err(e) if e.kind() == io::ErrorKind::NotFound => name,
            Err(e) => {
                self.failed(&e, now);
                name
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        if now >= self.sync_due {
            self.sync_due = Timestamp(now.0 + u64::from(self.config.sync_millis) * 1000);
            if let Err(e) = self.sync() {
                self.failed(&e, now);
            }
        }
        if now >= self.tidy_due {
            self.tidy_due = Timestamp(now.0 + TIDY_MICROS);
            if let Err(e) = self.tidy() {
                self.failed(&e, now);
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        open.set_rate();
        open.write_lines()?;
        open.track.sync_data()?;
        open.pictures.sync()
    }

    /// Ends the segment.
    fn close(&mut self) -> io::Result<()> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.set_rate();
        open.write_lines()?;
        open.track.sync_all()?;
        let began = open.began;
        let mut name = open.name;
        open.pictures.finish()?;
        let around = self.around_micros();
        if self.happened_at.is_some_and(|at| at.0 + around >= began.0) {
            let kept = Name {
                event: true,
                ..name
            };
            rename(&self.config.folder, &name, &kept)?;
            name = kept;
        }
        File::open(&self.config.folder)?.sync_all()?;
        self.previous = Some(name);
        Ok(())
    }

    fn end(&mut self) {
        if let Err(e) = self.close() {
            self.failed(&e, clock::monotonic());
        }
    }

    /// Deletes what there is no room for.
    fn tidy(&mut self) -> io::Result<()> {
        let limits = Limits {
            plain_bytes: u64::from(self.config.plain_mib) * MIB,
            event_bytes: u64::from(self.config.event_mib) * MIB,
            age_seconds: match self.config.keep_hours {
                0 => None,
                hours => Some(u64::from(hours) * 3600),
            },
        };
        let all = list(&self.config.folder)?;
        let growing = self.open.as_ref().map(|open| open.name.number);
        for segment in to_delete(&all, &limits).filter(|s| Some(s.name.number) != growing) {
            delete(&self.config.folder, &segment.name)?;
            self.stats.deleted.fetch_add(1, Relaxed);
        }
        while free_bytes(&self.config.folder)? < u64::from(self.config.free_mib) * MIB {
            if !self.delete_oldest()? {
                break;
            }
        }
        Ok(())
    }

    /// Deletes the oldest plain segment that is ended; whether there was one.
    fn delete_oldest(&mut self) -> io::Result<bool> {
        let growing = self.open.as_ref().map(|open| open.name.number);
        let all = list(&self.config.folder)?;
        let oldest = all
            .iter()
            .find(|s| !s.name.event && Some(s.name.number) != growing);
        let Some(oldest) = oldest else {
            return Ok(false);
        };
        delete(&self.config.folder, &oldest.name)?;
        self.stats.deleted.fetch_add(1, Relaxed);
        Ok(true)
    }
}

impl Open {
    /// Players go by one time a picture; the mean of those so far is nearest to the truth, which the track has.
    fn set_rate(&mut self) {
        let steps = self.pictures.frames().saturating_sub(1) as u64;
        let micros = self.last_at.micros_since(self.first_at);
        if let Some(mean) = micros.checked_div(steps)
            && mean > 0
        {
            self.pictures
                .set_micros_per_frame(mean.min(u64::from(u32::MAX)) as u32);
        }
    }

    fn write_lines(&mut self) -> io::Result<()> {
        let before = self.track.metadata()?.len();
        if let Err(e) = self.track.write_all(&self.lines) {
            // Half a line would be taken for damage.
            self.track.set_len(before)?;
            return Err(e);
        }
        self.lines.clear();
        Ok(())
    }
}

fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn rename(folder: &Path, from: &Name, to: &Name) -> io::Result<()> {
    let ([pictures, track], [new_pictures, new_track]) = (paths(folder, from), paths(folder, to));
    std::fs::rename(pictures, new_pictures)?;
    match std::fs::rename(track, new_track) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Ends segments that were cut off, gives tracks the name of their pictures, and takes away what holds nothing.
fn recover_all(folder: &Path) -> io::Result<()> {
    for segment in list(folder)? {
        let name = segment.name;
        let [pictures, track] = paths(folder, &name);
        let [_, other] = paths(
            folder,
            &Name {
                event: !name.event,
                ..name
            },
        );
        // The power went between two renamings.
        if !track.exists() && other.exists() {
            std::fs::rename(other, &track)?;
        }
        match avi::recover(&pictures) {
            Ok(Recovered { pictures: 0, .. }) => delete(folder, &name)?,
            Ok(Recovered { was_cut: false, .. }) => {}
            Ok(Recovered {
                was_cut: true,
                pictures,
            }) => {
                log::warn!(
                    "recording: {} was cut off and has {pictures} pictures",
                    name.stem()
                );
                let text = whole_lines(&track)?;
                if !name.event && HAPPENED.iter().any(|words| text.contains(words)) {
                    rename(
                        folder,
                        &name,
                        &Name {
                            event: true,
                            ..name
                        },
                    )?;
                }
            }
            // Shorter than a header, or not ours: not even its name was on the disk for long.
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                if segment.bytes < avi::HEADER_BYTES {
                    delete(folder, &name)?;
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Cuts a track after its last whole line and gives back what stays.
fn whole_lines(track: &Path) -> io::Result<String> {
    let text = match std::fs::read(track) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        text => text?,
    };
    // Zeros are a length whose content was not on the disk yet.
    let whole: usize = text
        .split_inclusive(|&b| b == b'\n')
        .take_while(|line| line.starts_with(b"{") && line.ends_with(b"}\n"))
        .map(<[u8]>::len)
        .sum();
    if whole < text.len() {
        OpenOptions::new()
            .write(true)
            .open(track)?
            .set_len(whole as u64)?;
    }
    Ok(String::from_utf8_lossy(&text[..whole]).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run::event::testing::event;
    use crate::source::{Options, open};
    use roadhound_shared::frame::PixelFormat;

    fn config(folder: &Path) -> RecordingConfig {
        let text = format!(
            "folder = \"{}\"\nfps = 10.0\nsegment_seconds = 10\nevent_seconds = 4\nfree_mib = 0\n",
            folder.display()
        );
        toml::from_str(&text).unwrap()
    }

    fn tape(config: &RecordingConfig) -> Tape {
        Tape::open(config.clone(), Arc::default()).unwrap()
    }

    /// Frames at 30 a second from one second to another; that the target is lost at `lost_at` is told.
    fn record(tape: &mut Tape, seconds: std::ops::Range<u64>, lost_at: Option<u64>) {
        record_what(tape, seconds, |second, said| {
            if lost_at == Some(second) {
                said.report.phase = Phase::Lost;
            }
        });
    }

    fn record_what(
        tape: &mut Tape,
        seconds: std::ops::Range<u64>,
        happens: impl Fn(u64, &mut TrackEvent),
    ) {
        let mut frame = Frame::default();
        frame.set_tight(PixelFormat::Grey8, 64, 48, &[&[100; 64 * 48]]);
        for n in seconds.start * 30..seconds.end * 30 {
            let now = Timestamp(1_000_000 + n * 33_333);
            frame.captured_at = now;
            tape.frame(&frame, n, now);
            let mut said = event(n);
            happens(n / 30, &mut said);
            tape.event(&said, now);
            tape.tick(now);
        }
    }

    fn segments(folder: &Path) -> Vec<(u64, bool)> {
        list(folder)
            .unwrap()
            .iter()
            .map(|s| (s.name.number, s.name.event))
            .collect()
    }

    fn pictures(path: &Path) -> usize {
        let mut source = open(path, &Options::default()).unwrap();
        let mut pictures = 0;
        while source.next_frame().unwrap().is_some() {
            pictures += 1;
        }
        pictures
    }

    #[test]
    fn segments_follow_each_other_with_every_third_frame_and_a_track_that_names_each() {
        let folder = tempfile::tempdir().unwrap();
        let mut tape = tape(&config(folder.path()));
        record(&mut tape, 0..25, None);
        tape.end();
        assert_eq!(
            segments(folder.path()),
            [(1, false), (2, false), (3, false)]
        );
        for (segment, expected) in list(folder.path()).unwrap().iter().zip([100, 100, 50]) {
            let [avi, track] = paths(folder.path(), &segment.name);
            let found = pictures(&avi);
            assert!(found.abs_diff(expected) <= 2, "{found} pictures");
            let fps = open(&avi, &Options::default()).unwrap().fps();
            assert!((fps - 10.0).abs() < 0.1, "{fps} fps");
            let text = std::fs::read_to_string(track).unwrap();
            let lines: Vec<serde_json::Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let named: Vec<u64> = lines
                .iter()
                .filter_map(|line| line["picture"].as_u64())
                .collect();
            assert_eq!(named, (0..found as u64).collect::<Vec<_>>());
            assert!(lines.iter().any(|line| line["phase"] == "tracking"));
        }
    }

    #[test]
    fn a_lost_target_keeps_its_segment_and_those_that_are_near() {
        let lost_in = |second: u64| {
            let folder = tempfile::tempdir().unwrap();
            let mut tape = tape(&config(folder.path()));
            record(&mut tape, 0..40, Some(second));
            tape.end();
            segments(folder.path())
                .into_iter()
                .filter(|s| s.1)
                .map(|s| s.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(lost_in(15), [2]);
        assert_eq!(lost_in(11), [1, 2]);
        assert_eq!(lost_in(18), [2, 3]);
    }

    #[test]
    fn a_mark_and_a_hard_manoeuvre_keep_their_segment_also_where_the_power_goes_next() {
        let what: [fn(&mut TrackEvent); 2] =
            [|said| said.mark = true, |said| said.manoeuvre = true];
        for happened in what {
            let folder = tempfile::tempdir().unwrap();
            let config = config(folder.path());
            let mut tape = tape(&config);
            record_what(&mut tape, 0..28, |second, said| {
                if second == 15 || second == 25 {
                    happened(said);
                }
            });
            drop(tape);
            drop(Tape::open(config, Arc::default()).unwrap());
            assert_eq!(segments(folder.path()), [(1, false), (2, true), (3, true)]);
        }
    }

    #[test]
    fn the_oldest_in_which_nothing_happened_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut small = config(folder.path());
        small.plain_mib = 0;
        let mut tape = tape(&small);
        record(&mut tape, 0..40, Some(15));
        tape.end();
        // The last was ended after the last look.
        assert_eq!(segments(folder.path()), [(2, true), (4, false)]);
        assert_eq!(tape.stats.deleted.load(Relaxed), 2);
    }

    #[test]
    fn what_a_power_cut_left_is_ended_at_the_next_start_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mut cut = tape(&config);
        record(&mut cut, 0..18, Some(16));
        let open = cut.open.take().unwrap();
        let [avi, track] = paths(folder.path(), &open.name);
        drop((open, cut));
        // Half a picture and half a line, and a segment whose header is not on the disk.
        let append = |path: &Path, bytes: &[u8]| {
            OpenOptions::new()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(bytes)
                .unwrap()
        };
        append(&avi, b"00dc\x00\x10\x00\x00\xff\xd8half a picture");
        append(&track, b"{\"picture\":4");
        std::fs::write(folder.path().join("00000003-20231114-221320.avi"), "RIFF").unwrap();
        let mut next = tape(&config);
        assert_eq!(segments(folder.path()), [(1, false), (2, true)]);
        let [avi, track] = paths(folder.path(), &list(folder.path()).unwrap()[1].name);
        assert!(pictures(&avi) >= 49, "{}", pictures(&avi));
        let text = std::fs::read_to_string(track).unwrap();
        assert!(
            text.lines()
                .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        );
        record(&mut next, 20..22, None);
        next.end();
        assert_eq!(segments(folder.path()), [(1, false), (2, true), (3, false)]);
    }

    #[test]
    fn a_disk_that_has_no_room_for_a_new_segment_gets_some() {
        let folder = tempfile::tempdir().unwrap();
        let mut tape = tape(&config(folder.path()));
        record(&mut tape, 0..25, Some(15));
        tape.end();
        assert_eq!(segments(folder.path()), [(1, false), (2, true), (3, false)]);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        tape.failed(&full(), Timestamp(0));
        assert_eq!(segments(folder.path()), [(2, true), (3, false)]);
        // What happened is kept, whatever it costs.
        tape.failed(&full(), Timestamp(0));
        tape.failed(&full(), Timestamp(0));
        assert_eq!(segments(folder.path()), [(2, true)]);
    }

    #[test]
    fn jpegs_of_the_camera_are_stored_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let mut tape = tape(&config(folder.path()));
        let jpeg = include_bytes!("../../tests/data/one.jpg");
        for n in 0..4 {
            let frame = Frame {
                encoding: crate::capture::Encoding::Mjpeg,
                width_px: 64,
                height_px: 48,
                bytes: jpeg.to_vec(),
                captured_at: Timestamp(1_000_000 + n * 100_000),
                ..Frame::default()
            };
            tape.frame(&frame, n, frame.captured_at);
        }
        tape.end();
        let [avi, _] = paths(folder.path(), &list(folder.path()).unwrap()[0].name);
        let bytes = std::fs::read(&avi).unwrap();
        let copies = bytes.windows(jpeg.len()).filter(|w| w == jpeg).count();
        assert_eq!((copies, pictures(&avi)), (4, 4));
    }

    #[test]
    fn another_size_begins_another_segment() {
        let folder = tempfile::tempdir().unwrap();
        let mut tape = tape(&config(folder.path()));
        record(&mut tape, 0..2, None);
        let mut frame = Frame::default();
        frame.set_tight(PixelFormat::Grey8, 32, 32, &[&[100; 32 * 32]]);
        frame.captured_at = Timestamp(10_000_000);
        tape.frame(&frame, 100, frame.captured_at);
        tape.end();
        assert_eq!(segments(folder.path()).len(), 2);
    }
}
