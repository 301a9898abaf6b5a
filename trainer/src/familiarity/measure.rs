//! From a code and what comes back from it to one distance.
//!
//! In: a picture, its code, the decoded picture. Out: four [`parts`](Statistics::parts), each as a share of what is still
//! usual, and the largest of them, which is the distance: beyond 1, a picture is unlike what was learned in at least one way.
//!
//! - how far the code lies from the usual codes, as a Mahalanobis distance;
//! - the same of the errors of what comes back, in logarithms, for each cell of a grid;
//! - how much less detail there is, in the mean of the cells;
//! - how much less there is at the sharpest places, wherever they are.
//!
//! Why the largest, and not one distance over all values: a blur takes the same from all cells and leaves the code where it
//! was. A mean of squares over dozens of values hides that behind what those usually do.
//!
//! Why sharpest places: most of a road is soft on the best of days, and fog is softer. But with a clear lens something has an
//! edge: a kerb, a mast, a car. So detail counts in the eighth power, in which a few edges outweigh all of a sky; and it is
//! taken from a picture that was averaged over three by three pixels, because grain is as fine as detail and edges are not.
//!
//! ```
//! use roadhound_trainer::familiarity::measure::Errors;
//! use roadhound_trainer::labelled::Shape;
//! let shape = Shape { height: 16, width: 32, channels: 1 };
//! let edge: Vec<f32> = (0..512).map(|i| if i % 32 < 20 { 0.2 } else { 0.8 }).collect();
//! let slope: Vec<f32> = (0..512).map(|i| 0.2 + 0.6 * (i % 32) as f32 / 32.0).collect();
//! let sharpest = |picture: &[f32]| Errors::of(picture, picture, shape).sharpest();
//! assert!(sharpest(&edge) > sharpest(&slope) + 3.0);
//! ```

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use crate::labelled::Shape;
use crate::linalg;

/// Rows of the grid.
pub const CELL_ROWS: usize = 2;
/// Columns of the grid.
pub const CELL_COLUMNS: usize = 4;
/// Cells of the grid.
pub const CELLS: usize = CELL_ROWS * CELL_COLUMNS;
/// Half a grey level, squared: below it the grain of a sensor decides, and nothing is told apart.
pub const SMALLEST_ERROR: f32 = 4e-6;
/// The same in the eighth power.
pub const SMALLEST_DETAIL: f32 = 2.56e-22;
/// Pixels at the border in which there is no detail: what lies beyond is unknown.
pub const BORDER_PX: usize = 2;
/// Ways in which a picture can be unlike.
pub const PARTS: usize = 4;
/// What they are called. The first two are the network's; the others are of the picture alone.
pub const PART_NAMES: [&str; PARTS] = ["code", "error", "detail everywhere", "sharpest detail"];
/// Share of the mean variance that is added to every one: what hardly varies must not decide alone.
const RIDGE: f64 = 1e-3;
/// The least way from what is usual to what still is: of logarithms, and far below any that was seen.
const LEAST_WAY: f32 = 0.1;

/// Errors and detail of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// Mean squared error of all values.
    pub mean: f32,
    /// Mean squared error of each cell, of the mean of the colours.
    pub cells: [f32; CELLS],
    /// Of each cell of the picture itself, mean of the eighth power of its detail.
    pub detail: [f32; CELLS],
}

impl Errors {
    /// Of a picture and what came back.
    ///
    /// # Shapes
    /// `x`, `decoded`: rows of pixels, channels together
    pub fn of(x: &[f32], decoded: &[f32], shape: Shape) -> Self {
        let Shape {
            height,
            width,
            channels,
        } = shape;
        let residual: Vec<f32> = x.iter().zip(decoded).map(|(a, b)| a - b).collect();
        let mean = residual.iter().map(|r| r * r).sum::<f32>() / residual.len().max(1) as f32;
        let grey_of = |values: &[f32]| -> Vec<f32> {
            let pixels = values.chunks_exact(channels);
            pixels
                .map(|pixel| pixel.iter().sum::<f32>() / channels as f32)
                .collect()
        };
        let grey = grey_of(&residual);
        let smooth = mean_of_nine(&grey_of(x), shape);
        let smoother = mean_of_nine(&smooth, shape);
        let (mut cells, mut detail) = ([0.0; CELLS], [0.0; CELLS]);
        let (rows, columns) = (height / CELL_ROWS, width / CELL_COLUMNS);
        let within = |at: usize, length: usize| (BORDER_PX..length - BORDER_PX).contains(&at);
        for y in 0..height {
            for x in 0..width {
                let cell = (y / rows).min(CELL_ROWS - 1) * CELL_COLUMNS
                    + (x / columns).min(CELL_COLUMNS - 1);
                let at = y * width + x;
                cells[cell] += grey[at].powi(2);
                if within(y, height) && within(x, width) {
                    detail[cell] += (smooth[at] - smoother[at]).powi(8);
                }
            }
        }
        let count = (rows * columns) as f32;
        Self {
            mean,
            cells: cells.map(|v| v / count),
            detail: detail.map(|v| v / count),
        }
    }

