//! Object masks that some packs bring along: `masks/NAME.png` beside `images/NAME.jpg`, one value a pixel.
//!
//! In goes an image and a box on it; out comes which pixels belong to the object, for pasting it without its
//! background. What the values mean is the pack's affair: the value that fills most of the box's middle is taken to be
//! the object. Masks are decoded when asked for; the last ones are kept, as many as fit.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::preprocess::CropWindow;

use super::DataError;
use super::store::{self, ImageId};

/// Masks kept decoded take so many bytes at most, beside the images: nine hundred of 320x227, thirty of 1920x1080.
const KEPT_BYTES: usize = 64 << 20;
/// Share of the box's middle that one value must fill to be called the object.
const LEAST_SHARE: f32 = 0.55;

/// One value a pixel, of the size of the mask's file.
#[derive(Debug)]
struct Mask {
    width_px: u32,
    height_px: u32,
    values: Vec<u8>,
}

/// The masks of a dataset's images.
#[derive(Debug)]
pub struct MaskStore {
    files: HashMap<ImageId, PathBuf>,
    kept_bytes: usize,
    cache: Mutex<Cache>,
}

impl Default for MaskStore {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            kept_bytes: KEPT_BYTES,
            cache: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Cache {
    masks: HashMap<ImageId, Arc<Mask>>,
    order: VecDeque<ImageId>,
    bytes: usize,
}

impl Cache {
    /// Keeps a mask, and of the others, the oldest first, no more than fit beside it.
    fn keep(&mut self, id: ImageId, mask: Arc<Mask>, most_bytes: usize) {
        let bytes = mask.values.len();
        // Another thread may have been faster.
        if self.masks.insert(id, mask).is_some() {
            return;
        }
        self.order.push_back(id);
        self.bytes += bytes;
        while self.bytes > most_bytes && self.order.len() > 1 {
            let oldest = self.order.pop_front();
            if let Some(gone) = oldest.and_then(|oldest| self.masks.remove(&oldest)) {
                self.bytes -= gone.values.len();
            }
        }
    }
}

/// Where an image's mask would be: `masks` in the place of the last folder called `images`, ending in `.png`.
pub fn mask_path(image: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = image.components().collect();
    let at = parts
        .iter()
        .rposition(|part| part.as_os_str() == "images")?;
    let mut path: PathBuf = parts[..at].iter().collect();
    path.push("masks");
    path.extend(&parts[at + 1..]);
    path.set_extension("png");
    Some(path)
}

impl MaskStore {
    /// Makes the mask of an image known, where its pack has a folder of masks and the file exists.
    pub fn register(&mut self, id: ImageId, image: &Path) {
        if let Some(path) = mask_path(image).filter(|path| path.is_file()) {
            self.files.insert(id, path);
        }
    }

    /// How many images have one.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no image has one.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Opacity, 0 to 255, of every pixel of a crop of the object in `box_in_image`; `None` where there is no mask, or
    /// it does not say what the object is. The image is `image_px` wide and high.
    ///
    /// # Errors
    /// A mask that cannot be decoded.
    pub fn silhouette(
        &self,
        id: ImageId,
        image_px: (u32, u32),
        box_in_image: &BoxXywh,
        window: &CropWindow,
        side_px: u32,
        flip: bool,
    ) -> Result<Option<Vec<u8>>, DataError> {
        let Some(path) = self.files.get(&id) else {
            return Ok(None);
        };
        let mask = self.mask(id, path)?;
        let mask_from_image = [
            mask.width_px as f32 / image_px.0.max(1) as f32,
            mask.height_px as f32 / image_px.1.max(1) as f32,
        ];
        let Some(object) = mask.object_in(box_in_image, mask_from_image) else {
            return Ok(None);
        };
        let image_from_crop = [
            (
                window.w_px / side_px as f32,
                window.cx_px - window.w_px / 2.0,
            ),
            (
                window.h_px / side_px as f32,
                window.cy_px - window.h_px / 2.0,
            ),
        ];
        let b = box_in_image;
        // Half a pixel of grace: boxes were rounded.
        let inside = |v: f32, from: f32, len: f32| v >= from - 0.5 && v <= from + len + 0.5;
        let mut opacity = Vec::with_capacity(side_px as usize * side_px as usize);
        for y in 0..side_px {
            for x in 0..side_px {
                let x = if flip { side_px - 1 - x } else { x };
                let mut hits = 0_u32;
                // Four samples a pixel make an edge soft enough for the eye.
                for (dx, dy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                    let (scale, offset) = image_from_crop[0];
                    let at_x = (x as f32 + dx) * scale + offset;
                    let (scale, offset) = image_from_crop[1];
                    let at_y = (y as f32 + dy) * scale + offset;
                    hits += u32::from(
                        inside(at_x, b.x_px, b.w_px)
                            && inside(at_y, b.y_px, b.h_px)
                            && mask.at(at_x * mask_from_image[0], at_y * mask_from_image[1])
                                == Some(object),
                    );
                }
                opacity.push((hits * 255 / 4) as u8);
            }
        }
        Ok(Some(opacity))
    }

