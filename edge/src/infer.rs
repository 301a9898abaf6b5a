//! The graphs of a bundle on tract: two that follow ([`TractNetwork`]), one that finds ([`TractProposer`]). This file and its modules are the only ones that name it: `fuse` takes out of
//! a file what [`crate::int8`] computes, `region` says it in the terms of the kernels, `fused` puts it back as one
//! operator; `observed` looks into layers and puts them right.
//!
//! Enters: the bytes of ONNX files and the contract they were made for. Leaves: a [`FollowNetwork`] or a
//! [`ProposeNetwork`](roadhound_shared::propose::ProposeNetwork). Names and
//! shapes are compared with the contract before anything runs, so that a wrong file is refused with the tensor at
//! fault instead of failing on the first frame.
//!
//! The same bits on every processor with fused multiply-add, and in the trainer's `evaluate`: tract computes nearly
//! everything in one order wherever it runs, and `make_portable` rewrites what it does not.

mod fuse;
mod fused;
mod observed;
mod propose;
mod region;

pub use propose::TractProposer;

use observed::{Layers, Observed};

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use roadhound_shared::adapt::{Adjustment, SourceStatistics};
use roadhound_shared::contract::{FollowContract, TensorSpec};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use tract_onnx::pb::GraphProto;
use tract_onnx::prelude::*;

use roadhound_host::guard::quietly;

use crate::int8::Path;
use tract_onnx::tract_core::knobs::KnobScope;
use tract_onnx::tract_core::ops::change_axes::wire_with_rank_broadcast;
use tract_onnx::tract_core::ops::cnn::conv::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer, Sigmoid};

/// Why a graph could not be loaded or run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// Not an ONNX file, or one with operators that are not known.
    #[error("{file}: not a usable ONNX graph: {message}")]
    Load {
        /// Name of the file.
        file: String,
        /// What tract said.
        message: String,
    },
    /// An input or output of the contract is missing.
    #[error("{file}: no {role} named '{name}', it has {found:?}")]
    Missing {
        /// Name of the file.
        file: String,
        /// Input or output.
        role: &'static str,
        /// The name that was looked for.
        name: String,
        /// The names that are there.
        found: Vec<String>,
    },
    /// An input or output differs from the contract.
    #[error("{file}: {role} '{name}' is {found}, expected f32{expected:?}")]
    Shape {
        /// Name of the file.
        file: String,
        /// Input or output.
        role: &'static str,
        /// Which tensor.
        name: String,
        /// Type and shape in the file.
        found: String,
        /// Shape of the contract.
        expected: Vec<usize>,
    },
    /// More inputs than the contract has.
    #[error("{file}: {found} inputs, expected {expected}")]
    Inputs {
        /// Name of the file.
        file: String,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A layer that is to be adapted cannot be.
    #[error("{file}: no convolution '{layer}' in eight bits, which [adapt] names")]
    Unobserved {
        /// Name of the file.
        file: String,
        /// Name of the layer's output.
        layer: String,
    },
    /// The graph failed on a frame.
    #[error("{file}: {message}")]
    Run {
        /// Name of the file.
        file: String,
        /// What tract said.
        message: String,
    },
    /// No threads.
    #[error("cannot start {threads} threads: {message}")]
    Threads {
        /// How many were wanted.
        threads: usize,
        /// What the system said.
        message: String,
    },
}

