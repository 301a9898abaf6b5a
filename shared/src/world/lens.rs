//! From light to bytes: motion blur, rain, windscreen, lens, sensor.

use alloc::vec::Vec;

use super::Sequence;
use super::drops::{BLADE, Screen, refracted};
use super::frame::{Light, Scratch, View};
use super::math::{
    NO_FRACTION, Rgb, add, cos, floor, larger, luma, mix, ramp, scale, sin, smaller, smooth,
};
use super::random::{Dice, hash};

/// The tone curve is a table by the upper bits of a float: so many steps an octave, between two powers of two.
const TONE_STEP_BITS: u32 = 8;
const TONE_LOW: f32 = 1.0 / 4096.0;
const TONE_OCTAVES: u32 = 15;
/// Light above this is white; two to the power of what is left of the octaves.
const TONE_HIGH: f32 = 7.99;

/// The table is filled up to a power of two, so that any index masked to it is inside.
const TONE_ENTRIES: usize = (TONE_OCTAVES as usize + 1) << TONE_STEP_BITS;

/// Place in the tone curve.
#[inline]
fn tone_index(light: f32) -> u32 {
    let bits = smaller(larger(light, TONE_LOW), TONE_HIGH).to_bits();
    (bits - TONE_LOW.to_bits()) >> (23 - TONE_STEP_BITS)
}

/// Streams of the sensor's noise that go on together.
const STREAMS: usize = 16;

/// The next number of a stream.
#[inline]
fn xorshift(x: u32) -> u32 {
    let x = x ^ x << 13;
    let x = x ^ x >> 17;
    x ^ x << 5
}

/// Motion below this many pixels is not worth blurring.
const STILL_PX: f32 = 0.7;
/// Longest blur.
const LONGEST_BLUR_PX: f32 = 26.0;
/// Places that are averaged along the longest blur: three pixels apart, which the next pixel's fill in.
const MOST_TAPS: f32 = 9.0;
/// Places along a blur have this many bits after the point.
const FIXED_BITS: u32 = 12;
const FIXED_HALF: f32 = (1 << (FIXED_BITS - 1)) as f32;

fn brighter(a: Light, b: Rgb) -> Light {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2], 0.0]
}

/// Pixels whose ways are worked out together.
const BLOCK: usize = 8;

/// Where the light of pixels is collected: at so many places (none where they hardly move) along a line, relative to the
/// pixel's corner, in fixed point; and the share of each.
struct Ways {
    taps: [i32; BLOCK],
    from: [[i32; BLOCK]; 2],
    step: [[i32; BLOCK]; 2],
    share: [f32; BLOCK],
}

impl Ways {
    /// From half the way back to half the way forth; the middle of a pixel is one half.
    #[inline]
    fn new(moves: &[[f32; 2]; BLOCK]) -> Self {
        let mut ways = Self {
            taps: [0; BLOCK],
            from: [[0; BLOCK]; 2],
            step: [[0; BLOCK]; 2],
            share: [0.0; BLOCK],
        };
        for (k, &[fx, fy]) in moves.iter().enumerate() {
            let len = larger(fx.abs(), fy.abs());
            let cut = smaller(LONGEST_BLUR_PX / larger(len, STILL_PX), 1.0);
            let taps = smaller(floor(len * cut * 0.7) + 2.0, MOST_TAPS);
            let share = 1.0 / taps;
            let back = (taps - 1.0) * 0.5;
            let (step_x, step_y) = (fixed(fx * cut * share), fixed(fy * cut * share));
            ways.taps[k] = if len < STILL_PX { 0 } else { nearest(taps) };
            ways.share[k] = share;
            ways.step[0][k] = nearest(step_x);
            ways.step[1][k] = nearest(step_y);
            ways.from[0][k] = nearest(FIXED_HALF - step_x * back);
            ways.from[1][k] = nearest(FIXED_HALF - step_y * back);
        }
        ways
    }
}

#[inline]
fn fixed(px: f32) -> f32 {
    floor(px * (1 << FIXED_BITS) as f32)
}

