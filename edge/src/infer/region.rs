//! A part of an ONNX graph as a graph of [`crate::int8`].
//!
//! Enters: a [`Region`] that [`super::fuse`] has taken out of a file, and the dimensions of its inputs, which tract finds
//! out. Leaves: a [`Built`], or the first node that cannot be computed for them.
//!
//! The kernels know maps; ONNX knows tensors that are reshaped and turned. What a node gives is therefore a [`Tensor`]:
//! a map, the dimensions that the file sees it under, and which of them are channels.

use std::collections::HashMap;
use std::ops::Range;

use roadhound_shared::quantised::{QuantParams, QuantisedAdd};

use super::observed::Observed;
use crate::int8::{Convolution, Graph, Layout, Number, PlanError, Shape, Value};

/// A value of the file: an index into its names.
pub(super) type Id = usize;

/// One node, with its constants read.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    pub(super) kind: String,
    pub(super) inputs: Vec<Id>,
    pub(super) output: Id,
    pub(super) op: Op,
}

/// What a node computes.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Quantise(QuantParams),
    Dequantise(QuantParams),
    Convolve(Box<Convolution>),
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
    /// In an order in which they can run.
    pub(super) nodes: Vec<Fused>,
    /// In the order in which the nodes ask for them.
    pub(super) inputs: Vec<Id>,
    /// What others read of it, in the order of the nodes.
    pub(super) outputs: Vec<Id>,
    /// Of every value of the file.
    pub(super) names: Vec<String>,
}

/// A region as a graph of [`crate::int8`], with the shapes of its results.
pub(super) struct Built {
    /// The operators.
    pub(super) graph: Graph,
    /// Dimensions of every result, and whether it is bytes.
    pub(super) outputs: Vec<(Vec<usize>, bool)>,
    /// Which layers are looked into, in the order of the graph's observed convolutions.
    pub(super) layers: Vec<usize>,
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

    /// The operators, for inputs of these dimensions; `true` where an input is bytes.
    ///
    /// # Errors
    /// The first node that cannot be computed for them.
    pub(super) fn build(
        &self,
        inputs: &[(Vec<usize>, bool)],
        observed: &Observed,
    ) -> Result<Built, Rejection> {
        let outside = self.inputs.iter().zip(inputs).map(|(id, (dims, bytes))| {
            let (dims, bytes) = (dims.clone(), *bytes);
            (*id, Known::Outside { dims, bytes })
        });
        let mut builder = Builder {
            graph: Graph::new(),
            known: outside.collect(),
            asked: Vec::new(),
        };
        let reject = |node: &Fused, reason: String| Rejection {
            output: self.names[node.output].clone(),
            kind: node.kind.clone(),
            reason,
        };
        let mut layers = Vec::new();
        for node in &self.nodes {
            let made = builder.apply(node).map_err(|reason| reject(node, reason))?;
            if let Some((layer, references)) = observed.find(&self.names[node.output])
                && matches!(node.op, Op::Convolve(_))
            {
                let seen = builder.graph.observe(made.value, references);
                seen.map_err(|e| reject(node, e.to_string()))?;
                layers.push(layer);
            }
            builder.known.insert(node.output, Known::Tensor(made));
        }
        // Every input of the region has to be an input of the program exactly once, in the region's order.
        if builder.asked != self.inputs {
            return Err(self.last("inputs are not read in order".into()));
        }
        let Builder {
            mut graph, known, ..
        } = builder;
        let mut outputs = Vec::new();
        for node in &self.nodes {
            let Some(Known::Tensor(made)) = known.get(&node.output) else {
                continue;
            };
            if !self.outputs.contains(&node.output) {
                continue;
            }
            let number = made.numbers.map_or(Number::U8, Number::F32);
            graph
                .output(made.value, made.layout, number)
                .map_err(|e| reject(node, e.to_string()))?;
            outputs.push((made.dims.clone(), made.numbers.is_none()));
        }
        Ok(Built {
            graph,
            outputs,
            layers,
        })
    }
}

/// A map as a tensor of the file.
#[derive(Clone, Debug)]
struct Tensor {
    value: Value,
    dims: Vec<usize>,
    layout: Layout,
    /// It has been dequantised.
    numbers: Option<QuantParams>,
}