    fn mask(&self, id: ImageId, path: &Path) -> Result<Arc<Mask>, DataError> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mask) = lock().masks.get(&id) {
            return Ok(mask.clone());
        }
        let decoded = store::open(path)?.into_luma8();
        let mask = Arc::new(Mask {
            width_px: decoded.width(),
            height_px: decoded.height(),
            values: decoded.into_raw(),
        });
        lock().keep(id, mask.clone(), self.kept_bytes);
        Ok(mask)
    }
}

impl Mask {
    fn at(&self, x: f32, y: f32) -> Option<u8> {
        if !(x >= 0.0 && y >= 0.0) {
            return None;
        }
        let (x, y) = (x as u32, y as u32);
        let inside = x < self.width_px && y < self.height_px;
        inside.then(|| self.values[y as usize * self.width_px as usize + x as usize])
    }

    /// The value of the object in a box: what fills most of its middle half.
    fn object_in(&self, b: &BoxXywh, mask_from_image: [f32; 2]) -> Option<u8> {
        const SAMPLES: u32 = 12;
        let mut counts = [0_u32; 256];
        let mut seen = 0;
        for i in 0..SAMPLES * SAMPLES {
            let share = |k: u32| 0.25 + 0.5 * (k as f32 + 0.5) / SAMPLES as f32;
            let x = (b.x_px + share(i % SAMPLES) * b.w_px) * mask_from_image[0];
            let y = (b.y_px + share(i / SAMPLES) * b.h_px) * mask_from_image[1];
            if let Some(value) = self.at(x, y) {
                counts[usize::from(value)] += 1;
                seen += 1;
            }
        }
        let (value, count) = (0..=255_u8)
            .map(|value| (value, counts[usize::from(value)]))
            .max_by_key(|(_, count)| *count)?;
        (seen > 0 && count as f32 >= LEAST_SHARE * seen as f32).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::store::ImageStore;

    #[test]
    fn masks_lie_beside_the_images_in_stills_and_videos() {
        let path = |image: &str| mask_path(Path::new(image)).unwrap();
        assert_eq!(path("a/images/b.jpg"), Path::new("a/masks/b.png"));
        assert_eq!(
            path("images/p/images/s/07.png"),
            Path::new("images/p/masks/s/07.png")
        );
        assert_eq!(mask_path(Path::new("a/img/b.jpg")), None);
    }

    #[test]
    fn masks_are_kept_by_what_they_take_and_not_by_their_number() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["images", "masks"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut store = ImageStore::new(0, 560);
        let mut masks = MaskStore {
            kept_bytes: 2500,
            ..MaskStore::default()
        };
        let ids: Vec<ImageId> = (0..6)
            .map(|k| {
                let image = folder.path().join(format!("images/{k}.png"));
                image::RgbImage::new(40, 25).save(&image).unwrap();
                let mask = image::GrayImage::from_pixel(40, 25, image::Luma([k]));
                mask.save(folder.path().join(format!("masks/{k}.png")))
                    .unwrap();
                let id = store.register(&image).unwrap();
                masks.register(id, &image);
                id
            })
            .collect();
        let value_of = |id: ImageId| masks.mask(id, &masks.files[&id]).unwrap().values[0];
        for _ in 0..2 {
            for (k, id) in ids.iter().enumerate() {
                assert_eq!(usize::from(value_of(*id)), k);
            }
        }
        let cache = masks.cache.lock().unwrap();
        // A thousand bytes each.
        assert_eq!(
            (cache.bytes, cache.masks.len(), cache.order.len()),
            (2000, 2, 2)
        );
    }

    #[test]
    fn the_silhouette_follows_the_mask_and_stays_in_the_box() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["images", "masks"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let image = folder.path().join("images/a.png");
        image::RgbImage::new(40, 30).save(&image).unwrap();
        // A disc of 3 in a field of 0, and more 3 far away, which the box excludes.
        image::GrayImage::from_fn(80, 60, |x, y| {
            let disc = (x as f32 - 40.0).powi(2) + (y as f32 - 30.0).powi(2) < 400.0;
            image::Luma([if disc || x < 8 { 3 } else { 0 }])
        })
        .save(folder.path().join("masks/a.png"))
        .unwrap();
        let id = ImageStore::new(0, 560).register(&image).unwrap();
        let mut masks = MaskStore::default();
        masks.register(id, &image);
        assert_eq!(masks.len(), 1);
        let window = CropWindow::square(20.0, 15.0, 40.0);
        let cut = |b: BoxXywh, flip| {
            masks
                .silhouette(id, (40, 30), &b, &window, 40, flip)
                .unwrap()
        };
        let disc = cut(BoxXywh::new(10.0, 5.0, 20.0, 20.0), false).unwrap();
        let at = |x: usize, y: usize| disc[y * 40 + x];
        assert_eq!(
            (at(20, 20), at(20, 12), at(11, 11), at(1, 20)),
            (255, 255, 0, 0)
        );
        let filled = disc.iter().filter(|v| **v > 127).count() as f32;
        assert!(
            (filled / 314.0 - 1.0).abs() < 0.05,
            "{filled} pixels of the disc's 314"
        );
        let mirrored = cut(BoxXywh::new(10.0, 5.0, 14.0, 20.0), true).unwrap();
        assert!(mirrored[20 * 40 + 27] == 255 && mirrored[20 * 40 + 13] == 0);
        // A box whose middle is half object, half not: nobody knows.
        assert!(cut(BoxXywh::new(20.0, 5.0, 20.0, 20.0), false).is_none());
    }
}
