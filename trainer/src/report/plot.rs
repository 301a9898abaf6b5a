//! Charts as SVG text.
//!
//! In: series of points. Out: an `<svg>` element without scripts or styles of its own; the page's style sheet colours
//! series `k` by the class `sk`. Long series are drawn as the mean of some hundred buckets, so the size of a page does
//! not grow with the length of a run. Values that are not finite break the line; [`LineChart::non_finite`] counts them.
//!
//! ```
//! use roadhound_trainer::report::plot::{LineChart, Series};
//! let chart = LineChart {
//!     series: vec![Series { name: "auc".into(), points: vec![(0.0, 0.1), (500.0, f64::NAN), (1000.0, 0.7)] }],
//!     ..LineChart::default()
//! };
//! assert!(chart.svg().starts_with("<svg"));
//! assert_eq!(chart.non_finite(), 1);
//! ```

use std::fmt::Write;

use super::page::escape;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 208.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 36.0;
/// Points drawn of one series at most.
const BUCKETS: usize = 180;
/// Places along a chart that show their values when pointed at.
const HOVER_STRIPS: usize = 60;
/// Series with fewer points get markers.
const MARKERS_BELOW: usize = 45;
/// A chart whose positive values span more than this factor gets a logarithmic axis, if it asks for one.
const LOG_ABOVE_RATIO: f64 = 12.0;

/// One line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Shown when pointed at.
    pub name: String,
    /// `(x, y)`, x ascending.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common axis.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    /// What the chart shows; read out by screen readers.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// The lines; the position decides the colour.
    pub series: Vec<Series>,
    /// A logarithmic vertical axis where the values span enough.
    pub log_where_wide: bool,
    /// Draw a running mean over the values themselves, which become faint.
    pub smooth: bool,
    /// A dashed horizontal line, with its label.
    pub limit: Option<(f64, String)>,
}

/// Some neighbouring points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    x: f64,
    y: f64,
}

/// From values to shares of the axis.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    from: f64,
    to: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    fn share(&self, value: f64) -> f64 {
        let place = |v: f64| if self.log { v.ln() } else { v };
        ((place(value) - place(self.from)) / (place(self.to) - place(self.from))).clamp(0.0, 1.0)
    }

    fn linear(from: f64, to: f64, ticks_about: f64) -> Self {
        // All values equal: a little room around them, so that the line has a place.
        let room = if to > from {
            0.0
        } else {
            (from.abs() * 0.1).max(0.5)
        };
        let (from, to) = (from - room, to + room);
        let step = nice_step((to - from) / ticks_about);
        let (first, last) = ((from / step).floor(), (to / step).ceil());
        let count = (last - first).min(50.0) as usize;
        // Built from whole numbers of steps: 0.1 + 0.2 would show as 0.30000000000000004.
        let ticks = (0..=count).map(|k| (first + k as f64) * step).collect();
        Self {
            from: first * step,
            to: last * step,
            log: false,
            ticks,
        }
    }

    fn logarithmic(from: f64, to: f64) -> Self {
        let room = (to / from).powf(0.04);
        let (from, to) = (from / room, to * room);
        let inside = |factors: &[f64]| -> Vec<f64> {
            (from.log10().floor() as i32..=to.log10().ceil() as i32)
                .flat_map(|decade| factors.iter().map(move |f| f * 10f64.powi(decade)))
                .filter(|tick| (from..=to).contains(tick))
                .collect()
        };
        let candidates = [&[1.0, 2.0, 5.0][..], &[1.0, 3.0][..], &[1.0][..]];
        let ticks = candidates
            .iter()
            .map(|factors| inside(factors))
            .find(|ticks| ticks.len() <= 6)
            .unwrap_or_else(|| inside(&[1.0]).into_iter().step_by(3).collect());
        Self {
            from,
            to,
            log: true,
            ticks,
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(1e-300).log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|f| f * power >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0);
    factor * power
}

