#!/usr/bin/env bash
# Runs the GPU tests of the trainer on a machine without a GPU: the real program and candle's real CUDA backend, on a
# stand-in for the driver and cuBLAS that does on the processor what it is asked (trainer/src/ops/cuda/stand_in).
# It says nothing about speed, nor about what cuBLAS and real hardware do differently.
#
#   scripts/test-cuda.sh [ARGUMENTS OF THE TESTS]      default: all tests whose name contains gpu_tests
#
# With a GPU the same tests run on it:  scripts/build-cuda.sh test --lib gpu_tests
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stand_in=$PWD/trainer/src/ops/cuda/stand_in

scripts/build-cuda.sh test --lib --no-run --message-format=json >"$work/build.json"
tests=$(python3 - "$work/build.json" <<'PY'
import json
import sys

lines = [json.loads(line) for line in open(sys.argv[1])]
print([line["executable"] for line in lines if line.get("executable")][-1])
PY
)
candle=$(cargo metadata --format-version 1 --features roadhound-trainer/cuda | python3 -c '
import json, pathlib, sys
packages = json.load(sys.stdin)["packages"]
print(next(pathlib.Path(p["manifest_path"]).parent for p in packages if p["name"] == "candle-kernels"))')

# candle's kernels, without what adds half precision to old architectures, and with headers that are not needed.
cp -r "$candle/src" "$work/candle"
chmod -R u+w "$work/candle"
: >"$work/candle/compatibility.cuh"
mkdir -p "$work/include/cuda/std"
for header in cuda.h cuda_fp16.h cuda_bf16.h cuda_fp8.h; do : >"$work/include/$header"; done
cat >"$work/include/cuda/std/limits" <<'HEADER'
#pragma once
#include <limits>
namespace cuda { namespace std { using ::std::numeric_limits; } }
HEADER
compile() { c++ -std=c++17 -O2 -w -fpermissive -ffp-contract=off -fPIC -c "$@"; }
# 100: a capability of 1.0, below everything with half precision.
for file in affine binary cast fill indexing reduce ternary unary; do
    compile -D__CUDA_ARCH__=100 -include "$stand_in/candle.h" -I"$work/include" -x c++ "$work/candle/$file.cu" \
        -o "$work/$file.o"
done
compile "$stand_in/kernels.cpp" -o "$work/kernels.o"
compile "$stand_in/driver.cpp" -o "$work/driver.o"
# What the program names and never calls, to satisfy the loader: candle's quantised kernels register themselves with the
# CUDA runtime (any address will do), and the rest would answer NOT_SUPPORTED.
nm -D --undefined-only "$tests" | grep -oE '\b(cu|cublas|curand|_*cuda)[A-Z][A-Za-z0-9_]*' | sort -u | sed -E '
    s/^_*cuda.*/long &(void) { static long unused[8]; return (long)unused; }/; t
    s/.*/int &(void) { return 801; }/' >"$work/unused.c"
cc -w -fPIC -c "$work/unused.c" -o "$work/unused.o"
# The first definition counts: those of the driver come before the unused ones. (Each file of candle's brings its own
# copy of some helpers, too.)
mkdir "$work/lib"
c++ -shared -Wl,-z,muldefs -o "$work/lib/libstandin.so" "$work"/*.o -ldl
for library in libcuda.so.1 libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libcudart.so.13; do
    ln -s libstandin.so "$work/lib/$library"
done

[ $# -gt 0 ] || set -- gpu_tests
cd trainer
# One at a time: the threads of a block take turns on the thread of the test.
for backwards in "" 1; do
    echo "threads of a block take turns from the $([ -n "$backwards" ] && echo last || echo first) one on" >&2
    env ${backwards:+ROADHOUND_STAND_IN_BACKWARDS=1} LD_LIBRARY_PATH="$work/lib" "$tests" --test-threads 1 "$@" \
        2> >(grep -v 'no version information available' >&2)
done
