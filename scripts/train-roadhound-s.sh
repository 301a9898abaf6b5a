#!/usr/bin/env bash
# Trains, exports and quantises the shipped model: four stages, then the bundle. Stopped anywhere, the same command goes on.
#   scripts/train-roadhound-s.sh [RUNS [BUNDLE [PAIRS]]]
# With PAIRS, every stage is that short: to see that it all runs.
# Data: the packs that configs/roadhound-s.toml names, below ../shared/data/train, and drives that it renders.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs}
bundle=${2:-edge/models/roadhound-s}
pairs=${3:+--pairs $3}
before=$((${3:-0} > 0 ? 3 * ${3:-0} : 320016)) # pairs of the first three stages
commit=$(git rev-parse --short HEAD)
export ROADHOUND_COMMIT=$commit
cargo build --release --quiet -p roadhound-trainer
train="${CARGO_TARGET_DIR:-target}/release/roadhound-train"

"$train" tracker --config configs/roadhound-s.toml --out "$runs/roadhound-s-1" $pairs
"$train" tracker --config configs/roadhound-s-2.toml --init "$runs/roadhound-s-1/last.safetensors" --out "$runs/roadhound-s-2" $pairs
"$train" tracker --config configs/roadhound-s-3.toml --init "$runs/roadhound-s-2/last.safetensors" --out "$runs/roadhound-s-3" $pairs

# One folder with links to the real packs and the rendered ones: 70 drives on US roads, 40 on Indian ones, 5 s each.
packs=$runs/packs
mkdir -p "$packs"
for pack in ../shared/data/train/*/; do ln -sfn "$(realpath "$pack")" "$packs/$(basename "$pack")"; done
render() { # REGION SEQUENCES
    if [ -f "$packs/world_$1/truth.csv" ]; then return; fi
    rm -rf "$packs/world_$1"
    "$train" render --region "$1" --seed 101 --sequences "$2" --frames 50 --fps 10 --threads "$(nproc)" --out "$packs/world_$1"
}
render us 70
render india 40

"$train" tracker --config configs/roadhound-s-4.toml --data "$packs" --init "$runs/roadhound-s-3/last.safetensors" --out "$runs/roadhound-s-4" $pairs
"$train" export --checkpoint "$runs/roadhound-s-4/last.safetensors" --data "$packs" --tracker configs/roadhound-s-tracker.toml --out "$bundle" --pairs-before "$before" --commit "$commit"
# int8 graphs beside the f32 ones; for another bundle, packs or configuration this one line is all there is to it.
"$train" quantise --bundle "$bundle" --config configs/roadhound-s-4.toml --data "$packs" --quiet
