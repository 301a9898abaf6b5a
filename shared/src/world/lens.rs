//! From light to bytes: motion blur, rain, windscreen, lens, sensor.

use alloc::vec::Vec;

use super::Sequence;
use super::drops::{BLADE, Screen, refracted};
use super::frame::{Light, Scratch, View};
use super::math::{Rgb, add, cos, floor, larger, luma, mix, ramp, scale, sin, smooth};
use super::random::{Dice, hash};

/// The tone curve is a table by the upper bits of a float: so many steps an octave, between two powers of two.
const TONE_STEP_BITS: u32 = 8;
const TONE_LOW: f32 = 1.0 / 4096.0;
const TONE_OCTAVES: u32 = 15;
/// Light above this is white; two to the power of what is left of the octaves.
const TONE_HIGH: f32 = 7.99;

/// Place in the tone curve.
#[inline]
fn tone_index(light: f32) -> usize {
    let bits = light.clamp(TONE_LOW, TONE_HIGH).to_bits();
    ((bits - TONE_LOW.to_bits()) >> (23 - TONE_STEP_BITS)) as usize
}

/// Factor of the linear congruential generator that makes the sensor's noise (Knuth's MMIX).
const NOISE_FACTOR: u64 = 6_364_136_223_846_793_005;

/// Motion below this many pixels is not worth blurring.
const STILL_PX: f32 = 0.7;
/// Longest blur.
const LONGEST_BLUR_PX: f32 = 26.0;
/// Places that are averaged along the longest blur: three pixels apart, which the next pixel's fill in.
const MOST_TAPS: i32 = 9;
/// Places along a blur have this many bits after the point.
const FIXED_BITS: u32 = 12;
const FIXED_HALF: i32 = 1 << (FIXED_BITS - 1);

fn brighter(a: Light, b: Rgb) -> Light {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2], 0.0]
}

fn fixed(px: f32) -> i32 {
    (px * (1 << FIXED_BITS) as f32) as i32
}

