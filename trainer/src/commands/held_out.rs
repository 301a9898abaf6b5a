//! What a training configuration keeps for validation: pairs, and videos to follow.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use roadhound_shared::geometry::BoxXywh;
use roadhound_trainer::batch::Batch;
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::data::sequence::{Frame, Run};
use roadhound_trainer::data::store::ImageId;
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

/// The videos that the configuration keeps for validation, each followed from its first object's first box.
pub(super) fn held_out_runs(config: &Path, data: Option<&PathBuf>) -> Result<Vec<Run>> {
    let run = load(config, data)?;
    let dataset = Dataset::open(&run.data)?;
    let mut runs = Vec::new();
    for pack in dataset.packs() {
        for loaded in &pack.sequences {
            let frames = &loaded.sequence.frames;
            if !loaded.held_out || frames.len() < 2 {
                continue;
            }
            let Some(first) = frames[0].annotations.iter().find(|a| !a.ignore) else {
                continue;
            };
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
            runs.push(Run {
                name: format!("{}.{}", pack.name, loaded.sequence.name),
                frames: frames.iter().map(|f| f.path.to_path_buf()).collect(),
                truth: frames.iter().zip(&loaded.images).map(truth_on).collect(),
                fps: 30.0,
                assisted: false,
                class: Some(first.class.clone()),
            });
        }
    }
    Ok(runs)
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
        for truth in &runs[0].truth {
            assert_eq!(*truth, Some(BoxXywh::new(400.0, 200.0, 120.0, 90.0)));
        }
    }
}
