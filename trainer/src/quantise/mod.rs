//! From f32 graphs to int8 ones: post-training quantisation.
//!
//! In: graphs that belong together, and samples of what they see. Out: the same graphs in QOperator form, and a report of
//! what eight bits did to every layer.
//!
//! - [`source`]: the f32 graphs, and which of their values are the same function; `lower`: dense layers as convolutions;
//! - [`observe`]: which range of each value the bytes cover;
//! - [`equalise`]: channels of unequal size made alike, where two layers can agree on it;
//! - [`weights`], [`mod@rewrite`]: the new graph;
//! - [`correct`]: what rounding moved on average, taken back in the biases;
//! - [`compare`]: bytes against numbers, layer by layer; [`report`]: as a page;
//! - [`search`]: which observer and which refinements, by what is measured of them;
//! - [`follow`], [`propose`], [`chain`]: how the two graphs of the tracker, the one that finds road users, and any others
//!   are fed, and what is measured of them.
//!
//! Nothing but those three knows what a graph is for: whatever is made of convolutions, dense layers, ReLUs, residual sums
//! and products goes through. A family of graphs implements [`Samples`].

pub mod chain;
pub mod compare;
pub mod correct;
pub mod equalise;
pub mod follow;
mod lower;
pub mod observe;
pub mod propose;
pub mod report;
pub mod rewrite;
pub mod search;
pub mod source;
pub mod statistics;
#[cfg(test)]
mod tests;
pub mod weights;

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use roadhound_shared::quantised::QuantParams;

use self::observe::{Histogram, Observer};
use self::rewrite::{Numbers, rewrite};
use self::source::{Role, Source};
use self::weights::Rounding;
use crate::export::array::{Array, Value};
use crate::export::interpret::Graph;

/// What a graph made of its inputs: every value, by name.
pub type Values = HashMap<String, Value>;

/// Runs one graph of the set, by its place in it.
pub type Run<'a> = dyn FnMut(usize, &[(&str, Array)]) -> Result<Values> + 'a;

/// What the graphs of a set see.
pub trait Samples {
    /// How many there are.
    fn count(&self) -> usize;

    /// Runs the graphs on sample `index`, in the order in which they need each other.
    ///
    /// # Errors
    /// Those of `run`.
    fn forward(&self, index: usize, run: &mut Run<'_>) -> Result<()>;
}

/// How a set is quantised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Ranges of activations.
    pub observer: Observer,
    /// Scales of weights.
    pub rounding: Rounding,
    /// Scale and zero point of normalised pixels.
    pub pixels: QuantParams,
}

/// A value that has to become bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Its name in the f32 graph.
    pub value: String,
    /// Whether it must not be negative.
    pub relu: bool,
}

/// Asks the rewriter what it needs.
struct Ask {
    wanted: BTreeSet<Wanted>,
}

impl Numbers for Ask {
    fn params(&mut self, value: &str, relu: bool) -> Result<QuantParams> {
        let value = value.to_owned();
        self.wanted.insert(Wanted { value, relu });
        Ok(QuantParams::new(1.0, 0)?)
    }

    fn correction(&self, _: &str) -> Option<&[f32]> {
        None
    }

    fn rounding(&self) -> Rounding {
        Rounding::Largest
    }
}

/// The values of a graph that become bytes.
///
/// # Errors
/// A graph that cannot be rewritten.
pub fn wanted(source: &Source) -> Result<Vec<Wanted>> {
    let mut ask = Ask {
        wanted: BTreeSet::new(),
    };
    rewrite(source, &mut ask)?;
    Ok(ask.wanted.into_iter().collect())
}

/// What was seen of every value that becomes bytes, under the key of its function.
#[derive(Default)]
pub struct Seen {
    histograms: HashMap<u64, Histogram>,
    /// Largest value of each channel of maps.
    channels: HashMap<u64, Vec<f32>>,
}

impl Seen {
    /// Runs every sample through the f32 graphs and watches.
    ///
    /// # Errors
    /// Those of the graphs.
    pub fn watch(
        sources: &[Source],
        samples: &dyn Samples,
        mut progress: impl FnMut(),
    ) -> Result<Self> {
        let graphs = parsed(&sources.iter().map(Source::to_bytes).collect::<Vec<_>>())?;
        let wanted: Vec<_> = sources.iter().map(wanted).collect::<Result<_>>()?;
        let mut seen = Self::default();
        for index in 0..samples.count() {
            samples.forward(index, &mut |at, inputs| {
                let values = graphs[at].run(inputs)?;
                for Wanted { value, .. } in &wanted[at] {
                    if let Some(array) = values.get(value).and_then(Value::floats) {
                        seen.add(sources[at].key(value), array);
                    }
                }
                Ok(values)
            })?;
            progress();
        }
        Ok(seen)
    }

