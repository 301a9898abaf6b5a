//! What a bundle holds beside the two graphs that follow: proposals, familiarity, where the source lay.

use roadhound_edge::config::read_adapt;
use roadhound_edge::familiarity::Familiarity;
use roadhound_edge::infer::{InferError, Int8, TractProposer};
use roadhound_edge::int8::Path;
use roadhound_shared::adapt::{AdaptConfig, LayerStatistics, SourceStatistics};
use roadhound_shared::contract::Probe;
use roadhound_shared::familiarity::{
    AlarmConfig, FamiliarityContract, FamiliarityNetwork, FamiliarityProbe, Look,
};
use roadhound_shared::frame::{FrameView, PixelFormat, Timestamp};
use roadhound_shared::preprocess::CropSize;
use roadhound_shared::propose::{
    ProposeContract, ProposeNetwork, ProposeOutputs, ProposeProbe, ProposeSizes,
};
use roadhound_trainer::export::onnx::{Attribute, GraphBuilder};

use super::{Zeros, contract, shipped, with_files};

/// Of both small networks.
const SIDE_PX: u32 = 32;

fn propose_contract() -> Option<ProposeContract> {
    ProposeContract::new(ProposeSizes {
        input: CropSize {
            width_px: SIDE_PX,
            height_px: SIDE_PX,
        },
        stride_px: 16,
        embedding_size: 2,
    })
    .ok()
}

fn familiarity_contract() -> Option<FamiliarityContract> {
    let input = CropSize {
        width_px: SIDE_PX,
        height_px: SIDE_PX,
    };
    FamiliarityContract::new(input, AlarmConfig::default()).ok()
}

impl ProposeNetwork for Zeros {
    type Error = std::convert::Infallible;