/// The nearest whole number of one below two to the power of 22.
#[inline]
fn nearest(value: f32) -> i32 {
    (value + NO_FRACTION)
        .to_bits()
        .wrapping_sub(NO_FRACTION.to_bits()) as i32
}

/// Output levels (0..255) by [`tone_index`].
pub(super) fn tone_curve(contrast: f32, black: f32) -> Vec<f32> {
    (0..TONE_ENTRIES as u32)
        .map(|i| {
            let x = f32::from_bits(
                TONE_LOW.to_bits() + (i << (23 - TONE_STEP_BITS)) + (1 << (22 - TONE_STEP_BITS)),
            );
            // Reinhard's curve with a white point, then sRGB's power and some contrast about the middle.
            let y = x * (1.0 + x / 3.2) / (1.0 + x);
            let y = libm::powf(y.clamp(0.0, 1.0), 1.0 / 2.2);
            let y = (0.50 + (y - 0.50) * contrast - 0.02).clamp(0.0, 1.0);
            255.0 * (black + y * (1.0 - black))
        })
        .collect()
}

impl Sequence {
    pub(super) fn develop(
        &self,
        frame: u32,
        view: &View,
        scratch: &mut Scratch,
        rgb: &mut Vec<u8>,
    ) {
        let (width, height) = scratch.size();
        rgb.resize(width * height * 3, 0);
        // What lies over the picture needs all of it; where nothing does, a row is done with while it is at hand.
        let covered = !scratch.glows.is_empty() || self.light.rain > 0.0;
        if covered {
            let Scratch {
                colour,
                other,
                flow,
                ..
            } = scratch;
            for (y, line) in other.chunks_exact_mut(width).enumerate() {
                self.blur_row(y, (width, height), colour, flow, line);
            }
            self.add_glows(scratch);
            self.add_rain(frame, view, scratch);
            self.add_drops(view, scratch);
        }
        let Scratch {
            colour,
            other,
            flow,
            rows,
            ..
        } = scratch;
        let glass = Glass::new(self, frame, view);
        let mut sensor = Sensor::new(self, frame, width);
        // A row of bytes needs light of the rows above and below.
        for y in 0..=height {
            if y < height {
                let line = if covered {
                    &other[y * width..(y + 1) * width]
                } else {
                    let line = &mut other[..width];
                    self.blur_row(y, (width, height), colour, flow, line);
                    line
                };
                glass.tone_row(y, line, &mut rows[y % KEPT_ROWS]);
            }
            if let Some(y) = y.checked_sub(1) {
                let near = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
                let near = near.map(|y| &rows[y % KEPT_ROWS]);
                sensor.expose_row(y, near, &mut rgb[y * width * 3..(y + 1) * width * 3]);
            }
        }
    }

    /// Light smeared along the way that each point takes while the shutter is open.
    #[inline(never)]
    fn blur_row(
        &self,
        y: usize,
        (width, height): (usize, usize),
        colour: &[Light],
        flow: &[[f32; 2]],
        out: &mut [Light],
    ) {
        let (last_column, last_row) = (width as i32 - 1, height as i32 - 1);
        let row = y * width..(y + 1) * width;
        let still = &colour[row.clone()];
        let blocks = flow[row]
            .chunks(BLOCK)
            .zip(out.chunks_mut(BLOCK))
            .enumerate();
        for (block, (flow, out)) in blocks {
            let left = block * BLOCK;
            let mut moves = [[0.0; 2]; BLOCK];
            moves[..flow.len()].copy_from_slice(flow);
            let ways = Ways::new(&moves);
            for (k, out) in out.iter_mut().enumerate() {
                let x = left + k;
                let (taps, share) = (ways.taps[k], ways.share[k]);
                let [step_x, step_y] = [ways.step[0][k], ways.step[1][k]];
                let [mut px, mut py] = [ways.from[0][k], ways.from[1][k]];
                if taps == 0 {
                    *out = still[x];
                    continue;
                }
                px += (x as i32) << FIXED_BITS;
                py += (y as i32) << FIXED_BITS;
                let (end_x, end_y) = (px + step_x * (taps - 1), py + step_y * (taps - 1));
                let mut sum = Light::default();
                let mut add = |column: i32, row: i32| {
                    let c = colour[row as usize * width + column as usize];
                    for (sum, value) in sum.iter_mut().zip(c) {
                        *sum += value;
                    }
                };
                // Nearly all of them stay in the image.
                if (px | end_x | py | end_y) >= 0
                    && larger(px, end_x) >> FIXED_BITS <= last_column
                    && larger(py, end_y) >> FIXED_BITS <= last_row
                {
                    for _ in 0..taps {
                        add(px >> FIXED_BITS, py >> FIXED_BITS);
                        px += step_x;
                        py += step_y;
                    }
                } else {
                    for _ in 0..taps {
                        add(
                            (px >> FIXED_BITS).clamp(0, last_column),
                            (py >> FIXED_BITS).clamp(0, last_row),
                        );
                        px += step_x;
                        py += step_y;
                    }
                }
                *out = sum.map(|sum| sum * share);
            }
        }
    }

