//! Where on a frame is looked for road users: all of it at once, and closer where they are far away.
//!
//! A graph of 416 columns sees a car at eighty metres as six pixels, and the distance is where dashcams have most of their
//! traffic. A closer view costs a look more and sees it two and a half times as large, as slicing does for photographs from
//! the air (Akyon et al., SAHI, 2022); on a road the far things are in a band about the horizon, so a few views will do.
//!
//! In: the size of a frame, and who was seen in each view. Out: windows to look through, and everybody once. Nothing is
//! allocated.
//!
//! Everybody is told by the closest view that shows them whole: who is cut off by the border of a closer view is left to the
//! others, and who is not is left to it, whether it sees them or not. What the whole frame makes of a car at eighty metres is a
//! loose box, too unlike the closer view's to be taken for the same car. Where two views still tell of one object (two halves, or
//! boxes that differ at a border), the closer one knows better where it ends, and that both saw it makes it surer.
//!
//! ```
//! use roadhound_shared::preprocess::CropSize;
//! use roadhound_shared::propose::views::{Closer, ViewsConfig};
//! let input = CropSize { width_px: 416, height_px: 256 };
//! let windows = ViewsConfig::with(Closer::Middle).windows(1920, 1080, input);
//! assert_eq!(windows.len(), 2);
//! assert_eq!((windows[0].w_px, windows[1].w_px), (1920.0, 768.0));
//! ```

use serde::{Deserialize, Serialize};

use super::classes::RoadUser;
use super::decode::MAX_PROPOSALS;
use crate::geometry::BoxXywh;
use crate::limits::{LimitError, check_ranges};
use crate::preprocess::{CropSize, CropWindow};

/// At most so many views of a frame.
pub const MAX_VIEWS: usize = 4;
/// Who is so near to the border of a closer view, in pixels of the input, may go on behind it.
const BORDER_PX: f32 = 4.0;
/// Views whose fineness differs by less see the same.
const SAME_FINENESS: f32 = 1.01;
/// Two that one view tells apart are two, unless they overlap like this: the same as in decoding.
const SAME_VIEW_FROM_IOU: f32 = 0.6;
const SAME_VIEW_OTHER_KIND_FROM_IOU: f32 = 0.75;

/// Which parts of a frame are looked at closer, beside the whole of it. Each view is a look of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closer {
    /// None.
    Nothing,
    /// Two fifths of the width, in the middle.
    Middle,
    /// The left and the right half, a little more than that.
    Halves,
    /// Halves and middle: what stands across the line between the halves is in one piece.
    All,
}

/// Centre across and width, as shares of the frame's width.
type Part = (f32, f32);
const MIDDLE: Part = (0.5, 0.4);
const LEFT: Part = (0.263, 0.526);
const RIGHT: Part = (0.737, 0.526);

impl Closer {
    /// Every choice, the cheapest first.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Middle, Self::Halves, Self::All];

    /// Its name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Middle => "middle",
            Self::Halves => "halves",
            Self::All => "all",
        }
    }

    fn parts(self) -> &'static [Part] {
        match self {
            Self::Nothing => &[],
            Self::Middle => &[MIDDLE],
            Self::Halves => &[LEFT, RIGHT],
            Self::All => &[LEFT, RIGHT, MIDDLE],
        }
    }
}

/// Where to look, and when two are one. HOTA of watch mode on twenty rendered drives that are not for evaluation, ten in the US
/// and ten in India, with the shipped model: 38.1 and 34.4 with whole frames, 50.3 and 45.0 with the middle, 48.5 and 43.4 with
/// halves, 51.7 and 46.0 with all. Halves cut what stands in the middle of the road.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewsConfig {
    /// What is looked at closer.
    pub closer: Closer,
    /// Height of the middle of closer views, as a share of the frame's height from the top: a little above the horizon's
    /// usual place, for people and signs stand up from it.
    pub horizon: f32,
    /// From this IoU on what two views still tell of, of one kind, is one.
    pub same_from_iou: f32,
    /// The same for two kinds: the surer one is believed.
    pub other_kind_from_iou: f32,
}

impl Default for ViewsConfig {
    fn default() -> Self {
        Self {
            closer: Closer::Middle,
            horizon: 0.46,
            same_from_iou: 0.4,
            other_kind_from_iou: 0.6,
        }
    }
}

impl ViewsConfig {
    /// The defaults, but for this.
    #[must_use]
    pub fn with(closer: Closer) -> Self {
        Self {
            closer,
            ..Self::default()
        }
    }

