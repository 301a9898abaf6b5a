//! Which of a camera's formats to ask for.
//!
//! Enters: what the camera offers and what is wanted. Leaves: one offer. Pure: the device is in `v4l2`.
//!
//! An offer first of all has to be fast and large enough; among those that are equally good at that, the one that costs
//! the processor least wins. So a USB 2 camera that can do 1280x720 YUYV at 10 frames a second and MJPEG at 30 is asked
//! for MJPEG, and at 640x480, where both reach 30, for YUYV.
//!
//! ```
//! use roadhound_edge::capture::Encoding;
//! use roadhound_edge::capture::negotiate::{Offer, Wanted, choose};
//! use roadhound_shared::frame::PixelFormat::Yuyv;
//!
//! let offer = |encoding, width_px, height_px, fps| Offer { encoding, width_px, height_px, fps };
//! let camera = [
//!     offer(Encoding::Raw(Yuyv), 640, 480, 30.0),
//!     offer(Encoding::Raw(Yuyv), 1280, 720, 10.0),
//!     offer(Encoding::Mjpeg, 640, 480, 30.0),
//!     offer(Encoding::Mjpeg, 1280, 720, 30.0),
//! ];
//! let wanted = Wanted { width_px: 1280, height_px: 720, fps: 30.0, only: None };
//! assert_eq!(choose(&camera, &wanted), Some(camera[3]));
//! let wanted = Wanted { width_px: 640, height_px: 480, ..wanted };
//! assert_eq!(choose(&camera, &wanted), Some(camera[0]));
//! ```

use roadhound_shared::frame::PixelFormat;

use super::Encoding;

/// One combination that a camera can deliver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Layout of the bytes.
    pub encoding: Encoding,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Frames per second.
    pub fps: f64,
}

/// What is wanted of a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Frames per second.
    pub fps: f64,
    /// No other layout than this.
    pub only: Option<Encoding>,
}

/// A frame that comes late or not at all hurts more than one that is small.
const WEIGHT_OF_RATE: f64 = 2.0;
/// Per doubling of the area. A smaller picture has less to see.
const WEIGHT_OF_SMALLER: f64 = 0.25;
/// Per doubling of the area: a larger picture costs time, which is counted, and is cropped anyway.
const WEIGHT_OF_LARGER: f64 = 0.1;
/// Another shape means another field of view.
const WEIGHT_OF_SHAPE: f64 = 0.2;
/// The network has learned colours.
const PENALTY_OF_GREY: f64 = 0.5;
/// Offers whose misfits differ by less are equally good; 30 and 29.97 frames a second are.
const SAME_MISFIT: f64 = 0.02;

/// Nanoseconds a pixel on one core: a copy of the buffer, or decoding a JPEG. Only their order matters.
fn nanos_a_pixel(encoding: Encoding) -> f64 {
    match encoding {
        Encoding::Raw(PixelFormat::Grey8) => 0.1,
        Encoding::Raw(PixelFormat::Nv12) => 0.15,
        Encoding::Raw(PixelFormat::Yuyv) => 0.2,
        Encoding::Raw(PixelFormat::Rgb8 | PixelFormat::Bgr8) => 0.3,
        Encoding::Mjpeg => 8.0,
    }
}

/// How far an offer is from what is wanted; 0 is exactly it, or faster.
fn misfit(offer: &Offer, wanted: &Wanted) -> f64 {
    let area = |w: u32, h: u32| f64::from(w.max(1)) * f64::from(h.max(1));
    let doublings =
        (area(offer.width_px, offer.height_px) / area(wanted.width_px, wanted.height_px)).log2();
    let ratio = |w: u32, h: u32| f64::from(w.max(1)) / f64::from(h.max(1));
    let shape = (ratio(offer.width_px, offer.height_px) / ratio(wanted.width_px, wanted.height_px))
        .log2()
        .abs();
    let missing = (1.0 - offer.fps / wanted.fps).max(0.0);
    let grey = offer.encoding == Encoding::Raw(PixelFormat::Grey8);
    WEIGHT_OF_RATE * missing
        + WEIGHT_OF_SMALLER * (-doublings).max(0.0)
        + WEIGHT_OF_LARGER * doublings.max(0.0)
        + WEIGHT_OF_SHAPE * shape
        + if grey { PENALTY_OF_GREY } else { 0.0 }
}

