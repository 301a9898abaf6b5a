#!/usr/bin/env bash
# Compiles and lints the code of the feature `cuda` without nvcc, a GPU or a driver: what changes elsewhere and breaks it
# shows here, in seconds. Nothing is linked, and the kernels themselves are not compiled: the tests do that, as C++.
set -euo pipefail
cd "$(dirname "$0")/.."
stub=$(mktemp -d)
trap 'rm -rf "$stub"' EXIT

# Stands in for nvcc: says its version, and leaves empty files where results are expected.
mkdir "$stub/bin"
cat >"$stub/bin/nvcc" <<'NVCC'
#!/bin/sh
case "$*" in
*--version*)
    printf 'nvcc\nstand-in\n\nCuda compilation tools, release 13.0, V13.0.0\n'
    exit
    ;;
*--list-gpu-code*) exit ;;
esac
while [ $# -gt 0 ]; do
    case "$1" in
    -o) : >"$2" && shift ;;
    --output-directory) folder=$2 && shift ;;
    *.cu) source=$1 ;;
    esac
    shift
done
if [ -n "${folder:-}" ]; then : >"$folder/$(basename "$source" .cu).ptx"; fi
NVCC
chmod +x "$stub/bin/nvcc"

# No nvcc of today compiles for capability 50. Build scripts run again when it changes, so a real build in the same
# folder cannot take these empty files for its kernels.
export CUDA_HOME=$stub CUDA_PATH=$stub NVCC=$stub/bin/nvcc PATH=$stub/bin:$PATH CUDA_COMPUTE_CAP=50
cargo clippy --release --no-deps -p roadhound-trainer --features cuda --all-targets -- -D warnings