    /// Checks every range; errors name the keys in `table`.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn validate(&self, table: &'static str) -> Result<(), LimitError> {
        check_ranges(
            table,
            [
                ("views.horizon", self.horizon, 0.0..=1.0),
                ("views.same_from_iou", self.same_from_iou, 0.0..=1.0),
                (
                    "views.other_kind_from_iou",
                    self.other_kind_from_iou,
                    0.0..=1.0,
                ),
            ],
        )
    }

    /// Windows of the input's aspect: the whole frame first, then the closer ones, which lie within the frame where that is
    /// high enough.
    #[must_use]
    pub fn windows(
        &self,
        frame_width_px: u32,
        frame_height_px: u32,
        input: CropSize,
    ) -> heapless::Vec<CropWindow, MAX_VIEWS> {
        let mut windows = heapless::Vec::new();
        let whole = CropWindow::letterbox(frame_width_px, frame_height_px, input);
        let (width, height) = (frame_width_px as f32, frame_height_px as f32);
        let closer = self.closer.parts().iter().map(|&(centre, share)| {
            let w_px = share * width;
            let h_px = w_px * input.height_px as f32 / input.width_px.max(1) as f32;
            let room = ((height - h_px) / 2.0).max(0.0);
            let middle = height / 2.0;
            CropWindow {
                cx_px: centre * width,
                cy_px: (self.horizon * height).clamp(middle - room, middle + room),
                w_px,
                h_px,
            }
        });
        // There is room for every set of parts.
        windows.extend(core::iter::once(whole).chain(closer));
        windows
    }
}

/// Somebody in one view, or in several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    pub(super) kind: RoadUser,
    pub(super) score: f32,
    pub(super) box_in_image: BoxXywh,
    /// Of the view that the box is from: pixels of the input a pixel of the image.
    pub(super) fineness: f32,
    /// A bit for each view that shows it.
    pub(super) views: u8,
    /// Where the embedding lies; also which of two equal ones came first.
    pub(super) slot: usize,
}

/// Everybody of one frame, in every view.
pub(super) type SeenInViews = heapless::Vec<Seen, { MAX_VIEWS * MAX_PROPOSALS }>;
/// Everybody of one frame.
pub(super) type SeenOnce = heapless::Vec<Seen, MAX_PROPOSALS>;

/// Whether something goes on, or may go on, behind the border of a view, on a frame that goes on there.
pub(super) fn is_cut(
    box_in_image: &BoxXywh,
    view: &CropWindow,
    fineness: f32,
    frame_width_px: u32,
    frame_height_px: u32,
) -> bool {
    let margin_px = BORDER_PX / fineness;
    let cut = |from: f32, to: f32, view_from: f32, view_to: f32, frame_to: f32| {
        (view_from > 0.5 && from < view_from + margin_px)
            || (view_to < frame_to - 0.5 && to > view_to - margin_px)
    };
    let (left, top) = (view.cx_px - view.w_px / 2.0, view.cy_px - view.h_px / 2.0);
    let b = box_in_image;
    let across = cut(
        b.x_px,
        b.right_px(),
        left,
        left + view.w_px,
        frame_width_px as f32,
    );
    let down = cut(
        b.y_px,
        b.bottom_px(),
        top,
        top + view.h_px,
        frame_height_px as f32,
    );
    across || down
}

/// Leaves everybody to the closest of the `windows` that shows them whole.
pub(super) fn leave_to_closest(
    all: &mut SeenInViews,
    windows: &[CropWindow],
    input: CropSize,
    frame_width_px: u32,
    frame_height_px: u32,
) {
    all.retain(|seen| {
        !windows.iter().any(|view| {
            let fineness = input.width_px as f32 / view.w_px;
            let b = &seen.box_in_image;
            fineness > SAME_FINENESS * seen.fineness
                && !is_cut(b, view, fineness, frame_width_px, frame_height_px)
        })
    });
}

/// Everybody once, best first; of equal ones the earlier.
pub(super) fn merge(all: &mut SeenInViews, config: &ViewsConfig, once: &mut SeenOnce) {
    let best_first = |a: &Seen, b: &Seen| b.score.total_cmp(&a.score).then(a.slot.cmp(&b.slot));
    all.sort_unstable_by(best_first);
    once.clear();
    for seen in all.iter() {
        let mut nearest: Option<(f32, &mut Seen)> = None;
        for known in once.iter_mut() {
            let iou = known.box_in_image.iou(&seen.box_in_image);
            if nearest.as_ref().is_none_or(|(most, _)| iou > *most) {
                nearest = Some((iou, known));
            }
        }
        match nearest {
            Some((iou, known)) if iou >= least_iou(known, seen, config) => known.take_in(seen),
            // Where there is no room those that are left out are the least sure ones.
            _ => drop(once.push(*seen)),
        }
    }
    once.sort_unstable_by(best_first);
}

