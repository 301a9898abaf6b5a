//! [`crate::int8`] as an operator of tract: a region on its way to a program, the program, and the addition that stock
//! tract does not know.

use std::sync::{Arc, Mutex, PoisonError};

use roadhound_shared::quantised::{QuantParams, QuantisedAdd};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

use super::observed::Observed;
use super::region::{Built, Region, Rejection};
use crate::int8::{Path, Program, Sink, Source};

/// A region whose inputs' shapes tract is about to find out.
#[derive(Clone, Debug)]
pub(super) struct Unplanned {
    pub(super) region: Arc<Region>,
    pub(super) path: Path,
    pub(super) threads: usize,
    /// Layers to look into.
    pub(super) observed: Arc<Observed>,
    /// The node that could not be fused after all, for whoever tries again without it.
    pub(super) rejection: Arc<Mutex<Option<Rejection>>>,
}

impl Unplanned {
    /// As tract wants it.
    pub(super) fn into_op(self) -> Box<dyn InferenceOp> {
        expand(self)
    }

    fn build(&self, inputs: &[(Vec<usize>, bool)]) -> TractResult<Built> {
        self.region
            .build(inputs, &self.observed)
            .map_err(|rejection| self.reject(rejection))
    }

    fn reject(&self, rejection: Rejection) -> TractError {
        let error = format_err!("{}: {}", rejection.output, rejection.reason);
        *self
            .rejection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(rejection);
        error
    }
}

/// Bytes or numbers; anything else is not what a region reads.
fn is_bytes(datum_type: DatumType) -> TractResult<bool> {
    if datum_type == u8::datum_type() {
        Ok(true)
    } else if datum_type == f32::datum_type() {
        Ok(false)
    } else {
        bail!("an input is {datum_type:?}, expected f32 or u8")
    }
}

fn type_of(bytes: bool) -> DatumType {
    if bytes {
        u8::datum_type()
    } else {
        f32::datum_type()
    }
}

impl Expansion for Unplanned {
    fn name(&self) -> StaticName {
        "Int8Region".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.region.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        solver.given_all(
            inputs.iter().map(|i| &i.datum_type),
            move |solver, types| {
                solver.given_all(inputs.iter().map(|i| &i.shape), move |solver, shapes| {
                    let mut known = Vec::with_capacity(inputs.len());
                    for (shape, datum_type) in shapes.iter().zip(&types) {
                        let dims = shape.iter().map(|dim| Ok(dim.to_usize()?));
                        let dims = dims.collect::<TractResult<Vec<usize>>>()?;
                        known.push((dims, is_bytes(*datum_type)?));
                    }
                    let built = self.build(&known)?;
                    for (output, (dims, bytes)) in outputs.iter().zip(built.outputs) {
                        solver.equals(&output.datum_type, type_of(bytes))?;
                        let dims: TVec<TDim> = dims.iter().map(|d| d.to_dim()).collect();
                        solver.equals(&output.shape, dims)?;
                    }
                    Ok(())
                })
            },
        )
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut known = Vec::with_capacity(inputs.len());
        for input in inputs {
            let fact = model.outlet_fact(*input)?;
            let dims = fact.shape.as_concrete().context("a shape is not known")?;
            known.push((dims.to_vec(), is_bytes(fact.datum_type)?));
        }
        let built = self.build(&known)?;
        let products = built.graph.products();
        let program = built.graph.plan(self.path, self.threads);
        let program = program.map_err(|e| {
            // The plan is of the region as a whole: without the last node it is another one.
            self.reject(self.region.last(e.to_string()))
        })?;
        let mut buffers = Vec::with_capacity(built.outputs.len());
        for (dims, bytes) in &built.outputs {
            buffers.push(Arc::new(Tensor::zero_dt(type_of(*bytes), dims)?));
        }
        let op = Planned {
            products,
            layers: Arc::new(built.layers),
            facts: Arc::new(built.outputs),
            running: Arc::new(Mutex::new(Running { program, buffers })),
        };
        model.wire_node(prefix, op, inputs)
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }
}

/// A program as a node of a graph that runs.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// What a run multiplies.
    pub(super) products: u64,
    /// Of every convolution that the program lets others look into, which layer it is.
    pub(super) layers: Arc<Vec<usize>>,
    facts: Arc<Vec<(Vec<usize>, bool)>>,
    pub(super) running: Arc<Mutex<Running>>,
}

/// A program and its results.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) program: Program,
    /// The results of the last run, used again once nobody reads them.
    buffers: Vec<Arc<Tensor>>,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.running, &other.running)
    }
}
impl Eq for Planned {}

impl Op for Planned {
    fn name(&self) -> StaticName {
        "Int8Program".into()
    }
    op_as_typed_op!();
}