    #[inline(never)]
    fn add_glows(&self, scratch: &mut Scratch) {
        let (width, height) = scratch.size();
        let wet = self.light.wet;
        let Scratch { other, glows, .. } = scratch;
        for glow in glows.iter() {
            if luma(glow.colour) < 0.004 {
                continue;
            }
            let [cx, cy] = glow.at_px;
            let r = glow.radius_px;
            let range = |c: f32, r: f32, n: usize| {
                (
                    (c - r).max(0.0) as usize,
                    ((c + r + 1.0).max(0.0) as usize).min(n),
                )
            };
            let (x0, x1) = range(cx, r * 3.0, width);
            let (y0, y1) = range(cy, r * 3.0, height);
            for y in y0..y1 {
                for x in x0..x1 {
                    let (dx, dy) = ((x as f32 + 0.5 - cx) / r, (y as f32 + 0.5 - cy) / r);
                    let d2 = dx * dx + dy * dy;
                    let edge = (1.0 - d2 * (1.0 / 9.0)).max(0.0);
                    let k = edge * edge * (0.6 / (1.0 + 14.0 * d2));
                    let c = &mut other[y * width + x];
                    *c = brighter(*c, scale(glow.colour, k));
                }
            }
            if wet > 0.2 && glow.streak_px > 4.0 {
                let (x0, x1) = range(cx, r * 1.2, width);
                let (y0, y1) = range(cy + glow.streak_px * 0.75, glow.streak_px * 0.45, height);
                for y in y0..y1 {
                    let t = (y as f32 - cy - glow.streak_px * 0.75) / (glow.streak_px * 0.45);
                    let fade = (1.0 - t * t).max(0.0) * wet * 0.35;
                    for x in x0..x1 {
                        let dx = (x as f32 + 0.5 - cx) / (r * 0.6);
                        let c = &mut other[y * width + x];
                        *c = brighter(*c, scale(glow.colour, fade / (1.0 + 4.0 * dx * dx)));
                    }
                }
            }
        }
    }

    fn add_rain(&self, frame: u32, view: &View, scratch: &mut Scratch) {
        let rain = self.light.rain;
        if rain <= 0.0 {
            return;
        }
        let (width, height) = scratch.size();
        let mut dice = Dice::new(self.seed ^ 0x7261_696e, u64::from(frame));
        let bright = scale(self.light.horizon, 0.22);
        let slant = 0.1 * sin(self.seed as f32 % 7.0);
        for _ in 0..(rain * width as f32 * 0.5) as usize {
            let near = dice.unit();
            let len = height as f32 * mix(0.03, 0.16, near * near);
            let x0 = dice.range(0.0, width as f32);
            let y0 = dice.range(-len, height as f32);
            // Drops come towards a moving camera: streaks spread from the middle.
            let spread = (x0 / width as f32 - 0.5) * view.speed * 0.05;
            let strength = mix(0.10, 0.35, dice.unit()) * (0.4 + 0.6 * near);
            for step in 0..len as usize {
                let (x, y) = (x0 + (slant + spread) * step as f32, y0 + step as f32);
                if x < 0.0 || y < 0.0 || x >= width as f32 || y >= height as f32 {
                    continue;
                }
                let c = &mut scratch.other[y as usize * width + x as usize];
                *c = [
                    mix(c[0], bright[0] + c[0] * 0.9, strength),
                    mix(c[1], bright[1] + c[1] * 0.9, strength),
                    mix(c[2], bright[2] + c[2] * 0.9, strength),
                    0.0,
                ];
            }
        }
    }