/// What is known of a value while a region is built.
#[derive(Clone, Debug)]
enum Known {
    /// An input of the region that no node has asked for yet.
    Outside { dims: Vec<usize>, bytes: bool },
    /// A map.
    Tensor(Tensor),
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

/// A region on its way to a graph.
struct Builder {
    graph: Graph,
    known: HashMap<Id, Known>,
    /// Inputs of the region in the order in which nodes have asked for them.
    asked: Vec<Id>,
}

impl Builder {
    /// The bytes that a node reads.
    fn bytes(&mut self, id: Id) -> Result<Tensor, String> {
        match self.known.get(&id) {
            Some(Known::Tensor(tensor)) if tensor.numbers.is_none() => Ok(tensor.clone()),
            Some(Known::Outside { dims, bytes: true }) => {
                let dims = dims.clone();
                let tensor = self.input(id, dims, Number::U8)?;
                self.known.insert(id, Known::Tensor(tensor.clone()));
                Ok(tensor)
            }
            _ => Err("an input is not bytes".into()),
        }
    }

    /// As [`Self::bytes`], but they must be `[1, C, H, W]`.
    fn map(&mut self, id: Id) -> Result<(Value, Shape), String> {
        let Tensor {
            value,
            dims,
            layout,
            ..
        } = self.bytes(id)?;
        let shape = self.graph.shape(value);
        if layout == Layout::Planar && dims == [1, shape.channels, shape.height, shape.width] {
            Ok((value, shape))
        } else {
            Err(format!("a tensor of {dims:?}, expected a map"))
        }
    }

    /// The next input of the graph.
    fn input(&mut self, id: Id, dims: Vec<usize>, number: Number) -> Result<Tensor, String> {
        let (shape, layout) = shape_of(&dims)?;
        let value = self.graph.input(shape, layout, number).map_err(fails)?;
        self.asked.push(id);
        Ok(Tensor {
            value,
            dims,
            layout,
            numbers: None,
        })
    }

    /// The result of an operator on maps.
    fn planar(&self, made: Result<Value, PlanError>) -> Result<Tensor, String> {
        let value = made.map_err(fails)?;
        let shape = self.graph.shape(value);
        Ok(Tensor {
            value,
            dims: vec![1, shape.channels, shape.height, shape.width],
            layout: Layout::Planar,
            numbers: None,
        })
    }

    fn apply(&mut self, node: &Fused) -> Result<Tensor, String> {
        match &node.op {
            Op::Quantise(params) => match self.known.get(&node.inputs[0]) {
                Some(Known::Outside { dims, bytes: false }) => {
                    if self.asked.contains(&node.inputs[0]) {
                        return Err("an input is quantised twice".into());
                    }
                    let dims = dims.clone();
                    self.input(node.inputs[0], dims, Number::F32(*params))
                }
                // What this region has dequantised is not taken in again as numbers.
                _ => Err("the input is not a tensor of numbers from outside".into()),
            },
            Op::Dequantise(params) => Ok(Tensor {
                numbers: Some(*params),
                ..self.bytes(node.inputs[0])?
            }),
            Op::Convolve(conv) => {
                let (x, _) = self.map(node.inputs[0])?;
                let y = self.graph.convolve(x, conv);
                self.planar(y)
            }
            Op::Add(add) => {
                let (a, _) = self.map(node.inputs[0])?;
                let (b, _) = self.map(node.inputs[1])?;
                let y = self.graph.add(a, b, *add);
                self.planar(y)
            }
            Op::Correlate { a, b, y } => {
                let templates = self.bytes(node.inputs[0])?;
                let cells = self.bytes(node.inputs[1])?;
                self.correlate((templates, *a), (cells, *b), *y)
            }
            Op::Concat { axis } => {
                if ![1, -3].contains(axis) {
                    return Err(format!("axis {axis}, expected channels"));
                }
                let mut parts = Vec::new();
                for input in &node.inputs {
                    parts.push(self.map(*input)?.0);
                }
                let y = self.graph.concat(&parts);
                self.planar(y)
            }
            Op::Reshape { dims } => {
                let x = self.bytes(node.inputs[0])?;
                reshaped(x, dims, &self.graph)
            }
            Op::Transpose { order } => turned(self.bytes(node.inputs[0])?, order),
            Op::Slice { from, to, axes } => {
                let (x, shape) = self.map(node.inputs[0])?;
                let [rows, columns] = rectangle(shape, from, to, axes)?;
                let corner = (rows.start, columns.start);
                let y = self.graph.crop(x, corner, (rows.len(), columns.len()));
                self.planar(y)
            }
            Op::Same => self.bytes(node.inputs[0]),
        }
    }

