//! Finds the parts of an ONNX graph that [`crate::int8`] can compute, and takes them out.
//!
//! Enters: a parsed file in QOperator form, and the outputs of nodes that are to be left alone. Leaves: the same file
//! with one node in place of every such part, and the parts, as [`Region`]s, ready to become programs when the shapes of
//! their inputs are known. Every other node stays and runs on stock tract.
//!
//! A region must be convex: no way from one of its nodes to another may lead through a node outside, or the two would
//! wait for each other. Nodes are therefore grouped by how many times the way to them has entered the eight-bit world.

use std::collections::{HashMap, HashSet};

use roadhound_shared::quantised::{QuantParams, QuantisedAdd};
use tract_onnx::model::Onnx;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

use crate::int8::{Convolution, Graph, Layout, Number, PlanError, Shape, Value};

/// Operator of the nodes that stand for regions.
pub(super) const REGION_OP: &str = "RoadhoundInt8";

/// A value of the graph: an index into the names of a [`Fusion`].
type Id = usize;

/// One node, with its constants read.
#[derive(Clone, Debug)]
struct Fused {
    kind: String,
    inputs: Vec<Id>,
    output: Id,
    op: Op,
}

#[derive(Clone, Debug)]
enum Op {
    Quantise(QuantParams),
    Dequantise(QuantParams),
    Convolve(Box<Convolve>),
    Add(QuantisedAdd),
    Correlate {
        a: QuantParams,
        b: QuantParams,
        y: QuantParams,
    },
    Concat {
        axis: i64,
    },
    Reshape {
        dims: Vec<i64>,
    },
    Transpose {
        order: Vec<usize>,
    },
    Slice {
        from: Vec<i64>,
        to: Vec<i64>,
        axes: Vec<i64>,
    },
    Same,
}

#[derive(Clone, Debug)]
struct Convolve {
    weights: Vec<i8>,
    /// Output channels, input channels, rows, columns.
    weight_dims: [usize; 4],
    bias: Option<Vec<i32>>,
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
    input: QuantParams,
    weight_scales: Vec<f32>,
    output: QuantParams,
}

/// A node that cannot be fused, by the name of its output, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// Name of its output.
    pub(super) output: String,
    /// Its operator.
    pub(super) kind: String,
    /// Why not.
    pub(super) reason: String,
}

/// A part of the graph that runs in eight bits.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// Name of the node that stands for it.
    pub(super) name: String,
    nodes: Vec<Fused>,
    inputs: Vec<Id>,
    outputs: Vec<Id>,
    names: Vec<String>,
}

/// What [`fuse`] gives.
pub(super) struct Fusion {
    /// The file with regions taken out.
    pub(super) model: ModelProto,
    /// The regions.
    pub(super) regions: Vec<Region>,
    /// Quantised nodes that stay, and why.
    pub(super) left: Vec<Rejection>,
}

/// A region as a graph of [`crate::int8`], with the shapes of its results.
pub(super) struct Built {
    /// The operators.
    pub(super) graph: Graph,
    /// Dimensions of every result, and whether it is bytes.
    pub(super) outputs: Vec<(Vec<usize>, bool)>,
}