    /// Drops on the glass: far out of focus, so what they show is soft and so is their rim.
    #[inline(never)]
    fn add_drops(&self, view: &View, scratch: &mut Scratch) {
        let (width, height) = scratch.size();
        let (last_column, last_row) = (width as i32 - 1, height as i32 - 1);
        let Scratch { colour, other, .. } = scratch;
        let seen = |x: f32, y: f32| {
            let (x, y) = (
                (x as i32).clamp(0, last_column),
                (y as i32).clamp(0, last_row),
            );
            colour[y as usize * width + x as usize]
        };
        self.screen().drops(view.time_s, |drop| {
            let ([cx, cy], r) = (drop.at_px, drop.radius_px);
            let range = |c: f32, n: usize| {
                let (from, to) = ((c - r).max(0.0), (c + r + 1.0).max(0.0));
                (from as usize).min(n)..(to as usize).min(n)
            };
            // Light from four places for each: what lies between pixels of a drop is many pixels wide outside.
            let aside = 4.5;
            for y in range(cy, height) {
                for x in range(cx, width) {
                    let (dx, dy) = ((x as f32 + 0.5 - cx) / r, (y as f32 + 0.5 - cy) / r);
                    let d2 = dx * dx + dy * dy;
                    if d2 >= 1.0 {
                        continue;
                    }
                    let [sx, sy] = refracted(&drop, [dx, dy]);
                    let mut light = Rgb::default();
                    for (ax, ay) in [
                        (-aside, -aside),
                        (aside, -aside),
                        (-aside, aside),
                        (aside, aside),
                    ] {
                        let c = seen(sx + ax, sy + ay);
                        light = add(light, [c[0], c[1], c[2]]);
                    }
                    let there = drop.strength * (1.0 - smooth(d2 * 1.4 - 0.4));
                    // Rays near the rim are lost; the lower rim gathers the sky.
                    let gathered = 0.25 * (0.95 - 0.35 * d2 + 0.3 * larger(dy, 0.0) * d2);
                    let c = &mut other[y * width + x];
                    for (c, light) in c.iter_mut().zip(light) {
                        *c = mix(*c, light * gathered, there);
                    }
                }
            }
        });
    }

    fn screen(&self) -> Screen {
        Screen {
            seed: self.seed,
            size_px: [self.config.width_px as f32, self.config.height_px as f32],
            rain: self.light.rain,
            wipers: self.look.wipers,
        }
    }

