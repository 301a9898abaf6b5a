//! What is done to crops after they are cut: light, blur, compression, pasted objects, occluders.
//!
//! In goes a [`Crop`] and a plan drawn from a seeded generator; out comes the same crop, changed in place. Drawing and
//! applying are apart, so that one plan can be put on two crops, and every effect can be tested alone. Strength zero
//! changes nothing.
//!
//! ```
//! use roadhound_trainer::augment::{AugmentConfig, AugmentScratch, Crop, LightPlan};
//! use rand::SeedableRng;
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let mut crop = Crop::filled(128, [90, 100, 110]);
//! let plan = LightPlan::draw(&AugmentConfig::default(), 1.0, false, &mut rng);
//! plan.apply(&mut crop, &mut AugmentScratch::default());
//! ```

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use roadhound_shared::preprocess::{CropScratch, CropSize};
use serde::{Deserialize, Serialize};

use crate::data::DataError;

mod composite;
mod jpeg;
mod light;
mod weather;

pub use self::composite::{Fill, blend_cut_out, blend_superellipse, cover};
pub use self::jpeg::jpeg_round_trip;
pub(crate) use self::jpeg::{CHROMA_STEPS, LUMA_STEPS, step_at_quality};
pub use self::light::{
    Shadow, ShadowShape, Tone, gaussian_blur, grey, low_resolution, motion_blur, noise, shadow,
};

pub use self::weather::{Glare, GlareConfig, HazeConfig, NightConfig, RainConfig, Weather};

/// An RGB crop, `height x width x 3`, red first. Most are square: made and asked for by their side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crop {
    width_px: u32,
    height_px: u32,
    pixels: Vec<u8>,
}

impl Crop {
    /// One colour everywhere.
    pub fn filled(side_px: u32, rgb: [u8; 3]) -> Self {
        Self {
            width_px: side_px,
            height_px: side_px,
            pixels: rgb.repeat(side_px as usize * side_px as usize),
        }
    }

    /// Makes this a crop of the given side, contents unspecified, reusing its memory.
    pub fn resize(&mut self, side_px: u32) {
        self.resize_to(CropSize::square(side_px));
    }

    /// Makes this a crop of the given size, contents unspecified, reusing its memory.
    pub fn resize_to(&mut self, size: CropSize) {
        (self.width_px, self.height_px) = (size.width_px, size.height_px);
        self.pixels
            .resize(size.width_px as usize * size.height_px as usize * 3, 0);
    }

    /// The longer side: what effects are sized by.
    pub fn side_px(&self) -> u32 {
        self.width_px.max(self.height_px)
    }

    /// Columns and rows.
    pub fn size(&self) -> CropSize {
        CropSize {
            width_px: self.width_px,
            height_px: self.height_px,
        }
    }

    /// Row-major, channels interleaved.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Row-major, channels interleaved.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Gives the pixels away.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Swaps left and right.
    pub fn mirror(&mut self) {
        let width = self.width_px as usize;
        for row in self.pixels.chunks_exact_mut((width * 3).max(1)) {
            for x in 0..width / 2 {
                let (left, right) = (x * 3, (width - 1 - x) * 3);
                for channel in 0..3 {
                    row.swap(left + channel, right + channel);
                }
            }
        }
    }

    /// Colour of one pixel; coordinates beyond the border give the border.
    pub fn at(&self, x_px: u32, y_px: u32) -> [u8; 3] {
        let x_px = x_px.min(self.width_px.saturating_sub(1));
        let y_px = y_px.min(self.height_px.saturating_sub(1));
        let at = (y_px as usize * self.width_px as usize + x_px as usize) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}

/// Memory the effects reuse from crop to crop. One for each worker.
#[derive(Debug, Default)]
pub struct AugmentScratch {
    bytes: Vec<u8>,
    small: Vec<u8>,
    crop: CropScratch,
}

/// Global tone: each value is drawn evenly from plus or minus its bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToneConfig {
    /// Natural logarithm of the exponent.
    pub log_gamma: f32,
    /// Natural logarithm of the gain about the crop's mean.
    pub log_contrast: f32,
    /// Added, in 8-bit steps, as far as the crop's mean leaves room.
    pub brightness: f32,
    /// Relative change of each channel.
    pub tint: f32,
}

