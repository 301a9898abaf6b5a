//! Decoded images on demand, within a fixed amount of memory.
//!
//! In goes an [`ImageId`], out comes the decoded image, shared between threads. What was asked for least recently is
//! dropped first. Registering an image reads its header only, or nothing where the annotation tells its size; that size is
//! then held against the image when it is decoded.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::{DynamicImage, ImageError, ImageReader, Limits};
use roadhound_host::MAX_PIXELS;
use roadhound_host::guard::quietly;
use roadhound_host::line::joined;
use roadhound_shared::frame::FrameView;

use super::{DataError, header};

/// An image known to the store that gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(u32);

impl ImageId {
    /// Position in the order of registration, for tables kept beside the store.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Columns.
    pub width_px: u32,
    /// Rows.
    pub height_px: u32,
    /// `height x width x 3`, red first, rows without padding.
    pub pixels: Vec<u8>,
    /// Subsampled mean, what the tracker fills borders with.
    pub mean_rgb: [u8; 3],
}

impl RgbImage {
    /// Takes tight RGB rows.
    ///
    /// # Panics
    /// Never for buffers of `width * height * 3` bytes, which every caller in this crate guarantees.
    pub fn new(width_px: u32, height_px: u32, pixels: Vec<u8>) -> Self {
        let mut image = Self {
            width_px,
            height_px,
            pixels,
            mean_rgb: [0; 3],
        };
        image.mean_rgb = image.view().mean_rgb().map(|mean| (mean + 0.5) as u8);
        image
    }

    /// The same pixels as the tracker sees them.
    pub fn view(&self) -> FrameView<'_> {
        FrameView::rgb8(self.width_px, self.height_px, &self.pixels)
            .expect("rows are tight by construction")
    }
}

#[derive(Debug)]
struct Known {
    path: Arc<Path>,
    stored_px: (u32, u32),
    loaded_px: (u32, u32),
}

/// A path that is looked up by its bytes: paths compare and hash part by part, which takes several times as long.
#[derive(Debug)]
struct ByBytes(Arc<Path>);

impl Borrow<OsStr> for ByBytes {
    fn borrow(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl Hash for ByBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_os_str().hash(state);
    }
}

impl PartialEq for ByBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_os_str() == other.0.as_os_str()
    }
}

impl Eq for ByBytes {}

#[derive(Debug, Default)]
struct Cache {
    images: HashMap<ImageId, (Arc<RgbImage>, u64)>,
    by_last_use: BTreeMap<u64, ImageId>,
    clock: u64,
    bytes: u64,
}

/// Images by identity, decoded when asked for and kept while they fit.
#[derive(Debug)]
pub struct ImageStore {
    known: Vec<Known>,
    by_path: HashMap<ByBytes, ImageId>,
    cache: Mutex<Cache>,
    capacity_bytes: u64,
    max_side_px: u32,
}

impl ImageStore {
    /// An empty store that keeps at most `capacity_bytes` of pixels. An image in use stays alive beyond that.
    pub fn new(capacity_bytes: u64, max_side_px: u32) -> Self {
        Self {
            known: Vec::new(),
            by_path: HashMap::new(),
            cache: Mutex::default(),
            capacity_bytes,
            max_side_px,
        }
    }

    /// Makes an image known; reads its header. The same path twice gives the same identity.
    ///
    /// # Errors
    /// A file that cannot be opened or is no image.
    pub fn register(&mut self, path: &Path) -> Result<ImageId, DataError> {
        if let Some(&id) = self.by_path.get(path.as_os_str()) {
            return Ok(id);
        }
        let stored_px = stored_size(path)?;
        Ok(self.register_sized(&path.into(), stored_px))
    }

    /// Makes an image of known width and height known without opening it.
    pub fn register_sized(&mut self, path: &Arc<Path>, stored_px: (u32, u32)) -> ImageId {
        if let Some(&id) = self.by_path.get(path.as_os_str()) {
            return id;
        }
        let stored_px = (stored_px.0.max(1), stored_px.1.max(1));
        let id = ImageId(self.known.len() as u32);
        self.known.push(Known {
            path: path.clone(),
            stored_px,
            loaded_px: loaded_size(stored_px, self.max_side_px),
        });
        self.by_path.insert(ByBytes(path.clone()), id);
        id
    }

    /// How many images are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no image is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Width and height of the image as [`Self::get`] returns it.
    pub fn loaded_size_px(&self, id: ImageId) -> (u32, u32) {
        self.known[id.index()].loaded_px
    }

    /// Factors, across and down, that take pixels of the file to pixels of the loaded image.
    pub fn loaded_from_stored(&self, id: ImageId) -> [f32; 2] {
        let known = &self.known[id.index()];
        [
            known.loaded_px.0 as f32 / known.stored_px.0 as f32,
            known.loaded_px.1 as f32 / known.stored_px.1 as f32,
        ]
    }

