//! The bundle: a folder with `bundle.toml`, the graphs and `probe.json`, written from a trained network.
//!
//! In: a network with its final weights and a [`Card`]. Out: a folder that `roadhound` accepts: every file hashed,
//! the probe's expected outputs recorded from the very network that was exported. The folder is put together beside
//! its place and renamed, so a reader never sees half a bundle.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use roadhound_shared::adapt::{AdaptContract, SourceStatistics};
use roadhound_shared::contract::{
    BUNDLE_FORMAT, BundleManifest, Calibration, FileEntry, FollowContract, FollowSizes, GraphFiles,
    MANIFEST_FILE, PROBE_FILE, Probe, ProbeTolerance, Quantisation, Training,
};
use roadhound_shared::familiarity::FamiliarityContract;
use roadhound_shared::propose::probe::ProposeTolerance;
use roadhound_shared::propose::{ProposeContract, ProposeFiles, ProposeInt8, ProposeProbe};
use roadhound_shared::tracker::TrackerConfig;

use super::follow::{search_graph, template_graph};
use super::interpret::OnnxNetwork;
use super::propose::OnnxProposer;
use crate::model::TrackerNet;
use crate::network::CandleNetwork;
use crate::outputs;

/// What a bundle says about itself besides its tensors.
pub struct Card {
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// Licence of weights and data.
    pub licence: String,
    /// Constants of the tracker.
    pub tracker: TrackerConfig,
    /// Where the weights come from.
    pub training: Training,
    /// Scores by name.
    pub scores: BTreeMap<String, f64>,
    /// How presence was calibrated, where it was: the network has it folded in already.
    pub calibration: Option<Calibration>,
}

/// Seed of the probe's input.
pub(super) const PROBE_SEED: u64 = 20_261_123;

/// The tensor contract of a network.
pub fn contract_of(net: &TrackerNet) -> Result<FollowContract> {
    let config = net.config();
    let sizes = FollowSizes {
        template_px: config.template_px as u32,
        search_px: config.search_px as u32,
        stride_px: config.stride() as u32,
        object_px: config.template_px as u32 / 2,
        feature_channels: config.feature_channels,
        embedding_size: config.embedding,
    };
    Ok(FollowContract::new(sizes)?)
}

/// The graphs that an export of `net` would write, ready to run: a checkpoint scores as its bundle will.
pub fn graphs_of(net: &TrackerNet) -> Result<(OnnxNetwork, FollowContract)> {
    let contract = contract_of(net)?;
    let folded = net.folded()?;
    let (template, search) = (template_graph(&folded, &[]), search_graph(&folded, &[]));
    Ok((OnnxNetwork::new(&template, &search, &contract)?, contract))
}

/// Writes the bundle of `net` to `folder`, replacing what is there.
pub fn write(net: TrackerNet, card: Card, folder: &Path) -> Result<BundleManifest> {
    let contract = contract_of(&net)?;
    let folded = net.folded()?;
    let metadata = [
        ("licence", card.licence.as_str()),
        ("config_sha256", card.training.config_sha256.as_str()),
    ];
    let template = template_graph(&folded, &metadata);
    let search = search_graph(&folded, &metadata);
    let mut network = CandleNetwork::new(net, &Device::Cpu);
    let probe = Probe::capture(
        &mut network,
        &contract,
        PROBE_SEED,
        ProbeTolerance::default(),
    )?;
    // What was written must say what the network says: the graphs are run before they are shipped.
    let mut written = OnnxNetwork::new(&template, &search, &contract)?;
    probe
        .replay(&mut written, &contract)
        .context("the exported graphs differ from the network")?;
    let probe = serde_json::to_vec_pretty(&probe)?;

    let contents = [
        (contract.template_file.clone(), template),
        (contract.search_file.clone(), search),
        (PROBE_FILE.to_owned(), probe),
    ];
    let manifest = BundleManifest {
        format: BUNDLE_FORMAT,
        name: card.name,
        version: card.version,
        licence: card.licence,
        files: contents
            .iter()
            .map(|(name, bytes)| (name.clone(), FileEntry::of(bytes)))
            .collect(),
        follow: contract,
        tracker: card.tracker,
        quantisation: Quantisation::default(),
        training: card.training,
        scores: card.scores,
        calibration: card.calibration,
        propose: None,
        familiarity: None,
        adapt: None,
    };
    let text = manifest.to_toml()?;
    outputs::folder(
        folder,
        MANIFEST_FILE,
        contents
            .iter()
            .map(|(n, b)| (n.as_str(), b.as_slice()))
            .chain([(MANIFEST_FILE, text.as_bytes())]),
    )?;
    Ok(manifest)
}

