#!/usr/bin/env bash
# Trains, exports and quantises the first six stages of the shipped model; the card says how the eighth and ninth went on. Stopped
# anywhere, the same command goes on. The bundle is RUNS/bundle where none is named.
#   scripts/train-roadhound-s.sh [RUNS [BUNDLE [PAIRS]]]
# With PAIRS, every stage is that short: to see that it all runs.
#   ROADHOUND_GPU_TRAIN    the sixth stage, 1.1 million pairs, runs with this binary of scripts/build-cuda.sh on cuda:0 (five minutes
#                          on an H200); without it, on the processor (eight hours on a core)
# Data: the packs that configs/roadhound-s.toml names, below ../shared/data/train, and drives that it renders.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs}
bundle=${2:-$runs/bundle}
pairs=${3:+--pairs $3}
before=$((${3:-0} > 0 ? 5 * ${3:-0} : 535032)) # pairs of the first five stages
commit=$(git rev-parse --short HEAD)
export ROADHOUND_COMMIT=$commit
cargo build --release --quiet -p roadhound-trainer
train="${CARGO_TARGET_DIR:-target}/release/roadhound-train"

"$train" tracker --config configs/roadhound-s.toml --out "$runs/roadhound-s-1" $pairs
"$train" tracker --config configs/roadhound-s-2.toml --init "$runs/roadhound-s-1/last.safetensors" --out "$runs/roadhound-s-2" $pairs
"$train" tracker --config configs/roadhound-s-3.toml --init "$runs/roadhound-s-2/last.safetensors" --out "$runs/roadhound-s-3" $pairs

# A folder a stage, with links to the real packs and the drives rendered for it.
link() { # FOLDER
    mkdir -p "$1"
    for pack in ../shared/data/train/*/; do ln -sfn "$(realpath "$pack")" "$1/$(basename "$pack")"; done
}
render() { # FOLDER NAME REGION SEED SEQUENCES FRAMES [SCENARIO]
    if [ -f "$1/$2/truth.csv" ]; then return; fi
    rm -rf "${1:?}/$2"
    "$train" render --region "$3" --seed "$4" --sequences "$5" --frames "$6" --scenario "${7:-drive}" --fps 10 --threads "$(nproc)" --out "$1/$2"
}

# 70 drives on US roads, 40 on Indian ones, 5 s each.
packs=$runs/packs
link "$packs"
render "$packs" world_us us 101 70 50
render "$packs" world_india india 101 40 50
"$train" tracker --config configs/roadhound-s-4.toml --data "$packs" --init "$runs/roadhound-s-3/last.safetensors" --out "$runs/roadhound-s-4" $pairs

# 110 and 50 other drives, and 25 scenes of each region in which somebody is hidden for two seconds and comes back.
packs=$runs/packs-5
link "$packs"
render "$packs" world_us us 301 110 50
render "$packs" world_india india 302 50 50
render "$packs" occlusion_us us 303 25 57 occlusion
render "$packs" occlusion_india india 304 25 57 occlusion
"$train" tracker --config configs/roadhound-s-5.toml --data "$packs" --init "$runs/roadhound-s-4/last.safetensors" --out "$runs/roadhound-s-5" $pairs

# 260 other drives and 128 scenes with somebody hidden.
packs=$runs/packs-6
link "$packs"
render "$packs" world_us us 601 150 50
render "$packs" world_india india 602 110 50
render "$packs" occlusion_us us 603 64 57 occlusion
render "$packs" occlusion_india india 604 64 57 occlusion
if [ -n "${ROADHOUND_GPU_TRAIN:-}" ]; then device="cuda:0" program=$ROADHOUND_GPU_TRAIN; else device=cpu program=$train; fi
"$program" tracker --config configs/roadhound-s-6.toml --device "$device" --data "$packs" --init "$runs/roadhound-s-5/last.safetensors" --out "$runs/roadhound-s-6" $pairs

# Presence is calibrated, and int8 scales are chosen, on what the fifth stage held out.
packs=$runs/packs-5
"$train" export --checkpoint "$runs/roadhound-s-6/last.safetensors" --data "$packs" --tracker configs/roadhound-s-tracker.toml --out "$bundle" --pairs-before "$before" --commit "$commit"
# int8 graphs beside the f32 ones; for another bundle, packs or configuration this one line is all there is to it.
"$train" quantise --bundle "$bundle" --config configs/roadhound-s-5.toml --data "$packs" --quiet