    /// Logarithm of the detail at the sharpest places, as that of a square.
    pub fn sharpest(&self) -> f32 {
        logarithm_of_detail(self.detail.iter().sum::<f32>() / CELLS as f32)
    }

    /// The same of the sharpest places of each cell, in the mean of the cells.
    pub fn everywhere(&self) -> f32 {
        let logarithms = self.detail.map(logarithm_of_detail);
        logarithms.iter().sum::<f32>() / CELLS as f32
    }

    /// Logarithms of the errors of the cells.
    fn sizes(&self) -> Vec<f32> {
        let cells = self.cells.iter();
        cells.map(|e| (e + SMALLEST_ERROR).ln()).collect()
    }
}

fn logarithm_of_detail(eighth_power: f32) -> f32 {
    (eighth_power + SMALLEST_DETAIL).ln() / 4.0
}

/// Means of three by three pixels, zeros beyond the border.
fn mean_of_nine(picture: &[f32], shape: Shape) -> Vec<f32> {
    let Shape { height, width, .. } = shape;
    let mut means = vec![0.0; picture.len()];
    for y in 0..height {
        for x in 0..width {
            let rows = y.saturating_sub(1)..(y + 2).min(height);
            let columns = x.saturating_sub(1)..(x + 2).min(width);
            let sums = rows.map(|y| {
                let row = &picture[y * width..(y + 1) * width];
                row[columns.clone()].iter().sum::<f32>()
            });
            means[y * width + x] = sums.sum::<f32>() / 9.0;
        }
    }
    means
}

/// Where values usually lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// Mean of each value.
    pub mean: Vec<f32>,
    /// Whitens values: symmetric, row after row.
    pub whitening: Vec<f32>,
}

impl Usual {
    fn fit(values: &[Vec<f32>]) -> Self {
        let rows: Vec<Vec<f64>> = values
            .iter()
            .map(|row| row.iter().copied().map(f64::from).collect())
            .collect();
        let rows = linalg::from_rows(&rows);
        let mean: DVector<f64> = linalg::column_means(&rows);
        let mut covariance: DMatrix<f64> = linalg::covariance(&rows);
        // Each value by its own scale first: a code's values are not of one unit.
        let scale: Vec<f64> = (0..mean.len())
            .map(|i| covariance[(i, i)].max(1e-12).sqrt())
            .collect();
        for i in 0..mean.len() {
            for j in 0..mean.len() {
                covariance[(i, j)] /= scale[i] * scale[j];
            }
            covariance[(i, i)] += RIDGE;
        }
        let root = linalg::of_eigenvalues(&covariance, |v| 1.0 / v.max(RIDGE).sqrt());
        let whitening = (0..mean.len())
            .flat_map(|i| (0..mean.len()).map(move |j| (i, j)))
            .map(|(i, j)| (root[(i, j)] / scale[i]) as f32)
            .collect();
        Self {
            mean: mean.iter().map(|v| *v as f32).collect(),
            whitening,
        }
    }

    /// Root of the mean square of whitened values: about 1 for what is usual.
    fn distance(&self, values: &[f32]) -> f32 {
        let length = values.len();
        let mut whitened = vec![0f32; length];
        for (i, (value, mean)) in values.iter().zip(&self.mean).enumerate() {
            let row = &self.whitening[i * length..(i + 1) * length];
            for (sum, w) in whitened.iter_mut().zip(row) {
                *sum += (value - mean) * w;
            }
        }
        (whitened.iter().map(|v| v * v).sum::<f32>() / length.max(1) as f32).sqrt()
    }
}

