//! What the data sets that box every road user have in common: images by number, lines of boxes with identities.
//!
//! In goes what a reader parses; out comes a [`Sequence`], and from it one [`Run`] an object for evaluation.

use std::path::Path;
use std::sync::Arc;

use super::LineProblem;
use super::sequence::{Annotation, FIRST_UNNAMED_INSTANCE, Frame, Run, Sequence};

/// Shorter tracks are not worth a run: they end before anything happens.
const MIN_RUN_FRAMES: usize = 10;
/// A target is first shown at this size at least; below, its template is a handful of pixels.
const MIN_FIRST_SIDE_PX: f32 = 12.0;

/// A recording being read.
#[derive(Debug)]
pub(crate) struct Recording {
    name: String,
    frames: Vec<Frame>,
    unnamed: u32,
}

impl Recording {
    /// Every image is a frame, annotated or not; `images` ascend by number.
    pub(crate) fn new(
        name: String,
        images: Vec<(u32, Arc<Path>)>,
        size_px: Option<(u32, u32)>,
    ) -> Self {
        let frames = images
            .into_iter()
            .map(|(number, path)| Frame {
                path,
                number,
                size_px,
                annotations: Vec::new(),
            })
            .collect();
        Self {
            name,
            frames,
            unnamed: 0,
        }
    }

    /// An identity for a region without one.
    pub(crate) fn unnamed(&mut self) -> u32 {
        self.unnamed = self.unnamed.wrapping_add(1);
        FIRST_UNNAMED_INSTANCE | (self.unnamed - 1)
    }

    /// Adds one box to frame `number`.
    pub(crate) fn add(&mut self, number: u32, annotation: Annotation) -> Result<(), LineProblem> {
        let Ok(at) = self
            .frames
            .binary_search_by_key(&number, |frame| frame.number)
        else {
            return Err(LineProblem::NoImage {
                sequence: self.name.clone(),
                frame: number,
            });
        };
        let annotations = &mut self.frames[at].annotations;
        if annotations
            .iter()
            .any(|other| other.instance == annotation.instance)
        {
            return Err(LineProblem::Repeated {
                instance: annotation.instance,
                frame: number,
            });
        }
        annotations.push(annotation);
        Ok(())
    }

    /// Every `keep_every`-th frame; `None` where there is no image at all.
    pub(crate) fn into_sequence(mut self, keep_every: u32) -> Option<Sequence> {
        thin(&mut self.frames, keep_every);
        (!self.frames.is_empty()).then(|| Sequence {
            name: self.name.into(),
            frames: self.frames,
            is_video: true,
            scene: None,
        })
    }
}

/// Keeps the first frame and every `keep_every`-th behind it.
pub(crate) fn thin(frames: &mut Vec<Frame>, keep_every: u32) {
    let mut places = 0..;
    frames.retain(|_| {
        let place: usize = places.next().unwrap_or_default();
        place.is_multiple_of(keep_every.max(1) as usize)
    });
}

/// One run for every object, named `SEQUENCE_INSTANCE`, in order of their identities.
///
/// A run starts where the object is first shown with sides of 12 px, unhidden where that is annotated, and ends with its
/// last box or before the first frame on which it is an ignore region. Frames without its box in between are frames
/// without the target. Runs of fewer than ten frames are left out.
pub fn runs_of(sequence: &Sequence, fps: f64) -> Vec<Run> {
    let mut instances: Vec<u32> = sequence
        .frames
        .iter()
        .flat_map(|frame| &frame.annotations)
        .filter(|a| !a.ignore && a.instance < FIRST_UNNAMED_INSTANCE)
        .map(|a| a.instance)
        .collect();
    instances.sort_unstable();
    instances.dedup();
    instances
        .into_iter()
        .filter_map(|instance| run_of(sequence, instance, fps))
        .collect()
}