impl Default for ToneConfig {
    fn default() -> Self {
        Self {
            log_gamma: 0.35,
            log_contrast: 0.3,
            brightness: 25.0,
            tint: 0.08,
        }
    }
}

/// The widest Gaussian: five taps make hardly more of a wider one.
const WIDEST_SIGMA_PX: f32 = 1.5;

/// Defocus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianBlurConfig {
    /// Share of the crops.
    pub share: f32,
    /// Standard deviation of the Gaussian, from and to; at most 1.5, of which five taps leave 1.2.
    pub sigma_px: [f32; 2],
}

impl Default for GaussianBlurConfig {
    fn default() -> Self {
        Self {
            share: 0.12,
            sigma_px: [0.5, 1.3],
        }
    }
}

/// A straight smear in any direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MotionBlurConfig {
    /// Share of the crops.
    pub share: f32,
    /// Length of the smear, from and to; at most 15.
    pub length_px: [u32; 2],
}

impl Default for MotionBlurConfig {
    fn default() -> Self {
        Self {
            share: 0.10,
            length_px: [4, 9],
        }
    }
}

/// Down and up again: what a distant object looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LowResolutionConfig {
    /// Share of the crops.
    pub share: f32,
    /// Remaining resolution, from and to.
    pub factor: [f32; 2],
}

impl Default for LowResolutionConfig {
    fn default() -> Self {
        Self {
            share: 0.12,
            factor: [0.25, 0.7],
        }
    }
}

/// Block and ringing artefacts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JpegConfig {
    /// Share of the crops.
    pub share: f32,
    /// Quality on the usual scale of 1 to 100, from and to.
    pub quality: [u32; 2],
}

impl Default for JpegConfig {
    fn default() -> Self {
        Self {
            share: 0.25,
            quality: [25, 85],
        }
    }
}

/// Even noise on every sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseConfig {
    /// Share of the crops.
    pub share: f32,
    /// Largest change, in 8-bit steps; the amplitude is drawn from 1 to this.
    pub amplitude: u32,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            share: 0.10,
            amplitude: 14,
        }
    }
}

/// Sudden light and shade: bridges, trees, tunnels. The rehearsal lost a car that darkened under a bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowConfig {
    /// Share of the crops.
    pub share: f32,
    /// Natural logarithm of the gain inside, darkest and brightest.
    pub log_gain: [f32; 2],
    /// Width of the penumbra, from and to.
    pub soft_px: [f32; 2],
    /// Of the shadows, how many are bands.
    pub band_share: f32,
    /// Of the shadows, how many cover the whole crop.
    pub whole_share: f32,
}

impl Default for ShadowConfig {
    fn default() -> Self {
        Self {
            share: 0.18,
            log_gain: [-1.2, 0.6],
            soft_px: [2.0, 40.0],
            band_share: 0.35,
            whole_share: 0.3,
        }
    }
}

/// The target cut out softly and put before another background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasteConfig {
    /// Share of the pairs that show their target.
    pub share: f32,
    /// Of the pasted, how many get another object on the new background.
    pub with_distractor_share: f32,
}

impl Default for PasteConfig {
    fn default() -> Self {
        Self {
            share: 0.30,
            with_distractor_share: 0.5,
        }
    }
}

/// Another object pasted beside the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistractorConfig {
    /// Share of the pairs that show their target on its own background.
    pub share: f32,
    /// Size of the distractor (root of its area) in search-crop pixels, from and to.
    pub size_px: [f32; 2],
}

