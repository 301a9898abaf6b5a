//! A procedural dashcam world with exact annotation: the data where there is no other.
//!
//! Enters: a [`WorldConfig`] (size, region, weather), a seed and a sequence's number. Leaves: frames as tight RGB bytes
//! and, for each, the [`ObjectTruth`] of everybody on it. Pure: no files, no clock, no threads. A frame is a function of
//! the configuration, the seed, the sequence and the frame's number, whatever was rendered before.
//!
//! ```
//! use roadhound_shared::world::{Region, Scratch, Sequence, WorldConfig};
//! let config = WorldConfig { width_px: 160, height_px: 96, frames: 4, ..WorldConfig::of(Region::India) };
//! let sequence = Sequence::new(&config, 7, 0)?;
//! let mut scratch = Scratch::new(160, 96);
//! let mut rgb = Vec::new();
//! let objects = sequence.render(2, &mut scratch, &mut rgb);
//! assert_eq!(rgb.len(), 160 * 96 * 3);
//! assert!(objects.iter().all(|o| o.visible_share <= 1.0 && o.full_box.w_px > 0.0));
//! # Ok::<(), roadhound_shared::world::WorldConfigError>(())
//! ```
//!
//! How it is made: [`config`](self::WorldConfig) -> `road`, `light` (drawn once a sequence) -> `traffic` (simulated once,
//! looked up by frame) -> `models` and `scenery` (triangles and painted textures) -> `raster` (who is in front at four
//! samples a pixel) -> `frame` (shading of what is seen, truth) -> `lens` (blur, windscreen, sensor).

use alloc::vec::Vec;

use crate::geometry::BoxXywh;

mod camera;
mod config;
mod drops;
mod edges;
mod frame;
mod ground;
mod lanes;
mod lens;
mod light;
mod math;
mod mesh;
mod models;
mod random;
mod raster;
mod road;
mod scenery;
mod skins;
mod stage;
mod texture;
mod traffic;

pub use config::{
    ConditionShares, Region, RegionConfig, Scenario, TruthConfig, VehicleMix, WorldConfig,
    WorldConfigError,
};
pub use frame::Scratch;
pub use models::Class;

use frame::Tables;
use ground::Ground;
use light::{Light, Look};
use math::Rgb;
use mesh::{BodyCovers, Cover, Mesh, Station};
use models::{Common, Model, Workshop};
use random::{Dice, Noise, hash};
use road::Road;
use scenery::Scenery;
use texture::{Kind, Texture};
use traffic::{Agent, Role, Simulation};

/// What is true about one road user in one frame. Boxes are pixels of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObjectTruth {
    /// Identity within the sequence.
    pub instance: u32,
    /// What it is.
    pub class: Class,
    /// All of it, hidden parts included, cut at the image's borders.
    pub full_box: BoxXywh,
    /// The part that is seen; `None` where nothing is.
    pub visible_box: Option<BoxXywh>,
    /// Seen share of its samples on the image, 0 to 1.
    pub visible_share: f32,
    /// The full box touches a border of the image.
    pub cut: bool,
    /// Too small to be judged.
    pub ignore: bool,
    /// A good part is hidden.
    pub occluded: bool,
    /// As good as nothing is seen.
    pub absent: bool,
}

/// One drive, ready to be rendered frame by frame. Shared between threads without locks.
pub struct Sequence {
    config: WorldConfig,
    seed: u64,
    road: Road,
    ground: Ground,
    light: Light,
    look: Look,
    noise: Noise,
    textures: Vec<Texture>,
    common: Common,
    agents: Vec<Agent>,
    /// By agent; `None` for the camera and for those who are never seen.
    models: Vec<Option<Model>>,
    scenery: Scenery,
    tables: Tables,
    tone: Vec<f32>,
    exposures: Vec<f32>,
    bonnet: Mesh,
    lamp_colour: Rgb,
    far_tall: f32,
    far_colour: Rgb,
    far_ridge: Vec<(f32, bool)>,
    cloud_shift: f32,
    screen_width: usize,
    screen_dirt: Vec<f32>,
    screen_mirror: Vec<f32>,
}