/// A number in as few signs as a chart's axis has room for: `130k`, `0.05`, `2e-4`.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match size {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".to_owned(),
        _ if size >= 999_500.0 => format!("{}M", trimmed(format!("{:.2}", value / 1e6))),
        _ if size >= 1000.0 => format!("{}k", trimmed(format!("{:.1}", value / 1e3))),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => trimmed(format!("{value:.1}")),
        _ if size >= 1.0 => trimmed(format!("{value:.2}")),
        _ if size >= 0.1 => trimmed(format!("{value:.3}")),
        _ if size >= 0.001 => trimmed(format!("{value:.4}")),
        _ => {
            let text = format!("{value:.1e}");
            text.replacen(".0e", "e", 1)
        }
    }
}

/// Means of neighbouring points; `None` where the line breaks.
fn buckets(points: &[(f64, f64)], [from, to]: [f64; 2]) -> Vec<Option<Bucket>> {
    let width = (to - from) / BUCKETS as f64;
    let place = |x: f64| match width > 0.0 {
        true => ((x - from) / width) as usize,
        false => 0,
    };
    points
        .chunk_by(|a, b| place(a.0) == place(b.0))
        .map(|near| {
            let finite: Vec<_> = near.iter().filter(|(_, y)| y.is_finite()).collect();
            let n = finite.len() as f64;
            (!finite.is_empty()).then(|| Bucket {
                x: finite.iter().map(|(x, _)| x).sum::<f64>() / n,
                y: finite.iter().map(|(_, y)| y).sum::<f64>() / n,
            })
        })
        .collect()
}

/// Running mean over a fortieth of the line to either side.
fn smoothed(line: &[Option<Bucket>]) -> Vec<Option<Bucket>> {
    let reach = line.len() / 40 + 1;
    line.iter()
        .enumerate()
        .map(|(i, bucket)| {
            let bucket = (*bucket)?;
            let near = &line[i.saturating_sub(reach)..(i + reach + 1).min(line.len())];
            let values: Vec<f64> = near.iter().flatten().map(|b| b.y).collect();
            Some(Bucket {
                y: values.iter().sum::<f64>() / values.len() as f64,
                ..bucket
            })
        })
        .collect()
}

impl LineChart {
    /// Values that cannot be drawn, over all series.
    pub fn non_finite(&self) -> usize {
        let points = self.series.iter().flat_map(|s| &s.points);
        points.filter(|(_, y)| !y.is_finite()).count()
    }

    /// No value can be drawn.
    pub fn is_empty(&self) -> bool {
        let mut points = self.series.iter().flat_map(|s| &s.points);
        !points.any(|(x, y)| x.is_finite() && y.is_finite())
    }

