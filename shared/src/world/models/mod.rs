//! Road users: each is built once from random proportions, colours and textures, so that no two are alike.

mod beasts;
mod cars;
mod farm;
mod heavy;
mod kinds;
mod people;
mod three_wheelers;
mod two_wheelers;

use alloc::vec::Vec;

use super::config::RegionConfig;
use super::math::{Rgb, V3, add, linear_from_srgb};
use super::mesh::{BodyCovers, Cover, LampSpot, Mesh, Station};
use super::random::{Dice, Noise};
use super::skins::{self, Coachwork};
use super::texture::{Kind, Texture};
use beasts::Beast;

pub(super) use heavy::bus_length_m;
pub use kinds::Class;
pub(super) use kinds::Make;
pub(super) use people::Figure;

/// Textures that many things share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) plain: u32,
    pub(super) hubs: [u32; 4],
    pub(super) spokes: u32,
}

impl Common {
    pub(super) fn new(noise: &Noise, seed: u64, textures: &mut Vec<Texture>) -> Self {
        let mut push = |t: Texture| {
            textures.push(t);
            textures.len() as u32 - 1
        };
        let plain = push(skins::plain(noise));
        let hubs =
            [seed % 4, 4 + seed % 4, (seed >> 8) % 4, 4].map(|style| push(skins::hub(style)));
        let spokes = push(skins::spokes());
        Self {
            plain,
            hubs,
            spokes,
        }
    }
}

#[derive(Clone, Debug)]
enum Shape {
    Rigid,
    Walker(Figure),
    Beast(Beast),
}

/// One road user.
pub(super) struct Model {
    pub(super) mesh: Mesh,
    pub(super) half_width_m: f32,
    pub(super) half_length_m: f32,
    shape: Shape,
}

fn srgb(c: Rgb) -> Rgb {
    c.map(linear_from_srgb)
}

const RUBBER: Rgb = [0.012, 0.012, 0.013];

const STEEL: Rgb = [0.10, 0.10, 0.105];

/// The stream of a model's dice.
const MODEL_STREAM: u64 = 0x6d6f_6465;

/// Builds road users into a world's textures.
pub(super) struct Workshop<'a> {
    pub(super) place: &'a RegionConfig,
    pub(super) noise: &'a Noise,
    pub(super) common: Common,
    pub(super) textures: &'a mut Vec<Texture>,
    /// Dust on everything, 0 to 1.
    pub(super) dust: f32,
}