impl Sequence {
    /// Makes a drive: road, weather, everybody on it. Takes some tens of milliseconds.
    ///
    /// # Errors
    /// A configuration that is out of range.
    pub fn new(config: &WorldConfig, seed: u64, index: u32) -> Result<Self, WorldConfigError> {
        config.validate()?;
        let region = config.region as u64;
        let seed = hash(seed ^ hash(u64::from(index) << 8 | region));
        let light = Light::new(config, seed);
        let mut look = Look::new(config, &light, seed);
        if config.scenario == Scenario::Occlusion {
            // The stage is built for a camera that looks straight ahead.
            look.yaw = 0.0;
            look.focal_share = look.focal_share.max(0.8);
        }
        let duration_s = config.frames as f32 / config.fps;
        let reach_m = duration_s * config.place.speed_m_s[1] * 1.3 + 420.0;
        let mut road = Road::new(config, seed, reach_m);
        if config.scenario == Scenario::Occlusion {
            road.bridges.clear();
        }
        let mut dice = Dice::new(seed, 0x776f_726c);
        let noise = Noise::new(seed);
        let mut textures = Vec::new();
        let common = Common::new(&noise, seed, &mut textures);
        let speed = road.speed_m_s * dice.range(0.6, 1.1);
        let agents = Simulation::new(config, &road, seed).run(speed);
        let travelled_m = agents[0].states.last().map_or(0.0, |s| s.s);
        let mut scenery = Scenery::new(
            config,
            &road,
            &noise,
            common,
            &mut textures,
            seed,
            light.dust,
            travelled_m.max(0.0) + 260.0,
        );
        if config.scenario == Scenario::Occlusion
            && stage::Act::of(seed) == stage::Act::BehindScreen
        {
            let camera = agents[0].states[0];
            // Whoever comes out from behind the screen is not to walk behind a wall.
            scenery.clear(camera.s + stage::CLEAR_M[0], camera.s + stage::CLEAR_M[1]);
            let (mesh, mut prop) = scenery::screen(
                &road,
                camera.s,
                camera.d,
                stage::screen_aside_m(seed),
                &mut dice,
                common,
                &mut textures,
                &noise,
            );
            scenery.meshes.push(mesh);
            prop.mesh = scenery.meshes.len() as u32 - 1;
            let at = scenery.props.partition_point(|p| p.s < prop.s);
            scenery.props.insert(at, prop);
        }
        let mut workshop = Workshop {
            place: &config.place,
            noise: &noise,
            common,
            textures: &mut textures,
            dust: light.dust,
        };
        let models = agents
            .iter()
            .map(|agent| {
                let near = agent
                    .states
                    .iter()
                    .zip(&agents[0].states)
                    .any(|(a, camera)| a.here && a.s > camera.s - 15.0 && a.s < camera.s + 240.0);
                (agent.role != Role::Camera && near).then(|| workshop.build(agent.make, agent.seed))
            })
            .collect();
        let bonnet = look.bonnet.map_or_else(Mesh::default, |paint| {
            bonnet(&mut dice, paint, look.height_m, common, &textures)
        });
        let ground = Ground::new(&road, config.place.keeps_left, light.dust, seed);
        let lamp_colour = dice.pick(&[[1.0, 0.62, 0.25], [1.0, 0.85, 0.62], [0.85, 0.92, 1.0]]);
        let mut sequence = Self {
            tables: Tables::new(light.fog_per_m),
            tone: lens::tone_curve(look.contrast, look.black),
            config: config.clone(),
            seed,
            road,
            ground,
            light,
            look,
            noise,
            textures,
            common,
            agents,
            models,
            scenery,
            exposures: Vec::new(),
            bonnet,
            lamp_colour,
            far_tall: dice.range(0.008, 0.05),
            far_colour: dice.pick(&[[0.05, 0.08, 0.03], [0.07, 0.09, 0.05], [0.10, 0.11, 0.09]]),
            far_ridge: Vec::new(),
            cloud_shift: dice.unit(),
            screen_width: 0,
            screen_dirt: Vec::new(),
            screen_mirror: Vec::new(),
        };
        sequence.raise_horizon();
        sequence.expose();
        sequence.paint_screen();
        Ok(sequence)
    }

    /// The road user whom the scenario is about, if it has one.
    pub fn target(&self) -> Option<u32> {
        self.agents
            .iter()
            .position(|a| a.role == Role::Scripted)
            .map(|i| i as u32)
    }

    /// What a road user is; `None` for numbers that nobody has.
    pub fn class_of(&self, instance: u32) -> Option<Class> {
        self.agents.get(instance as usize).map(Agent::class)
    }

    /// A JPEG quality that suits this camera, 1 to 100.
    pub fn jpeg_quality(&self) -> u8 {
        60 + (random::unit_at(self.seed, 9, 99) * 35.0) as u8
    }
}

/// The front of our own vehicle as the camera sees it.
fn bonnet(
    dice: &mut Dice,
    paint: Rgb,
    camera_height_m: f32,
    common: Common,
    textures: &[Texture],
) -> Mesh {
    let mut mesh = Mesh::default();
    let cover = Cover::tinted(common.plain, paint, Kind::Paint);
    let covers = BodyCovers {
        side: cover,
        front: cover,
        rear: cover,
        top: cover,
    };
    let high = camera_height_m - dice.range(0.32, 0.44);
    let half = dice.range(0.70, 0.82);
    let ahead = dice.range(1.25, 1.7);
    let st = |z: f32, drop: f32, w: f32| Station {
        z,
        y_low: high - 0.5,
        y_belt: high - drop - 0.06,
        y_top: high - drop,
        half_low: half,
        half_belt: half * w,
        half_top: half * w * 0.9,
    };
    let end = ahead + 0.25;
    mesh.body(
        &[
            st(0.55, -0.02, 1.0),
            st(0.75, 0.0, 1.0),
            st(ahead * 0.75, 0.035, 0.97),
            st(ahead, 0.10, 0.9),
            st(end, 0.24, 0.8),
        ],
        &covers,
        textures,
    );
    mesh.finish()
}