/// The best offer; `None` where none has a layout that is wanted.
pub fn choose(offers: &[Offer], wanted: &Wanted) -> Option<Offer> {
    let fits = |offer: &&Offer| {
        wanted.only.is_none_or(|only| only == offer.encoding)
            && offer.fps.is_finite()
            && offer.fps > 0.0
            && offer.width_px > 0
            && offer.height_px > 0
    };
    let best = offers
        .iter()
        .filter(fits)
        .map(|offer| misfit(offer, wanted))
        .min_by(f64::total_cmp)?;
    let nanos = |offer: &Offer| {
        let pixels = f64::from(offer.width_px) * f64::from(offer.height_px);
        pixels * offer.fps * nanos_a_pixel(offer.encoding)
    };
    offers
        .iter()
        .filter(fits)
        .filter(|offer| misfit(offer, wanted) <= best + SAME_MISFIT)
        .min_by(|a, b| nanos(a).total_cmp(&nanos(b)))
        .copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use roadhound_shared::frame::PixelFormat::{Grey8, Nv12, Yuyv};

    use super::*;

    const YUYV: Encoding = Encoding::Raw(Yuyv);

    fn offer(encoding: Encoding, width_px: u32, height_px: u32, fps: f64) -> Offer {
        Offer {
            encoding,
            width_px,
            height_px,
            fps,
        }
    }

    const HD: Wanted = Wanted {
        width_px: 1280,
        height_px: 720,
        fps: 30.0,
        only: None,
    };

    #[test]
    fn the_cheaper_of_two_equally_good_layouts_wins() {
        let offers = [
            offer(Encoding::Mjpeg, 1280, 720, 30.0),
            offer(YUYV, 1280, 720, 30.0),
            offer(Encoding::Raw(Nv12), 1280, 720, 30.0),
        ];
        assert_eq!(choose(&offers, &HD), Some(offers[2]));
    }

    #[test]
    fn a_rate_that_is_higher_than_wanted_is_not_paid_for() {
        let offers = [15.0, 30.0, 60.0, 120.0].map(|fps| offer(YUYV, 1280, 720, fps));
        assert_eq!(choose(&offers, &HD), Some(offers[1]));
        let ntsc = [offer(YUYV, 1280, 720, 29.97), offer(YUYV, 1280, 720, 60.0)];
        assert_eq!(choose(&ntsc, &HD), Some(ntsc[0]));
    }

    #[test]
    fn a_smaller_picture_at_full_rate_beats_a_slide_show() {
        let offers = [offer(YUYV, 1280, 720, 5.0), offer(YUYV, 640, 480, 30.0)];
        assert_eq!(choose(&offers, &HD), Some(offers[1]));
    }

    #[test]
    fn the_nearest_size_wins_and_the_same_shape_before_another() {
        let offers = [
            offer(YUYV, 640, 480, 30.0),
            offer(YUYV, 800, 600, 30.0),
            offer(YUYV, 1024, 576, 30.0),
            offer(YUYV, 1920, 1080, 30.0),
        ];
        assert_eq!(choose(&offers[..3], &HD), Some(offers[2]));
        assert_eq!(choose(&offers, &HD), Some(offers[3]));
    }

    #[test]
    fn grey_is_taken_only_where_nothing_else_is_as_good() {
        let offers = [
            offer(Encoding::Raw(Grey8), 1280, 720, 30.0),
            offer(Encoding::Mjpeg, 1280, 720, 30.0),
        ];
        assert_eq!(choose(&offers, &HD), Some(offers[1]));
        assert_eq!(choose(&offers[..1], &HD), Some(offers[0]));
    }

    #[test]
    fn a_layout_that_is_asked_for_is_taken_or_nothing() {
        let offers = [
            offer(YUYV, 1280, 720, 30.0),
            offer(Encoding::Mjpeg, 1280, 720, 30.0),
        ];
        let only = |encoding| Wanted {
            only: Some(encoding),
            ..HD
        };
        assert_eq!(choose(&offers, &only(Encoding::Mjpeg)), Some(offers[1]));
        assert_eq!(choose(&offers, &only(Encoding::Raw(Nv12))), None);
        assert_eq!(choose(&[], &HD), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_chosen_is_beaten_on_every_count(
            offers in prop::collection::vec((0usize..4, 1u32..4000, 1u32..4000, 1.0f64..120.0), 1..20),
        ) {
            let kinds = [YUYV, Encoding::Raw(Nv12), Encoding::Raw(Grey8), Encoding::Mjpeg];
            let offers: Vec<Offer> =
                offers.into_iter().map(|(k, w, h, fps)| offer(kinds[k], w, h, fps)).collect();
            let chosen = choose(&offers, &HD).unwrap();
            prop_assert!(offers.contains(&chosen));
            for other in &offers {
                prop_assert!(misfit(&chosen, &HD) <= misfit(other, &HD) + SAME_MISFIT);
            }
        }
    }
}
