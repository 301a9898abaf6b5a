//! From a bundle folder, or the one built in, to a network that is known to compute the right thing.
//!
//! Every file that the manifest lists is compared with its SHA-256, the graphs with the tensor contract, and the
//! probe's input is run and its outputs compared, before the first frame is looked at. What does not match is
//! refused by name.
//!
//! ```no_run
//! use roadhound_edge::bundle::{Model, ModelSource, Precision};
//! let model = Model::open(&ModelSource::Folder("edge/models/roadhound-s".into()), Some(Precision::F32), 1)?;
//! println!("{} {}", model.manifest.name, model.manifest.version);
//! # Ok::<(), roadhound_edge::bundle::BundleError>(())
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use roadhound_shared::adapt::{AdaptConfig, Adapter, SourceStatistics};
use roadhound_shared::contract::{
    BundleManifest, ContractError, FollowContract, GraphFiles, MANIFEST_FILE, Probe, ProbeError,
};
use roadhound_shared::familiarity::FamiliarityProbe;
use roadhound_shared::limits::LimitError;
use roadhound_shared::propose::contract::ProposeFiles;
use roadhound_shared::propose::{ProposeContract, ProposeProbe};

use crate::embedded;
use crate::familiarity::Familiarity;
use crate::infer::{InferError, Int8, TractNetwork, TractProposer};
use crate::int8;

/// No manifest is longer than this.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// No file of a bundle is longer than this.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Where a bundle comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// The one inside the program.
    BuiltIn,
    /// A folder with a `bundle.toml`.
    Folder(PathBuf),
}

/// How the network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// Eight-bit integers.
    Int8,
    /// 32-bit floating point.
    F32,
}

/// Why a bundle was refused: where it is and what does not match.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BundleError {
    /// The file or folder at fault.
    pub place: String,
    /// What is wrong with it.
    pub reason: Box<BundleReason>,
}

/// What is wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleReason {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The manifest is wrong, or a file is not the one it lists.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// A graph is not the one the manifest describes.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The probe cannot be read.
    #[error("not a probe: {0}")]
    ProbeFormat(serde_json::Error),
    /// The network computes something else than it did when it was exported.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A file is too large to be part of a bundle.
    #[error("{found} bytes, at most {most} are read")]
    TooLarge {
        /// Its length.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// The text is not UTF-8.
    #[error("not text")]
    NotText,
    /// A program for a board was built without this file.
    #[error("left out of this program; a bundle in a folder has it")]
    LeftOut,
    /// Integer arithmetic was asked for.
    #[error("--precision int8: this model has no int8 graphs, only f32")]
    NoInt8,
    /// Road users were to be found, and the bundle only follows.
    #[error(
        "this model finds no road users by itself, it has no table [propose]: `roadhound-train propose` and `export` add one"
    )]
    NoProposals,
    /// Somebody asked whether the camera shows what was learned, and the bundle does not know what that is.
    #[error(
        "this model has no table [familiarity], which --familiarity needs: `roadhound-train familiarity --bundle` adds one"
    )]
    NoFamiliarity,
    /// Normalisation was to follow the camera, and nobody knows where it starts from.
    #[error(
        "this model has no table [adapt], which --adapt needs: `roadhound-train statistics` adds one"
    )]
    NoStatistics,
    /// Normalisation was to follow the camera in f32.
    #[error("--adapt works in int8, and this is f32")]
    AdaptsInInt8,
    /// Where the source lay cannot be read.
    #[error("not statistics of a source: {0}")]
    StatisticsFormat(serde_json::Error),
    /// A constant of adaptation cannot be.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The environment asks for kernels that there are not.
    #[error(transparent)]
    Path(#[from] int8::UnknownPath),
}

/// A verified model, ready to run.
pub struct Model {
    /// What the bundle says about itself.
    pub manifest: BundleManifest,
    /// Its two graphs.
    pub network: TractNetwork,
    /// How they compute.
    pub precision: Precision,
    /// How long loading, optimising and the probe took.
    pub start_up: StartUp,
}

/// Times of the steps from files to a verified network.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartUp {
    /// Reading files and comparing hashes.
    pub verify: Duration,
    /// Parsing and optimising the graphs.
    pub load: Duration,
    /// Replaying the probe.
    pub probe: Duration,
}

