//! An f32 graph brought into the shape that the rewriter knows: the same function, of convolutions.
//!
//! In: a graph, and the shapes of its values. Out: the graph, changed where one of these occurs:
//!
//! - a dense layer with a ReLU is a 1x1 convolution of a map of one cell, so that it has weights a channel, a bias and the
//!   clamp of a ReLU like every other layer, and runs on the same kernels; one that reads a whole map is a convolution with
//!   a kernel as large as the map;
//! - a ReLU after what only moves values stands before it: a convolution has its ReLU beside it also where pixels are
//!   shuffled in between.
//!
//! A dense layer without a ReLU is the last of a head and stays as it is, in f32.

use std::collections::{HashMap, HashSet};

use super::source::f32_values;
use crate::export::onnx::{Attribute, GraphProto, NodeProto, TensorProto, attribute, types};

/// Sizes of the axes of values, by name.
pub(super) type Shapes = HashMap<String, Vec<usize>>;

/// Changes `graph` and what is known of its shapes; see the module head.
pub(super) fn lower(graph: &mut GraphProto, shapes: &mut Shapes) {
    let mut lowering = Lowering {
        fresh: Fresh::of(graph),
        graph,
        shapes,
    };
    lowering.dense_to_convolution();
    lowering.relu_before_moves();
    lowering.merge_reshapes();
    lowering.whole_maps_to_kernels();
}

/// Names that a graph does not have yet.
struct Fresh {
    taken: HashSet<String>,
}

impl Fresh {
    fn of(graph: &GraphProto) -> Self {
        let nodes = graph.node.iter();
        let names = nodes.flat_map(|n| n.input.iter().chain(&n.output).chain([&n.name]));
        let constants = graph.initializer.iter().map(|t| &t.name);
        Self {
            taken: names.chain(constants).cloned().collect(),
        }
    }

    fn name(&mut self, like: &str) -> String {
        let mut name = like.to_owned();
        let mut k = 0;
        while !self.taken.insert(name.clone()) {
            k += 1;
            name = format!("{like}.{k}");
        }
        name
    }
}

struct Lowering<'a> {
    graph: &'a mut GraphProto,
    shapes: &'a mut Shapes,
    fresh: Fresh,
}

/// A dense layer: places of its two nodes, and its sizes.
struct Dense {
    product: usize,
    sum: usize,
    inputs: usize,
    outputs: usize,
}

