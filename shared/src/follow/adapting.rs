//! Normalisation that follows the camera, in the loop: after a frame, what its last look sampled; where constants change,
//! the templates anew, so that they keep matching what is searched.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::{FollowError, Follower};
use crate::adapt::{Action, Adapter, Look};
use crate::contract::FollowContract;
use crate::network::FollowNetwork;
use crate::tracker::Report;

/// The adapter, and the crops that templates are computed anew from.
#[derive(Debug)]
pub(super) struct Adapting {
    pub(super) adapter: Adapter,
    first_chw: Vec<f32>,
    latest_chw: Vec<f32>,
    /// There is one template, the first.
    is_first: bool,
}

impl Adapting {
    pub(super) fn new(adapter: Adapter, contract: &FollowContract) -> Self {
        Self {
            adapter,
            first_chw: vec![0.0; contract.template_len()],
            latest_chw: vec![0.0; contract.template_len()],
            is_first: true,
        }
    }

    /// Another target is followed, by this crop.
    pub(super) fn started(&mut self, crop_chw: &[f32]) {
        self.first_chw.copy_from_slice(crop_chw);
        self.is_first = true;
    }

    /// The latest template is of this crop.
    pub(super) fn renewed(&mut self, crop_chw: &[f32]) {
        self.latest_chw.copy_from_slice(crop_chw);
        self.is_first = false;
    }
}

impl<N: FollowNetwork> Follower<N> {
    /// After a frame: from what was sampled to constants, where there is something to change.
    pub(super) fn adapt(&mut self, report: &Report) -> Result<(), FollowError<N::Error>> {
        let Some(adapting) = &mut self.adapting else {
            return Ok(());
        };
        let adapter = &mut adapting.adapter;
        for layer in 0..adapter.layers() {
            self.network
                .samples(layer, &mut |cells| adapter.sample(layer, cells));
        }
        let look = Look {
            at: report.captured_at,
            phase: report.phase,
            presence: report.presence,
        };
        match adapter.look(look) {
            Action::Keep => return Ok(()),
            Action::Adjust | Action::Restore => {}
        }
        for layer in 0..adapter.layers() {
            let adjusted = self.network.adjust(layer, adapter.adjustments(layer));
            adjusted.map_err(FollowError::Network)?;
        }
        let is_first = adapting.is_first;
        self.features_of(|adapting| &adapting.first_chw)?;
        self.first.copy_from_slice(&self.template_outputs.features);
        if is_first {
            self.latest.copy_from_slice(&self.template_outputs.features);
        } else {
            self.features_of(|adapting| &adapting.latest_chw)?;
            mem::swap(&mut self.latest, &mut self.template_outputs.features);
        }
        Ok(())
    }

    /// Runs the template graph on a crop of before.
    fn features_of(
        &mut self,
        crop: impl Fn(&Adapting) -> &[f32],
    ) -> Result<(), FollowError<N::Error>> {
        if let Some(adapting) = &self.adapting {
            self.network
                .template(crop(adapting), &mut self.template_outputs)
                .map_err(FollowError::Network)?;
        }
        self.check_features()
    }
}