impl Default for DistractorConfig {
    fn default() -> Self {
        Self {
            share: 0.20,
            size_px: [36.0, 84.0],
        }
    }
}

/// Something in front of the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OccluderConfig {
    /// Share of the pairs that show their target.
    pub share: f32,
    /// Of those, how many are hidden by another object, cut out; the others by a rectangle.
    pub object_share: f32,
    /// Share of the box that is hidden, from and to: the target still counts as present.
    pub cover: [f32; 2],
    /// Share of the pairs whose target is hidden until it counts as absent.
    pub absent_share: f32,
    /// Share of the box that is then hidden, from and to.
    pub absent_cover: [f32; 2],
}

impl Default for OccluderConfig {
    fn default() -> Self {
        Self {
            share: 0.12,
            object_share: 0.4,
            cover: [0.1, 0.4],
            absent_share: 0.02,
            absent_cover: [0.88, 1.0],
        }
    }
}

/// Rectangles of the search crop and of the template that are wiped out, wherever they fall (DeVries & Taylor 2017):
/// no single part of an object may decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CutOutConfig {
    /// Share of the pairs whose search crop loses pieces, and of those whose template does.
    pub share: f32,
    /// Pieces, from and to.
    pub pieces: [u32; 2],
    /// Sides of a piece as a share of the object's, from and to.
    pub side: [f32; 2],
}

impl Default for CutOutConfig {
    fn default() -> Self {
        Self {
            share: 0.08,
            pieces: [1, 3],
            side: [0.15, 0.5],
        }
    }
}

/// Everything that happens to crops. Defaults are the rehearsed recipe, with stronger light after its first failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Share of the pairs without colour, all crops alike.
    pub grey_share: f32,
    /// Tone and shadow of the template, relative to the search crop's.
    pub template_strength: f32,
    /// Share of the latest templates that are lit and degraded as the search crop is.
    pub latest_like_search_share: f32,
    /// Global tone.
    pub tone: ToneConfig,
    /// Defocus; excludes the other two losses of detail.
    pub gaussian_blur: GaussianBlurConfig,
    /// Smear; excludes the other two losses of detail.
    pub motion_blur: MotionBlurConfig,
    /// Distance; excludes the other two losses of detail.
    pub low_resolution: LowResolutionConfig,
    /// Compression.
    pub jpeg: JpegConfig,
    /// Noise.
    pub noise: NoiseConfig,
    /// Light and shade.
    pub shadow: ShadowConfig,
    /// Glare in a crop.
    pub glare: GlareConfig,
    /// Night in all crops of a pair; excludes haze and rain.
    pub night: NightConfig,
    /// Haze in all crops of a pair; excludes night and rain.
    pub haze: HazeConfig,
    /// Rain in all crops of a pair; excludes night and haze.
    pub rain: RainConfig,
    /// Pieces wiped out.
    pub cut_out: CutOutConfig,
    /// Pasted things are cut out along the pack's masks, where it has any.
    pub use_masks: bool,
    /// Targets on other backgrounds.
    pub paste: PasteConfig,
    /// Other objects beside the target.
    pub distractor: DistractorConfig,
    /// Things in front of the target.
    pub occluder: OccluderConfig,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            grey_share: 0.15,
            template_strength: 0.7,
            latest_like_search_share: 0.5,
            tone: ToneConfig::default(),
            gaussian_blur: GaussianBlurConfig::default(),
            motion_blur: MotionBlurConfig::default(),
            low_resolution: LowResolutionConfig::default(),
            jpeg: JpegConfig::default(),
            noise: NoiseConfig::default(),
            shadow: ShadowConfig::default(),
            glare: GlareConfig::default(),
            night: NightConfig::default(),
            haze: HazeConfig::default(),
            rain: RainConfig::default(),
            cut_out: CutOutConfig::default(),
            use_masks: true,
            paste: PasteConfig::default(),
            distractor: DistractorConfig::default(),
            occluder: OccluderConfig::default(),
        }
    }
}