/// Which of a bundle's graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GraphPrecision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Eight-bit integers, to the byte as on the board.
    Int8,
}

/// Both graphs of one precision.
pub struct Graphs {
    /// Bytes of the template graph.
    pub template: Vec<u8>,
    /// Bytes of the search graph.
    pub search: Vec<u8>,
    /// What they must give.
    pub probe: Probe,
    /// The same as the file has it.
    pub probe_json: Vec<u8>,
}

/// The graph that finds road users.
pub struct ProposeGraph {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it must give.
    pub probe: ProposeProbe,
    /// The same as the file has it.
    pub probe_json: Vec<u8>,
}

/// The graph that tells whether a frame is like those that were learned.
pub struct FamiliarityGraph {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it must give, as the file has it.
    pub probe_json: Vec<u8>,
}

/// A bundle's manifest and files, hashes checked; the graphs have not been looked at.
pub struct BundleFiles {
    /// `bundle.toml`.
    pub manifest: BundleManifest,
    /// In f32.
    pub f32: Graphs,
    /// In eight bits, where the bundle holds them.
    pub int8: Option<Graphs>,
    /// Where the bundle finds road users.
    pub propose: Option<ProposeGraph>,
    /// The same in eight bits, where the bundle holds that.
    pub propose_int8: Option<ProposeGraph>,
    /// Where the bundle knows what the camera should show.
    pub familiarity: Option<FamiliarityGraph>,
    /// Where the board may adapt from, as the file has it.
    pub adapt: Option<Vec<u8>>,
}

/// Reads a bundle's files and checks the manifest and every hash.
pub fn read(folder: &Path) -> Result<BundleFiles> {
    let shown = || format!("{}", folder.display());
    let named = |name: &str| format!("{}", folder.join(name).display());
    let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| named(name));
    let text = String::from_utf8(read(MANIFEST_FILE)?).with_context(|| named(MANIFEST_FILE))?;
    let manifest = BundleManifest::parse(&text).with_context(|| named(MANIFEST_FILE))?;
    let mut contents = BTreeMap::new();
    for name in manifest.files.keys() {
        let bytes = read(name)?;
        manifest.verify_file(name, &bytes).with_context(shown)?;
        contents.insert(name.as_str(), bytes);
    }
    let file = |name: &str| {
        let bytes = contents.get(name).cloned();
        bytes.with_context(|| format!("{}: not listed in {MANIFEST_FILE}", named(name)))
    };
    let graphs = |files: GraphFiles<'_>| -> Result<Graphs> {
        let probe_json = file(files.probe)?;
        Ok(Graphs {
            template: file(files.template)?,
            search: file(files.search)?,
            probe: serde_json::from_slice(&probe_json).with_context(|| named(files.probe))?,
            probe_json,
        })
    };
    let propose = |files: ProposeFiles<'_>| -> Result<ProposeGraph> {
        let probe_json = file(files.probe)?;
        let probe = serde_json::from_slice(&probe_json);
        Ok(ProposeGraph {
            bytes: file(files.graph)?,
            probe: probe.with_context(|| named(files.probe))?,
            probe_json,
        })
    };
    let contract = manifest.propose.as_ref();
    let (plain, int8) = (
        contract.map(ProposeContract::f32_files),
        contract.and_then(ProposeContract::int8_files),
    );
    let familiarity = |contract: &FamiliarityContract| -> Result<FamiliarityGraph> {
        Ok(FamiliarityGraph {
            bytes: file(&contract.file)?,
            probe_json: file(&contract.probe_file)?,
        })
    };
    Ok(BundleFiles {
        f32: graphs(manifest.f32_files())?,
        int8: manifest.int8_files().map(graphs).transpose()?,
        propose: plain.map(propose).transpose()?,
        propose_int8: int8.map(propose).transpose()?,
        familiarity: manifest.familiarity.as_ref().map(familiarity).transpose()?,
        adapt: manifest.adapt.as_ref().map(|a| file(&a.file)).transpose()?,
        manifest,
    })
}

