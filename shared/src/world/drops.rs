//! Rain on the windscreen: drops that land, stay, run down and are wiped away.
//!
//! Enters: how hard it rains, when, and where the wiper is. Leaves: the drops that sit on the glass at that moment. They
//! have places of their own in the list for good, so that a frame's drops are a function of its time and the seed and those
//! of two frames are the same drops. [`super::lens`] looks through them.

use super::math::{TAU, cos, floor, fract, mix};
use super::random::unit_at;

/// Where the wiper turns, in shares of the image's width and height.
const PIVOT: [f32; 2] = [0.55, 1.08];
/// Angle at rest, and how far it sweeps; the image's y goes down.
const REST: f32 = -0.15;
const SWEEP: f32 = 2.6;
/// Length, in image widths.
pub(super) const BLADE: f32 = 0.75;
/// Cycles a second, and the share of one in which the blade moves: there and back.
const CYCLES_PER_S: f32 = 0.7;
const MOVING: f32 = 0.6;

/// Drops on the glass where it rains as hard as it can.
const MOST_DROPS: f32 = 300.0;
/// Where nothing wipes them away, drops stay this long.
const STAY_S: [f32; 2] = [4.0, 9.0];
/// Radius in image widths: most are small.
const RADIUS: [f32; 2] = [0.0026, 0.016];
/// Separates these numbers from others of the same seed.
const SALT: u64 = 0x6472_6f70;

/// A drop on the glass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drop {
    pub(super) at_px: [f32; 2],
    pub(super) radius_px: f32,
    /// 0 clear, 1 opaque: water on its way down is thinner.
    pub(super) strength: f32,
}

/// How a screen gets wet and dry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) seed: u64,
    pub(super) size_px: [f32; 2],
    /// 0 to 1.
    pub(super) rain: f32,
    pub(super) wipers: bool,
}

impl Screen {
    /// Number of the wiper's cycle, and how far it has got.
    fn cycle(&self, time_s: f32) -> (f32, f32) {
        let t = time_s * CYCLES_PER_S + unit_at(self.seed, 5, 55);
        (floor(t), fract(t))
    }

    /// Angle of the blade and its pivot in pixels, while it moves.
    pub(super) fn blade(&self, time_s: f32) -> Option<(f32, f32, f32)> {
        let (_, phase) = self.cycle(time_s);
        if !self.wipers || phase > MOVING {
            return None;
        }
        let swept = 0.5 - 0.5 * cos(phase / MOVING * TAU);
        let [w, h] = self.size_px;
        Some((REST - SWEEP * swept, w * PIVOT[0], h * PIVOT[1]))
    }

    /// Phase at which the blade first comes by a place; `None` where it never does.
    fn wiped_at(&self, [x, y]: [f32; 2]) -> Option<f32> {
        let [w, h] = self.size_px;
        let (dx, dy) = (x - w * PIVOT[0], y - h * PIVOT[1]);
        if !self.wipers || dx * dx + dy * dy > (w * BLADE) * (w * BLADE) {
            return None;
        }
        let share = (REST - libm::atan2f(dy, dx)) / SWEEP;
        (0.0..=1.0)
            .contains(&share)
            .then(|| libm::acosf(1.0 - 2.0 * share) * (MOVING / TAU))
    }

    /// Calls `see` with every drop that is on the glass.
    pub(super) fn drops(&self, time_s: f32, mut see: impl FnMut(Drop)) {
        if self.rain <= 0.0 {
            return;
        }
        let seed = self.seed ^ SALT;
        let wetter = mix(0.4, 1.3, unit_at(seed, 1, 1));
        let (cycle, phase) = self.cycle(time_s);
        for slot in 0..(MOST_DROPS * self.rain * wetter) as i64 {
            // A place in the list is two drops that know nothing of each other. One falls where the blade goes: it lands
            // in one cycle and is gone in the next.
            let last = self.drop(seed, slot, cycle as i64 - 1);
            let now = self.drop(seed, slot, cycle as i64);
            let stays = |gone| phase < gone;
            let lands = |gone| phase > mix(gone, 1.0, unit_at(seed, slot, cycle as i64 * 8 + 5));
            if self.wiped_at(last.at_px).is_some_and(stays) {
                see(last);
            } else if self.wiped_at(now.at_px).is_some_and(lands) {
                see(now);
            }
            // The other falls elsewhere: a life of its own, at the end of which it runs down.
            let stay_s = mix(STAY_S[0], STAY_S[1], unit_at(seed, slot, -1));
            let t = time_s / stay_s + unit_at(seed, slot, -2);
            let mut drop = self.drop(seed, slot, -10 - floor(t) as i64);
            if self.wiped_at(drop.at_px).is_some() {
                continue;
            }
            let running = ((fract(t) - 0.8) * 5.0).max(0.0);
            drop.at_px[1] += running * running * self.size_px[1] * 0.25;
            drop.strength *= 1.0 - 0.6 * running;
            see(drop);
        }
    }

