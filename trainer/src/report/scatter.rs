//! Points by class as an SVG: maps of latent codes and of learned distances.
//!
//! In: clouds of points. Out: an `<svg>` whose axes have one scale, so that distances mean what they look like. Of very
//! large clouds an even selection is drawn; points that are not finite are left out.

use std::fmt::Write;

use super::page::escape;
use super::plot::SERIES_COLOURS;

const SIDE: f64 = 330.0;
const MARGIN: f64 = 12.0;
/// Points drawn of one cloud at most.
const MOST: usize = 400;
/// Values beyond this have no place on a drawing: their differences are not finite.
const LARGEST: f64 = 1e150;

/// The points of one class.
#[derive(Clone, Copy, Debug)]
pub struct Cloud<'a> {
    /// Shown when pointed at.
    pub name: &'a str,
    /// `(x, y)`.
    pub points: &'a [(f64, f64)],
}

/// The drawing, or an empty string where there is nothing to draw.
pub fn scatter(title: &str, clouds: &[Cloud<'_>]) -> String {
    let finite =
        |p: &&(f64, f64)| p.0.abs().max(p.1.abs()) < LARGEST && !p.0.is_nan() && !p.1.is_nan();
    let all = || clouds.iter().flat_map(|c| c.points.iter().filter(finite));
    if all().next().is_none() {
        return String::new();
    }
    let range = |of: fn(&(f64, f64)) -> f64| {
        all()
            .map(of)
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| {
                [low.min(v), high.max(v)]
            })
    };
    let ([left, right], [low, high]) = (range(|p| p.0), range(|p| p.1));
    let span = (right - left).max(high - low).max(1e-12);
    let scale = (SIDE - 2.0 * MARGIN) / span;
    let place = |v: f64, [from, to]: [f64; 2]| SIDE / 2.0 + (v - (from + to) / 2.0) * scale;
    let mut svg = format!(
        r#"<svg viewBox="0 0 {SIDE} {SIDE}" class="square" role="img" aria-label="{}">"#,
        escape(title)
    );
    for (k, cloud) in clouds.iter().enumerate() {
        let _ = write!(
            svg,
            "<g class=\"s{0} dots\"><title>{1}</title>",
            k % SERIES_COLOURS,
            escape(cloud.name)
        );
        let step = cloud.points.len().div_ceil(MOST).max(1);
        for (x, y) in cloud.points.iter().step_by(step).filter(finite) {
            let _ = write!(
                svg,
                r#"<circle class="dot s{}" cx="{:.1}" cy="{:.1}" r="2.2"/>"#,
                k % SERIES_COLOURS,
                place(*x, [left, right]),
                SIDE - place(*y, [low, high])
            );
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_keep_their_proportions_and_what_is_not_finite_is_left_out() {
        let points = [(0.0, 0.0), (10.0, 1.0), (f64::NAN, 3.0)];
        let svg = scatter(
            "map",
            &[Cloud {
                name: "<a>",
                points: &points,
            }],
        );
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(
            svg.contains("cx=\"12.0\"") && svg.contains("cx=\"318.0\""),
            "{svg}"
        );
        // A tenth as high as wide: the centre line, and 15.3 to either side.
        assert!(
            svg.contains("cy=\"180.3\"") && svg.contains("cy=\"149.7\""),
            "{svg}"
        );
        assert!(svg.contains("&lt;a&gt;") && !svg.contains("NaN"));
    }

    #[test]
    fn nothing_one_point_and_very_many_are_no_trouble() {
        assert_eq!(scatter("map", &[]), "");
        let one = [(3.0, 3.0)];
        assert!(
            scatter(
                "map",
                &[Cloud {
                    name: "a",
                    points: &one
                }]
            )
            .contains("cx=\"165.0\"")
        );
        let many: Vec<(f64, f64)> = (0..100_000).map(|k| (f64::from(k), 0.0)).collect();
        let svg = scatter(
            "map",
            &[Cloud {
                name: "a",
                points: &many,
            }],
        );
        assert!(svg.matches("<circle").count() <= MOST);
    }
}
