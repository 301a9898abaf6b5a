//! Runs an exported graph as the board will: what a bundle says, rather than what the network meant.
//!
//! In: the bytes of `template.onnx` and `search.onnx`. Out: [`OnnxNetwork`], a
//! [`FollowNetwork`]. It knows the operators that [`super::follow`] and [`quantise`](crate::quantise) write and refuses
//! the others by name; the quantised ones are in [`super::integers`]. The arithmetic is [`ops::exact`](crate::ops::exact): the same bits as `roadhound` on the same machine, so that
//! `evaluate` follows a clip as `roadhound track` does, from the first box to the last. The exporter compares the
//! graphs with the network before a bundle is shipped.

use std::collections::HashMap;

use prost::Message;
use roadhound_shared::contract::{FollowContract, TensorSpec};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};

use super::array::{Array, Room, Value, volume};
use super::integers::IntegerOp;
use super::onnx::{ModelProto, NodeProto, TensorProto, types};
use crate::ops::exact::{self, Filters, Window};

/// Why a graph cannot be read or run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// Not an ONNX file.
    #[error("not an ONNX model: {0}")]
    Decode(prost::DecodeError),
    /// A file without a graph.
    #[error("the model has no graph")]
    NoGraph,
    /// A name that would break a line, or worse, wherever it is told.
    #[error("the name {name:?} holds control characters")]
    Name {
        /// It.
        name: String,
    },
    /// A constant that cannot be read.
    #[error("initializer {name} has type {data_type} and {bytes} bytes for dimensions {dims:?}")]
    Initializer {
        /// Its name.
        name: String,
        /// ONNX number of its type.
        data_type: i32,
        /// Bytes that are there.
        bytes: usize,
        /// Its dimensions.
        dims: Vec<i64>,
    },
    /// A node that cannot be run.
    #[error("node {node}: {reason}")]
    Node {
        /// Its name.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An output that is missing or of another size.
    #[error("output {name} has {found:?} values, expected {expected}")]
    Output {
        /// Its name.
        name: String,
        /// Values of the graph's, `None` where it has no such output.
        found: Option<usize>,
        /// Values of the contract's.
        expected: usize,
    },
}

/// Most values that all nodes of a graph produce together, and that a single one takes for itself: 256 MiB. The graphs
/// of the shipped model produce less than a tenth.
const MAX_VALUES: usize = 1 << 26;

/// A constant of a graph.
pub(super) enum Constant {
    Floats(Array),
    Ints(Vec<i64>),
    Bytes(Array<u8>),
    SignedBytes(Array<i8>),
    Int32s(Array<i32>),
    /// Weights of a convolution, `[out, in, side, side]`, packed.
    Filters {
        filters: Filters,
        channels: usize,
        side: usize,
    },
}

/// One graph, ready to run.
pub struct Graph {
    nodes: Vec<NodeProto>,
    constants: HashMap<String, Constant>,
    /// Quantised nodes, by the name of what they produce.
    integers: HashMap<String, IntegerOp>,
    /// Maps that were joined along channels, and of which.
    joined: HashMap<String, Vec<String>>,
}