impl Model {
    /// Opens, verifies and probes a bundle, to follow. Without a precision it computes in int8 where the bundle can, else in
    /// f32; [`int8::PATH_VARIABLE`] may name other kernels than the fastest.
    ///
    /// # Errors
    /// The first thing that does not match, with the file it was found in.
    pub fn open(
        source: &ModelSource,
        precision: Option<Precision>,
        threads: usize,
    ) -> Result<Self, BundleError> {
        Bundle::read(source, precision)?.follower(threads)
    }
}

/// A verified graph that finds road users, ready to run.
pub struct ProposeModel {
    /// What trainer and edge agree on about it.
    pub contract: ProposeContract,
    /// The graph.
    pub network: TractProposer,
    /// How it computes.
    pub precision: Precision,
}

impl ProposeModel {
    /// As [`Model::open`], to find road users.
    ///
    /// # Errors
    /// Those of [`Model::open`], or a bundle that only follows.
    pub fn open(
        source: &ModelSource,
        precision: Option<Precision>,
        threads: usize,
    ) -> Result<Self, BundleError> {
        Bundle::read(source, precision)?.proposer_or_refuse(threads)
    }
}

/// The files of a bundle, each compared with the hash that the manifest has for it.
pub struct Bundle<'a> {
    files: Files<'a>,
    manifest: BundleManifest,
    precision: Precision,
    kernels: int8::Path,
    /// Graphs and probes of that precision, by name.
    bytes: BTreeMap<String, Cow<'static, [u8]>>,
    verify: Duration,
}

impl<'a> Bundle<'a> {
    /// Reads and verifies. All files are: a bundle is whole or it is refused. Of the built-in model, only the files that are
    /// used: what nobody reads need not be in memory. What finds road users, [`Bundle::proposer`] verifies.
    ///
    /// # Errors
    /// The first thing that does not match, with the file it was found in.
    pub fn read(
        source: &'a ModelSource,
        precision: Option<Precision>,
    ) -> Result<Self, BundleError> {
        let files = Files::of(source);
        let started = Instant::now();
        let manifest_text = files.read(MANIFEST_FILE, MAX_MANIFEST_BYTES)?;
        let manifest = std::str::from_utf8(&manifest_text)
            .map_err(|_| BundleReason::NotText)
            .and_then(|text| Ok(BundleManifest::parse(text)?))
            .map_err(|reason| files.at(MANIFEST_FILE, reason))?;
        let (precision, graphs) = match (precision, manifest.int8_files()) {
            (Some(Precision::F32), _) | (None, None) => (Precision::F32, manifest.f32_files()),
            (Some(Precision::Int8) | None, Some(graphs)) => (Precision::Int8, graphs),
            (Some(Precision::Int8), None) => return Err(files.at("", BundleReason::NoInt8)),
        };
        let kernels = int8::Path::from_environment().map_err(|e| files.at("", e.into()))?;
        let mut used = vec![graphs.template, graphs.search, graphs.probe];
        let mut on_demand = Vec::new();
        if let Some(propose) = &manifest.propose {
            let files = propose_files(propose, precision).1;
            on_demand.extend([files.graph, files.probe]);
        }
        if let Some(familiarity) = &manifest.familiarity {
            on_demand.extend([&*familiarity.file, &familiarity.probe_file]);
        }
        used.extend(&on_demand);
        if let Some(adapt) = &manifest.adapt {
            used.push(&adapt.file);
        }
        let mut bytes = BTreeMap::new();
        for name in manifest.files.keys() {
            let is_used = used.contains(&name.as_str());
            let built_in = matches!(files, Files::BuiltIn(_));
            if files.leaves_out(name) || (built_in && !is_used) {
                continue;
            }
            let content = files.read(name, MAX_FILE_BYTES)?;
            // When somebody is looked for, or the lens is: who follows a given box does without their pages.
            let later = built_in && on_demand.contains(&name.as_str());
            if !later {
                manifest
                    .verify_file(name, &content)
                    .map_err(|e| files.at("", e.into()))?;
            }
            if is_used {
                bytes.insert(name.clone(), content);
            }
        }
        let verify = started.elapsed();
        Ok(Self {
            files,
            manifest,
            precision,
            kernels,
            bytes,
            verify,
        })
    }

