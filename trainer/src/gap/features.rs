//! From images to feature vectors: the backbone's maps, averaged over an object or over a tile of the image.
//!
//! In: a [`PictureSet`] and the network of a bundle or checkpoint. Out: [`Drawn`] samples. A region is a box, cropped
//! as a template is and averaged over the half of the crop that the object fills; a tile is a square anywhere on the
//! image, averaged over all of it. Both go through the template graph, whose backbone is the search graph's.

use anyhow::{Context, Result, anyhow};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roadhound_shared::contract::FollowContract;
use roadhound_shared::frame::FrameView;
use roadhound_shared::network::{FollowNetwork, TemplateOutputs};
use roadhound_shared::preprocess::{Border, CropScratch, CropWindow, crop_tensor};

use super::pictures::{Picture, PictureSet};
use super::{GapConfig, Samples, shuffle};
use crate::data::TargetFilter;
use crate::evaluate;
use crate::model::net::central_half;

/// Samples of one set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Features of annotated objects; none where nothing is annotated.
    pub regions: Samples,
    /// Features of tiles.
    pub tiles: Samples,
    /// Images that were looked at.
    pub images: usize,
}

/// Draws samples from a set: images in an order that visits all groups before it returns to one, a few regions and
/// tiles from each, until there are enough. `progress` hears of every image. The same seed draws the same.
///
/// # Errors
/// An image that cannot be read, or a failure of the network.
pub fn draw<N: FollowNetwork>(
    set: &PictureSet,
    network: &mut N,
    contract: &FollowContract,
    config: &GapConfig,
    target: &TargetFilter,
    mut progress: impl FnMut(),
) -> Result<Drawn> {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut extractor = Extractor::new(network, contract);
    let (mut regions, mut tiles) = (Vec::new(), Vec::new());
    let annotated = set.pictures.iter().any(|p| !p.boxes.is_empty());
    let mut images = 0;
    for picture in visiting_order(set, &mut rng) {
        let done = tiles.len() >= config.samples && (regions.len() >= config.samples || !annotated);
        if done {
            break;
        }
        let image = evaluate::open(&picture.path)?;
        let shown = || format!("{}", picture.path.display());
        let frame = evaluate::view(&image).with_context(shown)?;
        let (width_px, height_px) = (frame.width_px(), frame.height_px());
        let mut boxes = picture.boxes.clone();
        boxes.retain(|b| target.accepts(b, width_px, height_px));
        shuffle(&mut boxes, &mut rng);
        boxes.truncate(config.per_image.min(config.samples - regions.len()));
        for target in boxes {
            let window = CropWindow::around(target, contract.template_context());
            let values = extractor.features(&frame, &window, central_half);
            regions.push((values.with_context(shown)?, picture.group));
        }
        for _ in 0..config.per_image.min(config.samples - tiles.len()) {
            let side_px = config.tile_share * width_px.min(height_px) as f32;
            let mut centre =
                |size_px: u32| side_px / 2.0 + rng.random::<f32>() * (size_px as f32 - side_px);
            let window = CropWindow::square(centre(width_px), centre(height_px), side_px);
            let values = extractor.features(&frame, &window, |cells| (0, cells));
            tiles.push((values.with_context(shown)?, picture.group));
        }
        images += 1;
        progress();
    }
    Ok(Drawn {
        regions: Samples::new(regions),
        tiles: Samples::new(tiles),
        images,
    })
}

/// A random order in which every group comes once before one comes twice.
pub(crate) fn visiting_order<'a>(set: &'a PictureSet, rng: &mut ChaCha8Rng) -> Vec<&'a Picture> {
    let mut order: Vec<&Picture> = set.pictures.iter().collect();
    shuffle(&mut order, rng);
    let mut visits = std::collections::HashMap::new();
    let mut ranked: Vec<(u32, &Picture)> = Vec::with_capacity(order.len());
    for picture in order {
        let rank = visits.entry(picture.group).or_insert(0u32);
        ranked.push((*rank, picture));
        *rank += 1;
    }
    // Stable: what was random stays random within a rank.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, picture)| picture).collect()
}

/// The template graph with its buffers.
struct Extractor<'a, N> {
    network: &'a mut N,
    contract: &'a FollowContract,
    scratch: CropScratch,
    crop: Vec<f32>,
    outputs: TemplateOutputs,
}

impl<'a, N: FollowNetwork> Extractor<'a, N> {
    fn new(network: &'a mut N, contract: &'a FollowContract) -> Self {
        Self {
            network,
            contract,
            scratch: CropScratch::default(),
            crop: vec![0.0; contract.template_len()],
            outputs: TemplateOutputs::for_contract(contract),
        }
    }

