//! A point becomes a box: what is it that somebody pointed at?
//!
//! In: a frame, a point in it, a follower. Out: the box of the thing there. Nobody has to know sizes, for the network that
//! follows things also knows where they end: a guess around the point is taken for a template, searched for in the same
//! frame, and found as a box whose sides are where the network sees those of an object; that box is the next guess. Guesses
//! of several sizes come to rest on the thing itself, on parts of it and on its surroundings, most of them on the thing:
//! of all boxes about the point, the one that the others agree with most is taken.
//!
//! What is followed meanwhile is left alone.

use heapless::Vec;

use super::{FollowError, Follower};
use crate::decode::Prior;
use crate::frame::FrameView;
use crate::geometry::BoxXywh;
use crate::network::FollowNetwork;
use crate::preprocess::{Border, CropWindow, crop_tensor};
use crate::tracker::{DecodeConfig, StartError};

/// Sides of the first guesses, as shares of the image's mean side: from a car far ahead to one that fills the picture.
const GUESSES: [f32; 6] = [0.033, 0.057, 0.1, 0.167, 0.283, 0.48];
/// How often a guess is made better.
const ROUNDS: usize = 3;
/// A guess that comes back with this overlap is at rest.
const AT_REST_IOU: f32 = 0.9;
/// How much the middle of the search crop counts: the thing is where somebody pointed.
const WINDOW_WEIGHT: f32 = 0.3;

/// A box that the network is less sure of is no thing.
const LEAST_SURE: f32 = 0.3;

const MOST: usize = GUESSES.len() * ROUNDS;

/// One box that a guess came to.
#[derive(Clone, Copy)]
struct Found {
    box_in_image: BoxXywh,
    /// How sure the network was of it: score and presence together, squared, for boxes of nothing are as many as others.
    weight: f32,
}

impl<N: FollowNetwork> Follower<N> {
    /// The box of what is at this point, in pixels of the image. Runs both graphs up to eighteen times.
    ///
    /// A thing that the network cannot see gets a square of a tenth of the image's mean side.
    ///
    /// # Errors
    /// A point outside the image, or a failure of the network.
    pub fn select(
        &mut self,
        frame: &FrameView<'_>,
        (x_px, y_px): (f32, f32),
    ) -> Result<BoxXywh, FollowError<N::Error>> {
        let (width_px, height_px) = (frame.width_px(), frame.height_px());
        let mean_side_px = libm::sqrtf(width_px as f32 * height_px as f32);
        let guess = |share: f32| {
            let side_px = share * mean_side_px;
            BoxXywh::from_center(x_px, y_px, side_px, side_px)
        };
        let plain = guess(GUESSES[2]);
        let inside =
            (0.0..=width_px as f32).contains(&x_px) && (0.0..=height_px as f32).contains(&y_px);
        if !inside {
            return Err(FollowError::Start(StartError::Box {
                bad: plain,
                width_px,
                height_px,
            }));
        }
        let mut found: Vec<Found, MOST> = Vec::new();
        for share in GUESSES {
            let mut at = guess(share);
            for round in 0..ROUNDS {
                let Some(next) = self.look_for(frame, at, (x_px, y_px))? else {
                    break;
                };
                let rests = next.box_in_image.iou(&at) > AT_REST_IOU;
                at = next.box_in_image;
                // What a guess comes to at once is as wrong as the guess, unless it stays there.
                if round > 0 || rests {
                    // There is room for all.
                    let _ = found.push(next);
                }
                if rests {
                    break;
                }
            }
        }
        Ok(most_agreed(&found).unwrap_or(plain))
    }

    /// Where a guess is found in the frame that it is taken from; `None` where that is not about the point.
    fn look_for(
        &mut self,
        frame: &FrameView<'_>,
        guess: BoxXywh,
        (x_px, y_px): (f32, f32),
    ) -> Result<Option<Found>, FollowError<N::Error>> {
        let search_px = self.contract.search_px;
        self.run_template(
            frame,
            &CropWindow::around(guess, self.contract.template_context()),
        )?;
        let window = CropWindow::around(guess, self.contract.search_context());
        crop_tensor(
            frame,
            &window,
            search_px,
            Border::Mean,
            &self.contract.normalisation,
            &mut self.scratch,
            &mut self.search_chw,
        )?;
        let features = &self.template_outputs.features;
        self.network
            .search(
                &self.search_chw,
                features,
                features,
                &mut self.search_outputs,
            )
            .map_err(FollowError::Network)?;
        let guess_in_search = window.crop_from_image(search_px).apply_box(&guess);
        let prior = Prior::sized(guess_in_search.w_px, guess_in_search.h_px, WINDOW_WEIGHT);
        // The guess has no shape worth keeping to.
        let config = DecodeConfig {
            shape_penalty: 0.0,
            ..self.tracker.config().decode
        };
        let presence = self.search_outputs.presence;
        let image_from_search = window.image_from_crop(search_px);
        let candidates = self
            .tracker
            .decoder_mut()
            .decode(&self.search_outputs, &prior, &config);
        let about_point = candidates.iter().find_map(|candidate| {
            let found = image_from_search.apply_box(&candidate.box_in_search.into());
            let box_in_image = found.clip(frame.width_px(), frame.height_px())?;
            let contains = (box_in_image.x_px..=box_in_image.right_px()).contains(&x_px)
                && (box_in_image.y_px..=box_in_image.bottom_px()).contains(&y_px);
            let sure = candidate.score * presence.clamp(0.0, 1.0);
            (contains && box_in_image.is_proper() && sure > LEAST_SURE).then_some(Found {
                box_in_image,
                weight: sure * sure,
            })
        });
        Ok(about_point)
    }
}

/// The box with the most weight of boxes over it.
fn most_agreed(found: &[Found]) -> Option<BoxXywh> {
    let agreement = |of: &Found| -> f32 {
        found
            .iter()
            .map(|other| other.weight * other.box_in_image.iou(&of.box_in_image))
            .sum()
    };
    found
        .iter()
        .map(|one| (agreement(one), one.box_in_image))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, box_in_image)| box_in_image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(x_px: f32, side_px: f32, weight: f32) -> Found {
        Found {
            box_in_image: BoxXywh::from_center(x_px, 50.0, side_px, side_px),
            weight,
        }
    }

    #[test]
    fn the_box_that_most_others_are_like_is_taken() {
        let all = [
            found(50.0, 10.0, 0.9),
            found(50.0, 30.0, 0.6),
            found(52.0, 30.0, 0.6),
            found(50.0, 32.0, 0.6),
            found(50.0, 90.0, 0.9),
        ];
        let taken = most_agreed(&all);
        assert_eq!(taken, Some(all[1].box_in_image));
        assert_eq!(most_agreed(&[]), None);
    }
}