impl Lowering<'_> {
    /// The one node that reads a value.
    fn only_reader(&self, value: &str) -> Option<usize> {
        let reads = |n: &NodeProto| n.input.iter().filter(|i| *i == value).count();
        let mut readers = (0..self.graph.node.len()).filter(|at| reads(&self.graph.node[*at]) > 0);
        let only = readers
            .next()
            .filter(|at| reads(&self.graph.node[*at]) == 1)?;
        readers.next().is_none().then_some(only)
    }

    fn producer(&self, value: &str) -> Option<usize> {
        let makes = |n: &NodeProto| n.output.iter().any(|o| o == value);
        self.graph.node.iter().position(makes)
    }

    fn shape(&self, value: &str) -> Option<&[usize]> {
        self.shapes.get(value).map(Vec::as_slice)
    }

    fn constant(&self, name: &str) -> Option<&TensorProto> {
        self.graph.initializer.iter().find(|t| t.name == name)
    }

    fn add_constant(
        &mut self,
        like: &str,
        dims: &[usize],
        data_type: i32,
        raw_data: Vec<u8>,
    ) -> String {
        let name = self.fresh.name(like);
        self.graph.initializer.push(TensorProto {
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type,
            name: name.clone(),
            raw_data,
        });
        name
    }

    /// A node that gives its input other sizes.
    fn reshape(&mut self, from: &str, output: &str, shape: &[usize]) -> NodeProto {
        let raw = shape.iter().flat_map(|d| (*d as i64).to_le_bytes());
        let sizes = self.add_constant(
            &format!("{output}.sizes"),
            &[shape.len()],
            types::INT64,
            raw.collect(),
        );
        self.shapes.insert(output.to_owned(), shape.to_vec());
        NodeProto {
            input: vec![from.to_owned(), sizes],
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: "Reshape".to_owned(),
            ..NodeProto::default()
        }
    }

    /// The dense layer whose product stands at `product`, if a ReLU comes after it, moved about or not.
    fn dense_at(&self, product: usize) -> Option<Dense> {
        let node = self
            .graph
            .node
            .get(product)
            .filter(|n| n.op_type == "MatMul")?;
        let weights = self.constant(node.input.get(1)?)?;
        let size = |d: i64| usize::try_from(d).ok();
        let &[inputs, outputs] = &weights.dims[..] else {
            return None;
        };
        let (inputs, outputs) = (size(inputs)?, size(outputs)?);
        let is_whole = f32_values(weights).is_some_and(|v| v.len() == inputs * outputs);
        if !is_whole || self.shape(node.input.first()?) != Some(&[1, inputs]) {
            return None;
        }
        let sum = self.only_reader(node.output.first()?)?;
        let add = &self.graph.node[sum];
        let bias = self.bias_of(add, node.output.first()?)?;
        let fits = add.op_type == "Add" && f32_values(bias)?.len() == outputs;
        let mut value = add.output.first()?;
        if !fits || self.shape(value) != Some(&[1, outputs]) {
            return None;
        }
        // However many nodes move the values, one step is one node.
        for _ in 0..self.graph.node.len() {
            let next = &self.graph.node[self.only_reader(value)?];
            match next.op_type.as_str() {
                "Relu" => {
                    return Some(Dense {
                        product,
                        sum,
                        inputs,
                        outputs,
                    });
                }
                _ if moves(next) => value = next.output.first()?,
                _ => return None,
            }
        }
        None
    }

    fn bias_of(&self, add: &NodeProto, product: &str) -> Option<&TensorProto> {
        let other = add.input.iter().find(|name| *name != product)?;
        self.constant(other)
    }

    fn dense_to_convolution(&mut self) {
        let mut at = 0;
        while at < self.graph.node.len() {
            if let Some(dense) = self.dense_at(at) {
                self.convolve(&dense);
                at += 1; // the product is two nodes now
            }
            at += 1;
        }
    }

    fn convolve(&mut self, dense: &Dense) {
        let &Dense {
            product,
            sum,
            inputs,
            outputs,
        } = dense;
        let (node, add) = (
            self.graph.node[product].clone(),
            self.graph.node[sum].clone(),
        );
        let values = |tensor: Option<&TensorProto>| tensor.and_then(f32_values).unwrap_or_default();
        let weights = values(self.constant(&node.input[1]));
        let bias = values(self.bias_of(&add, &node.output[0]));
        let raw = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
            values.flat_map(f32::to_le_bytes).collect()
        };
        let turned = &mut (0..inputs * outputs).map(|k| weights[k % inputs * outputs + k / inputs]);
        let turned = raw(turned);
        let turned = self.add_constant(
            &format!("{}.kernel", node.name),
            &[outputs, inputs, 1, 1],
            types::FLOAT,
            turned,
        );
        let bias = raw(&mut bias.into_iter());
        let bias = self.add_constant(
            &format!("{}.bias", node.name),
            &[outputs],
            types::FLOAT,
            bias,
        );
        let (cell, made) = (
            self.fresh.name(&format!("{}.cell", node.output[0])),
            self.fresh.name(&format!("{}.cell", add.output[0])),
        );
        let to_cell = self.reshape(&node.input[0], &cell, &[1, inputs, 1, 1]);
        let back = self.reshape(&made, &add.output[0], &[1, outputs]);
        self.shapes.insert(made.clone(), vec![1, outputs, 1, 1]);
        let conv = NodeProto {
            input: vec![cell, turned, bias],
            output: vec![made.clone()],
            name: made,
            op_type: "Conv".to_owned(),
            attribute: kernel_attributes(1),
            ..NodeProto::default()
        };
        self.graph.node[sum] = back;
        self.graph.node[product] = conv;
        self.graph.node.insert(product, to_cell);
    }

    fn relu_before_moves(&mut self) {
        // Each exchange brings one ReLU one node nearer to the beginning.
        let mut at = 0;
        while at < self.graph.node.len() {
            match self.move_before(at) {
                Some(mover) => at = mover,
                None => at += 1,
            }
        }
    }

    /// Exchanges the ReLU at `relu` with the node that moves its input; the place that it has then.
    fn move_before(&mut self, relu: usize) -> Option<usize> {
        let node = self.graph.node.get(relu).filter(|n| n.op_type == "Relu")?;
        let value = node.input.first()?;
        let mover = self
            .producer(value)
            .filter(|at| moves(&self.graph.node[*at]))?;
        if mover >= relu || self.only_reader(value)? != relu {
            return None;
        }
        let from = self.graph.node[mover].input.first()?.clone();
        self.only_reader(&from)?;
        let shape = self.shape(&from)?.to_vec();
        let clamped = self.fresh.name(&format!("{from}.relu"));
        self.shapes.insert(clamped.clone(), shape);
        let mut moved = self.graph.node[mover].clone();
        moved.input[0].clone_from(&clamped);
        moved.output.clone_from(&self.graph.node[relu].output);
        moved.name.clone_from(&self.graph.node[relu].name);
        self.graph.node[mover] = NodeProto {
            input: vec![from],
            output: vec![clamped.clone()],
            name: clamped,
            ..self.graph.node[relu].clone()
        };
        self.graph.node[relu] = moved;
        Some(mover)
    }

    /// Two reshapes in a row are one; one that changes nothing is none.
    fn merge_reshapes(&mut self) {
        let mut at = 0;
        while at < self.graph.node.len() {
            if self.graph.node[at].op_type == "Reshape" {
                self.merge_into(at);
                if self.drop_if_idle(at) {
                    continue;
                }
            }
            at += 1;
        }
        let read = self.graph.node.iter().flat_map(|n| &n.input);
        let read: HashSet<&String> = read
            .chain(self.graph.output.iter().map(|o| &o.name))
            .collect();
        let idle =
            |n: &NodeProto| n.op_type == "Reshape" && n.output.iter().all(|o| !read.contains(o));
        let nodes: Vec<NodeProto> = self
            .graph
            .node
            .iter()
            .filter(|n| !idle(n))
            .cloned()
            .collect();
        self.graph.node = nodes;
    }

    /// Lets the reshape at `at` read what an earlier one reads.
    fn merge_into(&mut self, at: usize) {
        while let Some(from) = self.graph.node[at].input.first() {
            let earlier = self.producer(from);
            let earlier = earlier.filter(|p| *p < at && self.graph.node[*p].op_type == "Reshape");
            let Some(first) = earlier.and_then(|p| self.graph.node[p].input.first().cloned())
            else {
                return;
            };
            self.graph.node[at].input[0] = first;
        }
    }

    fn drop_if_idle(&mut self, at: usize) -> bool {
        let node = &self.graph.node[at];
        let (Some(from), Some(to)) = (node.input.first(), node.output.first()) else {
            return false;
        };
        let same = self.shape(from).is_some() && self.shape(from) == self.shape(to);
        let leaves = self.graph.output.iter().any(|o| o.name == *to);
        if !same || leaves {
            return false;
        }
        let (from, to) = (from.clone(), to.clone());
        self.graph.node.remove(at);
        let inputs = self.graph.node.iter_mut().flat_map(|n| &mut n.input);
        for name in inputs.filter(|name| **name == to) {
            name.clone_from(&from);
        }
        true
    }

    /// A 1x1 convolution of a square map that was made one cell is a convolution with a kernel as large as the map.
    fn whole_maps_to_kernels(&mut self) {
        for at in 0..self.graph.node.len() {
            let Some((from, weights, side)) = self.whole_map_at(at) else {
                continue;
            };
            let node = &mut self.graph.node[at];
            node.input[0] = from;
            node.attribute = kernel_attributes(side);
            if let Some(tensor) = self
                .graph
                .initializer
                .iter_mut()
                .find(|t| t.name == weights)
            {
                let outputs = tensor.dims[0];
                let channels = tensor.dims[1] / (side * side) as i64;
                tensor.dims = vec![outputs, channels, side as i64, side as i64];
            }
        }
        // Reshapes that nobody reads any more.
        self.merge_reshapes();
    }

    /// What the convolution at `at` can read instead, its weights, and the side of the map.
    fn whole_map_at(&self, at: usize) -> Option<(String, String, usize)> {
        let node = self.graph.node.get(at).filter(|n| n.op_type == "Conv")?;
        let (cell, weights) = (node.input.first()?, node.input.get(1)?);
        let reshape = &self.graph.node[self.producer(cell)?];
        let from = reshape
            .input
            .first()
            .filter(|_| reshape.op_type == "Reshape")?;
        let (&[1, inputs, 1, 1], &[1, channels, height, width]) =
            (self.shape(cell)?, self.shape(from)?)
        else {
            return None;
        };
        let dims = &self.constant(weights)?.dims;
        // Weights that another convolution reads keep their sizes.
        let is_own = self.only_reader(weights) == Some(at);
        let is_1x1 = matches!(dims[..], [_, i, 1, 1] if i == inputs as i64);
        let fits = height == width && height > 1 && channels * height * width == inputs;
        (is_own && is_1x1 && fits).then(|| (from.clone(), weights.clone(), height))
    }
}