    /// Dirt on the windscreen and what it mirrors, at half size: the same in all frames.
    pub(super) fn paint_screen(&mut self) {
        let (w, h) = (
            self.config.width_px as usize / 2 + 1,
            self.config.height_px as usize / 2 + 1,
        );
        self.screen_width = w;
        let look = self.look;
        let seed = self.seed;
        let mut specks: Vec<(f32, f32, f32, f32)> = Vec::new();
        let mut d = Dice::new(seed, 0x6469_7274);
        for _ in 0..(look.dirt * 60.0) as usize {
            specks.push((d.unit(), d.unit(), d.range(0.002, 0.014), d.range(0.2, 0.8)));
        }
        let (ox, oy) = (d.unit(), d.unit());
        let bands = 3.0 + d.unit() * 8.0;
        self.screen_dirt.resize(w * h, 0.0);
        self.screen_mirror.resize(w * h, 0.0);
        for y in 0..h {
            for x in 0..w {
                let (u, v) = (x as f32 / w as f32, y as f32 / h as f32);
                let film =
                    ramp(-0.1, 0.8, self.noise.fine(u * 0.6 + ox, v * 0.4 + oy)) * 0.16 * look.dirt;
                let mut speck = 0.0_f32;
                for &(sx, sy, r, strength) in &specks {
                    let (dx, dy) = (u - sx, (v - sy) * 0.56);
                    let d2 = (dx * dx + dy * dy) / (r * r);
                    if d2 < 4.0 {
                        speck = speck.max(strength * (1.0 - smooth(d2 * 0.25)) * 0.55);
                    }
                }
                self.screen_dirt[y * w + x] = (film + speck * look.dirt).min(0.8);
                // The dashboard's top: seams and vents, stronger towards the bottom.
                let low = ramp(0.35, 1.0, v);
                let seam = 0.5 + 0.5 * self.noise.fine(u * 0.3 + oy, floor(v * bands) * 0.17 + ox);
                let grid = if super::math::fract(v * bands) < 0.08 {
                    0.5
                } else {
                    1.0
                };
                self.screen_mirror[y * w + x] = look.reflection * low * seam * grid;
            }
        }
    }

    /// Exposure of every frame: the camera follows the light ahead with some delay.
    pub(super) fn expose(&mut self) {
        let fps = self.config.fps;
        let mut eye = 1.0_f32;
        let rate = 1.0 - libm::expf(-1.0 / (fps * EXPOSURE_DELAY_S));
        let mut out = Vec::with_capacity(self.config.frames as usize);
        for frame in 0..self.config.frames as usize {
            let s = self.agents[0].states[frame].s;
            let mut light = 0.0;
            for k in 0..5 {
                light += self.light_over(s + 3.0 + 5.0 * k as f32);
            }
            light /= 5.0;
            if frame == 0 {
                eye = light;
            }
            eye += (light - eye) * rate;
            out.push(libm::powf(eye.max(0.05), -0.65));
        }
        self.exposures = out;
    }

    /// Relative light on the road at a place: 1 in the open.
    fn light_over(&self, s: f32) -> f32 {
        match self.road.bridge_over(s) {
            Some(bridge) if bridge.tunnel => 0.12,
            Some(_) => 0.35,
            None => 1.0,
        }
    }
}

/// Seconds in which the exposure goes most of the way to a new light.
const EXPOSURE_DELAY_S: f32 = 0.5;

/// Rows of light that are kept for their neighbours.
pub(super) const KEPT_ROWS: usize = 3;

/// Red, green and blue of a row, 0..255.
pub(super) type Row = [Vec<f32>; 3];

/// Windscreen, lens and the camera's curve in one frame.
struct Glass<'a> {
    world: &'a Sequence,
    size: [f32; 2],
    gains: Rgb,
    /// Where the sun is in the image, if it dazzles, and how strongly.
    sun_px: Option<[f32; 2]>,
    veil: f32,
    fog_veil: Rgb,
    /// Sine and cosine of the wiper's angle, and its pivot.
    wiper: Option<[f32; 4]>,
    saturation: f32,
}

impl<'a> Glass<'a> {
    fn new(world: &'a Sequence, frame: u32, view: &View) -> Self {
        let (look, light) = (&world.look, &world.light);
        let exposure = light.exposure * world.exposures[frame as usize];
        let sun = view.camera.turn_into_view(light.sun_dir);
        let veil = light.sun[0] * look.glare;
        let seen = sun[2] > 0.1 && veil > 0.0;
        Self {
            world,
            size: [world.config.width_px as f32, world.config.height_px as f32],
            gains: scale(look.gains, exposure),
            sun_px: seen.then(|| view.camera.pixel_from_view(sun)),
            veil,
            fog_veil: scale(light.horizon, 0.02 + 0.10 * look.dirt),
            wiper: world
                .screen()
                .blade(frame as f32 / world.config.fps)
                .map(|(angle, x, y)| [sin(angle), cos(angle), x, y]),
            saturation: if look.grey { 0.0 } else { look.saturation },
        }
    }

