//! A rendered dashcam drive with exact ground truth.
//!
//! Enters: a [`DriveConfig`] (size, length, seed). Leaves: frames as tight RGB bytes and, for each, the
//! [`Truth`] about the car that is to be followed. Pure: no files, no clock; a frame depends on nothing but
//! the configuration and its index, so frames may be rendered in any order.
//!
//! ```
//! use roadhound_edge::scene::{Drive, DriveConfig};
//! let mut drive = Drive::new(DriveConfig { width_px: 320, height_px: 180, ..DriveConfig::default() });
//! let mut rgb = Vec::new();
//! let truth = drive.render(0, &mut rgb);
//! assert_eq!(rgb.len(), 320 * 180 * 3);
//! assert!(truth.visibility > 0.9);
//! ```
//!
//! The picture is a pinhole view of a flat world. The ground is cast per pixel; everything that stands on it is
//! a convex polygon with a procedural skin, painted from far to near with four coverage samples a pixel. The
//! story: the target ahead changes lanes and pulls away, a lorry on a side road hides it for about a second, and
//! it comes back, nearer and in another lane.

use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::mix::hash;

/// Size, length and seed of a drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriveConfig {
    /// Picture width.
    pub width_px: u32,
    /// Picture height.
    pub height_px: u32,
    /// Number of frames; the story is stretched over them.
    pub frames: u32,
    /// Frames per second, for the time stamps.
    pub fps: f32,
    /// Decides colours, offsets, roadside, bounce and sensor noise.
    pub seed: u64,
}

impl Default for DriveConfig {
    fn default() -> Self {
        Self {
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
    /// The whole target, hidden parts included, cut at the borders of the picture.
    pub box_in_image: BoxXywh,
    /// Share of the target's pixels that nothing covers, 0 to 1.
    pub visibility: f32,
    /// Time of the frame.
    pub captured_at: Timestamp,
}

type Rgb = [f32; 3];
type V3 = [f32; 3];

/// Distance at which polygons are cut off in front of the camera.
const NEAR_M: f32 = 0.4;
/// Width of a lane.
const LANE_M: f32 = 3.3;

// ---- numbers from hashes ------------------------------------------------------------------------------------

/// Uniform in 0..1, decided by three integers.
fn unit(seed: u64, a: i64, b: i64) -> f32 {
    let h = hash(seed ^ hash((a as u64) ^ hash(b as u64)));
    (h >> 40) as f32 / (1u64 << 24) as f32
}

fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

fn mix3(a: Rgb, b: Rgb, t: f32) -> Rgb {
    [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)]
}

fn scale3(a: Rgb, k: f32) -> Rgb {
    [a[0] * k, a[1] * k, a[2] * k]
}

/// Smooth curve through `(time, value)` knots.
fn curve(knots: &[(f32, f32)], t: f32) -> f32 {
    let mut last = knots[0];
    for &knot in knots {
        if t < knot.0 {
            let span = (knot.0 - last.0).max(1e-6);
            return mix(last.1, knot.1, smooth((t - last.0) / span));
        }
        last = knot;
    }
    last.1
}

/// Tileable noise in -1..1 with a mip chain, so distant ground fades instead of shimmering.
struct Noise {
    levels: Vec<Vec<f32>>,
}

impl Noise {
    const SIZE: usize = 256;

    fn new(seed: u64) -> Self {
        let n = Self::SIZE;
        let mut base = vec![0.0f32; n * n];
        for (octave, weight) in [(4usize, 0.30), (16, 0.28), (64, 0.24), (256, 0.34)] {
            for y in 0..n {
                for x in 0..n {
                    let (fx, fy) = (
                        x as f32 * octave as f32 / n as f32,
                        y as f32 * octave as f32 / n as f32,
                    );
                    let (ix, iy) = (fx as i64, fy as i64);
                    let (tx, ty) = (smooth(fx.fract()), smooth(fy.fract()));
                    let at = |dx: i64, dy: i64| {
                        let wrap = octave as i64;
                        unit(
                            seed ^ octave as u64,
                            (ix + dx).rem_euclid(wrap),
                            (iy + dy).rem_euclid(wrap),
                        )
                    };
                    let value = mix(mix(at(0, 0), at(1, 0), tx), mix(at(0, 1), at(1, 1), tx), ty);
                    base[y * n + x] += (value * 2.0 - 1.0) * weight;
                }
            }
        }
        let mut levels = vec![base];
        let mut size = n;
        while size > 4 {
            let half = size / 2;
            let fine = &levels[levels.len() - 1];
            let coarse = (0..half * half)
                .map(|i| {
                    let (x, y) = (i % half * 2, i / half * 2);
                    (fine[y * size + x]
                        + fine[y * size + x + 1]
                        + fine[(y + 1) * size + x]
                        + fine[(y + 1) * size + x + 1])
                        / 4.0
                })
                .collect();
            levels.push(coarse);
            size = half;
        }
        Self { levels }
    }

    /// Bilinear sample; `u`, `v` in tiles, `footprint` in tiles per pixel.
    fn at(&self, u: f32, v: f32, footprint: f32) -> f32 {
        let wanted = (footprint * Self::SIZE as f32).max(1.0).log2();
        let level = (wanted as usize).min(self.levels.len() - 1);
        let size = Self::SIZE >> level;
        let map = &self.levels[level];
        let (fx, fy) = ((u - u.floor()) * size as f32, (v - v.floor()) * size as f32);
        let (x0, y0) = (fx as usize % size, fy as usize % size);
        let (x1, y1) = ((x0 + 1) % size, (y0 + 1) % size);
        let (tx, ty) = (fx - fx.floor(), fy - fy.floor());
        mix(
            mix(map[y0 * size + x0], map[y0 * size + x1], tx),
            mix(map[y1 * size + x0], map[y1 * size + x1], tx),
            ty,
        )
    }
}

// ---- camera -------------------------------------------------------------------------------------------------

/// Pinhole camera: x right, y up, z forward; the world is given relative to the point on the road below it.
#[derive(Clone, Copy)]
struct Camera {
    focal_px: f32,
    cx_px: f32,
    cy_px: f32,
    height_m: f32,
    sin_pitch: f32,
    cos_pitch: f32,
    sin_roll: f32,
    cos_roll: f32,
}

impl Camera {
    fn to_view(self, p: V3) -> V3 {
        let y = p[1] - self.height_m;
        let (y, z) = (
            y * self.cos_pitch - p[2] * self.sin_pitch,
            y * self.sin_pitch + p[2] * self.cos_pitch,
        );
        [
            p[0] * self.cos_roll - y * self.sin_roll,
            p[0] * self.sin_roll + y * self.cos_roll,
            z,
        ]
    }

    fn pixel_from_view(self, v: V3) -> [f32; 2] {
        [
            self.cx_px + self.focal_px * v[0] / v[2],
            self.cy_px - self.focal_px * v[1] / v[2],
        ]
    }