/// See the module. `None` where there is nothing to take out.
///
/// # Errors
/// A graph whose nodes are not in order, or that names two values alike.
pub(super) fn fuse(
    onnx: &Onnx,
    model: &ModelProto,
    denied: &HashSet<String>,
) -> Result<Option<Fusion>, String> {
    let Some(graph) = &model.graph else {
        return Ok(None);
    };
    let quantised = |node: &NodeProto| node.op_type.starts_with("QLinear");
    let nested = |node: &NodeProto| {
        let mut attributes = node.attribute.iter();
        attributes.any(|a| a.g.is_some() || !a.graphs.is_empty())
    };
    if !graph.node.iter().any(quantised) || graph.node.iter().any(nested) {
        return Ok(None);
    }
    let order = Order::of(graph)?;
    let constants = Constants::of(onnx, graph);
    let count = graph.node.len();
    let mut parsed: Vec<Option<Fused>> = Vec::with_capacity(count);
    let mut left = Vec::new();
    // Values that hold bytes which a fused node has made.
    let mut bytes = HashSet::new();
    let mut depths = vec![0_usize; count];
    for (at, node) in graph.node.iter().enumerate() {
        let output = node.output.first().cloned().unwrap_or_default();
        let read = if denied.contains(&output) {
            Err(String::new())
        } else {
            read_node(node, &constants, &order, &bytes)
        };
        let mut depth = 0;
        for input in &node.input {
            if let Some(&producer) = order.producers.get(input) {
                let enters = usize::from(read.is_ok() && parsed[producer].is_none());
                depth = depth.max(depths[producer] + enters);
            } else {
                depth = depth.max(usize::from(read.is_ok()));
            }
        }
        depths[at] = depth;
        match read {
            Ok(fused) => {
                if !matches!(fused.op, Op::Dequantise(_)) {
                    bytes.insert(fused.output);
                }
                parsed.push(Some(fused));
            }
            Err(reason) => {
                if node.op_type.contains("Linear") && !reason.is_empty() {
                    left.push(Rejection {
                        output,
                        kind: node.op_type.clone(),
                        reason,
                    });
                }
                parsed.push(None);
            }
        }
    }
    let regions = regions(graph, &order, &parsed, &depths);
    if regions.is_empty() {
        return Ok(None);
    }
    Ok(Some(Fusion {
        model: without(model, graph, &order, &regions),
        regions: regions.into_iter().map(|(region, _)| region).collect(),
        left,
    }))
}

/// Who makes every value, and a number for every name.
struct Order {
    names: Vec<String>,
    ids: HashMap<String, Id>,
    producers: HashMap<String, usize>,
}

impl Order {
    fn of(graph: &GraphProto) -> Result<Self, String> {
        let mut order = Self {
            names: Vec::new(),
            ids: HashMap::new(),
            producers: HashMap::new(),
        };
        for (at, node) in graph.node.iter().enumerate() {
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if order.producers.insert(name.clone(), at).is_some() {
                    return Err(format!("two nodes make '{name}'"));
                }
            }
        }
        for (at, node) in graph.node.iter().enumerate() {
            for name in &node.input {
                if order.producers.get(name).is_some_and(|&other| other >= at) {
                    return Err(format!("'{name}' is used before it is made"));
                }
            }
            for name in node.input.iter().chain(&node.output) {
                if !order.ids.contains_key(name) {
                    order.ids.insert(name.clone(), order.names.len());
                    order.names.push(name.clone());
                }
            }
        }
        Ok(order)
    }
}

/// The initialisers, read when they are asked for.
struct Constants<'a> {
    onnx: &'a Onnx,
    tensors: HashMap<&'a str, &'a tract_onnx::pb::TensorProto>,
}

impl<'a> Constants<'a> {
    fn of(onnx: &'a Onnx, graph: &'a GraphProto) -> Self {
        let mut tensors: HashMap<&str, _> = HashMap::new();
        for tensor in &graph.initializer {
            tensors.insert(&tensor.name, tensor);
        }
        for node in graph.node.iter().filter(|n| n.op_type == "Constant") {
            let value = node.attribute.iter().find_map(|a| a.t.as_ref());
            if let (Some(name), Some(value)) = (node.output.first(), value) {
                tensors.insert(name, value);
            }
        }
        // A graph input with the name of an initialiser is a default that a caller may change, not a constant.
        for input in &graph.input {
            tensors.remove(input.name.as_str());
        }
        Self { onnx, tensors }
    }