/// Output levels (0..255) by [`tone_index`].
pub(super) fn tone_curve(contrast: f32, black: f32) -> Vec<f32> {
    (0..TONE_OCTAVES << TONE_STEP_BITS)
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
        self.motion_blur(scratch);
        self.add_glows(scratch);
        self.add_rain(frame, view, scratch);
        self.add_drops(view, scratch);
        self.tone(frame, view, scratch);
        rgb.resize(width * height * 3, 0);
        self.sensor(frame, scratch, rgb);
    }

    /// Light smeared along the way that each point takes while the shutter is open; result in `other`.
    #[inline(never)]
    fn motion_blur(&self, scratch: &mut Scratch) {
        let (width, height) = scratch.size();
        let (last_column, last_row) = (width as i32 - 1, height as i32 - 1);
        let Scratch {
            colour,
            other,
            flow,
            ..
        } = scratch;
        for y in 0..height {
            for x in 0..width {
                let at = y * width + x;
                let [fx, fy] = flow[at];
                let len = larger(fx.abs(), fy.abs());
                if len < STILL_PX {
                    other[at] = colour[at];
                    continue;
                }
                let k = (LONGEST_BLUR_PX / len).min(1.0);
                let taps = ((len * k * 0.7) as i32 + 2).min(MOST_TAPS);
                let share = 1.0 / taps as f32;
                // From half the way back to half the way forth, in fixed point: the middle of a pixel is one half.
                let (step_x, step_y) = (fixed(fx * k * share), fixed(fy * k * share));
                let mut px = ((x as i32) << FIXED_BITS) + FIXED_HALF - step_x * (taps - 1) / 2;
                let mut py = ((y as i32) << FIXED_BITS) + FIXED_HALF - step_y * (taps - 1) / 2;
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
                other[at] = sum.map(|sum| sum * share);
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

    /// Windscreen and lens in light, then the camera's curve: three planes of 0..255.
    #[inline(never)]
    fn tone(&self, frame: u32, view: &View, scratch: &mut Scratch) {
        let (width, height) = scratch.size();
        let (w, h) = (width as f32, height as f32);
        let per_width = 1.0 / w;
        let look = &self.look;
        let light = &self.light;
        let exposure = light.exposure * self.exposures[frame as usize];
        let gains = scale(look.gains, exposure);
        let sun = view.camera.turn_into_view(light.sun_dir);
        let sun_px = (sun[2] > 0.1).then(|| view.camera.pixel_from_view(sun));
        let veil = light.sun[0] * look.glare;
        let fog_veil = scale(light.horizon, 0.02 + 0.10 * look.dirt);
        let Scratch { other, planes, .. } = scratch;
        let wiper = self
            .screen()
            .blade(frame as f32 / self.config.fps)
            .map(|(angle, x, y)| (sin(angle), cos(angle), x, y));
        let screen = look.dirt > 0.0 || look.reflection > 0.0;
        let saturation = if look.grey { 0.0 } else { look.saturation };
        let [reds, greens, blues] = planes;
        for y in 0..height {
            let v = y as f32 / h - 0.5;
            let row = y * width..(y + 1) * width;
            let screen_row = (y >> 1) * self.screen_width;
            let (reds, greens, blues) = (
                &mut reds[row.clone()],
                &mut greens[row.clone()],
                &mut blues[row.clone()],
            );
            for (x, &[r, g, b, _]) in other[row].iter().enumerate() {
                let u = x as f32 * per_width - 0.5;
                let mut c = [r, g, b];
                if screen {
                    let cell = screen_row + (x >> 1);
                    let dirt = self.screen_dirt[cell];
                    let mirrored = self.screen_mirror[cell];
                    for k in 0..3 {
                        c[k] = mix(c[k], fog_veil[k] * 4.0, dirt) + mirrored * light.horizon[k];
                    }
                }
                if let Some(p) = sun_px
                    && veil > 0.0
                {
                    let (dx, dy) = ((x as f32 - p[0]) * per_width, (y as f32 - p[1]) * per_width);
                    let k = veil * (0.05 + 0.22 / (1.0 + 30.0 * (dx * dx + dy * dy)));
                    c = add(c, scale(light.sun, k));
                }
                if let Some((sin, cos, px, py)) = wiper {
                    let (dx, dy) = (x as f32 - px, y as f32 - py);
                    let off = (dx * sin - dy * cos).abs();
                    let along = dx * cos + dy * sin;
                    if off < 0.022 * w && along > 0.0 && along < w * BLADE {
                        c = scale(c, 1.0 - 0.85 * ramp(0.022 * w, 0.012 * w, off));
                    }
                }
                let dim = 1.0 - look.vignette * (u * u + v * v) * 1.6;
                let tone = |value: f32| self.tone[tone_index(value * dim)];
                let rgb = [
                    tone(c[0] * gains[0]),
                    tone(c[1] * gains[1]),
                    tone(c[2] * gains[2]),
                ];
                let grey = luma(rgb);
                reds[x] = grey + (rgb[0] - grey) * saturation;
                greens[x] = grey + (rgb[1] - grey) * saturation;
                blues[x] = grey + (rgb[2] - grey) * saturation;
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

    /// Sharpness, noise, bytes.
    #[inline(never)]
    fn sensor(&self, frame: u32, scratch: &Scratch, rgb: &mut [u8]) {
        let (width, height) = scratch.size();
        let look = &self.look;
        let sharp = look.sharpness * 0.6;
        let seed = hash(self.seed ^ u64::from(frame).wrapping_mul(0x1_0001));
        let gain = look.noise * 0.011;
        let mut noise = [const { Vec::new() }; 3];
        for channel in &mut noise {
            channel.resize(width, 0.0_f32);
        }
        let mut values = alloc::vec![0.0_f32; width];
        for y in 0..height {
            let mut state = hash(seed ^ y as u64);
            let [reds, greens, blues] = &mut noise;
            for ((red, green), blue) in reds.iter_mut().zip(greens).zip(blues) {
                state = state.wrapping_mul(NOISE_FACTOR).wrapping_add(1);
                let bits = state ^ state >> 29;
                // The sum of two uniforms is close enough to a bell.
                let bell = |low: u32| {
                    ((bits >> low & 0xff) as i32 + (bits >> (low + 8) & 0xff) as i32 - 255) as f32
                };
                // What demosaicing and the codec leave is mostly of light, less of colour.
                let (light, warm, cool) = (bell(16), 0.45 * bell(32), 0.45 * bell(48));
                (*red, *green, *blue) = (light + warm, light - 0.5 * (warm + cool), light + cool);
            }
            let rows = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
            let out = &mut rgb[y * width * 3..(y + 1) * width * 3];
            for channel in 0..3 {
                let [up, row, down] =
                    rows.map(|r| &scratch.planes[channel][r * width..(r + 1) * width]);
                let around = |x: usize, left: usize, right: usize| {
                    let mean = (row[left] + row[right] + up[x] + down[x]) * 0.25;
                    row[x] + sharp * (row[x] - mean)
                };
                for (x, value) in values.iter_mut().enumerate().take(width - 1).skip(1) {
                    *value = around(x, x - 1, x + 1);
                }
                values[0] = around(0, 0, 1);
                values[width - 1] = around(width - 1, width - 2, width - 1);
                for ((value, &light), &n) in values.iter_mut().zip(row).zip(&noise[channel]) {
                    // Dark and bright pixels differ less than light does, as the curve is steep in the dark.
                    let shot = gain * (1.4 - light * (0.7 / 255.0));
                    *value = (*value + n * shot + 0.5).clamp(0.0, 255.0);
                }
                for (byte, &value) in out[channel..].iter_mut().step_by(3).zip(&values) {
                    *byte = value as i32 as u8;
                }
            }
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