    /// Direction of the ray through a pixel, in the level world.
    fn ray(self, x_px: f32, y_px: f32) -> V3 {
        let (vx, vy) = (
            (x_px - self.cx_px) / self.focal_px,
            (self.cy_px - y_px) / self.focal_px,
        );
        let (x, y) = (
            vx * self.cos_roll + vy * self.sin_roll,
            vy * self.cos_roll - vx * self.sin_roll,
        );
        [
            x,
            y * self.cos_pitch + self.sin_pitch,
            self.cos_pitch - y * self.sin_pitch,
        ]
    }
}

// ---- skins --------------------------------------------------------------------------------------------------

/// How a face is coloured. `u` runs to the right and `v` upwards over the face, both 0..1.
#[derive(Clone, Copy)]
enum Skin {
    Shadow,
    Tail(Rgb),
    Nose(Rgb),
    Flank(Rgb),
    Panel(Rgb),
    Glass { paint: Rgb, pillar: f32, split: f32 },
    Tyre,
    LorryFlank { paint: Rgb, stripe: Rgb },
    LorryTail(Rgb),
    Windows { wall: Rgb, columns: f32, rows: f32 },
    Foliage(Rgb),
    Bark,
    Pole,
}

fn inside(u: f32, v: f32, left: f32, right: f32, bottom: f32, top: f32) -> bool {
    u > left && u < right && v > bottom && v < top
}

impl Skin {
    /// Colour and opacity at a point of the face.
    fn shade(self, u: f32, v: f32, noise: &Noise, seed: u64, footprint: f32) -> (Rgb, f32) {
        let offset = (seed % 97) as f32 * 0.137;
        let grain =
            |fu: f32, fv: f32| noise.at(u * fu + offset, v * fv + offset, footprint * fu.max(fv));
        match self {
            Skin::Shadow => {
                let (dx, dy) = ((u - 0.5) * 2.0, (v - 0.5) * 2.0);
                let edge = 1.0 - (dx.powi(4) + dy.powi(4)).min(1.0);
                ([12.0, 12.0, 14.0], 0.75 * smooth(edge * 1.6))
            }
            Skin::Tail(paint) => {
                let mut c = scale3(paint, 0.72 + 0.38 * v + 0.04 * grain(1.0, 1.0));
                if v < 0.30 {
                    c = mix3(scale3(paint, 0.45), [34.0, 34.0, 36.0], 0.75);
                    if v < 0.06
                        || inside(u, v, 0.08, 0.2, 0.08, 0.14)
                        || inside(u, v, 0.8, 0.92, 0.08, 0.14)
                    {
                        c = [18.0, 18.0, 19.0];
                    }
                }
                if (v - 0.32).abs() < 0.02 || (v - 0.93).abs() < 0.015 {
                    c = scale3(paint, 0.4);
                }
                let lamp = !(0.19..=0.81).contains(&u) && v > 0.52 && v < 0.88;
                if lamp {
                    let core = smooth(1.0 - ((v - 0.74).abs() * 6.0));
                    c = mix3([120.0, 12.0, 14.0], [235.0, 60.0, 45.0], core);
                    if v < 0.61 {
                        c = [214.0, 150.0, 90.0];
                    }
                }
                if inside(u, v, 0.36, 0.64, 0.40, 0.58) {
                    let mark = ((u * 61.0) as i64 + seed as i64) % 3 == 0
                        && inside(u, v, 0.385, 0.615, 0.44, 0.55);
                    c = if mark {
                        [48.0, 48.0, 54.0]
                    } else {
                        [226.0, 222.0, 205.0]
                    };
                }
                if inside(u, v, 0.47, 0.53, 0.68, 0.76) {
                    c = [210.0, 212.0, 216.0];
                }
                (c, 1.0)
            }
            Skin::Nose(paint) => {
                let mut c = scale3(paint, 0.7 + 0.4 * v + 0.04 * grain(1.0, 1.0));
                if v < 0.28 {
                    c = scale3(paint, 0.5);
                }
                if inside(u, v, 0.27, 0.73, 0.42, 0.78) {
                    c = if (v * 28.0).fract() < 0.4 {
                        [70.0, 72.0, 76.0]
                    } else {
                        [22.0, 22.0, 24.0]
                    };
                }
                if !(0.22..=0.78).contains(&u) && v > 0.55 && v < 0.85 {
                    c = [246.0, 244.0, 228.0];
                }
                if inside(u, v, 0.36, 0.64, 0.16, 0.32) {
                    c = [222.0, 220.0, 210.0];
                }
                (c, 1.0)
            }
            Skin::Flank(paint) => {
                // Length : height of the flank is about 6.5, so wheel arches are ellipses in (u, v).
                let arch = |centre: f32| (((u - centre) * 6.5).powi(2) + (v - 0.02).powi(2)).sqrt();
                let near = arch(0.19).min(arch(0.80));
                if near < 0.52 {
                    return if near < 0.26 {
                        ([136.0, 138.0, 142.0], 1.0)
                    } else if near < 0.44 {
                        ([26.0, 26.0, 27.0], 1.0)
                    } else {
                        ([14.0, 14.0, 15.0], 1.0)
                    };
                }
                let mut c = scale3(
                    paint,
                    0.55 + 0.45 * smooth(v * 1.4) + 0.05 * grain(2.0, 1.0),
                );
                if (v - 0.62).abs() < 0.03 {
                    c = scale3(c, 1.18);
                }
                if (u - 0.5).abs() < 0.004 || (u - 0.3).abs() < 0.004 || (u - 0.68).abs() < 0.004 {
                    c = scale3(c, 0.5);
                }
                if v < 0.1 {
                    c = [28.0, 28.0, 30.0];
                }
                (c, 1.0)
            }
            Skin::Panel(paint) => (scale3(paint, 1.0 + 0.05 * grain(1.0, 1.0)), 1.0),
            Skin::Glass {
                paint,
                pillar,
                split,
            } => {
                let edge = !inside(u, v, pillar, 1.0 - pillar, 0.06, 0.90);
                if edge || (split > 0.0 && (u - split).abs() < 0.02) {
                    return (scale3(paint, 0.8), 1.0);
                }
                let sky = smooth(v * 1.2 - 0.15 + 0.25 * grain(0.7, 0.7));
                let mut c = mix3([22.0, 27.0, 32.0], [120.0, 138.0, 156.0], sky * 0.7);
                // Head rests seen through the glass.
                if v < 0.45 && ((u - 0.3).abs() < 0.07 || (u - 0.7).abs() < 0.07) {
                    c = scale3(c, 0.55);
                }
                (c, 1.0)
            }
            Skin::Tyre => ([20.0, 20.0, 21.0], 1.0),
            Skin::LorryFlank { paint, stripe } => {
                let mut c = scale3(paint, 0.82 + 0.14 * v + 0.10 * grain(2.0, 1.0));
                if (u * 18.0).fract() < 0.06 {
                    c = scale3(c, 0.84);
                }
                if inside(u, v, 0.0, 1.0, 0.34, 0.48) {
                    c = scale3(stripe, 0.9 + 0.1 * grain(3.0, 1.0));
                }
                // Lettering: blocks of varying height read as a company name.
                if inside(u, v, 0.22, 0.72, 0.58, 0.80) {
                    let column = (u * 64.0) as i64;
                    let tall = unit(seed, column, 5);
                    if column % 5 != 0 && tall > 0.25 && v > 0.58 + 0.08 * unit(seed, column, 9) {
                        c = scale3(stripe, 0.8);
                    }
                }
                if !inside(u, v, 0.006, 0.994, 0.02, 0.985) {
                    c = [96.0, 98.0, 102.0];
                }
                (c, 1.0)
            }
            Skin::LorryTail(paint) => {
                let mut c = scale3(paint, 0.8 + 0.12 * v + 0.08 * grain(1.0, 2.0));
                if (u - 0.5).abs() < 0.008
                    || inside(u, v, 0.36, 0.38, 0.05, 0.95)
                    || inside(u, v, 0.62, 0.64, 0.05, 0.95)
                {
                    c = [120.0, 122.0, 126.0];
                }
                if v < 0.07 {
                    c = if (u * 12.0).fract() < 0.5 {
                        [190.0, 40.0, 36.0]
                    } else {
                        [225.0, 222.0, 214.0]
                    };
                }
                (c, 1.0)
            }
            Skin::Windows {
                wall,
                columns,
                rows,
            } => {
                let mut c = scale3(wall, 0.9 + 0.10 * v + 0.16 * grain(3.0, 3.0));
                let (fu, fv) = ((u * columns).fract(), (v * rows).fract());
                if v > 0.08 && inside(fu, fv, 0.24, 0.76, 0.22, 0.78) {
                    let lit = unit(seed, (u * columns) as i64, (v * rows) as i64);
                    c = mix3(
                        [38.0, 46.0, 56.0],
                        [148.0, 162.0, 176.0],
                        lit * (0.35 + 0.5 * fv),
                    );
                }
                (c, 1.0)
            }
            Skin::Foliage(leaf) => {
                let (dx, dy) = ((u - 0.5) * 2.0, (v - 0.5) * 2.0);
                let ragged = noise.at(u * 0.9 + offset, v * 0.9 + offset, footprint * 0.5);
                let reach = dx * dx + dy * dy + 0.75 * ragged;
                let alpha = smooth((0.92 - reach) * 5.0);
                let light = 0.62 + 0.34 * v - 0.2 * dx + 0.9 * grain(2.2, 2.2);
                (scale3(leaf, light.clamp(0.3, 1.7)), alpha)
            }
            Skin::Bark => (scale3([86.0, 70.0, 56.0], 0.8 + 0.4 * grain(0.5, 2.0)), 1.0),
            Skin::Pole => (scale3([128.0, 128.0, 126.0], 0.7 + 0.5 * u), 1.0),
        }
    }
}

// ---- faces --------------------------------------------------------------------------------------------------

/// One textured quad in the world: corners at (u, v) = (0,0), (1,0), (1,1), (0,1).
#[derive(Clone, Copy)]
struct Face {
    corners: [V3; 4],
    skin: Skin,
    light: f32,
    target: bool,
    seed: u64,
}

fn sub(a: V3, b: V3) -> V3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn cross(a: V3, b: V3) -> V3 {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

fn dot(a: V3, b: V3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// A group of faces painted together, and where it stands.
struct Thing {
    faces: Vec<Face>,
    distance_m: f32,
}

/// Which way a vehicle points.
#[derive(Clone, Copy, PartialEq)]
enum Heading {
    Away,
    Towards,
    Across,
}

/// Places local coordinates (x right, y up, z along, origin at the rear end's middle on the ground).
#[derive(Clone, Copy)]
struct Pose {
    x_m: f32,
    z_m: f32,
    heading: Heading,
    yaw: f32,
}

impl Pose {
    fn world(&self, p: V3) -> V3 {
        let (x, z) = match self.heading {
            Heading::Away => (p[0], p[2]),
            Heading::Towards => (-p[0], -p[2]),
            Heading::Across => (p[2], -p[0]),
        };
        let (sin, cos) = self.yaw.sin_cos();
        [
            self.x_m + x * cos + z * sin,
            p[1],
            self.z_m + z * cos - x * sin,
        ]
    }
}

/// Sun from the upper left, behind the camera.
const SUN: V3 = [-0.42, 0.78, -0.46];

struct Builder {
    faces: Vec<Face>,
    pose: Pose,
    target: bool,
    seed: u64,
}

impl Builder {
    /// Adds a quad given counter-clockwise as seen from outside; faces that look away are dropped.
    fn quad(&mut self, corners: [V3; 4], skin: Skin, eye: V3) {
        let corners = corners.map(|p| self.pose.world(p));
        // Left-handed axes (x right, y up, z forward): this order points outwards.
        let normal = cross(sub(corners[3], corners[0]), sub(corners[1], corners[0]));
        let length = dot(normal, normal).sqrt().max(1e-6);
        if dot(normal, sub(eye, corners[0])) <= 0.0 {
            return;
        }
        let light = 0.66 + 0.42 * (dot(normal, SUN) / length).max(-0.25);
        self.faces.push(Face {
            corners,
            skin,
            light,
            target: self.target,
            seed: self.seed,
        });
    }

    /// The four upright sides and the lid of a box that may taper: `(half width, z rear, z front)` below and above.
    fn prism(
        &mut self,
        y: (f32, f32),
        below: (f32, f32, f32),
        above: (f32, f32, f32),
        skins: [Skin; 4],
        eye: V3,
    ) {
        let [tail, nose, flank, lid] = skins;
        let (b, t) = (below, above);
        let (lo, hi) = y;
        self.quad(
            [
                [-b.0, lo, b.1],
                [b.0, lo, b.1],
                [t.0, hi, t.1],
                [-t.0, hi, t.1],
            ],
            tail,
            eye,
        );
        self.quad(
            [
                [b.0, lo, b.2],
                [-b.0, lo, b.2],
                [-t.0, hi, t.2],
                [t.0, hi, t.2],
            ],
            nose,
            eye,
        );
        self.quad(
            [
                [b.0, lo, b.1],
                [b.0, lo, b.2],
                [t.0, hi, t.2],
                [t.0, hi, t.1],
            ],
            flank,
            eye,
        );
        self.quad(
            [
                [-b.0, lo, b.2],
                [-b.0, lo, b.1],
                [-t.0, hi, t.1],
                [-t.0, hi, t.2],
            ],
            flank,
            eye,
        );
        self.quad(
            [
                [-t.0, hi, t.1],
                [t.0, hi, t.1],
                [t.0, hi, t.2],
                [-t.0, hi, t.2],
            ],
            lid,
            eye,
        );
    }
}

/// Colours that cars are painted in.
const PAINTS: [Rgb; 8] = [
    [176.0, 34.0, 36.0],
    [214.0, 216.0, 218.0],
    [38.0, 66.0, 128.0],
    [58.0, 60.0, 64.0],
    [148.0, 152.0, 156.0],
    [26.0, 92.0, 74.0],
    [200.0, 154.0, 46.0],
    [98.0, 40.0, 52.0],
];

/// A passenger car: half width, length and the height of its shoulder and roof, in metres.
fn car(faces: &mut Vec<Face>, pose: Pose, paint: Rgb, target: bool, seed: u64, eye: V3) {
    let mut b = Builder {
        faces: Vec::new(),
        pose,
        target: false,
        seed,
    };
    let estate = unit(seed, 3, 1) > 0.5;
    let (half, long) = (0.88 + 0.06 * unit(seed, 1, 1), 4.2 + 0.4 * unit(seed, 2, 1));
    let roof = if estate { 1.62 } else { 1.46 };
    let ground = 0.02;
    b.quad(
        [
            [-half - 0.28, ground, -0.35],
            [half + 0.28, ground, -0.35],
            [half + 0.28, ground, long + 0.35],
            [-half - 0.28, ground, long + 0.35],
        ],
        Skin::Shadow,
        eye,
    );
    b.target = target;
    for side in [-1.0f32, 1.0] {
        let (x0, x1) = (side * (half - 0.24), side * (half - 0.02));
        let (l, r) = (x0.min(x1), x0.max(x1));
        for z in [0.02, long - 0.02] {
            b.quad(
                [[l, 0.0, z], [r, 0.0, z], [r, 0.34, z], [l, 0.34, z]],
                Skin::Tyre,
                eye,
            );
            b.quad(
                [[r, 0.0, z], [l, 0.0, z], [l, 0.34, z], [r, 0.34, z]],
                Skin::Tyre,
                eye,
            );
        }
    }
    let plain = Skin::Panel(paint);
    b.prism(
        (0.2, 0.92),
        (half, 0.0, long),
        (half - 0.03, 0.06, long - 0.12),
        [
            Skin::Tail(paint),
            Skin::Nose(paint),
            Skin::Flank(paint),
            plain,
        ],
        eye,
    );
    let (back, back_top) = if estate { (0.08, 0.38) } else { (0.5, 1.05) };
    b.prism(
        (0.9, roof),
        (half - 0.07, back, long - 1.1),
        (half - 0.24, back_top, long - 1.85),
        [
            Skin::Glass {
                paint,
                pillar: 0.09,
                split: 0.0,
            },
            Skin::Glass {
                paint,
                pillar: 0.08,
                split: 0.0,
            },
            Skin::Glass {
                paint,
                pillar: 0.07,
                split: 0.52,
            },
            Skin::Panel(scale3(paint, 1.05)),
        ],
        eye,
    );
    faces.append(&mut b.faces);
}

/// A box lorry with a cab.
fn lorry(faces: &mut Vec<Face>, pose: Pose, paint: Rgb, stripe: Rgb, seed: u64, eye: V3) {
    let mut b = Builder {
        faces: Vec::new(),
        pose,
        target: false,
        seed,
    };
    let (half, body, long) = (1.25, 8.3, 10.4);
    b.quad(
        [
            [-half - 0.4, 0.02, -0.4],
            [half + 0.4, 0.02, -0.4],
            [half + 0.4, 0.02, long + 0.4],
            [-half - 0.4, 0.02, long + 0.4],
        ],
        Skin::Shadow,
        eye,
    );
    let dark = Skin::Panel([36.0, 37.0, 40.0]);
    // Chassis, then the wheels as short dark boxes, the cab, and the body, from low to high.
    b.prism(
        (0.28, 0.78),
        (half - 0.1, 0.1, long - 0.1),
        (half - 0.1, 0.1, long - 0.1),
        [dark; 4],
        eye,
    );
    for z in [1.0, 2.2, 8.9] {
        b.prism(
            (0.0, 0.95),
            (half, z, z + 0.95),
            (half, z + 0.08, z + 0.87),
            [Skin::Tyre; 4],
            eye,
        );
    }
    b.prism(
        (0.6, 2.6),
        (half - 0.05, body + 0.15, long),
        (half - 0.12, body + 0.15, long - 0.25),
        [
            dark,
            Skin::Nose(stripe),
            Skin::Glass {
                paint: stripe,
                pillar: 0.2,
                split: 0.0,
            },
            Skin::Panel(stripe),
        ],
        eye,
    );
    b.prism(
        (0.75, 3.5),
        (half, 0.0, body),
        (half, 0.0, body),
        [
            Skin::LorryTail(paint),
            Skin::Panel(paint),
            Skin::LorryFlank { paint, stripe },
            Skin::Panel(paint),
        ],
        eye,
    );
    faces.append(&mut b.faces);
}

// ---- painting -----------------------------------------------------------------------------------------------

/// Maps the picture to a face's (u, v): the inverse of the homography of its four corners.
struct UvFromPixel([f32; 9]);

impl UvFromPixel {
    /// `None` where the face is seen edge on.
    fn new(corners: &[V3; 4], camera: Camera) -> Option<Self> {
        // A face is a parallelogram or close to one: (u, v) -> c0 + u (c1 - c0) + v (c3 - c0), in view space. A
        // trapezoid's upper edge is handled by the caller's polygon; its skin is stretched by `narrow`.
        let c0 = camera.to_view(corners[0]);
        let eu = sub(camera.to_view(corners[1]), c0);
        let ev = sub(camera.to_view(corners[3]), c0);
        // Columns eu, ev, c0 map (u, v, 1) to a view ray.
        let det = dot(cross(eu, ev), c0);
        if det.abs() < 1e-6 {
            return None;
        }
        let r0 = cross(ev, c0);
        let r1 = cross(c0, eu);
        let r2 = cross(eu, ev);
        let k = 1.0 / det;
        Some(Self([
            r0[0] * k,
            r0[1] * k,
            r0[2] * k,
            r1[0] * k,
            r1[1] * k,
            r1[2] * k,
            r2[0] * k,
            r2[1] * k,
            r2[2] * k,
        ]))
    }

    fn at(&self, ray: V3) -> (f32, f32) {
        let m = &self.0;
        let w = m[6] * ray[0] + m[7] * ray[1] + m[8] * ray[2];
        let u = m[0] * ray[0] + m[1] * ray[1] + m[2] * ray[2];
        let v = m[3] * ray[0] + m[4] * ray[1] + m[5] * ray[2];
        (u / w, v / w)
    }
}

/// Cuts a polygon in view space at the near plane. At most five corners remain.
fn cut_near(corners: [V3; 4]) -> ([V3; 8], usize) {
    let mut out = [[0.0; 3]; 8];
    let mut n = 0;
    for i in 0..4 {
        let (a, b) = (corners[i], corners[(i + 1) % 4]);
        if a[2] >= NEAR_M {
            out[n] = a;
            n += 1;
        }
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M) {
            let t = (NEAR_M - a[2]) / (b[2] - a[2]);
            out[n] = [mix(a[0], b[0], t), mix(a[1], b[1], t), NEAR_M];
            n += 1;
        }
    }
    (out, n)
}

/// Offsets of the coverage samples: a rotated grid, so neither upright nor level edges step.
const SAMPLES: [(f32, f32); 4] = [
    (0.375, 0.125),
    (0.875, 0.375),
    (0.125, 0.625),
    (0.625, 0.875),
];

/// Colour that distance fades to.
const HAZE: Rgb = [196.0, 204.0, 210.0];

fn hazed(colour: Rgb, distance_m: f32) -> Rgb {
    mix3(HAZE, colour, (-distance_m / 190.0).exp())
}

/// The picture being painted, in linear-ish floats, and which pixels are the target's.
struct Canvas {
    width: usize,
    height: usize,
    colour: Vec<Rgb>,
    target: Vec<bool>,
    target_painted: usize,
}

impl Canvas {
    fn face(&mut self, face: &Face, camera: Camera, noise: &Noise) {
        let Some(uv) = UvFromPixel::new(&face.corners, camera) else {
            return;
        };
        let (polygon, n) = cut_near(face.corners.map(|p| camera.to_view(p)));
        if n < 3 {
            return;
        }
        let mut points = [[0.0f32; 2]; 8];
        let (mut x0, mut y0, mut x1, mut y1) = (f32::MAX, f32::MAX, f32::MIN, f32::MIN);
        let mut distance_m = 0.0;
        for (point, corner) in points.iter_mut().zip(&polygon[..n]) {
            *point = camera.pixel_from_view(*corner);
            x0 = x0.min(point[0]);
            y0 = y0.min(point[1]);
            x1 = x1.max(point[0]);
            y1 = y1.max(point[1]);
            distance_m += corner[2] / n as f32;
        }
        let points = &points[..n];
        let area: f32 = (0..n)
            .map(|i| {
                let (a, b) = (points[i], points[(i + 1) % n]);
                a[0] * b[1] - a[1] * b[0]
            })
            .sum();
        let sign = if area < 0.0 { -1.0 } else { 1.0 };
        let columns = (
            x0.floor().max(0.0) as usize,
            (x1.ceil().max(0.0) as usize).min(self.width),
        );
        let rows = (
            y0.floor().max(0.0) as usize,
            (y1.ceil().max(0.0) as usize).min(self.height),
        );
        let footprint = 1.0 / ((x1 - x0).max(1.0)).min((y1 - y0).max(1.0));
        // How much the upper edge is shorter than the lower: the skin is squeezed to match.
        let edge = |a: usize, b: usize| {
            let d = sub(face.corners[a], face.corners[b]);
            dot(d, d).sqrt()
        };
        let narrow = (1.0 - edge(2, 3) / edge(1, 0).max(1e-3)).clamp(-0.9, 0.9);
        for y in rows.0..rows.1 {
            for x in columns.0..columns.1 {
                let covered = SAMPLES
                    .iter()
                    .filter(|(dx, dy)| {
                        let (px, py) = (x as f32 + dx, y as f32 + dy);
                        (0..n).all(|i| {
                            let (a, b) = (points[i], points[(i + 1) % n]);
                            sign * ((b[0] - a[0]) * (py - a[1]) - (b[1] - a[1]) * (px - a[0]))
                                >= 0.0
                        })
                    })
                    .count();
                if covered == 0 {
                    continue;
                }
                let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                let ray = [
                    (px - camera.cx_px) / camera.focal_px,
                    (camera.cy_px - py) / camera.focal_px,
                    1.0,
                ];
                let (mut u, v) = uv.at(ray);
                // A trapezoid's `u` follows its left edge; stretch the row to the full width.
                let v = v.clamp(0.0, 1.0);
                u /= (1.0 - narrow * v).max(0.05);
                let u = u.clamp(0.0, 1.0);
                let (skin, alpha) = face.skin.shade(u, v, noise, face.seed, footprint);
                let alpha = alpha * covered as f32 / SAMPLES.len() as f32;
                if alpha <= 0.0 {
                    continue;
                }
                let lit = hazed(scale3(skin, face.light), distance_m);
                let at = y * self.width + x;
                self.colour[at] = mix3(self.colour[at], lit, alpha);
                if alpha >= 0.5 && !matches!(face.skin, Skin::Shadow) {
                    if face.target && !self.target[at] {
                        self.target_painted += 1;
                    }
                    self.target[at] = face.target;
                }
            }
        }
    }
}

// ---- the drive ----------------------------------------------------------------------------------------------

/// Everything about one moment that is not the camera.
struct Moment {
    /// How far the camera has driven.
    travelled_m: f32,
    /// Sideways place of the camera; 0 is the middle of its lane.
    sideways_m: f32,
    target: Pose,
}

/// A drive that can be rendered frame by frame.
pub struct Drive {
    config: DriveConfig,
    noise: Noise,
    canvas: Canvas,
    things: Vec<Thing>,
    paint: Rgb,
}

/// Seconds that the story takes when it is not stretched.
const STORY_S: f32 = 10.0;
/// Where the side road crosses, in metres from the start.
const CROSSING_M: f32 = 75.0;
/// Half the width of the side road.
const CROSSING_HALF_M: f32 = 4.6;
/// When, in story seconds, the lorry's middle is on the line of sight.
const LORRY_AT_S: f32 = 5.55;
const LORRY_SPEED_M_S: f32 = 7.6;

impl Drive {
    /// Prepares a drive; nothing is rendered yet. A width or height below 16 is raised to 16, no frames to one.
    pub fn new(config: DriveConfig) -> Self {
        let config = DriveConfig {
            width_px: config.width_px.clamp(16, 4096),
            height_px: config.height_px.clamp(16, 4096),
            frames: config.frames.max(1),
            fps: if config.fps > 0.0 { config.fps } else { 30.0 },
            seed: config.seed,
        };
        let pixels = config.width_px as usize * config.height_px as usize;
        let paint = PAINTS[(hash(config.seed) % 3) as usize * 2];
        Self {
            config,
            noise: Noise::new(config.seed),
            canvas: Canvas {
                width: config.width_px as usize,
                height: config.height_px as usize,
                colour: vec![[0.0; 3]; pixels],
                target: vec![false; pixels],
                target_painted: 0,
            },
            things: Vec::new(),
            paint,
        }
    }

    /// The configuration in force, after clamping.
    pub fn config(&self) -> &DriveConfig {
        &self.config
    }

    fn story_s(&self, index: u32) -> f32 {
        index as f32 / self.config.frames as f32 * STORY_S
    }

    fn moment(&self, t: f32) -> Moment {
        let seed = self.config.seed;
        let wobble = |k: i64, reach: f32| (unit(seed, 77, k) * 2.0 - 1.0) * reach;
        // Slows down towards the crossing, waits for no one, and speeds up after it.
        let speed = [
            (0.0, 13.0),
            (3.0, 12.0),
            (5.0, 5.5),
            (6.4, 5.5),
            (8.0, 12.0),
            (10.0, 13.0),
        ];
        let steps = 64;
        let travelled_m = (0..steps)
            .map(|i| curve(&speed, t * (i as f32 + 0.5) / steps as f32) * t / steps as f32)
            .sum();
        let gap = curve(
            &[
                (0.0, 9.5 + wobble(1, 0.8)),
                (2.6, 14.0 + wobble(2, 1.0)),
                (4.6, 23.0),
                (6.4, 24.5),
                (9.0, 8.2 + wobble(3, 0.6)),
                (10.0, 9.0),
            ],
            t,
        );
        let lane = curve(
            &[
                (0.5, 0.15),
                (2.4, -LANE_M + wobble(4, 0.3)),
                (3.1, -LANE_M + wobble(4, 0.3)),
                (4.9, 0.1),
                (6.8, 0.0),
                (8.8, LANE_M * 0.9 + wobble(5, 0.25)),
            ],
            t,
        );
        let ahead = |t: f32| {
            curve(
                &[
                    (0.5, 0.15),
                    (2.4, -LANE_M),
                    (3.1, -LANE_M),
                    (4.9, 0.1),
                    (6.8, 0.0),
                    (8.8, LANE_M * 0.9),
                ],
                t,
            )
        };
        // Lane changes turn the car by the slope of its path.
        let yaw = ((ahead(t + 0.1) - ahead(t - 0.1)) / 0.2 / 11.0).atan();
        Moment {
            travelled_m,
            sideways_m: 0.25 * (t * 0.7).sin(),
            target: Pose {
                x_m: lane,
                z_m: gap,
                heading: Heading::Away,
                yaw,
            },
        }
    }

    fn camera(&self, index: u32, t: f32) -> Camera {
        let (w, h) = (self.config.width_px as f32, self.config.height_px as f32);
        // Bounce: a suspension that rings after small bumps, plus a tremor that is new in every frame.
        let bump = (t * 7.3).sin() * (0.5 + 0.5 * (t * 0.9).sin()) * 0.0035
            + (t * 17.0 + 1.0).sin() * 0.0016
            + (unit(self.config.seed, i64::from(index), 31) - 0.5) * 0.0016;
        let (sin_pitch, cos_pitch) = (-0.035 + bump).sin_cos();
        let (sin_roll, cos_roll) = (0.006 * (t * 1.7).sin()).sin_cos();
        Camera {
            focal_px: 0.92 * w,
            cx_px: w * 0.5 + w * 0.008 * (t * 0.6).sin(),
            cy_px: h * 0.47,
            height_m: 1.32 + 0.02 * (t * 6.1).sin(),
            sin_pitch,
            cos_pitch,
            sin_roll,
            cos_roll,
        }
    }

    /// Renders frame `index` into `out_rgb`, which is resized to `width * height * 3` bytes, and tells the truth
    /// about it. An index behind the last frame shows the last frame.
    pub fn render(&mut self, index: u32, out_rgb: &mut Vec<u8>) -> Truth {
        let index = index.min(self.config.frames - 1);
        let t = self.story_s(index);
        let moment = self.moment(t);
        let camera = self.camera(index, t);
        self.backdrop(&moment, camera);
        self.populate(t, &moment);
        self.canvas.target.fill(false);
        self.canvas.target_painted = 0;
        let mut bounds = (f32::MAX, f32::MAX, f32::MIN, f32::MIN);
        for thing in &self.things {
            for face in &thing.faces {
                self.canvas.face(face, camera, &self.noise);
                if face.target {
                    let (polygon, n) = cut_near(face.corners.map(|p| camera.to_view(p)));
                    for corner in &polygon[..n] {
                        let [x, y] = camera.pixel_from_view(*corner);
                        bounds = (
                            bounds.0.min(x),
                            bounds.1.min(y),
                            bounds.2.max(x),
                            bounds.3.max(y),
                        );
                    }
                }
            }
        }
        let painted = self.canvas.target_painted;
        self.finish(index, out_rgb);
        let left = self.canvas.target.iter().filter(|&&mine| mine).count();
        let (w, h) = (self.config.width_px as f32, self.config.height_px as f32);
        let (x0, y0) = (bounds.0.clamp(0.0, w), bounds.1.clamp(0.0, h));
        let (x1, y1) = (bounds.2.clamp(0.0, w), bounds.3.clamp(0.0, h));
        Truth {
            box_in_image: BoxXywh::new(x0, y0, (x1 - x0).max(0.0), (y1 - y0).max(0.0)),
            visibility: if painted == 0 {
                0.0
            } else {
                left as f32 / painted as f32
            },
            captured_at: Timestamp(
                (f64::from(index) / f64::from(self.config.fps) * 1e6).round() as u64,
            ),
        }
    }

    /// Sky, hills and the ground.
    fn backdrop(&mut self, moment: &Moment, camera: Camera) {
        let (width, height) = (self.canvas.width, self.canvas.height);
        let noise = &self.noise;
        for y in 0..height {
            for x in 0..width {
                let ray = camera.ray(x as f32 + 0.5, y as f32 + 0.5);
                let slope = ray[1] / ray[2];
                let bearing = ray[0] / ray[2];
                self.canvas.colour[y * width + x] = if slope < -0.003 {
                    ground(noise, moment, camera, ray)
                } else {
                    sky(noise, bearing, slope)
                };
            }
        }
    }

    /// Everything that stands on the road at story time `t`, from far to near.
    fn populate(&mut self, t: f32, moment: &Moment) {
        let seed = self.config.seed;
        let eye = [0.0, 1.32, 0.0];
        self.things.clear();
        let shift = moment.sideways_m;
        let mut add = |distance_m: f32, faces: Vec<Face>| {
            if !faces.is_empty() {
                self.things.push(Thing { faces, distance_m });
            }
        };

        // Roadside: one slot every few metres on each side, what stands there decided by the slot's hash.
        let pitch_m = 7.0;
        let first = (moment.travelled_m / pitch_m).floor() as i64;
        for slot in first..first + 24 {
            for (side, k) in [(-1.0f32, 1i64), (1.0, 2)] {
                let along = slot as f32 * pitch_m + pitch_m * 0.5;
                let z = along - moment.travelled_m;
                if (along - CROSSING_M).abs() < CROSSING_HALF_M + 5.0 || z < 1.5 {
                    continue;
                }
                let what = unit(seed, slot, 100 + k);
                let item = hash(seed ^ hash(slot as u64 * 4 + k as u64));
                let inner = if side < 0.0 {
                    2.0 * LANE_M + 1.6
                } else {
                    1.5 * LANE_M + 1.6
                };
                let x = side * (inner + 1.2 + 5.0 * unit(seed, slot, 110 + k)) - shift;
                let mut b = Builder {
                    faces: Vec::new(),
                    pose: Pose {
                        x_m: x,
                        z_m: z,
                        heading: Heading::Away,
                        yaw: 0.0,
                    },
                    target: false,
                    seed: item,
                };
                if what < 0.42 {
                    let tall = 4.5 + 3.5 * unit(seed, slot, 120 + k);
                    let wide = tall * (0.30 + 0.12 * unit(seed, slot, 121 + k));
                    let leaf = mix3(
                        [58.0, 88.0, 42.0],
                        [112.0, 118.0, 58.0],
                        unit(seed, slot, 122 + k),
                    );
                    b.quad(
                        [
                            [-0.14, 0.0, 0.0],
                            [0.14, 0.0, 0.0],
                            [0.14, tall * 0.5, 0.0],
                            [-0.14, tall * 0.5, 0.0],
                        ],
                        Skin::Bark,
                        eye,
                    );
                    b.quad(
                        [
                            [-wide, tall * 0.28, 0.0],
                            [wide, tall * 0.28, 0.0],
                            [wide, tall, 0.0],
                            [-wide, tall, 0.0],
                        ],
                        Skin::Foliage(leaf),
                        eye,
                    );
                    b.quad(
                        [
                            [-wide * 0.8, tall * 0.42, -0.3],
                            [wide * 0.6, tall * 0.42, -0.3],
                            [wide * 0.6, tall * 0.92, -0.3],
                            [-wide * 0.8, tall * 0.92, -0.3],
                        ],
                        Skin::Foliage(scale3(leaf, 1.12)),
                        eye,
                    );
                } else if what < 0.66 {
                    let (wide, tall, deep) = (
                        3.0 + 1.5 * unit(seed, slot, 130 + k),
                        4.0 + 5.0 * unit(seed, slot, 131 + k),
                        6.2,
                    );
                    let wall = mix3(
                        [150.0, 132.0, 116.0],
                        [186.0, 186.0, 178.0],
                        unit(seed, slot, 132 + k),
                    );
                    b.pose.x_m = side * (inner + 4.5 + wide) - shift;
                    let rows = (tall / 2.6).round().max(1.0);
                    let skin = Skin::Windows {
                        wall,
                        columns: 3.0,
                        rows,
                    };
                    b.prism(
                        (0.0, tall),
                        (wide, -3.1, deep - 3.1),
                        (wide, -3.1, deep - 3.1),
                        [skin, skin, skin, Skin::Panel(wall)],
                        eye,
                    );
                } else if what < 0.80 {
                    b.pose.x_m = side * (inner + 0.3) - shift;
                    b.quad(
                        [
                            [-0.07, 0.0, 0.0],
                            [0.07, 0.0, 0.0],
                            [0.05, 6.4, 0.0],
                            [-0.05, 6.4, 0.0],
                        ],
                        Skin::Pole,
                        eye,
                    );
                    b.quad(
                        [
                            [-0.05, 6.3, 0.0],
                            [-side * 1.6, 6.5, 0.0],
                            [-side * 1.6, 6.6, 0.0],
                            [-0.05, 6.42, 0.0],
                        ],
                        Skin::Pole,
                        eye,
                    );
                } else if what < 0.92 && side > 0.0 {
                    let pose = Pose {
                        x_m: inner - 0.75 - shift,
                        z_m: z - 2.0,
                        heading: Heading::Away,
                        yaw: 0.0,
                    };
                    car(
                        &mut b.faces,
                        pose,
                        PAINTS[(item % 8) as usize],
                        false,
                        item,
                        eye,
                    );
                } else {
                    let wide = 1.0 + unit(seed, slot, 140 + k);
                    b.quad(
                        [
                            [-wide, 0.0, 0.0],
                            [wide, 0.0, 0.0],
                            [wide, 1.5, 0.0],
                            [-wide, 1.5, 0.0],
                        ],
                        Skin::Foliage([74.0, 96.0, 50.0]),
                        eye,
                    );
                }
                add(z, b.faces);
            }
        }

        // Oncoming cars on the far lane, and one that goes the same way in the lane to the right.
        for n in 0..3i64 {
            let start = 46.0 + 58.0 * n as f32 + 12.0 * unit(seed, n, 200);
            let z = start - moment.travelled_m - 9.0 * t;
            let clear_of_lorry = (start - 9.0 * LORRY_AT_S - CROSSING_M).abs() > 14.0;
            if (-2.0..120.0).contains(&z) && clear_of_lorry {
                let mut faces = Vec::new();
                let pose = Pose {
                    x_m: -1.55 * LANE_M - 0.4 - shift,
                    z_m: z + 4.4,
                    heading: Heading::Towards,
                    yaw: 0.0,
                };
                car(
                    &mut faces,
                    pose,
                    PAINTS[((hash(seed) >> 8) as usize + n as usize * 3 + 1) % 8],
                    false,
                    seed ^ (n as u64 + 40),
                    eye,
                );
                add(z + 2.0, faces);
            }
        }
        let beside = curve(&[(0.0, 15.0), (3.0, 24.0), (5.0, 40.0), (10.0, 46.0)], t);
        let mut faces = Vec::new();
        let pose = Pose {
            x_m: 0.95 * LANE_M - shift,
            z_m: beside,
            heading: Heading::Away,
            yaw: 0.0,
        };
        car(
            &mut faces,
            pose,
            PAINTS[((hash(seed ^ 5)) % 8) as usize],
            false,
            seed ^ 99,
            eye,
        );
        add(beside, faces);

        // The lorry on the side road.
        let z = CROSSING_M - moment.travelled_m;
        let x = (t - LORRY_AT_S) * LORRY_SPEED_M_S - 4.2;
        if x.abs() < 45.0 && z > 3.0 {
            let mut faces = Vec::new();
            let pose = Pose {
                x_m: x - shift,
                z_m: z + 1.2,
                heading: Heading::Across,
                yaw: 0.0,
            };
            lorry(
                &mut faces,
                pose,
                [218.0, 216.0, 208.0],
                [38.0, 92.0, 156.0],
                seed ^ 11,
                eye,
            );
            add(z, faces);
        }

        let mut faces = Vec::new();
        let pose = Pose {
            x_m: moment.target.x_m - shift,
            ..moment.target
        };
        car(&mut faces, pose, self.paint, true, seed ^ 1, eye);
        add(moment.target.z_m, faces);
        self.things
            .sort_by(|a, b| b.distance_m.total_cmp(&a.distance_m));
    }

    /// Bonnet, lens and sensor: vignette, noise, rounding to bytes.
    fn finish(&mut self, index: u32, out_rgb: &mut Vec<u8>) {
        let (width, height) = (self.canvas.width, self.canvas.height);
        out_rgb.resize(width * height * 3, 0);
        let (w, h) = (width as f32, height as f32);
        let seed = hash(self.config.seed ^ u64::from(index).wrapping_mul(0x1_0001));
        for (y, row) in out_rgb.chunks_exact_mut(width * 3).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let (dx, dy) = (x as f32 / w - 0.5, y as f32 / h - 0.5);
                let mut colour = self.canvas.colour[y * width + x];
                // The edge of our own bonnet, out of focus.
                let bonnet = h * (0.955 + 0.16 * dx * dx);
                let depth = smooth((y as f32 - bonnet) / (0.02 * h) + 0.5);
                if depth > 0.0 {
                    let shine =
                        34.0 + 46.0 * (1.0 - ((y as f32 - bonnet) / (0.05 * h)).clamp(0.0, 1.0));
                    colour = mix3(colour, [shine, shine * 1.02, shine * 1.06], depth);
                    if depth > 0.5 {
                        self.canvas.target[y * width + x] = false;
                    }
                }
                let vignette = 1.0 - 0.42 * (dx * dx + dy * dy);
                let bits = hash(seed ^ (y * width + x) as u64);
                let mut shift = 0;
                for (channel, value) in pixel.iter_mut().zip(colour) {
                    let lit = value * vignette;
                    // The sum of two uniforms is close enough to a bell; brighter pixels are noisier.
                    let n = ((bits >> shift) & 0xff) as f32 + ((bits >> (shift + 8)) & 0xff) as f32
                        - 255.0;
                    shift += 16;
                    *channel = (lit + n * (0.022 + 0.00006 * lit)).clamp(0.0, 255.0) as u8;
                }
            }
        }
    }
}

