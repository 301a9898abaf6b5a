//! Graphs of any purpose: fed with samples, and the later ones with what the earlier ones gave.
//!
//! In: graphs in the order in which they need each other, and samples. An input that has the name of an earlier graph's
//! output is fed by it, every other one by the sample. Out: [`ChainSamples`] to calibrate on, and a [`Bench`] that measures
//! how far every output of a quantised chain is from the f32 one's.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost::Message;
use roadhound_shared::quantised::{QuantError, QuantParams};

use super::report::{Figure, Figures};
use super::source::{Role, Source, shape_of};
use super::{Run, Samples, Values, parsed};
use crate::export::array::{Array, Value};
use crate::export::interpret::GraphError;
use crate::export::onnx::ModelProto;
use crate::labelled;
use crate::model::stack::planes;

/// What the bytes of pictures mean: samples have them from 0 to 1.
///
/// # Errors
/// None: the scale is one that can be.
pub fn pixel_params() -> Result<QuantParams, QuantError> {
    QuantParams::new(1.0 / 255.0, 0)
}

/// One graph.
struct Link {
    file: String,
    bytes: Vec<u8>,
    /// Names and shapes, and whether an earlier graph gives the value.
    inputs: Vec<(String, Vec<usize>, bool)>,
    outputs: Vec<String>,
}

impl Link {
    fn name(&self) -> &str {
        let stem = Path::new(&self.file).file_stem();
        stem.and_then(|stem| stem.to_str()).unwrap_or(&self.file)
    }
}

/// Graphs in the order in which they need each other.
pub struct Chain {
    links: Vec<Link>,
}

impl Chain {
    /// Graphs, each with the name that errors call it.
    ///
    /// # Errors
    /// What is no ONNX model, or has inputs without sizes.
    pub fn new(graphs: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let mut links: Vec<Link> = Vec::new();
        for (file, bytes) in graphs {
            let model = ModelProto::decode(bytes.as_slice());
            let model = model
                .map_err(GraphError::Decode)
                .with_context(|| file.clone())?;
            let graph = model.graph.ok_or(GraphError::NoGraph);
            let graph = graph.with_context(|| file.clone())?;
            let inputs = graph.input.iter().map(|input| {
                let shape = shape_of(input);
                let shape =
                    shape.with_context(|| format!("{file}: input {} has no sizes", input.name))?;
                let is_given = links.iter().any(|link| link.outputs.contains(&input.name));
                Ok((input.name.clone(), shape, is_given))
            });
            let inputs = inputs.collect::<Result<_>>()?;
            links.push(Link {
                inputs,
                outputs: graph.output.into_iter().map(|o| o.name).collect(),
                file,
                bytes,
            });
        }
        ensure!(!links.is_empty(), "no graph");
        Ok(Self { links })
    }

    /// The graphs to be quantised, for such samples.
    ///
    /// # Errors
    /// A graph that cannot be run, or is quantised already; samples of another size than its inputs.
    pub fn sources(&self, samples: &labelled::Samples) -> Result<Vec<Source>> {
        let open = |link: &Link| {
            for (name, shape, _) in link.inputs.iter().filter(|(.., is_given)| !is_given) {
                let sample = samples.shape();
                let fits = match shape[..] {
                    [1, c, h, w] => [c, h, w] == [sample.channels, sample.height, sample.width],
                    [1, length] => length == sample.len(),
                    _ => false,
                };
                ensure!(
                    fits,
                    "input {name} takes {shape:?}, a sample has {} x {} x {} values",
                    sample.height,
                    sample.width,
                    sample.channels
                );
            }
            let role = |is_given: bool| match !is_given && samples.is_bytes() {
                true => Role::Pixels,
                false => Role::Numbers,
            };
            let inputs = link.inputs.iter();
            let roles: Vec<(&str, Role)> = inputs
                .map(|(name, _, is_given)| (name.as_str(), role(*is_given)))
                .collect();
            Source::new(&link.bytes, &roles)
        };
        let sources = self
            .links
            .iter()
            .map(|l| open(l).with_context(|| l.file.clone()));
        sources.collect()
    }

    /// What each graph is called for short: its file's name without folder and ending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(Link::name)
    }

    /// Sizes of the pictures that the first input takes, if it takes any.
    pub fn pictures(&self) -> Option<labelled::Shape> {
        let inputs = self.links.iter().flat_map(|link| &link.inputs);
        let mut shapes = inputs
            .filter(|(.., is_given)| !is_given)
            .map(|(_, shape, _)| shape);
        match shapes.next()?[..] {
            [1, channels, height, width] => Some(labelled::Shape {
                height,
                width,
                channels,
            }),
            _ => None,
        }
    }

    /// The f32 graphs.
    fn graphs(&self) -> Vec<Vec<u8>> {
        self.links.iter().map(|link| link.bytes.clone()).collect()
    }
}