/// The chain of causes on one line.
fn one_line(error: &TractError) -> String {
    let chain: Vec<String> = error
        .chain()
        .map(|cause| {
            cause
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let mut text = chain.join(": ");
    if let Some((at, _)) = text.char_indices().nth(300) {
        text.truncate(at);
    }
    text
}

/// Compiles a graph with tract's matrix products for every convolution. Its other way, for wide maps, rounds the ends
/// of each row differently, and where a row ends depends on the processor.
fn optimised(model: TypedModel) -> TractResult<TypedModel> {
    KnobScope::new([("TRACT_DISABLE_DIRECT_SPATIAL", "true")])?
        .enter(|| make_portable(model)?.into_optimized())
}

/// Replaces the two kinds of node whose last bits depend on the kernels that tract has for a processor, by nodes
/// whose bits do not: a sigmoid (three approximations) becomes `1 / (1 + exp(-x))`, and a convolution with a single
/// result (one sum or four partial ones) a product and a sum.
fn make_portable(mut model: TypedModel) -> TractResult<TypedModel> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let mut patch = TypedModelPatch::default();
        let name = &node.name;
        let step = |what: &str| format!("{name}.{what}");
        let result = if is_sigmoid(node) {
            let x = patch.tap_model(&model, node.inputs[0])?;
            let x = patch.wire_node(step("negative"), math::neg(), &[x])?;
            let x = patch.wire_node(step("exp"), math::exp(), &x)?;
            let one = patch.add_const(step("one"), tensor0(1f32))?;
            let x =
                wire_with_rank_broadcast(step("plus_one"), &mut patch, math::add(), &[x[0], one])?;
            patch.wire_node(name, math::recip(), &x)?
        } else if is_dot_product(&model, node)? {
            let x = patch.tap_model(&model, node.inputs[0])?;
            let weight = patch.tap_model(&model, node.inputs[1])?;
            let bias = patch.tap_model(&model, node.inputs[2])?;
            let x = patch.wire_node(step("products"), math::mul(), &[x, weight])?;
            let x = patch.wire_node(step("sum"), Reduce::new(tvec!(1), Reducer::Sum), &x)?;
            wire_with_rank_broadcast(name, &mut patch, math::add(), &[x[0], bias])?
        } else {
            continue;
        };
        patch.shunt_outside(&model, OutletId::new(id, 0), result[0])?;
        patch.apply(&mut model)?;
    }
    Ok(model)
}

fn is_sigmoid(node: &TypedNode) -> bool {
    node.op_as::<ElementWiseOp>()
        .is_some_and(|op| op.0.is::<Sigmoid>())
}

/// A 1x1 convolution of a map of one cell to one channel.
fn is_dot_product(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let Some(conv) = node.op_as::<Conv>() else {
        return Ok(false);
    };
    let pool = &conv.pool_spec;
    Ok(conv.q_params.is_none()
        && conv.group == 1
        && conv.kernel_fmt == KernelFormat::OIHW
        && pool.data_format == DataFormat::NCHW
        && pool.output_channels == 1
        && pool.kernel_shape.iter().all(|side| *side == 1)
        && model.outlet_fact(node.inputs[0])?.shape.volume() == pool.input_channels.to_dim())
}

/// What computes the quantised parts of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8 {
    /// The kernels of [`crate::int8`], by this path.
    Kernels(Path),
    /// tract's own operators: for comparisons.
    Stock,
}

/// How a graph is to be computed.
struct Computing {
    int8: Int8,
    threads: usize,
    /// Layers to look into.
    observed: Arc<Observed>,
}

impl Computing {
    /// Nobody looks into anything.
    fn plain(int8: Int8, threads: usize) -> Self {
        Self {
            int8,
            threads,
            observed: Arc::default(),
        }
    }
}

/// Nodes that may turn out not to be computable when shapes are known, before all are left to tract.
const MOST_REJECTIONS: usize = 16;

/// Refuses a transposition whose order names an axis twice: tract would look for the exchanges that lead to it for ever,
/// and take memory for each.
fn check_transposes(graph: &GraphProto) -> TractResult<()> {
    for node in &graph.node {
        for attribute in &node.attribute {
            let order = &attribute.ints;
            let mut axes = order.clone();
            axes.sort_unstable();
            let is_order = axes.into_iter().eq(0..order.len() as i64);
            if node.op_type == "Transpose" && attribute.name == "perm" && !is_order {
                return Err(TractError::msg(format!(
                    "Transpose to '{}': {order:?} is no order of axes",
                    node.output.join(", ")
                )));
            }
            for nested in attribute.g.iter().chain(&attribute.graphs) {
                check_transposes(nested)?;
            }
        }
    }
    Ok(())
}

