//! Counts of pairs of classes: how much one naming of samples says about another.
//!
//! In: two namings of the same samples. Out: mutual information and entropies in nats, and the error of the best one-to-one
//! translation, which is how clusters without names are scored.
//!
//! ```
//! use roadhound_trainer::contingency::Contingency;
//! // The same split by other names, but for one sample of six.
//! let table = Contingency::of(&[0, 0, 1, 1, 2, 2], &[2, 2, 0, 0, 1, 0], 3, 3);
//! assert!((table.assigned_error() - 1.0 / 6.0).abs() < 1e-12);
//! assert!(table.mutual_information() < table.column_entropy());
//! ```

use roadhound_shared::assignment::Assigner;

/// How many samples have one name in the first naming and another in the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Contingency {
    counts: Vec<f64>,
    rows: usize,
    columns: usize,
}

impl Contingency {
    /// Counts; names at or above `rows` or `columns` are left out.
    pub fn of(first: &[u32], second: &[u32], rows: usize, columns: usize) -> Self {
        let mut counts = vec![0.0; rows * columns];
        for (a, b) in first.iter().zip(second) {
            let (a, b) = (*a as usize, *b as usize);
            if a < rows && b < columns {
                counts[a * columns + b] += 1.0;
            }
        }
        Self {
            counts,
            rows,
            columns,
        }
    }

    /// Samples of name `row` in the first naming and `column` in the second.
    pub fn count(&self, row: usize, column: usize) -> f64 {
        self.counts
            .get(row * self.columns + column)
            .copied()
            .unwrap_or(0.0)
    }

    fn total(&self) -> f64 {
        self.counts.iter().sum()
    }

    fn row_counts(&self) -> Vec<f64> {
        let row = |r: usize| (0..self.columns).map(|c| self.count(r, c)).sum();
        (0..self.rows).map(row).collect()
    }

    fn column_counts(&self) -> Vec<f64> {
        let column = |c: usize| (0..self.rows).map(|r| self.count(r, c)).sum();
        (0..self.columns).map(column).collect()
    }

    /// Entropy of the first naming, nats.
    pub fn row_entropy(&self) -> f64 {
        entropy(&self.row_counts())
    }

    /// Entropy of the second naming, nats.
    pub fn column_entropy(&self) -> f64 {
        entropy(&self.column_counts())
    }

    /// Mutual information of the two, nats: of the counts as they are, which few samples make too large.
    pub fn mutual_information(&self) -> f64 {
        let both = entropy(&self.counts);
        (self.row_entropy() + self.column_entropy() - both).max(0.0)
    }

    /// For each name of the first naming the one of the second that the best one-to-one translation gives it.
    pub fn translation(&self) -> Vec<Option<u32>> {
        let costs: Vec<f64> = self.counts.iter().map(|count| -count).collect();
        let mut assigner = Assigner::with_capacity(self.rows.max(self.columns));
        // Counts are finite and as many as they should be: there is no error to have.
        let found = assigner.solve(&costs, self.rows, self.columns);
        found.map_or_else(|_| vec![None; self.rows], <[_]>::to_vec)
    }

    /// The share of samples that the best one-to-one translation names wrongly, or not at all.
    pub fn assigned_error(&self) -> f64 {
        let right: f64 = self
            .translation()
            .iter()
            .enumerate()
            .filter_map(|(row, column)| Some(self.count(row, (*column)? as usize)))
            .sum();
        1.0 - right / self.total().max(1.0)
    }
}

/// Entropy of the shares that these counts are, nats.
pub fn entropy(counts: &[f64]) -> f64 {
    let total: f64 = counts.iter().sum();
    let part = |count: &f64| match *count > 0.0 && total > 0.0 {
        true => -(count / total) * (count / total).ln(),
        false => 0.0,
    };
    counts.iter().map(part).sum()
}

/// `KL(p || q)` of the shares of two lists of counts, nats; infinite where `q` has none of what `p` has.
pub fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let (of_p, of_q): (f64, f64) = (p.iter().sum(), q.iter().sum());
    let part = |(p, q): (&f64, &f64)| match *p > 0.0 {
        true => (p / of_p) * ((p / of_p) / (q / of_q.max(f64::MIN_POSITIVE))).ln(),
        false => 0.0,
    };
    p.iter().zip(q).map(part).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_is_that_of_the_closed_forms() {
        // The same naming by other names: all of its entropy. Independent ones: nothing.
        let a: Vec<u32> = (0..400).map(|i| i % 4).collect();
        let renamed: Vec<u32> = a.iter().map(|v| (v + 1) % 4).collect();
        let independent: Vec<u32> = (0..400).map(|i| i / 4 % 5).collect();
        let same = Contingency::of(&a, &renamed, 4, 4);
        assert!((same.mutual_information() - 4f64.ln()).abs() < 1e-12);
        assert!(same.assigned_error().abs() < 1e-12);
        let none = Contingency::of(&a, &independent, 4, 5);
        assert!(none.mutual_information() < 1e-12);
        assert!((none.column_entropy() - 5f64.ln()).abs() < 1e-12);
        // A binary symmetric channel of error 1/10: log 2 - H(1/10).
        let sent: Vec<u32> = (0..200).map(|i| i % 2).collect();
        let got: Vec<u32> = (0..200)
            .map(|i| if i % 20 < 2 { 1 - i % 2 } else { i % 2 })
            .collect();
        let channel = Contingency::of(&sent, &got, 2, 2);
        let noise = -(0.1f64 * 0.1f64.ln() + 0.9 * 0.9f64.ln());
        assert!((channel.mutual_information() - (2f64.ln() - noise)).abs() < 1e-12);
        assert!((channel.assigned_error() - 0.1).abs() < 1e-12);
    }

    #[test]
    fn the_translation_is_the_best_one_and_not_the_greedy_one() {
        // Row 0 likes column 0 best, but row 1 has nothing else.
        let mut first = vec![0; 10];
        let mut second = vec![0; 6];
        second.extend([1; 4]);
        first.extend([1; 5]);
        second.extend([0; 5]);
        let table = Contingency::of(&first, &second, 2, 2);
        assert_eq!(table.translation(), [Some(1), Some(0)]);
        assert!((table.assigned_error() - 6.0 / 15.0).abs() < 1e-12);
        // More clusters than classes: those left over are wrong.
        let table = Contingency::of(&[0, 0, 1, 2], &[0, 0, 1, 1], 3, 2);
        assert!((table.assigned_error() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn divergence_is_zero_of_the_same_and_known_of_others() {
        assert!(divergence(&[1.0, 3.0], &[10.0, 30.0]).abs() < 1e-12);
        assert!((divergence(&[4.0, 0.0], &[1.0, 1.0]) - 2f64.ln()).abs() < 1e-12);
        assert!(divergence(&[1.0, 1.0], &[4.0, 0.0]).is_infinite());
    }
}
