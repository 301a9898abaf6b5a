//! Writes rendered drives to disk: training packs and evaluation clips from [`roadhound_shared::world`].
//!
//! In: a [`RenderJob`]. Out: a folder that [`crate::data`] reads. Sequences are shared out among threads; what is
//! written depends on the job alone. Where rendering ends early, the table that a pack or a clip is read by is not there.
//!
//! ```no_run
//! use roadhound_shared::world::{Region, WorldConfig};
//! use roadhound_trainer::render::{Layout, RenderJob};
//! let job = RenderJob {
//!     world: WorldConfig::of(Region::India),
//!     seed: 1,
//!     sequences: 20,
//!     threads: 2,
//!     out: "rendered".into(),
//!     layout: Layout::Pack,
//!     sheet_cells: 0,
//! };
//! let done = job.run(|frames| println!("{frames} more frames"))?;
//! println!("{} boxes", done.boxes);
//! # Ok::<(), roadhound_trainer::render::RenderError>(())
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;

use image::RgbImage;
use roadhound_shared::world::{ObjectTruth, Scratch, Sequence, WorldConfig, WorldConfigError};

mod clips;
mod jpeg;
mod pack;
mod sheet;
mod world_file;

pub use sheet::sheet;
pub use world_file::world_of_file;

/// How the folder is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A training pack: `images/SEQUENCE/FRAME.jpg`, `boxes.csv` and, with all that is known, `truth.csv`.
    Pack,
    /// Evaluation clips: a folder a sequence with `img/`, `gt.txt`, `sot_spans.csv` and `seqinfo.ini`.
    Sequences,
}

/// What to render, and where to.
#[derive(Clone, Debug)]
pub struct RenderJob {
    /// The world.
    pub world: WorldConfig,
    /// Decides everything random.
    pub seed: u64,
    /// How many drives.
    pub sequences: u32,
    /// Threads; they change nothing but the time it takes.
    pub threads: usize,
    /// Folder; must not hold another rendering.
    pub out: PathBuf,
    /// Its layout.
    pub layout: Layout,
    /// Frames to keep for a contact sheet, spread over all sequences.
    pub sheet_cells: u32,
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// What was being written.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The folder is in use.
    #[error("{}: not empty; rendering needs a new folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The world is out of range.
    #[error(transparent)]
    World(#[from] WorldConfigError),
    /// A count is out of range.
    #[error("{field} is {value}, expected 1 to {most}")]
    Count {
        /// Which.
        field: &'static str,
        /// What it was.
        value: u64,
        /// The largest that works.
        most: u64,
    },
    /// An image could not be encoded.
    #[error("{}: {reason}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoder's words.
        reason: String,
    },
}

/// What was rendered.
#[derive(Debug, Default)]
pub struct Rendered {
    /// Frames.
    pub frames: u64,
    /// Rows of boxes.
    pub boxes: u64,
    /// Frames for a contact sheet, with their boxes.
    pub cells: Vec<(RgbImage, Vec<ObjectTruth>)>,
}

/// Most sequences of a job.
const MOST_SEQUENCES: u64 = 100_000;
/// Most threads.
const MOST_THREADS: u64 = 1024;

/// Everything about one finished sequence but its images.
struct Finished {
    index: u32,
    tables: pack::Tables,
    cells: Vec<(RgbImage, Vec<ObjectTruth>)>,
}

impl RenderJob {
    /// Name of a sequence: of its folder and in tables.
    fn name(&self, index: u32) -> String {
        format!("{}_{}_{index:04}", self.world.region.name(), self.seed)
    }

