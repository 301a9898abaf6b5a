//! From an f32 graph to one in QOperator form that stock ONNX Runtime runs.
//!
//! In: a [`Source`] and the numbers that say what bytes mean. Out: a graph with the same inputs and outputs. Rules, not
//! layer names, decide what becomes of a node:
//!
//! - A convolution with a ReLU becomes a `QLinearConv`; the ReLU is the clamp at an output zero point of 0. So does one
//!   whose result goes into a residual addition, which becomes a `QLinearAdd`. A convolution without either is the
//!   last layer of a head: it and all that follows stay in f32.
//! - A product of two activations becomes a `QLinearMatMul`.
//! - A constant per channel that is multiplied with or added to a quantised value waits, and is folded into the 1x1
//!   convolution that reads it. So is the ratio of scales where values are joined: the bytes are joined as they are.
//! - What only moves values moves bytes. Everything else gets f32.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use roadhound_shared::quantised::QuantParams;

use super::source::{Source, Weights};
use super::weights::{QuantisedWeights, Rounding};
use crate::export::onnx::{GraphBuilder, MICROSOFT, NodeProto, model};

/// Says what the bytes of a graph mean.
pub trait Numbers {
    /// Parameters of the value that has this name in the f32 graph. Where `relu`, the zero point must be 0.
    ///
    /// # Errors
    /// Nothing is known of the value.
    fn params(&mut self, value: &str, relu: bool) -> Result<QuantParams>;

    /// What to add to the bias of the convolution that makes `value`, a channel each.
    fn correction(&self, value: &str) -> Option<&[f32]>;

    /// How weights are rounded.
    fn rounding(&self) -> Rounding;
}

/// A real number is `scale[c] * (what the byte means) + shift[c]`.
#[derive(Clone, Debug)]
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    fn identity(channels: usize) -> Self {
        Self {
            scale: vec![1.0; channels],
            shift: vec![0.0; channels],
        }
    }

    fn is_scaling(&self) -> bool {
        self.shift.iter().all(|s| *s == 0.0)
    }
}

/// A value of the f32 graph that is bytes in the new one.
#[derive(Clone, Debug)]
struct Bytes {
    /// Its name in the new graph.
    tensor: String,
    params: QuantParams,
    /// What waits to be folded into the convolutions that read it.
    waits: Option<Affine>,
}

/// What becomes of a convolution.
enum Fate<'a> {
    Float,
    /// The ReLU after it.
    Relu(&'a NodeProto),
    /// An addition and the ReLU after that.
    Summand,
}

struct Rewriter<'a> {
    source: &'a Source,
    numbers: &'a mut dyn Numbers,
    out: GraphBuilder,
    bytes: HashMap<String, Bytes>,
    /// Values that are f32 in the new graph, and the names they have there.
    floats: HashMap<String, String>,
    /// Constants that were taken over, by their old names.
    kept: HashMap<String, String>,
    /// Outputs of nodes that others have swallowed.
    done: HashSet<String>,
}

/// The bytes of the quantised model.
///
/// # Errors
/// Parameters that are missing or make no sense, named with the value or node.
pub fn rewrite(source: &Source, numbers: &mut dyn Numbers) -> Result<Vec<u8>> {
    let mut rewriter = Rewriter {
        source,
        numbers,
        out: GraphBuilder::new(&source.graph.name),
        bytes: HashMap::new(),
        floats: HashMap::new(),
        kept: HashMap::new(),
        done: HashSet::new(),
    };
    rewriter
        .out
        .declare(&source.graph.input, &source.graph.output);
    for input in &source.graph.input {
        rewriter
            .floats
            .insert(input.name.clone(), input.name.clone());
    }
    for node in &source.graph.node {
        let output = output(node)?;
        if !rewriter.done.contains(output) {
            let named = || format!("node {}", node.name);
            rewriter.node(node).with_context(named)?;
        }
    }
    let metadata: Vec<(&str, &str)> = source
        .metadata
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    Ok(model(rewriter.out.into_graph(), &metadata))
}

fn output(node: &NodeProto) -> Result<&str> {
    let name = node.output.first().map(String::as_str);
    name.with_context(|| format!("node {} has no output", node.name))
}

fn input(node: &NodeProto, k: usize) -> Result<&str> {
    let name = node.input.get(k).map(String::as_str);
    name.with_context(|| format!("input {k} is missing"))
}