impl Graph {
    /// Parses the bytes of a model.
    ///
    /// # Errors
    /// Bytes that are no ONNX model, or constants and weights that make no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, GraphError> {
        let graph = ModelProto::decode(bytes)
            .map_err(GraphError::Decode)?
            .graph
            .ok_or(GraphError::NoGraph)?;
        // Messages hold names as they are.
        let of_constants = graph.initializer.iter().map(|t| &t.name);
        let of_nodes = graph.node.iter().flat_map(|n| {
            let own = [&n.name, &n.op_type].into_iter();
            own.chain(&n.input).chain(&n.output)
        });
        let broken = |name: &&String| name.contains(char::is_control);
        if let Some(name) = of_constants.chain(of_nodes).find(broken) {
            return Err(GraphError::Name { name: name.clone() });
        }
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            constants.insert(tensor.name.clone(), constant(tensor)?);
        }
        for node in graph.node.iter().filter(|n| n.op_type == "Conv") {
            let name = node.input.get(1).map(String::as_str).unwrap_or_default();
            let packed = match constants.get(name) {
                Some(Constant::Floats(weight)) => pack(weight),
                Some(Constant::Filters { .. }) => continue, // shared with an earlier convolution
                _ => None,
            };
            let packed = packed.ok_or_else(|| GraphError::Node {
                node: node.name.clone(),
                reason: format!("{name} is not a constant of square kernels"),
            })?;
            constants.insert(name.to_owned(), packed);
        }
        let mut integers = HashMap::new();
        for node in &graph.node {
            let at = |reason: String| GraphError::Node {
                node: node.name.clone(),
                reason,
            };
            if let (Some(op), Some(name)) = (
                IntegerOp::of(node, &constants).map_err(at)?,
                node.output.first(),
            ) {
                integers.insert(name.clone(), op);
            }
        }
        let along_channels = |n: &&NodeProto| n.op_type == "Concat" && axis(n) == Ok(1);
        let joins = graph.node.iter().filter(along_channels);
        let joined = joins.filter_map(|n| Some((n.output.first()?.clone(), n.input.clone())));
        Ok(Self {
            joined: joined.collect(),
            nodes: graph.node,
            constants,
            integers,
        })
    }

    /// Runs the graph on named inputs; every value that a node produced is returned by name.
    ///
    /// # Errors
    /// The node that is not known, does not fit its inputs, or asks for more memory than any real model; it is refused
    /// before the memory is asked for.
    pub fn run(&self, inputs: &[(&str, Array)]) -> Result<HashMap<String, Value>, GraphError> {
        let mut values: HashMap<String, Value> = inputs
            .iter()
            .map(|(name, array)| ((*name).to_owned(), Value::Floats(array.clone())))
            .collect();
        let mut room = Room { left: MAX_VALUES };
        for node in &self.nodes {
            let at = |reason: String| GraphError::Node {
                node: node.name.clone(),
                reason,
            };
            let name = node.output.first().ok_or_else(|| at("no output".into()))?;
            let result = match (self.integers.get(name), node.op_type.as_str()) {
                (Some(op), _) => op.apply(node, &values, room),
                (None, "Transpose" | "Reshape" | "Concat" | "Slice" | "Identity") => {
                    self.moved(node, &values, room)
                }
                _ => self.apply(node, &values, room).map(Value::Floats),
            };
            let result = result.map_err(at)?;
            room.left = room.left.saturating_sub(result.len());
            values.insert(name.clone(), result);
        }
        Ok(values)
    }

    /// What input `k` of a node is called.
    fn name(node: &NodeProto, k: usize) -> Result<&str, String> {
        let name = node.input.get(k).ok_or(format!("input {k} is missing"))?;
        Ok(name)
    }

    fn float<'a>(
        &'a self,
        node: &NodeProto,
        k: usize,
        values: &'a HashMap<String, Value>,
    ) -> Result<&'a Array, String> {
        let name = Self::name(node, k)?;
        match (values.get(name), self.constants.get(name)) {
            (Some(Value::Floats(array)), _) | (None, Some(Constant::Floats(array))) => Ok(array),
            _ => Err(format!("input {name} is not known as floats")),
        }
    }

    fn sizes(&self, node: &NodeProto, k: usize) -> Result<Vec<usize>, String> {
        match self.constants.get(Self::name(node, k)?) {
            Some(Constant::Ints(values)) => values.iter().map(|v| size(*v)).collect(),
            _ => Err(format!("input {k} is not a constant list of integers")),
        }
    }

    /// Operators that only move values, of numbers as of bytes.
    fn moved(
        &self,
        node: &NodeProto,
        values: &HashMap<String, Value>,
        room: Room,
    ) -> Result<Value, String> {
        let count = match node.op_type.as_str() {
            "Concat" => node.input.len(),
            _ => 1,
        };
        let is_bytes = matches!(values.get(Self::name(node, 0)?), Some(Value::Bytes(_)));
        if is_bytes {
            let known = |k: usize| {
                let name = Self::name(node, k)?;
                let found = values.get(name).and_then(Value::bytes);
                found.ok_or_else(|| format!("input {name} is not known as bytes"))
            };
            let parts: Vec<_> = (0..count).map(known).collect::<Result<_, _>>()?;
            Ok(Value::Bytes(self.arranged(node, &parts, room)?))
        } else {
            let known = |k: usize| self.float(node, k, values);
            let parts: Vec<_> = (0..count).map(known).collect::<Result<_, _>>()?;
            Ok(Value::Floats(self.arranged(node, &parts, room)?))
        }
    }

    fn arranged<T: Copy>(
        &self,
        node: &NodeProto,
        parts: &[&Array<T>],
        room: Room,
    ) -> Result<Array<T>, String> {
        let from = *parts.first().ok_or("no input")?;
        if node.op_type != "Concat" {
            // The result is no larger than what it is made of.
            room.for_another(from)?;
        }
        match node.op_type.as_str() {
            "Transpose" => from.transpose(attribute(node, "perm")?),
            "Reshape" => {
                let shape = self.sizes(node, 1)?;
                Array::new(shape.clone(), from.values.clone())
                    .ok_or_else(|| format!("{:?} does not become {shape:?}", from.shape))
            }
            "Concat" => Array::concat(parts, axis(node)?, room),
            "Slice" => {
                let [starts, ends, axes] = [1, 2, 3].map(|k| self.sizes(node, k));
                let (starts, ends, axes) = (starts?, ends?, axes?);
                if starts.len() != ends.len() || starts.len() != axes.len() {
                    return Err("starts, ends and axes differ in number".into());
                }
                let cuts = axes.iter().zip(starts.iter().zip(&ends));
                cuts.map(|(axis, (from, to))| (*axis, *from, *to))
                    .try_fold(from.clone(), |x, (axis, from, to)| x.narrow(axis, from, to))
            }
            _ => Ok(from.clone()),
        }
    }

    fn apply(
        &self,
        node: &NodeProto,
        values: &HashMap<String, Value>,
        room: Room,
    ) -> Result<Array, String> {
        let float = |k: usize| self.float(node, k, values);
        // For operators whose result is no larger than what they are given.
        let alike = |k: usize| room.for_another(float(k)?);
        match node.op_type.as_str() {
            "Conv" => {
                let Some(Constant::Filters {
                    filters,
                    channels,
                    side,
                }) = self.constants.get(Self::name(node, 1)?)
                else {
                    return Err("its weight is not a constant".into());
                };
                let (x, bias) = (float(0)?, per_channel(float(2)?));
                let sums = match self.joined.get(Self::name(node, 0)?) {
                    _ if filters.rows() == 1 && filters.depth() == x.values.len() => Array {
                        shape: vec![1; 4],
                        values: vec![exact::dot(filters.values(), &x.values)],
                    },
                    Some(parts) if *side == 1 => {
                        let known = |name: &String| {
                            let part = values.get(name).and_then(Value::floats);
                            part.ok_or("a part is missing")
                        };
                        let parts: Vec<&Array> =
                            parts.iter().map(known).collect::<Result<_, _>>()?;
                        convolution_of_joined(node, &parts, filters, room)?
                    }
                    _ => convolution(node, x, filters, *channels, *side, room)?,
                };
                sums.zip(&bias, room, |sum, bias| sum + bias)
            }
            "Relu" => Ok(alike(0)?.map(|x| x.max(0.0))),
            "Add" => float(0)?.zip(float(1)?, room, |a, b| a + b),
            "Sub" => float(0)?.zip(float(1)?, room, |a, b| a - b),
            "Mul" => float(0)?.zip(float(1)?, room, |a, b| a * b),
            "Div" => float(0)?.zip(&alike(1)?.map(f32::recip), room, |a, b| a * b),
            "Sqrt" => Ok(alike(0)?.map(f32::sqrt)),
            "Exp" => Ok(alike(0)?.map(exact::exp)),
            "Log" => Ok(alike(0)?.map(f32::ln)),
            "Sigmoid" => Ok(alike(0)?.map(exact::sigmoid)),
            "Softmax" => alike(0)?.softmax(axis(node)?),
            "Clip" => float(0)?
                .zip(float(1)?, room, f32::max)?
                .zip(float(2)?, room, f32::min),
            "MatMul" => {
                let (left, right) = (float(0)?, float(1)?);
                match (&left.shape[..], &right.shape[..]) {
                    (&[rows, depth], &[depth_right, columns]) if depth == depth_right => {
                        room.for_shape(&[rows, columns])?;
                        room.for_another(left)?;
                        room.for_another(right)?;
                        let filters = Filters::new(&left.values, rows, depth);
                        Ok(Array {
                            shape: vec![rows, columns],
                            values: exact::matmul(&filters, &right.values, columns),
                        })
                    }
                    (l, r) => Err(format!("{l:?} times {r:?} is not a product of matrices")),
                }
            }
            "ReduceMax" => {
                over_map(node)?;
                alike(0)?.over_cells(|cells| cells.iter().copied().fold(f32::MIN, f32::max))
            }
            "ReduceMean" => {
                over_map(node)?;
                let mean = |c: &[f32]| exact::sum_of_neighbours(c) * (c.len() as f32).recip();
                alike(0)?.over_cells(mean)
            }
            "ReduceSum" => match self.sizes(node, 1)?[..] {
                [1] => alike(0)?.sum(1),
                ref other => Err(format!("a sum over axes {other:?} is not known")),
            },
            other => Err(format!("operator {other} is not known")),
        }
    }
}

