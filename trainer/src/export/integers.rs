//! The operators of a quantised graph, to the byte: `QuantizeLinear`, `DequantizeLinear`, `QLinearConv`,
//! `QLinearMatMul`, and ONNX Runtime's `QLinearAdd`.
//!
//! In: a node with its constants, checked once when a graph is read. Out: the bytes that [`shared::quantised`] defines
//! and ONNX Runtime computes. Products of bytes are summed in f32, over blocks of the depth so short that every partial
//! sum is a whole number below 2^24: exact in any order, and as fast as f32 is.
//!
//! [`shared::quantised`]: roadhound_shared::quantised

use std::collections::HashMap;

use roadhound_shared::quantised::{
    QuantParams, QuantisedAdd, Requantise, check_sum, checked_scale,
};

use super::array::{Array, Room, Value};
use super::interpret::{Constant, room_for, steps};
use super::onnx::NodeProto;
use crate::ops::exact::{self, Filters, Window};

/// Whole numbers up to here are exact in f32, and so are their sums.
const EXACT: u64 = 1 << 24;

/// A quantised node, its constants read and checked.
pub enum IntegerOp {
    /// f32 to bytes.
    Quantise(QuantParams),
    /// Bytes to f32.
    Dequantise(QuantParams),
    /// Convolution.
    Conv(IntegerConv),
    /// Product of two quantised matrices.
    MatMul {
        /// Zero point of the left one.
        left_zero: u8,
        /// Zero point of the right one.
        right_zero: u8,
        /// From sums to bytes.
        requantise: Requantise,
    },
    /// Sum of two tensors: the byte for every pair of bytes, the first one's counting 256 times.
    Add(Vec<u8>),
}

/// A convolution of bytes with signed bytes.
pub struct IntegerConv {
    /// Input channels from the first on, and their weights: short enough to be summed exactly.
    blocks: Vec<(usize, usize, Filters)>,
    channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    input_zero: u8,
    bias: Vec<i32>,
    requantise: Vec<Requantise>,
}

type Constants = HashMap<String, Constant>;

/// The constants of one node.
struct Reader<'a> {
    node: &'a NodeProto,
    constants: &'a Constants,
}

impl<'a> Reader<'a> {
    fn constant(&self, k: usize) -> Result<&'a Constant, String> {
        let name = self.node.input.get(k).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("input {k} is missing"))?;
        let found = self.constants.get(name);
        found.ok_or_else(|| format!("input {name} is not a constant"))
    }

    fn scales(&self, k: usize) -> Result<Vec<f32>, String> {
        let Constant::Floats(array) = self.constant(k)? else {
            return Err(format!("input {k} is no scale"));
        };
        let checked = |scale: &f32| checked_scale(*scale).map_err(|e| e.to_string());
        array.values.iter().map(checked).collect()
    }

    fn scale(&self, k: usize) -> Result<f32, String> {
        match self.scales(k)?[..] {
            [scale] => Ok(scale),
            ref other => Err(format!("input {k} has {} scales, expected 1", other.len())),
        }
    }

    fn zero_point(&self, k: usize) -> Result<u8, String> {
        match self.constant(k)? {
            Constant::Bytes(array) if array.values.len() == 1 => Ok(array.values[0]),
            _ => Err(format!("input {k} is not one zero point of type u8")),
        }
    }

    /// Scale and zero point at `k` and `k + 1`.
    fn params(&self, k: usize) -> Result<QuantParams, String> {
        let zero_point = self.zero_point(k + 1)?;
        QuantParams::new(self.scale(k)?, zero_point).map_err(|e| e.to_string())
    }
}