    /// Levels of a row, 0..255, from its light.
    #[inline(never)]
    fn tone_row(&self, y: usize, light: &[Light], levels: &mut Row) {
        let Self { world, gains, .. } = self;
        let look = &world.look;
        let [w, h] = self.size;
        let per_width = 1.0 / w;
        let v = y as f32 / h - 0.5;
        let [reds, greens, blues] = levels;
        let reds = &mut reds[..light.len()];
        let greens = &mut greens[..light.len()];
        let blues = &mut blues[..light.len()];
        for (x, &[r, g, b, _]) in light.iter().enumerate() {
            (reds[x], greens[x], blues[x]) = (r, g, b);
        }
        self.dirt_row(y, [&mut *reds, &mut *greens, &mut *blues]);
        self.glare_row(y, [&mut *reds, &mut *greens, &mut *blues]);
        self.wiper_row(y, [&mut *reds, &mut *greens, &mut *blues]);
        for x in 0..light.len() {
            let u = x as f32 * per_width - 0.5;
            let dim = 1.0 - look.vignette * (u * u + v * v) * 1.6;
            // The curve's index, as bits of a float: the loop below looks it up.
            reds[x] = f32::from_bits(tone_index(reds[x] * gains[0] * dim));
            greens[x] = f32::from_bits(tone_index(greens[x] * gains[1] * dim));
            blues[x] = f32::from_bits(tone_index(blues[x] * gains[2] * dim));
        }
        for channel in [&mut *reds, &mut *greens, &mut *blues] {
            for level in channel.iter_mut() {
                *level = world.tone[level.to_bits() as usize & (TONE_ENTRIES - 1)];
            }
        }
        for x in 0..light.len() {
            let rgb = [reds[x], greens[x], blues[x]];
            let grey = luma(rgb);
            reds[x] = grey + (rgb[0] - grey) * self.saturation;
            greens[x] = grey + (rgb[1] - grey) * self.saturation;
            blues[x] = grey + (rgb[2] - grey) * self.saturation;
        }
    }

    /// What dirt takes and what the glass mirrors.
    fn dirt_row(&self, y: usize, channels: [&mut [f32]; 3]) {
        let world = self.world;
        if world.look.dirt <= 0.0 && world.look.reflection <= 0.0 {
            return;
        }
        let row = (y >> 1) * world.screen_width..;
        let (dirt, mirrored) = (&world.screen_dirt[row.clone()], &world.screen_mirror[row]);
        for (k, channel) in channels.into_iter().enumerate() {
            let (veil, horizon) = (self.fog_veil[k] * 4.0, world.light.horizon[k]);
            let cells = dirt.iter().zip(mirrored);
            // A cell is two pixels wide.
            for (pixels, (&dirt, &mirrored)) in channel.chunks_mut(2).zip(cells) {
                for c in pixels {
                    *c = mix(*c, veil, dirt) + mirrored * horizon;
                }
            }
        }
    }

    /// The sun's light in the glass.
    fn glare_row(&self, y: usize, channels: [&mut [f32]; 3]) {
        let Some(p) = self.sun_px else {
            return;
        };
        let per_width = 1.0 / self.size[0];
        let dy = (y as f32 - p[1]) * per_width;
        for (channel, sun) in channels.into_iter().zip(self.world.light.sun) {
            for (x, c) in channel.iter_mut().enumerate() {
                let dx = (x as f32 - p[0]) * per_width;
                let k = self.veil * (0.05 + 0.22 / (1.0 + 30.0 * (dx * dx + dy * dy)));
                *c += sun * k;
            }
        }
    }