fn size(value: i64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("{value} is not a size"))
}

/// A constant of the file.
fn constant(tensor: &TensorProto) -> Result<Constant, GraphError> {
    let bad = || GraphError::Initializer {
        name: tensor.name.clone(),
        data_type: tensor.data_type,
        bytes: tensor.raw_data.len(),
        dims: tensor.dims.clone(),
    };
    let shape: Result<Vec<usize>, _> = tensor.dims.iter().map(|d| usize::try_from(*d)).collect();
    let shape = shape.map_err(|_| bad())?;
    let count = volume(&shape).ok_or_else(bad)?;
    let bytes = &tensor.raw_data;
    match tensor.data_type {
        types::FLOAT if count.checked_mul(4) == Some(bytes.len()) => {
            let (values, _) = bytes.as_chunks();
            let values = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
            Ok(Constant::Floats(Array::new(shape, values).ok_or_else(bad)?))
        }
        types::INT32 if count.checked_mul(4) == Some(bytes.len()) => {
            let (values, _) = bytes.as_chunks();
            let values = values.iter().map(|b| i32::from_le_bytes(*b)).collect();
            Ok(Constant::Int32s(Array::new(shape, values).ok_or_else(bad)?))
        }
        types::UINT8 => {
            let array = Array::new(shape, bytes.clone());
            Ok(Constant::Bytes(array.ok_or_else(bad)?))
        }
        types::INT8 => {
            let array = Array::new(shape, bytes.iter().map(|b| b.cast_signed()).collect());
            Ok(Constant::SignedBytes(array.ok_or_else(bad)?))
        }
        types::INT64 if count.checked_mul(8) == Some(bytes.len()) => {
            let (values, _) = bytes.as_chunks();
            let values = values.iter().map(|b| i64::from_le_bytes(*b)).collect();
            Ok(Constant::Ints(values))
        }
        _ => Err(bad()),
    }
}