    fn propose(&mut self, _: &[f32], _: &mut ProposeOutputs) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl FamiliarityNetwork for Zeros {
    type Error = std::convert::Infallible;

    fn look(&mut self, _: &[f32]) -> Result<Look, Self::Error> {
        let (error, distance) = (0.0, 0.0);
        Ok(Look { error, distance })
    }
}

// ---- probes

/// A probe of any of the graphs: compared with a network of zeros, it agrees or says in one line what differs.
pub(super) fn probe(data: &[u8]) {
    let mut said = Vec::new();
    if let (Ok(probe), Some(contract)) = (serde_json::from_slice::<Probe>(data), contract()) {
        said.push(probe.replay(&mut Zeros, &contract));
    }
    if let (Ok(probe), Some(contract)) = (
        serde_json::from_slice::<ProposeProbe>(data),
        propose_contract(),
    ) {
        said.push(probe.replay(&mut Zeros, &contract));
    }
    if let (Ok(probe), Some(contract)) = (
        serde_json::from_slice::<FamiliarityProbe>(data),
        familiarity_contract(),
    ) {
        said.push(probe.replay(&mut Zeros, &contract));
    }
    for error in said.into_iter().filter_map(Result::err) {
        assert!(!error.to_string().contains('\n'), "two lines: {error}");
    }
}

pub(super) fn probe_seeds() -> Vec<Vec<u8>> {
    [
        "probe.json",
        "probe.propose.int8.json",
        "probe.familiarity.json",
    ]
    .map(shipped)
    .to_vec()
}

// ---- where the source lay, and what `--adapt` is told

/// Statistics that are accepted are numbers that a program can divide by; what is said of adapting can be written again.
pub(super) fn adaptation(data: &[u8]) {
    if let Ok(source) = serde_json::from_slice::<SourceStatistics>(data) {
        match source.validate() {
            Ok(()) => {
                let mut deviations = source.layers.iter().flat_map(|layer| &layer.deviation);
                assert!(deviations.all(|d| d.is_finite() && *d > 0.0));
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "two lines: {error}"),
        }
    }
    with_files(&[("adapt.toml", data)], |folder| {
        match read_adapt(&folder.join("adapt.toml")) {
            Ok(config) => {
                let written = toml::to_string(&config).expect("what was read can be written");
                with_files(&[("again.toml", written.as_bytes())], |folder| {
                    assert_eq!(read_adapt(&folder.join("again.toml")), Ok(config));
                });
            }
            Err(line) => assert!(
                line.contains("adapt.toml") && !line.contains('\n'),
                "{line}"
            ),
        }
    });
}

pub(super) fn adaptation_seeds() -> Vec<Vec<u8>> {
    let source = SourceStatistics {
        crops: 100,
        layers: vec![LayerStatistics {
            tensor: "c4".into(),
            mean: vec![0.5, -1.0],
            deviation: vec![1.0, 0.25],
        }],
    };
    vec![
        serde_json::to_vec(&source).unwrap_or_default(),
        toml::to_string(&AdaptConfig::default())
            .unwrap_or_default()
            .into_bytes(),
    ]
}

// ---- graphs

/// A graph that is loaded runs, and one that is not says why in one line.
pub(super) fn onnx_propose(data: &[u8]) {
    let Some(contract) = propose_contract() else {
        return;
    };
    match TractProposer::load(&contract, data, 1, Int8::Kernels(Path::detect())) {
        Ok(mut network) => {
            let mut out = ProposeOutputs::for_contract(&contract);
            let frame = vec![0.5; 3 * (SIDE_PX * SIDE_PX) as usize];
            let _ = network.propose(&frame, &mut out);
        }
        Err(line) => assert!(!line.to_string().contains('\n'), "{line}"),
    }
}

/// The largest of each cell, and of that a few sums.
pub(super) fn onnx_propose_seeds() -> Vec<Vec<u8>> {
    let Some(contract) = propose_contract() else {
        return Vec::new();
    };
    let tensors = &contract.tensors;
    let g = &mut GraphBuilder::new("seed");
    g.input(&tensors.frame.name, &tensors.frame.shape);
    let cells = vec![
        Attribute::Ints("kernel_shape", &[16, 16]),
        Attribute::Ints("strides", &[16, 16]),
    ];
    let cells = g.node("MaxPool", &[&tensors.frame.name], cells);
    for spec in [&tensors.score, &tensors.box_ltrb_px, &tensors.embedding] {
        let sums = sums(g, &cells, spec.shape[1]);
        g.output(&spec.name, &sums, &spec.shape);
    }
    vec![std::mem::replace(g, GraphBuilder::new("")).finish(&[])]
}

/// A 1x1 convolution of three channels to so many.
fn sums(g: &mut GraphBuilder, x: &str, channels: usize) -> String {
    let weights: Vec<f32> = (0..3 * channels).map(|k| (k % 7) as f32 / 8.0).collect();
    let weights = g.floats(&[channels, 3, 1, 1], &weights);
    let bias = g.floats(&[channels], &vec![0.25; channels]);
    g.node("Conv", &[x, &weights, &bias], vec![])
}

/// As of proposals; and what the graph says of a frame is taken in.
pub(super) fn onnx_familiarity(data: &[u8]) {
    let Some(contract) = familiarity_contract() else {
        return;
    };
    match Familiarity::load(data, &contract) {
        Ok(mut network) => {
            let pixels = [100; 24 * 16];
            let Ok(frame) = FrameView::packed(PixelFormat::Grey8, 24, 16, 24, &pixels) else {
                return;
            };
            for at in [0, 1_000_000] {
                let _ = network.look(&frame, Timestamp(at));
            }
        }
        Err(line) => assert!(!line.to_string().contains('\n'), "{line}"),
    }
}

/// The mean of a frame, and of that a sum each.
pub(super) fn onnx_familiarity_seeds() -> Vec<Vec<u8>> {
    let Some(contract) = familiarity_contract() else {
        return Vec::new();
    };
    let tensors = &contract.tensors;
    let g = &mut GraphBuilder::new("seed");
    g.input(&tensors.frame.name, &tensors.frame.shape);
    let mean = g.node("GlobalAveragePool", &[&tensors.frame.name], vec![]);
    for spec in [&tensors.error, &tensors.distance] {
        let sum = sums(g, &mean, 1);
        let flat = g.node("Flatten", &[&sum], vec![]);
        g.output(&spec.name, &flat, &spec.shape);
    }
    vec![std::mem::replace(g, GraphBuilder::new("")).finish(&[])]
}

/// Loads the seeds of both: mutations of what is refused at once would show nothing.
///
/// # Errors
/// Why one is refused.
pub fn load_seeds() -> Result<(), InferError> {
    for seed in onnx_propose_seeds() {
        let contract = propose_contract();
        contract.map_or(Ok(()), |contract| {
            TractProposer::load(&contract, &seed, 1, Int8::Stock).map(|_| ())
        })?;
    }
    for seed in onnx_familiarity_seeds() {
        let contract = familiarity_contract();
        contract.map_or(Ok(()), |contract| {
            Familiarity::load(&seed, &contract).map(|_| ())
        })?;
    }
    Ok(())
}
