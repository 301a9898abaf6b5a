//! What a training configuration keeps for validation: pairs, and videos to follow.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_trainer::batch::Batch;
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::sequence::{Frame, Run};
use roadhound_trainer::data::store::ImageId;
use roadhound_trainer::data::{Dataset, PackKind, truth};
use roadhound_trainer::evaluate::TimedRun;
use roadhound_trainer::sampler::{SamplerScratch, Split};

use super::{load, sampler};

/// Pairs that a run never trains on, the same for the same configuration.
pub(super) fn held_out_batches(
    run: &TrackerRun,
    dataset: &Arc<Dataset>,
    count: usize,
) -> Result<Vec<Batch>> {
    let held_out = sampler(run, dataset, Split::Validation)?;
    let mut scratch = SamplerScratch::default();
    let batches =
        (0..count as u64).map(|step| Batch::draw(&held_out, step, run.train.batch, &mut scratch));
    Ok(batches.collect::<Result<_, _>>()?)
}

/// Frames a second of videos of which nothing says so.
const USUAL_FPS: f64 = 30.0;

/// The videos that the configuration keeps for validation, each followed from its first object's first box. Numbers of frames
/// tell when they were taken: packs leave frames out.
pub(super) fn held_out_runs(config: &Path, data: Option<&PathBuf>) -> Result<Vec<TimedRun>> {
    let run = load(config, data)?;
    let dataset = Dataset::open(&run.data)?;
    let mut runs = Vec::new();
    for (pack, of) in dataset.packs().iter().zip(&run.data.packs) {
        let mut taken = None;
        for loaded in &pack.sequences {
            let frames = &loaded.sequence.frames;
            if !loaded.held_out || frames.len() < 2 {
                continue;
            }
            let Some(first) = frames[0].annotations.iter().find(|a| !a.ignore) else {
                continue;
            };
            if taken.is_none() && of.kind == PackKind::Video && of.read.fps.is_none() {
                let table = truth::table_path(&frames[0].path);
                taken = table.map(|path| Taken::read(&path)).transpose()?;
            }
            let taken = taken.as_ref().filter(|taken| !taken.seconds.is_empty());
            let name = &loaded.sequence.name;
            let taken_at = taken.map(|taken| taken.of(name, frames)).transpose()?;
            // Files are followed as they are stored; the boxes of a data set are those of images as it loads them.
            let truth_on = |(frame, image): (&Frame, &ImageId)| {
                let [across, down] = dataset.store().loaded_from_stored(*image);
                let target = frame
                    .annotations
                    .iter()
                    .find(|a| a.instance == first.instance)?;
                let b = target.box_in_image;
                Some(BoxXywh::new(
                    b.x_px / across,
                    b.y_px / down,
                    b.w_px / across,
                    b.h_px / down,
                ))
            };
            let since = |frame: &Frame| u64::from(frame.number - frames[0].number);
            runs.push(TimedRun {
                numbers: frames.iter().map(since).collect(),
                taken_at,
                run: Run {
                    name: format!("{}.{}", pack.name, loaded.sequence.name),
                    frames: frames.iter().map(|f| f.path.to_path_buf()).collect(),
                    truth: frames.iter().zip(&loaded.images).map(truth_on).collect(),
                    fps: of.read.fps.unwrap_or(USUAL_FPS),
                    assisted: false,
                    class: Some(first.class.clone()),
                },
            });
        }
    }
    Ok(runs)
}

/// When the frames of a rendered pack were taken.
struct Taken {
    table: PathBuf,
    /// By sequence and number of the frame; empty where there is no such table, or no time in it.
    seconds: HashMap<(String, u32), f64>,
}