fn run_of(sequence: &Sequence, instance: u32, fps: f64) -> Option<Run> {
    let boxes: Vec<Option<&Annotation>> = sequence
        .frames
        .iter()
        .map(|frame| frame.annotations.iter().find(|a| a.instance == instance))
        .collect();
    let first = boxes.iter().position(|found| {
        found.is_some_and(|a| {
            !a.ignore
                && a.occluded != Some(true)
                && a.box_in_image.w_px.min(a.box_in_image.h_px) >= MIN_FIRST_SIDE_PX
        })
    })?;
    let end = boxes[first..]
        .iter()
        .position(|found| found.is_some_and(|a| a.ignore))
        .map_or(boxes.len(), |behind| first + behind);
    let last = (first..end).rev().find(|&at| boxes[at].is_some())?;
    if last + 1 - first < MIN_RUN_FRAMES {
        return None;
    }
    Some(Run {
        name: format!("{}_{instance}", sequence.name),
        frames: sequence.frames[first..=last]
            .iter()
            .map(|frame| frame.path.to_path_buf())
            .collect(),
        truth: boxes[first..=last]
            .iter()
            .map(|found| found.map(|a| a.box_in_image))
            .collect(),
        fps,
        assisted: false,
        class: boxes[first].map(|a| a.class.clone()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;

    use super::*;

    #[test]
    fn of_every_few_frames_the_first_is_kept() {
        let numbers = |count: u32, keep_every: u32| {
            let images = (0..count).map(|i| (10 + i, Arc::from(Path::new("i.jpg"))));
            let recording = Recording::new("r".into(), images.collect(), None);
            recording.into_sequence(keep_every).map(|sequence| {
                let frames = sequence.frames.iter();
                frames.map(|frame| frame.number).collect::<Vec<_>>()
            })
        };
        assert_eq!(numbers(8, 3), Some(vec![10, 13, 16]));
        assert_eq!(numbers(7, 3), Some(vec![10, 13, 16]));
        assert_eq!(numbers(6, 3), Some(vec![10, 13]));
        assert_eq!(numbers(3, 1), Some(vec![10, 11, 12]));
        assert_eq!(numbers(3, 99), Some(vec![10]));
        assert_eq!(numbers(0, 3), None);
    }

    fn recording(frames: u32) -> Recording {
        let images = (1..=frames)
            .map(|number| (number, Path::new(&format!("{number}.jpg")).into()))
            .collect();
        Recording::new("drive".into(), images, None)
    }

    fn car(instance: u32, side_px: f32) -> Annotation {
        Annotation {
            box_in_image: BoxXywh::new(5.0, 6.0, side_px, side_px),
            instance,
            class: "car".into(),
            occluded: None,
            ignore: false,
        }
    }

    #[test]
    fn a_run_goes_from_the_first_good_view_to_the_last_box() {
        let mut r = recording(20);
        for number in (2..=18).filter(|n| *n != 9) {
            let side_px = if number < 4 { 8.0 } else { 30.0 };
            let occluded = Some(number == 4);
            r.add(
                number,
                Annotation {
                    occluded,
                    ..car(7, side_px)
                },
            )
            .unwrap();
        }
        for number in 1..=5 {
            r.add(number, car(8, 30.0)).unwrap();
        }
        let runs = runs_of(&r.into_sequence(1).unwrap(), 10.0);
        assert_eq!(runs.len(), 1, "five frames are no run");
        assert_eq!(
            (runs[0].name.as_str(), runs[0].frames.len()),
            ("drive_7", 14)
        );
        assert!(
            runs[0].frames[0].ends_with("5.jpg"),
            "hidden on 4, too small before"
        );
        let absent: Vec<usize> = (0..14).filter(|&i| runs[0].truth[i].is_none()).collect();
        assert_eq!(absent, [4]);
    }

    #[test]
    fn a_run_ends_before_its_object_becomes_an_ignore_region() {
        let mut r = recording(20);
        for number in 1..=20 {
            r.add(
                number,
                Annotation {
                    ignore: number >= 13,
                    ..car(1, 30.0)
                },
            )
            .unwrap();
        }
        let region = r.unnamed();
        r.add(
            3,
            Annotation {
                ignore: true,
                ..car(region, 90.0)
            },
        )
        .unwrap();
        let runs = runs_of(&r.into_sequence(1).unwrap(), 10.0);
        assert_eq!(
            runs.iter().map(|run| run.frames.len()).collect::<Vec<_>>(),
            [12]
        );
    }

    #[test]
    fn a_box_without_image_and_a_second_box_are_refused() {
        let mut r = recording(2);
        r.add(1, car(1, 9.0)).unwrap();
        assert_eq!(
            r.add(1, car(1, 9.0)),
            Err(LineProblem::Repeated {
                instance: 1,
                frame: 1
            })
        );
        assert!(matches!(
            r.add(3, car(1, 9.0)),
            Err(LineProblem::NoImage { frame: 3, .. })
        ));
        assert_ne!(r.unnamed(), r.unnamed());
    }
}
