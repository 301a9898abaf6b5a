//! Whether the camera shows what was learned: `familiarity.onnx` on tract, a look every now and then.
//!
//! Enters: a frame and its time. Leaves: a [`Looked`] where it was time to look. Without the graph in the bundle there is
//! none of this.

use roadhound_shared::contract::ProbeError;
use roadhound_shared::familiarity::{
    FamiliarityContract, FamiliarityNetwork, FamiliarityProbe, FamiliarityWatch, Health, Look,
    frame_tensor,
};
use roadhound_shared::frame::{FrameView, Timestamp};
use roadhound_shared::preprocess::CropScratch;

use crate::infer::{InferError, LoneGraph};

/// What the last look said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Looked {
    /// Of the frame.
    pub look: Look,
    /// Of the last seconds.
    pub health: Health,
    /// Whether an alarm began with this look.
    pub is_new: bool,
}

/// The graph as the contract describes it.
struct Network {
    graph: LoneGraph,
}

impl Network {
    fn load(bytes: &[u8], contract: &FamiliarityContract) -> Result<Self, InferError> {
        let tensors = &contract.tensors;
        let outputs = [&tensors.error, &tensors.distance];
        let graph = LoneGraph::load(&contract.file, bytes, &[&tensors.frame], &outputs)?;
        Ok(Self { graph })
    }
}

impl FamiliarityNetwork for Network {
    type Error = InferError;

    fn look(&mut self, frame_chw: &[f32]) -> Result<Look, InferError> {
        let (mut error, mut distance) = ([0.0], [0.0]);
        self.graph
            .run(&[frame_chw], &mut [&mut error, &mut distance])?;
        Ok(Look {
            error: error[0],
            distance: distance[0],
        })
    }
}

/// The graph, its state machine and its buffers.
pub struct Familiarity {
    network: Network,
    contract: FamiliarityContract,
    watch: FamiliarityWatch,
    scratch: CropScratch,
    frame: Vec<f32>,
}

impl Familiarity {
    /// Loads and optimises the graph; [`Familiarity::replay`] compares it with its probe.
    ///
    /// # Errors
    /// A graph that is not the one that the contract describes.
    pub fn load(bytes: &[u8], contract: &FamiliarityContract) -> Result<Self, InferError> {
        Ok(Self {
            network: Network::load(bytes, contract)?,
            contract: contract.clone(),
            watch: FamiliarityWatch::new(contract.alarm),
            scratch: CropScratch::default(),
            frame: vec![0.0; contract.input_len()],
        })
    }

    /// What the graph says of the frames of a probe.
    ///
    /// # Errors
    /// A graph that fails on one.
    pub fn probe(&mut self, seed: u64) -> Result<FamiliarityProbe, InferError> {
        FamiliarityProbe::capture(&mut self.network, &self.contract, seed)
    }

    /// Compares the graph with its probe.
    ///
    /// # Errors
    /// The first answer that differs.
    pub fn replay(&mut self, probe: &FamiliarityProbe) -> Result<(), ProbeError> {
        probe.replay(&mut self.network, &self.contract)
    }

    /// Whether it is time to look.
    pub fn is_due(&self, at: Timestamp) -> bool {
        self.watch.is_due(at)
    }

    /// Looks at a frame that was taken `at`.
    ///
    /// # Errors
    /// A frame without area; a graph that fails on it. Both as text.
    pub fn look(&mut self, frame: &FrameView<'_>, at: Timestamp) -> Result<Looked, String> {
        frame_tensor(frame, &self.contract, &mut self.scratch, &mut self.frame)
            .map_err(|e| e.to_string())?;
        let look = self.network.look(&self.frame).map_err(|e| e.to_string())?;
        let before = self.watch.health();
        let health = self.watch.accept(look.distance, at);
        Ok(Looked {
            look,
            health,
            is_new: health.is_alarm() && !before.is_alarm(),
        })
    }
}
