#!/usr/bin/env bash
# Trains and exports the shipped model: both stages, then the bundle. Stopped anywhere, the same command goes on.
#   scripts/train-roadhound-s.sh [RUNS [BUNDLE]]
# Data: the packs that configs/roadhound-s.toml names, below ../shared/data/train.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs}
bundle=${2:-edge/models/roadhound-s}
train="cargo run --release --quiet -p roadhound-trainer --"

$train tracker --config configs/roadhound-s.toml --out "$runs/roadhound-s-1"
$train tracker --config configs/roadhound-s-2.toml --init "$runs/roadhound-s-1/last.safetensors" --out "$runs/roadhound-s-2"
$train export --checkpoint "$runs/roadhound-s-2/last.safetensors" --out "$bundle" --pairs-before 130008 --commit "$(git rev-parse --short HEAD)"
