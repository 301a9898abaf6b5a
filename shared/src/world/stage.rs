//! Stage directions: somebody is hidden completely for about two seconds, and comes back.
//!
//! The camera stands still; what hides and how long follows from similar triangles. An occluder `W` wide at distance
//! `a` shades `W b / a` at distance `b`; a target `w` long crossing there at speed `v` is hidden for
//! `(W b / a - w) / v`. A long vehicle passing at speed `v` hides a standing target for `(L - w a / b) / v`.

use super::models::Make;
use super::random::Dice;
use super::traffic::StageHand;

/// How long the target is to be hidden.
const HIDDEN_S: [f32; 2] = [1.8, 2.4];
/// When it is to disappear, as a share of the sequence.
const HIDES_AT: [f32; 2] = [0.28, 0.40];
/// Where a pillar or kiosk stands, and how wide it is: the scenery builds it there.
pub(super) const SCREEN_AHEAD_M: f32 = 7.5;
/// Half the width of the kiosk.
pub(super) const SCREEN_HALF_M: f32 = 0.95;

/// Nothing else stands beside the road from here to there ahead of the camera: the target crosses up to 30 m away.
pub(super) const CLEAR_M: [f32; 2] = [2.0, 36.0];

/// What hides the target; decided by the sequence's seed, so that scenery and traffic agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A long vehicle crosses between the camera and a waiting target.
    VehiclePasses,
    /// A target that crosses disappears behind a pillar or kiosk.
    BehindScreen,
}

/// The screen stands this far to one side of the camera's way.
const SCREEN_ASIDE_M: f32 = 1.9;

/// How far to the right of the camera the screen stands.
pub(super) fn screen_aside_m(seed: u64) -> f32 {
    let right = Dice::new(seed, 0x6173_6964).chance(0.5);
    if right {
        SCREEN_ASIDE_M
    } else {
        -SCREEN_ASIDE_M
    }
}

impl Act {
    pub(super) fn of(seed: u64) -> Self {
        if Dice::new(seed, 0x7374_6167).chance(0.5) {
            Self::VehiclePasses
        } else {
            Self::BehindScreen
        }
    }
}

/// Puts everybody in place. The target is the first to enter.
pub(super) fn set(hand: &mut StageHand<'_, '_>, dice: &mut Dice) {
    let seed = hand.seed();
    let hidden_s = dice.range(HIDDEN_S[0], HIDDEN_S[1]);
    let hides_at_s = hand.duration_s() * dice.range(HIDES_AT[0], HIDES_AT[1]);
    let camera_d = hand.camera_d();
    hand.clear(-30.0, 75.0, 30.0, 0.0);
    let indian = hand.road().side < 0.0;
    match Act::of(seed) {
        Act::VehiclePasses => {
            let make = dice.pick(&[
                Make::Sedan,
                Make::Hatchback,
                Make::Suv,
                if indian {
                    Make::Autorickshaw
                } else {
                    Make::Pickup
                },
                Make::Motorcycle,
            ]);
            let half_w = match make {
                Make::Motorcycle => 0.36,
                Make::Autorickshaw => 0.66,
                _ => 0.97,
            };
            let far = dice.range(20.0, 30.0);
            // High enough to hide all of it: buses, boxes and trailers.
            let occluder = dice.pick(&[Make::CityBus, Make::CityBus, Make::SchoolBus]);
            let near = dice.range(7.5, 9.5);
            let target_d = camera_d + dice.range(-1.2, 1.2);
            // The target creeps away while it is hidden.
            let creep = dice.range(0.0, 0.5);
            hand.enter(dice, make, far, target_d, 0.0, creep);
            let sign = if dice.chance(0.5) { 1.0 } else { -1.0 };
            let eye_to_line = target_d * near / far + camera_d * (1.0 - near / far);
            let heading = sign * core::f32::consts::FRAC_PI_2;
            let bus = hand.enter(dice, occluder, near, eye_to_line, heading, 0.0);
            // Corners are rounded: a little less than its length hides.
            let hides_m = hand.bus_length_m(bus) - 2.0 * half_w * near / far - 0.6;
            let speed = hides_m / hidden_s;
            let start = eye_to_line - sign * (speed * (hides_at_s + hidden_s / 2.0));
            hand.send(bus, start, speed);
        }
        Act::BehindScreen => {
            let make = dice.pick(&[
                Make::Person,
                Make::Person,
                Make::Motorcycle,
                Make::Bicycle,
                if indian {
                    Make::Autorickshaw
                } else {
                    Make::Person
                },
            ]);
            let len = match make {
                Make::Person => 0.7,
                Make::Autorickshaw => 2.8,
                _ => 2.0,
            };
            let far = match make {
                Make::Person => dice.range(13.0, 18.0),
                Make::Autorickshaw => dice.range(24.0, 30.0),
                _ => dice.range(18.0, 24.0),
            };
            let shade = 2.0 * SCREEN_HALF_M * far / SCREEN_AHEAD_M;
            let speed = ((shade - len) / hidden_s).max(0.6);
            // From the middle outwards: it starts and comes back within the image.
            let sign = screen_aside_m(seed).signum();
            // Where the shade falls at the target's distance.
            let screen_d = camera_d + screen_aside_m(seed) * far / SCREEN_AHEAD_M;
            let start = screen_d - sign * (shade / 2.0 + speed * hides_at_s);
            hand.enter(
                dice,
                make,
                far,
                start,
                sign * core::f32::consts::FRAC_PI_2,
                speed,
            );
        }
    }
}
