//! Categories as groups of finer clusters.
//!
//! In: pairs of samples that are to be one thing. Out: scores of many clusters, more than there
//! are categories, which are learned, and the category of each cluster, which is found: clusters are joined two by two, always
//! the two whose joining loses least of what one sample of a pair tells of the other (agglomerative information bottleneck,
//! Slonim and Tishby 1999), until as many groups are left as there are categories. To learn ten categories directly ends, more
//! often than not, with one class cut in two and two classes in one; many clusters have no such choice to make early.
//!
//! Two tables are kept with the weights, as normalisation's statistics are: what pairs were seen as of late, and which
//! category each cluster belongs to. No gradient reaches them.
//!
//! Now and then a network ends with two classes in one category all the same, by where it began. It tells less of pairs then,
//! which needs no label: of several [`Readers`] that began elsewhere, the one is used whose categories tell most.

use candle_core::{D, Result, Tensor, Var};

use super::InvarianceConfig;
use crate::export::onnx::{Attribute, GraphBuilder};
use crate::labelled::Shape;
use crate::loss::classes::{log_probabilities, table_of_pairs};
use crate::model::Pass;
use crate::model::stack::{Stack, StackError};
use crate::params::{Init, ParamBuilder};

/// What is kept of the table of pairs from one step to the next: that of some 300 steps. Of 50 clusters most of the 2,500 cells
/// hold less than one pair in ten thousand, and which two are joined hangs on them.
const KEEP: f64 = 0.997;
/// Keeps the logarithm of nothing finite.
const SMALLEST_SHARE: f64 = 1e-8;

/// Readers of clusters, alike but for where they began.
pub struct Readers {
    each: Vec<Clusters>,
}

impl Readers {
    /// So many new ones as the configuration says, for samples of `shape`.
    ///
    /// # Errors
    /// Samples that the configured network cannot take.
    pub fn new(
        builder: &mut ParamBuilder,
        shape: Shape,
        config: &InvarianceConfig,
        categories: usize,
    ) -> std::result::Result<Self, StackError> {
        let each = (0..config.readers)
            .map(|number| Clusters::new(builder, number, shape, config, categories));
        Ok(Self {
            each: each.collect::<std::result::Result<_, _>>()?,
        })
    }

    /// All of them.
    pub fn each(&self) -> &[Clusters] {
        &self.each
    }

    /// The number of the one whose categories tell most of pairs; the first of those that tell the same.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub fn best(&self) -> Result<usize> {
        let mut best = (0, f64::NEG_INFINITY);
        for (number, clusters) in self.each.iter().enumerate() {
            let told = clusters.told()?;
            if told > best.1 {
                best = (number, told);
            }
        }
        Ok(best.0)
    }

    /// That one.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub fn chosen(&self) -> Result<&Clusters> {
        let best = self.best()?;
        match self.each.get(best) {
            Some(clusters) => Ok(clusters),
            None => candle_core::bail!("no reader of clusters"),
        }
    }
}

/// A reader of clusters, and the categories that they make up.
pub struct Clusters {
    stack: Stack,
    pairs: Var,
    groups: Var,
}

impl Clusters {
    /// A new network for samples of `shape`, and any grouping; `number` tells its variables from other readers'.
    ///
    /// # Errors
    /// Samples that the configured network cannot take.
    pub fn new(
        builder: &mut ParamBuilder,
        number: usize,
        shape: Shape,
        config: &InvarianceConfig,
        categories: usize,
    ) -> std::result::Result<Self, StackError> {
        let (clusters, network) = (config.clusters, &config.network);
        let name = Self::name(number);
        let stack = Stack::encoder(builder, &name, shape, network, clusters, true)?;
        let zero = Init::Constant(0.0);
        let found = Self {
            stack,
            pairs: builder.var(&format!("{name}.pairs"), &[clusters, clusters], zero)?,
            groups: builder.var(&format!("{name}.groups"), &[clusters, categories], zero)?,
        };
        let any: Vec<usize> = (0..clusters).map(|k| k % categories.max(1)).collect();
        found.group_as(&any)?;
        Ok(found)
    }

    /// What the variables of a reader's number begin with, before a full stop.
    pub fn name(number: usize) -> String {
        format!("clusters.{number}")
    }

    /// The network that scores clusters.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Clusters and categories.
    pub fn counts(&self) -> (usize, usize) {
        (self.stack.outputs(), self.groups.dims()[1])
    }