/// What is usual, and how far from it a picture may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Codes.
    pub codes: Usual,
    /// Errors of the cells.
    pub errors: Usual,
    /// Detail [everywhere](Errors::everywhere) and at the [sharpest](Errors::sharpest) places.
    pub detail: [f32; 2],
    /// How far from it what was learned goes, for each part.
    pub reach: [f32; PARTS],
}

impl Statistics {
    /// Of pictures to learn from. A part reaches as far as this share of the pictures of every source does: one with more
    /// fog, or fewer pictures, is as usual as the others.
    pub fn fit(codes: &[Vec<f32>], errors: &[Errors], sources: &[u32], share: f64) -> Self {
        let sizes: Vec<Vec<f32>> = errors.iter().map(Errors::sizes).collect();
        let mean = |of: fn(&Errors) -> f32| {
            let sum: f64 = errors.iter().map(|e| f64::from(of(e))).sum();
            (sum / errors.len().max(1) as f64) as f32
        };
        let mut statistics = Self {
            codes: Usual::fit(codes),
            errors: Usual::fit(&sizes),
            detail: [mean(Errors::everywhere), mean(Errors::sharpest)],
            reach: [1.0; PARTS],
        };
        let parts: Vec<[f32; PARTS]> = codes
            .iter()
            .zip(errors)
            .map(|(code, errors)| statistics.parts(code, errors))
            .collect();
        let last = sources.iter().copied().max().unwrap_or_default();
        let furthest = |part: usize| {
            let of_source = |source: u32| {
                let of_it = parts.iter().zip(sources).filter(|(_, s)| **s == source);
                let values: Vec<f32> = of_it.map(|(parts, _)| parts[part]).collect();
                super::scores::quantile(&values, share)
            };
            let reaches = (0..=last).map(of_source).filter(|v| v.is_finite());
            reaches.fold(LEAST_WAY, f32::max)
        };
        statistics.reach = std::array::from_fn(furthest);
        statistics
    }

    /// How unlike a picture is what was learned, in each way: 1 is as far as that goes.
    pub fn parts(&self, code: &[f32], errors: &Errors) -> [f32; PARTS] {
        let [everywhere, sharpest] = self.detail;
        let found = [
            self.codes.distance(code),
            self.errors.distance(&errors.sizes()),
            everywhere - errors.everywhere(),
            sharpest - errors.sharpest(),
        ];
        std::array::from_fn(|part| found[part] / self.reach[part])
    }