impl AugmentConfig {
    /// Crops as they are cut: nothing pasted, nothing changed.
    pub fn none() -> Self {
        let mut config = Self {
            grey_share: 0.0,
            latest_like_search_share: 0.0,
            ..Self::default()
        };
        config.tone = ToneConfig {
            log_gamma: 0.0,
            log_contrast: 0.0,
            brightness: 0.0,
            tint: 0.0,
        };
        for share in [
            &mut config.gaussian_blur.share,
            &mut config.motion_blur.share,
            &mut config.low_resolution.share,
            &mut config.jpeg.share,
            &mut config.noise.share,
            &mut config.shadow.share,
            &mut config.glare.share,
            &mut config.night.share,
            &mut config.haze.share,
            &mut config.rain.share,
            &mut config.cut_out.share,
            &mut config.paste.share,
            &mut config.distractor.share,
            &mut config.occluder.share,
            &mut config.occluder.absent_share,
        ] {
            *share = 0.0;
        }
        config
    }

    /// Checks what the types cannot: shares, and ranges that run upwards within what the effects can do.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first field that cannot be used.
    pub fn validate(&self) -> Result<(), DataError> {
        for (field, share) in [
            ("augment.grey_share", self.grey_share),
            (
                "augment.latest_like_search_share",
                self.latest_like_search_share,
            ),
            ("augment.gaussian_blur.share", self.gaussian_blur.share),
            ("augment.motion_blur.share", self.motion_blur.share),
            ("augment.low_resolution.share", self.low_resolution.share),
            (
                "augment.gaussian_blur.share + motion_blur.share + low_resolution.share",
                self.gaussian_blur.share + self.motion_blur.share + self.low_resolution.share,
            ),
            ("augment.jpeg.share", self.jpeg.share),
            ("augment.noise.share", self.noise.share),
            ("augment.shadow.share", self.shadow.share),
            ("augment.glare.share", self.glare.share),
            ("augment.night.share", self.night.share),
            ("augment.haze.share", self.haze.share),
            ("augment.rain.share", self.rain.share),
            (
                "augment.night.share + haze.share + rain.share",
                self.night.share + self.haze.share + self.rain.share,
            ),
            ("augment.cut_out.share", self.cut_out.share),
            ("augment.shadow.band_share", self.shadow.band_share),
            ("augment.shadow.whole_share", self.shadow.whole_share),
            ("augment.paste.share", self.paste.share),
            (
                "augment.paste.with_distractor_share",
                self.paste.with_distractor_share,
            ),
            ("augment.distractor.share", self.distractor.share),
            ("augment.occluder.share", self.occluder.share),
            ("augment.occluder.object_share", self.occluder.object_share),
            ("augment.occluder.absent_share", self.occluder.absent_share),
        ] {
            check_range(field, [share, share], [0.0, 1.0])?;
        }
        let tone = &self.tone;
        for (field, bound, most) in [
            ("augment.template_strength", self.template_strength, 10.0),
            ("augment.tone.log_gamma", tone.log_gamma, 3.0),
            ("augment.tone.log_contrast", tone.log_contrast, 3.0),
            ("augment.tone.brightness", tone.brightness, 255.0),
            ("augment.tone.tint", tone.tint, 1.0),
        ] {
            check_range(field, [0.0, bound], [0.0, most])?;
        }
        let [shortest, longest] = self.motion_blur.length_px;
        let [worst, best] = self.jpeg.quality;
        check_range(
            "augment.gaussian_blur.sigma_px",
            self.gaussian_blur.sigma_px,
            [0.0, WIDEST_SIGMA_PX],
        )?;
        check_range(
            "augment.motion_blur.length_px",
            [shortest as f32, longest as f32],
            [1.0, 15.0],
        )?;
        check_range(
            "augment.low_resolution.factor",
            self.low_resolution.factor,
            [0.05, 1.0],
        )?;
        check_range(
            "augment.jpeg.quality",
            [worst as f32, best as f32],
            [1.0, 100.0],
        )?;
        check_range(
            "augment.noise.amplitude",
            [1.0, self.noise.amplitude as f32],
            [1.0, 100.0],
        )?;
        let counts = |[from, to]: [u32; 2]| [from as f32, to as f32];
        for (field, range, limits) in [
            ("augment.glare.strength", self.glare.strength, [0.0, 500.0]),
            ("augment.night.gain", self.night.gain, [0.02, 1.0]),
            ("augment.night.lamps", counts(self.night.lamps), [0.0, 50.0]),
            (
                "augment.haze.transmission",
                self.haze.transmission,
                [0.05, 1.0],
            ),
            (
                "augment.rain.streaks",
                counts(self.rain.streaks),
                [0.0, 2000.0],
            ),
            ("augment.rain.drops", counts(self.rain.drops), [0.0, 50.0]),
            (
                "augment.cut_out.pieces",
                counts(self.cut_out.pieces),
                [0.0, 20.0],
            ),
            ("augment.cut_out.side", self.cut_out.side, [0.0, 1.0]),
        ] {
            check_range(field, range, limits)?;
        }
        check_range("augment.shadow.log_gain", self.shadow.log_gain, [-4.0, 2.0])?;
        check_range("augment.shadow.soft_px", self.shadow.soft_px, [1.0, 1000.0])?;
        check_range(
            "augment.distractor.size_px",
            self.distractor.size_px,
            [8.0, 160.0],
        )?;
        check_range("augment.occluder.cover", self.occluder.cover, [0.0, 1.0])?;
        check_range(
            "augment.occluder.absent_cover",
            self.occluder.absent_cover,
            [0.0, 1.0],
        )
    }
}

