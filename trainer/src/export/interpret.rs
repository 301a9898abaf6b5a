//! Runs an exported graph on candle: what a bundle says, rather than what the network meant.
//!
//! In: the bytes of `template.onnx` and `search.onnx`. Out: [`OnnxNetwork`], a
//! [`FollowNetwork`]. It knows the operators that [`super::follow`] writes and refuses the others by name. The
//! exporter compares it with the network before a bundle is shipped, and `evaluate` scores bundles with it.

use std::collections::HashMap;

use candle_core::{D, Device, Result, Tensor, bail};
use prost::Message;
use roadhound_shared::contract::{FollowContract, TensorSpec};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};

use super::onnx::{AttributeProto, ModelProto, NodeProto};
use crate::ops::{self, Precision};

/// A value while a graph runs.
#[derive(Clone)]
enum Value {
    Floats(Tensor),
    Ints(Vec<i64>),
}

/// One graph, ready to run. Convolution weights are held as `[kh, kw, in, out]`.
pub struct Graph {
    nodes: Vec<NodeProto>,
    constants: HashMap<String, Value>,
    inputs: Vec<String>,
    device: Device,
}

impl Graph {
    /// Parses the bytes of a model; errors name what is malformed.
    pub fn parse(bytes: &[u8], device: &Device) -> Result<Self> {
        let model = ModelProto::decode(bytes).map_err(candle_core::Error::wrap)?;
        let Some(graph) = model.graph else {
            bail!("the model has no graph")
        };
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            let shape: Vec<usize> = tensor
                .dims
                .iter()
                .map(|d| usize::try_from(*d).unwrap_or(0))
                .collect();
            let count: usize = shape.iter().product();
            let value = match tensor.data_type {
                1 if tensor.raw_data.len() == count * 4 => {
                    let values = tensor
                        .raw_data
                        .chunks_exact(4)
                        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    Value::Floats(Tensor::from_vec(values.collect::<Vec<_>>(), shape, device)?)
                }
                7 if tensor.raw_data.len() == count * 8 => Value::Ints(
                    tensor
                        .raw_data
                        .chunks_exact(8)
                        .map(|b| {
                            i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
                        })
                        .collect(),
                ),
                other => bail!(
                    "initializer {} has type {other} and {} bytes for shape {shape:?}",
                    tensor.name,
                    tensor.raw_data.len()
                ),
            };
            constants.insert(tensor.name.clone(), value);
        }
        for node in graph.node.iter().filter(|n| n.op_type == "Conv") {
            let Some(Value::Floats(weight)) = node
                .input
                .get(1)
                .and_then(|name| constants.get(name))
                .cloned()
            else {
                bail!("node {}: its weight is not a constant", node.name)
            };
            let hwio = weight.permute((2, 3, 1, 0))?.contiguous()?;
            constants.insert(node.input[1].clone(), Value::Floats(hwio));
        }
        let inputs = graph.input.iter().map(|i| i.name.clone()).collect();
        Ok(Self {
            nodes: graph.node,
            constants,
            inputs,
            device: device.clone(),
        })
    }

    /// Names of the inputs.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Runs the graph on named inputs; every value that a node produced is returned by name.
    pub fn run(&self, inputs: &[(&str, Tensor)]) -> Result<HashMap<String, Tensor>> {
        let mut values: HashMap<&str, Tensor> =
            inputs.iter().map(|(n, t)| (*n, t.clone())).collect();
        for node in &self.nodes {
            let result = self.apply(node, &values)?;
            let Some(name) = node.output.first() else {
                bail!("node {} has no output", node.name)
            };
            values.insert(name, result);
        }
        Ok(values.into_iter().map(|(n, t)| (n.to_owned(), t)).collect())
    }

    fn apply(&self, node: &NodeProto, values: &HashMap<&str, Tensor>) -> Result<Tensor> {
        let float = |k: usize| -> Result<Tensor> {
            let Some(name) = node.input.get(k) else {
                bail!("node {}: input {k} is missing", node.name)
            };
            match (values.get(name.as_str()), self.constants.get(name)) {
                (Some(tensor), _) | (None, Some(Value::Floats(tensor))) => Ok(tensor.clone()),
                _ => bail!("node {}: input {name} is not known as floats", node.name),
            }
        };
        let ints = |k: usize| -> Result<&[i64]> {
            match node.input.get(k).and_then(|name| self.constants.get(name)) {
                Some(Value::Ints(values)) => Ok(values),
                _ => bail!(
                    "node {}: input {k} is not a constant list of integers",
                    node.name
                ),
            }
        };
        let attribute = |name: &str| -> Result<&AttributeProto> {
            match node.attribute.iter().find(|a| a.name == name) {
                Some(a) => Ok(a),
                None => bail!("node {}: attribute {name} is missing", node.name),
            }
        };
        match node.op_type.as_str() {
            "Conv" => {
                let (stride, pad) = (
                    attribute("strides")?.ints[0] as usize,
                    attribute("pads")?.ints[0] as usize,
                );
                let x = float(0)?.permute((0, 2, 3, 1))?.contiguous()?;
                let y = ops::conv2d(&x, &float(1)?, stride, pad, Precision::F32)?
                    .broadcast_add(&float(2)?)?;
                y.permute((0, 3, 1, 2))?.contiguous()
            }
            "Relu" => float(0)?.relu(),
            "Add" => float(0)?.broadcast_add(&float(1)?),
            "Sub" => float(0)?.broadcast_sub(&float(1)?),
            "Mul" => float(0)?.broadcast_mul(&float(1)?),
            "Div" => float(0)?.broadcast_div(&float(1)?),
            "Sqrt" => float(0)?.sqrt(),
            "Exp" => float(0)?.exp(),
            "Sigmoid" => crate::model::net::sigmoid(&float(0)?),
            "Identity" => float(0),
            "Clip" => float(0)?
                .broadcast_maximum(&float(1)?)?
                .broadcast_minimum(&float(2)?),
            "MatMul" => float(0)?.contiguous()?.matmul(&float(1)?.contiguous()?),
            "Transpose" => {
                let order: Vec<usize> = attribute("perm")?
                    .ints
                    .iter()
                    .map(|v| *v as usize)
                    .collect();
                float(0)?.permute(order)?.contiguous()
            }
            "Reshape" => {
                let shape: Vec<usize> = ints(1)?.iter().map(|v| *v as usize).collect();
                float(0)?.contiguous()?.reshape(shape)
            }
            "Concat" => {
                let parts = (0..node.input.len())
                    .map(float)
                    .collect::<Result<Vec<_>>>()?;
                Tensor::cat(&parts, attribute("axis")?.i as usize)
            }
            "Slice" => {
                let mut x = float(0)?;
                for ((from, to), axis) in ints(1)?.iter().zip(ints(2)?).zip(ints(3)?) {
                    x = x.narrow(*axis as usize, *from as usize, (*to - *from) as usize)?;
                }
                x.contiguous()
            }
            "ReduceMax" | "ReduceMean" => {
                let x = float(0)?;
                let (n, c, h, w) = x.dims4()?;
                let flat = x.reshape((n, c, h * w))?;
                let reduced = if node.op_type == "ReduceMax" {
                    flat.max_keepdim(D::Minus1)?
                } else {
                    flat.mean_keepdim(D::Minus1)?
                };
                reduced.reshape((n, c, 1, 1))
            }
            "ReduceSum" => float(0)?.sum_keepdim(ints(1)?[0] as usize),
            other => bail!("node {}: operator {other} is not known", node.name),
        }
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
    pub fn new(
        template: &[u8],
        search: &[u8],
        contract: &FollowContract,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            template: Graph::parse(template, device)?,
            search: Graph::parse(search, device)?,
            contract: contract.clone(),
        })
    }

    fn tensor(&self, spec: &TensorSpec, values: &[f32]) -> Result<Tensor> {
        Tensor::from_slice(values, spec.shape.clone(), &self.template.device)
    }
}

