#!/usr/bin/env bash
# Builds the program for a board, boots the emulated board, and runs tests/board on it: a rendered drive and a real clip played
# through a V4L2 driver, unplugged cameras, failing drivers, budgets. Says why and passes where a tool is missing.
#
#   scripts/board-test.sh [FILTER]                                 the emulated board
#   ROADHOUND_BOARD=my-board.toml scripts/board-test.sh [FILTER]   your own: see tests/board/sample.toml
#
# ROADHOUND_FIRMWARE names a folder with a program that was built elsewhere; without it, build-board.sh builds one (PROFILE
# and the rest are its own). Needs what that needs, and for the emulated board qemu-system-arm, kmod, cpio and Debian's arm64
# packages.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${CARGO_TARGET_DIR:-$PWD/target}
target=${ROADHOUND_BOARD_TARGET:-aarch64-unknown-linux-gnu}
skip() { echo "board: skipped: $*"; exit 0; }

export ROADHOUND_BOARD=${ROADHOUND_BOARD:-tests/board/emulated.toml}
ROADHOUND_BOARD=$(realpath "$ROADHOUND_BOARD")
if grep -q '^\[reach.emulated\]' "$ROADHOUND_BOARD"; then
    command -v qemu-system-aarch64 >/dev/null || skip "no qemu-system-aarch64 (Debian: apt-get install qemu-system-arm)"
    export ROADHOUND_BOARD_IMAGE=$cache/board-image
    tests/board/image.sh "$ROADHOUND_BOARD_IMAGE" || { [ $? = 77 ] && exit 0; exit 1; }
fi
if [ -z "${ROADHOUND_FIRMWARE:-}" ]; then
    FEED=1 scripts/build-board.sh "$target" || { [ $? = 77 ] && exit 0; exit 1; }
    export ROADHOUND_FIRMWARE=$cache/board/$target
fi
# The whole workspace, so that nothing is built twice with other features.
cargo test --release --workspace --test board -- --nocapture --test-threads 1 "$@"
