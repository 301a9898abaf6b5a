//! From a code and what comes back from it to one distance.
//!
//! In: a picture, its code, the decoded picture. Out: the values that describe it ([`describe`]), and their Mahalanobis
//! distance from those of what was learned ([`Statistics`]): the root of the mean square of whitened values, about 1 for a
//! picture like those. The values are the code, and for each cell of a grid how large the error is and which share of it is
//! fine detail, both between 0 and 1: one wild cell moves the distance by a bounded amount.

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
/// Keeps the share of nothing in nothing finite: far below one grey level squared.
pub const SMALLEST_ERROR: f32 = 1e-6;
/// Share of the mean variance that is added to every one: what hardly varies must not decide alone.
const RIDGE: f64 = 1e-3;

/// Errors of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// Mean squared error of all values.
    pub mean: f32,
    /// Mean squared error of each cell, of the mean of the colours.
    pub cells: [f32; CELLS],
    /// The part of it that a mean of three by three pixels does not show.
    pub fine: [f32; CELLS],
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
        let grey: Vec<f32> = residual
            .chunks_exact(channels)
            .map(|pixel| pixel.iter().sum::<f32>() / channels as f32)
            .collect();
        let at = |y: isize, x: isize| match (usize::try_from(y), usize::try_from(x)) {
            (Ok(y), Ok(x)) if y < height && x < width => grey[y * width + x],
            _ => 0.0,
        };
        let (mut cells, mut fine) = ([0.0; CELLS], [0.0; CELLS]);
        let (rows, columns) = (height / CELL_ROWS, width / CELL_COLUMNS);
        for y in 0..height {
            for x in 0..width {
                let cell = (y / rows).min(CELL_ROWS - 1) * CELL_COLUMNS
                    + (x / columns).min(CELL_COLUMNS - 1);
                let mut sum = 0.0;
                for dy in -1..=1 {
                    for dx in -1..=1 {
                        sum += at(y as isize + dy, x as isize + dx);
                    }
                }
                let value = grey[y * width + x];
                cells[cell] += value * value;
                fine[cell] += (value - sum / 9.0).powi(2);
            }
        }
        let count = (rows * columns) as f32;
        Self {
            mean,
            cells: cells.map(|v| v / count),
            fine: fine.map(|v| v / count),
        }
    }
}

/// What describes a picture; `usual` is the usual error of each cell.
pub fn describe(code: &[f32], errors: &Errors, usual: &[f32]) -> Vec<f32> {
    let size = errors.cells.iter().zip(usual).map(|(e, c)| e / (e + c));
    let detail = errors
        .cells
        .iter()
        .zip(&errors.fine)
        .map(|(e, h)| h / (h + e + SMALLEST_ERROR));
    code.iter().copied().chain(size).chain(detail).collect()
}

/// What is usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Median error of each cell.
    pub usual: Vec<f32>,
    /// Mean of each value.
    pub mean: Vec<f32>,
    /// Whitens values: symmetric, row after row.
    pub whitening: Vec<f32>,
}