    /// # Shapes
    /// `rows` `[N, length of a sample]`; returns `[N, clusters]`, before any softmax
    ///
    /// # Errors
    /// Samples of another length.
    pub fn scores(&self, rows: &Tensor, pass: Pass) -> Result<Tensor> {
        self.stack.forward(rows, pass)
    }

    /// Which category each cluster belongs to, a 1 among zeros a row. Averaged weights have shares between two groupings for
    /// a while after one took the other's place: the larger counts.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn membership(&self) -> Result<Tensor> {
        let groups = self.groups.as_tensor().detach();
        let largest = groups.argmax_keepdim(D::Minus1)?;
        let zeros = groups.zeros_like()?;
        zeros.scatter_add(&largest, &largest.ones_like()?.to_dtype(groups.dtype())?, 1)
    }

    /// Logarithms of the categories' shares.
    ///
    /// # Shapes
    /// `scores` `[N, clusters]`; returns `[N, categories]`
    ///
    /// # Errors
    /// If an operator fails.
    pub fn categories(&self, scores: &Tensor) -> Result<Tensor> {
        let shares = log_probabilities(scores)?.exp()?;
        (shares.matmul(&self.membership()?)? + SMALLEST_SHARE)?.log()
    }

    /// Takes note of what two views of samples are seen as.
    ///
    /// # Shapes
    /// `first`, `second` `[N, clusters]` before any softmax, a pair a row.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn observe(&self, first: &Tensor, second: &Tensor) -> Result<()> {
        let table = table_of_pairs(&first.detach(), &second.detach())?;
        let kept = (self.pairs.as_tensor() * KEEP)?;
        self.pairs.set(&(kept + table * (1.0 - KEEP))?)
    }

    /// Finds the categories anew, of the pairs of late.
    ///
    /// # Errors
    /// If an operator fails.
    pub fn regroup(&self) -> Result<()> {
        self.group_as(&joined(self.table()?, self.counts().1))
    }

    /// What the category of one of a pair tells of the other's, in nats, by the pairs of late.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub fn told(&self) -> Result<f64> {
        let (_, categories) = self.counts();
        let groups = self.membership()?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let mut grouped = vec![vec![0.0; categories]; categories];
        for (row, first) in self.table()?.iter().zip(&groups) {
            for (share, second) in row.iter().zip(&groups) {
                grouped[*first as usize][*second as usize] += share;
            }
        }
        Ok(information(&grouped))
    }

    fn table(&self) -> Result<Vec<Vec<f64>>> {
        let table = self.pairs.to_vec2::<f32>()?;
        let wide = |row: &Vec<f32>| row.iter().map(|v| f64::from(*v)).collect();
        Ok(table.iter().map(wide).collect())
    }

    /// Adds [`scores`](Self::scores) and [`categories`](Self::categories) to a graph; returns the name of the latter.
    ///
    /// # Errors
    /// If a weight cannot be read.
    pub fn write(&self, g: &mut GraphBuilder, x: &str) -> Result<String> {
        let (clusters, categories) = self.counts();
        let scores = self.stack.write(g, x)?;
        let shares = g.node("Softmax", &[&scores], vec![Attribute::Int("axis", 1)]);
        let membership = self.membership()?.flatten_all()?.to_vec1::<f32>()?;
        let membership = g.floats(&[clusters, categories], &membership);
        let shares = g.node("MatMul", &[&shares, &membership], vec![]);
        let smallest = g.floats(&[1], &[SMALLEST_SHARE as f32]);
        let shares = g.node("Add", &[&shares, &smallest], vec![]);
        Ok(g.node("Log", &[&shares], vec![]))
    }

    fn group_as(&self, category: &[usize]) -> Result<()> {
        let (clusters, categories) = self.counts();
        let mut rows = vec![0f32; clusters * categories];
        for (cluster, category) in category.iter().enumerate() {
            rows[cluster * categories + category] = 1.0;
        }
        let device = self.groups.device();
        self.groups
            .set(&Tensor::from_vec(rows, (clusters, categories), device)?)
    }
}

/// What one tells of the other, in nats, by a symmetric table of how often they are seen together; 0 of an empty one.
fn information(table: &[Vec<f64>]) -> f64 {
    let shares: Vec<f64> = table.iter().map(|row| row.iter().sum()).collect();
    let total: f64 = shares.iter().sum();
    let mut nats = 0.0;
    for (row, first) in table.iter().zip(&shares) {
        for (share, second) in row.iter().zip(&shares).filter(|(share, _)| **share > 0.0) {
            nats += share / total * (share * total / (first * second)).ln();
        }
    }
    nats
}

