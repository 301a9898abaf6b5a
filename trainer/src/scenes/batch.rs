//! Scenes gathered into batches.
//!
//! In goes a [`SceneSampler`] and a step; out comes a [`SceneBatch`]. Batch `s` of `n` scenes holds those numbered
//! `s * n` to `s * n + n - 1`, so that a resumed run sees what an uninterrupted one would have seen.

use std::sync::atomic::{AtomicBool, Ordering};

use roadhound_shared::preprocess::CropSize;
use roadhound_shared::propose::RoadUsers;

use super::{SceneObject, SceneSampler, SceneView};
use crate::batch::BatchSource;
use crate::data::DataError;
use crate::sampler::SamplerScratch;

/// `len` scenes of two views each; the views of scene `i` are `2 i` and `2 i + 1`.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneBatch {
    /// Columns and rows of a view.
    pub size: CropSize,
    /// `[views, height, width, 3]`.
    pub rgb: Vec<u8>,
    /// By view.
    pub objects: Vec<Vec<SceneObject>>,
    /// By view, the kinds that are boxed wherever they are.
    pub complete: Vec<RoadUsers>,
}

impl SceneBatch {
    /// Makes one batch on this thread.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn draw(
        scenes: &SceneSampler,
        step: u64,
        batch_size: usize,
        scratch: &mut SamplerScratch,
    ) -> Result<Self, DataError> {
        let mut batch = Self::of(scenes.config().input(), []);
        for number in 0..batch_size as u64 {
            let pair = scenes.draw(step * batch_size as u64 + number, scratch)?;
            pair.views.into_iter().for_each(|view| batch.push(view));
        }
        Ok(batch)
    }

    /// These views, all of the given size.
    pub fn of(size: CropSize, views: impl IntoIterator<Item = SceneView>) -> Self {
        let mut batch = Self {
            size,
            rgb: Vec::new(),
            objects: Vec::new(),
            complete: Vec::new(),
        };
        views.into_iter().for_each(|view| batch.push(view));
        batch
    }

    /// Views in the batch.
    pub fn views(&self) -> usize {
        self.objects.len()
    }

    /// View `i` of the batch, which holds at least `i + 1`.
    pub fn view(&self, i: usize) -> SceneView {
        let len = self.rgb.len() / self.views().max(1);
        SceneView {
            rgb: self.rgb[i * len..(i + 1) * len].to_vec(),
            objects: self.objects[i].clone(),
            complete: self.complete[i],
        }
    }

    fn push(&mut self, view: SceneView) {
        self.rgb.extend_from_slice(&view.rgb);
        self.objects.push(view.objects);
        self.complete.push(view.complete);
    }
}

impl BatchSource for SceneSampler {
    type Batch = SceneBatch;

    fn draw_unless(
        &self,
        step: u64,
        batch_size: usize,
        scratch: &mut SamplerScratch,
        stop: &AtomicBool,
    ) -> Result<Option<SceneBatch>, DataError> {
        let mut batch = SceneBatch::of(self.config().input(), []);
        for number in 0..batch_size as u64 {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let pair = self.draw(step * batch_size as u64 + number, scratch)?;
            pair.views.into_iter().for_each(|view| batch.push(view));
        }
        Ok(Some(batch))
    }
}
