#!/usr/bin/env bash
# Builds roadhound-train for NVIDIA GPUs on a machine that needs neither a GPU nor a CUDA toolkit.
#
#   scripts/build-cuda.sh                          the release binary, at target/cuda/release/roadhound-train
#   scripts/build-cuda.sh CARGO-COMMAND [ARGS]     another cargo command with the feature, e.g. `test --no-run`
#
# Needs: cargo, gcc and g++, python3 with pip. The compiler and the libraries come as wheels of NVIDIA's from PyPI
# (1 GB, fetched once), unless CUDA_HOME names a toolkit. They are 13.0, the version of driver 580: PTX of a newer
# nvcc is refused there.
#
#   CUDA_COMPUTE_CAP    architecture of candle's kernels: 90 (default) is H100 and H200 only; 80 is A100 and, compiled
#                       again by the driver at the start, whatever came after it
#   CUDAFORGE_THREADS   how many files nvcc compiles at once (default: all cores); most of the time goes there
#
# At run time the binary needs the driver's libcuda.so.1, and libcublas.so.13, libcublasLt.so.13, libcurand.so.10 and
# libcudart.so.13: from an installed CUDA 13, from LD_LIBRARY_PATH, or in `cuda-lib/` beside the binary.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/cuda
mkdir -p "$target"
target=$(cd "$target" && pwd)

# From here on every path of the toolkit is below $toolkit, whoever made it.
fetch_toolkit() {
    local toolkit=$1 wheels=$scratch/wheels
    mkdir "$wheels"
    python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$wheels" \
        nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88 nvidia-cublas==13.1.0.3 nvidia-curand==10.4.0.35
    python3 - "$wheels" "$toolkit" <<'PY'
import pathlib
import shutil
import sys
import zipfile

wheels, toolkit = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            # nvidia/cu13/{bin,include,lib,nvvm}/...; the rest is packaging.
            parts = pathlib.PurePosixPath(entry.filename).parts
            if entry.is_dir() or parts[:2] != ("nvidia", "cu13") or parts[2:] == ("__init__.py",):
                continue
            path = toolkit.joinpath(*parts[2:])
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            executable = parts[2] == "bin" or parts[2:4] == ("nvvm", "bin")
            path.chmod(0o755 if executable else 0o644)
PY
    ln -sfn lib "$toolkit/lib64"
    # Wheels hold libraries by version only; the linker looks for the plain name.
    local name versioned
    for name in libcublas libcublasLt libcudart libcurand libnvrtc; do
        versioned=$(cd "$toolkit/lib" && ls "$name".so.* | head -n 1)
        ln -sfn "$versioned" "$toolkit/lib/$name.so"
    done
}

# libcuda belongs to the driver and is in no wheel. A stand-in with its function names is enough to link against; each
# answers CUDA_ERROR_NO_DEVICE, so with its folder in LD_LIBRARY_PATH programs start and say that there is no GPU.
make_driver_stub() {
    local toolkit=$1 stub=$scratch/stub.c
    # Every word that begins like a function: the header renames many of them by macros (`cuMemAlloc_v2`).
    grep -hoE '\bcu[A-Z][A-Za-z0-9_]*' "$toolkit/include/cuda.h" | sort -u |
        sed 's/.*/int &(void) { return 100; }/' >"$stub"
    mkdir -p "$toolkit/lib/stubs"
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$toolkit/lib/stubs/libcuda.so.1" "$stub"
    ln -sfn libcuda.so.1 "$toolkit/lib/stubs/libcuda.so"
}

if [ -n "${CUDA_HOME:-}" ] && [ -x "$CUDA_HOME/bin/nvcc" ]; then
    toolkit=$CUDA_HOME
else
    toolkit=$target/toolkit-13.0
    if [ ! -e "$toolkit/complete" ]; then
        echo "build-cuda: fetching nvcc and libraries into $toolkit" >&2
        rm -rf "$toolkit"
        # 1 GB of wheels: also gone where a step fails, which ends the script without returning from its functions.
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        fetch_toolkit "$toolkit"
        make_driver_stub "$toolkit"
        # `exec` below is no exit.
        rm -rf "$scratch"
        touch "$toolkit/complete"
    fi
fi
libraries=$toolkit/lib64

export CUDA_HOME=$toolkit CUDA_PATH=$toolkit PATH=$toolkit/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export LIBRARY_PATH=$libraries:$libraries/stubs${LIBRARY_PATH:+:$LIBRARY_PATH}
# For commands that run something, such as `test` with a GPU.
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# -rpath-link: where the linker finds what the libraries themselves need; -rpath: where the program looks first.
export RUSTFLAGS="${RUSTFLAGS:-} -C link-arg=-Wl,-rpath-link,$libraries -C link-arg=-Wl,-rpath,\$ORIGIN/cuda-lib"
# Its own folder: other flags would have cargo rebuild the ordinary build each time.
export CARGO_TARGET_DIR=$target
if [ $# -gt 0 ]; then
    command=$1
    shift
    # Benchmarks are always built like a release, and cargo refuses to be told so.
    profile=--release
    if [ "$command" = bench ]; then profile=; fi
    exec cargo "$command" $profile -p roadhound-trainer --features cuda "$@"
fi
cargo build --release -p roadhound-trainer --features cuda
echo "build-cuda: $target/release/roadhound-train; its libraries are in $libraries" >&2
