//! An f32 graph as the quantiser looks at it: who makes a value, who reads it, which shape it has, and which values of
//! several graphs are the same function.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;

use super::lower::{Shapes, lower};
use crate::export::array::Array;
use crate::export::interpret::{Graph, GraphError};
use crate::export::onnx::{
    DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, types,
};

/// What an input of a graph holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Normalised pixels: how they are quantised follows from the normalisation alone.
    Pixels,
    /// An output of another graph of the set, by its name.
    Output(String),
    /// Numbers of which nothing is known but what was seen.
    Numbers,
}

/// One graph of a set that is quantised together.
pub struct Source {
    /// The graph.
    pub graph: GraphProto,
    /// What was said about it besides.
    pub metadata: Vec<(String, String)>,
    /// By the name of the input.
    pub roles: HashMap<String, Role>,
    shapes: Shapes,
    producer: HashMap<String, usize>,
    readers: HashMap<String, Vec<usize>>,
    constants: HashMap<String, usize>,
    keys: HashMap<String, u64>,
}

/// A convolution's weights, `[out, in, side, side]`, and its bias.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Sizes of the axes.
    pub shape: [usize; 4],
    /// Row-major.
    pub kernel: Vec<f32>,
    /// One a channel.
    pub bias: Vec<f32>,
}

impl Weights {
    /// Weights of one output channel.
    pub fn filter(&self, output: usize) -> &[f32] {
        let len = self.shape[1] * self.taps();
        &self.kernel[output * len..(output + 1) * len]
    }

    /// Weights of a kernel.
    pub fn taps(&self) -> usize {
        self.shape[2] * self.shape[3]
    }
}

impl Source {
    /// Reads a model, runs it once on zeros, for the shapes, and lowers it (`super::lower`).
    ///
    /// # Errors
    /// A graph that cannot be run, has inputs without a role, calls two things by one name, or is quantised already.
    pub fn new(bytes: &[u8], roles: &[(&str, Role)]) -> Result<Self> {
        let model = ModelProto::decode(bytes).map_err(GraphError::Decode)?;
        let metadata = model.metadata_props.iter();
        let metadata = metadata.map(|p| (p.key.clone(), p.value.clone())).collect();
        let mut graph = model.graph.ok_or(GraphError::NoGraph)?;
        let parsed = Graph::parse(bytes)?;
        check_names(&graph)?;
        if let Some(node) = graph.node.iter().find(|n| n.op_type.starts_with("QLinear")) {
            bail!("node {}: the graph is quantised already", node.name);
        }
        let roles: HashMap<String, Role> = roles
            .iter()
            .map(|(name, role)| ((*name).to_owned(), role.clone()))
            .collect();
        let mut inputs = Vec::new();
        for info in &graph.input {
            ensure!(
                roles.contains_key(&info.name),
                "nobody said what input {} holds",
                info.name
            );
            let shape =
                shape_of(info).with_context(|| format!("input {} has no shape", info.name))?;
            let count = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
            let count = count.filter(|n| (1..=MOST_INPUT_VALUES).contains(n));
            let count = count.with_context(|| {
                format!(
                    "input {} is {shape:?}, expected 1 to {MOST_INPUT_VALUES} values",
                    info.name
                )
            })?;
            let zeros = Array::new(shape, vec![0.0; count]).context("an input of no size")?;
            inputs.push((info.name.as_str(), zeros));
        }
        let values = parsed.run(&inputs)?;
        let mut shapes: Shapes = values
            .iter()
            .map(|(name, v)| (name.clone(), v.shape().to_vec()))
            .collect();
        lower(&mut graph, &mut shapes);
        let mut source = Self {
            metadata,
            roles,
            shapes,
            producer: HashMap::new(),
            readers: HashMap::new(),
            constants: HashMap::new(),
            keys: HashMap::new(),
            graph,
        };
        source.index();
        Ok(source)
    }

    fn index(&mut self) {
        for (at, tensor) in self.graph.initializer.iter().enumerate() {
            self.constants.insert(tensor.name.clone(), at);
        }
        for (name, role) in &self.roles {
            // Pixels are pixels, whatever the input is called.
            let key = match role {
                Role::Numbers => hash(&("input", role, name)),
                Role::Pixels | Role::Output(_) => hash(&("input", role)),
            };
            self.keys.insert(name.clone(), key);
        }
        for (at, node) in self.graph.node.iter().enumerate() {
            for input in &node.input {
                self.readers.entry(input.clone()).or_default().push(at);
            }
            let inputs: Vec<u64> = node
                .input
                .iter()
                .map(|name| match self.constant(name) {
                    Some(tensor) => hash(&(&tensor.dims, &tensor.raw_data)),
                    None => self.keys.get(name).copied().unwrap_or_default(),
                })
                .collect();
            let attributes: Vec<_> = node
                .attribute
                .iter()
                .map(|a| (&a.name, a.i, &a.ints))
                .collect();
            let key = hash(&(&node.op_type, attributes, inputs));
            for output in &node.output {
                self.producer.insert(output.clone(), at);
                self.keys.insert(output.clone(), key);
            }
        }
    }