impl IntegerOp {
    /// Reads the constants of a node; `None` where it is no quantised operator.
    ///
    /// # Errors
    /// Scales, zero points, weights or biases that are missing, of another shape or type, or of a size that sums or
    /// products could leave the range of their type with.
    pub(super) fn of(node: &NodeProto, constants: &Constants) -> Result<Option<Self>, String> {
        let r = Reader { node, constants };
        let said = |e: roadhound_shared::quantised::QuantError| e.to_string();
        Ok(Some(match node.op_type.as_str() {
            "QuantizeLinear" => Self::Quantise(r.params(1)?),
            "DequantizeLinear" => Self::Dequantise(r.params(1)?),
            "QLinearConv" => Self::Conv(IntegerConv::of(&r)?),
            "QLinearMatMul" => {
                let (left, right, output) = (r.params(1)?, r.params(4)?, r.params(6)?);
                Self::MatMul {
                    left_zero: left.zero_point(),
                    right_zero: right.zero_point(),
                    requantise: Requantise::new(left.scale(), right.scale(), output)
                        .map_err(said)?,
                }
            }
            "QLinearAdd" => {
                let add = QuantisedAdd::new(r.params(1)?, r.params(4)?, r.params(6)?);
                let pairs = (0..=255).flat_map(|a| (0..=255).map(move |b| (a, b)));
                Self::Add(pairs.map(|(a, b)| add.apply(a, b)).collect())
            }
            _ => return Ok(None),
        }))
    }

    /// Runs the node on what earlier ones produced.
    ///
    /// # Errors
    /// Inputs that are missing, of another type or shape, or results that there is no room for.
    pub(super) fn apply(
        &self,
        node: &NodeProto,
        values: &HashMap<String, Value>,
        room: Room,
    ) -> Result<Value, String> {
        let value = |k: usize| {
            let name = node.input.get(k).ok_or(format!("input {k} is missing"))?;
            let found = values.get(name);
            found.ok_or_else(|| format!("input {name} is not known"))
        };
        let bytes = |k: usize| {
            let found = value(k)?.bytes();
            let found = found.ok_or_else(|| format!("input {k} is not quantised"))?;
            room.for_another(found)
        };
        Ok(match self {
            Self::Quantise(params) => {
                let floats = value(0)?.floats();
                let floats = floats.ok_or("the input is quantised already")?;
                room.for_another(floats)?;
                Value::Bytes(Array {
                    shape: floats.shape.clone(),
                    values: floats.values.iter().map(|v| params.quantise(*v)).collect(),
                })
            }
            Self::Dequantise(params) => {
                let bytes = bytes(0)?;
                let number: [f32; 256] = std::array::from_fn(|b| params.dequantise(b as u8));
                let values = bytes.values.iter().map(|b| number[usize::from(*b)]);
                Value::Floats(Array {
                    shape: bytes.shape.clone(),
                    values: values.collect(),
                })
            }
            Self::Conv(conv) => Value::Bytes(conv.apply(bytes(0)?, room)?),
            Self::MatMul {
                left_zero,
                right_zero,
                requantise,
            } => {
                let sums = product(bytes(0)?, *left_zero, bytes(3)?, *right_zero, room)?;
                Value::Bytes(Array {
                    shape: sums.shape,
                    values: sums.values.iter().map(|s| requantise.apply(*s)).collect(),
                })
            }
            Self::Add(table) => {
                let (a, b) = (bytes(0)?, bytes(3)?);
                if a.shape != b.shape {
                    return Err(format!("shapes {:?} and {:?} do not fit", a.shape, b.shape));
                }
                let pairs = a.values.iter().zip(&b.values);
                let at = |(a, b): (&u8, &u8)| table[usize::from(*a) << 8 | usize::from(*b)];
                Value::Bytes(Array {
                    shape: a.shape.clone(),
                    values: pairs.map(at).collect(),
                })
            }
        })
    }
}

/// Farthest that a byte is from its zero point.
fn reach(zero: u8) -> u64 {
    u64::from(zero.max(255 - zero))
}

fn less(bytes: &[u8], zero: u8) -> Vec<f32> {
    let number: [f32; 256] = std::array::from_fn(|b| b as f32 - f32::from(zero));
    bytes.iter().map(|b| number[usize::from(*b)]).collect()
}

