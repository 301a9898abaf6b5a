//! How well the values of a code stand for single factors of what was rendered: MIG, DCI and SAP.
//!
//! In: codes, one a row, and the factors that each was made with. Out: [`Scores`], each from 0 to 1, 1 for a code that has one
//! value for each factor.
//!
//! | score | what it compares |
//! |---|---|
//! | mutual information gap (Chen et al. 2018) | for each factor the two values that know most about it, in shares of its entropy |
//! | DCI (Eastwood and Williams 2018) | weights of sparse linear regressions: does a value serve one factor (disentanglement), is a factor served by one value (completeness), is it served at all (informativeness) |
//! | SAP (Kumar et al. 2018) | for each factor the two values that predict it best alone |
//!
//! Factors that are kinds, such as a shape, are regressed as an indicator a kind, and predicted by the most common kind in a bin.
//! Regressions are linear: a value that knows a factor only by its square is given no credit by DCI and SAP, but by MIG.
//!
//! ```
//! use roadhound_trainer::disentangle::scores::{Factor, Scores};
//! // Two values, each a factor.
//! let codes: Vec<Vec<f64>> = (0..400).map(|i| vec![f64::from(i % 4), f64::from(i / 4 % 5)]).collect();
//! let factor = |of: &dyn Fn(u32) -> u32, levels| Factor { name: "a", levels, ordered: true, values: (0..400).map(of).collect() };
//! let scores = Scores::of(&codes, &[factor(&|i| i % 4, 4), factor(&|i| i / 4 % 5, 5)]);
//! assert!(scores.mig > 0.99 && scores.sap > 0.99 && scores.disentanglement > 0.99);
//! ```

use nalgebra::DMatrix;

use crate::contingency::{Contingency, entropy};

/// Bins that a continuous value is counted in.
const BINS: usize = 20;
/// Weight of the sum of absolute weights in the sparse regression; values and factors have variance 1.
const SPARSITY: f64 = 0.02;
const SWEEPS: usize = 200;

/// One thing that pictures were made with.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// What it is.
    pub name: &'static str,
    /// How many there are of it.
    pub levels: usize,
    /// Whether a level is more or less than another, or only another.
    pub ordered: bool,
    /// Its level in each sample.
    pub values: Vec<u32>,
}

/// See the module head.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Mutual information gap.
    pub mig: f64,
    /// Separated attribute predictability.
    pub sap: f64,
    /// Whether a value serves one factor.
    pub disentanglement: f64,
    /// Whether a factor is served by one value.
    pub completeness: f64,
    /// Share of the factors' variance that is served at all.
    pub informativeness: f64,
    /// Shares of each factor's entropy that each value knows of, `[factor][value]`.
    pub information: Vec<Vec<f64>>,
}