/// The group of each cluster after joining them until `groups` are left; groups are numbered by their first clusters.
fn joined(mut table: Vec<Vec<f64>>, groups: usize) -> Vec<usize> {
    let mut members: Vec<Vec<usize>> = (0..table.len()).map(|k| vec![k]).collect();
    let total: f64 = table.iter().flatten().sum();
    if total > 0.0 {
        table.iter_mut().flatten().for_each(|v| *v /= total);
    }
    while members.len() > groups.max(1) {
        let shares: Vec<f64> = table.iter().map(|row| row.iter().sum()).collect();
        let (mut best, mut least) = ((0, 1), f64::INFINITY);
        for first in 0..members.len() {
            for second in first + 1..members.len() {
                let lost = loss_of_joining(&table, &shares, first, second);
                if lost < least {
                    (best, least) = ((first, second), lost);
                }
            }
        }
        let (first, second) = best;
        let gone = table.remove(second);
        for (kept, gone) in table[first].iter_mut().zip(gone) {
            *kept += gone;
        }
        for row in &mut table {
            let gone = row.remove(second);
            row[first] += gone;
        }
        let gone = members.remove(second);
        members[first].extend(gone);
    }
    let mut group = vec![0; members.iter().map(Vec::len).sum()];
    for (number, members) in members.iter().enumerate() {
        for member in members {
            group[*member] = number;
        }
    }
    group
}