impl EvalOp for Planned {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.run(&inputs)
    }
}

impl Running {
    fn run(&mut self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let Self { program, buffers } = self;
        let mut sources: TVec<Source<'_>> = tvec![];
        for input in inputs {
            let view = input.try_as_plain_ram()?;
            sources.push(if input.datum_type() == u8::datum_type() {
                Source::U8(view.as_slice()?)
            } else {
                Source::F32(view.as_slice()?)
            });
        }
        for buffer in buffers.iter_mut() {
            if Arc::get_mut(buffer).is_none() {
                *buffer = Arc::new(Tensor::zero_dt(buffer.datum_type(), buffer.shape())?);
            }
        }
        let mut views = tvec![];
        for buffer in buffers.iter_mut() {
            let tensor = Arc::get_mut(buffer).context("a buffer is in use")?;
            let bytes = tensor.datum_type() == u8::datum_type();
            views.push((tensor.try_as_plain_ram_mut()?, bytes));
        }
        let mut sinks: TVec<Sink<'_>> = tvec![];
        for (view, bytes) in &mut views {
            sinks.push(if *bytes {
                Sink::U8(view.as_slice_mut()?)
            } else {
                Sink::F32(view.as_slice_mut()?)
            });
        }
        program.run(&sources, &mut sinks).map_err(TractError::msg)?;
        drop(sinks);
        drop(views);
        Ok(buffers
            .iter()
            .map(|buffer| TValue::from_const(buffer.clone()))
            .collect())
    }
}

impl TypedOp for Planned {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self
            .facts
            .iter()
            .map(|(dims, bytes)| type_of(*bytes).fact(dims))
            .collect())
    }
    as_op!();
}

/// `QLinearAdd`, which stock tract does not have, for where it is not part of a region.
pub(super) fn register_add(onnx: &mut tract_onnx::Onnx) {
    onnx.op_register
        .insert("QLinearAdd", |_, _| Ok((expand(AddOfFile), vec![])));
}

#[derive(Clone, Debug)]
struct AddOfFile;

impl Expansion for AddOfFile {
    fn name(&self) -> StaticName {
        "QLinearAdd".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        if inputs.len() != 8 || outputs.len() != 1 {
            bail!("{} inputs, expected 8", inputs.len());
        }
        solver.equals(&inputs[0].datum_type, u8::datum_type())?;
        solver.equals(&inputs[3].datum_type, u8::datum_type())?;
        solver.equals(&outputs[0].datum_type, u8::datum_type())?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)?;
        solver.equals(&inputs[3].shape, &outputs[0].shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        ensure!(inputs.len() == 8, "{} inputs, expected 8", inputs.len());
        let constant = |at: usize| {
            let fact = model.outlet_fact(inputs[at])?;
            let tensor = fact.konst.clone();
            let tensor = tensor.with_context(|| format!("input {at} is not a constant"))?;
            ensure!(tensor.len() == 1, "input {at} is not one number");
            Ok::<_, TractError>(tensor)
        };
        let params = |at: usize| {
            let scale = constant(at)?.cast_to_scalar::<f32>()?;
            let zero = constant(at + 1)?;
            ensure!(
                zero.datum_type() == u8::datum_type(),
                "input {} is not u8",
                at + 1
            );
            let zero = zero.cast_to_scalar::<u8>()?;
            QuantParams::new(scale, zero).map_err(TractError::msg)
        };
        let add = QuantisedAdd::new(params(1)?, params(4)?, params(6)?);
        model.wire_node(prefix, StockAdd(add), &[inputs[0], inputs[3]])
    }
}

#[derive(Clone, Debug, PartialEq)]
struct StockAdd(QuantisedAdd);
impl Eq for StockAdd {}

impl Op for StockAdd {
    fn name(&self) -> StaticName {
        "QLinearAdd".into()
    }
    op_as_typed_op!();
}

impl EvalOp for StockAdd {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (a, b) = args_2!(inputs);
        let mut sum = Tensor::zero::<u8>(a.shape())?;
        let a = a.try_as_plain_ram()?.as_slice::<u8>()?;
        let b = b.try_as_plain_ram()?.as_slice::<u8>()?;
        ensure!(a.len() == b.len(), "{} and {} bytes", a.len(), b.len());
        let mut view = sum.try_as_plain_ram_mut()?;
        for ((sum, a), b) in view.as_slice_mut::<u8>()?.iter_mut().zip(a).zip(b) {
            *sum = self.0.apply(*a, *b);
        }
        Ok(tvec!(sum.into_tvalue()))
    }
}

impl TypedOp for StockAdd {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2, "{} inputs, expected 2", inputs.len());
        Ok(tvec!(inputs[0].without_value()))
    }
    as_op!();
}