impl Statistics {
    /// Of pictures to learn from.
    pub fn fit(codes: &[Vec<f32>], errors: &[Errors]) -> Self {
        let usual: Vec<f32> = (0..CELLS)
            .map(|cell| {
                let mut values: Vec<f32> = errors.iter().map(|e| e.cells[cell]).collect();
                values.sort_by(f32::total_cmp);
                let middle = values.get(values.len() / 2).copied().unwrap_or_default();
                middle.max(SMALLEST_ERROR)
            })
            .collect();
        let rows: Vec<Vec<f64>> = codes
            .iter()
            .zip(errors)
            .map(|(code, errors)| {
                let values = describe(code, errors, &usual);
                values.into_iter().map(f64::from).collect()
            })
            .collect();
        let rows = linalg::from_rows(&rows);
        let mean: DVector<f64> = linalg::column_means(&rows);
        let mut covariance: DMatrix<f64> = linalg::covariance(&rows);
        // Each value by its own scale first: codes and shares are not of one unit.
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
            usual,
            mean: mean.iter().map(|v| *v as f32).collect(),
            whitening,
        }
    }

    /// How far a picture lies from what was learned.
    pub fn distance(&self, code: &[f32], errors: &Errors) -> f32 {
        let values = describe(code, errors, &self.usual);
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::params::normal;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const SHAPE: Shape = Shape {
        height: 8,
        width: 16,
        channels: 3,
    };

    fn errors_of(residual: impl Fn(usize, usize) -> f32) -> Errors {
        let x: Vec<f32> = (0..SHAPE.len())
            .map(|i| residual(i / 3 % 16, i / 48))
            .collect();
        Errors::of(&x, &vec![0.0; SHAPE.len()], SHAPE)
    }

    #[test]
    fn a_checkerboard_is_fine_detail_and_an_even_error_is_not() {
        let board = errors_of(|x, y| if (x + y) % 2 == 0 { 0.5 } else { -0.5 });
        assert!((board.mean - 0.25).abs() < 1e-6);
        // In the middle a mean of nine is a ninth of the value: (8/9)^2 of the error is fine.
        let expected = 0.25 * (8f32 / 9.0).powi(2);
        assert!(
            board.fine.iter().all(|h| (h / expected - 1.0).abs() < 0.15),
            "{board:?}"
        );
        let even = errors_of(|_, _| 0.5);
        assert!(even.cells.iter().all(|e| (e - 0.25).abs() < 1e-6));
        // Only at the border, where nothing lies beyond.
        assert!(even.fine.iter().all(|h| *h < 0.03), "{even:?}");
        let left = errors_of(|x, y| f32::from(u8::from(x < 4 && y < 4)));
        assert_eq!(left.cells, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((left.mean - 1.0 / 8.0).abs() < 1e-6);
    }

    /// Codes of four correlated values and errors about 0.01.
    pub(crate) fn usual(count: usize, seed: u64) -> (Vec<Vec<f32>>, Vec<Errors>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || {
            let [a, b, c, d] = [0; 4].map(|_| normal(&mut rng));
            let code = vec![5.0 + 2.0 * a, a + 0.3 * b, 0.01 * c, d];
            let errors = [0; 2 * CELLS].map(|_| 0.01 * (0.3 * normal(&mut rng)).exp());
            let cells = std::array::from_fn(|k| errors[k]);
            let fine = std::array::from_fn(|k| 0.4 * errors[CELLS + k]);
            (
                code,
                Errors {
                    mean: 0.01,
                    cells,
                    fine,
                },
            )
        };
        (0..count).map(|_| draw()).unzip()
    }

    #[test]
    fn what_is_usual_lies_at_one_whatever_its_units_and_what_is_not_lies_far() {
        let (codes, errors) = usual(3000, 1);
        let statistics = Statistics::fit(&codes, &errors);
        let (codes, errors) = usual(500, 2);
        let squares: f32 = codes
            .iter()
            .zip(&errors)
            .map(|(c, e)| statistics.distance(c, e).powi(2))
            .sum();
        assert!((squares / 500.0 - 1.0).abs() < 0.06, "{}", squares / 500.0);
        // Against the correlation of the first two values: each is usual by itself.
        let against = statistics.distance(&[9.0, -2.0, 0.0, 0.0], &errors[0]);
        let along = statistics.distance(&[9.0, 2.0, 0.0, 0.0], &errors[0]);
        assert!(against > 3.0 && along < 1.6, "{against} {along}");
        let bland = Errors {
            mean: 1e-5,
            cells: [1e-5; CELLS],
            fine: [1e-7; CELLS],
        };
        let smooth = statistics.distance(&codes[0], &bland);
        assert!(smooth > 3.0, "{smooth}");
    }
}