pub(crate) fn check_range(
    field: &'static str,
    [from, to]: [f32; 2],
    within: [f32; 2],
) -> Result<(), DataError> {
    if within[0] <= from && from <= to && to <= within[1] {
        return Ok(());
    }
    let reason = "must run upwards within the field's limits, see its documentation";
    Err(DataError::Config {
        field,
        value: format!("{from}..{to}, limits {}..{}", within[0], within[1]),
        reason,
    })
}

/// True with the given probability.
pub(crate) fn chance(share: f32, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f32>() < share
}

/// Evenly from a range.
pub(crate) fn within([from, to]: [f32; 2], rng: &mut ChaCha8Rng) -> f32 {
    from + (to - from) * rng.random::<f32>()
}

/// Evenly from plus or minus a bound.
pub(crate) fn about_zero(bound: f32, rng: &mut ChaCha8Rng) -> f32 {
    within([-bound, bound], rng)
}

/// Evenly from whole numbers, both ends included.
pub(crate) fn whole_within([from, to]: [u32; 2], rng: &mut ChaCha8Rng) -> u32 {
    rng.random_range(from..=to.max(from))
}

/// The one loss of detail a crop suffers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detail {
    /// None lost.
    Full,
    /// Defocus of this standard deviation.
    Gaussian {
        /// In pixels of the crop.
        sigma_px: f32,
    },
    /// A smear.
    Motion {
        /// In pixels of the crop.
        length_px: u32,
        /// From the horizontal, clockwise.
        angle: f32,
    },
    /// Down and up again.
    Low {
        /// Remaining resolution.
        factor: f32,
    },
}

/// Everything drawn for one crop's light and degradation; the same plan may be applied to several crops.
#[derive(Clone, Debug, PartialEq)]
pub struct LightPlan {
    /// Without colour.
    pub grey: bool,
    /// Global tone.
    pub tone: Tone,
    /// Light or shade on a part.
    pub shadow: Option<Shadow>,
    /// Weather of the pair, and the seed of what it does to this crop.
    pub weather: Option<(Weather, u64)>,
    /// A source of light near or in the crop.
    pub glare: Option<Glare>,
    /// Loss of detail.
    pub detail: Detail,
    /// Amplitude and seed of noise.
    pub noise: Option<(u32, u64)>,
    /// Compression quality.
    pub jpeg_quality: Option<u32>,
}

