//! Road users: each is built once from random proportions, colours and textures, so that no two are alike.

use alloc::vec;
use alloc::vec::Vec;

use super::config::{RegionConfig, VehicleMix};
use super::math::{Rgb, V3, add, cos, linear_from_srgb, scale, sin};
use super::mesh::{BodyCovers, Cover, LampSpot, Mesh, Station};
use super::random::{Dice, Noise};
use super::skins::{self, Coachwork, LOUD, Livery};
use super::texture::{Kind, Texture};

/// What an object is, as annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Class {
    Car,
    Van,
    Truck,
    Bus,
    Motorcycle,
    Bicycle,
    Autorickshaw,
    Tractor,
    Cart,
    Person,
    Animal,
}

impl Class {
    /// As it is written in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Van => "van",
            Self::Truck => "truck",
            Self::Bus => "bus",
            Self::Motorcycle => "motorcycle",
            Self::Bicycle => "bicycle",
            Self::Autorickshaw => "autorickshaw",
            Self::Tractor => "tractor",
            Self::Cart => "cart",
            Self::Person => "person",
            Self::Animal => "animal",
        }
    }
}

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    Sedan,
    Hatchback,
    Suv,
    Van,
    Pickup,
    BoxTruck,
    OpenTruck,
    SemiTrailer,
    CityBus,
    SchoolBus,
    Motorcycle,
    Scooter,
    Bicycle,
    Autorickshaw,
    CycleRickshaw,
    Tractor,
    Cart,
    Person,
    Cow,
    Dog,
}

impl Make {
    pub(super) fn class(self) -> Class {
        match self {
            Self::Sedan | Self::Hatchback | Self::Suv | Self::Pickup => Class::Car,
            Self::Van => Class::Van,
            Self::BoxTruck | Self::OpenTruck | Self::SemiTrailer => Class::Truck,
            Self::CityBus | Self::SchoolBus => Class::Bus,
            Self::Motorcycle | Self::Scooter => Class::Motorcycle,
            // Three wheels, but pedalled; tables of real data know no better name.
            Self::Bicycle | Self::CycleRickshaw => Class::Bicycle,
            Self::Autorickshaw => Class::Autorickshaw,
            Self::Tractor => Class::Tractor,
            Self::Cart => Class::Cart,
            Self::Person => Class::Person,
            Self::Cow | Self::Dog => Class::Animal,
        }
    }

    pub(super) fn two_wheeled(self) -> bool {
        matches!(self, Self::Motorcycle | Self::Scooter | Self::Bicycle)
    }

    pub(super) fn draw(dice: &mut Dice, mix: &VehicleMix) -> Self {
        let table = [
            (mix.sedan, Self::Sedan),
            (mix.hatchback, Self::Hatchback),
            (mix.suv, Self::Suv),
            (mix.van, Self::Van),
            (mix.pickup, Self::Pickup),
            (mix.box_truck, Self::BoxTruck),
            (mix.open_truck, Self::OpenTruck),
            (mix.semi_trailer, Self::SemiTrailer),
            (mix.city_bus, Self::CityBus),
            (mix.school_bus, Self::SchoolBus),
            (mix.motorcycle, Self::Motorcycle),
            (mix.scooter, Self::Scooter),
            (mix.bicycle, Self::Bicycle),
            (mix.autorickshaw, Self::Autorickshaw),
            (mix.cycle_rickshaw, Self::CycleRickshaw),
            (mix.tractor, Self::Tractor),
            (mix.cart, Self::Cart),
        ];
        table[dice.weighted(&table.map(|(weight, _)| weight))].1
    }
}

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

/// How a creature looks; its pose changes from frame to frame.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    tall: f32,
    build: f32,
    shirt: u32,
    legs: Rgb,
    skirt: Option<u32>,
    skin: Rgb,
    hair: Rgb,
    helmet: bool,
    bag: Option<(Rgb, bool)>,
    umbrella: Option<Rgb>,
    long_hair: bool,
}

/// A four-legged animal.
#[derive(Clone, Copy, Debug)]
struct Beast {
    /// Height of the back.
    tall: f32,
    coat: Rgb,
    patch: Rgb,
    horns: bool,
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
const BUS_LENGTH_M: [f32; 2] = [8.5, 12.0];

/// How long the bus of this seed will be: the first thing its dice decide.
pub(super) fn bus_length_m(seed: u64) -> f32 {
    Dice::new(seed, MODEL_STREAM).within(BUS_LENGTH_M)
}

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

