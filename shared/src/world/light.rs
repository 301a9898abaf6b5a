//! Hours, weather and the camera's own character: drawn once a sequence.
//!
//! Radiance is relative: a white sheet facing the midday sun sends out about one.

use core::f32::consts::PI;

use super::config::WorldConfig;
use super::math::{Rgb, V3, cos, mix, mix3, scale, sin, unit};
use super::random::Dice;

/// The light of the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Light {
    pub(super) night: bool,
    /// Towards the sun (or the moon).
    pub(super) sun_dir: V3,
    pub(super) sun: Rgb,
    /// Light of the whole sky on a level sheet.
    pub(super) sky: Rgb,
    pub(super) zenith: Rgb,
    pub(super) horizon: Rgb,
    /// 0 clear to 1 closed.
    pub(super) clouds: f32,
    pub(super) fog: Rgb,
    pub(super) fog_per_m: f32,
    pub(super) wet: f32,
    pub(super) rain: f32,
    /// Vehicles have their lamps on.
    pub(super) lamps: bool,
    pub(super) exposure: f32,
    /// Dust on everything, 0 to 1.
    pub(super) dust: f32,
}

/// The camera's and the windscreen's character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) focal_share: f32,
    pub(super) height_m: f32,
    pub(super) pitch: f32,
    pub(super) yaw: f32,
    pub(super) roll: f32,
    pub(super) distortion: f32,
    pub(super) gains: Rgb,
    pub(super) saturation: f32,
    pub(super) contrast: f32,
    pub(super) black: f32,
    pub(super) noise: f32,
    /// Negative softens, positive sharpens.
    pub(super) sharpness: f32,
    pub(super) vignette: f32,
    pub(super) dirt: f32,
    pub(super) reflection: f32,
    pub(super) glare: f32,
    /// Share of the frame interval during which light is collected.
    pub(super) shutter: f32,
    pub(super) shake: f32,
    pub(super) bonnet: Option<Rgb>,
    pub(super) wipers: bool,
    pub(super) grey: bool,
}

impl Light {
    pub(super) fn new(config: &WorldConfig, seed: u64) -> Self {
        let mut d = Dice::new(seed, 0x6c69_6768);
        let c = &config.conditions;
        let dust = d.within(config.place.dust);
        let night = d.chance(c.night);
        let low = !night && d.chance(c.low_sun);
        let overcast = d.chance(c.overcast);
        let rain = if d.chance(c.rain) {
            d.range(0.3, 1.0)
        } else {
            0.0
        };
        let foggy = d.chance(c.fog);
        let wet = if rain > 0.0 {
            d.range(0.6, 1.0)
        } else if d.chance(0.04) {
            d.range(0.2, 0.7)
        } else {
            0.0
        };
        let elevation: f32 = if low {
            d.range(0.06, 0.30)
        } else {
            d.range(0.45, 1.25)
        };
        let ahead = low && d.chance(0.55);
        let bearing = if ahead {
            d.range(-0.5, 0.5)
        } else {
            d.range(-PI, PI)
        };
        let sun_dir = unit([
            sin(bearing) * cos(elevation),
            sin(elevation),
            cos(bearing) * cos(elevation),
        ]);
        let closed = overcast || rain > 0.2 || foggy;
        let clouds = if closed {
            d.range(0.8, 1.0)
        } else {
            d.unit() * d.unit() * 0.8
        };
        let warm = if low {
            mix(0.0, 1.0, 1.0 - elevation / 0.35)
        } else {
            0.0
        };
        let sun_tint = mix3([1.0, 0.97, 0.90], [1.0, 0.70, 0.40], warm);
        let strength = if closed {
            d.range(0.0, 0.07)
        } else {
            mix(1.0, 0.55, warm) * (1.0 - 0.35 * clouds)
        };
        let mut sun = scale(sun_tint, strength);
        let hazy = d.range(0.2, 1.0) * if config.place.keeps_left { 1.0 } else { 0.6 };
        let blue = [0.24, 0.42, 0.80];
        let mut zenith = mix3(
            mix3(blue, [0.66, 0.74, 0.84], hazy),
            [0.80, 0.82, 0.85],
            clouds,
        );
        let mut horizon = mix3([0.78, 0.86, 0.95], [1.0, 0.98, 0.94], 0.4 + 0.6 * hazy);
        horizon = mix3(horizon, [1.0, 0.78, 0.52], warm * 0.8);
        if closed {
            let grey = d.range(0.45, 1.1);
            zenith = scale([0.93, 0.96, 1.0], grey * 0.85);
            horizon = scale([0.98, 0.99, 1.0], grey);
        }
        let mut sky = if closed {
            scale([0.62, 0.65, 0.68], 0.75)
        } else {
            mix3([0.15, 0.19, 0.26], [0.24, 0.26, 0.28], hazy)
        };
        let tint = [
            config.place.haze_warmth,
            1.0,
            2.0 - config.place.haze_warmth,
        ];
        let mut fog = [
            horizon[0] * tint[0] * 0.86,
            horizon[1] * 0.86,
            horizon[2] * tint[2] * 0.86,
        ];
        let visibility = if foggy {
            d.range(45.0, 140.0)
        } else if rain > 0.0 {
            d.range(120.0, 450.0)
        } else {
            let v = d.unit();
            mix(
                config.place.visibility_m[0],
                config.place.visibility_m[1],
                v * v,
            )
        };
        let mut exposure = d.range(0.66, 1.30)
            * if closed { d.range(1.1, 1.7) } else { 1.0 }
            * mix(1.0, 1.35, warm);
        if night {
            // The city's own glow; the lamps do the rest.
            let glow = d.range(0.004, 0.030);
            sun = [0.0; 3];
            sky = scale([1.0, 0.82, 0.62], glow);
            zenith = scale([0.55, 0.50, 0.60], glow * 0.5);
            horizon = scale([1.0, 0.75, 0.50], glow * 1.2);
            fog = scale([1.0, 0.80, 0.58], glow * 1.0);
            exposure = d.range(4.0, 7.0);
        }
        Self {
            night,
            sun_dir,
            sun,
            sky,
            zenith,
            horizon,
            clouds,
            fog,
            fog_per_m: 1.0 / visibility,
            wet,
            rain,
            lamps: night || (rain > 0.4 || foggy) && d.chance(0.7),
            exposure,
            dust,
        }
    }
}