    /// Smallest and largest x of the points that have a finite x.
    fn x_range(&self) -> [f64; 2] {
        let points = self.series.iter().flat_map(|s| &s.points);
        let finite = points.map(|(x, _)| *x).filter(|x| x.is_finite());
        finite.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| {
            [low.min(x), high.max(x)]
        })
    }

    fn y_axis(&self, lines: &[Vec<Option<Bucket>>]) -> Axis {
        let values = || lines.iter().flatten().flatten().map(|b| b.y);
        let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| {
            (l.min(y), h.max(y))
        });
        if self.log_where_wide && low > 0.0 && high / low > LOG_ABOVE_RATIO {
            return Axis::logarithmic(low, high);
        }
        // The limit is worth seeing where the values come near it.
        let limit = self.limit.as_ref().map(|(value, _)| *value);
        let high = limit.map_or(high, |limit| high.max(limit * 1.2));
        // Zero is worth seeing where it is near.
        let low = if low > 0.0 && low < 0.4 * high {
            0.0
        } else {
            low
        };
        Axis::linear(low, high, 5.0)
    }

    /// The chart, or an empty string where there is nothing to draw.
    pub fn svg(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let x_range = self.x_range();
        let lines: Vec<_> = self
            .series
            .iter()
            .map(|s| buckets(&s.points, x_range))
            .collect();
        // The right edge is the last value, not the next round number: room is dear on a phone.
        let mut x_axis = Axis::linear(x_range[0].min(0.0), x_range[1], 5.0);
        x_axis.to = x_axis
            .to
            .min(x_range[1].max(x_axis.from + f64::MIN_POSITIVE));
        if x_axis.to <= x_axis.from {
            x_axis.to = x_axis.from + 1.0;
        }
        x_axis.ticks.retain(|tick| *tick <= x_axis.to);
        let y_axis = self.y_axis(&lines);
        let x_px = |x: f64| LEFT + x_axis.share(x) * (WIDTH - LEFT - RIGHT);
        let y_px = |y: f64| HEIGHT - BOTTOM - y_axis.share(y) * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            escape(&self.title)
        );
        grid(&mut svg, &x_axis, &y_axis, &x_px, &y_px);
        label(
            &mut svg,
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 4.0,
            "middle",
            &self.x_label,
        );
        if let Some((value, name)) = &self.limit {
            let y = y_px(*value);
            let _ = write!(
                svg,
                r#"<path class="limit" d="M{LEFT} {y:.1}H{:.1}"/>"#,
                WIDTH - RIGHT
            );
            label(&mut svg, WIDTH - RIGHT - 2.0, y - 3.0, "end", name);
        }
        for (k, line) in lines.iter().enumerate() {
            let smooth = self.smooth && line.len() >= 20;
            let class = format!("line s{}", k % SERIES_COLOURS);
            if smooth {
                // Of several runs, the values themselves would hide each other.
                if lines.len() == 1 {
                    draw(&mut svg, line, &format!("{class} faint"), &x_px, &y_px);
                }
                draw(&mut svg, &smoothed(line), &class, &x_px, &y_px);
            } else {
                draw(&mut svg, line, &class, &x_px, &y_px);
                if line.len() < MARKERS_BELOW {
                    for bucket in line.iter().flatten() {
                        let (x, y) = (x_px(bucket.x), y_px(bucket.y));
                        let _ = write!(
                            svg,
                            r#"<circle class="dot s{}" cx="{x:.1}" cy="{y:.1}" r="2.2"/>"#,
                            k % SERIES_COLOURS
                        );
                    }
                }
            }
        }
        self.hover(&mut svg, &x_axis, &x_px);
        svg.push_str("</svg>");
        svg
    }

    /// Strips over the chart that say the values below them.
    fn hover(&self, svg: &mut String, x_axis: &Axis, x_px: &dyn Fn(f64) -> f64) {
        let width = (x_axis.to - x_axis.from) / HOVER_STRIPS as f64;
        for strip in 0..HOVER_STRIPS {
            let (from, to) = (
                x_axis.from + strip as f64 * width,
                x_axis.from + (strip + 1) as f64 * width,
            );
            let last = strip + 1 == HOVER_STRIPS;
            let mut at = None;
            let mut lines = String::new();
            for series in &self.series {
                let inside = |p: &&(f64, f64)| p.0 >= from && (p.0 < to || last) && p.1.is_finite();
                let found: Vec<_> = series.points.iter().filter(inside).collect();
                let Some(first) = found.first() else { continue };
                at.get_or_insert(first.0);
                let mean = found.iter().map(|p| p.1).sum::<f64>() / found.len() as f64;
                let _ = write!(lines, "\n{}: {}", escape(&series.name), short(mean));
            }
            if let Some(at) = at {
                let _ = write!(
                    svg,
                    r#"<rect class="strip" x="{:.1}" y="{TOP}" width="{:.1}" height="{:.1}"><title>{} {}{lines}</title></rect>"#,
                    x_px(from),
                    x_px(to) - x_px(from),
                    HEIGHT - TOP - BOTTOM,
                    short(at),
                    escape(&self.x_label)
                );
            }
        }
    }
}

/// Colours that the style sheet has for series.
pub const SERIES_COLOURS: usize = 10;

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
        escape(text)
    );
}

fn grid(
    svg: &mut String,
    x_axis: &Axis,
    y_axis: &Axis,
    x_px: &dyn Fn(f64) -> f64,
    y_px: &dyn Fn(f64) -> f64,
) {
    let bottom = HEIGHT - BOTTOM;
    for tick in &y_axis.ticks {
        let y = y_px(*tick);
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{LEFT} {y:.1}H{:.1}"/>"#,
            WIDTH - RIGHT
        );
        label(svg, LEFT - 6.0, y + 3.5, "end", &short(*tick));
    }
    for tick in &x_axis.ticks {
        let x = x_px(*tick);
        let _ = write!(svg, r#"<path class="axis" d="M{x:.1} {bottom:.1}v4"/>"#);
        label(svg, x, bottom + 16.0, "middle", &short(*tick));
    }
    let _ = write!(
        svg,
        r#"<path class="axis" d="M{LEFT} {bottom:.1}H{:.1}"/>"#,
        WIDTH - RIGHT
    );
}