/// Writes a bundle's files and its manifest, which lists them, and others that only people read.
///
/// # Errors
/// A manifest that does not fit its files; a folder that cannot be written.
pub(crate) fn write_files(
    files: &BundleFiles,
    others: &[(&str, &[u8])],
    folder: &Path,
) -> Result<()> {
    let manifest = &files.manifest;
    let mut contents: Vec<(&str, &[u8])> = Vec::new();
    let int8 = manifest.int8_files().zip(files.int8.as_ref());
    for (names, graphs) in [(manifest.f32_files(), &files.f32)].into_iter().chain(int8) {
        contents.push((names.template, &graphs.template));
        contents.push((names.search, &graphs.search));
        contents.push((names.probe, &graphs.probe_json));
    }
    if let Some(contract) = &manifest.propose {
        let plain = Some(contract.f32_files()).zip(files.propose.as_ref());
        let int8 = contract.int8_files().zip(files.propose_int8.as_ref());
        for (names, graph) in plain.into_iter().chain(int8) {
            contents.push((names.graph, &graph.bytes));
            contents.push((names.probe, &graph.probe_json));
        }
    }
    if let (Some(contract), Some(graph)) = (&manifest.familiarity, &files.familiarity) {
        contents.push((&contract.file, &graph.bytes));
        contents.push((&contract.probe_file, &graph.probe_json));
    }
    if let (Some(contract), Some(bytes)) = (&manifest.adapt, &files.adapt) {
        contents.push((&contract.file, bytes));
    }
    for (name, bytes) in &contents {
        manifest.verify_file(name, bytes)?;
    }
    let text = manifest.to_toml()?;
    let last = [(MANIFEST_FILE, text.as_bytes())];
    let all = contents.into_iter().chain(others.iter().copied());
    outputs::folder(folder, MANIFEST_FILE, all.chain(last))
}

/// Reads a bundle: checks the manifest, every hash and the probe, and gives a network that runs its graphs.
pub fn load(folder: &Path, precision: GraphPrecision) -> Result<(OnnxNetwork, BundleManifest)> {
    let shown = || format!("{}", folder.display());
    let BundleFiles {
        manifest,
        f32,
        int8,
        ..
    } = read(folder)?;
    let graphs = match precision {
        GraphPrecision::F32 => f32,
        GraphPrecision::Int8 => int8.with_context(|| {
            format!(
                "{}: the bundle has no int8 graphs; `roadhound-train quantise` makes them",
                folder.display()
            )
        })?,
    };
    let contract = &manifest.follow;
    let mut network =
        OnnxNetwork::new(&graphs.template, &graphs.search, contract).with_context(shown)?;
    graphs
        .probe
        .replay(&mut network, contract)
        .with_context(shown)?;
    Ok((network, manifest))
}

/// Gives a bundle int8 graphs beside the f32 ones that it follows with.
///
/// # Errors
/// Graphs that do not run.
pub fn set_int8(from: &mut BundleFiles, [template, search]: [Vec<u8>; 2]) -> Result<()> {
    let manifest = &mut from.manifest;
    let mut network = OnnxNetwork::new(&template, &search, &manifest.follow)?;
    let (contract, tolerance) = (&manifest.follow, ProbeTolerance::default());
    let probe = Probe::capture(&mut network, contract, PROBE_SEED, tolerance)?;
    let own =
        |files: GraphFiles<'_>| [files.template, files.search, files.probe].map(str::to_owned);
    for stale in manifest.int8_files().map(own).into_iter().flatten() {
        manifest.files.remove(&stale);
    }
    // Where sums lay is told of the graphs of before.
    if let Some(stale) = manifest.adapt.take() {
        manifest.files.remove(&stale.file);
    }
    from.adapt = None;
    manifest.quantisation = Quantisation::int8();
    let names = manifest
        .int8_files()
        .map(own)
        .context("no names for the int8 graphs")?;
    let probe_json = serde_json::to_vec_pretty(&probe)?;
    for (name, bytes) in names.into_iter().zip([&template, &search, &probe_json]) {
        manifest.files.insert(name, FileEntry::of(bytes));
    }
    from.int8 = Some(Graphs {
        template,
        search,
        probe,
        probe_json,
    });
    Ok(())
}

