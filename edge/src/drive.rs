//! A rendered drive with somebody to follow through it: what `demo` and `bench` play.
//!
//! Enters: a [`DriveConfig`] (size, length, seed). Leaves: frames as tight RGB bytes and, for each, the [`Truth`] about the
//! target. A frame depends on nothing but the configuration and its number. The world is [`roadhound_shared::world`],
//! the one that training renders; its scene with an occlusion hides the target completely for about two seconds.
//!
//! ```
//! use roadhound_edge::drive::{Drive, DriveConfig};
//! let mut drive = Drive::new(DriveConfig { width_px: 320, height_px: 180, ..DriveConfig::default() })?;
//! let mut rgb = Vec::new();
//! let truth = drive.render(0, &mut rgb);
//! assert_eq!(rgb.len(), 320 * 180 * 3);
//! assert!(truth.box_in_image.is_some());
//! # Ok::<(), roadhound_shared::world::WorldConfigError>(())
//! ```

use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::world::{
    Class, Region, Scenario, Scratch, Sequence, WorldConfig, WorldConfigError,
};

/// Size, length and seed of a drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriveConfig {
    /// Where.
    pub region: Region,
    /// Picture width.
    pub width_px: u32,
    /// Picture height.
    pub height_px: u32,
    /// Number of frames.
    pub frames: u32,
    /// Frames per second.
    pub fps: f32,
    /// Decides everything else.
    pub seed: u64,
}

impl Default for DriveConfig {
    fn default() -> Self {
        Self {
            region: Region::Us,
            width_px: 640,
            height_px: 360,
            frames: 300,
            fps: 30.0,
            seed: 7,
        }
    }
}

/// What is true about the target in one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// The whole target, hidden parts included, cut at the borders of the picture; `None` while nobody could point at it.
    pub box_in_image: Option<BoxXywh>,
    /// Time of the frame.
    pub captured_at: Timestamp,
}

/// A drive that is rendered frame by frame.
pub struct Drive {
    config: DriveConfig,
    sequence: Sequence,
    target: u32,
    class: Class,
    scratch: Scratch,
}

impl Drive {
    /// Sets the scene.
    ///
    /// # Errors
    /// A size, length or rate that cannot be rendered.
    pub fn new(config: DriveConfig) -> Result<Self, WorldConfigError> {
        let world = WorldConfig {
            width_px: config.width_px,
            height_px: config.height_px,
            frames: config.frames,
            fps: config.fps,
            scenario: Scenario::Occlusion,
            ..WorldConfig::of(config.region)
        };
        let sequence = Sequence::new(&world, config.seed, 0)?;
        // A scene with an occlusion is about somebody; were it not, nobody would be found and the target be absent.
        let target = sequence.target().unwrap_or(u32::MAX);
        let class = sequence.class_of(target).unwrap_or(Class::Car);
        Ok(Self {
            config,
            sequence,
            target,
            class,
            scratch: Scratch::new(config.width_px, config.height_px),
        })
    }

    /// What the drive was made from.
    pub fn config(&self) -> &DriveConfig {
        &self.config
    }

    /// What is followed.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Draws a frame into `out_rgb`.
    pub fn render(&mut self, index: u32, out_rgb: &mut Vec<u8>) -> Truth {
        let objects = self.sequence.render(index, &mut self.scratch, out_rgb);
        let target = objects
            .iter()
            .find(|o| o.instance == self.target && !o.absent);
        Truth {
            box_in_image: target.map(|o| o.full_box),
            captured_at: Timestamp(
                (f64::from(index) / f64::from(self.config.fps) * 1e6).round() as u64,
            ),
        }
    }
}