impl Scores {
    /// # Shapes
    /// `codes`: as many rows, all of one length, as each factor has values.
    pub fn of(codes: &[Vec<f64>], factors: &[Factor]) -> Self {
        let length = codes.first().map_or(0, Vec::len);
        let columns: Vec<Vec<f64>> = (0..length)
            .map(|k| codes.iter().map(|code| code[k]).collect())
            .collect();
        let binned: Vec<Vec<u32>> = columns.iter().map(|column| bins(column)).collect();
        let information: Vec<Vec<f64>> = factors
            .iter()
            .map(|factor| binned.iter().map(|bins| known(bins, factor)).collect())
            .collect();
        let alone: Vec<Vec<f64>> = factors
            .iter()
            .map(|factor| {
                let score = |k: usize| predicted_alone(&columns[k], &binned[k], factor);
                (0..length).map(score).collect()
            })
            .collect();
        let (importance, informativeness) = regressed(&columns, factors);
        Self {
            mig: mean(&information.iter().map(|row| gap(row)).collect::<Vec<_>>()),
            sap: mean(&alone.iter().map(|row| gap(row)).collect::<Vec<_>>()),
            disentanglement: disentanglement(&importance),
            completeness: disentanglement(&transposed(&importance)),
            informativeness,
            information,
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The highest less the second highest.
fn gap(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.first().copied().unwrap_or(0.0) - sorted.get(1).copied().unwrap_or(0.0)
}

/// Bins of one width between the lowest and the highest value, as disentanglement_lib has them.
fn bins(column: &[f64]) -> Vec<u32> {
    let low = column.iter().copied().fold(f64::INFINITY, f64::min);
    let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = (high - low) / BINS as f64;
    let bin = |value: &f64| match width > 0.0 && value.is_finite() {
        true => (((value - low) / width) as usize).min(BINS - 1) as u32,
        false => 0,
    };
    column.iter().map(bin).collect()
}

/// The share of a factor's entropy that the bins know.
fn known(bins: &[u32], factor: &Factor) -> f64 {
    let table = Contingency::of(bins, &factor.values, BINS, factor.levels);
    match table.column_entropy() > 0.0 {
        true => table.mutual_information() / table.column_entropy(),
        false => 0.0,
    }
}

/// How well one value predicts a factor: the squared correlation, or for kinds the share that the most common kind of each bin
/// names rightly, of what naming the most common kind everywhere does not.
fn predicted_alone(column: &[f64], bins: &[u32], factor: &Factor) -> f64 {
    if factor.ordered {
        let levels: Vec<f64> = factor.values.iter().map(|v| f64::from(*v)).collect();
        return correlation(column, &levels).powi(2);
    }
    let table = Contingency::of(bins, &factor.values, BINS, factor.levels);
    let most = |counts: &mut dyn Iterator<Item = f64>| counts.fold(0.0, f64::max);
    let right: f64 = (0..BINS)
        .map(|bin| most(&mut (0..factor.levels).map(|level| table.count(bin, level))))
        .sum();
    let total = column.len().max(1) as f64;
    let everywhere = most(
        &mut (0..factor.levels)
            .map(|level| (0..BINS).map(|bin| table.count(bin, level)).sum::<f64>()),
    );
    match total > everywhere {
        true => (right - everywhere) / (total - everywhere),
        false => 0.0,
    }
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (standardised(a), standardised(b));
    let products: Vec<f64> = a.iter().zip(&b).map(|(x, y)| x * y).collect();
    mean(&products)
}

/// With mean 0 and variance 1; zeros where there is no variance.
fn standardised(column: &[f64]) -> Vec<f64> {
    let middle = mean(column);
    let squares: Vec<f64> = column.iter().map(|v| (v - middle).powi(2)).collect();
    let deviation = mean(&squares).sqrt();
    let scale = if deviation > 1e-9 {
        1.0 / deviation
    } else {
        0.0
    };
    column.iter().map(|v| (v - middle) * scale).collect()
}

/// The sizes of the weights of each value for each factor, `[value][factor]`, and the mean share of variance explained.
fn regressed(columns: &[Vec<f64>], factors: &[Factor]) -> (Vec<Vec<f64>>, f64) {
    let x: Vec<Vec<f64>> = columns.iter().map(|column| standardised(column)).collect();
    let count = x.first().map_or(0, Vec::len);
    let x = DMatrix::from_fn(count, x.len(), |row, column| x[column][row]);
    let products = x.tr_mul(&x) / count.max(1) as f64;
    let mut importance = vec![vec![0.0; factors.len()]; columns.len()];
    let mut explained = Vec::new();
    for (j, factor) in factors.iter().enumerate() {
        let targets: Vec<Vec<f64>> = match factor.ordered {
            true => vec![factor.values.iter().map(|v| f64::from(*v)).collect()],
            false => (0..factor.levels as u32)
                .map(|level| {
                    factor
                        .values
                        .iter()
                        .map(|v| f64::from(u8::from(*v == level)))
                        .collect()
                })
                .collect(),
        };
        let mut of_factor = Vec::new();
        for target in targets {
            let y = DMatrix::from_column_slice(count, 1, &standardised(&target));
            let with = x.tr_mul(&y) / count.max(1) as f64;
            let weights = lasso(&products, with.as_slice());
            for (value, weight) in weights.iter().enumerate() {
                importance[value][j] += weight.abs();
            }
            // 1 - E (y - x w)^2, of a y with variance 1.
            let w = DMatrix::from_column_slice(weights.len(), 1, &weights);
            let lost = 1.0 - 2.0 * with.dot(&w) + (w.transpose() * &products * &w)[(0, 0)];
            of_factor.push((1.0 - lost).clamp(0.0, 1.0));
        }
        explained.push(mean(&of_factor));
    }
    (importance, mean(&explained))
}

/// `argmin |y - x w|^2 / 2 + SPARSITY |w|_1` by coordinate descent, from the products of the columns and with the target.
fn lasso(products: &DMatrix<f64>, with: &[f64]) -> Vec<f64> {
    let mut weights = vec![0.0; with.len()];
    for _ in 0..SWEEPS {
        let mut moved: f64 = 0.0;
        for k in 0..weights.len() {
            let square = products[(k, k)];
            if square <= 0.0 {
                continue;
            }
            let others: f64 = (0..weights.len())
                .filter(|other| *other != k)
                .map(|other| products[(k, other)] * weights[other])
                .sum();
            let pull = with[k] - others;
            let new = pull.signum() * (pull.abs() - SPARSITY).max(0.0) / square;
            moved = moved.max((new - weights[k]).abs());
            weights[k] = new;
        }
        if moved < 1e-10 {
            break;
        }
    }
    weights
}

fn transposed(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns)
        .map(|c| rows.iter().map(|row| row[c]).collect())
        .collect()
}

/// The mean over rows, each weighted by its sum, of one less its entropy in shares of the largest.
fn disentanglement(importance: &[Vec<f64>]) -> f64 {
    let columns = importance.first().map_or(0, Vec::len);
    let total: f64 = importance.iter().flatten().sum();
    if total <= 0.0 || columns < 2 {
        return 0.0;
    }
    let of = |row: &Vec<f64>| {
        row.iter().sum::<f64>() / total * (1.0 - entropy(row) / (columns as f64).ln())
    };
    importance.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epochs::rng_at;
    use crate::params::normal;

    /// Two ordered factors and a kind, each level as often with each other.
    fn factors() -> Vec<Factor> {
        let count = 5 * 4 * 3 * 40;
        let values = |of: fn(u32) -> u32| (0..count).map(of).collect();
        let factor = |name, levels, ordered, values| Factor {
            name,
            levels,
            ordered,
            values,
        };
        vec![
            factor("place", 5, true, values(|i| i % 5)),
            factor("size", 4, true, values(|i| i / 5 % 4)),
            factor("kind", 3, false, values(|i| i / 20 % 3)),
        ]
    }

    fn codes(of: impl Fn(&[f64], &mut dyn FnMut() -> f64) -> Vec<f64>) -> Vec<Vec<f64>> {
        let factors = factors();
        let mut rng = rng_at(1, 2, 3);
        let mut noise = || f64::from(normal(&mut rng));
        (0..factors[0].values.len())
            .map(|i| {
                let levels: Vec<f64> = factors.iter().map(|f| f64::from(f.values[i])).collect();
                of(&levels, &mut noise)
            })
            .collect()
    }

    #[test]
    fn a_code_with_one_value_for_each_factor_scores_one() {
        let found = Scores::of(&codes(|f, _| vec![-f[1], f[0], f[2]]), &factors());
        assert!(found.mig > 0.999, "{found:?}");
        assert!(found.sap > 0.999, "{found:?}");
        // The kind's middle level is no linear function of its value: all else is.
        assert!(
            found.disentanglement > 0.999 && found.completeness > 0.999,
            "{found:?}"
        );
        assert!(found.informativeness > 0.8, "{found:?}");
    }

    #[test]
    fn noise_scores_nothing() {
        let found = Scores::of(
            &codes(|_, noise| vec![noise(), noise(), noise()]),
            &factors(),
        );
        assert!(found.mig < 0.01 && found.sap < 0.02, "{found:?}");
        assert!(found.informativeness < 0.01, "{found:?}");
    }

    #[test]
    fn a_code_that_says_everything_twice_is_disentangled_and_not_complete() {
        let twice = codes(|f, noise| {
            let mut near = |value: f64| value + 0.01 * noise();
            vec![
                near(f[0]),
                near(f[0]),
                near(f[1]),
                near(f[1]),
                near(f[2]),
                near(f[2]),
            ]
        });
        let found = Scores::of(&twice, &factors());
        assert!(found.mig < 0.02 && found.sap < 0.02, "{found:?}");
        assert!(found.disentanglement > 0.95, "{found:?}");
    }

    #[test]
    fn a_turned_code_knows_as_much_and_separates_less() {
        let straight = Scores::of(&codes(|f, _| vec![f[0], f[1] * 1.25, f[2]]), &factors());
        let turned = codes(|f, _| {
            let (a, b) = (f[0], f[1] * 1.25);
            vec![a + b, a - b, f[2]]
        });
        let turned = Scores::of(&turned, &factors());
        assert!((turned.informativeness - straight.informativeness).abs() < 0.02);
        // Of three factors only the kind has a value of its own; the other two have no gap at all.
        assert!((turned.mig - 1.0 / 3.0).abs() < 0.01, "{turned:?}");
        assert!((turned.sap - 1.0 / 3.0).abs() < 0.01, "{turned:?}");
        assert!(
            turned.disentanglement < straight.disentanglement - 0.3,
            "{turned:?}"
        );
    }

    #[test]
    fn importances_have_the_entropies_of_the_closed_form() {
        // A value that serves two factors alike, and one that serves the first alone, of half the weight each.
        let importance = vec![vec![1.0, 1.0, 0.0], vec![2.0, 0.0, 0.0]];
        let expected = 0.5 * (1.0 - 2f64.ln() / 3f64.ln()) + 0.5;
        assert!((disentanglement(&importance) - expected).abs() < 1e-12);
        // Soft thresholding is the lasso of columns that have nothing to do with each other.
        let identity = DMatrix::identity(3, 3);
        let weights = lasso(&identity, &[0.5, -0.3, 0.01]);
        for (weight, expected) in weights.iter().zip([0.5 - SPARSITY, -0.3 + SPARSITY, 0.0]) {
            assert!((weight - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn codes_without_variance_score_nothing_and_are_no_error() {
        let found = Scores::of(&codes(|_, _| vec![1.0, 1.0]), &factors());
        assert_eq!(
            (found.mig, found.sap, found.disentanglement),
            (0.0, 0.0, 0.0)
        );
        assert_eq!(Scores::of(&[], &[]).mig, 0.0);
    }
}