/// Adds whole numbers that f32 holds exactly.
fn accumulate(sums: &mut [i32], part: &[f32]) {
    for (sum, part) in sums.iter_mut().zip(part) {
        *sum += *part as i32;
    }
}

/// Sums of `(left - left_zero) * (right - right_zero)`.
fn product(
    left: &Array<u8>,
    left_zero: u8,
    right: &Array<u8>,
    right_zero: u8,
    room: Room,
) -> Result<Array<i32>, String> {
    let (rows, depth, columns) = match (&left.shape[..], &right.shape[..]) {
        (&[rows, depth], &[depth_right, columns]) if depth == depth_right => (rows, depth, columns),
        (l, r) => return Err(format!("{l:?} times {r:?} is not a product of matrices")),
    };
    check_sum(depth, 255, 0).map_err(|e| e.to_string())?;
    room.for_shape(&[rows, columns])?;
    let filters = Filters::new(&less(&left.values, left_zero), rows, depth);
    let right = less(&right.values, right_zero);
    let block = (EXACT / (reach(left_zero) * reach(right_zero)).max(1)).max(1) as usize;
    let mut sums = vec![0; rows * columns];
    for first in (0..depth).step_by(block) {
        let count = block.min(depth - first);
        let part = filters.columns(first, count).ok_or("an empty product")?;
        let rows = &right[first * columns..(first + count) * columns];
        accumulate(&mut sums, &exact::matmul(&part, rows, columns));
    }
    Ok(Array {
        shape: vec![rows, columns],
        values: sums,
    })
}

impl IntegerConv {
    fn of(r: &Reader<'_>) -> Result<Self, String> {
        let input = r.params(1)?;
        let Constant::SignedBytes(weight) = r.constant(3)? else {
            return Err("its weight is not of type i8".into());
        };
        let weight_scales = r.scales(4)?;
        let symmetric = match r.constant(5)? {
            Constant::SignedBytes(zero) => zero.values.iter().all(|z| *z == 0),
            _ => false,
        };
        if !symmetric {
            return Err("the zero point of its weight is not 0 of type i8".into());
        }
        let output = r.params(6)?;
        let &[outputs, channels, kernel, wide] = &weight.shape[..] else {
            return Err(format!("{:?} are no kernels", weight.shape));
        };
        if kernel != wide || weight.values.is_empty() {
            return Err(format!("{:?} are no square kernels", weight.shape));
        }
        if weight_scales.len() != 1 && weight_scales.len() != outputs {
            return Err(format!(
                "{} scales of weights for {outputs} channels",
                weight_scales.len()
            ));
        }
        let bias = match r.node.input.get(8) {
            None => vec![0; outputs],
            Some(_) => match r.constant(8)? {
                Constant::Int32s(bias) if bias.values.len() == outputs => bias.values.clone(),
                _ => return Err(format!("its bias is not {outputs} values of type i32")),
            },
        };
        let taps = kernel * kernel;
        for bias in &bias {
            check_sum(channels * taps, 128, *bias).map_err(|e| e.to_string())?;
        }
        let requantise = (0..outputs)
            .map(|o| {
                let scale = weight_scales[o.min(weight_scales.len() - 1)];
                Requantise::new(input.scale(), scale, output).map_err(|e| e.to_string())
            })
            .collect::<Result<_, _>>()?;
        let (stride, padding) = steps(r.node)?;
        let numbers: Vec<f32> = weight.values.iter().map(|w| f32::from(*w)).collect();
        let all = Filters::new(&numbers, outputs, channels * taps);
        let mut blocks = Vec::new();
        for (first, count) in
            exact_blocks(&weight.values, outputs, channels, reach(input.zero_point()))?
        {
            let part = all.columns(first * taps, count * taps);
            blocks.push((first, count, part.ok_or("an empty kernel")?));
        }
        Ok(Self {
            blocks,
            channels,
            kernel,
            stride,
            padding,
            input_zero: input.zero_point(),
            bias,
            requantise,
        })
    }

