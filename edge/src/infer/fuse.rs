//! Finds the parts of an ONNX graph that [`crate::int8`] can compute, and takes them out.
//!
//! Enters: a parsed file in QOperator form, and the outputs of nodes that are to be left alone. Leaves: the same file
//! with one node in place of every such part, and the parts, as [`Region`]s. Every other node stays and runs on stock
//! tract.
//!
//! A region must be convex: no way from one of its nodes to another may lead through a node outside, or the two would
//! wait for each other. Nodes are therefore grouped by how many times the way to them has entered the eight-bit world.

use std::collections::{HashMap, HashSet};

use roadhound_shared::quantised::{QuantParams, QuantisedAdd};
use tract_onnx::model::Onnx;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

use super::region::{Fused, Id, Op, Region, Rejection};
use crate::int8::Convolution;

/// Operator of the nodes that stand for regions.
pub(super) const REGION_OP: &str = "RoadhoundInt8";

/// What [`fuse`] gives.
pub(super) struct Fusion {
    /// The file with regions taken out.
    pub(super) model: ModelProto,
    /// The regions.
    pub(super) regions: Vec<Region>,
    /// Quantised nodes that stay, and why.
    pub(super) left: Vec<Rejection>,
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
        // What has been denied has been logged.
        let read = (!denied.contains(&output)).then(|| read_node(node, &constants, &order, &bytes));
        let fused = matches!(read, Some(Ok(_)));
        let mut depth = 0;
        for input in &node.input {
            if let Some(&producer) = order.producers.get(input) {
                let enters = usize::from(fused && parsed[producer].is_none());
                depth = depth.max(depths[producer] + enters);
            } else {
                depth = depth.max(usize::from(fused));
            }
        }
        depths[at] = depth;
        match read {
            Some(Ok(fused)) => {
                if !matches!(fused.op, Op::Dequantise(_)) {
                    bytes.insert(fused.output);
                }
                parsed.push(Some(fused));
            }
            Some(Err(reason)) if node.op_type.contains("Linear") => {
                left.push(Rejection {
                    output,
                    kind: node.op_type.clone(),
                    reason,
                });
                parsed.push(None);
            }
            Some(Err(_)) | None => parsed.push(None),
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
    let id = |name: &str| {
        let known = order.ids.get(name).copied();
        known.ok_or_else(|| format!("'{name}' is no value of the graph"))
    };
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
        "QuantizeLinear" => (
            Op::Quantise(constants.params(input(1)?, input(2)?)?),
            vec![id(input(0)?)?],
        ),
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
) -> Result<Convolution, String> {
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
    Ok(Convolution {
        weights,
        bias,
        channels: weight_dims[0],
        kernel,
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