    /// The same for values of any graphs that are the same function of pixels: tied weights are tied in everything.
    pub fn key(&self, value: &str) -> u64 {
        self.keys.get(value).copied().unwrap_or_default()
    }

    /// Shape of a value.
    pub fn shape(&self, value: &str) -> Option<&[usize]> {
        self.shapes.get(value).map(Vec::as_slice)
    }

    /// A constant.
    pub fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.constants
            .get(name)
            .map(|at| &self.graph.initializer[*at])
    }

    /// Who makes a value.
    pub fn producer(&self, value: &str) -> Option<&NodeProto> {
        self.producer.get(value).map(|at| &self.graph.node[*at])
    }

    /// The one node that reads a value; `None` where there are none, or several.
    pub fn only_reader(&self, value: &str) -> Option<&NodeProto> {
        match self.readers.get(value)?[..] {
            [at] => Some(&self.graph.node[at]),
            _ => None,
        }
    }

    /// A constant's f32 values.
    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        f32_values(self.constant(name)?)
    }

    /// Weights and bias of a convolution.
    pub fn weights(&self, conv: &NodeProto) -> Option<Weights> {
        let name = conv.input.get(1)?;
        let dims = &self.constant(name)?.dims;
        let &[out, channels, height, width] = &dims[..] else {
            return None;
        };
        let size = |d: i64| usize::try_from(d).ok();
        let weights = Weights {
            shape: [size(out)?, size(channels)?, size(height)?, size(width)?],
            kernel: self.floats(name)?,
            bias: self.floats(conv.input.get(2)?)?,
        };
        let fits = weights.kernel.len() == weights.shape.iter().product::<usize>()
            && weights.bias.len() == weights.shape[0];
        fits.then_some(weights)
    }

    /// Replaces weights and bias of a convolution. Nothing else may read the old ones.
    pub fn set_weights(&mut self, conv: &NodeProto, weights: &Weights) {
        for (k, values) in [(1, &weights.kernel), (2, &weights.bias)] {
            let at = conv.input.get(k).and_then(|name| self.constants.get(name));
            if let Some(at) = at {
                self.graph.initializer[*at].raw_data =
                    values.iter().flat_map(|v| v.to_le_bytes()).collect();
            }
        }
        self.keys.clear();
        self.readers.clear();
        self.index();
    }

    /// The graph's inputs that a value is made of without a convolution or a product in between, in the order of their
    /// names.
    pub fn inputs_behind(&self, value: &str) -> Vec<&str> {
        let mut behind = BTreeSet::new();
        // A value that is read along many ways is looked at once.
        let mut seen: HashSet<&str> = HashSet::new();
        let mut left = vec![value];
        while let Some(value) = left.pop() {
            if let Some((name, _)) = self.roles.get_key_value(value) {
                behind.insert(name.as_str());
                continue;
            }
            let node = self.producer(value);
            let through = node.filter(|n| !matches!(n.op_type.as_str(), "Conv" | "MatMul"));
            let inputs = through.into_iter().flat_map(|n| &n.input);
            for name in inputs.filter(|name| self.constant(name).is_none()) {
                if seen.insert(name) {
                    left.push(name);
                }
            }
        }
        behind.into_iter().collect()
    }

    /// The value whose numbers these are, before they were moved about: their range is the same.
    pub fn before_moves<'a>(&'a self, value: &'a str) -> &'a str {
        let mut value = value;
        while let Some(node) = self.producer(value) {
            let moves = matches!(node.op_type.as_str(), "Reshape" | "Transpose" | "Identity");
            match node.input.first().filter(|_| moves) {
                Some(from) => value = from,
                None => break,
            }
        }
        value
    }

    /// The bytes of the model.
    pub fn to_bytes(&self) -> Vec<u8> {
        let metadata: Vec<(&str, &str)> = self
            .metadata
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        crate::export::onnx::model(self.graph.clone(), &metadata)
    }
}

/// No input of a graph is larger.
const MOST_INPUT_VALUES: usize = 1 << 24;

/// Every value is made once: what is said about a name is then said about one value.
fn check_names(graph: &GraphProto) -> Result<()> {
    let mut made = HashSet::new();
    let constants = graph.initializer.iter().map(|t| &t.name);
    let inputs = graph.input.iter().map(|i| &i.name);
    let values = graph.node.iter().flat_map(|n| &n.output);
    for name in constants.chain(inputs).chain(values) {
        ensure!(made.insert(name), "two things are called {name:?}");
    }
    Ok(())
}

/// The values of an f32 tensor.
pub(super) fn f32_values(tensor: &TensorProto) -> Option<Vec<f32>> {
    let (values, rest) = tensor.raw_data.as_chunks();
    let is_floats = tensor.data_type == types::FLOAT && rest.is_empty();
    is_floats.then(|| values.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

pub(super) fn shape_of(info: &ValueInfoProto) -> Option<Vec<usize>> {
    let dims = &info
        .r#type
        .as_ref()?
        .tensor_type
        .as_ref()?
        .shape
        .as_ref()?
        .dim;
    dims.iter()
        .map(|d| match d.value {
            Some(DimensionValue::Size(size)) => usize::try_from(size).ok(),
            None => None,
        })
        .collect()
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
