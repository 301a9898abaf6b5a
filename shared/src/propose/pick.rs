//! Of all road users on a frame, the one that somebody means.
//!
//! In: [`Detection`]s and the size of the picture. Out: the place of one of them. Whoever names nobody gets the one that a
//! driver would watch: surely there, large, and straight ahead.
//!
//! ```
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::propose::pick::{Pick, pick};
//! use roadhound_shared::propose::RoadUser;
//! use roadhound_shared::watch::Detection;
//! let seen = |x_px, kind| Detection {
//!     box_in_image: BoxXywh::new(x_px, 150.0, 60.0, 50.0),
//!     score: 0.8,
//!     kind,
//!     embedding: &[],
//! };
//! let found = [seen(60.0, RoadUser::Bus), seen(280.0, RoadUser::Car), seen(500.0, RoadUser::Bus)];
//! let size = (640, 360);
//! assert_eq!(pick(&found, size, Pick::Rank(0)), Some(1));
//! assert_eq!(pick(&found, size, Pick::Kind(RoadUser::Bus, 1)), Some(0)); // the other one is nearer to the middle
//! assert_eq!(pick(&found, size, Pick::Point(530.0, 170.0)), Some(2));
//! assert_eq!(pick(&found, size, Pick::Kind(RoadUser::Person, 0)), None);
//! ```

use super::ProposeNetwork;
use super::classes::RoadUser;
use super::decode::MAX_PROPOSALS;
use super::finder::Finder;
use crate::geometry::BoxXywh;
use crate::watch::Detection;

/// Whom somebody means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pick {
    /// The one with so many before it, by how much a driver would watch it.
    Rank(usize),
    /// The same among those of a kind.
    Kind(RoadUser, usize),
    /// The smallest box about this point, in pixels of the image.
    Point(f32, f32),
}

/// Less sure ones are not chosen unless somebody points at them.
pub const LEAST_SCORE: f32 = 0.3;
/// How much less somebody at the side of the picture counts than somebody in its middle.
const SIDE_SHARE: f32 = 0.5;
/// How much somebody counts who is cut by the border: they are leaving, or we are.
const CUT_SHARE: f32 = 0.4;
/// A box this near to the border touches it, as a share of the picture's width.
const AT_BORDER: f32 = 0.005;

/// Where whom somebody means is, of those that a finder found on its last frame. Nothing is allocated.
#[must_use]
pub fn pick_found<N: ProposeNetwork>(
    finder: &Finder<N>,
    size_px: (u32, u32),
    wanted: Pick,
) -> Option<BoxXywh> {
    let found: heapless::Vec<Detection<'_>, MAX_PROPOSALS> = finder.found().collect();
    pick(&found, size_px, wanted).map(|at| found[at].box_in_image)
}

/// The place of whom somebody means; `None` where there is no such.
#[must_use]
pub fn pick(found: &[Detection<'_>], size_px: (u32, u32), pick: Pick) -> Option<usize> {
    let nth = |nth: usize, kind: Option<RoadUser>| {
        let fits = |at: &usize| {
            let d = &found[*at];
            d.score >= LEAST_SCORE && kind.is_none_or(|kind| kind == d.kind)
        };
        let rank = |at: usize| worth(&found[at], size_px);
        // So many are better, or equal and before it.
        (0..found.len()).filter(fits).find(|&at| {
            let here = rank(at);
            let better =
                |other: &usize| rank(*other) > here || (rank(*other) == here && *other < at);
            (0..found.len()).filter(fits).filter(better).count() == nth
        })
    };
    match pick {
        Pick::Rank(n) => nth(n, None),
        Pick::Kind(kind, n) => nth(n, Some(kind)),
        Pick::Point(x_px, y_px) => {
            let about = |at: &usize| {
                let b = &found[*at].box_in_image;
                (b.x_px..=b.right_px()).contains(&x_px) && (b.y_px..=b.bottom_px()).contains(&y_px)
            };
            let area = |at: usize| found[at].box_in_image.area();
            (0..found.len())
                .filter(about)
                .min_by(|a, b| area(*a).total_cmp(&area(*b)))
        }
    }
}

/// How much a driver would watch somebody.
fn worth(d: &Detection<'_>, (width_px, height_px): (u32, u32)) -> f32 {
    let (width, height) = (width_px.max(1) as f32, height_px.max(1) as f32);
    let b = &d.box_in_image;
    let (cx, _) = b.center();
    let aside = (2.0 * (cx / width - 0.5).abs()).min(1.0);
    let margin = AT_BORDER * width;
    let is_cut = b.x_px <= margin || b.right_px() >= width - margin;
    let cut = if is_cut { CUT_SHARE } else { 1.0 };
    let side = libm::sqrtf(b.area() / (width * height));
    d.score * side * (1.0 - SIDE_SHARE * aside) * cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u32, u32) = (640, 360);

    fn seen(x_px: f32, side_px: f32, score: f32) -> Detection<'static> {
        Detection {
            box_in_image: BoxXywh::new(x_px, 150.0, side_px, side_px),
            score,
            kind: RoadUser::Car,
            embedding: &[],
        }
    }

    #[test]
    fn a_driver_watches_who_is_near_and_ahead_rather_than_who_leaves_the_picture() {
        let (ahead, aside, leaving) = (
            seen(300.0, 60.0, 0.8),
            seen(90.0, 60.0, 0.9),
            seen(540.0, 100.0, 0.95),
        );
        let found = [leaving, aside, ahead, seen(320.0, 12.0, 0.9)];
        let ranks = [0, 1, 2, 3].map(|n| pick(&found, SIZE, Pick::Rank(n)));
        assert_eq!(ranks, [Some(2), Some(1), Some(0), Some(3)]);
        assert_eq!(pick(&found, SIZE, Pick::Rank(4)), None);
    }

    #[test]
    fn who_is_hardly_there_is_chosen_by_nobody_but_a_pointer() {
        let found = [seen(300.0, 60.0, 0.2)];
        assert_eq!(pick(&found, SIZE, Pick::Rank(0)), None);
        assert_eq!(pick(&found, SIZE, Pick::Point(310.0, 160.0)), Some(0));
        assert_eq!(pick(&found, SIZE, Pick::Point(f32::NAN, 160.0)), None);
        assert_eq!(pick(&found, SIZE, Pick::Point(10.0, 160.0)), None);
    }

    #[test]
    fn of_boxes_about_a_point_the_smallest_is_meant_and_of_equals_the_first() {
        let found = [seen(200.0, 200.0, 0.9), seen(280.0, 40.0, 0.5)];
        assert_eq!(pick(&found, SIZE, Pick::Point(300.0, 170.0)), Some(1));
        let twins = [seen(300.0, 60.0, 0.8), seen(300.0, 60.0, 0.8)];
        let ranks = [0, 1, 2].map(|n| pick(&twins, SIZE, Pick::Rank(n)));
        assert_eq!(ranks, [Some(0), Some(1), None]);
    }
}
