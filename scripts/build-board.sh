#!/usr/bin/env bash
# Builds the program for a board, with the feature `camera`, and says how large it is and which C library it needs.
#
# Usage: build-board.sh [TARGET]   aarch64-unknown-linux-gnu (default), armv7-unknown-linux-gnueabihf, x86_64-unknown-linux-gnu
#   FEATURES="camera mqtt"         which features; `f32` adds the half of the built-in model that a board does without
#   PROFILE=release                a third of the time to build, nearly twice as large; `dist` by itself
#   FEED=1                         also `feed_camera`, which plays frames into a test camera
# Leaves $CARGO_TARGET_DIR/board/TARGET/roadhound. Ends with 77 and says why where a tool is missing.
#
# Needs a linker for the target (Debian: gcc-aarch64-linux-gnu), libclang (libclang-dev), and the standard library: from
# `rustup target add TARGET`, or Debian's rustc-web with libstd-rust-web-dev:arm64, whichever is there. Where cargo-zigbuild
# and zig are there (pip install cargo-zigbuild ziglang), the program runs with glibc 2.31 and later.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-aarch64-unknown-linux-gnu}
out=${CARGO_TARGET_DIR:-$PWD/target}/board
profile=${PROFILE:-dist}
skip() { echo "board: skipped: $*" >&2; exit 77; }
case $target in
aarch64-unknown-linux-gnu) triple=aarch64-linux-gnu ;;
armv7-unknown-linux-gnueabihf) triple=arm-linux-gnueabihf ;;
x86_64-unknown-linux-gnu) triple=x86_64-linux-gnu ;;
*) echo "board: unknown target $target" >&2; exit 2 ;;
esac

has_std() { [ -n "$(find "$("$1" --print sysroot)/lib/rustlib/$target/lib" -name 'libstd-*' 2>/dev/null)" ]; }
if ! has_std "${RUSTC:-rustc}"; then
    if [ -x /usr/bin/rustc ] && has_std /usr/bin/rustc; then
        export RUSTC=/usr/bin/rustc
    else
        skip "no standard library for $target (rustup target add $target)"
    fi
fi
build=build as=$target
if command -v cargo-zigbuild >/dev/null && python3 -c 'import ziglang' 2>/dev/null; then
    build=zigbuild as=$target.2.31
elif command -v $triple-gcc >/dev/null; then
    name=$(echo "$target" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${name}_LINKER=$triple-gcc" "CC_${target//-/_}=$triple-gcc"
else
    skip "no $triple-gcc (Debian: apt-get install gcc-$triple)"
fi

features=${FEATURES:-camera mqtt}
what=(--bin roadhound)
[ "${FEED:-0}" = 1 ] && what+=(--bin feed_camera) features+=" feed"
# A folder of its own: the compiler may be another than the desktop's.
CARGO_TARGET_DIR=$out/build cargo $build --locked --profile "$profile" -p roadhound-edge --no-default-features --features "$features" \
    "${what[@]}" --target "$as"

mkdir -p "$out/$target"
built=$out/build/$target/$profile
cp "$built/roadhound" "$out/$target/"
[ "${FEED:-0}" = 1 ] && cp "$built/feed_camera" "$out/$target/"
floor=$(grep -ao 'GLIBC_2\.[0-9]*' "$out/$target/roadhound" | sort -uV | tail -1)
echo "$out/$target/roadhound: $(stat -c %s "$out/$target/roadhound") bytes, needs ${floor:-no C library}"
