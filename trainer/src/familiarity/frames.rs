//! Frames as the board will crop them: rendered drives and packs of pictures, a part of each held out.
//!
//! In: a [`FamiliarityRun`]. Out: [`Frames`]; [`faulted`] frames for the score. Every frame is a function of the seed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use roadhound_shared::frame::FrameView;
use roadhound_shared::preprocess::{Border, CropScratch, CropSize, CropWindow, crop_rgb8_sized};
use roadhound_shared::world::{Region, Scratch, Sequence, WorldConfig};

use super::FamiliarityRun;
use super::faults::Fault;
use crate::data::clip::folders;
use crate::data::{list_images, otb};
use crate::epochs::rng_at;
use crate::evaluate;
use crate::gap::pictures::PictureSet;
use crate::labelled::{Samples, Shape, Values};

const VARIANTS: u64 = 41;
const FAULTS: u64 = 42;
const GRAIN: u64 = 43;
const HELD: u64 = 44;

/// Frames to learn from and to score on; a class a source.
pub struct Frames {
    /// To learn from.
    pub train: Samples,
    /// Held out: other drives, other pictures.
    pub test: Samples,
}

/// A frame as the graph takes it: its middle, of the graph's aspect.
///
/// # Errors
/// A frame without area.
pub fn cropped(
    frame: &FrameView<'_>,
    window: &CropWindow,
    size: CropSize,
    scratch: &mut CropScratch,
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 3 * size.width_px as usize * size.height_px as usize];
    crop_rgb8_sized(frame, window, size, Border::Replicate, scratch, &mut bytes)?;
    Ok(bytes)
}

/// The frame's middle.
fn middle(frame: &FrameView<'_>, size: CropSize) -> CropWindow {
    CropWindow::within(frame.width_px(), frame.height_px(), size)
}

