//! `propose.onnx` on tract, by the same ways as the graphs that follow.

use roadhound_shared::propose::{ProposeContract, ProposeNetwork, ProposeOutputs};
use tract_onnx::prelude::multithread;

use super::{Computing, Graph, InferError, Int8, executor, on};

/// The graph that finds road users on a whole frame, ready to run.
pub struct TractProposer {
    graph: Graph,
    executor: Option<multithread::Executor>,
}

impl TractProposer {
    /// Loads and optimises the graph. The bytes may be dropped afterwards.
    ///
    /// # Errors
    /// A file that is no ONNX graph, or one whose inputs and outputs are not those of the contract.
    pub fn load(
        contract: &ProposeContract,
        bytes: &[u8],
        threads: usize,
        int8: Int8,
    ) -> Result<Self, InferError> {
        let t = &contract.tensors;
        let outputs = [&t.score, &t.box_ltrb_px, &t.embedding];
        let computing = Computing::plain(int8, threads);
        let graph = Graph::load(&contract.file, bytes, &[&t.frame], &outputs, &computing)?;
        let executor = executor(threads)?;
        Ok(Self { graph, executor })
    }

    /// What the kernels of [`crate::int8`] multiply in a run.
    pub fn int8_products(&self) -> u64 {
        self.graph.int8_products
    }
}

impl ProposeNetwork for TractProposer {
    type Error = InferError;

    fn propose(&mut self, frame_chw: &[f32], out: &mut ProposeOutputs) -> Result<(), InferError> {
        let graph = &mut self.graph;
        on(self.executor.as_ref(), || {
            graph.run(
                &[frame_chw],
                &mut [&mut out.score, &mut out.box_ltrb_px, &mut out.embedding],
            )
        })
    }
}