    fn apply(&self, x: &Array<u8>, room: Room) -> Result<Array<u8>, String> {
        let [1, found, height, width] = x.shape[..] else {
            return Err(format!("{:?} is not one map", x.shape));
        };
        let window = |channels: usize| Window {
            channels,
            height,
            width,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        };
        if found != self.channels {
            return Err(format!(
                "{:?} does not fit {:?}",
                x.shape,
                window(self.channels)
            ));
        }
        let depth = self.channels * self.kernel * self.kernel;
        let (rows, columns) = room_for(&window(found), self.bias.len(), depth, room)?;
        let x = less(&x.values, self.input_zero);
        let (area, cells) = (height * width, rows * columns);
        let mut values = Vec::with_capacity(self.bias.len() * cells);
        if let [(_, _, filters)] = &self.blocks[..] {
            let sums = exact::conv2d(&x, &window(found), filters);
            for (row, (bias, requantise)) in sums
                .chunks_exact(cells)
                .zip(self.bias.iter().zip(&self.requantise))
            {
                values.extend(row.iter().map(|sum| requantise.apply(*sum as i32 + bias)));
            }
        } else {
            let mut sums = vec![0; self.bias.len() * cells];
            for (first, count, filters) in &self.blocks {
                let part = &x[first * area..(first + count) * area];
                accumulate(&mut sums, &exact::conv2d(part, &window(*count), filters));
            }
            for (row, (bias, requantise)) in sums
                .chunks_exact(cells)
                .zip(self.bias.iter().zip(&self.requantise))
            {
                values.extend(row.iter().map(|sum| requantise.apply(sum + bias)));
            }
        }
        Ok(Array {
            shape: vec![1, self.bias.len(), rows, columns],
            values,
        })
    }
}