fn draw(
    svg: &mut String,
    line: &[Option<Bucket>],
    class: &str,
    x_px: &dyn Fn(f64) -> f64,
    y_px: &dyn Fn(f64) -> f64,
) {
    let mut path = String::new();
    let mut pen_down = false;
    for bucket in line {
        match bucket {
            Some(b) => {
                let command = if pen_down { 'L' } else { 'M' };
                let _ = write!(path, "{command}{:.1} {:.1}", x_px(b.x), y_px(b.y));
                pen_down = true;
            }
            None => pen_down = false,
        }
    }
    let _ = write!(svg, r#"<path class="{class}" d="{path}"/>"#);
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReliabilityBin {
    /// Pairs in the bin.
    pub count: f64,
    /// Mean of what was predicted for them.
    pub mean_predicted: f64,
    /// Share of them on which the target was there.
    pub share_present: f64,
}

/// Expected calibration error: the mean distance of prediction and share, weighted by pairs; `None` without pairs.
pub fn calibration_error(bins: &[ReliabilityBin]) -> Option<f64> {
    let filled = || {
        bins.iter().filter(|b| {
            b.count > 0.0 && b.mean_predicted.is_finite() && b.share_present.is_finite()
        })
    };
    let count: f64 = filled().map(|b| b.count).sum();
    let off: f64 = filled()
        .map(|b| b.count * (b.mean_predicted - b.share_present).abs())
        .sum();
    (count > 0.0).then(|| off / count)
}

/// Predicted presence against how often the target was there, one line a series, dots sized by pairs.
pub fn reliability_diagram(series: &[(String, Vec<ReliabilityBin>)]) -> String {
    const SIDE: f64 = 300.0;
    const SHIFT: f64 = 40.0;
    let inner = SIDE - SHIFT - 16.0;
    let x_px = |share: f64| SHIFT + share.clamp(0.0, 1.0) * inner;
    let y_px = |share: f64| SIDE - SHIFT - share.clamp(0.0, 1.0) * inner;
    let mut svg = format!(
        r#"<svg viewBox="0 0 {SIDE} {SIDE}" class="square" role="img" aria-label="Reliability of presence">"#
    );
    for k in 0..=5 {
        let share = f64::from(k) / 5.0;
        let (x, y) = (x_px(share), y_px(share));
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{:.1} {y:.1}H{:.1}M{x:.1} {:.1}V{:.1}"/>"#,
            x_px(0.0),
            x_px(1.0),
            y_px(0.0),
            y_px(1.0)
        );
        label(&mut svg, SHIFT - 6.0, y + 3.5, "end", &short(share));
        label(&mut svg, x, SIDE - SHIFT + 15.0, "middle", &short(share));
    }
    let middle = x_px(0.5);
    label(&mut svg, middle, SIDE - 8.0, "middle", "presence predicted");
    let _ = write!(
        svg,
        r#"<text transform="translate(11 {:.1}) rotate(-90)" text-anchor="middle">share present</text><path class="limit" d="M{:.1} {:.1}L{:.1} {:.1}"/>"#,
        y_px(0.5),
        x_px(0.0),
        y_px(0.0),
        x_px(1.0),
        y_px(1.0)
    );
    for (k, (name, bins)) in series.iter().enumerate() {
        let colour = k % SERIES_COLOURS;
        let most = bins.iter().map(|b| b.count).fold(1.0, f64::max);
        let line: Vec<_> = bins
            .iter()
            .filter(|b| {
                b.count > 0.0 && b.mean_predicted.is_finite() && b.share_present.is_finite()
            })
            .map(|b| {
                Some(Bucket {
                    x: b.mean_predicted,
                    y: b.share_present,
                })
            })
            .collect();
        draw(&mut svg, &line, &format!("line s{colour}"), &x_px, &y_px);
        for b in bins.iter().filter(|b| {
            b.count > 0.0 && b.mean_predicted.is_finite() && b.share_present.is_finite()
        }) {
            let _ = write!(
                svg,
                r#"<circle class="dot s{colour}" cx="{:.1}" cy="{:.1}" r="{:.1}"><title>{}: predicted {:.3}, present {:.3}, {:.0} pairs</title></circle>"#,
                x_px(b.mean_predicted),
                y_px(b.share_present),
                2.5 + 6.0 * (b.count / most).sqrt(),
                escape(name),
                b.mean_predicted,
                b.share_present,
                b.count
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> LineChart {
        LineChart {
            title: "loss".into(),
            x_label: "pairs".into(),
            series: vec![Series {
                name: "<run>".into(),
                points,
            }],
            ..LineChart::default()
        }
    }

    #[test]
    fn ticks_are_round_numbers_that_enclose_the_values() {
        let axis = Axis::linear(0.13, 0.77, 4.0);
        assert_eq!(
            axis.ticks.iter().map(|t| short(*t)).collect::<Vec<_>>(),
            ["0", "0.2", "0.4", "0.6", "0.8"]
        );
        assert!(axis.from <= 0.13 && axis.to >= 0.77);
        let flat = Axis::linear(3.0, 3.0, 4.0);
        assert!(flat.from < 3.0 && flat.to > 3.0);
    }

    #[test]
    fn a_wide_span_of_positive_values_gets_decades_if_asked_for() {
        let mut chart = chart(
            (1..200)
                .map(|k| (f64::from(k), 1000.0 / f64::from(k)))
                .collect(),
        );
        let axis = |chart: &LineChart| {
            let lines: Vec<_> = chart
                .series
                .iter()
                .map(|s| buckets(&s.points, chart.x_range()))
                .collect();
            chart.y_axis(&lines)
        };
        assert!(!axis(&chart).log);
        chart.log_where_wide = true;
        let log = axis(&chart);
        assert!(log.log && log.ticks.contains(&100.0), "{log:?}");
        let fivefold = [
            log.share(50.0) - log.share(10.0),
            log.share(500.0) - log.share(100.0),
        ];
        assert!(
            (fivefold[0] - fivefold[1]).abs() < 1e-9,
            "equal factors are equally far apart"
        );
        chart.series[0].points.push((200.0, 0.0));
        assert!(!axis(&chart).log, "zero has no place on a logarithmic axis");
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (130_008.0, "130k"),
            (1_500.0, "1.5k"),
            (2_000_000.0, "2M"),
            (0.05, "0.05"),
            (2e-4, "2e-4"),
            (2.36e-5, "2.4e-5"),
            (-12.0, "-12"),
            (0.7634, "0.763"),
            (999.6, "1000"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn a_value_that_is_no_number_breaks_the_line() {
        let points = vec![
            (0.0, 1.0),
            (1.0, 2.0),
            (2.0, f64::NAN),
            (3.0, 1.0),
            (4.0, 2.0),
        ];
        let svg = chart(points).svg();
        let path = svg
            .split(r#"class="line s0" d=""#)
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_default();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn charts_of_nothing_but_one_value_or_of_no_number_are_no_trouble() {
        assert_eq!(chart(vec![]).svg(), "");
        assert_eq!(chart(vec![(0.0, f64::NAN), (1.0, f64::INFINITY)]).svg(), "");
        for lonely in [(0.0, 0.0), (480.0, 0.3), (480.0, -4.0)] {
            let svg = chart(vec![lonely]).svg();
            assert!(svg.contains("circle") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn a_long_run_is_drawn_in_few_points_and_its_names_are_escaped() {
        let points = (0..100_000)
            .map(|k| (f64::from(k), f64::from(k % 7)))
            .collect();
        let svg = chart(points).svg();
        assert!(svg.len() < 30_000, "{} bytes", svg.len());
        assert!(svg.contains("&lt;run&gt;: ") && !svg.contains("<run>"));
    }

    #[test]
    fn calibration_error_weighs_bins_by_their_pairs() {
        let bin = |count, mean_predicted, share_present| ReliabilityBin {
            count,
            mean_predicted,
            share_present,
        };
        let bins = [
            bin(90.0, 0.9, 0.8),
            bin(10.0, 0.1, 0.5),
            bin(0.0, f64::NAN, f64::NAN),
        ];
        let error = calibration_error(&bins).unwrap_or(f64::NAN);
        assert!((error - 0.13).abs() < 1e-12, "{error}");
        assert_eq!(calibration_error(&bins[2..]), None);
        let svg = reliability_diagram(&[("a".into(), bins.to_vec())]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN"));
    }
}