/// Gives a bundle where the sums of its int8 graphs lie on the source.
///
/// # Errors
/// Numbers that cannot be written.
pub fn set_statistics(to: &mut BundleFiles, statistics: &SourceStatistics) -> Result<()> {
    let bytes = serde_json::to_vec(statistics)?;
    let contract = AdaptContract::default();
    let entry = FileEntry::of(&bytes);
    to.manifest.files.insert(contract.file.clone(), entry);
    to.manifest.adapt = Some(contract);
    to.adapt = Some(bytes);
    Ok(())
}

/// Gives a bundle an int8 graph beside the f32 one that it finds road users with.
///
/// # Errors
/// A bundle without the f32 graph; a graph that does not run.
pub fn set_propose_int8(from: &mut BundleFiles, bytes: Vec<u8>) -> Result<()> {
    let contract = from.manifest.propose.as_ref();
    let contract = contract.context("the bundle has no propose.onnx")?;
    let mut network = OnnxProposer::new(&bytes, contract)?;
    let tolerance = ProposeTolerance::default();
    let probe = ProposeProbe::capture(&mut network, contract, PROBE_SEED, tolerance)?;
    let probe_json = serde_json::to_vec_pretty(&probe)?;
    remove_propose_int8(&mut from.manifest);
    let names = ProposeInt8::default();
    for (name, bytes) in [(&names.file, &bytes), (&names.probe_file, &probe_json)] {
        let entry = FileEntry::of(bytes);
        from.manifest.files.insert(name.clone(), entry);
    }
    if let Some(contract) = &mut from.manifest.propose {
        contract.int8 = Some(names);
    }
    from.propose_int8 = Some(ProposeGraph {
        bytes,
        probe,
        probe_json,
    });
    Ok(())
}

/// Gives the bundle in `folder` whatever else `from` has beside the graphs that follow: proposals in all precisions, and
/// what it may expect to see. Those have backbones of their own, and know nothing of the graphs that follow.
///
/// # Errors
/// A bundle that cannot be read or written.
pub fn carry_others(from: BundleFiles, folder: &Path) -> Result<()> {
    let mut to = read(folder)?;
    let mut names: Vec<String> = Vec::new();
    if let Some(contract) = &from.manifest.propose {
        for files in std::iter::once(contract.f32_files()).chain(contract.int8_files()) {
            names.extend([files.graph, files.probe].map(str::to_owned));
        }
    }
    if let Some(contract) = &from.manifest.familiarity {
        names.extend([contract.file.clone(), contract.probe_file.clone()]);
    }
    for name in names {
        let entry = from.manifest.files.get(&name);
        let entry = entry.with_context(|| format!("{name}: not listed in bundle.toml"))?;
        to.manifest.files.insert(name, entry.clone());
    }
    to.manifest.propose = from.manifest.propose;
    to.manifest.familiarity = from.manifest.familiarity;
    (to.propose, to.propose_int8) = (from.propose, from.propose_int8);
    to.familiarity = from.familiarity;
    write_files(&to, &[], folder)
}

/// Takes the int8 graph for road users out of a manifest, if it is there.
pub(super) fn remove_propose_int8(manifest: &mut BundleManifest) {
    let int8 = manifest.propose.as_mut().and_then(|p| p.int8.take());
    for name in int8.into_iter().flat_map(|i| [i.file, i.probe_file]) {
        manifest.files.remove(&name);
    }
}

/// Writes a bundle with the graphs that it has been given, and reports that only people read, by name.
///
/// # Errors
/// A manifest that does not fit its files; a folder that cannot be written.
pub fn write_quantised(
    from: BundleFiles,
    reports: &[(&str, String)],
    folder: &Path,
) -> Result<BundleManifest> {
    let reports: Vec<(&str, &[u8])> = reports
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()))
        .collect();
    write_files(&from, &reports, folder)?;
    Ok(from.manifest)
}