    /// The largest of the parts.
    pub fn distance(&self, code: &[f32], errors: &Errors) -> f32 {
        let parts = self.parts(code, errors);
        parts.into_iter().fold(f32::MIN, f32::max)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::params::normal;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const SHAPE: Shape = Shape {
        height: 16,
        width: 32,
        channels: 3,
    };

    fn errors_of(picture: impl Fn(usize, usize) -> f32) -> Errors {
        let x: Vec<f32> = (0..SHAPE.len())
            .map(|i| picture(i / 3 % 32, i / 96))
            .collect();
        Errors::of(&x, &vec![0.0; SHAPE.len()], SHAPE)
    }

    #[test]
    fn errors_are_of_their_cell_and_detail_is_of_edges_not_of_light_or_grain() {
        let left = errors_of(|x, y| f32::from(u8::from(x < 8 && y < 8)));
        assert_eq!(left.cells, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((left.mean - 1.0 / 8.0).abs() < 1e-6);
        let even = errors_of(|_, _| 0.5);
        assert!(even.cells.iter().all(|e| (e - 0.25).abs() < 1e-6));
        let nothing = logarithm_of_detail(0.0);
        assert!((even.sharpest() - nothing).abs() < 1e-3, "{even:?}");
        assert!((even.everywhere() - nothing).abs() < 1e-3);
        // As strong as the edge, everywhere, and as fine as grain: a mean of nine leaves a ninth of it.
        let board = errors_of(|x, y| 0.5 + if (x + y) % 2 == 0 { 0.3 } else { -0.3 });
        let edge = errors_of(|x, _| if x < 12 { 0.2 } else { 0.8 });
        assert!(edge.sharpest() > board.sharpest() + 0.5);
        // One edge makes the picture sharp somewhere, and not everywhere.
        assert!(edge.sharpest() > edge.everywhere() + 1.5, "{edge:?}");
    }

    #[test]
    fn a_blur_takes_the_same_from_detail_at_any_exposure() {
        let step = |x: usize, soft: f32| ((x as f32 - 15.5) / soft).tanh();
        for light in [0.2, 0.4] {
            let of = |soft| errors_of(|x, _| 0.5 + light * step(x, soft)).sharpest();
            let lost = of(0.1) - of(4.0);
            assert!((4.0..5.6).contains(&lost), "{light}: {lost}");
        }
    }

    /// Codes of four correlated values, errors about 0.01, detail about a tenth.
    pub(crate) fn usual(count: usize, seed: u64) -> (Vec<Vec<f32>>, Vec<Errors>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || {
            let [a, b, c, d] = [0; 4].map(|_| normal(&mut rng));
            let code = vec![5.0 + 2.0 * a, a + 0.3 * b, 0.01 * c, d];
            let cells = [0; CELLS].map(|_| 0.01 * (0.3 * normal(&mut rng)).exp());
            let detail = [0; CELLS].map(|_| (0.1 * (0.2 * normal(&mut rng)).exp()).powi(8));
            let errors = Errors {
                mean: 0.01,
                cells,
                detail,
            };
            (code, errors)
        };
        (0..count).map(|_| draw()).unzip()
    }

    #[test]
    fn what_is_usual_is_seldom_beyond_one_and_each_way_of_being_unlike_is_by_itself() {
        let (codes, errors) = usual(3000, 1);
        let statistics = Statistics::fit(&codes, &errors, &[0; 3000], 0.99);
        let (new_codes, new_errors) = usual(1000, 2);
        let beyond = |part: usize| {
            let pairs = new_codes.iter().zip(&new_errors);
            let found = pairs.filter(|(c, e)| statistics.parts(c, e)[part] > 1.0);
            found.count()
        };
        for part in 0..PARTS {
            assert!((1..=25).contains(&beyond(part)), "{part}: {}", beyond(part));
        }
        let (code, plain) = (&codes[0], &errors[0]);
        let usual = statistics.distance(code, plain);
        assert!((0.2..1.0).contains(&usual), "{usual}");
        // Against the correlation of the first two values: each is usual by itself.
        let against = statistics.distance(&[9.0, -2.0, 0.0, 0.0], plain);
        let along = statistics.distance(&[9.0, 2.0, 0.0, 0.0], plain);
        assert!(against > 1.5 && along < 1.0, "{against} {along}");
        // The same from every cell, and nothing else: one way of four.
        let mut blurred = plain.clone();
        blurred.detail = blurred.detail.map(|v| v * 0.2f32.powi(8));
        let parts = statistics.parts(code, &blurred);
        assert_eq!(parts[..2], statistics.parts(code, plain)[..2]);
        assert!(parts[2] > 1.5 && parts[3] > 1.5, "{parts:?}");
        assert_eq!(statistics.distance(code, &blurred), parts[2].max(parts[3]));
        // More detail than usual is no fault.
        let mut sharp = plain.clone();
        sharp.detail = sharp.detail.map(|v| v * 2f32.powi(8));
        assert!(statistics.distance(code, &sharp) <= usual);
    }

    #[test]
    fn a_source_with_few_pictures_is_as_usual_as_one_with_many() {
        let (codes, mut errors) = usual(1000, 3);
        let sources: Vec<u32> = (0..1000).map(|i| u32::from(i % 50 == 0)).collect();
        for (errors, source) in errors.iter_mut().zip(&sources) {
            if *source == 1 {
                errors.detail = errors.detail.map(|v| v * 0.1f32.powi(8));
            }
        }
        let statistics = Statistics::fit(&codes, &errors, &sources, 0.99);
        let foggy = statistics.parts(&codes[0], &errors[0]);
        assert!(foggy[2] <= 1.0 && foggy[3] <= 1.0, "{foggy:?}");
    }
}