fn copy_output(values: &HashMap<String, Tensor>, spec: &TensorSpec, out: &mut [f32]) -> Result<()> {
    let Some(tensor) = values.get(&spec.name) else {
        bail!("the graph has no output {}", spec.name)
    };
    let found = tensor.flatten_all()?.to_vec1::<f32>()?;
    if found.len() != out.len() {
        bail!(
            "output {} has {} values, expected {}",
            spec.name,
            found.len(),
            out.len()
        );
    }
    out.copy_from_slice(&found);
    Ok(())
}

impl FollowNetwork for OnnxNetwork {
    type Error = candle_core::Error;

    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<()> {
        let t = &self.contract.tensors;
        let values = self
            .template
            .run(&[(&t.template.name, self.tensor(&t.template, crop_chw)?)])?;
        copy_output(&values, &t.features, &mut out.features)?;
        copy_output(&values, &t.template_embedding, &mut out.embedding)
    }

    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<()> {
        let t = &self.contract.tensors;
        let values = self.search.run(&[
            (&t.search.name, self.tensor(&t.search, crop_chw)?),
            (
                &t.template_first.name,
                self.tensor(&t.template_first, first)?,
            ),
            (
                &t.template_latest.name,
                self.tensor(&t.template_latest, latest)?,
            ),
        ])?;
        copy_output(&values, &t.score, &mut out.score)?;
        copy_output(&values, &t.box_ltrb_px, &mut out.box_ltrb_px)?;
        copy_output(&values, &t.embedding, &mut out.embedding)?;
        let mut presence = [0.0];
        copy_output(&values, &t.presence, &mut presence)?;
        out.presence = presence[0];
        Ok(())
    }
}