/// A part of the frame, mirrored, in another light or grey: other cameras than those that were at hand.
fn variant(
    frame: &FrameView<'_>,
    size: CropSize,
    scratch: &mut CropScratch,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<u8>> {
    let whole = middle(frame, size);
    let scale = rng.random_range(0.6..1.0f32);
    let free = |whole_px: f32, rng: &mut ChaCha8Rng| {
        rng.random_range(-0.5..0.5f32) * whole_px * (1.0 - scale)
    };
    let window = CropWindow {
        cx_px: whole.cx_px + free(whole.w_px, rng),
        cy_px: whole.cy_px + free(whole.h_px, rng),
        w_px: whole.w_px * scale,
        h_px: whole.h_px * scale,
    };
    let mut bytes = cropped(frame, &window, size, scratch)?;
    let gamma = rng.random_range(0.7..1.4f32);
    let gain = rng.random_range(0.8..1.15f32);
    let light: Vec<u8> = (0..=255u8)
        .map(|v| {
            (255.0 * gain * (f32::from(v) / 255.0).powf(gamma))
                .round()
                .min(255.0) as u8
        })
        .collect();
    let grey = rng.random_bool(0.15);
    for pixel in bytes.chunks_exact_mut(3) {
        for value in pixel.iter_mut() {
            *value = light[usize::from(*value)];
        }
        if grey {
            let sum: u32 = pixel
                .iter()
                .zip([77, 150, 29])
                .map(|(v, w)| u32::from(*v) * w)
                .sum();
            pixel.fill((sum >> 8) as u8);
        }
    }
    if rng.random_bool(0.5) {
        for row in bytes.chunks_exact_mut(3 * size.width_px as usize) {
            let pixels: Vec<[u8; 3]> = row.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
            for (to, from) in row.chunks_exact_mut(3).zip(pixels.iter().rev()) {
                to.copy_from_slice(from);
            }
        }
    }
    Ok(bytes)
}

/// Frames of one drive, as they are rendered.
fn drive(run: &FamiliarityRun, region: Region, index: u32) -> Result<Vec<RgbImage>> {
    let world = WorldConfig::of(region);
    let sequence = Sequence::new(&world, run.seed, index)?;
    let mut scratch = Scratch::new(world.width_px, world.height_px);
    let count = run.frames.frames_per_drive;
    let mut frames = Vec::with_capacity(count as usize);
    for k in 0..count {
        let mut rgb = Vec::new();
        sequence.render(k * world.frames / count, &mut scratch, &mut rgb);
        let frame = RgbImage::from_raw(world.width_px, world.height_px, rgb);
        frames.push(frame.context("a rendered frame of another size")?);
    }
    Ok(frames)
}

/// The first drive of those that are held out.
fn first_held_out(run: &FamiliarityRun) -> u32 {
    let kept = f64::from(run.frames.drives) * (1.0 - run.frames.held_out);
    (kept as u32).min(run.frames.drives.saturating_sub(1))
}

/// Crops of one frame: itself, and where it is learned from its variants.
fn crops(
    run: &FamiliarityRun,
    frame: &FrameView<'_>,
    held_out: bool,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Vec<u8>>> {
    let mut scratch = CropScratch::default();
    let size = run.size();
    let mut found = vec![cropped(frame, &middle(frame, size), size, &mut scratch)?];
    let variants = if held_out {
        1.min(run.frames.variants)
    } else {
        run.frames.variants
    };
    for _ in 0..variants {
        found.push(variant(frame, size, &mut scratch, rng)?);
    }
    Ok(found)
}

/// Part by part, in an order that does not depend on threads.
#[derive(Default)]
struct Parts {
    bytes: [Vec<u8>; 2],
    labels: [Vec<u32>; 2],
}

impl Parts {
    fn add(&mut self, held_out: bool, source: u32, crops: Vec<Vec<u8>>) {
        let part = usize::from(held_out);
        for crop in crops {
            self.bytes[part].extend(crop);
            self.labels[part].push(source);
        }
    }
}

/// Renders drives, reads packs, and crops all of it. `progress` hears of every drive and picture.
///
/// # Errors
/// A pack that cannot be read, or holds no picture.
pub fn gather(run: &FamiliarityRun, progress: &(impl Fn() + Sync)) -> Result<Frames> {
    let mut parts = Parts::default();
    let mut names = Vec::new();
    let first_held_out = first_held_out(run);
    for region in &run.frames.regions {
        let source = names.len() as u32;
        names.push(format!("rendered {}", region.name()));
        let drives: Vec<Vec<Vec<u8>>> = (0..run.frames.drives)
            .into_par_iter()
            .map(|index| {
                let held_out = index >= first_held_out;
                let mut rng = rng_at(run.seed ^ u64::from(source), VARIANTS, index.into());
                let mut found = Vec::new();
                for frame in drive(run, *region, index)? {
                    let view = FrameView::rgb8(frame.width(), frame.height(), frame.as_raw())?;
                    found.extend(crops(run, &view, held_out, &mut rng)?);
                }
                progress();
                Ok(found)
            })
            .collect::<Result<_>>()?;
        for (index, found) in (0u32..).zip(drives) {
            parts.add(index >= first_held_out, source, found);
        }
    }
    for pack in &run.frames.packs {
        let source = names.len() as u32;
        names.push(pack.display().to_string());
        let (pictures, kept) = pack_pictures(run, pack)?;
        let found: Vec<Vec<Vec<u8>>> = pictures
            .par_iter()
            .enumerate()
            .map(|(index, path)| {
                let mut rng = rng_at(run.seed ^ u64::from(source), VARIANTS, index as u64);
                let picture = evaluate::open(path)?;
                let view = evaluate::view(&picture)?;
                let found = crops(run, &view, index >= kept, &mut rng);
                progress();
                found.with_context(|| format!("{}", path.display()))
            })
            .collect::<Result<_>>()?;
        for (index, found) in found.into_iter().enumerate() {
            parts.add(index >= kept, source, found);
        }
    }
    let Parts {
        bytes: [train, test],
        labels: [train_labels, test_labels],
    } = parts;
    let samples = |bytes, labels| {
        Samples::new(run.shape(), Values::Bytes(bytes), labels, names.clone())
            .map_err(|reason| anyhow!("frames: {reason}"))
    };
    Ok(Frames {
        train: samples(train, train_labels)?,
        test: samples(test, test_labels)?,
    })
}

/// Pictures of a pack, and how many of them are learned from. The last ones are held out: neighbours of a video are on one
/// side.
fn pack_pictures(run: &FamiliarityRun, pack: &Path) -> Result<(Vec<PathBuf>, usize)> {
    let folder = run.frames.root.join(pack);
    let pictures = spread(pictures_of(&folder)?, run.frames.pictures);
    let kept = ((pictures.len() as f64) * (1.0 - run.frames.held_out)) as usize;
    Ok((pictures, kept))
}

fn pictures_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let set = PictureSet::open(&[folder.to_owned()])?;
    let pictures: Vec<PathBuf> = set.pictures.into_iter().map(|p| p.path).collect();
    match pictures.is_empty() {
        true => Err(anyhow!("{}: no pictures", folder.display())),
        false => Ok(pictures),
    }
}

/// At most so many, evenly spread.
fn spread(all: Vec<PathBuf>, most: usize) -> Vec<PathBuf> {
    let count = all.len().min(most);
    (0..count)
        .map(|k| all[k * all.len() / count].clone())
        .collect()
}

/// Frames that are held out, of drives and of packs, with each fault: of the same frames as the first list, which has none.
/// Classes are sources, as those of [`Frames`].
pub struct Faulted {
    /// As they are.
    pub normal: Samples,
    /// With each of [`Fault::ALL`].
    pub faults: Vec<Samples>,
}

/// A picture as it is, and with each fault.
fn with_faults(run: &FamiliarityRun, frame: &RgbImage, index: u64) -> Result<Vec<Vec<u8>>> {
    let mut rng = rng_at(run.seed, FAULTS, index);
    let mut grain = rng_at(run.seed, GRAIN, index);
    let mut found = vec![whole(frame, run.size())?];
    for fault in Fault::ALL {
        found.push(whole(
            &fault.apply(frame, run.aspect(), &mut rng, &mut grain),
            run.size(),
        )?);
    }
    Ok(found)
}

/// A frame's middle as the graph takes it.
fn whole(frame: &RgbImage, size: CropSize) -> Result<Vec<u8>> {
    let view = FrameView::rgb8(frame.width(), frame.height(), frame.as_raw())?;
    cropped(
        &view,
        &middle(&view, size),
        size,
        &mut CropScratch::default(),
    )
}

fn opened(path: &Path) -> Result<RgbImage> {
    Ok(evaluate::open(path)?.into_rgb8())
}

/// Spoils held-out frames of drives and of packs.
///
/// # Errors
/// Settings that cannot be rendered, a pack that cannot be read.
pub fn faulted(run: &FamiliarityRun) -> Result<Faulted> {
    let mut names = Vec::new();
    let mut spoiled: Vec<(u32, Vec<Vec<u8>>)> = Vec::new();
    for region in &run.frames.regions {
        let source = names.len() as u32;
        names.push(format!("rendered {}", region.name()));
        let found: Vec<Vec<Vec<Vec<u8>>>> = (first_held_out(run)..run.frames.drives)
            .into_par_iter()
            .map(|drive_index| {
                let frames = drive(run, *region, drive_index)?;
                let first = u64::from(source) << 32 | u64::from(drive_index) << 8;
                let frames = (first..).zip(&frames);
                frames.map(|(at, f)| with_faults(run, f, at)).collect()
            })
            .collect::<Result<_>>()?;
        spoiled.extend(found.into_iter().flatten().map(|kinds| (source, kinds)));
    }
    for pack in &run.frames.packs {
        let source = names.len() as u32;
        names.push(pack.display().to_string());
        let (pictures, kept) = pack_pictures(run, pack)?;
        let first = u64::from(source) << 32;
        let found: Vec<Vec<Vec<u8>>> = pictures[kept..]
            .par_iter()
            .enumerate()
            .map(|(k, path)| with_faults(run, &opened(path)?, first | k as u64))
            .collect::<Result<_>>()?;
        spoiled.extend(found.into_iter().map(|kinds| (source, kinds)));
    }
    let mut lists = Vec::new();
    for kind in 0..=Fault::ALL.len() {
        let of_kind = spoiled.iter().flat_map(|(_, kinds)| &kinds[kind]);
        let bytes = Values::Bytes(of_kind.copied().collect());
        let labels = spoiled.iter().map(|(source, _)| *source).collect();
        let samples = Samples::new(run.shape(), bytes, labels, names.clone());
        lists.push(samples.map_err(|reason| anyhow!("frames: {reason}"))?);
    }
    let faults = lists.split_off(1);
    let normal = lists.pop().context("no frames to spoil")?;
    Ok(Faulted { normal, faults })
}

fn plain(shape: Shape, bytes: Vec<u8>) -> Result<Samples> {
    let count = bytes.len() / shape.len();
    Samples::new(shape, Values::Bytes(bytes), vec![0; count], vec![])
        .map_err(|reason| anyhow!("frames: {reason}"))
}

/// Pictures of a clip with a fault that is there from the first to the last of them: the same fault, and other grain in each.
///
/// # Errors
/// A picture that cannot be read.
pub fn held(
    run: &FamiliarityRun,
    fault: Fault,
    paths: &[&PathBuf],
    clip_index: u64,
) -> Result<Samples> {
    let crops: Vec<Vec<u8>> = paths
        .par_iter()
        .enumerate()
        .map(|(k, path)| {
            let mut rng = rng_at(run.seed, HELD, clip_index);
            let mut grain = rng_at(run.seed, GRAIN, HELD << 32 | clip_index << 16 | k as u64);
            whole(
                &fault.apply(&opened(path)?, run.aspect(), &mut rng, &mut grain),
                run.size(),
            )
        })
        .collect::<Result<_>>()?;
    plain(run.shape(), crops.concat())
}

/// A clip that nothing is learned from.
pub struct WatchedClip {
    /// Its folder's.
    pub name: String,
    /// In order.
    pub pictures: Vec<PathBuf>,
    /// Time between two of them: what `seqinfo.ini` says, or a thirtieth of a second.
    pub micros_per_picture: u64,
}

/// Clips below a folder, by name.
///
/// # Errors
/// A folder that cannot be read, or holds no clip.
pub fn clips(folder: &Path) -> Result<Vec<WatchedClip>> {
    let mut found = Vec::new();
    for clip in folders(folder)? {
        let images = clip.folder.join("img");
        if images.is_dir() {
            let fps = otb::frame_rate(&clip.folder.join("seqinfo.ini"))?;
            found.push(WatchedClip {
                name: clip.name,
                pictures: list_images(&images)?,
                micros_per_picture: (1e6 / fps).max(1.0) as u64,
            });
        }
    }
    match found.is_empty() {
        true => Err(anyhow!("{}: no clips: expected NAME/img", folder.display())),
        false => Ok(found),
    }
}

/// Pictures of a clip as the graph takes them.
///
/// # Errors
/// A picture that cannot be read.
pub fn crops_of(paths: &[PathBuf], size: CropSize, shape: Shape) -> Result<Samples> {
    let crops: Vec<Vec<u8>> = paths
        .par_iter()
        .map(|path| {
            let picture = evaluate::open(path)?;
            let view = evaluate::view(&picture)?;
            cropped(
                &view,
                &middle(&view, size),
                size,
                &mut CropScratch::default(),
            )
        })
        .collect::<Result<_>>()?;
    plain(shape, crops.concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SystemConfig;

    #[test]
    fn frames_repeat_whatever_the_threads_and_held_out_drives_are_others() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..8u8 {
            let picture = RgbImage::from_fn(90, 60, |x, y| Rgb3(i, x, y).into());
            std::fs::create_dir_all(folder.path().join("p")).unwrap();
            picture
                .save(folder.path().join(format!("p/{i}.png")))
                .unwrap();
        }
        struct Rgb3(u8, u32, u32);
        impl From<Rgb3> for image::Rgb<u8> {
            fn from(Rgb3(i, x, y): Rgb3) -> Self {
                image::Rgb([i * 30, (x * 2) as u8, (y * 4) as u8])
            }
        }
        let text = format!(
            "width_px = 32\nheight_px = 16\n[frames]\nroot = {:?}\npacks = [\"p\"]\nregions = [\"us\"]\ndrives = 4\nframes_per_drive = 2\nheld_out = 0.5\nvariants = 1\n",
            folder.path()
        );
        let run = FamiliarityRun::parse(&text).unwrap();
        let of = |run: &FamiliarityRun| {
            let frames = gather(run, &|| ()).unwrap();
            (frames.train, frames.test)
        };
        let (train, test) = of(&run);
        // Two drives of two frames and four pictures, each with a variant, on either side.
        assert_eq!((train.len(), test.len()), (16, 16));
        assert_eq!(
            (train.class_name(0), train.class_name(1)),
            ("rendered us", "p")
        );
        assert_eq!(train.labels().iter().filter(|l| **l == 1).count(), 8);
        assert_eq!((train.clone(), test.clone()), of(&run));
        let shown: Vec<Vec<f32>> = (0..16).map(|i| train.row(i)).collect();
        assert!((0..16).all(|i| !shown.contains(&test.row(i))));
        let spoiled = faulted(&run).unwrap();
        // Two drives of two frames and four pictures: those that are held out, without variants.
        assert_eq!(
            (spoiled.normal.len(), spoiled.faults.len()),
            (8, Fault::ALL.len())
        );
        assert_eq!(spoiled.normal.labels(), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(spoiled.normal.row(0), test.row(0));
        assert_eq!(spoiled.normal.row(4), test.row(8));
        for faulted in &spoiled.faults {
            assert_eq!(faulted.labels(), spoiled.normal.labels());
            assert!((0..8).all(|i| faulted.row(i) != spoiled.normal.row(i)));
        }
        let path = folder.path().join("p/0.png");
        let of = |clip| held(&run, Fault::Covered, &[&path, &path], clip).unwrap();
        let (one, two) = (of(0), of(1));
        let light = |row: Vec<f32>| row.iter().sum::<f32>() / row.len() as f32;
        let lights = [one.row(0), one.row(1), two.row(0)].map(light);
        assert!(one.row(0) != one.row(1), "the grain is another");
        assert!((lights[0] - lights[1]).abs() < 0.01, "{lights:?}");
        assert!((lights[0] - lights[2]).abs() > 0.01, "{lights:?}");
        for (name, info) in [("a", Some("[Sequence]\nframeRate=10\n")), ("b", None)] {
            let clip = folder.path().join("clips").join(name);
            std::fs::create_dir_all(clip.join("img")).unwrap();
            std::fs::copy(&path, clip.join("img/1.png")).unwrap();
            if let Some(info) = info {
                std::fs::write(clip.join("seqinfo.ini"), info).unwrap();
            }
        }
        let found = clips(&folder.path().join("clips")).unwrap();
        let rates: Vec<u64> = found.iter().map(|clip| clip.micros_per_picture).collect();
        assert_eq!(rates, [100_000, 33_333]);
        let none = FamiliarityRun {
            frames: crate::familiarity::config::FramesConfig {
                packs: vec!["nothing".into()],
                ..run.frames.clone()
            },
            ..run
        };
        assert!(
            gather(&none, &|| ())
                .err()
                .unwrap()
                .to_string()
                .contains("nothing")
        );
    }
}