    /// The mean of every feature over the cells that `part` gives, first and count along both axes.
    fn features(
        &mut self,
        frame: &FrameView<'_>,
        window: &CropWindow,
        part: impl Fn(usize) -> (usize, usize),
    ) -> Result<Vec<f64>> {
        crop_tensor(
            frame,
            window,
            self.contract.template_px,
            Border::Mean,
            &self.contract.normalisation,
            &mut self.scratch,
            &mut self.crop,
        )?;
        self.network
            .template(&self.crop, &mut self.outputs)
            .map_err(|error| anyhow!("network: {error}"))?;
        let cells = self.contract.feature_cells();
        let (first, count) = part(cells);
        let mean = |map: &[f32]| {
            let rows = map.chunks_exact(cells).skip(first).take(count);
            let inside = rows.flat_map(|row| &row[first..first + count]);
            inside.map(|v| f64::from(*v)).sum::<f64>() / (count * count) as f64
        };
        Ok(self
            .outputs
            .features
            .chunks_exact(cells * cells)
            .map(mean)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::contract::FollowSizes;
    use roadhound_shared::geometry::BoxXywh;
    use roadhound_shared::network::SearchOutputs;

    use super::*;

    /// Its first feature is the crop's first channel, shrunk to the cells; the others are zero.
    struct Mirror(FollowContract);

    impl FollowNetwork for Mirror {
        type Error = std::convert::Infallible;

        fn template(&mut self, crop: &[f32], out: &mut TemplateOutputs) -> Result<(), Self::Error> {
            let (side, stride) = (self.0.template_px as usize, self.0.stride_px as usize);
            let cells = self.0.feature_cells();
            out.features.fill(0.0);
            for y in 0..cells {
                for x in 0..cells {
                    let centre = (y * stride + stride / 2) * side + x * stride + stride / 2;
                    out.features[y * cells + x] = crop[centre];
                }
            }
            Ok(())
        }

        fn search(
            &mut self,
            _: &[f32],
            _: &[f32],
            _: &[f32],
            _: &mut SearchOutputs,
        ) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    /// Black images with a white object of 40 by 40 px.
    fn set(folder: &std::path::Path, count: u32) -> PictureSet {
        let target = BoxXywh::new(60.0, 30.0, 40.0, 40.0);
        let pictures = (0..count).map(|i| {
            let path = folder.join(format!("{i}.png"));
            let white = |x: u32, y: u32| (60..100).contains(&x) && (30..70).contains(&y);
            let image = image::RgbImage::from_fn(160, 120, |x, y| {
                image::Rgb([if white(x, y) { 255 } else { 0 }; 3])
            });
            image.save(&path).unwrap();
            Picture {
                path,
                group: i,
                boxes: vec![target, BoxXywh::new(0.0, 0.0, 3.0, 3.0)],
            }
        });
        PictureSet {
            pictures: pictures.collect(),
            by_sequence: true,
        }
    }

    fn drawn(set: &PictureSet, config: &GapConfig) -> Drawn {
        let contract = FollowContract::new(FollowSizes::default()).unwrap();
        let target = TargetFilter::default();
        draw(
            set,
            &mut Mirror(contract.clone()),
            &contract,
            config,
            &target,
            || (),
        )
        .unwrap()
    }

    #[test]
    fn a_region_is_the_object_and_a_tile_is_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let found = drawn(&set(folder.path(), 20), &GapConfig::default());
        let contract = FollowContract::new(FollowSizes::default()).unwrap();
        let n = &contract.normalisation;
        let white = f64::from((255.0 - n.mean[0]) * n.scale[0]);
        let black = f64::from((0.0 - n.mean[0]) * n.scale[0]);
        // The crop is resampled in fixed point: right to a fraction of a grey level.
        let near = f64::from(n.scale[0]) / 2.0;
        // The second box of each image is too small to be followed.
        assert_eq!(
            (found.regions.len(), found.tiles.len(), found.images),
            (20, 80, 20)
        );
        assert!(
            found
                .regions
                .rows()
                .iter()
                .all(|row| (row[0] - white).abs() < near)
        );
        let tiles: Vec<f64> = found.tiles.rows().iter().map(|row| row[0]).collect();
        assert!(tiles.iter().all(|v| *v > black - near && *v < white - near));
        assert!(tiles.iter().any(|v| *v > black + near));
    }

    #[test]
    fn the_seed_decides_what_is_drawn_and_the_limits_hold() {
        let folder = tempfile::tempdir().unwrap();
        let set = set(folder.path(), 20);
        let with = |seed| {
            let config = GapConfig {
                samples: 17,
                seed,
                ..GapConfig::default()
            };
            drawn(&set, &config)
        };
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
        assert_eq!((with(1).regions.len(), with(1).tiles.len()), (17, 17));
    }

    #[test]
    fn every_group_is_visited_before_one_is_visited_again() {
        let picture = |i: u32| Picture {
            path: format!("{i}").into(),
            group: if i < 50 { 0 } else { i },
            boxes: vec![],
        };
        let set = PictureSet {
            pictures: (0..60).map(picture).collect(),
            by_sequence: true,
        };
        let order = visiting_order(&set, &mut ChaCha8Rng::seed_from_u64(3));
        let mut first: Vec<u32> = order[..11].iter().map(|p| p.group).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59]);
        assert_eq!(order.len(), 60);
    }
}