    /// The file behind an identity.
    pub fn path(&self, id: ImageId) -> &Path {
        &self.known[id.index()].path
    }

    /// Pixels kept at the moment.
    pub fn cached_bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// The decoded image, from memory where it is there. Two threads that miss at once both decode; neither waits.
    ///
    /// # Errors
    /// A file that has gone, or does not decode.
    pub fn get(&self, id: ImageId) -> Result<Arc<RgbImage>, DataError> {
        if let Some(image) = self.lock().touch(id) {
            return Ok(image);
        }
        let known = &self.known[id.index()];
        let image = Arc::new(decode(&known.path, known.stored_px, known.loaded_px)?);
        self.lock().keep(id, image.clone(), self.capacity_bytes);
        Ok(image)
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // The cache is consistent between any two statements that can panic.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn touch(&mut self, id: ImageId) -> Option<Arc<RgbImage>> {
        let (image, last_use) = self.images.get_mut(&id)?;
        self.by_last_use.remove(last_use);
        self.clock += 1;
        *last_use = self.clock;
        self.by_last_use.insert(self.clock, id);
        Some(image.clone())
    }

    fn keep(&mut self, id: ImageId, image: Arc<RgbImage>, capacity_bytes: u64) {
        let size = image.pixels.len() as u64;
        if size > capacity_bytes || self.touch(id).is_some() {
            return;
        }
        while self.bytes + size > capacity_bytes {
            let Some((_, oldest)) = self.by_last_use.pop_first() else {
                break;
            };
            if let Some((dropped, _)) = self.images.remove(&oldest) {
                self.bytes -= dropped.pixels.len() as u64;
            }
        }
        self.clock += 1;
        self.bytes += size;
        self.by_last_use.insert(self.clock, id);
        self.images.insert(id, (image, self.clock));
    }
}

/// Width and height from an image file's header.
///
/// # Errors
/// A file that cannot be opened or is no image.
pub fn stored_size(path: &Path) -> Result<(u32, u32), DataError> {
    // The general reader takes a JPEG into memory as a whole to find two numbers near its start; for a hundred
    // thousand of them that is the difference between a second and minutes.
    let mut file = BufReader::with_capacity(4096, File::open(path).map_err(DataError::io(path))?);
    let size = match header::size(&mut file) {
        Ok(Some(size)) => size,
        Ok(None) | Err(_) => decoded(path, ImageReader::into_dimensions)?,
    };
    if size.0 == 0 || size.1 == 0 || !is_decodable(size) {
        return Err(DataError::Image {
            path: path.to_owned(),
            reason: format!(
                "{}x{} px, expected 1 to {MAX_PIXELS} pixels",
                size.0, size.1
            ),
        });
    }
    Ok(size)
}

fn is_decodable((width_px, height_px): (u32, u32)) -> bool {
    u64::from(width_px) * u64::from(height_px) <= MAX_PIXELS
}

/// Decodes an image file as it is stored. Its size is checked before its pixels are asked for.
///
/// # Errors
/// A file that cannot be opened, is no image, is too large, or does not decode.
pub fn open(path: &Path) -> Result<DynamicImage, DataError> {
    stored_size(path)?;
    decoded(path, ImageReader::decode)
}

/// What a decoder makes of a file, within bounds; a panic of the decoder is a reason like any other.
fn decoded<T>(
    path: &Path,
    decode: impl FnOnce(ImageReader<BufReader<File>>) -> Result<T, ImageError>,
) -> Result<T, DataError> {
    let bad = |reason: String| DataError::Image {
        path: path.to_owned(),
        reason: joined(&reason),
    };
    let mut reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(DataError::io(path))?;
    let mut limits = Limits::default();
    // Four channels of two bytes, and as much again for the decoder.
    limits.max_alloc = Some(16 * MAX_PIXELS);
    reader.limits(limits);
    quietly(|| decode(reader))
        .map_err(&bad)?
        .map_err(|error| bad(error.to_string()))
}

fn loaded_size((width_px, height_px): (u32, u32), max_side_px: u32) -> (u32, u32) {
    let longer = width_px.max(height_px);
    if longer <= max_side_px {
        return (width_px, height_px);
    }
    let shrink = |side: u32| {
        ((f64::from(side) * f64::from(max_side_px) / f64::from(longer)).round() as u32).max(1)
    };
    (shrink(width_px), shrink(height_px))
}