    fn add(&mut self, key: u64, array: &Array) {
        self.histograms.entry(key).or_default().add(array.values());
        if let [1, channels, height, width] = array.shape()[..] {
            let most = self
                .channels
                .entry(key)
                .or_insert_with(|| vec![0.0; channels]);
            for (most, map) in most
                .iter_mut()
                .zip(array.values().chunks_exact(height * width))
            {
                *most = map.iter().fold(*most, |most, v| most.max(v.abs()));
            }
        }
    }

    /// Largest magnitude of each channel of a map.
    pub fn channels(&self, key: u64) -> Option<&[f32]> {
        self.channels.get(&key).map(Vec::as_slice)
    }
}

/// Corrections of biases, by the key of what the convolution makes.
pub type Corrections = HashMap<u64, Vec<f32>>;

/// What bytes mean, for one graph of a set.
struct Found<'a> {
    source: &'a Source,
    sources: &'a [Source],
    seen: &'a Seen,
    settings: &'a Settings,
    corrections: &'a Corrections,
}

impl Numbers for Found<'_> {
    fn params(&mut self, value: &str, relu: bool) -> Result<QuantParams> {
        params_in(
            self.sources,
            self.source,
            self.seen,
            self.settings,
            value,
            relu,
        )
    }

    fn correction(&self, value: &str) -> Option<&[f32]> {
        self.corrections
            .get(&self.source.key(value))
            .map(Vec::as_slice)
    }

    fn rounding(&self) -> Rounding {
        self.settings.rounding
    }
}

/// What the bytes of a value mean: pixels by their normalisation, a mix of what another graph gave as that graph gave it,
/// everything else by what was seen.
fn params_in(
    sources: &[Source],
    source: &Source,
    seen: &Seen,
    settings: &Settings,
    value: &str,
    relu: bool,
) -> Result<QuantParams> {
    if source.roles.get(source.before_moves(value)) == Some(&Role::Pixels) {
        return Ok(settings.pixels);
    }
    let behind = source.inputs_behind(value);
    let outputs = behind.iter().map(|name| match &source.roles[*name] {
        Role::Pixels | Role::Numbers => None,
        Role::Output(output) => Some(output.as_str()),
    });
    let outputs: BTreeSet<Option<&str>> = outputs.collect();
    let key = match outputs.into_iter().collect::<Vec<_>>()[..] {
        [Some(output)] => {
            let made = sources
                .iter()
                .find_map(|s| s.producer(output).map(|node| (s, node)));
            let (other, node) = made.with_context(|| format!("no graph gives {output}"))?;
            // An output is a copy of the value that was quantised.
            other.key(node.input.first().map_or(output, String::as_str))
        }
        _ => source.key(value),
    };
    let histogram = seen.histograms.get(&key);
    let histogram = histogram.with_context(|| format!("nothing was seen of {value}"))?;
    ensure!(histogram.total() > 0, "nothing was seen of {value}");
    settings
        .observer
        .params(histogram, relu)
        .with_context(|| format!("value {value}"))
}

/// The set as quantised graphs.
///
/// # Errors
/// Values of which nothing was seen, or which are beyond all bounds.
pub fn quantised(
    sources: &[Source],
    seen: &Seen,
    settings: &Settings,
    corrections: &Corrections,
) -> Result<Vec<Vec<u8>>> {
    let one = |source| {
        let mut found = Found {
            source,
            sources,
            seen,
            settings,
            corrections,
        };
        rewrite(source, &mut found).with_context(|| format!("graph {}", source.graph.name))
    };
    sources.iter().map(one).collect()
}

/// Graphs ready to run.
///
/// # Errors
/// Those of [`Graph::parse`].
pub fn parsed(graphs: &[Vec<u8>]) -> Result<Vec<Graph>> {
    graphs
        .iter()
        .map(|bytes| Ok(Graph::parse(bytes)?))
        .collect()
}