    /// The blade on its way.
    fn wiper_row(&self, y: usize, channels: [&mut [f32]; 3]) {
        let Some([sin, cos, px, py]) = self.wiper else {
            return;
        };
        let w = self.size[0];
        let dy = y as f32 - py;
        for channel in channels {
            for (x, c) in channel.iter_mut().enumerate() {
                let dx = x as f32 - px;
                let off = (dx * sin - dy * cos).abs();
                let along = dx * cos + dy * sin;
                if off < 0.022 * w && along > 0.0 && along < w * BLADE {
                    *c *= 1.0 - 0.85 * ramp(0.022 * w, 0.012 * w, off);
                }
            }
        }
    }
}

/// Sharpness, noise, bytes.
struct Sensor {
    seed: u64,
    sharp: f32,
    gain: f32,
    /// Noise of a row.
    noise: Row,
    /// A row of one colour.
    values: Vec<f32>,
}

impl Sensor {
    fn new(world: &Sequence, frame: u32, width: usize) -> Self {
        Self {
            seed: hash(world.seed ^ u64::from(frame).wrapping_mul(0x1_0001)),
            sharp: world.look.sharpness * 0.6,
            gain: world.look.noise * 0.011,
            noise: core::array::from_fn(|_| alloc::vec![0.0; width.next_multiple_of(STREAMS)]),
            values: alloc::vec![0.0; width],
        }
    }

    fn make_noise(&mut self, y: usize) {
        let row = hash(self.seed ^ y as u64);
        // Streams side by side (Marsaglia's xorshift), none of which may start at zero.
        let mut state: [u32; STREAMS] =
            core::array::from_fn(|k| hash(row ^ (k as u64) << 32) as u32 | 1);
        let [reds, greens, blues] = &mut self.noise;
        let blocks = reds
            .chunks_exact_mut(STREAMS)
            .zip(greens.chunks_exact_mut(STREAMS))
            .zip(blues.chunks_exact_mut(STREAMS));
        for ((reds, greens), blues) in blocks {
            for k in 0..STREAMS {
                let first = xorshift(state[k]);
                let second = xorshift(first);
                state[k] = second;
                // The sum of two uniforms is close enough to a bell.
                let bell = |bits: u32| ((bits & 0xff) + (bits >> 8 & 0xff)) as i32 as f32 - 255.0;
                // What demosaicing and the codec leave is mostly of light, less of colour.
                let light = bell(first);
                let (warm, cool) = (0.45 * bell(first >> 16), 0.45 * bell(second >> 16));
                reds[k] = light + warm;
                greens[k] = light - 0.5 * (warm + cool);
                blues[k] = light + cool;
            }
        }
    }

    /// Bytes of a row from its levels and those of the rows above and below.
    #[inline(never)]
    fn expose_row(&mut self, y: usize, near: [&Row; 3], out: &mut [u8]) {
        self.make_noise(y);
        let width = self.values.len();
        let (sharp, gain) = (self.sharp, self.gain);
        for channel in 0..3 {
            let [up, row, down] = near.map(|row| &row[channel][..width]);
            let around = |x: usize, left: usize, right: usize| {
                let mean = (row[left] + row[right] + up[x] + down[x]) * 0.25;
                row[x] + sharp * (row[x] - mean)
            };
            for (x, value) in self.values.iter_mut().enumerate().take(width - 1).skip(1) {
                *value = around(x, x - 1, x + 1);
            }
            // A picture is at least 64 pixels wide.
            self.values[0] = around(0, 0, 1);
            self.values[width - 1] = around(width - 1, width - 2, width - 1);
            let noise = &self.noise[channel];
            for ((value, &light), &n) in self.values.iter_mut().zip(row).zip(noise) {
                // Dark and bright pixels differ less than light does, as the curve is steep in the dark.
                let shot = gain * (1.4 - light * (0.7 / 255.0));
                *value = smaller(larger(*value + n * shot, 0.0), 255.0);
            }
            for (byte, &value) in out[channel..].iter_mut().step_by(3).zip(&self.values) {
                *byte = nearest_byte(value);
            }
        }
    }
}

/// The nearest whole number of one in 0..255.
#[inline]
fn nearest_byte(value: f32) -> u8 {
    (value + NO_FRACTION).to_bits() as u8
}