impl LightPlan {
    /// Draws a plan; `strength` scales tone and shadow.
    pub fn draw(config: &AugmentConfig, strength: f32, grey: bool, rng: &mut ChaCha8Rng) -> Self {
        let tone = Tone::draw(&config.tone, strength, grey, rng);
        let shadow =
            chance(config.shadow.share, rng).then(|| Shadow::draw(&config.shadow, strength, rng));
        let glare = chance(config.glare.share, rng).then(|| Glare::draw(&config.glare, rng));
        let which = rng.random::<f32>();
        let (gaussian, motion, low) = (
            &config.gaussian_blur,
            &config.motion_blur,
            &config.low_resolution,
        );
        let detail = if which < gaussian.share {
            Detail::Gaussian {
                sigma_px: within(gaussian.sigma_px, rng),
            }
        } else if which < gaussian.share + motion.share {
            let angle = match chance(0.5, rng) {
                true => 0.0, // a panning camera smears along the road more often than any other way
                false => within([0.0, core::f32::consts::PI], rng),
            };
            Detail::Motion {
                length_px: whole_within(motion.length_px, rng),
                angle,
            }
        } else if which < gaussian.share + motion.share + low.share {
            Detail::Low {
                factor: within(low.factor, rng),
            }
        } else {
            Detail::Full
        };
        let noise = chance(config.noise.share, rng)
            .then(|| (whole_within([1, config.noise.amplitude], rng), rng.random()));
        let jpeg_quality =
            chance(config.jpeg.share, rng).then(|| whole_within(config.jpeg.quality, rng));
        Self {
            grey,
            tone,
            shadow,
            weather: None,
            glare,
            detail,
            noise,
            jpeg_quality,
        }
    }

    /// The same on a day of the given weather.
    #[must_use]
    pub fn on(mut self, weather: Option<Weather>, rng: &mut ChaCha8Rng) -> Self {
        self.weather = weather.map(|weather| (weather, rng.random()));
        self
    }

    /// Puts the plan on a crop: first the scene's light, then the lens, the sensor and the codec.
    pub fn apply(&self, crop: &mut Crop, scratch: &mut AugmentScratch) {
        // Shade after tone: more contrast on a shaded crop would crush it to black, and nobody could find anything there.
        self.tone.apply(crop);
        if let Some(plan) = &self.shadow {
            shadow(crop, plan);
        }
        if let Some((weather, seed)) = &self.weather {
            weather.apply(crop, *seed);
        }
        if let Some(glare) = &self.glare {
            glare.apply(crop);
        }
        if self.grey {
            grey(crop);
        }
        match self.detail {
            Detail::Full => {}
            Detail::Gaussian { sigma_px } => gaussian_blur(crop, sigma_px, scratch),
            Detail::Motion { length_px, angle } => motion_blur(crop, length_px, angle, scratch),
            Detail::Low { factor } => low_resolution(crop, factor, scratch),
        }
        if let Some((amplitude, seed)) = self.noise {
            noise(crop, amplitude, self.grey, seed, scratch);
        }
        if let Some(quality) = self.jpeg_quality {
            jpeg_round_trip(crop, quality);
        }
    }
}