    /// The graphs that follow, loaded and probed.
    ///
    /// # Errors
    /// A graph that is not the one the manifest describes.
    pub fn follower(&self, threads: usize) -> Result<Model, BundleError> {
        self.load(threads, None)
    }

    /// As [`Bundle::follower`], with an adapter that lets its normalisation follow the camera where `config` is there.
    ///
    /// # Errors
    /// As [`Bundle::follower`]; a bundle that does not know its source, or f32.
    pub fn adaptive_follower(
        &self,
        threads: usize,
        config: Option<&AdaptConfig>,
    ) -> Result<(Model, Option<Adapter>), BundleError> {
        let Some(config) = config else {
            return Ok((self.follower(threads)?, None));
        };
        let Some(contract) = &self.manifest.adapt else {
            return Err(self.files.at("", BundleReason::NoStatistics));
        };
        if self.precision == Precision::F32 {
            return Err(self.files.at("", BundleReason::AdaptsInInt8));
        }
        let refused = |reason| self.files.at(&contract.file, reason);
        let source: SourceStatistics = serde_json::from_slice(self.file(&contract.file)?)
            .map_err(|e| refused(BundleReason::StatisticsFormat(e)))?;
        source.validate().map_err(|e| refused(e.into()))?;
        let channels: Vec<usize> = source.layers.iter().map(|l| l.mean.len()).collect();
        let adapter = Adapter::new(*config, &channels).map_err(|e| refused(e.into()))?;
        Ok((self.load(threads, Some(&source))?, Some(adapter)))
    }

    fn load(
        &self,
        threads: usize,
        source: Option<&SourceStatistics>,
    ) -> Result<Model, BundleError> {
        let manifest = &self.manifest;
        let graphs = match (self.precision, manifest.int8_files()) {
            (Precision::Int8, Some(graphs)) => graphs,
            _ => manifest.f32_files(),
        };
        let probe: Probe = serde_json::from_slice(self.file(graphs.probe)?)
            .map_err(|e| self.files.at(graphs.probe, BundleReason::ProbeFormat(e)))?;
        let started = Instant::now();
        let contract = in_files(&manifest.follow, &graphs);
        let (template, search) = (self.file(graphs.template)?, self.file(graphs.search)?);
        let int8 = Int8::Kernels(self.kernels);
        let loaded = match source {
            None => TractNetwork::load_with(&contract, template, search, threads, int8),
            Some(source) => {
                TractNetwork::load_adaptive(&contract, template, search, threads, int8, source)
            }
        };
        let mut network = loaded.map_err(|e| self.files.at("", e.into()))?;
        let load = started.elapsed();
        let started = Instant::now();
        probe
            .replay(&mut network, &manifest.follow)
            .map_err(|e| self.files.at("", e.into()))?;
        Ok(Model {
            manifest: manifest.clone(),
            network,
            precision: self.precision,
            start_up: StartUp {
                verify: self.verify,
                load,
                probe: started.elapsed(),
            },
        })
    }

    /// The graph that finds road users, loaded and probed; `None` where the bundle only follows, or the program was built
    /// without that graph.
    ///
    /// # Errors
    /// A graph that is not the one the manifest describes.
    pub fn proposer(&self, threads: usize) -> Result<Option<ProposeModel>, BundleError> {
        let Some(contract) = &self.manifest.propose else {
            return Ok(None);
        };
        let (precision, files) = propose_files(contract, self.precision);
        if self.files.leaves_out(files.graph) {
            return Ok(None);
        }
        for name in [files.graph, files.probe] {
            let verified = self.manifest.verify_file(name, self.file(name)?);
            verified.map_err(|e| self.files.at("", e.into()))?;
        }
        let probe: ProposeProbe = serde_json::from_slice(self.file(files.probe)?)
            .map_err(|e| self.files.at(files.probe, BundleReason::ProbeFormat(e)))?;
        // The same tensors in this file, so that errors name it.
        let named = ProposeContract {
            file: files.graph.to_owned(),
            ..contract.clone()
        };
        let bytes = self.file(files.graph)?;
        let int8 = Int8::Kernels(self.kernels);
        let mut network = TractProposer::load(&named, bytes, threads, int8)
            .map_err(|e| self.files.at("", e.into()))?;
        probe
            .replay(&mut network, contract)
            .map_err(|e| self.files.at("", e.into()))?;
        Ok(Some(ProposeModel {
            contract: contract.clone(),
            network,
            precision,
        }))
    }

