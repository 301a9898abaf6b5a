//! From a code and what comes back from it to one distance.
//!
//! In: a picture, its code, the decoded picture. Out: the values that describe it ([`describe`]), and their Mahalanobis
//! distance from those of what was learned ([`Statistics`]): the root of the mean square of whitened values, about 1 for a
//! picture like those. The values are the code, and for each cell of a grid the logarithms of how large the error is and of
//! how much fine detail the picture has: a blurred one has a tenth or a hundredth of the usual, which a difference hardly shows
//! and a ratio does, and one wild cell moves the distance by little. Detail is the picture's own and not the error's: what is
//! decoded has a fine texture of its own, behind which a blur is hidden.

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
/// Share of the mean variance that is added to every one: what hardly varies must not decide alone.
const RIDGE: f64 = 1e-3;

/// Errors of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// Mean squared error of all values.
    pub mean: f32,
    /// Mean squared error of each cell, of the mean of the colours.
    pub cells: [f32; CELLS],
    /// Of each cell of the picture itself, mean square of what a mean of three by three pixels does not show.
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
        let grey_of = |values: &[f32]| -> Vec<f32> {
            let pixels = values.chunks_exact(channels);
            pixels
                .map(|pixel| pixel.iter().sum::<f32>() / channels as f32)
                .collect()
        };
        let (grey, picture) = (grey_of(&residual), grey_of(x));
        let (mut cells, mut fine) = ([0.0; CELLS], [0.0; CELLS]);
        let (rows, columns) = (height / CELL_ROWS, width / CELL_COLUMNS);
        for y in 0..height {
            for x in 0..width {
                let cell = (y / rows).min(CELL_ROWS - 1) * CELL_COLUMNS
                    + (x / columns).min(CELL_COLUMNS - 1);
                cells[cell] += grey[y * width + x].powi(2);
                // Nothing is known of what lies beyond the border.
                if (1..height - 1).contains(&y) && (1..width - 1).contains(&x) {
                    let rows = (y - 1..=y + 1).map(|y| &picture[y * width + x - 1..][..3]);
                    let sum: f32 = rows.flatten().sum();
                    fine[cell] += (picture[y * width + x] - sum / 9.0).powi(2);
                }
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

/// What describes a picture.
pub fn describe(code: &[f32], errors: &Errors) -> Vec<f32> {
    let cells = errors.cells.iter().chain(&errors.fine);
    let logarithms = cells.map(|e| (e + SMALLEST_ERROR).ln());
    code.iter().copied().chain(logarithms).collect()
}

/// What is usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Mean of each value.
    pub mean: Vec<f32>,
    /// Whitens values: symmetric, row after row.
    pub whitening: Vec<f32>,
}

impl Statistics {
    /// Of pictures to learn from.
    pub fn fit(codes: &[Vec<f32>], errors: &[Errors]) -> Self {
        let rows: Vec<Vec<f64>> = codes
            .iter()
            .zip(errors)
            .map(|(code, errors)| {
                let values = describe(code, errors);
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
            mean: mean.iter().map(|v| *v as f32).collect(),
            whitening,
        }
    }

    /// How far a picture lies from what was learned.
    pub fn distance(&self, code: &[f32], errors: &Errors) -> f32 {
        let values = describe(code, errors);
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
        // A mean of nine is a ninth of the value: (8/9)^2 of the error is fine, but at the border, where nothing is counted.
        let expected = 0.25 * (8f32 / 9.0).powi(2);
        assert!(
            board
                .fine
                .iter()
                .all(|h| (0.5..=1.0).contains(&(h / expected))),
            "{board:?}"
        );
        let even = errors_of(|_, _| 0.5);
        assert!(even.cells.iter().all(|e| (e - 0.25).abs() < 1e-6));
        assert!(even.fine.iter().all(|h| *h < 1e-12), "{even:?}");
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