/// Weights `[out, in, side, side]`, packed.
fn pack(weight: &Array) -> Option<Constant> {
    match weight.shape[..] {
        [out, channels, side, wide] if side == wide && !weight.values.is_empty() => {
            let filters = Filters::new(&weight.values, out, channels * side * side);
            Some(Constant::Filters {
                filters,
                channels,
                side,
            })
        }
        _ => None,
    }
}

fn convolution(
    node: &NodeProto,
    x: &Array,
    filters: &Filters,
    channels: usize,
    kernel: usize,
    room: Room,
) -> Result<Array, String> {
    let (stride, padding) = steps(node)?;
    let [1, found, height, width] = x.shape[..] else {
        return Err(format!("{:?} is not one map", x.shape));
    };
    let window = Window {
        channels,
        height,
        width,
        kernel,
        stride,
        padding,
    };
    if found != channels {
        return Err(format!("{:?} does not fit {window:?}", x.shape));
    }
    let (rows, columns) = room_for(&window, filters.rows(), filters.depth(), room)?;
    Ok(Array {
        shape: vec![1, filters.rows(), rows, columns],
        values: exact::conv2d(&x.values, &window, filters),
    })
}

/// Stride and padding of a convolution, alike in all directions.
pub(super) fn steps(node: &NodeProto) -> Result<(usize, usize), String> {
    let uniform = |name: &str| match attribute(node, name)? {
        [first, rest @ ..] if rest.iter().all(|v| v == first) => size(*first),
        other => Err(format!("{name} {other:?} are not alike")),
    };
    for other in &node.attribute {
        let known = match other.name.as_str() {
            "dilations" => other.ints.iter().all(|d| *d == 1),
            "group" => other.i == 1,
            "auto_pad" => false,
            _ => true,
        };
        if !known {
            return Err(format!("attribute {} is not known", other.name));
        }
    }
    Ok((uniform("strides")?, uniform("pads")?))
}

