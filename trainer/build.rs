//! With the feature `cuda`: compiles the GPU kernels to PTX, which the library embeds. Without it: nothing.
//!
//! PTX for compute capability 7.5 runs on every later GPU: the driver compiles it for the one that is there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// One PTX module each; `File` in `src/ops/cuda/engine.rs` lists the same.
const KERNELS: [&str; 5] = ["conv", "descent", "norm", "pixels", "pool"];

/// nvcc from `NVCC`, `CUDA_HOME`, or the path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = std::env::var_os("NVCC") {
        return nvcc.into();
    }
    match std::env::var_os("CUDA_HOME") {
        Some(home) => Path::new(&home).join("bin/nvcc"),
        None => "nvcc".into(),
    }
}

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return ExitCode::SUCCESS;
    }
    println!("cargo:rerun-if-changed=src/ops/cuda");
    for variable in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let nvcc = nvcc();
    for kernel in KERNELS {
        // No contraction to fused multiply-add: the same rounding as in the tests on the processor, and the backward
        // pass repeats an expression of the forward pass to the bit.
        let status = Command::new(&nvcc)
            .args([
                "--ptx",
                "-arch=compute_75",
                "-std=c++17",
                "-O3",
                "-fmad=false",
            ])
            .args(["-Werror", "all-warnings", "-o"])
            .arg(out.join(kernel).with_extension("ptx"))
            .arg(Path::new("src/ops/cuda").join(kernel).with_extension("cu"))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                eprintln!("src/ops/cuda/{kernel}.cu: {} says {status}", nvcc.display());
                return ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!(
                    "{}: {error}; the feature cuda needs nvcc, which scripts/build-cuda.sh fetches",
                    nvcc.display()
                );
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