#[cfg(test)]
pub(crate) fn textured(side_px: u32) -> Crop {
    let mut crop = Crop::default();
    crop.resize(side_px);
    for (i, pixel) in crop.pixels_mut().chunks_exact_mut(3).enumerate() {
        let (x, y) = (i as u32 % side_px, i as u32 / side_px);
        let wave =
            |a: f32, b: f32| (127.5 + 90.0 * (x as f32 * a).sin() * (y as f32 * b).cos()) as u8;
        pixel.copy_from_slice(&[
            wave(0.11, 0.07),
            wave(0.05, 0.13),
            (x / 16 * 16 + y / 32) as u8,
        ]);
    }
    crop
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn no_augmentation_leaves_every_pixel_alone() {
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let plan = LightPlan::draw(&AugmentConfig::none(), 1.0, false, &mut rng);
            let mut crop = textured(64);
            plan.apply(&mut crop, &mut AugmentScratch::default());
            assert_eq!(crop, textured(64));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_crop_whatever_the_scratch_held() {
        let mut warm = AugmentScratch::default();
        for seed in 0..60 {
            let draw = || {
                LightPlan::draw(
                    &AugmentConfig::default(),
                    1.0,
                    false,
                    &mut ChaCha8Rng::seed_from_u64(seed),
                )
            };
            let (mut first, mut second) = (textured(64), textured(64));
            draw().apply(&mut first, &mut warm);
            draw().apply(&mut second, &mut AugmentScratch::default());
            assert_eq!(first, second, "seed {seed}");
        }
    }

    #[test]
    fn shares_are_met() {
        let config = AugmentConfig::default();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let plans: Vec<_> = (0..4000)
            .map(|_| LightPlan::draw(&config, 1.0, false, &mut rng))
            .collect();
        let share = |pick: &dyn Fn(&LightPlan) -> bool| {
            plans.iter().filter(|p| pick(p)).count() as f32 / 4000.0
        };
        for (found, wanted) in [
            (share(&|p| p.jpeg_quality.is_some()), config.jpeg.share),
            (share(&|p| p.noise.is_some()), config.noise.share),
            (share(&|p| p.shadow.is_some()), config.shadow.share),
            (share(&|p| p.glare.is_some()), config.glare.share),
            (
                share(&|p| matches!(p.detail, Detail::Gaussian { .. })),
                config.gaussian_blur.share,
            ),
            (
                share(&|p| matches!(p.detail, Detail::Motion { .. })),
                config.motion_blur.share,
            ),
            (
                share(&|p| matches!(p.detail, Detail::Low { .. })),
                config.low_resolution.share,
            ),
        ] {
            // Four standard deviations of a share of 0.25 over 4000 draws.
            assert!(
                (found - wanted).abs() < 0.028,
                "{found} instead of {wanted}"
            );
        }
    }

    #[test]
    fn configuration_round_trips_and_refuses_unknown_fields() {
        let config = AugmentConfig::default();
        assert_eq!(
            toml::from_str::<AugmentConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config
        );
        assert!(toml::from_str::<AugmentConfig>("[jpeg]\nqualty = [1, 2]").is_err());
        config.validate().unwrap();
        AugmentConfig::none().validate().unwrap();
    }

    #[test]
    fn ranges_that_cannot_be_drawn_from_are_refused() {
        let mut config = AugmentConfig::default();
        config.jpeg.quality = [80, 20];
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("augment.jpeg.quality is 80..20")
        );
        let mut config = AugmentConfig::default();
        config.noise.share = f32::NAN;
        assert!(config.validate().is_err());
        let mut config = AugmentConfig::default();
        config.gaussian_blur.sigma_px = [0.5, 2.5];
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("sigma_px is 0.5..2.5, limits 0..1.5"),
            "{error}"
        );
    }

    #[test]
    fn losses_of_detail_that_exclude_each_other_cannot_be_more_than_all() {
        let mut config = AugmentConfig::default();
        config.gaussian_blur.share = 0.5;
        config.motion_blur.share = 0.4;
        config.low_resolution.share = 0.2;
        let error = config.validate().unwrap_err().to_string();
        let field = "augment.gaussian_blur.share + motion_blur.share + low_resolution.share";
        assert!(error.contains(field), "{error}");
    }
}