/// What a convolution takes beside its result: the padded map, and the map once for every weight of the kernel.
pub(super) fn room_for(
    window: &Window,
    outputs: usize,
    depth: usize,
    room: Room,
) -> Result<(usize, usize), String> {
    let &Window {
        channels,
        height,
        width,
        padding,
        ..
    } = window;
    let misfit = || format!("[1, {channels}, {height}, {width}] does not fit {window:?}");
    let (rows, columns) = window.output().ok_or_else(misfit)?;
    room.for_shape(&[outputs, rows, columns])?;
    room.for_shape(&[channels, height + 2 * padding, width + 2 * padding])?;
    room.for_shape(&[depth, rows, columns])?;
    Ok((rows, columns))
}

/// A 1x1 convolution of maps joined along channels: each part by itself, then their sum.
fn convolution_of_joined(
    node: &NodeProto,
    parts: &[&Array],
    filters: &Filters,
    room: Room,
) -> Result<Array, String> {
    let mut sum: Option<Array> = None;
    let mut first = 0;
    for part in parts {
        let channels = part.shape.get(1).copied().unwrap_or_default();
        let columns = filters.columns(first, channels);
        let columns = columns.ok_or_else(|| format!("a part {:?} does not fit", part.shape))?;
        let y = convolution(node, part, &columns, channels, 1, room)?;
        sum = Some(match sum {
            Some(sum) => sum.zip(&y, room, |a, b| a + b)?,
            None => y,
        });
        first += channels;
    }
    match sum {
        Some(sum) if first == filters.depth() => Ok(sum),
        _ => Err(format!("{first} channels for {} weights", filters.depth())),
    }
}

/// One value a channel, as `[1, C, 1, 1]`.
fn per_channel(bias: &Array) -> Array {
    Array {
        shape: vec![1, bias.values.len(), 1, 1],
        values: bias.values.clone(),
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Result<&'a [i64], String> {
    let found = node.attribute.iter().find(|a| a.name == name);
    found
        .map(|a| a.ints.as_slice())
        .ok_or_else(|| format!("attribute {name} is missing"))
}

fn axis(node: &NodeProto) -> Result<usize, String> {
    let found = node.attribute.iter().find(|a| a.name == "axis");
    size(found.ok_or("attribute axis is missing")?.i)
}

fn over_map(node: &NodeProto) -> Result<(), String> {
    match attribute(node, "axes")? {
        [2, 3] => Ok(()),
        other => Err(format!("a reduction over axes {other:?} is not known")),
    }
}

/// Both graphs of a bundle.
pub struct OnnxNetwork {
    template: Graph,
    search: Graph,
    contract: FollowContract,
}

impl OnnxNetwork {
    /// Parses both graphs for `contract`.
    ///
    /// # Errors
    /// As [`Graph::parse`].
    pub fn new(
        template: &[u8],
        search: &[u8],
        contract: &FollowContract,
    ) -> Result<Self, GraphError> {
        Ok(Self {
            template: Graph::parse(template)?,
            search: Graph::parse(search)?,
            contract: contract.clone(),
        })
    }
}

pub(super) fn input<'a>(
    spec: &'a TensorSpec,
    values: &[f32],
) -> Result<(&'a str, Array), GraphError> {
    let array = Array::new(spec.shape.clone(), values.to_vec());
    let array = array.ok_or_else(|| GraphError::Node {
        node: spec.name.clone(),
        reason: format!("{} values for shape {:?}", values.len(), spec.shape),
    })?;
    Ok((&spec.name, array))
}