impl<'a> Rewriter<'a> {
    fn node(&mut self, node: &'a NodeProto) -> Result<()> {
        match node.op_type.as_str() {
            "Conv" => self.conv(node),
            "Add" if self.is_residual(node)? => self.residual(node),
            "MatMul" if node.input.iter().all(|i| self.source.constant(i).is_none()) => {
                self.matmul(node)
            }
            "Mul" | "Add" if self.is_per_channel(node)? => self.per_channel(node),
            "Concat" if self.joins_bytes(node) => self.concat(node),
            "Reshape" | "Transpose" | "Slice" if self.moves_bytes(node)? => {
                let from = self.bytes[input(node, 0)?].clone();
                let name = self.passed_on(node, &[from.tensor.as_str()])?;
                self.bytes.insert(
                    output(node)?.to_owned(),
                    Bytes {
                        tensor: name,
                        ..from
                    },
                );
                Ok(())
            }
            _ => self.in_f32(node),
        }
    }

    /// Whether all readers of a value are one addition with a ReLU after it.
    fn summed(&self, value: &str) -> Option<(&'a NodeProto, &'a NodeProto)> {
        let add = self
            .source
            .only_reader(value)
            .filter(|n| n.op_type == "Add")?;
        let relu = self.source.only_reader(add.output.first()?)?;
        (relu.op_type == "Relu").then_some((add, relu))
    }

