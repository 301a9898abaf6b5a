#!/usr/bin/env bash
# The bytes of the shipped int8 graphs on ARM, without a board: real crops go through the kernels of every ARM path under
# qemu-user, and every byte has to be ONNX Runtime's. ROADHOUND_ARM_PAIRS says how many pairs of crops, 8 by itself; 200
# take some minutes of processor time for each path. Pictures are taken from ../shared, or from where ROADHOUND_SHARED is.
# Says why and passes where tools or pictures are missing: see "ARM without a board" in CONTRIBUTING.md.
set -euo pipefail
cd "$(dirname "$0")"
. ./tools.sh
images=${ROADHOUND_SHARED:-../../../shared}/data/train
[ -d "$images" ] || skip "no $images"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target}/aarch64"
cargo build --quiet --locked --release --target $target --bin shipped
for run in neon:cortex-a53 neon-dot:cortex-a76 neon-i8mm:max; do
    "${ROADHOUND_PYTHON:-python3}" shipped.py "${ROADHOUND_ARM_BUNDLE:-../../edge/models/roadhound-s}" "$images" "${ROADHOUND_ARM_PAIRS:-8}" "${run%:*}" \
        qemu-aarch64 -cpu "${run#*:}" ${loader[@]+"${loader[@]}"} "$CARGO_TARGET_DIR/$target/release/shipped" ||
        { [ $? = 77 ] && exit 0; exit 1; }
done