pub(super) fn copy_output(
    values: &HashMap<String, Value>,
    spec: &TensorSpec,
    out: &mut [f32],
) -> Result<(), GraphError> {
    match values.get(&spec.name).and_then(Value::floats) {
        Some(array) if array.values.len() == out.len() => {
            out.copy_from_slice(&array.values);
            Ok(())
        }
        found => Err(GraphError::Output {
            name: spec.name.clone(),
            found: found.map(|a| a.values.len()),
            expected: out.len(),
        }),
    }
}

impl FollowNetwork for OnnxNetwork {
    type Error = GraphError;

    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<(), GraphError> {
        let t = &self.contract.tensors;
        let values = self.template.run(&[input(&t.template, crop_chw)?])?;
        copy_output(&values, &t.features, &mut out.features)?;
        copy_output(&values, &t.template_embedding, &mut out.embedding)
    }

    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), GraphError> {
        let t = &self.contract.tensors;
        let values = self.search.run(&[
            input(&t.search, crop_chw)?,
            input(&t.template_first, first)?,
            input(&t.template_latest, latest)?,
        ])?;
        copy_output(&values, &t.score, &mut out.score)?;
        copy_output(&values, &t.box_ltrb_px, &mut out.box_ltrb_px)?;
        copy_output(&values, &t.embedding, &mut out.embedding)?;
        copy_output(
            &values,
            &t.presence,
            std::slice::from_mut(&mut out.presence),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::onnx::{Attribute, GraphBuilder};
    use super::*;

    fn array(shape: &[usize], values: &[f32]) -> Array {
        Array::new(shape.to_vec(), values.to_vec()).unwrap()
    }

    /// Runs a graph of one node on `x` (and constants that `build` adds).
    fn run(
        x: &Array,
        build: impl FnOnce(&mut GraphBuilder) -> String,
    ) -> Result<Array, GraphError> {
        let mut g = GraphBuilder::new("g");
        g.input("x", x.shape());
        let y = build(&mut g);
        let graph = Graph::parse(&g.finish(&[]))?;
        let values = graph.run(&[("x", x.clone())])?;
        Ok(values[&y].floats().unwrap().clone())
    }

    #[test]
    fn names_that_would_break_a_line_are_refused() {
        let x = array(&[1, 1, 1, 1], &[1.0]);
        for (kind, input) in [("Re\nlu", "x"), ("Relu", "x\u{1b}[2J")] {
            let error = run(&x, |g| g.node(kind, &[input], vec![])).unwrap_err();
            let line = error.to_string();
            assert!(line.contains("control characters"), "{line}");
            assert!(!line.contains(char::is_control), "{line}");
        }
    }

    #[test]
    fn operators_do_what_onnx_says() {
        let x = array(&[1, 2, 1, 2], &[1.0, -2.0, 3.0, 5.0]);
        type Build<'a> = &'a dyn Fn(&mut GraphBuilder) -> String;
        let cases: [(&str, Build<'_>, Array); 10] = [
            (
                "Relu",
                &|g| g.node("Relu", &["x"], vec![]),
                array(&[1, 2, 1, 2], &[1.0, 0.0, 3.0, 5.0]),
            ),
            (
                "Sub, repeated along columns",
                &|g| {
                    let c = g.floats(&[1, 2, 1, 1], &[1.0, 2.0]);
                    g.node("Sub", &["x", &c], vec![])
                },
                array(&[1, 2, 1, 2], &[0.0, -3.0, 1.0, 3.0]),
            ),
            (
                "Div, repeated along channels",
                &|g| {
                    let c = g.floats(&[1, 1, 1, 2], &[2.0, 4.0]);
                    g.node("Div", &["x", &c], vec![])
                },
                array(&[1, 2, 1, 2], &[0.5, -0.5, 1.5, 1.25]),
            ),
            (
                "Clip",
                &|g| {
                    let (low, high) = (g.floats(&[], &[0.0]), g.floats(&[], &[4.0]));
                    g.node("Clip", &["x", &low, &high], vec![])
                },
                array(&[1, 2, 1, 2], &[1.0, 0.0, 3.0, 4.0]),
            ),
            (
                "Slice",
                &|g| {
                    let (from, to, axes) = (g.ints(&[1, 0]), g.ints(&[2, 1]), g.ints(&[1, 3]));
                    g.node("Slice", &["x", &from, &to, &axes], vec![])
                },
                array(&[1, 1, 1, 1], &[3.0]),
            ),
            (
                "Concat",
                &|g| g.node("Concat", &["x", "x"], vec![Attribute::Int("axis", 3)]),
                array(&[1, 2, 1, 4], &[1.0, -2.0, 1.0, -2.0, 3.0, 5.0, 3.0, 5.0]),
            ),
            (
                "ReduceSum over channels",
                &|g| {
                    let axes = g.ints(&[1]);
                    g.node(
                        "ReduceSum",
                        &["x", &axes],
                        vec![Attribute::Int("keepdims", 1)],
                    )
                },
                array(&[1, 1, 1, 2], &[4.0, 3.0]),
            ),
            (
                "ReduceMean over cells",
                &|g| g.node("ReduceMean", &["x"], vec![Attribute::Ints("axes", &[2, 3])]),
                array(&[1, 2, 1, 1], &[-0.5, 4.0]),
            ),
            (
                "ReduceMax over cells",
                &|g| g.node("ReduceMax", &["x"], vec![Attribute::Ints("axes", &[2, 3])]),
                array(&[1, 2, 1, 1], &[1.0, 5.0]),
            ),
            (
                "Reshape, Transpose and MatMul",
                &|g| {
                    let shape = g.ints(&[2, 2]);
                    let m = g.node("Reshape", &["x", &shape], vec![]);
                    let t = g.node("Transpose", &[&m], vec![Attribute::Ints("perm", &[1, 0])]);
                    g.node("MatMul", &[&m, &t], vec![])
                },
                array(&[2, 2], &[5.0, -7.0, -7.0, 34.0]),
            ),
        ];
        for (name, build, expected) in cases {
            assert_eq!(run(&x, build).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_softmax_gives_shares_along_the_last_axis_and_over_another_one_is_refused() {
        let x = array(&[2, 2], &[0.0, 3f32.ln(), 1000.0, 1000.0]);
        let softmax = |axis: i64| {
            run(&x, |g| {
                g.node("Softmax", &["x"], vec![Attribute::Int("axis", axis)])
            })
        };
        let shares = softmax(1).unwrap();
        for (found, wanted) in shares.values.iter().zip([0.25f32, 0.75, 0.5, 0.5]) {
            assert!((found - wanted).abs() < 1e-6, "{shares:?}");
        }
        for axis in [0, 2, -1] {
            let said = softmax(axis).unwrap_err().to_string();
            assert!(said.contains("axis") || said.contains("size"), "{said}");
        }
    }

    #[test]
    fn a_convolution_adds_its_bias_to_every_cell() {
        let x = array(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let y = run(&x, |g| {
            let (w, b) = (
                g.floats(&[2, 1, 1, 1], &[2.0, -1.0]),
                g.floats(&[2], &[10.0, 0.5]),
            );
            let attributes = vec![
                Attribute::Ints("pads", &[0; 4]),
                Attribute::Ints("strides", &[1, 1]),
            ];
            g.node("Conv", &["x", &w, &b], attributes)
        });
        let expected = [12.0, 14.0, 16.0, 18.0, -0.5, -1.5, -2.5, -3.5];
        assert_eq!(y.unwrap(), array(&[1, 2, 2, 2], &expected));
    }

    #[test]
    fn a_result_that_would_fill_memory_is_refused_before_it_is_made_and_its_node_named() {
        let long = 1 << 14;
        let row = |g: &mut GraphBuilder| g.floats(&[1, long], &vec![0.5; long]);
        let column = |g: &mut GraphBuilder| g.floats(&[long, 1], &vec![0.5; long]);
        let weight = |g: &mut GraphBuilder, side: usize| {
            g.floats(&[1, 1, side, side], &vec![0.5; side * side])
        };
        let conv = |g: &mut GraphBuilder, w: &str, pad: i64| {
            let (b, pads) = (g.floats(&[1], &[0.0]), [pad; 4]);
            let attributes = vec![
                Attribute::Ints("pads", &pads),
                Attribute::Ints("strides", &[1, 1]),
            ];
            g.node("Conv", &["x", w, &b], attributes)
        };
        type Build<'a> = &'a dyn Fn(&mut GraphBuilder) -> String;
        // Each asks for 2^28 values or more, out of a file and an input of at most 2^20.
        let cases: [(&str, &str, Build<'_>); 5] = [
            ("an outer product", "node matmul0: ", &|g| {
                let (left, right) = (column(g), row(g));
                g.node("MatMul", &[&left, &right], vec![])
            }),
            ("a sum repeated both ways", "node add0: ", &|g| {
                let (left, right) = (column(g), row(g));
                g.node("Add", &[&left, &right], vec![])
            }),
            ("a map joined with itself", "node concat9: ", &|g| {
                let mut last = "x".to_owned();
                for _ in 0..16 {
                    last = g.node("Concat", &[&last, &last], vec![Attribute::Int("axis", 2)]);
                }
                last
            }),
            ("a large kernel, unfolded", "node conv0: ", &|g| {
                let w = weight(g, 90);
                conv(g, &w, 45)
            }),
            ("many copies", "node relu256: ", &|g| {
                for _ in 0..300 {
                    g.node("Relu", &["x"], vec![]);
                }
                "x".to_owned()
            }),
        ];
        for (what, node, build) in cases {
            let side = if what == "many copies" { 512 } else { 256 };
            let x = array(&[1, 1, side, side], &vec![1.0; side * side]);
            let before = std::time::Instant::now();
            let line = run(&x, build).unwrap_err().to_string();
            assert!(
                line.starts_with(node) && line.contains("takes more than the"),
                "{what}: {line}"
            );
            assert!(before.elapsed().as_secs() < 20, "{what}");
        }
    }

    #[test]
    fn a_tensor_without_values_is_refused_however_its_axes_multiply() {
        let x = array(&[1, 1, 2, 2], &[1.0; 4]);
        let huge = i64::MAX as usize;
        for shape in [vec![0], vec![0, huge, huge], vec![huge, 0]] {
            let error = run(&x, |g| {
                let empty = g.floats(&shape, &[]);
                g.node("Add", &["x", &empty], vec![])
            });
            assert!(
                matches!(error, Err(GraphError::Initializer { .. })),
                "{shape:?}"
            );
        }
        let error = run(&x, |g| {
            let shape = g.ints(&[0, 4]);
            g.node("Reshape", &["x", &shape], vec![])
        });
        let line = error.unwrap_err().to_string();
        assert!(line.contains("does not become [0, 4]"), "{line}");
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        let x = array(&[1, 1, 2, 2], &[1.0; 4]);
        let said =
            |build: &dyn Fn(&mut GraphBuilder) -> String| run(&x, build).unwrap_err().to_string();
        assert_eq!(
            said(&|g| g.node("Gelu", &["x"], vec![])),
            "node gelu0: operator Gelu is not known"
        );
        assert_eq!(
            said(&|g| g.node("Relu", &["y"], vec![])),
            "node relu0: input y is not known as floats"
        );
        let misfit = said(&|g| {
            let c = g.floats(&[3], &[1.0; 3]);
            g.node("Add", &["x", &c], vec![])
        });
        assert_eq!(misfit, "node add0: shapes [1, 1, 2, 2] and [3] do not fit");
        let narrow = said(&|g| {
            let w = g.floats(&[1, 1, 5, 5], &[0.0; 25]);
            let b = g.floats(&[1], &[0.0]);
            let attributes = vec![
                Attribute::Ints("pads", &[1; 4]),
                Attribute::Ints("strides", &[1, 1]),
            ];
            g.node("Conv", &["x", &w, &b], attributes)
        });
        assert!(
            narrow.starts_with("node conv0: [1, 1, 2, 2] does not fit"),
            "{narrow}"
        );
        assert!(matches!(
            Graph::parse(b"no model"),
            Err(GraphError::Decode(_))
        ));
        assert!(matches!(Graph::parse(&[]), Err(GraphError::NoGraph)));
    }
}
