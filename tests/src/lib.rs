//! What the system tests share: where things are, and what to say when they are not there.

pub mod fuzz;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use roadhound_shared::contract::BundleManifest;
use roadhound_shared::propose::{ProposeContract, ProposeNetwork, ProposeOutputs};

/// The checkout.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The shipped bundle.
pub fn bundle_folder() -> PathBuf {
    workspace().join("edge/models/roadhound-s")
}

/// Manifest and graphs of a bundle.
pub struct BundleFiles {
    /// `bundle.toml`.
    pub manifest: BundleManifest,
    /// Bytes of the template graph.
    pub template: Vec<u8>,
    /// Bytes of the search graph.
    pub search: Vec<u8>,
}

/// What a network says of each frame.
///
/// # Errors
/// The network's.
pub fn proposals<N: ProposeNetwork>(
    network: &mut N,
    contract: &ProposeContract,
    frames: &[Vec<f32>],
) -> Result<Vec<ProposeOutputs>, N::Error> {
    let answer = |frame: &Vec<f32>| {
        let mut out = ProposeOutputs::for_contract(contract);
        network.propose(frame, &mut out)?;
        Ok(out)
    };
    frames.iter().map(answer).collect()
}

/// Reads a bundle without checking hashes.
pub fn read_bundle(folder: &Path) -> Result<BundleFiles> {
    let read = |name: &str| {
        std::fs::read(folder.join(name)).with_context(|| format!("{}", folder.join(name).display()))
    };
    let manifest = BundleManifest::parse(&String::from_utf8(read("bundle.toml")?)?)?;
    let template = read(&manifest.follow.template_file)?;
    let search = read(&manifest.follow.search_file)?;
    Ok(BundleFiles {
        manifest,
        template,
        search,
    })
}

/// A folder of the annotated data that lies beside the checkout (or where `ROADHOUND_SHARED` points), if it is there;
/// otherwise the reason why a test passes over is printed.
pub fn shared_data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ROADHOUND_SHARED")
        .map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    say(&format!("skipped: {} is not there", path.display()));
    None
}

/// The Python with `onnx`, `onnxruntime` and `numpy`, if there is one; otherwise the reason is printed.
pub fn oracle_python() -> Option<PathBuf> {
    let python = std::env::var_os("ROADHOUND_PYTHON")
        .map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let import = std::process::Command::new(&python)
        .args(["-c", "import numpy, onnx, onnxruntime"])
        .output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    say(&format!(
        "skipped: {} cannot import numpy, onnx and onnxruntime (set ROADHOUND_PYTHON)",
        python.display()
    ));
    None
}

/// Prints a line of a test's own: a figure, or why it passes over.
#[expect(clippy::print_stdout, reason = "tests say why they pass over")]
pub fn say(line: &str) {
    println!("{line}");
}
