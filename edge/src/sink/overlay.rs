//! Draws what the tracker reports onto a frame.
//!
//! The box is coloured by phase: green while tracking, amber while uncertain, red while lost.

use roadhound_shared::tracker::{Phase, Report};

use super::picture::{I420, Yuv};

const GREEN: Yuv = [150, 44, 21];
const AMBER: Yuv = [180, 30, 170];
const RED: Yuv = [90, 90, 230];
const GREY: Yuv = [160, 128, 128];

/// Draws the box and the label of a report.
pub fn annotate(picture: &mut I420, report: &Report) {
    let colour = match report.phase {
        Phase::Tracking => GREEN,
        Phase::Uncertain => AMBER,
        Phase::Lost => RED,
        Phase::Idle => GREY,
    };
    let name = report.phase.name();
    let scale = picture.text_scale();
    let label = format!(
        "{name}  score {:.2}  presence {:.2}",
        report.score, report.presence
    );
    // At the box; a lost target's label stays in the corner.
    let place = match report.box_in_image {
        Some(b) => {
            picture.outline(&b, 2 * ((scale + 1) / 2), colour);
            picture.label_place(&b)
        }
        None => (12 * scale, 12 * scale),
    };
    picture.label(place, &label, colour);
}

#[cfg(test)]
mod tests {
    use super::super::font::FONT;

    #[test]
    fn every_letter_of_a_label_is_in_the_font() {
        for letter in "tracking uncertain lost idle score presence 0123456789.-".chars() {
            assert!(FONT.iter().any(|(c, _)| *c == letter), "{letter}");
        }
    }
}
