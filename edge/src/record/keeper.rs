//! The half of a recording that may be slow: bringing files to the disk, ending, renaming and deleting them, on a thread of
//! its own.
//!
//! Enters: jobs, in the order in which they were handed over. Leaves: files that are on the disk, and what a power cut would
//! cost now. A disk that is busy for others can take seconds for one sync (a file system's journal waits for everybody's
//! data); whoever writes pictures must not stand behind that, or it loses the pictures of those seconds.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};

use roadhound_shared::frame::Timestamp;

use super::segments::{Limits, Name, delete, list, no_older_than_their_run, paths, to_delete};
use super::{RecordStats, RecordingConfig, Track, avi, is_full};
use crate::clock;

/// Segments that may wait for a disk that takes none; then nothing more is recorded.
const MOST_WAITING: usize = 8;
/// A sync that takes longer is worth a line.
const SLOW_MICROS: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// How files are brought to the disk.
pub(super) trait Disk: Send {
    /// The content of a file, and how long it is.
    fn data(&self, file: &File) -> io::Result<()>;
    /// The names in a folder.
    fn names(&self, folder: &Path) -> io::Result<()>;
}

/// The system's own way.
pub(super) struct System;

impl Disk for System {
    fn data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn names(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// A segment that grows, as it was at a moment.
pub(super) struct Grown {
    pub(super) pictures: avi::SoFar,
    pub(super) track: Arc<File>,
    pub(super) as_of: Timestamp,
}

/// A segment to which nothing more comes.
pub(super) struct Ended {
    pub(super) name: Name,
    pub(super) pictures: avi::Writer,
    pub(super) track: Track,
    /// Something happened in it or near it.
    pub(super) event: bool,
    pub(super) as_of: Timestamp,
}

enum Job {
    Sync(Grown),
    End(Ended),
    Keep(Name),
    Begun,
    Tidy,
    Settle(Sender<()>),
}

/// The folder, for everybody who takes something away from it.
pub(super) struct Shelf {
    folder: PathBuf,
    limits: Limits,
    least_free_bytes: u64,
    stats: Arc<RecordStats>,
    /// The first segment of this run, and when it began: no segment of it is older, whatever the wall clock says.
    first: u64,
    began: Timestamp,
    /// Segments from this number on grow, or wait to be ended.
    open_from: AtomicU64,
    /// What grows is on its way to the disk.
    syncing: AtomicBool,
    /// Segments that wait to be ended.
    waiting: AtomicUsize,
    /// Everything recorded until then is on the disk.
    safe_until: AtomicU64,
}

impl Shelf {
    pub(super) fn new(config: &RecordingConfig, stats: Arc<RecordStats>, next_number: u64) -> Self {
        Self {
            folder: config.folder.clone(),
            limits: Limits {
                plain_bytes: u64::from(config.plain_mib) * MIB,
                event_bytes: u64::from(config.event_mib) * MIB,
                age_seconds: match config.keep_hours {
                    0 => None,
                    hours => Some(u64::from(hours) * 3600),
                },
            },
            least_free_bytes: u64::from(config.free_mib) * MIB,
            stats,
            first: next_number,
            began: clock::monotonic(),
            open_from: AtomicU64::new(next_number),
            syncing: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            safe_until: AtomicU64::new(0),
        }
    }

    fn delete(&self, name: &Name) -> io::Result<()> {
        delete(&self.folder, name)?;
        self.stats.deleted.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Deletes the oldest plain segment that is ended; whether there was one.
    pub(super) fn delete_oldest(&self) -> io::Result<bool> {
        let open_from = self.open_from.load(Relaxed);
        let all = list(&self.folder)?;
        let oldest = all
            .iter()
            .find(|s| !s.name.event && s.name.number < open_from);
        oldest.map_or(Ok(false), |oldest| self.delete(&oldest.name).map(|()| true))
    }

    /// Does what needs room, at the cost of the oldest plain segments for as long as the disk has none.
    pub(super) fn making_room<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut done = work();
        while done.as_ref().is_err_and(is_full) && self.delete_oldest()? {
            done = work();
        }
        done
    }

    /// Deletes what there is no room for, and what is too old.
    fn tidy(&self) -> io::Result<()> {
        let open_from = self.open_from.load(Relaxed);
        let mut all = list(&self.folder)?;
        let run_seconds = clock::monotonic().micros_since(self.began) / 1_000_000;
        no_older_than_their_run(&mut all, self.first, run_seconds);
        for segment in to_delete(&all, &self.limits).filter(|s| s.name.number < open_from) {
            self.delete(&segment.name)?;
        }
        while free_bytes(&self.folder)? < self.least_free_bytes {
            if !self.delete_oldest()? {
                break;
            }
        }
        Ok(())
    }

    /// What a power cut would cost at this moment.
    pub(super) fn behind_micros(&self, now: Timestamp) -> u64 {
        now.0.saturating_sub(self.safe_until.load(Relaxed))
    }
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Gives both files of a segment another name.
pub(super) fn rename(folder: &Path, from: &Name, to: &Name) -> io::Result<()> {
    let ([pictures, track], [new_pictures, new_track]) = (paths(folder, from), paths(folder, to));
    std::fs::rename(pictures, new_pictures)?;
    match std::fs::rename(track, new_track) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The near end: hands over, and waits for nothing but where it says so.
pub(super) struct Keeper {
    jobs: Sender<Job>,
    shelf: Arc<Shelf>,
}

impl Keeper {
    /// Starts the thread; it ends when this handle is gone and everything is done.
    pub(super) fn start(shelf: Shelf, disk: Box<dyn Disk>) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let shelf = Arc::new(shelf);
        let mut work = Work {
            shelf: Arc::clone(&shelf),
            disk,
            complained: false,
        };
        std::thread::Builder::new()
            .name("recording-disk".into())
            .spawn(move || work.run(&waiting))?;
        Ok(Self { jobs, shelf })
    }

    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn hand_over(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            self.shelf.stats.errors.fetch_add(1, Relaxed);
        }
    }

    /// What grows is to be brought to the disk; `false` where the disk has not taken what it was last given.
    pub(super) fn sync(&self, grown: impl FnOnce() -> Grown) -> bool {
        let free = !self.shelf.syncing.swap(true, Relaxed);
        if free {
            self.hand_over(Job::Sync(grown()));
        }
        free
    }

    /// Room for one more segment that is to be ended.
    ///
    /// # Errors
    /// The disk has not taken the last ones.
    pub(super) fn check_room(&self) -> io::Result<()> {
        if self.shelf.waiting.load(Relaxed) < MOST_WAITING {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the disk has not taken the last {MOST_WAITING} segments"),
        ))
    }

    pub(super) fn end(&self, ended: Ended) {
        self.shelf.waiting.fetch_add(1, Relaxed);
        self.hand_over(Job::End(ended));
    }

    /// A segment that was handed over is an event after all.
    pub(super) fn keep(&self, name: Name) {
        self.hand_over(Job::Keep(name));
    }

    /// There is a new segment: its name has to be on the disk too, and room for it.
    pub(super) fn begun(&self, now: Timestamp) {
        if self.shelf.waiting.load(Relaxed) == 0 {
            self.shelf.safe_until.fetch_max(now.0, Relaxed);
        }
        self.hand_over(Job::Begun);
    }

    pub(super) fn tidy(&self) {
        self.hand_over(Job::Tidy);
    }

    /// Waits until everything that was handed over is done.
    pub(super) fn settle(&self) {
        let (done, wait) = channel();
        self.hand_over(Job::Settle(done));
        // Also where the other end is gone.
        let _ = wait.recv();
    }
}

/// The far end.
struct Work {
    shelf: Arc<Shelf>,
    disk: Box<dyn Disk>,
    complained: bool,
}

impl Work {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let done = match job {
                Job::Settle(done) => {
                    let _ = done.send(());
                    continue;
                }
                Job::Sync(grown) => {
                    let done = self.sync(&grown);
                    self.shelf.syncing.store(false, Relaxed);
                    done
                }
                Job::End(mut ended) => {
                    let done = self.end(&mut ended);
                    self.shelf.waiting.fetch_sub(1, Relaxed);
                    self.shelf.open_from.store(ended.name.number + 1, Relaxed);
                    done
                }
                Job::Keep(name) => self.keep(&name),
                Job::Begun => self
                    .disk
                    .names(&self.shelf.folder)
                    .and_then(|()| self.shelf.tidy()),
                Job::Tidy => self.shelf.tidy(),
            };
            match done {
                Ok(()) => self.complained = false,
                Err(e) => self.failed(&e),
            }
        }
    }

    /// Says what is wrong, once until it is right again. Where the disk is full, the oldest plain segment goes.
    fn failed(&mut self, e: &io::Error) {
        self.shelf.stats.errors.fetch_add(1, Relaxed);
        let folder = self.shelf.folder.display();
        if !self.complained {
            log::error!("recording: {folder}: {e}");
        }
        self.complained = true;
        if is_full(e)
            && let Err(e) = self.shelf.delete_oldest()
        {
            log::debug!("recording: {folder}: {e}");
        }
    }

    fn sync(&self, grown: &Grown) -> io::Result<()> {
        let began = clock::monotonic();
        self.disk.data(&grown.track)?;
        self.disk.data(grown.pictures.write()?)?;
        self.shelf.safe_until.store(grown.as_of.0, Relaxed);
        let took = clock::monotonic().micros_since(began);
        let slowest = self
            .shelf
            .stats
            .slowest_sync_micros
            .fetch_max(took, Relaxed);
        if took > SLOW_MICROS && took > slowest {
            let (folder, seconds) = (self.shelf.folder.display(), took as f64 / 1e6);
            log::warn!(
                "recording: {folder}: the disk took {seconds:.1} s to take the last pictures; a power cut would have cost as much"
            );
        }
        Ok(())
    }

    fn end(&self, ended: &mut Ended) -> io::Result<()> {
        // The name first: a segment that is cut off here is an event at the next start too.
        if ended.event {
            self.rename_to_event(&ended.name)?;
        }
        self.shelf.making_room(|| {
            ended.track.write()?;
            self.disk.data(&ended.track.file)?;
            ended.pictures.finish_by(|file| self.disk.data(file))
        })?;
        self.disk.names(&self.shelf.folder)?;
        self.shelf.safe_until.store(ended.as_of.0, Relaxed);
        Ok(())
    }

    fn keep(&self, name: &Name) -> io::Result<()> {
        self.rename_to_event(name)?;
        // A power cut would give it its old name back.
        self.disk.names(&self.shelf.folder)
    }

    fn rename_to_event(&self, name: &Name) -> io::Result<()> {
        let kept = Name {
            event: true,
            ..*name
        };
        match rename(&self.shelf.folder, name, &kept) {
            // Deleted to make room.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    }
}