/// Reads a file, with its quantised parts taken out and put back as operators of ours. What cannot be fused stays with
/// tract, and the log says so.
fn read(file: &str, bytes: &[u8], computing: &Computing) -> TractResult<TypedModel> {
    let mut onnx = onnx();
    fused::register_add(&mut onnx);
    let proto = onnx.proto_model_for_read(&mut Cursor::new(bytes))?;
    proto.graph.as_ref().map_or(Ok(()), check_transposes)?;
    let stock = || onnx.model_for_proto_model(&proto)?.into_typed();
    let Int8::Kernels(path) = computing.int8 else {
        return stock();
    };
    let mut denied = HashSet::new();
    let log = |left: &region::Rejection| {
        log::warn!(
            "{file}: {} '{}' runs on stock tract: {}",
            left.kind,
            left.output,
            left.reason
        );
    };
    let mut logged = false;
    while denied.len() < MOST_REJECTIONS {
        let fusion = fuse::fuse(&onnx, &proto, &denied).map_err(TractError::msg)?;
        let Some(fusion) = fusion else {
            return stock();
        };
        if !logged {
            fusion.left.iter().for_each(log);
            logged = true;
        }
        let mut model = onnx.model_for_proto_model(&fusion.model)?;
        let rejection = Arc::new(Mutex::new(None));
        for region in fusion.regions {
            let node = model
                .nodes_mut()
                .iter_mut()
                .find(|node| node.name == region.name);
            if let Some(node) = node {
                let unplanned = fused::Unplanned {
                    region: Arc::new(region),
                    path,
                    threads: computing.threads,
                    observed: computing.observed.clone(),
                    rejection: rejection.clone(),
                };
                node.op = unplanned.into_op();
            }
        }
        let result = model.into_typed();
        let rejected = rejection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (result, rejected) {
            (Ok(typed), _) => return Ok(typed),
            (Err(_), Some(rejected)) if denied.insert(rejected.output.clone()) => log(&rejected),
            (Err(error), _) => return Err(error),
        }
    }
    log::warn!("{file}: all of it runs on stock tract: {MOST_REJECTIONS} nodes could not be fused");
    stock()
}

/// A graph that is ready to run, with its inputs and outputs in the order of the contract.
struct Graph {
    file: String,
    state: TypedSimpleState,
    inputs: Vec<Arc<Tensor>>,
    /// For each input of the graph, its place in the contract.
    input_order: Vec<usize>,
    /// For each output of the contract, its place in the graph.
    output_order: Vec<usize>,
    /// What the kernels of [`crate::int8`] multiply in a run.
    int8_products: u64,
    layers: Layers,
}

