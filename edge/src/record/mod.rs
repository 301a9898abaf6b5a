//! What the camera saw, on the board's disk: segments of MJPEG with a track beside each, the oldest deleted first.
//!
//! Enters: every frame of the camera from the thread that captures, every [`TrackEvent`] from the one that tracks; both
//! through bounded queues that neither waits on. Leaves: `NAME.avi` and `NAME.jsonl` (see [`segments`]). The JPEGs of a
//! camera that delivers JPEGs are stored as they come; others are encoded, at most `fps` of them a second.
//!
//! **What is lost.** Pictures and lines are in their files as soon as they come, so that a program that is killed loses the
//! one under way. Every `sync_millis` both are brought to the disk, on a thread that the writing one does not wait for: a
//! power cut loses at most `sync_millis` and the time that the disk takes for it. That time is the disk's: what a cut would
//! cost at this moment, and the slowest sync so far, are in the metrics, and a sync of more than a second is in the log. A
//! segment that was ended before is synced with its folder and never opened for writing again; only when its pictures are
//! on the disk does its header say that they are. At the next start those that were cut off are ended.
//!
//! **What is kept.** A segment in which the target was lost, the car was driven hard ([`crate::run::manoeuvre`]) or a user
//! asked for the moment to be kept, and those that reach to within `event_seconds` of it, are events: they have room of their own. On a disk that is full the oldest plain
//! segments go; where none is left, recording waits and tracking goes on.
//!
//! - [`avi`]: the file of pictures; [`encode`]: a frame as a JPEG; [`segments`]: names, and which have to go; `keeper`: what
//!   may be slow.

pub mod avi;
pub mod encode;
mod keeper;
pub mod segments;

use std::collections::VecDeque;
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
use keeper::{Disk, Ended, Grown, Keeper, Shelf, System, rename};
use segments::{Name, Segment, delete, list, paths};

/// Frames that wait for the disk; more are dropped and counted.
pub const QUEUE: usize = 4;
/// Events are small, and one of them may be what the segment is kept for.
const EVENTS: usize = 256;
/// How often the folder is looked through while a segment grows.
const TIDY_MICROS: u64 = 10_000_000;
/// After a failure, nothing is tried for this long.
const PAUSE_MICROS: u64 = 1_000_000;
/// A disk that is still busy is asked again after this long.
const AGAIN_MICROS: u64 = 20_000;
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
    /// How often what was recorded is brought to the disk.
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
    /// What a power cut would cost now.
    pub behind_micros: AtomicU64,
    /// The longest that the disk took for what had been recorded since the last time.
    pub slowest_sync_micros: AtomicU64,
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
    /// A folder that cannot be made or read; no thread. What cannot be ended of what is in it is said and left as it is.
    pub fn start(config: RecordingConfig) -> io::Result<Self> {
        let stats = Arc::new(RecordStats::default());
        let mut tape = Tape::open(config, Arc::clone(&stats), Box::new(System))?;
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

/// The file of lines beside the pictures.
struct Track {
    file: Arc<File>,
    bytes: u64,
    /// What is not in the file yet.
    lines: Vec<u8>,
}

impl Track {
    fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        Ok(Self {
            file: Arc::new(file),
            bytes: 0,
            lines: Vec::new(),
        })
    }

    /// One more line, where there is room for it.
    fn push(&mut self, line: &[u8]) {
        if self.lines.len() < MOST_LINES {
            self.lines.extend_from_slice(line);
            self.lines.push(b'\n');
        }
    }

    /// Writes what is not in the file yet.
    fn write(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        if let Err(e) = (&*self.file).write_all(&self.lines) {
            // Half a line would be taken for damage.
            self.file.set_len(self.bytes)?;
            return Err(e);
        }
        self.bytes += self.lines.len() as u64;
        self.lines.clear();
        Ok(())
    }
}