fn decode(
    path: &Path,
    stored_px: (u32, u32),
    loaded_px: (u32, u32),
) -> Result<RgbImage, DataError> {
    let bad = |reason: String| DataError::Image {
        path: path.to_owned(),
        reason,
    };
    let picture = open(path)?.into_rgb8();
    if picture.dimensions() != stored_px {
        let (width_px, height_px) = picture.dimensions();
        return Err(bad(format!(
            "decodes to {width_px}x{height_px}, its header, its annotation or the first image of its video says {}x{}",
            stored_px.0, stored_px.1
        )));
    }
    let pixels = match stored_px == loaded_px {
        true => picture.into_raw(),
        false => shrink_area(picture.as_raw(), stored_px, loaded_px),
    };
    Ok(RgbImage::new(loaded_px.0, loaded_px.1, pixels))
}

/// Every output pixel is the mean of the area it covers; rows first, then columns.
fn shrink_area(pixels: &[u8], (from_w, from_h): (u32, u32), (to_w, to_h): (u32, u32)) -> Vec<u8> {
    let across = area_weights(from_w, to_w);
    let down = area_weights(from_h, to_h);
    let row_len = to_w as usize * 3;
    let mut narrow = vec![0.0_f32; from_h as usize * row_len];
    for (row, out) in pixels
        .chunks_exact(from_w as usize * 3)
        .zip(narrow.chunks_exact_mut(row_len))
    {
        for ((first, weights), out) in across.iter().zip(out.chunks_exact_mut(3)) {
            for (pixel, weight) in row[first * 3..].chunks_exact(3).zip(weights) {
                for channel in 0..3 {
                    out[channel] += weight * f32::from(pixel[channel]);
                }
            }
        }
    }
    let mut out = Vec::with_capacity(to_h as usize * row_len);
    let mut sum = vec![0.0_f32; row_len];
    for (first, weights) in &down {
        sum.fill(0.0);
        for (row, weight) in narrow[first * row_len..].chunks_exact(row_len).zip(weights) {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        out.extend(sum.iter().map(|value| (value + 0.5) as u8));
    }
    out
}

/// For every output cell the first input cell it touches and the share of itself it takes from each.
fn area_weights(from: u32, to: u32) -> Vec<(usize, Vec<f32>)> {
    let step = f64::from(from) / f64::from(to);
    (0..to)
        .map(|cell| {
            let (start, end) = (
                f64::from(cell) * step,
                (f64::from(cell + 1) * step).min(f64::from(from)),
            );
            let first = start.floor() as u32;
            let last = (end.ceil() as u32).clamp(first + 1, from);
            let covered =
                |i: u32| (end.min(f64::from(i + 1)) - start.max(f64::from(i))).max(0.0) / step;
            (
                first as usize,
                (first..last).map(|i| covered(i) as f32).collect(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    fn folder_of_images(count: u8, width: u32, height: u32) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let paths = (0..count)
            .map(|i| {
                let path = folder.path().join(format!("{i}.png"));
                image::RgbImage::from_pixel(width, height, image::Rgb([i, 100, 200]))
                    .save(&path)
                    .unwrap();
                path
            })
            .collect();
        (folder, paths)
    }

    #[test]
    fn the_cache_never_holds_more_than_its_capacity() {
        let (_folder, paths) = folder_of_images(8, 20, 10);
        let mut store = ImageStore::new(3 * 600, 560);
        let ids: Vec<_> = paths
            .iter()
            .map(|path| store.register(path).unwrap())
            .collect();
        for round in 0..3 {
            for (i, id) in ids.iter().enumerate() {
                assert_eq!(
                    store.get(*id).unwrap().pixels[..3],
                    [i as u8, 100, 200],
                    "round {round}"
                );
                assert!(store.cached_bytes() <= 3 * 600);
            }
        }
        assert_eq!(store.cached_bytes(), 3 * 600);
    }

    #[test]
    fn the_least_recently_used_image_is_dropped_first() {
        let (_folder, paths) = folder_of_images(3, 20, 10);
        let mut store = ImageStore::new(2 * 600, 560);
        let ids: Vec<_> = paths
            .iter()
            .map(|path| store.register(path).unwrap())
            .collect();
        let first = store.get(ids[0]).unwrap();
        store.get(ids[1]).unwrap();
        assert!(Arc::ptr_eq(&first, &store.get(ids[0]).unwrap()));
        store.get(ids[2]).unwrap();
        assert!(
            Arc::ptr_eq(&first, &store.get(ids[0]).unwrap()),
            "image 1 should have been dropped"
        );
    }

    #[test]
    fn an_image_larger_than_the_cache_is_returned_but_not_kept() {
        let (_folder, paths) = folder_of_images(1, 20, 10);
        let mut store = ImageStore::new(599, 560);
        let id = store.register(&paths[0]).unwrap();
        assert_eq!(store.get(id).unwrap().width_px, 20);
        assert_eq!(store.cached_bytes(), 0);
    }

    #[test]
    fn large_images_are_shrunk_to_the_longer_side() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checks.png");
        image::RgbImage::from_fn(300, 150, |x, y| {
            image::Rgb([if (x + y) % 2 == 0 { 0 } else { 200 }, x as u8, 7])
        })
        .save(&path)
        .unwrap();
        let mut store = ImageStore::new(1 << 20, 100);
        let id = store.register(&path).unwrap();
        assert_eq!(store.loaded_size_px(id), (100, 50));
        assert_eq!(store.loaded_from_stored(id), [1.0 / 3.0, 1.0 / 3.0]);
        let image = store.get(id).unwrap();
        // A 3x3 block of the chequerboard averages to 4/9 or 5/9 of 200; point sampling would give 0 or 200.
        assert!(
            image
                .pixels
                .chunks(3)
                .all(|p| (88..=112).contains(&p[0]) && p[2] == 7)
        );
        assert_eq!(image.pixels[3 * 10 + 1], 31);
    }

    #[test]
    fn area_weights_cover_every_input_once() {
        for (from, to) in [(7, 3), (640, 560), (561, 560), (1000, 1)] {
            let mut covered = vec![0.0; from as usize];
            for (first, weights) in area_weights(from, to) {
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                for (i, weight) in weights.iter().enumerate() {
                    covered[first + i] += weight * from as f32 / to as f32;
                }
            }
            assert!(
                covered.iter().all(|share| (share - 1.0).abs() < 1e-3),
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn an_image_of_announced_size_is_opened_on_first_use_and_held_to_it() {
        let (folder, paths) = folder_of_images(1, 20, 10);
        let mut store = ImageStore::new(1 << 20, 560);
        let missing: Arc<Path> = folder.path().join("missing.png").into();
        let id = store.register_sized(&missing, (640, 360));
        assert_eq!(store.loaded_size_px(id), (560, 315));
        assert!(
            store
                .get(id)
                .unwrap_err()
                .to_string()
                .contains("missing.png")
        );
        let right = store.register_sized(&paths[0].as_path().into(), (20, 10));
        assert_eq!(store.get(right).unwrap().width_px, 20);
        let mut store = ImageStore::new(1 << 20, 560);
        let wrong = store.register_sized(&paths[0].as_path().into(), (10, 20));
        let error = store.get(wrong).unwrap_err().to_string();
        assert!(
            error.contains("0.png") && error.contains("decodes to 20x10"),
            "{error}"
        );
    }

    #[test]
    fn the_size_in_a_header_is_checked_before_pixels_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.png");
        // The beginning of a PNG, up to its size: all that is read before the check.
        let claim = |width_px: u32, height_px: u32| {
            let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
            bytes.extend(width_px.to_be_bytes());
            bytes.extend(height_px.to_be_bytes());
            std::fs::write(&path, bytes).unwrap();
        };
        claim(7680, 4320);
        assert_eq!(stored_size(&path).unwrap(), (7680, 4320));
        for (width_px, height_px) in [(7680, 4321), (u32::MAX, u32::MAX)] {
            claim(width_px, height_px);
            let said = format!("{width_px}x{height_px} px, expected 1 to 33177600 pixels");
            let mut store = ImageStore::new(1 << 20, 560);
            let announced = store.register_sized(&path.as_path().into(), (640, 360));
            for error in [
                stored_size(&path).unwrap_err(),
                open(&path).unwrap_err(),
                store
                    .register(&folder.path().join("./huge.png"))
                    .unwrap_err(),
                store.get(announced).unwrap_err(),
            ] {
                let error = error.to_string();
                assert!(
                    error.contains("huge.png") && error.ends_with(&said),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.jpg");
        std::fs::write(&path, b"not an image").unwrap();
        let mut store = ImageStore::new(1, 560);
        assert!(
            store
                .register(&path)
                .unwrap_err()
                .to_string()
                .contains("broken.jpg: not a readable image")
        );
        let missing = store
            .register(&folder.path().join("missing.jpg"))
            .unwrap_err();
        assert!(
            matches!(missing, DataError::Io { .. }) && missing.to_string().contains("missing.jpg")
        );
    }

    #[test]
    fn threads_share_one_store() {
        let (_folder, paths) = folder_of_images(6, 20, 10);
        let mut store = ImageStore::new(2 * 600, 560);
        let ids: Vec<_> = paths
            .iter()
            .map(|path| store.register(path).unwrap())
            .collect();
        std::thread::scope(|scope| {
            for offset in 0..4 {
                let (store, ids) = (&store, &ids);
                scope.spawn(move || {
                    for i in 0..60 {
                        let which = (i + offset) % ids.len();
                        assert_eq!(store.get(ids[which]).unwrap().pixels[0], which as u8);
                    }
                });
            }
        });
        assert!(store.cached_bytes() <= 2 * 600);
    }
}