/// The nats that a symmetric table of shares tells less when two of its rows, and the same two columns, become one.
fn loss_of_joining(table: &[Vec<f64>], shares: &[f64], a: usize, b: usize) -> f64 {
    let tells = |joint: f64, one: f64, other: f64| match joint > 0.0 {
        true => joint * (joint / (one * other)).ln(),
        false => 0.0,
    };
    let both = shares[a] + shares[b];
    let mut lost = 0.0;
    for (k, share) in shares
        .iter()
        .enumerate()
        .filter(|(k, _)| *k != a && *k != b)
    {
        let (of_a, of_b) = (table[a][k], table[b][k]);
        let apart = tells(of_a, shares[a], *share) + tells(of_b, shares[b], *share);
        // Rows and columns are the same in a symmetric table.
        lost += 2.0 * (apart - tells(of_a + of_b, both, *share));
    }
    let pairs = [(a, a), (a, b), (b, a), (b, b)];
    let apart: f64 = pairs
        .iter()
        .map(|(i, j)| tells(table[*i][*j], shares[*i], shares[*j]))
        .sum();
    let together: f64 = pairs.iter().map(|(i, j)| table[*i][*j]).sum();
    lost + apart - tells(together, both, both)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::stack::StackConfig;
    use candle_core::Device;

    #[test]
    fn what_joining_two_loses_is_the_difference_of_what_the_tables_tell() {
        let mut table = vec![
            vec![0.20, 0.05, 0.00, 0.02],
            vec![0.05, 0.15, 0.01, 0.00],
            vec![0.00, 0.01, 0.25, 0.03],
            vec![0.02, 0.00, 0.03, 0.18],
        ];
        let before = information(&table);
        let shares: Vec<f64> = table.iter().map(|row| row.iter().sum()).collect();
        let lost = loss_of_joining(&table, &shares, 1, 3);
        let gone = table.remove(3);
        for (kept, gone) in table[1].iter_mut().zip(gone) {
            *kept += gone;
        }
        for row in &mut table {
            let gone = row.remove(3);
            row[1] += gone;
        }
        assert!((before - information(&table) - lost).abs() < 1e-12);
    }

    #[test]
    fn clusters_that_are_taken_for_each_other_come_to_one_category() {
        // Three classes of sizes 2, 3 and 1 clusters, not in order.
        let class = [0, 1, 0, 2, 1, 1];
        let share = |i: usize, j: usize| match (i == j, class[i] == class[j]) {
            (true, _) => 0.1,
            (false, true) => 0.03,
            (false, false) => 0.001,
        };
        let table = (0..6)
            .map(|i| (0..6).map(|j| share(i, j)).collect())
            .collect();
        assert_eq!(joined(table, 3), class);
        // Nothing was seen yet, and as many categories as clusters.
        assert_eq!(joined(vec![vec![0.0; 3]; 3], 3), [0, 1, 2]);
        assert_eq!(joined(vec![vec![0.0; 3]; 3], 1), [0, 0, 0]);
    }

    #[test]
    fn a_category_has_the_shares_of_its_clusters_and_averaged_weights_have_one_grouping() {
        let mut builder = ParamBuilder::new(1, &Device::Cpu);
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 4,
        };
        let config = InvarianceConfig {
            clusters: 4,
            network: StackConfig {
                channels: vec![],
                widths: vec![],
                ..StackConfig::default()
            },
            ..InvarianceConfig::default()
        };
        let clusters = Clusters::new(&mut builder, 0, shape, &config, 2).unwrap();
        clusters.group_as(&[1, 0, 1, 0]).unwrap();
        let scores = Tensor::new(
            &[[0.1f32.ln(), 0.2f32.ln(), 0.3f32.ln(), 0.4f32.ln()]],
            &Device::Cpu,
        )
        .unwrap();
        let read = clusters
            .categories(&scores)
            .unwrap()
            .exp()
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        assert!(
            (read[0][0] - 0.6).abs() < 1e-5 && (read[0][1] - 0.4).abs() < 1e-5,
            "{read:?}"
        );
        // Pairs of the first two clusters, and of the last two: those are what becomes a category.
        let of = |k: u32| {
            let row = (0..4).map(|j| if j == k { 60.0 } else { 0f32 });
            Tensor::from_vec(row.collect::<Vec<_>>(), (1, 4), &Device::Cpu).unwrap()
        };
        for _ in 0..20 {
            for (a, b) in [(0, 0), (0, 1), (1, 1), (2, 2), (2, 3), (3, 3)] {
                clusters.observe(&of(a), &of(b)).unwrap();
            }
        }
        clusters.regroup().unwrap();
        let wanted = [[1f32, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]];
        assert_eq!(
            clusters.membership().unwrap().to_vec2::<f32>().unwrap(),
            wanted
        );
        // Of twelve pairs, symmetric, six are of either category: all there is to tell.
        assert!((clusters.told().unwrap() - 2f64.ln()).abs() < 1e-4);
        let mixed = Tensor::new(
            &[[0.6f32, 0.4], [1.0, 0.0], [0.3, 0.7], [0.0, 1.0]],
            &Device::Cpu,
        )
        .unwrap();
        clusters.groups.set(&mixed).unwrap();
        assert_eq!(
            clusters.membership().unwrap().to_vec2::<f32>().unwrap(),
            wanted
        );
    }

    #[test]
    fn the_reader_is_chosen_whose_categories_tell_most_of_pairs() {
        let mut builder = ParamBuilder::new(1, &Device::Cpu);
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 4,
        };
        let config = InvarianceConfig {
            clusters: 4,
            readers: 3,
            network: StackConfig {
                channels: vec![],
                widths: vec![],
                ..StackConfig::default()
            },
            ..InvarianceConfig::default()
        };
        let readers = Readers::new(&mut builder, shape, &config, 2).unwrap();
        let names = builder.finish();
        for number in 0..3 {
            let of = names.of(&[&format!("{}.", Clusters::name(number))]);
            assert_eq!(of.vars.len() * 3, names.vars.len());
        }
        // Nothing was seen yet.
        assert_eq!(readers.best().unwrap(), 0);
        // How many of 20 pairs each reader takes for two things.
        for (number, apart) in [3, 1, 2].into_iter().enumerate() {
            let clusters = &readers.each()[number];
            clusters.group_as(&[0, 0, 1, 1]).unwrap();
            let row = |k: usize| (0..4).map(move |j| if j == k { 60f32 } else { 0.0 });
            let rows = |of: &dyn Fn(usize) -> usize| {
                let values: Vec<f32> = (0..20).flat_map(|i| row(of(i))).collect();
                Tensor::from_vec(values, (20, 4), &Device::Cpu).unwrap()
            };
            let first = rows(&|i| i % 4);
            let second = rows(&|i| if i < apart { (i + 2) % 4 } else { i % 4 });
            clusters.observe(&first, &second).unwrap();
        }
        assert_eq!(readers.best().unwrap(), 1);
        assert!(std::ptr::eq(readers.chosen().unwrap(), &readers.each()[1]));
    }
}