impl Taken {
    /// Reads `truth.csv`.
    fn read(table: &Path) -> Result<Self> {
        let shown = || format!("{}", table.display());
        let mut taken = Self {
            table: table.to_owned(),
            seconds: HashMap::new(),
        };
        let text = match std::fs::read(table) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(taken),
            Err(error) => return Err(error).with_context(shown),
        };
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let head = reader.headers().with_context(shown)?;
        let column = |name: &str| head.iter().position(|cell| cell.trim() == name);
        let columns = ["sequence", "frame", "time_s"].map(column);
        let [Some(sequence), Some(frame), Some(time)] = columns else {
            return Ok(taken);
        };
        for (record, line) in reader.records().zip(2..) {
            let record = record.with_context(shown)?;
            let row = (
                record[frame].trim().parse(),
                record[time].trim().parse::<f64>(),
            );
            let (Ok(number), Ok(seconds)) = row else {
                bail!(
                    "{}:{line}: frame and time_s are {:?} and {:?}, expected numbers",
                    table.display(),
                    &record[frame],
                    &record[time]
                );
            };
            taken
                .seconds
                .insert((record[sequence].to_owned(), number), seconds);
        }
        Ok(taken)
    }

    /// Time stamps of a sequence, from its first frame.
    fn of(&self, name: &str, frames: &[Frame]) -> Result<Vec<Timestamp>> {
        let mut times: Vec<Timestamp> = Vec::with_capacity(frames.len());
        let mut first = None;
        for frame in frames {
            let (table, number) = (self.table.display(), frame.number);
            let Some(seconds) = self.seconds.get(&(name.to_owned(), number)) else {
                bail!("{table}: has no frame {number} of {name}");
            };
            let since = *seconds - *first.get_or_insert(*seconds);
            let at = Timestamp::of_frame(1, 1.0 / since.max(f64::MIN_POSITIVE));
            if times.last().is_some_and(|last| *last >= at) {
                bail!("{table}: frame {number} of {name} is not later than the one before");
            }
            times.push(at);
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn held_out_videos_are_followed_in_pixels_of_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let frames = folder.path().join("wide/images/drive");
        std::fs::create_dir_all(&frames).unwrap();
        let mut table = "sequence,frame,instance,class,x,y,w,h,occluded\n".to_owned();
        for index in 0..3 {
            // Twice as wide as images are kept in memory.
            let image = image::RgbImage::from_pixel(1120, 630, image::Rgb([90, 100, 110]));
            image.save(frames.join(format!("{index}.png"))).unwrap();
            table += &format!("drive,{index},1,car,400,200,120,90,0\n");
        }
        std::fs::write(folder.path().join("wide/boxes.csv"), table).unwrap();
        let config = folder.path().join("run.toml");
        std::fs::write(
            &config,
            "[[data.packs]]\nname = \"wide\"\nkind = \"video\"\nweight = 1.0\nheld_out = [\"drive\"]\n",
        )
        .unwrap();
        let runs = held_out_runs(&config, Some(&folder.path().to_path_buf())).unwrap();
        assert_eq!(runs.len(), 1);
        for truth in &runs[0].run.truth {
            assert_eq!(*truth, Some(BoxXywh::new(400.0, 200.0, 120.0, 90.0)));
        }
    }

    #[test]
    fn frames_that_a_pack_left_out_take_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let images = root.join("pack/images/drive");
        std::fs::create_dir_all(&images).unwrap();
        let mut table = "sequence,frame,instance,class,x,y,w,h,occluded\n".to_owned();
        let mut truth = "sequence,frame,time_s,instance\n".to_owned();
        for index in [12, 16, 20] {
            let image = image::RgbImage::from_pixel(160, 120, image::Rgb([90, 100, 110]));
            image.save(images.join(format!("{index}.png"))).unwrap();
            table += &format!("drive,{index},1,car,40,20,60,45,0\n");
            truth += &format!("drive,{index},{:.4},1\n", f64::from(index) / 20.0);
        }
        std::fs::write(root.join("pack/boxes.csv"), table).unwrap();
        let config = root.join("run.toml");
        let times = |read: &str, over: Option<f64>| {
            let text = format!(
                "[[data.packs]]\nname = \"pack\"\nkind = \"video\"\nweight = 1.0\nheld_out = [\"drive\"]\n{read}\n"
            );
            std::fs::write(&config, text).unwrap();
            let runs = held_out_runs(&config, Some(&root.to_path_buf()));
            runs.map(|runs| {
                runs[0]
                    .times(over)
                    .iter()
                    .map(|at| at.0)
                    .collect::<Vec<_>>()
            })
        };
        let ten = "read = { fps = 10.0 }";
        assert_eq!(times(ten, None).unwrap(), [0, 400_000, 800_000]);
        assert_eq!(times("", None).unwrap(), [0, 133_333, 266_667]);
        // A rendered pack says when.
        std::fs::write(root.join("pack/truth.csv"), &truth).unwrap();
        assert_eq!(times("", None).unwrap(), [0, 200_000, 400_000]);
        assert_eq!(times(ten, None).unwrap(), [0, 400_000, 800_000]);
        assert_eq!(times("", Some(4.0)).unwrap(), [0, 1_000_000, 2_000_000]);
        for (from, to, expected) in [
            ("drive,16,0.8000", "drive,16,soon", "truth.csv:3: "),
            (
                "drive,16,0.8000",
                "drive,17,0.8000",
                "has no frame 16 of drive",
            ),
            (
                "drive,16,0.8000",
                "drive,16,0.6000",
                "frame 16 of drive is not later",
            ),
        ] {
            std::fs::write(root.join("pack/truth.csv"), truth.replace(from, to)).unwrap();
            let said = times("", None).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