/// Some of the samples, as a chain takes them.
pub struct ChainSamples<'a> {
    /// The graphs.
    pub chain: &'a Chain,
    /// All samples.
    pub samples: &'a labelled::Samples,
    /// Which of them.
    pub chosen: &'a [usize],
}

impl Samples for ChainSamples<'_> {
    fn count(&self) -> usize {
        self.chosen.len()
    }

    fn forward(&self, index: usize, run: &mut Run<'_>) -> Result<()> {
        let row = self.samples.row(self.chosen[index]);
        let mut given: HashMap<&str, Array> = HashMap::new();
        for (at, link) in self.chain.links.iter().enumerate() {
            let inputs = link.inputs.iter().map(|(name, shape, is_given)| {
                let array = match is_given {
                    true => given.get(name.as_str()).cloned(),
                    false => {
                        let values = planes(&row, self.samples.shape(), shape.len() == 4);
                        Array::new(shape.clone(), values)
                    }
                };
                let array = array.filter(|a| a.shape() == shape);
                let misfit = || format!("{}: input {name} is given another size", link.file);
                Ok((name.as_str(), array.with_context(misfit)?))
            });
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            let mut values = run(at, &inputs).with_context(|| link.file.clone())?;
            for name in &link.outputs {
                if let Some(Value::Floats(array)) = values.remove(name) {
                    given.insert(name, array);
                }
            }
        }
        Ok(())
    }
}

/// What chains are measured on: the outputs of the f32 one, sample by sample.
pub struct Bench<'a> {
    samples: ChainSamples<'a>,
    plain: Vec<Vec<Array>>,
}

/// How far an output is off, over all samples.
#[derive(Clone, Copy, Debug, Default)]
struct Off {
    signal: f64,
    noise: f64,
    sum: f64,
    most: f64,
    count: u64,
}

impl Off {
    /// Squares of the errors as a share of the squares of the values.
    fn share(&self) -> f64 {
        self.noise / self.signal.max(f64::MIN_POSITIVE)
    }

    fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    fn add(&mut self, plain: &[f32], found: &[f32]) {
        for (plain, found) in plain.iter().zip(found) {
            let off = f64::from((plain - found).abs());
            self.signal += f64::from(*plain).powi(2);
            self.noise += off * off;
            self.sum += off;
            self.most = if off > self.most || off.is_nan() {
                off
            } else {
                self.most
            };
        }
        self.count += plain.len() as u64;
    }
}

impl<'a> Bench<'a> {
    /// Runs the f32 graphs; returns their figures as well.
    ///
    /// # Errors
    /// Those of the graphs; no samples to measure on.
    pub fn new(samples: ChainSamples<'a>) -> Result<(Self, Figures)> {
        ensure!(samples.count() > 0, "no samples to measure on");
        let plain = outputs(&samples, &samples.chain.graphs())?;
        let bench = Self { samples, plain };
        let figures = bench.told(None);
        Ok((bench, figures))
    }

    /// What is measured of the quantised graphs: of every output, how far it is off.
    ///
    /// # Errors
    /// Those of the graphs.
    pub fn figures(&self, graphs: &[Vec<u8>]) -> Result<Figures> {
        let found = outputs(&self.samples, graphs)?;
        let count = self.plain.first().map_or(0, Vec::len);
        let mut off = vec![Off::default(); count];
        for (plain, found) in self.plain.iter().zip(&found) {
            for ((off, plain), found) in off.iter_mut().zip(plain).zip(found) {
                off.add(plain.values(), found.values());
            }
        }
        Ok(self.told(Some(&off)))
    }

    fn told(&self, off: Option<&[Off]>) -> Figures {
        let links = self.samples.chain.links.iter();
        let names = links.flat_map(|l| l.outputs.iter().map(move |o| format!("{} {o}", l.name())));
        let all = names.enumerate().flat_map(|(at, name)| {
            let of = |what: &str, value: fn(&Off) -> f64| {
                let value = off.and_then(|off| off.get(at)).map(value);
                Figure::against_f32(&format!("{name}, {what}"), value)
            };
            [
                of("noise as a share of the signal", Off::share),
                of("mean error", Off::mean),
                of("largest error", |off| off.most),
            ]
        });
        let off = off.unwrap_or_default();
        Figures {
            merit: 0.0,
            nearness: -off.iter().map(Off::share).sum::<f64>(),
            all: all.collect(),
        }
    }
}

/// Every output of every graph, sample by sample.
fn outputs(samples: &ChainSamples<'_>, graphs: &[Vec<u8>]) -> Result<Vec<Vec<Array>>> {
    let graphs = parsed(graphs)?;
    let mut all = Vec::with_capacity(samples.count());
    for index in 0..samples.count() {
        let mut found = Vec::new();
        samples.forward(index, &mut |at, inputs| {
            let values: Values = graphs[at].run(inputs)?;
            for name in &samples.chain.links[at].outputs {
                let array = values.get(name).and_then(Value::floats);
                found.push(array.with_context(|| format!("no output {name}"))?.clone());
            }
            Ok(values)
        })?;
        all.push(found);
    }
    Ok(all)
}