    /// What tells whether the camera shows what was learned, loaded and probed; `None` where the bundle does not know, or the
    /// program was built without that graph.
    ///
    /// # Errors
    /// A graph that is not the one the manifest describes.
    pub fn familiarity(&self) -> Result<Option<Familiarity>, BundleError> {
        let known = self.manifest.familiarity.as_ref();
        let Some(contract) = known.filter(|c| !self.files.leaves_out(&c.file)) else {
            return Ok(None);
        };
        for name in [&contract.file, &contract.probe_file] {
            let verified = self.manifest.verify_file(name, self.file(name)?);
            verified.map_err(|e| self.files.at("", e.into()))?;
        }
        let probe: FamiliarityProbe = serde_json::from_slice(self.file(&contract.probe_file)?)
            .map_err(|e| {
                self.files
                    .at(&contract.probe_file, BundleReason::ProbeFormat(e))
            })?;
        let mut familiarity = Familiarity::load(self.file(&contract.file)?, contract)
            .map_err(|e| self.files.at("", e.into()))?;
        familiarity
            .replay(&probe)
            .map_err(|e| self.files.at("", e.into()))?;
        Ok(Some(familiarity))
    }

    /// The same, for whoever was asked to look.
    ///
    /// # Errors
    /// As [`Bundle::familiarity`], or a bundle that does not know.
    pub fn familiarity_or_refuse(&self) -> Result<Familiarity, BundleError> {
        let found = self.familiarity()?;
        found.ok_or_else(|| match &self.manifest.familiarity {
            Some(contract) => self.files.at(&contract.file, BundleReason::LeftOut),
            None => self.files.at("", BundleReason::NoFamiliarity),
        })
    }

    /// The same, for whoever cannot do without.
    ///
    /// # Errors
    /// As [`Bundle::proposer`], or a bundle that only follows.
    pub fn proposer_or_refuse(&self, threads: usize) -> Result<ProposeModel, BundleError> {
        let found = self.proposer(threads)?;
        found.ok_or_else(|| match &self.manifest.propose {
            Some(contract) => {
                let graph = propose_files(contract, self.precision).1.graph;
                self.files.at(graph, BundleReason::LeftOut)
            }
            None => self.files.at("", BundleReason::NoProposals),
        })
    }

    /// What the bundle says about itself.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    fn file(&self, name: &str) -> Result<&[u8], BundleError> {
        match self.bytes.get(name) {
            Some(bytes) => Ok(bytes),
            None if self.files.leaves_out(name) => Err(self.files.at(name, BundleReason::LeftOut)),
            None => {
                let name = name.to_owned();
                let reason = ContractError::UnknownFile { name };
                Err(self.files.at(MANIFEST_FILE, reason.into()))
            }
        }
    }
}

/// The graph that finds, in the precision of those that follow where it has that, else in f32.
fn propose_files(
    contract: &ProposeContract,
    precision: Precision,
) -> (Precision, ProposeFiles<'_>) {
    match (precision, contract.int8_files()) {
        (Precision::Int8, Some(files)) => (Precision::Int8, files),
        _ => (Precision::F32, contract.f32_files()),
    }
}

/// The same tensors in these files, so that errors name them.
fn in_files(contract: &FollowContract, files: &GraphFiles<'_>) -> FollowContract {
    FollowContract {
        template_file: files.template.to_owned(),
        search_file: files.search.to_owned(),
        ..contract.clone()
    }
}