/// From which IoU on these two are one.
fn least_iou(known: &Seen, seen: &Seen, config: &ViewsConfig) -> f32 {
    let is_same_view = known.views & seen.views != 0;
    match (is_same_view, known.kind == seen.kind) {
        (true, true) => SAME_VIEW_FROM_IOU,
        (true, false) => SAME_VIEW_OTHER_KIND_FROM_IOU,
        (false, true) => config.same_from_iou,
        (false, false) => config.other_kind_from_iou,
    }
}

impl Seen {
    /// The same, seen less surely elsewhere. What another view calls by another name, or what this view shows already, says
    /// nothing new.
    fn take_in(&mut self, seen: &Self) {
        if self.kind != seen.kind || self.views & seen.views != 0 {
            return;
        }
        self.views |= seen.views;
        self.score = 1.0 - (1.0 - self.score) * (1.0 - seen.score);
        if seen.fineness > self.fineness {
            self.box_in_image = seen.box_in_image;
            self.fineness = seen.fineness;
            self.slot = seen.slot;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const INPUT: CropSize = CropSize {
        width_px: 416,
        height_px: 256,
    };

    /// A car of 40 pixels at `x`.
    fn car(x_px: f32, score: f32, view: u8, slot: usize) -> Seen {
        Seen {
            kind: RoadUser::Car,
            score,
            box_in_image: BoxXywh::new(x_px, 100.0, 40.0, 40.0),
            fineness: f32::from(view) + 1.0,
            views: 1 << view,
            slot,
        }
    }

    fn merged(all: &[Seen]) -> std::vec::Vec<Seen> {
        let mut all = SeenInViews::from_slice(all).unwrap();
        let mut once = SeenOnce::new();
        merge(&mut all, &ViewsConfig::with(Closer::All), &mut once);
        once.to_vec()
    }

    #[test]
    fn what_two_views_show_is_one_surer_and_where_the_closer_says() {
        // IoU 36 of 44; the whole frame is surer of it.
        let found = merged(&[car(100.0, 0.8, 0, 0), car(104.0, 0.5, 1, 7)]);
        assert_eq!(found.len(), 1);
        let Seen {
            score,
            box_in_image,
            slot,
            ..
        } = found[0];
        assert!((score - 0.9).abs() < 1e-6);
        assert_eq!((box_in_image.x_px, slot), (104.0, 7));
    }

    #[test]
    fn two_that_one_view_tells_apart_stay_two() {
        // IoU 26 of 54, .48: one to different views, two to the same.
        let (left, right) = (car(100.0, 0.8, 1, 0), car(114.0, 0.5, 1, 1));
        assert_eq!(merged(&[left, right]).len(), 2);
        assert_eq!(merged(&[left, car(114.0, 0.5, 2, 1)]).len(), 1);
    }

    #[test]
    fn another_name_for_the_same_thing_neither_counts_nor_moves_it() {
        let mut truck = car(102.0, 0.6, 1, 1);
        truck.kind = RoadUser::Truck;
        let known = car(100.0, 0.8, 0, 0);
        assert_eq!(merged(&[known, truck]), [known]);
    }

    #[test]
    fn who_is_cut_by_a_closer_view_is_left_to_the_others_but_not_at_the_frames_own_border() {
        let [_, left, right] = *ViewsConfig::with(Closer::Halves).windows(640, 360, INPUT) else {
            panic!("three views");
        };
        let fineness = 416.0 / left.w_px;
        let cut = |view: &CropWindow, x, w| {
            is_cut(&BoxXywh::new(x, 150.0, w, 20.0), view, fineness, 640, 360)
        };
        // The left half ends at 336.6, the right one begins at 303.4.
        assert!(!cut(&left, 0.0, 30.0) && cut(&right, 300.0, 30.0));
        assert!(cut(&left, 310.0, 25.0) && !cut(&right, 600.0, 40.0));
        assert!(!cut(&left, 310.0, 20.0) && !cut(&right, 310.0, 20.0));
    }

    #[test]
    fn everybody_is_left_to_the_closest_view_that_shows_them_whole() {
        let views = ViewsConfig::with(Closer::All);
        let windows = views.windows(640, 360, INPUT);
        let fineness = |view: usize| 416.0 / windows[view].w_px;
        // The halves lie beside 303.4 to 336.6, the middle is 192 to 448.
        // Whose word counts, of all views that show it whole.
        let told = |x_px: f32, w_px: f32| -> std::vec::Vec<usize> {
            let b = BoxXywh::new(x_px, 150.0, w_px, 20.0);
            let shows = |view: &usize| !is_cut(&b, &windows[*view], fineness(*view), 640, 360);
            let seen_by = |view: usize| Seen {
                box_in_image: b,
                fineness: fineness(view),
                ..car(0.0, 0.5, view as u8, view)
            };
            let mut all: SeenInViews = (0..windows.len()).filter(shows).map(seen_by).collect();
            leave_to_closest(&mut all, &windows, INPUT, 640, 360);
            all.iter().map(|seen| seen.slot).collect()
        };
        assert_eq!(told(210.0, 40.0), [3], "in the left half and in the middle");
        assert_eq!(told(20.0, 40.0), [1], "in the left half");
        assert_eq!(told(180.0, 40.0), [1], "cut by the middle");
        assert_eq!(told(100.0, 440.0), [0], "cut by all but the whole");
        // A whole frame that shows more than it should is not believed, though nobody else is there.
        let alone = Seen {
            box_in_image: BoxXywh::new(210.0, 150.0, 40.0, 20.0),
            fineness: fineness(0),
            ..car(0.0, 0.9, 0, 0)
        };
        let mut all = SeenInViews::from_slice(&[alone]).unwrap();
        leave_to_closest(&mut all, &windows[..1], INPUT, 640, 360);
        assert_eq!(all.len(), 1);
        leave_to_closest(&mut all, &windows, INPUT, 640, 360);
        assert!(all.is_empty());
    }

    #[test]
    fn closer_views_lie_within_the_frame_and_show_more_of_it_than_half() {
        for (width, height) in [(640, 360), (640, 480), (1280, 720), (720, 1280)] {
            for window in &ViewsConfig::with(Closer::All).windows(width, height, INPUT)[1..] {
                let (w, h) = (width as f32, height as f32);
                let (left, top) = (
                    window.cx_px - window.w_px / 2.0,
                    window.cy_px - window.h_px / 2.0,
                );
                assert!(
                    left > -0.01 * w && left + window.w_px < 1.01 * w,
                    "{window:?}"
                );
                assert!(top > -1e-3 && top + window.h_px < h + 1e-3, "{window:?}");
                assert!(416.0 / window.w_px > 1.8 * 416.0 / w);
            }
        }
        // A strip is not high enough: the view is about its middle.
        let strip = ViewsConfig::with(Closer::Middle).windows(1000, 100, INPUT)[1];
        assert_eq!(strip.cy_px, 50.0);
    }

    #[test]
    fn a_configuration_says_what_the_names_say() {
        for closer in Closer::ALL {
            let text = std::format!("closer = \"{}\"\n", closer.name());
            assert_eq!(
                toml::from_str::<ViewsConfig>(&text).unwrap(),
                ViewsConfig::with(closer)
            );
        }
    }

    #[test]
    fn constants_that_cannot_be_are_named() {
        let config = ViewsConfig {
            horizon: f32::NAN,
            ..ViewsConfig::default()
        };
        let said = config.validate("watch").unwrap_err();
        assert!(std::format!("{said}").starts_with("watch.views.horizon: found NaN"));
    }

    proptest! {
        #[test]
        fn everybody_is_there_once_best_first_and_nobody_is_made_up(
            raw in proptest::collection::vec((0.0_f32..600.0, 0.01_f32..=1.0, 0_u8..4, 0_usize..3), 0..60),
        ) {
            let all: std::vec::Vec<Seen> = raw
                .iter()
                .enumerate()
                .map(|(slot, &(x, score, view, kind))| {
                    let kind = RoadUser::ALL[kind];
                    Seen { kind, ..car(x, score, view, slot) }
                })
                .collect();
            let found = merged(&all);
            prop_assert_eq!(found.is_empty(), all.is_empty());
            for pair in found.windows(2) {
                prop_assert!(pair[0].score >= pair[1].score);
            }
            for seen in &found {
                let from = &all[seen.slot];
                prop_assert_eq!((seen.box_in_image, seen.kind), (from.box_in_image, from.kind));
                prop_assert!(seen.score >= from.score - 1e-6 && seen.score <= 1.0);
            }
            // The order in which views were looked at means nothing but between equals.
            let mut turned = all;
            turned.reverse();
            prop_assert_eq!(merged(&turned), found);
        }
    }
}