fn sky(noise: &Noise, bearing: f32, slope: f32) -> Rgb {
    let mut c = mix3(
        [206.0, 214.0, 220.0],
        [112.0, 150.0, 196.0],
        smooth(slope * 2.6),
    );
    let cloud = noise.at(bearing * 0.22 + 0.1, slope * 0.75, 0.002);
    c = mix3(
        c,
        [236.0, 238.0, 240.0],
        smooth(cloud * 1.6 - 0.05) * smooth(slope * 9.0),
    );
    let ridge = 0.030
        + 0.045 * noise.at(bearing * 0.16 + 0.37, 0.2, 0.02).abs()
        + 0.012 * noise.at(bearing * 0.9, 0.7, 0.01);
    if slope < ridge {
        let shade = 0.1 * noise.at(bearing * 2.0, slope * 6.0, 0.01);
        c = mix3(scale3([120.0, 134.0, 132.0], 1.0 + shade), HAZE, 0.35);
    }
    c
}

fn ground(noise: &Noise, moment: &Moment, camera: Camera, ray: V3) -> Rgb {
    let reach = camera.height_m / -ray[1];
    let (x, z) = (ray[0] * reach, ray[2] * reach);
    let along = z + moment.travelled_m;
    let across = x + moment.sideways_m;
    // Metres per pixel, sideways and along: what a mark must be blurred to.
    let fine = z / camera.focal_px;
    let coarse = z * z / (camera.focal_px * camera.height_m);
    let grain = noise.at(across / 3.1, along / 3.1, coarse / 3.1 * 0.5);
    let patch = noise.at(across / 23.0 + 0.3, along / 41.0, coarse / 41.0);
    let (left, right) = (-2.0 * LANE_M - 0.6, 1.5 * LANE_M + 0.6);
    let soft = |edge: f32, at: f32, width: f32| smooth((at - edge) / width.max(1e-3) + 0.5);
    let asphalt = {
        let tone = 96.0 + 16.0 * grain + 14.0 * patch;
        // Wheel tracks are polished, the middle of a lane is oiled.
        let lane = (across / LANE_M + 0.5).rem_euclid(1.0) - 0.5;
        let tone = tone + 5.0 * (-(lane.abs() - 0.26).powi(2) * 90.0).exp()
            - 7.0 * (-lane * lane * 60.0).exp();
        [tone, tone, tone * 1.015]
    };
    let verge = {
        let dry = smooth(0.5 + patch);
        let c = mix3([88.0, 104.0, 56.0], [142.0, 132.0, 92.0], dry);
        scale3(c, 0.92 + 0.42 * grain)
    };
    let kerb = mix3(
        [158.0, 156.0, 150.0],
        [128.0, 124.0, 118.0],
        0.5 + 0.5 * grain,
    );
    let crossing = smooth((CROSSING_HALF_M - (along - CROSSING_M).abs()) / coarse.max(0.1) + 0.5);
    let road = soft(left, across, fine) * soft(-right, -across, fine);
    let border = soft(left - 0.5, across, fine) * soft(-right - 0.5, -across, fine);
    let mut c = mix3(mix3(verge, kerb, border), asphalt, road.max(crossing));
    // Marks: edge lines, a broken line between our lanes, a double line against the oncoming traffic.
    let stripe = |centre: f32, half: f32| {
        let inside = (half - (across - centre).abs()) / fine.max(0.02) + 0.5;
        (inside.clamp(0.0, 1.0)) * (2.0 * half / (2.0 * half).max(fine)).min(1.0)
    };
    let dash = {
        let phase = (along / 9.0).rem_euclid(1.0) * 9.0;
        let on = (((phase - 1.0).min(4.5 - phase)) / coarse.max(0.1) + 0.5).clamp(0.0, 1.0);
        mix(on, 0.39, smooth(coarse / 9.0 - 0.2))
    };
    let worn = (0.86 + 0.28 * grain).clamp(0.4, 1.0) * (1.0 - crossing);
    let white = [222.0, 222.0, 216.0];
    c = mix3(c, white, stripe(right - 0.55, 0.07) * worn);
    c = mix3(c, white, stripe(left + 0.55, 0.07) * worn);
    c = mix3(c, white, stripe(0.5 * LANE_M, 0.06) * dash * worn);
    c = mix3(
        c,
        [214.0, 176.0, 72.0],
        (stripe(-1.5 * LANE_M + 0.35 + 0.12, 0.055) + stripe(-1.5 * LANE_M + 0.35 - 0.12, 0.055))
            .min(1.0)
            * worn,
    );
    c = mix3(c, white, stripe(-0.5 * LANE_M, 0.06) * dash * worn);
    // Stop line before the crossing.
    let stop = ((0.22 - (along - (CROSSING_M - CROSSING_HALF_M - 1.0)).abs()) / coarse.max(0.05)
        + 0.5)
        .clamp(0.0, 1.0);
    if across > -1.3 * LANE_M && across < right - 0.6 {
        c = mix3(c, white, stop * 0.8);
    }
    hazed(c, z)
}