impl Look {
    pub(super) fn new(config: &WorldConfig, light: &Light, seed: u64) -> Self {
        let mut d = Dice::new(seed, 0x6c6f_6f6b);
        let c = &config.conditions;
        let warm = d.bell() * 0.10;
        let green = d.bell() * 0.045;
        let bonnet = d.chance(c.bonnet).then(|| {
            let tone = d.pick(&[0.02, 0.04, 0.10, 0.30, 0.60, 0.65]);
            [tone, tone * d.range(0.9, 1.05), tone * d.range(0.9, 1.1)]
        });
        let ahead = light.sun_dir[2] > 0.6 && light.sun_dir[1] < 0.5 && !light.night;
        Self {
            focal_share: d.range(0.62, 1.25),
            height_m: d.range(1.15, 1.5)
                + if d.chance(0.12) {
                    d.range(0.4, 1.1)
                } else {
                    0.0
                },
            pitch: d.range(-0.09, 0.05),
            yaw: d.bell() * 0.05,
            roll: d.bell() * 0.02,
            distortion: if d.chance(0.5) {
                -d.range(0.0, 0.14)
            } else {
                d.range(-0.01, 0.01)
            },
            gains: [1.0 + warm, 1.0 + green, 1.0 - warm],
            saturation: d.range(0.90, 1.85) * if light.night { 0.85 } else { 1.0 },
            contrast: d.range(1.05, 1.65),
            black: d.unit() * d.unit() * 0.04 + if d.chance(0.12) { 0.04 } else { 0.0 },
            noise: d.range(0.15, 0.9) * if light.night { 2.6 } else { 1.0 },
            sharpness: if d.chance(0.3) {
                d.range(0.0, 0.7)
            } else {
                -d.range(0.0, 1.2)
            },
            vignette: d.range(0.0, 0.5),
            dirt: if d.chance(c.dirty_lens) {
                d.range(0.2, 1.0)
            } else {
                0.0
            },
            reflection: if d.chance(c.reflection) && !light.night {
                d.range(0.03, 0.16)
            } else {
                0.0
            },
            glare: if ahead { d.range(0.3, 1.0) } else { 0.0 },
            shutter: if light.night {
                d.range(0.5, 0.9)
            } else {
                d.range(0.05, 0.5)
            },
            shake: d.range(0.3, 1.6),
            bonnet,
            wipers: light.rain > 0.3 && d.chance(0.8),
            grey: d.chance(0.03),
        }
    }
}