    /// Dimensions and numbers.
    fn get<T: Datum + Copy>(&self, name: &str) -> Result<(Vec<usize>, Vec<T>), String> {
        let proto = self
            .tensors
            .get(name)
            .ok_or_else(|| format!("'{name}' is not a constant"))?;
        let wrong = |e: TractError| format!("'{name}': {e}");
        let tensor = load_tensor(&*self.onnx.provider, proto, None).map_err(wrong)?;
        if tensor.datum_type() != T::datum_type() {
            return Err(format!(
                "'{name}' is {:?}, expected {:?}",
                tensor.datum_type(),
                T::datum_type()
            ));
        }
        let view = tensor.try_as_plain_ram().map_err(wrong)?;
        let numbers = view.as_slice::<T>().map_err(wrong)?.to_vec();
        Ok((tensor.shape().to_vec(), numbers))
    }

    fn one<T: Datum + Copy>(&self, name: &str) -> Result<T, String> {
        match &self.get::<T>(name)?.1[..] {
            [one] => Ok(*one),
            all => Err(format!("'{name}' has {} numbers, expected 1", all.len())),
        }
    }

    /// Scale and zero point of a tensor of bytes.
    fn params(&self, scale: &str, zero_point: &str) -> Result<QuantParams, String> {
        QuantParams::new(self.one(scale)?, self.one(zero_point)?).map_err(|e| e.to_string())
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a tract_onnx::pb::AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// `N` attributes of whole numbers, or their default.
fn ints<const N: usize>(
    node: &NodeProto,
    name: &str,
    default: usize,
) -> Result<[usize; N], String> {
    let Some(found) = attribute(node, name) else {
        return Ok([default; N]);
    };
    found
        .ints
        .iter()
        .map(|v| usize::try_from(*v).ok())
        .collect::<Option<Vec<_>>>()
        .and_then(|v| v.try_into().ok())
        .ok_or_else(|| format!("{name} is {:?}, expected {N} numbers from 0", found.ints))
}

fn read_node(
    node: &NodeProto,
    constants: &Constants<'_>,
    order: &Order,
    bytes: &HashSet<Id>,
) -> Result<Fused, String> {
    let input = |at: usize| {
        let name = node.input.get(at).filter(|name| !name.is_empty());
        name.map(String::as_str)
            .ok_or_else(|| format!("input {at} is missing"))
    };
    let id = |name: &str| order.ids.get(name).copied().ok_or_else(String::new);
    let [output] = &node.output[..] else {
        return Err(format!("{} outputs, expected 1", node.output.len()));
    };
    let known = |at: usize| {
        let id = id(input(at)?)?;
        if bytes.contains(&id) {
            Ok(id)
        } else {
            Err(format!("input {at} is not made by int8 kernels"))
        }
    };
    let (op, inputs) = match node.op_type.as_str() {
        "QuantizeLinear" => {
            // What a fused node has made is not taken in again as a number.
            let from = input(0)?;
            (
                Op::Quantise(constants.params(input(1)?, input(2)?)?),
                vec![id(from)?],
            )
        }
        "DequantizeLinear" => (
            Op::Dequantise(constants.params(input(1)?, input(2)?)?),
            vec![known(0)?],
        ),
        "QLinearConv" => (
            Op::Convolve(Box::new(read_convolution(node, constants, &input)?)),
            vec![id(input(0)?)?],
        ),
        "QLinearAdd" => {
            let params = |at: usize| constants.params(input(at)?, input(at + 1)?);
            (
                Op::Add(QuantisedAdd::new(params(1)?, params(4)?, params(6)?)),
                vec![id(input(0)?)?, id(input(3)?)?],
            )
        }
        "QLinearMatMul" => {
            let params = |at: usize| constants.params(input(at)?, input(at + 1)?);
            (
                Op::Correlate {
                    a: params(1)?,
                    b: params(4)?,
                    y: params(6)?,
                },
                vec![id(input(0)?)?, id(input(3)?)?],
            )
        }
        "Concat" => {
            let axis = attribute(node, "axis").ok_or("no axis")?.i;
            let parts = (0..node.input.len()).map(known).collect::<Result<_, _>>()?;
            (Op::Concat { axis }, parts)
        }
        "Reshape" => {
            if attribute(node, "allowzero").is_some_and(|a| a.i != 0) {
                return Err("allowzero".into());
            }
            let dims = constants.get::<i64>(input(1)?)?.1;
            (Op::Reshape { dims }, vec![known(0)?])
        }
        "Transpose" => {
            let order = attribute(node, "perm").ok_or("no order")?;
            let order = order.ints.iter().map(|v| usize::try_from(*v));
            let order = order.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
            (Op::Transpose { order }, vec![known(0)?])
        }
        "Slice" => {
            let numbers = |at: usize| Ok::<_, String>(constants.get::<i64>(input(at)?)?.1);
            let from = numbers(1)?;
            if node.input.len() > 4 && numbers(4)?.iter().any(|step| *step != 1) {
                return Err("steps other than 1".into());
            }
            let axes = if node.input.len() > 3 {
                numbers(3)?
            } else {
                (0..from.len() as i64).collect()
            };
            (
                Op::Slice {
                    from,
                    to: numbers(2)?,
                    axes,
                },
                vec![known(0)?],
            )
        }
        "Identity" => (Op::Same, vec![known(0)?]),
        _ => return Err("not an operator of int8 kernels".into()),
    };
    Ok(Fused {
        kind: node.op_type.clone(),
        inputs,
        output: id(output)?,
        op,
    })
}

fn read_convolution<'a>(
    node: &'a NodeProto,
    constants: &Constants<'_>,
    input: &impl Fn(usize) -> Result<&'a str, String>,
) -> Result<Convolve, String> {
    let (dims, weights) = constants.get::<i8>(input(3)?)?;
    let weight_dims: [usize; 4] = dims
        .try_into()
        .map_err(|dims| format!("weights of {dims:?}, expected four dimensions"))?;
    let (_, weight_scales) = constants.get::<f32>(input(4)?)?;
    let (_, weight_zeros) = constants.get::<i8>(input(5)?)?;
    if weight_zeros.iter().any(|zero| *zero != 0) {
        return Err("a zero point of the weights is not 0".into());
    }
    let bias = match node.input.get(8).filter(|name| !name.is_empty()) {
        Some(name) => Some(constants.get::<i32>(name)?.1),
        None => None,
    };
    let pads = match attribute(node, "auto_pad").map(|a| &a.s[..]) {
        None | Some(b"NOTSET") => ints(node, "pads", 0)?,
        Some(b"VALID") => [0; 4],
        Some(other) => return Err(format!("padding '{}'", String::from_utf8_lossy(other))),
    };
    if let Some(group) = attribute(node, "group").filter(|a| a.i != 1) {
        return Err(format!("{} groups", group.i));
    }
    let kernel = [weight_dims[2], weight_dims[3]];
    if attribute(node, "kernel_shape").is_some() && ints::<2>(node, "kernel_shape", 0)? != kernel {
        return Err("kernel_shape is not that of the weights".into());
    }
    Ok(Convolve {
        weights,
        weight_dims,
        bias,
        strides: ints(node, "strides", 1)?,
        dilations: ints(node, "dilations", 1)?,
        pads,
        input: constants.params(input(1)?, input(2)?)?,
        weight_scales,
        output: constants.params(input(6)?, input(7)?)?,
    })
}

/// Groups nodes by depth; only groups that compute something are worth a region. With each its nodes' places.
fn regions(
    graph: &GraphProto,
    order: &Order,
    parsed: &[Option<Fused>],
    depths: &[usize],
) -> Vec<(Region, HashSet<usize>)> {
    let deepest = depths.iter().copied().max().unwrap_or(0);
    let mut found = Vec::new();
    for depth in 1..=deepest {
        let members: HashSet<usize> = (0..parsed.len())
            .filter(|&at| depths[at] == depth && parsed[at].is_some())
            .collect();
        let nodes: Vec<Fused> = parsed
            .iter()
            .enumerate()
            .filter(|(at, _)| members.contains(at))
            .filter_map(|(_, fused)| fused.clone())
            .collect();
        let computes = |fused: &Fused| {
            matches!(
                fused.op,
                Op::Convolve(_) | Op::Add(_) | Op::Correlate { .. }
            )
        };
        if !nodes.iter().any(computes) {
            continue;
        }
        let made: HashSet<Id> = nodes.iter().map(|fused| fused.output).collect();
        let mut inputs = Vec::new();
        for input in nodes.iter().flat_map(|fused| &fused.inputs) {
            if !made.contains(input) && !inputs.contains(input) {
                inputs.push(*input);
            }
        }
        let mut outside: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
        for (at, node) in graph.node.iter().enumerate() {
            if !members.contains(&at) {
                outside.extend(node.input.iter().map(String::as_str));
            }
        }
        let outputs = nodes
            .iter()
            .map(|fused| fused.output)
            .filter(|id| outside.contains(order.names[*id].as_str()))
            .collect();
        let region = Region {
            name: format!("int8.{}", found.len()),
            nodes,
            inputs,
            outputs,
            names: order.names.clone(),
        };
        found.push((region, members));
    }
    found
}

/// The file with a node for every region, and without constants that nobody reads any more.
fn without(
    model: &ModelProto,
    graph: &GraphProto,
    order: &Order,
    regions: &[(Region, HashSet<usize>)],
) -> ModelProto {
    let names = |ids: &[Id]| ids.iter().map(|id| order.names[*id].clone()).collect();
    let mut node: Vec<NodeProto> = graph
        .node
        .iter()
        .enumerate()
        .filter(|(at, _)| !regions.iter().any(|(_, members)| members.contains(at)))
        .map(|(_, node)| node.clone())
        .collect();
    for (region, _) in regions {
        node.push(NodeProto {
            name: region.name.clone(),
            op_type: REGION_OP.into(),
            input: names(&region.inputs),
            output: names(&region.outputs),
            ..NodeProto::default()
        });
    }
    let read: HashSet<&str> = node
        .iter()
        .flat_map(|node| node.input.iter().map(String::as_str))
        .chain(graph.output.iter().map(|o| o.name.as_str()))
        .collect();
    let initializer = graph
        .initializer
        .iter()
        .filter(|tensor| read.contains(tensor.name.as_str()))
        .cloned()
        .collect();
    ModelProto {
        graph: Some(GraphProto {
            initializer,
            input: graph.input.clone(),
            output: graph.output.clone(),
            name: graph.name.clone(),
            node,
            ..GraphProto::default()
        }),
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        ..ModelProto::default()
    }
}

/// What is known of a value while a region is built.
#[derive(Clone, Debug)]
enum Known {
    /// An input of the region that nobody has looked at yet.
    Outside { dims: Vec<usize>, bytes: bool },
    /// A map.
    Map {
        value: Value,
        dims: Vec<usize>,
        layout: Layout,
        /// It has been dequantised.
        numbers: Option<QuantParams>,
    },
}

impl Region {
    /// A rejection of the last node.
    pub(super) fn last(&self, reason: String) -> Rejection {
        let (output, kind) = self.nodes.last().map_or_else(Default::default, |node| {
            (self.names[node.output].clone(), node.kind.clone())
        });
        Rejection {
            output,
            kind,
            reason,
        }
    }