/// Runs of input channels, as first and count, over which no row of weights can sum up to more than f32 holds exactly.
fn exact_blocks(
    weights: &[i8],
    outputs: usize,
    channels: usize,
    reach: u64,
) -> Result<Vec<(usize, usize)>, String> {
    let taps = weights.len() / (outputs * channels);
    let magnitude = |o: usize, c: usize| -> u64 {
        let kernel = &weights[(o * channels + c) * taps..][..taps];
        kernel.iter().map(|w| u64::from(w.unsigned_abs())).sum()
    };
    let mut blocks = Vec::new();
    let (mut first, mut held) = (0, vec![0; outputs]);
    for c in 0..channels {
        let next: Vec<u64> = (0..outputs).map(|o| magnitude(o, c) * reach).collect();
        if next.iter().any(|n| *n > EXACT) {
            return Err(format!("kernels of {taps} values are not known"));
        }
        if held.iter().zip(&next).any(|(h, n)| h + n > EXACT) {
            blocks.push((first, c - first));
            (first, held) = (c, next);
        } else {
            held.iter_mut().zip(next).for_each(|(h, n)| *h += n);
        }
    }
    blocks.push((first, channels - first));
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::interpret::{Graph, GraphError};
    use super::super::onnx::{Attribute, GraphBuilder, MICROSOFT, NodeProto, attribute};
    use super::*;

    /// A quantised convolution as a graph holds it.
    #[derive(Clone)]
    struct Case {
        channels: usize,
        outputs: usize,
        kernel: usize,
        stride: i64,
        weight: Vec<i8>,
        bias: Vec<i32>,
        input: (f32, u8),
        weight_scale: Vec<f32>,
        output: (f32, u8),
    }

    impl Case {
        fn random(rng: &mut ChaCha8Rng, channels: usize, outputs: usize, kernel: usize) -> Self {
            let weights = outputs * channels * kernel * kernel;
            Self {
                channels,
                outputs,
                kernel,
                stride: rng.random_range(1..=2),
                weight: (0..weights).map(|_| rng.random_range(-127..=127)).collect(),
                bias: (0..outputs)
                    .map(|_| rng.random_range(-9999..9999))
                    .collect(),
                input: (0.017, rng.random()),
                weight_scale: (0..outputs).map(|_| rng.random_range(1e-3..1e-2)).collect(),
                output: (0.9, rng.random()),
            }
        }

        fn build(&self, g: &mut GraphBuilder, x: &str) -> String {
            let k = self.kernel;
            let inputs = [
                g.floats(&[], &[self.input.0]),
                g.bytes(&[], &[self.input.1]),
                g.signed_bytes(&[self.outputs, self.channels, k, k], &self.weight),
                g.floats(&[self.weight_scale.len()], &self.weight_scale),
                g.signed_bytes(&[], &[0]),
                g.floats(&[], &[self.output.0]),
                g.bytes(&[], &[self.output.1]),
                g.int32s(&[self.bias.len()], &self.bias),
            ];
            let inputs: Vec<&str> = std::iter::once(x)
                .chain(inputs.iter().map(String::as_str))
                .collect();
            let pad = (k / 2) as i64;
            g.node(
                "QLinearConv",
                &inputs,
                vec![
                    Attribute::Ints("pads", &[pad; 4]),
                    Attribute::Ints("strides", &[self.stride; 2]),
                ],
            )
        }

        /// The definition, in whole numbers.
        fn expected(&self, x: &[u8], height: usize, width: usize) -> Vec<u8> {
            let (k, stride) = (self.kernel as isize, self.stride as isize);
            let pad = k / 2;
            let along = |size: usize| (size as isize + 2 * pad - k) / stride + 1;
            let output = QuantParams::new(self.output.0, self.output.1).unwrap();
            let mut found = Vec::new();
            for o in 0..self.outputs {
                let requantise =
                    Requantise::new(self.input.0, self.weight_scale[o], output).unwrap();
                for (oy, ox) in
                    (0..along(height)).flat_map(|y| (0..along(width)).map(move |x| (y, x)))
                {
                    let mut sum = self.bias[o];
                    for c in 0..self.channels {
                        for (ky, kx) in (0..k).flat_map(|y| (0..k).map(move |x| (y, x))) {
                            let (y, at) = (oy * stride + ky - pad, ox * stride + kx - pad);
                            let inside = (0..height as isize).contains(&y)
                                && (0..width as isize).contains(&at);
                            if inside {
                                let place = (c * height + y as usize) * width + at as usize;
                                let w = ((o * self.channels + c) as isize * k + ky) * k + kx;
                                sum += (i32::from(x[place]) - i32::from(self.input.1))
                                    * i32::from(self.weight[w as usize]);
                            }
                        }
                    }
                    found.push(requantise.apply(sum));
                }
            }
            found
        }

        /// A graph that quantises its input with the case's parameters and convolves it.
        fn graph(&self, shape: &[usize]) -> Result<(Graph, String), GraphError> {
            let mut g = GraphBuilder::new("g");
            g.input("x", shape);
            let (scale, zero) = (g.floats(&[], &[1.0]), g.bytes(&[], &[0]));
            let q = g.node("QuantizeLinear", &["x", &scale, &zero], vec![]);
            let y = self.build(&mut g, &q);
            Ok((Graph::parse(&g.finish(&[]))?, y))
        }
    }

    #[test]
    fn a_quantised_convolution_sums_whole_numbers_exactly() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for (channels, outputs, kernel, height, width) in [
            (3, 5, 3, 9, 7),
            (40, 3, 1, 4, 5),
            (7, 2, 5, 6, 6),
            (300, 2, 3, 4, 4),
        ] {
            let case = Case::random(&mut rng, channels, outputs, kernel);
            let x: Vec<u8> = (0..channels * height * width)
                .map(|_| rng.random())
                .collect();
            let shape = vec![1, channels, height, width];
            let (graph, y) = case.graph(&shape).unwrap();
            let numbers = x.iter().map(|b| f32::from(*b)).collect();
            let input = Array::new(shape, numbers).unwrap();
            let values = graph.run(&[("x", input)]).unwrap();
            let found = values[&y].bytes().unwrap();
            assert_eq!(found.values(), case.expected(&x, height, width));
        }
    }

    #[test]
    fn sums_too_large_for_f32_are_taken_in_parts() {
        // 255 * 127 * 4000 is 130 million, far beyond 2^24, and odd.
        let case = Case {
            channels: 4000,
            outputs: 1,
            kernel: 1,
            stride: 1,
            weight: vec![127; 4000],
            bias: vec![1],
            input: (1.0, 0),
            weight_scale: vec![1.0],
            output: (1e6, 3),
        };
        let blocks = exact_blocks(&case.weight, 1, 4000, 255).unwrap();
        assert!(blocks.len() > 5, "{blocks:?}");
        assert_eq!(blocks.iter().map(|(_, count)| count).sum::<usize>(), 4000);
        let (graph, y) = case.graph(&[1, 4000, 1, 1]).unwrap();
        let input = Array::new(vec![1, 4000, 1, 1], vec![255.0; 4000]).unwrap();
        let values = graph.run(&[("x", input)]).unwrap();
        assert_eq!(values[&y].bytes().unwrap().values(), [130 + 3]);
    }

    /// What a graph of one node says that takes the quantised input twice.
    fn pairwise(op: &str, a: (f32, u8), b: (f32, u8), out: (f32, u8), x: &Array) -> Vec<u8> {
        let mut g = GraphBuilder::new("g");
        g.input("x", x.shape());
        let (scale, zero) = (g.floats(&[], &[1.0]), g.bytes(&[], &[0]));
        let q = g.node("QuantizeLinear", &["x", &scale, &zero], vec![]);
        let t = match op {
            "QLinearMatMul" => g.node("Transpose", &[&q], vec![Attribute::Ints("perm", &[1, 0])]),
            _ => q.clone(),
        };
        let mut input = vec![q];
        for (k, (scale, zero)) in [a, b, out].into_iter().enumerate() {
            if k == 1 {
                input.push(t.clone());
            }
            input.push(g.floats(&[], &[scale]));
            input.push(g.bytes(&[1], &[zero]));
        }
        g.push(NodeProto {
            input,
            output: vec!["y".into()],
            name: "y".into(),
            op_type: op.into(),
            domain: MICROSOFT.into(),
            ..NodeProto::default()
        });
        let values = Graph::parse(&g.finish(&[])).unwrap();
        let values = values.run(&[("x", x.clone())]).unwrap();
        values["y"].bytes().unwrap().values().to_vec()
    }

    #[test]
    fn sums_and_products_of_activations_are_those_of_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let (rows, depth) = (6, 700);
        let bytes: Vec<u8> = (0..rows * depth).map(|_| rng.random()).collect();
        let x = Array::new(
            vec![rows, depth],
            bytes.iter().map(|b| f32::from(*b)).collect(),
        );
        let x = x.unwrap();
        let (a, b, out) = ((0.03, 0), (0.05, 120), (0.06, 7));
        let params = |(scale, zero)| QuantParams::new(scale, zero).unwrap();
        let add = QuantisedAdd::new(params(a), params(b), params(out));
        let expected: Vec<u8> = bytes.iter().map(|v| add.apply(*v, *v)).collect();
        assert_eq!(pairwise("QLinearAdd", a, b, out, &x), expected);

        let out = (9.0, 30);
        let requantise = Requantise::new(a.0, b.0, params(out)).unwrap();
        let row = |r: usize| bytes[r * depth..(r + 1) * depth].iter();
        let of = |l: usize, r: usize| {
            let terms = row(l).zip(row(r));
            let sum: i32 = terms
                .map(|(l, r)| i32::from(*l) * (i32::from(*r) - 120))
                .sum();
            requantise.apply(sum)
        };
        let expected: Vec<u8> = (0..rows)
            .flat_map(|l| (0..rows).map(move |r| of(l, r)))
            .collect();
        assert_eq!(pairwise("QLinearMatMul", a, b, out, &x), expected);
    }

    #[test]
    fn bytes_are_moved_as_numbers_are() {
        let mut g = GraphBuilder::new("g");
        g.input("x", &[1, 1, 2, 3]);
        let (scale, zero) = (g.floats(&[], &[0.5]), g.bytes(&[], &[4]));
        let q = g.node("QuantizeLinear", &["x", &scale, &zero], vec![]);
        let twice = g.node("Concat", &[&q, &q], vec![Attribute::Int("axis", 1)]);
        let shape = g.ints(&[4, 3]);
        let matrix = g.node("Reshape", &[&twice, &shape], vec![]);
        let (from, to, axes) = (g.ints(&[1]), g.ints(&[3]), g.ints(&[0]));
        let rows = g.node("Slice", &[&matrix, &from, &to, &axes], vec![]);
        let columns = g.node(
            "Transpose",
            &[&rows],
            vec![Attribute::Ints("perm", &[1, 0])],
        );
        let y = g.node("DequantizeLinear", &[&columns, &scale, &zero], vec![]);
        let graph = Graph::parse(&g.finish(&[])).unwrap();
        let x = Array::new(vec![1, 1, 2, 3], vec![0.5, 1.0, 1.5, 2.0, 2.5, 3.0]).unwrap();
        let values = graph.run(&[("x", x)]).unwrap();
        let expected = Array::new(vec![3, 2], vec![2.0, 0.5, 2.5, 1.0, 3.0, 1.5]).unwrap();
        assert_eq!(values[&y].floats(), Some(&expected));
    }

    #[test]
    fn what_a_quantised_graph_lacks_or_distorts_is_refused_by_node() {
        let good = Case::random(&mut ChaCha8Rng::seed_from_u64(1), 2, 3, 3);
        let said = |change: &dyn Fn(&mut Case)| {
            let mut case = good.clone();
            change(&mut case);
            let Err(error) = case.graph(&[1, 2, 4, 4]) else {
                panic!("accepted")
            };
            error.to_string()
        };
        for (scale, word) in [
            (0.0, "0e0"),
            (f32::NAN, "NaN"),
            (3e38, "3e38"),
            (-1.0, "-1e0"),
        ] {
            let line =
                format!("node qlinearconv1: a scale is {word}, expected a number in 1e-12..=1e12");
            assert_eq!(said(&|c| c.input.0 = scale), line);
            assert_eq!(said(&|c| c.output.0 = scale), line);
            assert_eq!(said(&|c| c.weight_scale[1] = scale), line);
        }
        assert_eq!(
            said(&|c| c.weight_scale.truncate(2)),
            "node qlinearconv1: 2 scales of weights for 3 channels"
        );
        assert_eq!(
            said(&|c| c.bias.truncate(1)),
            "node qlinearconv1: its bias is not 3 values of type i32"
        );
        assert!(said(&|c| c.bias[0] = i32::MAX).contains("could overflow 32 bits"));
    }

    #[test]
    fn a_node_without_its_zero_point_is_refused() {
        for (op, inputs) in [
            ("QuantizeLinear", 2),
            ("DequantizeLinear", 2),
            ("QLinearConv", 5),
        ] {
            let mut g = GraphBuilder::new("g");
            g.input("x", &[1, 1, 2, 2]);
            let scale = g.floats(&[], &[1.0]);
            let zero = g.bytes(&[], &[1]);
            let weight = g.signed_bytes(&[1, 1, 1, 1], &[1]);
            let names = ["x", &scale, &zero, &weight, &scale];
            g.push(NodeProto {
                input: names[..inputs].iter().map(|n| (*n).to_owned()).collect(),
                output: vec!["y".into()],
                name: "it".into(),
                op_type: op.into(),
                attribute: vec![attribute(Attribute::Ints("strides", &[1, 1]))],
                ..NodeProto::default()
            });
            let Err(error) = Graph::parse(&g.finish(&[])) else {
                panic!("{op} was accepted")
            };
            assert_eq!(
                error.to_string(),
                format!("node it: input {inputs} is missing")
            );
        }
    }
}