    /// The drop that a place in the list has in its `life`.
    fn drop(&self, seed: u64, slot: i64, life: i64) -> Drop {
        let unit = |k: i64| unit_at(seed, slot, life * 8 + k);
        let [w, h] = self.size_px;
        let size = unit(2);
        Drop {
            at_px: [unit(0) * w, unit(1) * h],
            radius_px: mix(RADIUS[0], RADIUS[1], size * size * size) * w,
            strength: mix(0.55, 0.95, unit(3)),
        }
    }
}

/// Where light comes from that a drop shows at an offset from its middle, in radii: a drop is a strong lens, and what it
/// shows stands on its head.
pub(super) fn refracted(drop: &Drop, [dx, dy]: [f32; 2]) -> [f32; 2] {
    let reach = drop.radius_px * 18.0;
    [drop.at_px[0] - dx * reach, drop.at_px[1] - dy * reach]
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn screen(wipers: bool) -> Screen {
        Screen {
            seed: 7,
            size_px: [640.0, 360.0],
            rain: 1.0,
            wipers,
        }
    }

    fn drops(screen: &Screen, time_s: f32) -> Vec<Drop> {
        let mut all = Vec::new();
        screen.drops(time_s, |drop| all.push(drop));
        all
    }

    #[test]
    fn most_drops_of_a_moment_are_still_there_a_tenth_of_a_second_later() {
        let screen = screen(false);
        for step in 0..20 {
            let (now, later) = (
                drops(&screen, step as f32 * 0.3),
                drops(&screen, step as f32 * 0.3 + 0.1),
            );
            let kept = now
                .iter()
                .filter(|drop| {
                    later.iter().any(|other| {
                        other.at_px[0] == drop.at_px[0]
                            && (other.at_px[1] - drop.at_px[1]).abs() < 12.0
                    })
                })
                .count();
            assert!(
                now.len() > 20 && kept * 10 > now.len() * 9,
                "{kept} of {}",
                now.len()
            );
        }
    }

    #[test]
    fn drops_that_the_wiper_does_not_reach_stay_whatever_it_does() {
        let screen = screen(true);
        let beyond = |time_s| -> Vec<Drop> {
            let all = drops(&screen, time_s).into_iter();
            all.filter(|drop| screen.wiped_at(drop.at_px).is_none())
                .collect()
        };
        for step in 0..60 {
            let time_s = step as f32 * 0.05;
            let (now, later) = (beyond(time_s), beyond(time_s + 0.1));
            let kept = now.iter().filter(|drop| {
                later.iter().any(|other| {
                    other.at_px[0] == drop.at_px[0] && (other.at_px[1] - drop.at_px[1]).abs() < 12.0
                })
            });
            let kept = kept.count();
            // There are some twenty at a time, and one or two run down in a tenth of a second.
            assert!(
                now.len() > 10 && kept * 5 > now.len() * 4,
                "{time_s}: {kept} of {}",
                now.len()
            );
        }
    }

    #[test]
    fn behind_the_blade_there_is_no_old_drop() {
        let screen = screen(true);
        let mut looked_at = 0;
        for step in 0..400 {
            let time_s = step as f32 * 0.01;
            let (Some(before), Some((angle, x, y))) =
                (screen.blade(time_s - 0.01), screen.blade(time_s))
            else {
                continue;
            };
            // On its way there it turns anticlockwise, as angles of the image fall.
            if angle >= before.0 {
                continue;
            }
            looked_at += 1;
            let behind: Vec<Drop> = drops(&screen, time_s)
                .into_iter()
                .filter(|drop| {
                    let (dx, dy) = (drop.at_px[0] - x, drop.at_px[1] - y);
                    let at = libm::atan2f(dy, dx);
                    dx * dx + dy * dy < (640.0 * BLADE) * (640.0 * BLADE) && at > angle && at < REST
                })
                .collect();
            let earlier = drops(&screen, time_s - 0.3 / CYCLES_PER_S);
            assert!(
                behind.iter().all(|drop| !earlier.contains(drop)),
                "{time_s}: {behind:?}"
            );
        }
        assert!(looked_at > 50, "{looked_at}");
    }

    #[test]
    fn no_rain_no_drops_and_more_rain_more_drops() {
        let with = |rain| {
            drops(
                &Screen {
                    rain,
                    ..screen(false)
                },
                1.0,
            )
            .len()
        };
        assert_eq!(with(0.0), 0);
        assert!(with(0.3) > 3 && with(1.0) > 2 * with(0.3));
    }
}