    /// How many results it has.
    pub(super) fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// The operators, for inputs of these dimensions; `true` where an input is bytes.
    ///
    /// # Errors
    /// The first node that cannot be computed for them.
    pub(super) fn build(&self, inputs: &[(Vec<usize>, bool)]) -> Result<Built, Rejection> {
        let mut graph = Graph::new();
        let mut known: HashMap<Id, Known> = HashMap::new();
        // Inputs come in the order in which nodes ask for them; `ends` says which they are.
        for (id, (dims, bytes)) in self.inputs.iter().zip(inputs) {
            let (dims, bytes) = (dims.clone(), *bytes);
            known.insert(*id, Known::Outside { dims, bytes });
        }
        let reject = |node: &Fused, reason: String| Rejection {
            output: self.names[node.output].clone(),
            kind: node.kind.clone(),
            reason,
        };
        let mut ends = Ends::default();
        for node in &self.nodes {
            let made = apply(node, &mut graph, &mut known, &mut ends)
                .map_err(|reason| reject(node, reason))?;
            known.insert(node.output, made);
        }
        // Every input of the region has to be an input of the program exactly once, in the region's order.
        if ends.ids != self.inputs {
            return Err(self.last("inputs are not read in order".into()));
        }
        let mut outputs = Vec::new();
        for id in &self.outputs {
            let Some(Known::Map {
                value,
                dims,
                layout,
                numbers,
            }) = known.get(id)
            else {
                continue;
            };
            let number = numbers.map_or(Number::U8, Number::F32);
            if let Err(e) = graph.output(*value, *layout, number) {
                let node = self.nodes.iter().find(|node| node.output == *id);
                return Err(reject(node.unwrap_or(&self.nodes[0]), e.to_string()));
            }
            outputs.push((dims.clone(), numbers.is_none()));
        }
        Ok(Built { graph, outputs })
    }
}

/// Inputs in the order in which they were asked for.
#[derive(Default)]
struct Ends {
    ids: Vec<Id>,
}

fn fails(error: PlanError) -> String {
    error.to_string()
}

/// A tensor of these dimensions as a map: `[1, C, H, W]`, or a matrix of cells by channels.
fn shape_of(dims: &[usize]) -> Result<(Shape, Layout), String> {
    match *dims {
        [1, channels, height, width] => {
            Shape::new(channels, height, width).map(|shape| (shape, Layout::Planar))
        }
        [cells, channels] | [1, cells, channels] => {
            Shape::new(channels, 1, cells).map(|shape| (shape, Layout::Cells))
        }
        _ => {
            return Err(format!(
                "a tensor of {dims:?}, expected [1, C, H, W] or a matrix"
            ));
        }
    }
    .map_err(fails)
}

/// The map of bytes that a node reads.
fn bytes_of(
    id: Id,
    graph: &mut Graph,
    known: &mut HashMap<Id, Known>,
    ends: &mut Ends,
) -> Result<(Value, Vec<usize>, Layout), String> {
    match known.get(&id) {
        Some(Known::Map {
            value,
            dims,
            layout,
            numbers: None,
        }) => Ok((*value, dims.clone(), *layout)),
        Some(Known::Outside { dims, bytes: true }) => {
            let dims = dims.clone();
            let (shape, layout) = shape_of(&dims)?;
            let value = graph.input(shape, layout, Number::U8).map_err(fails)?;
            ends.ids.push(id);
            let map = Known::Map {
                value,
                dims: dims.clone(),
                layout,
                numbers: None,
            };
            known.insert(id, map);
            Ok((value, dims, layout))
        }
        _ => Err("an input is not bytes".into()),
    }
}

/// As [`bytes_of`], but it must be `[1, C, H, W]`.
fn map_of(
    id: Id,
    graph: &mut Graph,
    known: &mut HashMap<Id, Known>,
    ends: &mut Ends,
) -> Result<(Value, Shape), String> {
    let (value, dims, layout) = bytes_of(id, graph, known, ends)?;
    let shape = graph.shape(value);
    if layout == Layout::Planar && dims == [1, shape.channels, shape.height, shape.width] {
        Ok((value, shape))
    } else {
        Err(format!("a tensor of {dims:?}, expected a map"))
    }
}

fn apply(
    node: &Fused,
    graph: &mut Graph,
    known: &mut HashMap<Id, Known>,
    ends: &mut Ends,
) -> Result<Known, String> {
    let planar = |graph: &Graph, value: Value| {
        let shape = graph.shape(value);
        Known::Map {
            value,
            dims: vec![1, shape.channels, shape.height, shape.width],
            layout: Layout::Planar,
            numbers: None,
        }
    };
    match &node.op {
        Op::Quantise(params) => match known.get(&node.inputs[0]) {
            Some(Known::Outside { dims, bytes: false }) => {
                if ends.ids.contains(&node.inputs[0]) {
                    return Err("an input is quantised twice".into());
                }
                let (shape, layout) = shape_of(dims)?;
                let dims = dims.clone();
                let value = graph.input(shape, layout, Number::F32(*params));
                ends.ids.push(node.inputs[0]);
                Ok(Known::Map {
                    value: value.map_err(fails)?,
                    dims,
                    layout,
                    numbers: None,
                })
            }
            _ => Err("the input is not a tensor of numbers from outside".into()),
        },
        Op::Dequantise(params) => {
            let (value, dims, layout) = bytes_of(node.inputs[0], graph, known, ends)?;
            Ok(Known::Map {
                value,
                dims,
                layout,
                numbers: Some(*params),
            })
        }
        Op::Convolve(conv) => {
            let (x, shape) = map_of(node.inputs[0], graph, known, ends)?;
            let [channels, in_channels, rows, columns] = conv.weight_dims;
            if in_channels != shape.channels {
                return Err(format!(
                    "weights for {in_channels} channels on a map of {}",
                    shape.channels
                ));
            }
            let spec = Convolution {
                weights: &conv.weights,
                bias: conv.bias.as_deref(),
                channels,
                kernel: [rows, columns],
                strides: conv.strides,
                dilations: conv.dilations,
                pads: conv.pads,
                input: conv.input,
                weight_scales: &conv.weight_scales,
                output: conv.output,
            };
            let y = graph.convolve(x, &spec).map_err(fails)?;
            Ok(planar(graph, y))
        }
        Op::Add(add) => {
            let (a, _) = map_of(node.inputs[0], graph, known, ends)?;
            let (b, _) = map_of(node.inputs[1], graph, known, ends)?;
            let y = graph.add(a, b, *add).map_err(fails)?;
            Ok(planar(graph, y))
        }
        Op::Correlate { a, b, y } => {
            let (templates, _, of_templates) = bytes_of(node.inputs[0], graph, known, ends)?;
            let (cells, dims, of_cells) = bytes_of(node.inputs[1], graph, known, ends)?;
            if (of_templates, of_cells) != (Layout::Cells, Layout::Planar) {
                return Err("expected cells by channels times channels by cells".into());
            }
            if dims.len() == 4 {
                return Err(format!("a tensor of {dims:?}, expected a matrix"));
            }
            let value = graph
                .correlate((templates, *a), (cells, *b), *y)
                .map_err(fails)?;
            let shape = graph.shape(value);
            let mut dims = vec![1; dims.len() - 2];
            dims.extend([shape.channels, shape.cells()]);
            Ok(Known::Map {
                value,
                dims,
                layout: Layout::Planar,
                numbers: None,
            })
        }
        Op::Concat { axis } => {
            if ![1, -3].contains(axis) {
                return Err(format!("axis {axis}, expected channels"));
            }
            let mut parts = Vec::new();
            for input in &node.inputs {
                parts.push(map_of(*input, graph, known, ends)?.0);
            }
            let y = graph.concat(&parts).map_err(fails)?;
            Ok(planar(graph, y))
        }
        Op::Reshape { dims } => reshape(node.inputs[0], dims, graph, known, ends),
        Op::Transpose { order } => {
            let (value, mut dims, layout) = bytes_of(node.inputs[0], graph, known, ends)?;
            let turned: &[usize] = match dims.len() {
                2 => &[1, 0],
                3 => &[0, 2, 1],
                _ => &[],
            };
            if order != turned || order.is_empty() {
                return Err(format!(
                    "order {order:?} of {dims:?}, expected a matrix turned"
                ));
            }
            let rank = dims.len();
            dims.swap(rank - 2, rank - 1);
            let layout = match layout {
                Layout::Planar => Layout::Cells,
                Layout::Cells => Layout::Planar,
            };
            Ok(Known::Map {
                value,
                dims,
                layout,
                numbers: None,
            })
        }
        Op::Slice { from, to, axes } => {
            let (x, shape) = map_of(node.inputs[0], graph, known, ends)?;
            if from.len() != axes.len() || to.len() != axes.len() {
                return Err("starts, ends and axes differ in number".into());
            }
            let mut ranges = [
                (0, shape.channels as i64),
                (0, shape.height as i64),
                (0, shape.width as i64),
            ];
            for ((from, to), axis) in from.iter().zip(to).zip(axes) {
                let axis = if *axis < 0 { axis + 4 } else { *axis };
                let range = usize::try_from(axis - 1)
                    .ok()
                    .and_then(|axis| ranges.get_mut(axis))
                    .ok_or_else(|| format!("a slice along axis {axis}"))?;
                let length = range.1;
                let place = |v: i64| {
                    let v = if v < 0 { v.saturating_add(length) } else { v };
                    v.clamp(0, length)
                };
                *range = (place(*from), place(*to));
            }
            if ranges[0] != (0, shape.channels as i64) {
                return Err("a slice of the channels".into());
            }
            let [_, rows, columns] =
                ranges.map(|(from, to)| (from as usize, (to - from).max(0) as usize));
            let y = graph.crop(x, (rows.0, columns.0), (rows.1, columns.1));
            Ok(planar(graph, y.map_err(fails)?))
        }
        Op::Same => {
            let (value, dims, layout) = bytes_of(node.inputs[0], graph, known, ends)?;
            Ok(Known::Map {
                value,
                dims,
                layout,
                numbers: None,
            })
        }
    }
}

/// The same bytes under other dimensions, as long as channels stay channels and cells stay cells.
fn reshape(
    id: Id,
    wanted: &[i64],
    graph: &mut Graph,
    known: &mut HashMap<Id, Known>,
    ends: &mut Ends,
) -> Result<Known, String> {
    let (value, dims, layout) = bytes_of(id, graph, known, ends)?;
    let shape = graph.shape(value);
    let refuse = || format!("from {dims:?} to {wanted:?}");
    let mut new = Vec::new();
    for (at, &side) in wanted.iter().enumerate() {
        new.push(match side {
            0 => *dims.get(at).ok_or_else(refuse)?,
            -1 => usize::MAX,
            side => usize::try_from(side).map_err(|_| refuse())?,
        });
    }
    let given = new.iter().filter(|side| **side != usize::MAX);
    let given = given
        .copied()
        .try_fold(1, usize::checked_mul)
        .filter(|n| *n > 0)
        .ok_or_else(refuse)?;
    for side in &mut new {
        if *side == usize::MAX {
            *side = shape.len() / given;
        }
    }
    let matrix = match layout {
        Layout::Planar => [shape.channels, shape.cells()],
        Layout::Cells => [shape.cells(), shape.channels],
    };
    let fits = match (&new[..], layout) {
        (&[1, a, b] | &[a, b], _) => [a, b] == matrix,
        (&[1, c, h, w], Layout::Planar) => [c, h, w] == [shape.channels, shape.height, shape.width],
        _ => false,
    };
    if !fits {
        return Err(refuse());
    }
    Ok(Known::Map {
        value,
        dims: new,
        layout,
        numbers: None,
    })
}