    /// Cells by channels times channels by cells.
    fn correlate(
        &mut self,
        (templates, a): (Tensor, QuantParams),
        (cells, b): (Tensor, QuantParams),
        y: QuantParams,
    ) -> Result<Tensor, String> {
        if (templates.layout, cells.layout) != (Layout::Cells, Layout::Planar) {
            return Err("expected cells by channels times channels by cells".into());
        }
        if cells.dims.len() == 4 {
            return Err(format!("a tensor of {:?}, expected a matrix", cells.dims));
        }
        let value = self
            .graph
            .correlate((templates.value, a), (cells.value, b), y)
            .map_err(fails)?;
        let shape = self.graph.shape(value);
        let mut dims = vec![1; cells.dims.len() - 2];
        dims.extend([shape.channels, shape.cells()]);
        Ok(Tensor {
            value,
            dims,
            layout: Layout::Planar,
            numbers: None,
        })
    }
}

/// A matrix with its sides exchanged: the same map, seen the other way.
fn turned(mut x: Tensor, order: &[usize]) -> Result<Tensor, String> {
    let exchanged: &[usize] = match x.dims.len() {
        2 => &[1, 0],
        3 => &[0, 2, 1],
        _ => &[],
    };
    if order != exchanged || order.is_empty() {
        return Err(format!(
            "order {order:?} of {:?}, expected a matrix turned",
            x.dims
        ));
    }
    let rank = x.dims.len();
    x.dims.swap(rank - 2, rank - 1);
    x.layout = match x.layout {
        Layout::Planar => Layout::Cells,
        Layout::Cells => Layout::Planar,
    };
    Ok(x)
}

/// Rows and columns of a slice that keeps all channels.
fn rectangle(
    shape: Shape,
    from: &[i64],
    to: &[i64],
    axes: &[i64],
) -> Result<[Range<usize>; 2], String> {
    if from.len() != axes.len() || to.len() != axes.len() {
        return Err("starts, ends and axes differ in number".into());
    }
    let sides = [shape.channels, shape.height, shape.width];
    let mut ranges = sides.map(|side| 0..side);
    for ((from, to), axis) in from.iter().zip(to).zip(axes) {
        let axis = if *axis < 0 { axis + 4 } else { *axis };
        let range = usize::try_from(axis - 1)
            .ok()
            .and_then(|axis| ranges.get_mut(axis))
            .ok_or_else(|| format!("a slice along axis {axis}"))?;
        let length = range.end as i64;
        let place = |v: i64| {
            let v = if v < 0 { v.saturating_add(length) } else { v };
            v.clamp(0, length) as usize
        };
        *range = place(*from)..place(*to);
    }
    let [channels, rows, columns] = ranges;
    if channels != (0..shape.channels) {
        return Err("a slice of the channels".into());
    }
    Ok([rows, columns])
}

/// The same bytes under other dimensions, as long as channels stay channels and cells stay cells.
fn reshaped(x: Tensor, wanted: &[i64], graph: &Graph) -> Result<Tensor, String> {
    let shape = graph.shape(x.value);
    let refuse = || format!("from {:?} to {wanted:?}", x.dims);
    let mut new = Vec::new();
    for (at, &side) in wanted.iter().enumerate() {
        new.push(match side {
            0 => *x.dims.get(at).ok_or_else(refuse)?,
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
    if shape.cells() == 1 {
        // The bytes of one cell stand in the same order either way: rows of numbers become maps and back.
        let layout = match new[..] {
            [1, c] | [1, 1, c] if c == shape.channels => Some(Layout::Cells),
            [1, c, 1, 1] if c == shape.channels => Some(Layout::Planar),
            _ => None,
        };
        if let Some(layout) = layout {
            return Ok(Tensor {
                dims: new,
                layout,
                ..x
            });
        }
    }
    let matrix = match x.layout {
        Layout::Planar => [shape.channels, shape.cells()],
        Layout::Cells => [shape.cells(), shape.channels],
    };
    let fits = match (&new[..], x.layout) {
        (&[1, a, b] | &[a, b], _) => [a, b] == matrix,
        (&[1, c, h, w], Layout::Planar) => [c, h, w] == [shape.channels, shape.height, shape.width],
        _ => false,
    };
    if !fits {
        return Err(refuse());
    }
    Ok(Tensor { dims: new, ..x })
}