    /// Renders everything. `progress` is told how many frames are new.
    ///
    /// # Errors
    /// Settings out of range, a folder in use, files that cannot be written.
    pub fn run(&self, mut progress: impl FnMut(u64)) -> Result<Rendered, RenderError> {
        self.world.validate()?;
        check_count("sequences", self.sequences.into(), MOST_SEQUENCES)?;
        check_count("threads", self.threads as u64, MOST_THREADS)?;
        prepare(&self.out)?;
        let next = AtomicU32::new(0);
        let stop = AtomicBool::new(false);
        let (tell, told) = mpsc::channel::<Message>();
        let mut finished: Vec<Finished> = Vec::new();
        let mut first_error = None;
        std::thread::scope(|scope| {
            for _ in 0..self.threads.min(self.sequences as usize) {
                let tell = tell.clone();
                let (next, stop) = (&next, &stop);
                scope.spawn(move || {
                    let mut worker = Worker::new(self);
                    while !stop.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= self.sequences {
                            break;
                        }
                        let result = worker.sequence(index, &tell);
                        if tell.send(Message::Done(result)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(tell);
            for message in told {
                match message {
                    Message::Frame => progress(1),
                    Message::Done(Ok(done)) => finished.push(done),
                    Message::Done(Err(error)) => {
                        stop.store(true, Ordering::Relaxed);
                        first_error.get_or_insert(error);
                    }
                }
            }
        });
        if let Some(error) = first_error {
            return Err(error);
        }
        finished.sort_by_key(|f| f.index);
        let mut rendered = Rendered {
            frames: u64::from(self.sequences) * u64::from(self.world.frames),
            ..Rendered::default()
        };
        if self.layout == Layout::Pack {
            pack::write_tables(&self.out, finished.iter().map(|f| &f.tables))?;
        }
        for done in finished {
            rendered.boxes += done.tables.rows;
            rendered.cells.extend(done.cells);
        }
        Ok(rendered)
    }

    /// Whether this frame goes onto the contact sheet.
    fn on_sheet(&self, index: u32, frame: u32) -> bool {
        let total = u64::from(self.sequences) * u64::from(self.world.frames);
        let at = u64::from(index) * u64::from(self.world.frames) + u64::from(frame);
        let cells = u64::from(self.sheet_cells).min(total);
        // Half a step in, so that a sheet of one frame a sequence shows its middle.
        cells > 0 && (at * cells + total / 2) / total != ((at + 1) * cells + total / 2) / total
    }
}

fn check_count(field: &'static str, value: u64, most: u64) -> Result<(), RenderError> {
    match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(RenderError::Count { field, value, most }),
    }
}

enum Message {
    Frame,
    Done(Result<Finished, RenderError>),
}

struct Worker<'a> {
    job: &'a RenderJob,
    scratch: Scratch,
    rgb: Vec<u8>,
    jpeg: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(job: &'a RenderJob) -> Self {
        Self {
            job,
            scratch: Scratch::new(job.world.width_px, job.world.height_px),
            rgb: Vec::new(),
            jpeg: Vec::new(),
        }
    }

    fn sequence(
        &mut self,
        index: u32,
        tell: &mpsc::Sender<Message>,
    ) -> Result<Finished, RenderError> {
        let job = self.job;
        let sequence = Sequence::new(&job.world, job.seed, index)?;
        let name = job.name(index);
        let (folder, first) = match job.layout {
            Layout::Pack => (job.out.join("images").join(&name), 0),
            Layout::Sequences => (job.out.join(&name).join("img"), 1),
        };
        std::fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let mut frames = Vec::with_capacity(job.world.frames as usize);
        let mut cells = Vec::new();
        for frame in 0..job.world.frames {
            let truth = sequence.render(frame, &mut self.scratch, &mut self.rgb);
            let path = folder.join(format!("{:06}.jpg", frame + first));
            encode(
                &self.rgb,
                &job.world,
                sequence.jpeg_quality(),
                &mut self.jpeg,
                &path,
            )?;
            // Written plainly, and so perhaps half: what makes a pack or a clip of them is their tables, which are whole
            // and come last. A sync a frame would cost more than the frame.
            std::fs::write(&path, &self.jpeg).map_err(io_error(&path))?;
            if job.on_sheet(index, frame)
                && let Some(image) =
                    RgbImage::from_raw(job.world.width_px, job.world.height_px, self.rgb.clone())
            {
                cells.push((image, truth.clone()));
            }
            frames.push(truth);
            // Nobody listens any more only when the whole run is over.
            let _ = tell.send(Message::Frame);
        }
        let tables = match job.layout {
            Layout::Pack => pack::tables(&name, &job.world, &frames),
            Layout::Sequences => {
                clips::write(&job.out.join(&name), &name, job, &sequence, &frames)?
            }
        };
        Ok(Finished {
            index,
            tables,
            cells,
        })
    }
}

/// Renders and encodes frames without writing them: how fast this machine's core is. Returns frames a second.
///
/// # Errors
/// Settings out of range.
pub fn frames_per_second(
    world: &WorldConfig,
    seed: u64,
    sequences: u32,
) -> Result<f64, RenderError> {
    // Before memory is asked for.
    world.validate()?;
    check_count("sequences", sequences.into(), MOST_SEQUENCES)?;
    let mut scratch = Scratch::new(world.width_px, world.height_px);
    let (mut rgb, mut jpeg) = (Vec::new(), Vec::new());
    let started = std::time::Instant::now();
    let mut frames = 0_u64;
    for index in 0..sequences {
        let sequence = Sequence::new(world, seed, index)?;
        for frame in 0..world.frames {
            sequence.render(frame, &mut scratch, &mut rgb);
            encode(
                &rgb,
                world,
                sequence.jpeg_quality(),
                &mut jpeg,
                Path::new("frame"),
            )?;
            frames += 1;
        }
    }
    Ok(frames as f64 / started.elapsed().as_secs_f64())
}

fn encode(
    rgb: &[u8],
    world: &WorldConfig,
    quality: u8,
    jpeg: &mut Vec<u8>,
    path: &Path,
) -> Result<(), RenderError> {
    jpeg.clear();
    jpeg::write(rgb, world.width_px, world.height_px, quality, jpeg).map_err(|error| {
        RenderError::Encode {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    })
}

/// Files that are whole or absent, in this order: the last one is what a reader goes by.
fn write_whole<const N: usize>(
    folder: &Path,
    files: [(&str, String); N],
) -> Result<(), RenderError> {
    for (name, text) in files {
        let path = folder.join(name);
        roadhound_host::whole::write(&path, text).map_err(io_error(&path))?;
    }
    Ok(())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RenderError + '_ {
    move |reason| RenderError::Io {
        path: path.to_owned(),
        reason,
    }
}

/// Makes the folder, or takes it if it is empty: half an old rendering under a new table would be wrong.
fn prepare(folder: &Path) -> Result<(), RenderError> {
    std::fs::create_dir_all(folder).map_err(io_error(folder))?;
    let mut entries = std::fs::read_dir(folder).map_err(io_error(folder))?;
    if entries.next().is_some() {
        return Err(RenderError::NotEmpty {
            path: folder.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