/// What `bench --compare` sets against each other.
pub struct Contenders {
    /// What all of them compute.
    pub contract: FollowContract,
    /// Each with its name.
    pub networks: Vec<(&'static str, TractNetwork)>,
}

/// The networks that a bundle can be run as. Of one without int8 graphs, the f32 one.
///
/// # Errors
/// As [`Model::open`]; no probe is replayed for tract's own int8, which rounds otherwise.
pub fn contenders(source: &ModelSource, threads: usize) -> Result<Contenders, BundleError> {
    let fastest = Model::open(source, None, threads)?;
    let contract = fastest.manifest.follow;
    if fastest.precision == Precision::F32 {
        let networks = vec![("f32", fastest.network)];
        return Ok(Contenders { contract, networks });
    }
    let f32 = Model::open(source, Some(Precision::F32), threads)?;
    let mut networks = vec![("int8", fastest.network), ("f32", f32.network)];
    if let Some(graphs) = f32.manifest.int8_files() {
        // Verified a moment ago.
        let files = Files::of(source);
        let template = files.read(graphs.template, MAX_FILE_BYTES)?;
        let search = files.read(graphs.search, MAX_FILE_BYTES)?;
        let named = in_files(&contract, &graphs);
        let stock = TractNetwork::load_with(&named, &template, &search, threads, Int8::Stock);
        networks.push(("stock int8", stock.map_err(|e| files.at("", e.into()))?));
    }
    Ok(Contenders { contract, networks })
}

/// The files of a bundle, wherever they are.
enum Files<'a> {
    BuiltIn(embedded::EmbeddedBundle),
    Folder(&'a Path),
}

impl<'a> Files<'a> {
    fn of(source: &'a ModelSource) -> Self {
        match source {
            ModelSource::Folder(folder) => Self::Folder(folder),
            ModelSource::BuiltIn => Self::BuiltIn(embedded::DEFAULT),
        }
    }

    /// Whether the program was built without this file.
    fn leaves_out(&self, name: &str) -> bool {
        match self {
            Self::BuiltIn(files) => !files.iter().any(|(found, _)| *found == name),
            Self::Folder(_) => false,
        }
    }

    fn read(&self, name: &str, most: u64) -> Result<Cow<'static, [u8]>, BundleError> {
        match self {
            Self::BuiltIn(files) => files
                .iter()
                .find(|(found, _)| *found == name)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))
                .ok_or_else(|| self.at(name, BundleReason::LeftOut)),
            Self::Folder(folder) => read_at_most(&folder.join(name), most)
                .map(Cow::Owned)
                .map_err(|reason| self.at(name, reason)),
        }
    }

    /// An error at a file, or at the bundle as a whole where `name` is empty.
    fn at(&self, name: &str, reason: BundleReason) -> BundleError {
        let place = match self {
            Self::BuiltIn(_) if name.is_empty() => "built-in model".to_owned(),
            Self::BuiltIn(_) => format!("built-in model, {name}"),
            Self::Folder(folder) if name.is_empty() => folder.display().to_string(),
            Self::Folder(folder) => folder.join(name).display().to_string(),
        };
        BundleError {
            place,
            reason: Box::new(reason),
        }
    }
}

fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, BundleReason> {
    let file = File::open(path)?;
    let found = file.metadata()?.len();
    if found > most {
        return Err(BundleReason::TooLarge { found, most });
    }
    let mut bytes = Vec::with_capacity(found as usize);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn built_in_model_is_whole_and_computes_what_its_probe_says() {
        let model = Model::open(&ModelSource::BuiltIn, None, 1).unwrap();
        assert_eq!(model.manifest.name, "roadhound-s");
        assert_eq!(model.precision, Precision::Int8);
        match Model::open(&ModelSource::BuiltIn, Some(Precision::F32), 1) {
            Ok(model) => assert_eq!(model.precision, Precision::F32),
            Err(e) if cfg!(feature = "f32") => panic!("{e}"),
            Err(e) => assert!(e.to_string().contains("without the feature `f32`"), "{e}"),
        }
    }

    #[test]
    fn a_file_may_be_missing_from_the_program_but_not_from_a_folder() {
        let built_in = Files::BuiltIn(&[("bundle.toml", b"")]);
        assert!(built_in.leaves_out("search.onnx") && !built_in.leaves_out("bundle.toml"));
        let reason = built_in.read("search.onnx", 1).unwrap_err().reason;
        assert!(matches!(*reason, BundleReason::LeftOut));
        let folder = Files::Folder(Path::new("/no/such/bundle"));
        assert!(!folder.leaves_out("search.onnx"));
        let reason = folder.read("search.onnx", 1).unwrap_err().reason;
        assert!(matches!(*reason, BundleReason::Io(_)));
    }
}