impl Workshop<'_> {
    fn plain(&self, tint: Rgb, kind: Kind) -> Cover {
        Cover::tinted(self.common.plain, tint, kind)
    }

    fn push(&mut self, t: Texture) -> u32 {
        self.textures.push(t);
        self.textures.len() as u32 - 1
    }

    pub(super) fn build(&mut self, make: Make, seed: u64) -> Model {
        let mut dice = Dice::new(seed, MODEL_STREAM);
        match make {
            Make::Sedan | Make::Hatchback | Make::Suv | Make::Van | Make::Pickup => {
                self.car(make, &mut dice)
            }
            Make::CityBus | Make::SchoolBus => self.bus(make, &mut dice),
            Make::BoxTruck | Make::OpenTruck | Make::SemiTrailer => self.truck(make, &mut dice),
            Make::Motorcycle | Make::Scooter | Make::Bicycle => self.two_wheeler(make, &mut dice),
            Make::Autorickshaw => self.autorickshaw(&mut dice),
            Make::CycleRickshaw => self.cycle_rickshaw(&mut dice),
            Make::Tractor => self.tractor(&mut dice),
            Make::Cart => self.cart(&mut dice),
            Make::Person => {
                let figure = self.figure(&mut dice, false);
                Model {
                    mesh: Mesh::default(),
                    half_width_m: 0.3,
                    half_length_m: 0.3,
                    shape: Shape::Walker(figure),
                }
            }
            Make::Cow | Make::Dog => {
                let cow = make == Make::Cow;
                let coats: [Rgb; 6] = [
                    [0.75, 0.72, 0.66],
                    [0.42, 0.27, 0.17],
                    [0.16, 0.14, 0.13],
                    [0.60, 0.46, 0.30],
                    [0.50, 0.47, 0.44],
                    [0.70, 0.52, 0.34],
                ];
                let (coat, patch) = (srgb(dice.pick(&coats)), srgb(dice.pick(&coats)));
                let tall = if cow {
                    dice.range(1.15, 1.45)
                } else {
                    dice.range(0.42, 0.62)
                };
                Model {
                    mesh: Mesh::default(),
                    half_width_m: 0.28 * tall,
                    half_length_m: 0.85 * tall,
                    shape: Shape::Beast(Beast {
                        tall,
                        coat,
                        patch,
                        horns: cow && dice.chance(0.75),
                    }),
                }
            }
        }
    }

    fn wheels(
        &self,
        mesh: &mut Mesh,
        dice: &mut Dice,
        at: &[(f32, f32)],
        half_track: f32,
        half_width: f32,
        truck: bool,
    ) {
        let hub = Cover::texture(
            self.common.hubs[if truck {
                1 + 2 * dice.below(2)
            } else {
                dice.below(3)
            }],
        );
        let tyre = self.plain(RUBBER, Kind::Matte);
        let roll = dice.range(0.0, 6.0);
        for &(z, radius) in at {
            for side in [-1.0, 1.0] {
                mesh.wheel(
                    [side * (half_track - half_width), radius, z],
                    radius,
                    half_width,
                    roll,
                    hub,
                    tyre,
                    self.textures,
                );
            }
        }
    }

    /// Paints the four views and makes the body.
    fn coach(&mut self, mesh: &mut Mesh, work: &Coachwork) {
        let side = work.side(self.noise);
        let front = work.front(self.noise);
        let rear = work.rear(self.noise);
        let top = work.top(self.noise);
        let covers = BodyCovers {
            side: Cover::texture(self.push(side)),
            front: Cover::texture(self.push(front)),
            rear: Cover::texture(self.push(rear)),
            top: Cover::texture(self.push(top)),
        };
        mesh.body(&work.stations, &covers, self.textures);
        // The dark below, so that nobody sees the road through it.
        let (first, last) = (work.stations[0], work.stations[work.stations.len() - 1]);
        let y = work.stations.iter().fold(9.0_f32, |m, s| m.min(s.y_low));
        let under = self.plain([0.008; 3], Kind::Matte);
        let half = first.half_low * 0.92;
        mesh.block(
            [-half, (y - 0.08).max(0.12), first.z + 0.15],
            [half, y + 0.12, last.z - 0.15],
            [1.0, 1.0],
            under,
            under,
            self.textures,
        );
    }

    fn lamps(mesh: &mut Mesh, rear_z: f32, front_z: f32, half: f32, rear_y: f32, front_y: f32) {
        for side in [-1.0, 1.0] {
            mesh.lamps.push(LampSpot {
                at: [side * half, rear_y, rear_z - 0.03],
                kind: Kind::Tail,
            });
            mesh.lamps.push(LampSpot {
                at: [side * half, front_y, front_z + 0.03],
                kind: Kind::Head,
            });
        }
    }

    fn plate(&self, dice: &mut Dice, commercial: bool) -> Rgb {
        if self.place.keeps_left && commercial {
            [0.90, 0.74, 0.12]
        } else if self.place.keeps_left || dice.chance(0.6) {
            [0.88, 0.88, 0.86]
        } else {
            dice.pick(&[[0.80, 0.82, 0.88], [0.86, 0.80, 0.62], [0.72, 0.80, 0.86]])
        }
    }

    fn coachwork(&self, dice: &mut Dice, paint: Rgb, stations: Vec<Station>) -> Coachwork {
        let tint = dice.range(0.05, 0.13);
        Coachwork {
            paint,
            lower: paint,
            livery: None,
            decorated: None,
            stations,
            windows: [0.0, 0.0],
            pillars: Vec::new(),
            window_inset_m: [0.04, 0.07],
            wheels: Vec::new(),
            dirt: (dice.unit() * dice.unit() * 0.5 + self.dust * dice.range(0.1, 0.8)).min(1.0),
            glass: [tint * 0.85, tint * 0.97, tint],
            lamp_style: dice.below(64),
            plate: [0.88, 0.88, 0.86],
            seed: dice.next(),
            rear_window: false,
            front_window: false,
            top_glass: [[0.0, 0.0], [0.0, 0.0]],
            rails: false,
            open: false,
            badge: true,
        }
    }
}

fn append(mesh: &mut Mesh, other: &Mesh, by: V3) {
    let base = mesh.vertices.len() as u32;
    mesh.vertices
        .extend(other.vertices.iter().map(|v| super::mesh::Vertex {
            at: add(v.at, by),
            ..*v
        }));
    mesh.faces
        .extend(other.faces.iter().map(|f| super::mesh::Face {
            corners: f.corners.map(|c| c + base),
            ..*f
        }));
}

impl Model {
    /// The triangles at a moment: creatures move, the rest is as it was built.
    pub(super) fn pose(
        &self,
        phase: f32,
        stride: f32,
        plain: u32,
        textures: &[Texture],
    ) -> Option<Mesh> {
        let mut mesh = Mesh::default();
        match &self.shape {
            Shape::Rigid => return None,
            Shape::Walker(figure) => figure.pose(phase, stride, plain, textures, &mut mesh),
            Shape::Beast(beast) => beast.pose(phase, plain, textures, &mut mesh),
        }
        Some(mesh.finish())
    }
}