impl Graph {
    fn load(
        file: &str,
        bytes: &[u8],
        inputs: &[&TensorSpec],
        outputs: &[&TensorSpec],
        computing: &Computing,
    ) -> Result<Self, InferError> {
        let load = |message: String| InferError::Load {
            file: file.to_owned(),
            message,
        };
        // tract indexes and unwraps while it reads attributes; on a damaged file that is a panic, not an error.
        let typed = quietly(|| read(file, bytes, computing))
            .map_err(load)?
            .map_err(|e| load(one_line(&e)))?;
        let shape = |role: &'static str, spec: &TensorSpec, fact: &TypedFact| {
            let found = fact.shape.as_concrete();
            if fact.datum_type == f32::datum_type() && found == Some(&spec.shape[..]) {
                return Ok(());
            }
            Err(InferError::Shape {
                file: file.to_owned(),
                role,
                name: spec.name.clone(),
                found: format!(
                    "{:?}[{}]",
                    fact.datum_type,
                    fact.shape
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                )
                .to_lowercase(),
                expected: spec.shape.clone(),
            })
        };
        let missing =
            |role: &'static str, spec: &TensorSpec, found: &[String]| InferError::Missing {
                file: file.to_owned(),
                role,
                name: spec.name.clone(),
                found: found.to_vec(),
            };
        let name = |outlet: &OutletId| {
            typed
                .outlet_label(*outlet)
                .map_or_else(|| typed.node(outlet.node).name.clone(), ToOwned::to_owned)
        };
        let fact = |outlet: OutletId| typed.outlet_fact(outlet).map_err(|e| load(one_line(&e)));

        let in_outlets = typed.input_outlets().map_err(|e| load(one_line(&e)))?;
        let in_names: Vec<String> = in_outlets
            .iter()
            .map(|o| typed.node(o.node).name.clone())
            .collect();
        let mut input_order = vec![0; in_names.len()];
        for (place, spec) in inputs.iter().enumerate() {
            let at = in_names
                .iter()
                .position(|n| *n == spec.name)
                .ok_or_else(|| missing("input", spec, &in_names))?;
            shape("input", spec, fact(in_outlets[at])?)?;
            input_order[at] = place;
        }
        if in_names.len() != inputs.len() {
            return Err(InferError::Inputs {
                file: file.to_owned(),
                found: in_names.len(),
                expected: inputs.len(),
            });
        }
        let out_outlets = typed.output_outlets().map_err(|e| load(one_line(&e)))?;
        let out_names: Vec<String> = out_outlets.iter().map(name).collect();
        let mut output_order = Vec::with_capacity(outputs.len());
        for spec in outputs {
            let at = out_names
                .iter()
                .position(|n| *n == spec.name)
                .ok_or_else(|| missing("output", spec, &out_names))?;
            shape("output", spec, fact(out_outlets[at])?)?;
            output_order.push(at);
        }
        let planned = typed.nodes().iter();
        let planned = planned.filter_map(|node| node.op_as::<fused::Planned>());
        let int8_products = planned.map(|op| op.products).sum();
        let layers = Layers::find(file, &typed, &computing.observed)?;
        let buffers = inputs
            .iter()
            .map(|spec| Tensor::zero::<f32>(&spec.shape).map(Arc::new))
            .collect::<TractResult<_>>()
            .map_err(|e| load(one_line(&e)))?;
        let state = quietly(|| optimised(typed)?.into_runnable()?.spawn())
            .map_err(load)?
            .map_err(|e| load(one_line(&e)))?;
        let mut graph = Self {
            file: file.to_owned(),
            state,
            inputs: buffers,
            input_order,
            output_order,
            int8_products,
            layers,
        };
        graph.rehearse(outputs)?;
        Ok(graph)
    }

    /// Runs the graph once on zeros, where a panic is caught: a damaged graph can load and then index out of bounds.
    fn rehearse(&mut self, outputs: &[&TensorSpec]) -> Result<(), InferError> {
        let inputs: Vec<Vec<f32>> = self.inputs.iter().map(|t| vec![0.0; t.len()]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<Vec<f32>> = outputs.iter().map(|spec| vec![0.0; spec.len()]).collect();
        let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let file = self.file.clone();
        quietly(|| self.run(&inputs, &mut outputs))
            .unwrap_or_else(|message| Err(InferError::Run { file, message }))
    }

    /// Runs the graph; `outputs` receive the tensors in the order of the contract.
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
        self.try_run(inputs, outputs).map_err(|e| InferError::Run {
            file: self.file.clone(),
            message: one_line(&e),
        })
    }

    fn try_run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> TractResult<()> {
        for (buffer, values) in self.inputs.iter_mut().zip(inputs) {
            if Arc::get_mut(buffer).is_none() {
                *buffer = Arc::new(Tensor::zero::<f32>(buffer.shape())?);
            }
            if let Some(tensor) = Arc::get_mut(buffer) {
                let mut plain = tensor.try_as_plain_ram_mut()?;
                let to = plain.as_slice_mut::<f32>()?;
                ensure_len(values.len(), to.len())?;
                to.copy_from_slice(values);
            }
        }
        let fed = self
            .input_order
            .iter()
            .map(|&place| TValue::from_const(self.inputs[place].clone()))
            .collect();
        let results = self.state.run(fed)?;
        for (to, &at) in outputs.iter_mut().zip(&self.output_order) {
            let view = results[at].try_as_plain_ram()?;
            let from = view.as_slice::<f32>()?;
            ensure_len(from.len(), to.len())?;
            to.copy_from_slice(from);
        }
        Ok(())
    }
}

fn ensure_len(found: usize, expected: usize) -> TractResult<()> {
    if found == expected {
        Ok(())
    } else {
        Err(TractError::msg(format!(
            "{found} values, expected {expected}"
        )))
    }
}

/// The template and search graphs, ready to run.
pub struct TractNetwork {
    template: Graph,
    search: Graph,
    executor: Option<multithread::Executor>,
}

impl TractNetwork {
    /// Loads and optimises both graphs, quantised parts on the fastest kernels that the processor has. The bytes may be
    /// dropped afterwards.
    ///
    /// # Errors
    /// A file that is no ONNX graph, or one whose inputs and outputs are not those of the contract.
    pub fn load(
        contract: &FollowContract,
        template: &[u8],
        search: &[u8],
        threads: usize,
    ) -> Result<Self, InferError> {
        let int8 = Int8::Kernels(Path::detect());
        Self::load_with(contract, template, search, threads, int8)
    }