/// Whether a node only moves the values of its first input.
fn moves(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Reshape" | "Transpose")
}

/// A convolution of stride 1 without padding.
fn kernel_attributes(side: usize) -> Vec<crate::export::onnx::AttributeProto> {
    let side = side as i64;
    let attributes = [
        Attribute::Ints("kernel_shape", &[side, side]),
        Attribute::Ints("strides", &[1, 1]),
        Attribute::Ints("pads", &[0, 0, 0, 0]),
    ];
    attributes.map(attribute).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prost::Message;

    use super::super::source::{Role, Source};
    use super::*;
    use crate::export::array::Array;
    use crate::export::interpret::Graph;
    use crate::export::onnx::{GraphBuilder, ModelProto};
    use crate::labelled::Shape;
    use crate::model::stack::{Stack, StackConfig};
    use crate::params::ParamBuilder;
    use candle_core::Device;

    fn operators(graph: &GraphProto) -> Vec<&str> {
        graph.node.iter().map(|n| n.op_type.as_str()).collect()
    }

    /// The operators of a graph before and after, which must say the same.
    fn check(bytes: &[u8], input: &str, shape: &[usize], expected: &[&str]) {
        let values = (0..shape.iter().product::<usize>()).map(|k| ((k * 37 % 64) as f32) / 64.0);
        let x = Array::new(shape.to_vec(), values.collect()).unwrap();
        let source = Source::new(bytes, &[(input, Role::Numbers)]).unwrap();
        assert_eq!(operators(&source.graph), expected);
        let run = |bytes: &[u8]| {
            Graph::parse(bytes)
                .unwrap()
                .run(&[(input, x.clone())])
                .unwrap()
        };
        let (plain, lowered) = (run(bytes), run(&source.to_bytes()));
        let (a, b) = (plain["y"].floats().unwrap(), lowered["y"].floats().unwrap());
        assert_eq!(a.shape(), b.shape());
        for (a, b) in a.values().iter().zip(b.values()) {
            assert!((a - b).abs() < 1e-5, "{a} and {b}");
        }
        // Shapes are those of a run.
        for (name, value) in &lowered {
            assert_eq!(source.shape(name), Some(value.shape()), "{name}");
        }
    }

    fn stack(is_encoder: bool) -> (Vec<u8>, Vec<usize>) {
        let mut builder = ParamBuilder::new(3, &Device::Cpu);
        let picture = Shape {
            height: 8,
            width: 8,
            channels: 1,
        };
        let config = StackConfig {
            channels: vec![5, 6],
            widths: vec![7, 9],
            ..StackConfig::default()
        };
        let b = &mut builder;
        let stack = match is_encoder {
            true => Stack::encoder(b, "e", picture, &config, 3, true).unwrap(),
            false => Stack::decoder(b, "d", 3, &config, picture).unwrap(),
        };
        let mut g = GraphBuilder::new("stack");
        g.input("x", &stack.onnx_input());
        let y = stack.write(&mut g, "x").unwrap();
        g.output("y", &y, &stack.onnx_output());
        (g.finish(&[]), stack.onnx_input())
    }

    #[test]
    fn dense_layers_become_convolutions_and_the_last_one_stays() {
        let (bytes, shape) = stack(true);
        let expected = [
            // Both convolutions; the first dense layer, with a kernel as large as the map; the second.
            "Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "Conv", "Relu",
            // The last.
            "Reshape", "MatMul", "Add", "Identity",
        ];
        check(&bytes, "x", &shape, &expected);
    }

    #[test]
    fn a_relu_after_shuffled_pixels_stands_beside_its_convolution() {
        let (bytes, shape) = stack(false);
        let expected = [
            "Reshape",
            "Conv",
            "Relu",
            "Conv",
            "Relu",
            "Conv",
            "Relu",
            "Reshape", // dense
            "Conv",
            "Relu",
            "Reshape",
            "Transpose",
            "Reshape", // doubled
            "Conv",
            "Reshape",
            "Transpose",
            "Reshape",
            "Identity",
        ];
        check(&bytes, "x", &shape, &expected);
    }

    #[test]
    fn a_graph_that_has_none_of_it_stays_to_the_byte() {
        let mut g = GraphBuilder::new("g");
        g.input("x", &[1, 2, 3, 3]);
        let turned = g.node(
            "Transpose",
            &["x"],
            vec![Attribute::Ints("perm", &[0, 1, 3, 2])],
        );
        let y = g.node("Add", &[&turned, "x"], vec![]);
        let y = g.node("Relu", &[&y], vec![]);
        g.output("y", &y, &[1, 2, 3, 3]);
        let bytes = g.finish(&[]);
        let source = Source::new(&bytes, &[("x", Role::Numbers)]).unwrap();
        let expected = ModelProto::decode(bytes.as_slice()).unwrap();
        let found = ModelProto::decode(source.to_bytes().as_slice()).unwrap();
        assert_eq!(found.graph, expected.graph);
    }
}