    fn fate(&self, conv: &NodeProto) -> Result<Fate<'a>> {
        let made = output(conv)?;
        if let Some(relu) = self
            .source
            .only_reader(made)
            .filter(|n| n.op_type == "Relu")
        {
            return Ok(Fate::Relu(relu));
        }
        let Some((add, _)) = self.summed(made) else {
            return Ok(Fate::Float);
        };
        let others = add.input.iter().filter(|name| name.as_str() != made);
        let quantised = |name: &String| {
            self.bytes.contains_key(name)
                || self
                    .source
                    .producer(name)
                    .is_some_and(|p| p.op_type == "Conv")
        };
        Ok(match others.into_iter().all(quantised) {
            true => Fate::Summand,
            false => Fate::Float,
        })
    }

    fn conv(&mut self, node: &NodeProto) -> Result<()> {
        let (value, relu) = match self.fate(node)? {
            Fate::Float => return self.in_f32(node),
            Fate::Relu(relu) => (output(relu)?, true),
            Fate::Summand => (output(node)?, false),
        };
        let mut weights = self
            .source
            .weights(node)
            .context("its weights are not constants")?;
        let mut x = self.quantised(input(node, 0)?)?;
        if let Some(affine) = x.waits.take() {
            if !(affine.is_scaling() || weights.taps() == 1) {
                // A border of zeros is not what the shift would make of it.
                x = self.requantised(input(node, 0)?)?;
            } else {
                fold(&mut weights, &affine)?;
            }
        }
        if let Some(correction) = self.numbers.correction(value) {
            ensure!(
                correction.len() == weights.bias.len(),
                "a correction of another length"
            );
            for (bias, add) in weights.bias.iter_mut().zip(correction) {
                *bias += add;
            }
        }
        let params = self.numbers.params(value, relu)?;
        ensure!(
            !relu || params.zero_point() == 0,
            "the zero point of a ReLU is not 0"
        );
        let w = QuantisedWeights::of(&weights, x.params.scale(), self.numbers.rounding())?;
        let channels = weights.shape[0];
        let (scale, zero) = (self.scale(x.params), self.zero(x.params));
        let kernel = self.out.signed_bytes(&weights.shape, &w.kernel);
        let weight_scale = self.out.floats(&[channels], &w.scale);
        let weight_zero = self.out.signed_bytes(&[], &[0]);
        let (out_scale, out_zero) = (self.scale(params), self.zero(params));
        let bias = self.out.int32s(&[channels], &w.bias);
        let inputs = [
            x.tensor,
            scale,
            zero,
            kernel,
            weight_scale,
            weight_zero,
            out_scale,
            out_zero,
            bias,
        ];
        self.out.push(NodeProto {
            attribute: node.attribute.clone(),
            ..quantised_node("QLinearConv", &inputs, value)
        });
        self.made(value, params);
        self.done.insert(value.to_owned());
        Ok(())
    }

    fn is_residual(&self, node: &NodeProto) -> Result<bool> {
        let relu = self.source.only_reader(output(node)?);
        let plain = |name: &String| self.bytes.get(name).is_some_and(|b| b.waits.is_none());
        Ok(relu.is_some_and(|r| r.op_type == "Relu") && node.input.iter().all(plain))
    }

    fn residual(&mut self, node: &NodeProto) -> Result<()> {
        let relu = self
            .source
            .only_reader(output(node)?)
            .context("a sum that nobody reads")?;
        let value = output(relu)?;
        let params = self.numbers.params(value, true)?;
        let mut inputs = Vec::new();
        for k in 0..2 {
            let part = self.bytes[input(node, k)?].clone();
            inputs.extend([part.tensor, self.scale(part.params), self.zero(part.params)]);
        }
        inputs.extend([self.scale(params), self.zero(params)]);
        self.out.push(NodeProto {
            domain: MICROSOFT.to_owned(),
            ..quantised_node("QLinearAdd", &inputs, value)
        });
        self.made(value, params);
        self.done.insert(value.to_owned());
        Ok(())
    }

    fn matmul(&mut self, node: &NodeProto) -> Result<()> {
        let value = output(node)?;
        let mut inputs = Vec::new();
        let mut nonnegative = true;
        for k in 0..2 {
            let mut part = self.quantised(input(node, k)?)?;
            if part.waits.is_some() {
                part = self.requantised(input(node, k)?)?;
            }
            nonnegative &= part.params.zero_point() == 0;
            inputs.extend([part.tensor, self.scale(part.params), self.zero(part.params)]);
        }
        let params = self.numbers.params(value, nonnegative)?;
        inputs.extend([self.scale(params), self.zero(params)]);
        self.out
            .push(quantised_node("QLinearMatMul", &inputs, value));
        self.made(value, params);
        Ok(())
    }

    /// A constant a channel, multiplied with or added to bytes.
    fn is_per_channel(&self, node: &NodeProto) -> Result<bool> {
        let (value, constant) = (input(node, 0)?, input(node, 1)?);
        let channels = self.channels(value);
        let dims = self.source.constant(constant).map(|t| t.dims.as_slice());
        let fits = matches!((dims, channels), (Some([1, c, 1, 1]), Some(n)) if *c == n as i64);
        Ok(fits && self.bytes.contains_key(value))
    }

    fn per_channel(&mut self, node: &NodeProto) -> Result<()> {
        let mut bytes = self.bytes[input(node, 0)?].clone();
        let constants = self
            .source
            .floats(input(node, 1)?)
            .context("constants that are no f32")?;
        let affine = bytes
            .waits
            .get_or_insert_with(|| Affine::identity(constants.len()));
        for (c, constant) in constants.iter().enumerate() {
            if node.op_type == "Mul" {
                affine.scale[c] *= constant;
                affine.shift[c] *= constant;
            } else {
                affine.shift[c] += constant;
            }
        }
        self.bytes.insert(output(node)?.to_owned(), bytes);
        Ok(())
    }

    fn joins_bytes(&self, node: &NodeProto) -> bool {
        let along_channels = node.attribute.iter().any(|a| a.name == "axis" && a.i == 1);
        let parts: Option<Vec<&Bytes>> = node.input.iter().map(|i| self.bytes.get(i)).collect();
        let known = node.input.iter().all(|i| self.channels(i).is_some());
        along_channels
            && known
            && parts.is_some_and(|p| {
                let zero = |b: &&Bytes| b.params.zero_point();
                p.iter().all(|b| zero(b) == zero(&p[0]))
            })
    }

    /// Joins bytes as they are. They are read by one scale, the largest, so each part waits for its own ratio to it.
    fn concat(&mut self, node: &NodeProto) -> Result<()> {
        let parts: Vec<Bytes> = node.input.iter().map(|i| self.bytes[i].clone()).collect();
        let scale = parts.iter().map(|b| b.params.scale()).fold(0.0, f32::max);
        let params = QuantParams::new(scale, parts[0].params.zero_point())?;
        let mut joined = Affine {
            scale: Vec::new(),
            shift: Vec::new(),
        };
        for (name, part) in node.input.iter().zip(&parts) {
            let channels = self.channels(name).context("a part without channels")?;
            let ratio = part.params.scale() / scale;
            let own = part
                .waits
                .clone()
                .unwrap_or_else(|| Affine::identity(channels));
            joined.scale.extend(own.scale.iter().map(|s| s * ratio));
            joined.shift.extend(own.shift);
        }
        let tensors: Vec<&str> = parts.iter().map(|b| b.tensor.as_str()).collect();
        let tensor = self.passed_on(node, &tensors)?;
        let waits = Some(joined);
        self.bytes.insert(
            output(node)?.to_owned(),
            Bytes {
                tensor,
                params,
                waits,
            },
        );
        Ok(())
    }

    fn moves_bytes(&self, node: &NodeProto) -> Result<bool> {
        Ok(self
            .bytes
            .get(input(node, 0)?)
            .is_some_and(|b| b.waits.is_none()))
    }

    /// The node as it is, on other tensors; further inputs are constants.
    fn passed_on(&mut self, node: &NodeProto, tensors: &[&str]) -> Result<String> {
        let mut inputs: Vec<String> = tensors.iter().map(|t| (*t).to_owned()).collect();
        for name in &node.input[tensors.len()..] {
            inputs.push(self.constant(name)?);
        }
        self.out.push(NodeProto {
            input: inputs,
            ..node.clone()
        });
        Ok(output(node)?.to_owned())
    }

    fn in_f32(&mut self, node: &NodeProto) -> Result<()> {
        let mut inputs = Vec::new();
        for name in &node.input {
            inputs.push(match self.source.constant(name) {
                Some(_) => self.constant(name)?,
                None => self.float(name)?,
            });
        }
        self.out.push(NodeProto {
            input: inputs,
            ..node.clone()
        });
        let output = output(node)?.to_owned();
        self.floats.insert(output.clone(), output);
        Ok(())
    }

    fn constant(&mut self, name: &str) -> Result<String> {
        if let Some(kept) = self.kept.get(name) {
            return Ok(kept.clone());
        }
        let tensor = self
            .source
            .constant(name)
            .with_context(|| format!("{name} is not known"))?;
        let kept = self.out.keep(tensor);
        self.kept.insert(name.to_owned(), kept.clone());
        Ok(kept)
    }

    /// A value as f32, whatever it is.
    fn float(&mut self, value: &str) -> Result<String> {
        if let Some(name) = self.floats.get(value) {
            return Ok(name.clone());
        }
        let Some(bytes) = self.bytes.get(value).cloned() else {
            bail!("input {value} is not known")
        };
        let (scale, zero) = (self.scale(bytes.params), self.zero(bytes.params));
        let mut name = format!("{value}.f32");
        self.out.push(quantised_node(
            "DequantizeLinear",
            &[bytes.tensor, scale, zero],
            &name,
        ));
        if let Some(affine) = bytes.waits {
            let channels = [1, affine.scale.len(), 1, 1];
            let (by, plus) = (
                self.out.floats(&channels, &affine.scale),
                self.out.floats(&channels, &affine.shift),
            );
            for (op, constant) in [("Mul", by), ("Add", plus)] {
                let next = format!("{name}.{}", op.to_lowercase());
                self.out.push(quantised_node(op, &[name, constant], &next));
                name = next;
            }
        }
        self.floats.insert(value.to_owned(), name.clone());
        Ok(name)
    }

    /// A value as bytes, whatever it is.
    fn quantised(&mut self, value: &str) -> Result<Bytes> {
        match self.bytes.get(value) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.requantised(value),
        }
    }

    /// A value as bytes by the way of f32, with nothing that waits.
    fn requantised(&mut self, value: &str) -> Result<Bytes> {
        let params = self.numbers.params(value, false)?;
        let name = self.float(value)?;
        let tensor = format!("{value}.u8");
        let (scale, zero) = (self.scale(params), self.zero(params));
        self.out.push(quantised_node(
            "QuantizeLinear",
            &[name, scale, zero],
            &tensor,
        ));
        let bytes = Bytes {
            tensor,
            params,
            waits: None,
        };
        self.bytes.insert(value.to_owned(), bytes.clone());
        Ok(bytes)
    }

    fn made(&mut self, value: &str, params: QuantParams) {
        let bytes = Bytes {
            tensor: value.to_owned(),
            params,
            waits: None,
        };
        self.bytes.insert(value.to_owned(), bytes);
    }

    fn channels(&self, value: &str) -> Option<usize> {
        self.source.shape(value).and_then(|s| s.get(1)).copied()
    }

    fn scale(&mut self, params: QuantParams) -> String {
        self.out.floats(&[], &[params.scale()])
    }

    fn zero(&mut self, params: QuantParams) -> String {
        self.out.bytes(&[], &[params.zero_point()])
    }
}

fn quantised_node(op: &str, inputs: &[String], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.to_vec(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: op.to_owned(),
        ..NodeProto::default()
    }
}

/// Folds what waits at a convolution's input into its weights.
fn fold(weights: &mut Weights, affine: &Affine) -> Result<()> {
    let (channels, taps) = (weights.shape[1], weights.taps());
    ensure!(
        affine.scale.len() == channels,
        "{} constants for {channels} channels",
        affine.scale.len()
    );
    let len = channels * taps;
    for (filter, bias) in weights
        .kernel
        .chunks_exact_mut(len.max(1))
        .zip(&mut weights.bias)
    {
        for (c, kernel) in filter.chunks_exact_mut(taps).enumerate() {
            *bias += kernel.iter().sum::<f32>() * affine.shift[c];
            kernel.iter_mut().for_each(|w| *w *= affine.scale[c]);
        }
    }
    Ok(())
}