    /// As [`Self::load`], with a choice of what computes the quantised parts.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(
        contract: &FollowContract,
        template: &[u8],
        search: &[u8],
        threads: usize,
        int8: Int8,
    ) -> Result<Self, InferError> {
        let computing = Computing::plain(int8, threads);
        Self::load_computing(contract, template, search, &computing)
    }

    /// As [`Self::load_with`], with layers that are looked into and can be put right. Until somebody does, the outputs
    /// are those of [`Self::load_with`].
    ///
    /// # Errors
    /// As [`Self::load`], or a layer that the kernels do not compute in both graphs.
    pub fn load_adaptive(
        contract: &FollowContract,
        template: &[u8],
        search: &[u8],
        threads: usize,
        int8: Int8,
        source: &SourceStatistics,
    ) -> Result<Self, InferError> {
        let computing = Computing {
            observed: Arc::new(Observed::new(source)),
            ..Computing::plain(int8, threads)
        };
        Self::load_computing(contract, template, search, &computing)
    }

    fn load_computing(
        contract: &FollowContract,
        template: &[u8],
        search: &[u8],
        computing: &Computing,
    ) -> Result<Self, InferError> {
        let t = &contract.tensors;
        let executor = executor(computing.threads)?;
        Ok(Self {
            template: Graph::load(
                &contract.template_file,
                template,
                &[&t.template],
                &[&t.features, &t.template_embedding],
                computing,
            )?,
            search: Graph::load(
                &contract.search_file,
                search,
                &[&t.search, &t.template_first, &t.template_latest],
                &[&t.score, &t.box_ltrb_px, &t.presence, &t.embedding],
                computing,
            )?,
            executor,
        })
    }
}

impl TractNetwork {
    /// What the kernels of [`crate::int8`] multiply in a run of the template graph and of the search graph.
    pub fn int8_products(&self) -> [u64; 2] {
        [self.template.int8_products, self.search.int8_products]
    }
}

/// One f32 graph by itself, with inputs and outputs of its own: what the trainer's other systems export.
pub struct LoneGraph(Graph);

impl LoneGraph {
    /// Loads and optimises a graph; `file` is what errors name.
    ///
    /// # Errors
    /// As [`TractNetwork::load`].
    pub fn load(
        file: &str,
        bytes: &[u8],
        inputs: &[&TensorSpec],
        outputs: &[&TensorSpec],
    ) -> Result<Self, InferError> {
        let int8 = Int8::Kernels(Path::detect());
        let computing = Computing::plain(int8, 1);
        Graph::load(file, bytes, inputs, outputs, &computing).map(Self)
    }

    /// Runs the graph; inputs and outputs in the order in which they were named.
    ///
    /// # Errors
    /// A graph that fails on these values.
    pub fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), InferError> {
        self.0.run(inputs, outputs)
    }
}

/// Threads for what runs on tract; those of the int8 kernels are their own.
#[cfg(feature = "f32")]
fn executor(threads: usize) -> Result<Option<multithread::Executor>, InferError> {
    // tract panics where the system has no threads left.
    (threads > 1)
        .then(|| quietly(|| multithread::Executor::multithread(threads)))
        .transpose()
        .map_err(|message| InferError::Threads { threads, message })
}

/// A program for a board has none: every product of tract's would be there a second time, for threads, and only a bundle
/// without int8 graphs would notice.
#[cfg(not(feature = "f32"))]
#[allow(clippy::unnecessary_wraps)]
fn executor(_threads: usize) -> Result<Option<multithread::Executor>, InferError> {
    Ok(None)
}

/// Runs `work` on the pool, if there is one.
fn on<T>(executor: Option<&multithread::Executor>, work: impl FnOnce() -> T) -> T {
    match executor {
        Some(pool) => multithread::multithread_tract_scope(pool.clone(), work),
        None => work(),
    }
}

impl FollowNetwork for TractNetwork {
    type Error = InferError;

    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<(), InferError> {
        let graph = &mut self.template;
        on(self.executor.as_ref(), || {
            graph.run(&[crop_chw], &mut [&mut out.features, &mut out.embedding])
        })
    }

    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<(), InferError> {
        let graph = &mut self.search;
        on(self.executor.as_ref(), || {
            graph.run(
                &[crop_chw, first, latest],
                &mut [
                    &mut out.score,
                    &mut out.box_ltrb_px,
                    std::slice::from_mut(&mut out.presence),
                    &mut out.embedding,
                ],
            )
        })
    }

    fn samples(&mut self, layer: usize, take: &mut dyn FnMut(&[u8])) {
        self.search.layers.samples(layer, take);
    }

    fn adjust(&mut self, layer: usize, adjustments: &[Adjustment]) -> Result<(), InferError> {
        for graph in [&self.template, &self.search] {
            graph.layers.adjust(&graph.file, layer, adjustments)?;
        }
        Ok(())
    }
}