/// The segment that grows.
struct Open {
    name: Name,
    pictures: avi::Writer,
    track: Track,
    size_px: (u32, u32),
    began: Timestamp,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// Everything that decides what is written where; time is an argument.
struct Tape {
    config: RecordingConfig,
    stats: Arc<RecordStats>,
    keeper: Keeper,
    jpegs: Jpegs,
    open: Option<Open>,
    next_number: u64,
    /// Plain segments that were ended, and when: what happens soon enough afterwards makes events of them.
    recent: VecDeque<(Name, Timestamp)>,
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
    fn open(
        config: RecordingConfig,
        stats: Arc<RecordStats>,
        disk: Box<dyn Disk>,
    ) -> io::Result<Self> {
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", config.folder.display()));
        std::fs::create_dir_all(&config.folder).map_err(named)?;
        recover_all(&config, &stats).map_err(named)?;
        let last = list(&config.folder).map_err(named)?.last().copied();
        let next_number = last.map_or(1, |last| last.name.number + 1);
        let shelf = Shelf::new(&config, Arc::clone(&stats), next_number);
        Ok(Self {
            keeper: Keeper::start(shelf, disk)?,
            jpegs: Jpegs::new(config.quality),
            open: None,
            next_number,
            recent: VecDeque::new(),
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
            && let Err(e) = self.keeper.shelf().delete_oldest()
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
            self.keeper.check_room()?;
            self.close(now);
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
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        // Recording goes on at the cost of what is oldest, for as long as there is something.
        let shelf = self.keeper.shelf();
        shelf.making_room(|| open.pictures.push(jpeg))?;
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
        open.track.push(&serde_json::to_vec(&line)?);
        Ok(())
    }

    fn begin(&mut self, frame: &Frame, now: Timestamp) -> io::Result<Open> {
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
                .and_then(|pictures| Ok((pictures, Track::create(&track)?)));
        let (pictures, track) = match begun {
            Ok(begun) => begun,
            Err(e) => {
                let _ = delete(&self.config.folder, &name);
                return Err(e);
            }
        };
        self.stats.segments.fetch_add(1, Relaxed);
        self.keeper.begun(now);
        Ok(Open {
            name,
            pictures,
            track,
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
            && json(event, &mut self.line).is_ok()
        {
            open.track.push(&self.line);
        }
        if !happened {
            return;
        }
        self.happened_at = Some(now);
        let around = self.around_micros();
        // What is too old now is so whatever happens next.
        for (name, ended_at) in self.recent.drain(..) {
            if now.micros_since(ended_at) < around {
                self.keeper.keep(name);
            }
        }
    }

    fn around_micros(&self) -> u64 {
        u64::from(self.config.event_seconds) * 1_000_000
    }

    fn tick(&mut self, now: Timestamp) {
        if now >= self.paused_until
            && let Some(open) = self.open.as_mut()
            && let Err(e) = open.track.write()
        {
            self.failed(&e, now);
        }
        if now >= self.sync_due {
            let again_micros = match self.sync(now) {
                true => u64::from(self.config.sync_millis) * 1000,
                false => AGAIN_MICROS,
            };
            self.sync_due = Timestamp(now.0 + again_micros);
        }
        if now >= self.tidy_due {
            self.tidy_due = Timestamp(now.0 + TIDY_MICROS);
            self.keeper.tidy();
        }
        let behind_micros = match self.open {
            Some(_) => self.keeper.shelf().behind_micros(now),
            None => 0,
        };
        self.stats.behind_micros.store(behind_micros, Relaxed);
    }

    /// Has what was recorded brought to the disk; `false` where that is still busy with what came before.
    fn sync(&mut self, now: Timestamp) -> bool {
        let Some(open) = self.open.as_mut() else {
            return true;
        };
        open.set_rate();
        self.keeper.sync(|| Grown {
            pictures: open.pictures.so_far(),
            track: Arc::clone(&open.track.file),
            as_of: now,
        })
    }

    /// Ends the segment: nothing more comes to it, and somebody else does the rest.
    fn close(&mut self, now: Timestamp) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.set_rate();
        let around = self.around_micros();
        let event = self
            .happened_at
            .is_some_and(|at| at.0 + around >= open.began.0);
        self.recent
            .retain(|(_, ended_at)| now.micros_since(*ended_at) < around);
        if !event {
            self.recent.push_back((open.name, now));
        }
        self.keeper.end(Ended {
            name: open.name,
            pictures: open.pictures,
            track: open.track,
            event,
            as_of: now,
        });
    }

    /// Ends the segment, and waits until all of them are on the disk.
    fn end(&mut self) {
        self.close(clock::monotonic());
        self.keeper.settle();
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
}

fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Ends segments that were cut off, gives tracks the name of their pictures, and takes away what holds nothing. One that this
/// fails for is left as it is, for the next start: what it holds can be read, and the pictures to come are worth more.
///
/// # Errors
/// A folder that cannot be read.
fn recover_all(config: &RecordingConfig, stats: &Arc<RecordStats>) -> io::Result<()> {
    let folder = &config.folder;
    for segment in list(folder)? {
        // Its index may need room. Only what is older goes for that.
        let shelf = Shelf::new(config, Arc::clone(stats), segment.name.number);
        if let Err(e) = shelf.making_room(|| recover(folder, &segment)) {
            stats.errors.fetch_add(1, Relaxed);
            log::error!(
                "recording: {}: cannot be ended: {e}",
                paths(folder, &segment.name)[0].display()
            );
        }
    }
    Ok(())
}

fn recover(folder: &Path, segment: &Segment) -> io::Result<()> {
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
        Tape::open(config.clone(), Arc::default(), Box::new(System)).unwrap()
    }

    /// A disk that takes nothing for as long as it is held.
    #[derive(Clone, Default)]
    struct Stuck(Arc<std::sync::RwLock<()>>);

    impl Disk for Stuck {
        fn data(&self, file: &File) -> io::Result<()> {
            drop(self.0.read().unwrap());
            System.data(file)
        }

        fn names(&self, folder: &Path) -> io::Result<()> {
            drop(self.0.read().unwrap());
            System.names(folder)
        }
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
        // The disk is as fast as the clock of these tests.
        record_on(tape, seconds, Keeper::settle, happens);
    }

    fn record_on(
        tape: &mut Tape,
        seconds: std::ops::Range<u64>,
        settle: impl Fn(&Keeper),
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
            settle(&tape.keeper);
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
    fn what_happened_keeps_as_many_segments_before_it_as_its_time_reaches_back_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.event_seconds = 25;
        let mut tape = tape(&config);
        record(&mut tape, 0..50, Some(48));
        tape.end();
        // The first and the second were ended 38 and 28 seconds before.
        assert_eq!(
            segments(folder.path()),
            [(1, false), (2, false), (3, true), (4, true), (5, true)]
        );
    }

    #[test]
    fn one_segment_that_cannot_be_ended_is_left_and_the_others_are_and_recording_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mut cut = tape(&config);
        record(&mut cut, 0..18, None);
        drop(cut);
        let two = list(folder.path()).unwrap()[1].name;
        // Names of pictures, which no pictures can be read from or written to.
        let three = Name { number: 3, ..two };
        std::fs::rename(&paths(folder.path(), &two)[0], folder.path().join("aside")).unwrap();
        for name in [&two, &three] {
            std::fs::create_dir(&paths(folder.path(), name)[0]).unwrap();
        }
        let mut next = tape(&config);
        assert!(next.stats.errors.load(Relaxed) > 0);
        record(&mut next, 20..22, None);
        next.end();
        let numbers: Vec<u64> = segments(folder.path()).iter().map(|s| s.0).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }

    #[test]
    fn a_disk_that_takes_nothing_for_half_a_minute_costs_no_picture_and_says_what_a_power_cut_would()
     {
        let folder = tempfile::tempdir().unwrap();
        let (config, disk) = (config(folder.path()), Stuck::default());
        let mut tape = Tape::open(config, Arc::default(), Box::new(disk.clone())).unwrap();
        let held = disk.0.write().unwrap();
        record_on(&mut tape, 0..28, |_| {}, |_, _| {});
        // Whoever is killed here has lost nothing: pictures and lines are in their files, ended or not.
        let all = list(folder.path()).unwrap();
        assert_eq!(all.len(), 3);
        let mut found = 0;
        for segment in &all {
            let [avi, track] = paths(folder.path(), &segment.name);
            let in_it = pictures(&avi);
            let text = std::fs::read_to_string(track).unwrap();
            let named = text.lines().filter(|line| line.contains("\"picture\":"));
            assert_eq!(named.count(), in_it);
            found += in_it;
        }
        assert!(found >= 278, "{found} pictures");
        assert_eq!(tape.stats.dropped.load(Relaxed), 0);
        let behind = tape.stats.behind_micros.load(Relaxed);
        assert!((27_900_000..28_000_000).contains(&behind), "{behind}");
        drop(held);
        tape.end();
        for segment in &list(folder.path()).unwrap() {
            let [avi, _] = paths(folder.path(), &segment.name);
            assert!(!avi::recover(&avi).unwrap().was_cut);
        }
        assert!(tape.keeper.shelf().behind_micros(clock::monotonic()) < 60_000_000);
    }

    #[test]
    fn a_disk_that_never_takes_anything_stops_recording_and_not_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (config, disk) = (config(folder.path()), Stuck::default());
        let mut tape = Tape::open(config, Arc::default(), Box::new(disk.clone())).unwrap();
        let held = disk.0.write().unwrap();
        record_on(&mut tape, 0..200, |_| {}, |_, _| {});
        assert_eq!(list(folder.path()).unwrap().len(), 9);
        let (written, dropped) = (&tape.stats.pictures, &tape.stats.dropped);
        assert!(written.load(Relaxed) < 910);
        assert!(dropped.load(Relaxed) > 1_000);
        drop(held);
        tape.keeper.settle();
        record(&mut tape, 200..205, None);
        tape.end();
        assert_eq!(list(folder.path()).unwrap().len(), 10);
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
            drop(self::tape(&config));
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
    fn what_was_cut_off_gets_room_for_its_index_from_what_is_older() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mut tape = tape(&config);
        record(&mut tape, 0..35, Some(15));
        tape.end();
        assert_eq!(
            segments(folder.path()),
            [(1, false), (2, true), (3, false), (4, false)]
        );
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let shelf = Shelf::new(&config, Arc::default(), 4);
        let mut refusals = 2;
        let done = shelf.making_room(|| match refusals {
            0 => Ok(()),
            _ => {
                refusals -= 1;
                Err(full())
            }
        });
        done.unwrap();
        assert_eq!(segments(folder.path()), [(2, true), (4, false)]);
        let refused = shelf.making_room(|| Err::<(), _>(full())).unwrap_err();
        assert!(is_full(&refused));
        assert_eq!(segments(folder.path()), [(2, true), (4, false)]);
    }

    #[test]
    fn what_was_recorded_before_the_clock_was_set_is_as_old_as_the_run_and_not_as_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.keep_hours = 1;
        let mut tape = tape(&config);
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(50 * 365 * 86_400);
        let set_back = |number: u64| {
            let all = list(folder.path()).unwrap();
            let segment = all.iter().find(|s| s.name.number == number).unwrap();
            let pictures = &paths(folder.path(), &segment.name)[0];
            File::open(pictures)
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        };
        record(&mut tape, 0..25, None);
        [1, 2].into_iter().for_each(set_back);
        record(&mut tape, 25..45, None);
        assert_eq!(segments(folder.path()).len(), 5);
        tape.end();
        // Another run has nothing to go by but the clock.
        let mut next = self::tape(&config);
        record(&mut next, 50..52, None);
        next.end();
        let numbers: Vec<u64> = segments(folder.path()).iter().map(|s| s.0).collect();
        assert_eq!(numbers, [3, 4, 5, 6]);
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