    fn paint(&self, dice: &mut Dice) -> Rgb {
        let tone = dice.range(0.9, 1.1);
        let loud = dice.chance(if self.place.keeps_left { 0.20 } else { 0.16 });
        let c: Rgb = if loud {
            dice.pick(&[
                [0.60, 0.07, 0.08],
                [0.72, 0.12, 0.08],
                [0.10, 0.20, 0.45],
                [0.16, 0.36, 0.62],
                [0.12, 0.30, 0.22],
                [0.80, 0.55, 0.10],
                [0.42, 0.26, 0.16],
                [0.62, 0.55, 0.40],
                [0.36, 0.08, 0.14],
                [0.80, 0.34, 0.08],
                [0.20, 0.46, 0.50],
            ])
        } else {
            dice.pick(&[
                [0.86, 0.86, 0.85],
                [0.88, 0.88, 0.86],
                [0.80, 0.80, 0.79],
                [0.62, 0.63, 0.64],
                [0.54, 0.55, 0.56],
                [0.36, 0.37, 0.38],
                [0.26, 0.27, 0.29],
                [0.08, 0.08, 0.09],
                [0.05, 0.05, 0.06],
                [0.13, 0.15, 0.20],
                [0.48, 0.46, 0.42],
                [0.70, 0.69, 0.65],
            ])
        };
        [
            c[0] * tone * dice.range(0.96, 1.04),
            c[1] * tone,
            c[2] * tone * dice.range(0.96, 1.04),
        ]
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

    fn car(&mut self, make: Make, dice: &mut Dice) -> Model {
        let small = self.place.keeps_left;
        let stretch = dice.range(0.93, 1.07) * if small { 0.93 } else { 1.03 };
        let (len, tall, half) = match make {
            Make::Sedan => (4.6 * stretch, dice.range(1.40, 1.50), 0.89),
            Make::Hatchback => (3.8 * stretch, dice.range(1.44, 1.62), 0.84),
            Make::Suv => (4.55 * stretch, dice.range(1.62, 1.90), 0.94),
            Make::Pickup => (5.5 * stretch, dice.range(1.72, 1.95), 0.99),
            _ => (4.7 * stretch, dice.range(1.85, 2.35), 0.95),
        };
        let half = half * dice.range(0.95, 1.04);
        let ground = match make {
            Make::Sedan | Make::Hatchback => 0.24,
            _ => 0.32,
        };
        let wheel = match make {
            Make::Sedan => 0.32,
            Make::Hatchback => 0.29,
            Make::Pickup => 0.40,
            _ => 0.36,
        } * dice.range(0.95, 1.06);
        let belt = ground + (tall - ground) * dice.range(0.56, 0.62);
        let (r, f) = (-len / 2.0, len / 2.0);
        let bonnet = belt - dice.range(0.06, 0.16);
        let roof_half = half * dice.range(0.74, 0.82);
        let st = |z: f32, y_low: f32, y_belt: f32, y_top: f32, w: f32, top_w: f32| Station {
            z,
            y_low,
            y_belt,
            y_top,
            half_low: half * w * 0.96,
            half_belt: half * w,
            half_top: top_w,
        };
        // Shares of the length at which the screen begins and ends, roof follows.
        let (screen, roof_front) = match make {
            Make::Sedan => (dice.range(0.66, 0.71), 0.0),
            Make::Hatchback => (dice.range(0.72, 0.77), 0.0),
            Make::Suv => (dice.range(0.70, 0.75), 0.0),
            Make::Pickup => (dice.range(0.70, 0.74), 0.0),
            _ => (dice.range(0.84, 0.93), 0.0),
        };
        let slope = match make {
            Make::Van => dice.range(0.07, 0.11),
            Make::Suv | Make::Pickup => dice.range(0.10, 0.14),
            _ => dice.range(0.13, 0.17),
        };
        let at = |share: f32| r + len * share;
        let screen_z = at(screen);
        let roof_z = at(screen - slope + roof_front);
        let mut top_glass = [[roof_z + 0.05, screen_z - 0.02], [0.0, 0.0]];
        let windows;
        let pillars;
        let mut stations = Vec::new();
        let mut rear_window = false;
        match make {
            Make::Sedan => {
                let boot = belt + dice.range(-0.02, 0.06);
                let (rear_roof, rear_glass) =
                    (at(dice.range(0.27, 0.31)), at(dice.range(0.13, 0.17)));
                stations.push(st(
                    r,
                    ground + 0.12,
                    boot - 0.16,
                    boot - 0.14,
                    0.86,
                    half * 0.84,
                ));
                stations.push(st(
                    r + 0.09,
                    ground + 0.02,
                    boot - 0.03,
                    boot,
                    0.93,
                    half * 0.86,
                ));
                stations.push(st(rear_glass, ground, belt, boot + 0.02, 1.0, half * 0.88));
                stations.push(st(rear_roof, ground, belt, tall - 0.03, 1.0, roof_half));
                stations.push(st(at(0.42), ground, belt, tall, 1.0, roof_half));
                stations.push(st(roof_z, ground, belt - 0.01, tall - 0.04, 1.0, roof_half));
                top_glass[1] = [rear_glass + 0.05, rear_roof - 0.04];
                windows = [rear_glass + 0.32, screen_z - 0.28];
                pillars = vec![at(0.46)];
            }
            Make::Pickup => {
                let cab = at(0.40);
                let bed = belt + 0.02;
                stations.push(st(r, ground + 0.16, bed - 0.03, bed, 0.95, half * 0.93));
                stations.push(st(
                    r + 0.05,
                    ground + 0.10,
                    bed - 0.02,
                    bed,
                    0.98,
                    half * 0.95,
                ));
                stations.push(st(
                    cab - 0.04,
                    ground + 0.06,
                    bed,
                    bed + 0.01,
                    1.0,
                    half * 0.96,
                ));
                stations.push(st(cab, ground + 0.06, belt, tall - 0.02, 1.0, roof_half));
                stations.push(st(at(0.5), ground + 0.06, belt, tall, 1.0, roof_half));
                stations.push(st(roof_z, ground + 0.06, belt, tall - 0.04, 1.0, roof_half));
                windows = [cab + 0.1, screen_z - 0.25];
                pillars = vec![at(0.54)];
                top_glass[1] = [r - 2.0, r - 1.0];
            }
            _ => {
                rear_window = true;
                let lean = match make {
                    Make::Van => 0.05,
                    Make::Suv => dice.range(0.10, 0.40),
                    _ => dice.range(0.15, 0.50),
                };
                stations.push(st(
                    r,
                    ground + 0.12,
                    belt - 0.10,
                    belt - 0.06,
                    0.90,
                    half * 0.86,
                ));
                stations.push(st(
                    r + 0.06,
                    ground + 0.03,
                    belt,
                    belt + 0.02,
                    0.95,
                    half * 0.88,
                ));
                stations.push(st(
                    r + 0.06 + lean,
                    ground,
                    belt,
                    tall - 0.06,
                    1.0,
                    roof_half * 0.97,
                ));
                stations.push(st(r + 0.45 + lean, ground, belt, tall, 1.0, roof_half));
                stations.push(st(roof_z, ground, belt - 0.01, tall - 0.03, 1.0, roof_half));
                windows = [
                    r + 0.25 + lean * 0.8,
                    screen_z - if make == Make::Van { 0.1 } else { 0.25 },
                ];
                pillars = vec![at(0.50), at(0.24)];
                top_glass[1] = [r - 2.0, r - 1.0];
            }
        }
        stations.push(st(
            screen_z,
            ground,
            belt - 0.01,
            belt + 0.015,
            0.99,
            half * 0.90,
        ));
        let nose = bonnet - dice.range(0.04, 0.14);
        stations.push(st(
            f - 0.35,
            ground,
            bonnet,
            bonnet + 0.01,
            0.97,
            half * 0.86,
        ));
        stations.push(st(
            f - 0.07,
            ground + 0.02,
            nose,
            nose + 0.01,
            0.90,
            half * 0.78,
        ));
        stations.push(st(
            f,
            ground + 0.10,
            nose - 0.14,
            nose - 0.13,
            0.82,
            half * 0.72,
        ));
        let paint = self.paint(dice);
        let taxi = dice.chance(0.08);
        let paint = match (taxi, small) {
            (true, true) => dice.pick(&[[0.88, 0.72, 0.12], [0.88, 0.88, 0.86]]),
            (true, false) => [0.90, 0.68, 0.06],
            _ => paint,
        };
        let wheels = vec![
            (r + len * 0.19, wheel),
            (f - len * dice.range(0.17, 0.20), wheel),
        ];
        let mut work = self.coachwork(dice, paint, stations);
        work.windows = windows;
        work.pillars = pillars;
        work.wheels.clone_from(&wheels);
        work.rear_window = rear_window;
        work.front_window = make == Make::Van;
        work.top_glass = top_glass;
        let commercial = taxi || (make == Make::Van && dice.chance(0.6));
        work.plate = self.plate(dice, commercial);
        work.rails = matches!(make, Make::Suv | Make::Van) && dice.chance(0.6);
        let two_tone = matches!(make, Make::Suv | Make::Pickup | Make::Van) && dice.chance(0.3);
        if two_tone {
            work.lower = scale(paint, 0.25);
        }
        if make == Make::Van && dice.chance(0.35) {
            let base = if dice.chance(0.7) {
                [0.86, 0.86, 0.84]
            } else {
                paint
            };
            work.livery = Some(Livery::new(dice, base));
            work.paint = base;
        }
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        self.wheels(&mut mesh, dice, &wheels, half * 0.99, 0.10, false);
        // Mirrors, and now and then a load on the roof.
        let shell = self.plain(srgb(scale(paint, 0.8)), Kind::Paint);
        for side in [-1.0_f32, 1.0] {
            let x = side * (half + 0.06);
            mesh.block(
                [x - 0.09, belt - 0.02, screen_z - 0.42],
                [x + 0.09, belt + 0.12, screen_z - 0.32],
                [1.0, 1.0],
                shell,
                shell,
                self.textures,
            );
        }
        if dice.chance(if small { 0.14 } else { 0.08 }) && make != Make::Pickup {
            let steel = self.plain(STEEL, Kind::Matte);
            for z in [roof_z - 0.3, roof_z - 1.2] {
                mesh.block(
                    [-roof_half, tall, z],
                    [roof_half, tall + 0.07, z + 0.06],
                    [1.0, 1.0],
                    steel,
                    steel,
                    self.textures,
                );
            }
            if dice.chance(0.7) {
                let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
                let w = roof_half * dice.range(0.4, 0.9);
                mesh.block(
                    [-w, tall + 0.05, roof_z - 1.3],
                    [w, tall + dice.range(0.2, 0.55), roof_z - 0.2],
                    [1.0, 1.0],
                    load,
                    load,
                    self.textures,
                );
            }
        }
        if taxi && !small {
            let sign = self.plain([0.8, 0.75, 0.5], Kind::Lamp);
            mesh.block(
                [-0.25, tall, roof_z - 0.7],
                [0.25, tall + 0.16, roof_z - 0.55],
                [1.0, 1.0],
                sign,
                sign,
                self.textures,
            );
        }
        if make == Make::Pickup && dice.chance(0.6) {
            // Sides of the bed hide its floor; the load shows above.
            let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            let high = belt + dice.range(0.05, 0.5);
            mesh.block(
                [-half * 0.7, belt - 0.2, r + 0.2],
                [half * 0.7, high, r + len * 0.36],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        Self::lamps(&mut mesh, r, f, half * 0.78, belt - 0.15, nose - 0.06);
        Model {
            half_width_m: half + 0.05,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    fn bus(&mut self, make: Make, dice: &mut Dice) -> Model {
        let school = make == Make::SchoolBus;
        let (len, tall, half) = (
            dice.within(BUS_LENGTH_M),
            dice.range(2.9, 3.3),
            dice.range(1.20, 1.28),
        );
        let (r, f) = (-len / 2.0, len / 2.0);
        let ground = 0.38;
        let belt = dice.range(1.35, 1.6);
        let st = |z: f32, y_low: f32, y_top: f32, w: f32| Station {
            z,
            y_low,
            y_belt: belt.min(y_top - 0.02),
            y_top,
            half_low: half * w,
            half_belt: half * w,
            half_top: half * w * 0.93,
        };
        let mut stations = vec![
            st(r, ground + 0.05, tall - 0.12, 0.96),
            st(r + 0.10, ground, tall - 0.02, 1.0),
            st(0.0, ground, tall, 1.0),
        ];
        let nose = school && !self.place.keeps_left;
        if nose {
            stations.push(st(f - 1.5, ground, tall - 0.03, 1.0));
            stations.push(st(f - 1.35, ground, tall - 0.25, 0.98));
            stations.push(st(f - 1.30, ground, belt - 0.02, 0.92));
            stations.push(st(f - 0.1, ground, belt - 0.22, 0.86));
            stations.push(st(f, ground + 0.1, belt - 0.4, 0.80));
        } else {
            stations.push(st(f - 0.25, ground, tall - 0.02, 1.0));
            stations.push(st(f - 0.08, ground, tall - 0.25, 0.98));
            stations.push(st(f, ground + 0.05, belt, 0.94));
        }
        let paint = if school {
            [0.90, 0.62, 0.05]
        } else {
            let loud = dice.pick(&LOUD);
            dice.pick(&[
                loud,
                [0.85, 0.85, 0.82],
                [0.70, 0.13, 0.10],
                [0.12, 0.32, 0.55],
            ])
        };
        let wheels = vec![
            (r + len * 0.27, 0.5),
            (f - if nose { 0.9 } else { len * 0.2 }, 0.5),
        ];
        let mut work = self.coachwork(dice, paint, stations);
        let end = if nose { f - 1.5 } else { f - 0.35 };
        work.windows = [r + 0.4, end];
        let bays = (len / dice.range(0.9, 1.7)) as usize;
        work.pillars = (1..bays.max(2))
            .map(|k| r + 0.4 + (end - r - 0.4) * k as f32 / bays as f32)
            .collect();
        work.window_inset_m = [0.05, dice.range(0.3, 0.55)];
        work.wheels.clone_from(&wheels);
        work.rear_window = dice.chance(0.75);
        work.front_window = true;
        work.top_glass = [[f + 1.0, f + 2.0], [r - 2.0, r - 1.0]];
        work.plate = self.plate(dice, true);
        if !school {
            work.livery = Some(Livery::new(dice, paint));
        }
        work.badge = false;
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        self.wheels(&mut mesh, dice, &wheels, half, 0.15, true);
        let dark = self.plain([0.02; 3], Kind::Matte);
        for side in [-1.0_f32, 1.0] {
            let x = side * (half + 0.14);
            mesh.block(
                [x - 0.1, belt + 0.1, end - 0.1],
                [x + 0.1, belt + 0.55, end],
                [1.0, 1.0],
                dark,
                dark,
                self.textures,
            );
        }
        if dice.chance(if self.place.keeps_left { 0.35 } else { 0.5 }) {
            let c = if self.place.keeps_left {
                srgb(dice.pick(&LOUD))
            } else {
                [0.4; 3]
            };
            let load = self.plain(c, Kind::Matte);
            let z = dice.range(r + 1.0, 0.0);
            mesh.block(
                [-half * 0.6, tall, z],
                [half * 0.6, tall + 0.3, z + 2.2],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        Self::lamps(&mut mesh, r, f, half * 0.82, belt - 0.4, belt - 0.5);
        Model {
            half_width_m: half + 0.05,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    fn truck(&mut self, make: Make, dice: &mut Dice) -> Model {
        let indian = self.place.keeps_left;
        let decorated = make == Make::OpenTruck && dice.chance(self.place.decorated_share);
        let (len, half) = match make {
            Make::SemiTrailer => (dice.range(14.0, 17.5), 1.26),
            Make::BoxTruck => (dice.range(5.6, 8.5), dice.range(1.02, 1.22)),
            _ => (dice.range(6.0, 9.0), dice.range(1.10, 1.24)),
        };
        let (r, f) = (-len / 2.0, len / 2.0);
        let ground = 0.5;
        let cab_len = if make == Make::SemiTrailer && !indian {
            dice.range(4.2, 5.4)
        } else {
            dice.range(1.7, 2.1)
        };
        let nosed = make == Make::SemiTrailer && !indian && dice.chance(0.7);
        let cab_tall = match make {
            Make::SemiTrailer => dice.range(2.9, 3.6),
            Make::BoxTruck => dice.range(2.1, 2.5),
            _ => dice.range(2.4, 2.8),
        };
        let belt = dice.range(1.45, 1.7) * if make == Make::BoxTruck { 0.88 } else { 1.0 };
        let cab = f - cab_len;
        let st = |z: f32, y_low: f32, y_top: f32, w: f32| Station {
            z,
            y_low,
            y_belt: belt.min(y_top - 0.02),
            y_top,
            half_low: half * w * 0.97,
            half_belt: half * w * 0.97,
            half_top: half * w * 0.90,
        };
        let mut stations = vec![
            st(cab, ground, cab_tall - 0.05, 0.98),
            st(cab + 0.2, ground, cab_tall, 1.0),
        ];
        if nosed {
            stations.push(st(f - 2.0, ground, cab_tall - 0.15, 0.98));
            stations.push(st(f - 1.6, ground, belt + 0.03, 0.85));
            stations.push(st(f - 0.1, ground, belt - 0.15, 0.76));
            stations.push(st(f, ground, belt - 0.25, 0.74));
        } else {
            let lean = dice.range(0.05, 0.3);
            stations.push(st(f - 0.12 - lean, ground, cab_tall - 0.02, 1.0));
            stations.push(st(f - 0.06, ground - 0.1, belt + 0.04, 0.99));
            stations.push(st(f, ground - 0.08, belt - 0.1, 0.96));
        }
        let paint = if indian && make == Make::OpenTruck {
            dice.pick(&[
                [0.85, 0.45, 0.08],
                [0.78, 0.12, 0.10],
                [0.15, 0.35, 0.60],
                [0.88, 0.72, 0.12],
                [0.20, 0.45, 0.25],
                [0.55, 0.24, 0.12],
            ])
        } else {
            self.paint(dice)
        };
        let mut work = self.coachwork(dice, paint, stations);
        let window_front = if nosed { f - 1.9 } else { f - 0.25 };
        work.windows = [window_front - 0.9, window_front];
        work.window_inset_m = [0.05, 0.25];
        work.front_window = true;
        work.rear_window = false;
        work.top_glass = [[f + 1.0, f + 2.0], [r - 2.0, r - 1.0]];
        work.plate = self.plate(dice, true);
        work.badge = false;
        if decorated {
            work.decorated = Some(dice.next());
        }
        let front_wheel = (
            f - if nosed { 1.0 } else { cab_len * 0.55 },
            0.5 * dice.range(0.9, 1.05),
        );
        work.wheels = vec![front_wheel];
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        // What it carries.
        let deck = if make == Make::BoxTruck { 0.85 } else { 1.1 };
        let back = cab - dice.range(0.08, 0.35);
        let load_half = half * dice.range(0.98, 1.03);
        let base = if dice.chance(0.6) {
            [0.84, 0.84, 0.82]
        } else {
            dice.pick(&LOUD)
        };
        let livery = Livery::new(dice, base);
        let (dirt, style, seed) = (work.dirt, dice.below(3), dice.next());
        let open = make == Make::OpenTruck;
        let tarp = open && dice.chance(0.45);
        let high = match make {
            Make::OpenTruck => deck + dice.range(0.9, 1.6),
            Make::BoxTruck => deck + dice.range(1.7, 2.2),
            _ => dice.range(3.8, 4.1),
        };
        let noise = self.noise;
        let decor_seed = work.decorated;
        let side = Texture::paint(8, 6, |u, v| {
            let grain = noise.fine(u, v * 0.5);
            let ribs = style == 1 && super::math::fract(u * 26.0) < 0.3;
            let mut c = match decor_seed {
                Some(s) => skins::decor(u, v, s),
                None if open => {
                    let plank =
                        super::math::fract(v * 5.0) < 0.1 || super::math::fract(u * 7.0) < 0.04;
                    scale(paint, if plank { 0.5 } else { 0.9 })
                }
                None => livery.at(u, v),
            };
            if ribs {
                c = scale(c, 0.86);
            }
            if !(0.03..=0.975).contains(&v) || !(0.008..=0.992).contains(&u) {
                c = [0.35, 0.35, 0.36];
            }
            let dirty = dirt * (0.7 - v).max(0.0) * (0.8 + grain);
            (
                super::math::mix3(scale(c, 1.0 + 0.08 * grain), [0.42, 0.36, 0.29], dirty),
                Kind::Paint,
            )
        });
        let plate = work.plate;
        let rear = Texture::paint(7, 7, |u, v| {
            let grain = noise.fine(u * 0.6, v * 0.6);
            let x = (u - 0.5).abs() * 2.0;
            let mut c = match decor_seed {
                Some(s) => skins::decor(u, v, s ^ 5),
                None if open => scale(paint, 0.85),
                None => livery.at(u * 0.9, v),
            };
            if decor_seed.is_some() && skins::lettering((u - 0.1) / 0.8, (v - 0.42) / 0.2, 11, seed)
            {
                c = [0.95, 0.93, 0.85];
            }
            if style != 2 && (x < 0.02 || (x - 0.35).abs() < 0.02 || v > 0.97 || x > 0.975) {
                c = [0.45, 0.46, 0.47];
            }
            if style == 2 && super::math::fract(v * 9.0) < 0.12 {
                c = scale(c, 0.7);
            }
            if v < 0.10 {
                return if x > 0.72 && v > 0.015 {
                    ([0.6, 0.04, 0.04], Kind::Tail)
                } else if x < 0.16 && v > 0.02 {
                    (plate, Kind::Retro)
                } else if super::math::fract(u * 9.0) < 0.5 {
                    ([0.75, 0.10, 0.08], Kind::Retro)
                } else {
                    ([0.8; 3], Kind::Retro)
                };
            }
            let dirty = dirt * (0.8 - v).max(0.0) * (0.8 + grain);
            (
                super::math::mix3(scale(c, 1.0 + 0.08 * grain), [0.42, 0.36, 0.29], dirty),
                Kind::Paint,
            )
        });
        let (side, rear) = (
            Cover::texture(self.push(side)),
            Cover::texture(self.push(rear)),
        );
        let top = self.plain(
            srgb(if open {
                [0.3, 0.28, 0.25]
            } else {
                scale(base, 0.9)
            }),
            Kind::Matte,
        );
        let tanker = make != Make::BoxTruck && !open && dice.chance(0.2);
        if tanker {
            let y = deck + 1.1;
            mesh.limb(
                [0.0, y, r + 0.1],
                [0.0, y, back],
                [1.1, 1.1],
                12,
                side,
                self.textures,
            );
            mesh.limb(
                [0.0, y, back],
                [0.0, y, r + 0.1],
                [1.08, 1.08],
                12,
                rear,
                self.textures,
            );
        } else {
            let (x0, x1) = (-load_half, load_half);
            let q = |a: V3, b: V3, c: V3, d: V3| [a, b, c, d];
            let full = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
            let rear_y = deck - 0.25;
            mesh.flat(
                q(
                    [x0, rear_y, r],
                    [x1, rear_y, r],
                    [x1, high, r],
                    [x0, high, r],
                ),
                full,
                [0.0, 0.0, -1.0],
                rear,
                self.textures,
            );
            for (x, out) in [(x0, -1.0), (x1, 1.0)] {
                mesh.flat(
                    q([x, deck, r], [x, deck, back], [x, high, back], [x, high, r]),
                    full,
                    [out, 0.0, 0.0],
                    side,
                    self.textures,
                );
            }
            mesh.flat(
                q(
                    [x0, deck, back],
                    [x1, deck, back],
                    [x1, high, back],
                    [x0, high, back],
                ),
                full,
                [0.0, 0.0, 1.0],
                top,
                self.textures,
            );
            mesh.flat(
                q(
                    [x0, high, r],
                    [x1, high, r],
                    [x1, high, back],
                    [x0, high, back],
                ),
                full,
                [0.0, 1.0, 0.0],
                top,
                self.textures,
            );
        }
        if tarp || (open && dice.chance(0.5)) {
            let c = if tarp {
                dice.pick(&[
                    [0.15, 0.30, 0.50],
                    [0.55, 0.50, 0.40],
                    [0.70, 0.55, 0.15],
                    [0.25, 0.33, 0.25],
                ])
            } else {
                dice.pick(&[[0.55, 0.45, 0.30], [0.45, 0.42, 0.38], [0.62, 0.50, 0.25]])
            };
            let load = self.plain(srgb(c), Kind::Matte);
            let bulge = dice.range(0.2, 0.9);
            mesh.ball(
                [0.0, high - 0.05, (r + back) / 2.0],
                [load_half * 0.99, bulge, (back - r) * 0.5],
                6,
                10,
                load,
                self.textures,
            );
        }
        if decorated && dice.chance(0.8) {
            // The crown above the cab.
            let crown = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            mesh.block(
                [-half * 0.95, cab_tall - 0.02, cab],
                [half * 0.95, cab_tall + 0.35, f - 0.4],
                [1.0, 1.0],
                side,
                crown,
                self.textures,
            );
        }
        // Chassis and wheels.
        let frame = self.plain([0.015; 3], Kind::Matte);
        mesh.block(
            [-half * 0.45, 0.45, r + 0.2],
            [half * 0.45, deck + 0.02, cab + 0.3],
            [1.0, 1.0],
            frame,
            frame,
            self.textures,
        );
        mesh.block(
            [-half * 0.9, 0.42, r + 0.05],
            [half * 0.9, 0.58, r + 0.15],
            [1.0, 1.0],
            frame,
            frame,
            self.textures,
        );
        let mut axles = vec![front_wheel];
        let wheel = front_wheel.1;
        match make {
            Make::SemiTrailer => axles.extend([
                (r + 1.2, wheel),
                (r + 2.4, wheel),
                (cab - 0.2, wheel),
                (cab + 1.0, wheel),
            ]),
            Make::BoxTruck => axles.push((r + len * 0.24, wheel * 0.9)),
            _ => axles.extend([(r + len * 0.2, wheel), (r + len * 0.2 + 1.15, wheel)]),
        }
        self.wheels(&mut mesh, dice, &axles, half, 0.16, true);
        let dark = self.plain([0.02; 3], Kind::Matte);
        for side in [-1.0_f32, 1.0] {
            let x = side * (half + 0.16);
            mesh.block(
                [x - 0.09, belt + 0.1, window_front - 0.05],
                [x + 0.09, belt + 0.6, window_front + 0.03],
                [1.0, 1.0],
                dark,
                dark,
                self.textures,
            );
        }
        Self::lamps(&mut mesh, r, f, half * 0.82, deck - 0.15, 1.0);
        Model {
            half_width_m: half + 0.05,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    fn autorickshaw(&mut self, dice: &mut Dice) -> Model {
        let (len, half, tall) = (
            dice.range(2.55, 2.8),
            dice.range(0.62, 0.68),
            dice.range(1.66, 1.78),
        );
        let (r, f) = (-len / 2.0, len / 2.0);
        let belt = dice.range(0.80, 0.92);
        let st = |z: f32, y_low: f32, y_belt: f32, y_top: f32, w: f32, t: f32| Station {
            z,
            y_low,
            y_belt,
            y_top,
            half_low: half * w,
            half_belt: half * w,
            half_top: half * t,
        };
        let stations = vec![
            st(r, 0.34, belt, tall - 0.22, 0.92, 0.84),
            st(r + 0.14, 0.26, belt, tall - 0.05, 1.0, 0.92),
            st(-0.1, 0.26, belt - 0.05, tall, 1.0, 0.94),
            st(f - 0.75, 0.26, belt - 0.05, tall - 0.08, 0.95, 0.88),
            st(f - 0.42, 0.28, belt, belt + 0.10, 0.80, 0.72),
            st(f - 0.12, 0.34, 0.72, 0.74, 0.48, 0.40),
            st(f, 0.42, 0.60, 0.62, 0.34, 0.28),
        ];
        let hood: Rgb = dice.pick(&[
            [0.90, 0.72, 0.06],
            [0.88, 0.70, 0.08],
            [0.06, 0.06, 0.065],
            [0.10, 0.30, 0.14],
            [0.85, 0.66, 0.05],
        ]);
        let body: Rgb = dice.pick(&[
            [0.07, 0.30, 0.14],
            [0.06, 0.06, 0.065],
            [0.88, 0.70, 0.06],
            [0.10, 0.34, 0.20],
            [0.12, 0.22, 0.45],
            [0.55, 0.10, 0.08],
        ]);
        let mut work = self.coachwork(dice, hood, stations);
        work.lower = body;
        work.windows = [r + 0.30, f - 0.55];
        work.pillars = vec![f - 0.95];
        work.window_inset_m = [0.0, 0.16];
        work.front_window = true;
        work.open = true;
        work.top_glass = [[f - 0.74, f - 0.44], [r - 2.0, r - 1.0]];
        work.plate = if dice.chance(0.8) {
            [0.90, 0.74, 0.12]
        } else {
            [0.2, 0.5, 0.25]
        };
        work.lamp_style = 4;
        work.badge = false;
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        let hub = Cover::texture(self.common.hubs[3]);
        let tyre = self.plain(RUBBER, Kind::Matte);
        for side in [-1.0_f32, 1.0] {
            mesh.wheel(
                [side * (half - 0.07), 0.22, r + 0.45],
                0.22,
                0.055,
                0.0,
                hub,
                tyre,
                self.textures,
            );
        }
        mesh.wheel(
            [0.0, 0.22, f - 0.15],
            0.22,
            0.055,
            0.0,
            hub,
            tyre,
            self.textures,
        );
        let guard = self.plain(srgb(body), Kind::Paint);
        mesh.block(
            [-0.12, 0.40, f - 0.34],
            [0.12, 0.47, f + 0.06],
            [1.0, 1.0],
            guard,
            guard,
            self.textures,
        );
        if dice.chance(0.3) {
            let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            mesh.block(
                [-half * 0.6, tall - 0.02, -0.7],
                [half * 0.6, tall + dice.range(0.1, 0.4), 0.2],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        mesh.lamps.push(LampSpot {
            at: [0.0, 0.66, f + 0.02],
            kind: Kind::Head,
        });
        for side in [-1.0, 1.0] {
            mesh.lamps.push(LampSpot {
                at: [side * half * 0.8, 0.5, r - 0.03],
                kind: Kind::Tail,
            });
        }
        Model {
            half_width_m: half,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    pub(super) fn figure(&mut self, dice: &mut Dice, rider: bool) -> Figure {
        let indian = self.place.keeps_left;
        let shirt = skins::cloth(dice, self.noise);
        let shirt = self.push(shirt);
        let skirted = !rider && dice.chance(if indian { 0.42 } else { 0.12 });
        let skirt = if skirted {
            let t = skins::cloth(dice, self.noise);
            Some(if dice.chance(0.5) {
                shirt
            } else {
                self.push(t)
            })
        } else {
            None
        };
        let legs: Rgb = dice.pick(&[
            [0.10, 0.12, 0.20],
            [0.16, 0.20, 0.32],
            [0.07, 0.07, 0.075],
            [0.38, 0.33, 0.26],
            [0.28, 0.27, 0.26],
            [0.80, 0.78, 0.72],
            [0.22, 0.16, 0.12],
        ]);
        let skin: Rgb = if indian {
            dice.pick(&[[0.42, 0.28, 0.20], [0.34, 0.22, 0.16], [0.50, 0.35, 0.25]])
        } else {
            dice.pick(&[
                [0.75, 0.56, 0.46],
                [0.80, 0.62, 0.52],
                [0.46, 0.31, 0.23],
                [0.30, 0.20, 0.15],
            ])
        };
        let helmet = rider && dice.chance(if indian { 0.6 } else { 0.85 });
        let hair: Rgb = if helmet {
            let loud = dice.pick(&LOUD);
            dice.pick(&[[0.05; 3], [0.8; 3], loud])
        } else if indian {
            [0.03; 3]
        } else {
            dice.pick(&[[0.05; 3], [0.22, 0.14, 0.08], [0.55, 0.42, 0.22], [0.45; 3]])
        };
        Figure {
            tall: dice.range(1.48, 1.86)
                * if !rider && dice.chance(0.08) {
                    0.7
                } else {
                    1.0
                },
            build: dice.range(0.85, 1.2),
            shirt,
            legs: srgb(legs),
            skirt,
            skin: srgb(skin),
            hair: srgb(hair),
            helmet,
            bag: dice
                .chance(0.3)
                .then(|| (srgb(dice.pick(&LOUD)), dice.chance(0.6))),
            umbrella: (!rider && dice.chance(0.04)).then(|| srgb(dice.pick(&LOUD))),
            long_hair: skirted && dice.chance(0.7),
        }
    }

    /// Somebody sitting: hips, hands and feet are where the machine has them.
    fn rider(&self, mesh: &mut Mesh, figure: &Figure, hips: V3, lean: f32, hands: V3, feet: V3) {
        let s = figure.tall / 1.75;
        let b = figure.build;
        let shirt = Cover::texture(figure.shirt);
        let legs = self.plain(figure.legs, Kind::Matte);
        let skin = self.plain(figure.skin, Kind::Matte);
        let shoulders = add(hips, [0.0, 0.50 * s * cos(lean), 0.50 * s * sin(lean)]);
        mesh.limb(
            hips,
            shoulders,
            [0.17 * b, 0.20 * b],
            8,
            shirt,
            self.textures,
        );
        let head = add(shoulders, [0.0, 0.22 * s, 0.04]);
        let hair = self.plain(
            figure.hair,
            if figure.helmet {
                Kind::Paint
            } else {
                Kind::Matte
            },
        );
        if figure.helmet {
            mesh.ball(head, [0.135, 0.15, 0.155], 5, 8, hair, self.textures);
        } else {
            mesh.ball(head, [0.095, 0.12, 0.11], 5, 7, skin, self.textures);
            mesh.ball(
                add(head, [0.0, 0.03, -0.02]),
                [0.102, 0.11, 0.105],
                5,
                7,
                hair,
                self.textures,
            );
        }
        for side in [-1.0_f32, 1.0] {
            let shoulder = add(shoulders, [side * 0.19 * b, -0.04, 0.0]);
            let hand = [side * hands[0], hands[1], hands[2]];
            let elbow = add(scale(add(shoulder, hand), 0.5), [side * 0.06, -0.08, -0.03]);
            mesh.limb(shoulder, elbow, [0.06, 0.05], 5, shirt, self.textures);
            mesh.limb(elbow, hand, [0.045, 0.04], 5, skin, self.textures);
            let hip = add(hips, [side * 0.10, -0.02, 0.02]);
            let foot = [side * feet[0], feet[1], feet[2]];
            let knee = [side * (feet[0] + 0.06), hips[1] - 0.06, hips[2] + 0.40 * s];
            mesh.limb(hip, knee, [0.085 * b, 0.065], 5, legs, self.textures);
            mesh.limb(knee, foot, [0.06, 0.045], 5, legs, self.textures);
            let shoe = self.plain([0.02; 3], Kind::Matte);
            mesh.ball(
                add(foot, [0.0, 0.0, 0.05]),
                [0.045, 0.045, 0.11],
                3,
                5,
                shoe,
                self.textures,
            );
        }
        if let Some((colour, true)) = figure.bag {
            let bag = self.plain(colour, Kind::Matte);
            mesh.ball(
                add(shoulders, [0.0, -0.2, -0.22]),
                [0.15, 0.2, 0.11],
                4,
                6,
                bag,
                self.textures,
            );
        }
    }

    fn two_wheeler(&mut self, make: Make, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let paint = srgb(if dice.chance(0.5) {
            dice.pick(&LOUD)
        } else {
            dice.pick(&[[0.05; 3], [0.1, 0.1, 0.12], [0.5; 3], [0.45, 0.04, 0.05]])
        });
        let (radius, base, tyre_half) = match make {
            Make::Scooter => (0.235, 0.62, 0.05),
            Make::Bicycle => (0.335, 0.52, 0.018),
            _ => (0.305, 0.66, 0.055),
        };
        let hub = if make == Make::Bicycle || dice.chance(0.3) {
            Cover::texture(self.common.spokes)
        } else {
            Cover::texture(self.common.hubs[dice.below(3)])
        };
        let tyre = self.plain(RUBBER, Kind::Matte);
        for z in [-base, base] {
            mesh.wheel(
                [0.0, radius, z],
                radius,
                tyre_half,
                0.0,
                hub,
                tyre,
                self.textures,
            );
        }
        let body = self.plain(paint, Kind::Paint);
        let steel = self.plain(STEEL, Kind::Chrome);
        let dark = self.plain([0.02; 3], Kind::Matte);
        let seat_y = match make {
            Make::Scooter => 0.76,
            Make::Bicycle => 0.88,
            _ => 0.78,
        };
        let bar_y = seat_y + 0.22;
        let bar_z = base - 0.20;
        mesh.limb(
            [0.0, radius, base],
            [0.0, bar_y, bar_z],
            [0.035, 0.03],
            5,
            steel,
            self.textures,
        );
        mesh.limb(
            [-0.34, bar_y, bar_z - 0.03],
            [0.34, bar_y, bar_z - 0.03],
            [0.018, 0.018],
            4,
            steel,
            self.textures,
        );
        match make {
            Make::Bicycle => {
                for (a, b) in [
                    ([0.0, radius, -base], [0.0, seat_y - 0.06, -0.18]),
                    ([0.0, 0.30, -0.05], [0.0, seat_y - 0.06, -0.18]),
                    ([0.0, 0.30, -0.05], [0.0, bar_y - 0.2, bar_z + 0.05]),
                    (
                        [0.0, seat_y - 0.12, -0.16],
                        [0.0, bar_y - 0.1, bar_z + 0.02],
                    ),
                    ([0.0, radius, -base], [0.0, 0.30, -0.05]),
                ] {
                    mesh.limb(a, b, [0.022, 0.022], 4, body, self.textures);
                }
                mesh.block(
                    [-0.07, seat_y - 0.05, -0.34],
                    [0.07, seat_y, -0.10],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
            }
            Make::Scooter => {
                mesh.block(
                    [-0.20, 0.28, bar_z - 0.02],
                    [0.20, bar_y - 0.06, bar_z + 0.10],
                    [1.0, 1.0],
                    body,
                    body,
                    self.textures,
                );
                mesh.block(
                    [-0.17, 0.26, -0.12],
                    [0.17, 0.33, bar_z],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
                mesh.ball(
                    [0.0, 0.52, -base + 0.15],
                    [0.20, 0.24, 0.52],
                    5,
                    8,
                    body,
                    self.textures,
                );
                mesh.block(
                    [-0.14, seat_y - 0.06, -base - 0.05],
                    [0.14, seat_y, 0.05],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
            }
            _ => {
                mesh.ball(
                    [0.0, seat_y + 0.02, 0.14],
                    [0.15, 0.13, 0.30],
                    5,
                    7,
                    body,
                    self.textures,
                );
                mesh.ball(
                    [0.0, 0.40, 0.05],
                    [0.16, 0.20, 0.26],
                    4,
                    6,
                    steel,
                    self.textures,
                );
                mesh.block(
                    [-0.12, seat_y - 0.08, -0.72],
                    [0.12, seat_y, -0.05],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
                mesh.limb(
                    [0.13, 0.30, 0.1],
                    [0.14, 0.34, -base - 0.1],
                    [0.04, 0.05],
                    5,
                    steel,
                    self.textures,
                );
                mesh.limb(
                    [0.0, 0.42, -0.2],
                    [0.0, radius, -base],
                    [0.05, 0.04],
                    4,
                    dark,
                    self.textures,
                );
                mesh.block(
                    [-0.07, radius + 0.15, -base - 0.30],
                    [0.07, radius + 0.36, -base - 0.22],
                    [1.0, 1.0],
                    body,
                    body,
                    self.textures,
                );
            }
        }
        if make != Make::Bicycle {
            let tail = self.plain([0.30, 0.01, 0.01], Kind::Tail);
            let (low, high) = (seat_y - 0.16, seat_y - 0.07);
            mesh.block(
                [-0.09, low, -base - 0.14],
                [0.09, high, -base - 0.06],
                [1.0, 1.0],
                tail,
                tail,
                self.textures,
            );
            let plate = self.plain([0.7, 0.7, 0.66], Kind::Retro);
            mesh.block(
                [-0.10, low - 0.20, -base - 0.30],
                [0.10, low - 0.08, -base - 0.28],
                [1.0, 1.0],
                plate,
                plate,
                self.textures,
            );
            let lamp = self.plain([0.7; 3], Kind::Head);
            mesh.ball(
                [0.0, bar_y - 0.08, bar_z + 0.16],
                [0.09, 0.09, 0.07],
                4,
                6,
                lamp,
                self.textures,
            );
            mesh.lamps.push(LampSpot {
                at: [0.0, bar_y - 0.08, bar_z + 0.25],
                kind: Kind::Head,
            });
            mesh.lamps.push(LampSpot {
                at: [0.0, low + 0.04, -base - 0.16],
                kind: Kind::Tail,
            });
            for side in [-1.0_f32, 1.0] {
                mesh.limb(
                    [side * 0.2, bar_y, bar_z],
                    [side * 0.26, bar_y + 0.16, bar_z],
                    [0.008, 0.008],
                    3,
                    dark,
                    self.textures,
                );
                mesh.ball(
                    [side * 0.27, bar_y + 0.18, bar_z],
                    [0.06, 0.04, 0.015],
                    3,
                    5,
                    dark,
                    self.textures,
                );
            }
        }
        let figure = self.figure(dice, true);
        let front_seat = if make == Make::Bicycle { -0.22 } else { -0.12 };
        let lean = dice.range(0.02, 0.22) + if make == Make::Bicycle { 0.2 } else { 0.0 };
        let feet = match make {
            Make::Scooter => [0.14, 0.36, 0.22],
            Make::Bicycle => [0.10, 0.28, 0.0],
            _ => [0.19, 0.34, 0.02],
        };
        self.rider(
            &mut mesh,
            &figure,
            [0.0, seat_y + 0.08, front_seat],
            lean,
            [0.32, bar_y + 0.02, bar_z - 0.05],
            feet,
        );
        if make != Make::Bicycle && dice.chance(self.place.pillion_share) {
            let second = self.figure(dice, true);
            self.rider(
                &mut mesh,
                &second,
                [0.0, seat_y + 0.10, front_seat - 0.38],
                0.03,
                [0.18, seat_y + 0.25, front_seat - 0.12],
                [0.19, 0.36, -0.25],
            );
        } else if self.place.keeps_left && dice.chance(0.2) {
            let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            let w = dice.range(0.2, 0.5);
            mesh.block(
                [-w, seat_y, -base - 0.2],
                [w, seat_y + dice.range(0.25, 0.7), -0.36],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        Model {
            half_width_m: 0.36,
            half_length_m: base + radius,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    /// A bicycle's front half before a bench on two wheels, mostly under a hood.
    fn cycle_rickshaw(&mut self, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let front = self.two_wheeler(Make::Bicycle, dice);
        append(&mut mesh, &front.mesh, [0.0, 0.0, 0.62]);
        let frame = self.plain(srgb(dice.pick(&LOUD)), Kind::Paint);
        let seat = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
        let hood = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
        let steel = self.plain(STEEL, Kind::Chrome);
        let (hub, tyre) = (
            Cover::texture(self.common.spokes),
            self.plain(RUBBER, Kind::Matte),
        );
        let (half, axle, radius) = (dice.range(0.40, 0.50), -0.72, 0.34);
        for side in [-1.0_f32, 1.0] {
            mesh.wheel(
                [side * (half + 0.06), radius, axle],
                radius,
                0.02,
                0.0,
                hub,
                tyre,
                self.textures,
            );
            // From the axle to the pedals.
            mesh.limb(
                [side * half * 0.8, radius, axle],
                [0.0, 0.34, 0.3],
                [0.025, 0.025],
                4,
                steel,
                self.textures,
            );
        }
        let mut block = |low: V3, high: V3, cover: Cover| {
            mesh.block(low, high, [1.0, 1.0], cover, cover, self.textures);
        };
        block([-half, 0.42, -0.98], [half, 0.70, -0.42], frame);
        block([-half, 0.70, -0.96], [half, 0.80, -0.40], seat);
        block([-half, 0.80, -1.02], [half, 1.25, -0.92], seat);
        // Where passengers put their feet.
        block([-half, 0.40, -0.42], [half, 0.44, -0.05], frame);
        if dice.chance(0.7) {
            let (top, ahead) = (dice.range(1.72, 1.90), dice.range(-0.50, -0.15));
            block(
                [-half - 0.04, top - 0.05, -1.0],
                [half + 0.04, top, ahead],
                hood,
            );
            block(
                [-half - 0.04, 1.15, -1.04],
                [half + 0.04, top - 0.05, -1.0],
                hood,
            );
            for side in [-1.0_f32, 1.0] {
                let x = side * (half + 0.03);
                mesh.limb(
                    [x, 0.78, -0.9],
                    [x, top - 0.03, ahead + 0.02],
                    [0.012, 0.012],
                    3,
                    steel,
                    self.textures,
                );
            }
        }
        let passengers = dice.below(3);
        for k in 0..passengers {
            let figure = self.figure(dice, true);
            let x = if passengers == 1 {
                0.0
            } else {
                0.42 * k as f32 - 0.21
            };
            let mut seated = Mesh::default();
            self.rider(
                &mut seated,
                &figure,
                [0.0, 0.86, -0.72],
                -0.04,
                [0.14, 0.98, -0.36],
                [0.09, 0.46, -0.22],
            );
            append(&mut mesh, &seated, [x, 0.0, 0.0]);
        }
        Model {
            half_width_m: half + 0.1,
            half_length_m: 1.3,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    fn tractor(&mut self, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let paint = srgb(dice.pick(&[
            [0.70, 0.10, 0.08],
            [0.12, 0.30, 0.60],
            [0.15, 0.45, 0.20],
            [0.85, 0.45, 0.08],
        ]));
        let body = self.plain(paint, Kind::Paint);
        let dark = self.plain([0.02; 3], Kind::Matte);
        let (hub, tyre) = (
            Cover::texture(self.common.hubs[1]),
            self.plain(RUBBER, Kind::Matte),
        );
        for side in [-1.0_f32, 1.0] {
            mesh.wheel(
                [side * 0.72, 0.72, 0.2],
                0.72,
                0.18,
                0.0,
                hub,
                tyre,
                self.textures,
            );
            mesh.wheel(
                [side * 0.6, 0.40, 2.0],
                0.40,
                0.10,
                0.0,
                hub,
                tyre,
                self.textures,
            );
            mesh.block(
                [side * 0.72 - 0.2, 1.40, -0.3],
                [side * 0.72 + 0.2, 1.48, 0.8],
                [1.0, 1.0],
                body,
                body,
                self.textures,
            );
        }
        mesh.block(
            [-0.32, 0.7, 0.9],
            [0.32, 1.4, 2.4],
            [1.0, 1.0],
            body,
            body,
            self.textures,
        );
        mesh.block(
            [-0.45, 0.6, -0.1],
            [0.45, 0.95, 1.0],
            [1.0, 1.0],
            dark,
            dark,
            self.textures,
        );
        mesh.limb(
            [0.2, 1.4, 1.7],
            [0.2, 2.1, 1.7],
            [0.04, 0.04],
            5,
            dark,
            self.textures,
        );
        let driver = self.figure(dice, true);
        self.rider(
            &mut mesh,
            &driver,
            [0.0, 1.2, 0.2],
            0.1,
            [0.22, 1.45, 0.75],
            [0.25, 0.9, 0.8],
        );
        if dice.chance(0.75) {
            // A trailer with high sides and whatever is on it.
            let side = skins::wall(dice, self.noise);
            let side = Cover::texture(self.push(side));
            let high = dice.range(1.5, 1.9);
            mesh.block(
                [-1.0, 0.75, -4.2],
                [1.0, high, -1.0],
                [0.4, 0.6],
                side,
                dark,
                self.textures,
            );
            let load = self.plain(
                srgb(dice.pick(&[
                    [0.62, 0.52, 0.28],
                    [0.40, 0.36, 0.30],
                    [0.5, 0.24, 0.16],
                    [0.35, 0.42, 0.2],
                ])),
                Kind::Matte,
            );
            let bulge = dice.range(0.2, 1.1);
            mesh.ball(
                [0.0, high - 0.05, -2.6],
                [1.1, bulge, 1.7],
                6,
                10,
                load,
                self.textures,
            );
            for side in [-1.0_f32, 1.0] {
                mesh.wheel(
                    [side * 0.85, 0.45, -2.9],
                    0.45,
                    0.12,
                    0.0,
                    hub,
                    tyre,
                    self.textures,
                );
            }
        }
        Model {
            half_width_m: 1.05,
            half_length_m: 3.2,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    fn cart(&mut self, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let wood = self.plain(srgb([0.36, 0.26, 0.18]), Kind::Matte);
        let (hub, tyre) = (
            Cover::texture(self.common.spokes),
            self.plain(RUBBER, Kind::Matte),
        );
        let pushed = dice.chance(0.6);
        let (half, high) = (dice.range(0.5, 0.85), dice.range(0.75, 0.95));
        for side in [-1.0_f32, 1.0] {
            for z in if pushed { [-0.6, 0.6] } else { [-0.1, 0.1] } {
                mesh.wheel(
                    [side * half, 0.36, z],
                    0.36,
                    0.025,
                    0.0,
                    hub,
                    tyre,
                    self.textures,
                );
            }
        }
        mesh.block(
            [-half - 0.05, high - 0.06, -1.0],
            [half + 0.05, high, 1.0],
            [1.0, 1.0],
            wood,
            wood,
            self.textures,
        );
        let goods: Rgb = dice.pick(&LOUD);
        let load = self.plain(srgb(goods), Kind::Matte);
        for k in 0..4 {
            let z = -0.75 + 0.5 * k as f32;
            let other = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            mesh.ball(
                [0.0, high, z],
                [half * 0.85, dice.range(0.12, 0.4), 0.27],
                4,
                7,
                if k % 2 == 0 { load } else { other },
                self.textures,
            );
        }
        if dice.chance(0.4) {
            let cover = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            for (x, z) in [(-half, -0.9), (half, -0.9), (-half, 0.9), (half, 0.9)] {
                mesh.limb(
                    [x, high, z],
                    [x, 2.0, z],
                    [0.02, 0.02],
                    4,
                    wood,
                    self.textures,
                );
            }
            mesh.block(
                [-half - 0.15, 1.98, -1.1],
                [half + 0.15, 2.1, 1.1],
                [1.0, 1.0],
                cover,
                cover,
                self.textures,
            );
        }
        let figure = self.figure(dice, false);
        let z = if pushed { -1.45 } else { 0.6 };
        let mut walker = Mesh::default();
        figure.pose(0.8, 0.5, self.common.plain, self.textures, &mut walker);
        append(
            &mut mesh,
            &walker,
            [0.0, if pushed { 0.0 } else { high - 0.3 }, z],
        );
        if !pushed {
            let beast = Beast {
                tall: 1.35,
                coat: srgb([0.72, 0.69, 0.63]),
                patch: srgb([0.6, 0.55, 0.5]),
                horns: true,
            };
            for x in if dice.chance(0.5) {
                vec![0.0]
            } else {
                vec![-0.42, 0.42]
            } {
                let mut ox = Mesh::default();
                beast.pose(0.7, self.common.plain, self.textures, &mut ox);
                append(&mut mesh, &ox, [x, 0.0, 2.3]);
            }
        }
        Model {
            half_width_m: half + 0.1,
            half_length_m: if pushed { 1.6 } else { 2.4 },
            mesh: mesh.finish(),
            shape: Shape::Rigid,
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

impl Figure {
    /// On foot: `phase` of the step in radians, `stride` 0 (standing) to 1.
    fn pose(&self, phase: f32, stride: f32, plain: u32, textures: &[Texture], mesh: &mut Mesh) {
        let s = self.tall / 1.75;
        let b = self.build;
        let shirt = Cover::texture(self.shirt);
        let legs = Cover::tinted(plain, self.legs, Kind::Matte);
        let skin = Cover::tinted(plain, self.skin, Kind::Matte);
        let hair = Cover::tinted(plain, self.hair, Kind::Matte);
        let shoe = Cover::tinted(plain, [0.03, 0.027, 0.025], Kind::Matte);
        let bob = 0.02 * stride * cos(2.0 * phase);
        let hip_y = 0.90 * s + bob;
        let shoulder_y = 1.42 * s + bob;
        mesh.limb(
            [0.0, hip_y - 0.04, 0.0],
            [0.0, shoulder_y, 0.03 * stride],
            [0.155 * b, 0.185 * b],
            8,
            shirt,
            textures,
        );
        let head = [0.0, 1.60 * s + bob, 0.05 * stride];
        mesh.ball(head, [0.088 * s, 0.125 * s, 0.10 * s], 5, 7, skin, textures);
        mesh.ball(
            add(head, [0.0, 0.03 * s, -0.02]),
            [0.096 * s, 0.112 * s, 0.10 * s],
            5,
            7,
            hair,
            textures,
        );
        if self.long_hair {
            mesh.ball(
                add(head, [0.0, -0.14, -0.07]),
                [0.08, 0.20, 0.05],
                4,
                6,
                hair,
                textures,
            );
        }
        for side in [-1.0_f32, 1.0] {
            let swing = side * sin(phase) * 0.42 * stride;
            let lift = (side * cos(phase)).max(0.0) * stride;
            let hip = [side * 0.09 * b, hip_y, 0.0];
            let knee = [
                side * 0.09 * b,
                0.48 * s + 0.04 * lift,
                0.40 * s * sin(swing) + 0.08 * lift,
            ];
            let foot = [
                side * 0.09 * b,
                0.07 + 0.12 * lift,
                knee[2] + 0.40 * s * sin(swing * 1.1) - 0.22 * lift,
            ];
            if let Some(skirt) = self.skirt {
                let cloth = Cover::texture(skirt);
                if side < 0.0 {
                    let sway = 0.06 * sin(phase) * stride;
                    mesh.limb(
                        [0.0, 0.14, sway],
                        [0.0, hip_y + 0.05, 0.0],
                        [0.27 * b, 0.17 * b],
                        8,
                        cloth,
                        textures,
                    );
                }
                mesh.limb(knee, foot, [0.05, 0.04], 5, skin, textures);
            } else {
                mesh.limb(hip, knee, [0.085 * b, 0.062], 6, legs, textures);
                mesh.limb(knee, foot, [0.062, 0.05], 5, legs, textures);
            }
            mesh.ball(
                [foot[0], 0.05 + 0.12 * lift, foot[2] + 0.05],
                [0.045, 0.045, 0.12],
                3,
                5,
                shoe,
                textures,
            );
            let arm = -swing * 0.9;
            let shoulder = [side * 0.21 * b, shoulder_y - 0.05, 0.02];
            let elbow = [side * 0.25 * b, shoulder_y - 0.31 * s, 0.30 * sin(arm)];
            let hand = [
                side * 0.24 * b,
                shoulder_y - 0.56 * s,
                0.60 * sin(arm) + 0.08,
            ];
            mesh.limb(shoulder, elbow, [0.058, 0.048], 5, shirt, textures);
            mesh.limb(elbow, hand, [0.044, 0.038], 5, skin, textures);
            if let Some((colour, back)) = self.bag {
                let bag = Cover::tinted(plain, colour, Kind::Matte);
                if side > 0.0 && !back {
                    mesh.ball(
                        add(hand, [0.03, -0.2, 0.0]),
                        [0.07, 0.17, 0.15],
                        4,
                        6,
                        bag,
                        textures,
                    );
                } else if side > 0.0 {
                    mesh.ball(
                        [0.0, shoulder_y - 0.22, -0.2],
                        [0.15, 0.2, 0.1],
                        4,
                        6,
                        bag,
                        textures,
                    );
                }
            }
        }
        if let Some(colour) = self.umbrella {
            let cloth = Cover::tinted(plain, colour, Kind::Matte);
            mesh.limb(
                [0.12, shoulder_y - 0.3, 0.15],
                [0.12, 2.0 * s, 0.12],
                [0.012, 0.012],
                4,
                shoe,
                textures,
            );
            mesh.limb(
                [0.12, 1.85 * s, 0.12],
                [0.12, 2.06 * s, 0.12],
                [0.52, 0.02],
                8,
                cloth,
                textures,
            );
        }
    }
}

impl Beast {
    fn pose(&self, phase: f32, plain: u32, textures: &[Texture], mesh: &mut Mesh) {
        let t = self.tall;
        let coat = Cover::tinted(plain, self.coat, Kind::Matte);
        let patch = Cover::tinted(plain, self.patch, Kind::Matte);
        let dark = Cover::tinted(plain, [0.03, 0.026, 0.023], Kind::Matte);
        mesh.ball(
            [0.0, 0.72 * t, 0.0],
            [0.22 * t, 0.25 * t, 0.62 * t],
            6,
            8,
            coat,
            textures,
        );
        mesh.ball(
            [0.03 * t, 0.76 * t, -0.18 * t],
            [0.205 * t, 0.22 * t, 0.26 * t],
            5,
            7,
            patch,
            textures,
        );
        mesh.ball(
            [0.0, 0.80 * t, 0.42 * t],
            [0.16 * t, 0.20 * t, 0.20 * t],
            5,
            7,
            coat,
            textures,
        );
        for (x, z, shift) in [
            (-1.0_f32, 0.40, 0.0),
            (1.0, 0.40, 3.1),
            (-1.0, -0.44, 3.1),
            (1.0, -0.44, 0.0),
        ] {
            let swing = 0.14 * t * sin(phase + shift);
            let (x, z) = (x * 0.13 * t, z * t);
            let knee = [x, 0.33 * t, z + swing * 0.4];
            mesh.limb(
                [x, 0.66 * t, z],
                knee,
                [0.085 * t, 0.05 * t],
                5,
                coat,
                textures,
            );
            mesh.limb(
                knee,
                [x, 0.04 * t, z + swing],
                [0.045 * t, 0.04 * t],
                5,
                patch,
                textures,
            );
        }
        let nod = 0.03 * t * sin(phase * 0.5);
        let head = [0.0, 0.98 * t + nod, 0.80 * t];
        mesh.limb(
            [0.0, 0.80 * t, 0.50 * t],
            [0.0, 0.97 * t + nod, 0.74 * t],
            [0.14 * t, 0.09 * t],
            6,
            coat,
            textures,
        );
        mesh.limb(
            head,
            [0.0, 0.82 * t + nod, 0.98 * t],
            [0.10 * t, 0.055 * t],
            6,
            coat,
            textures,
        );
        mesh.ball(head, [0.10 * t, 0.11 * t, 0.12 * t], 4, 6, coat, textures);
        for side in [-1.0_f32, 1.0] {
            mesh.ball(
                [side * 0.16 * t, 1.0 * t + nod, 0.76 * t],
                [0.08 * t, 0.035 * t, 0.03 * t],
                3,
                5,
                patch,
                textures,
            );
            if self.horns {
                mesh.limb(
                    [side * 0.06 * t, 1.06 * t + nod, 0.78 * t],
                    [side * 0.15 * t, 1.26 * t + nod, 0.74 * t],
                    [0.03 * t, 0.01 * t],
                    4,
                    dark,
                    textures,
                );
            }
        }
        mesh.limb(
            [0.0, 0.82 * t, -0.60 * t],
            [0.0, 0.36 * t, -0.68 * t],
            [0.03 * t, 0.02 * t],
            4,
            patch,
            textures,
        );
    }
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
