#!/usr/bin/env bash
# The board's whole program on ARM, without a board: that every path of the int8 kernels follows a clip with the boxes and
# scores of this machine, and how many instructions a followed frame takes in int8 and in f32, crop to box, on the shipped
# model. Fails where an output differs, or where int8 takes more than 0.55 of the instructions of f32 on a Cortex-A53, or
# 0.35 on a Cortex-A76. Instructions are not time: no emulator knows how long a board takes.
#
#     tests/aarch64/whole.sh [ARM-BINARY [NATIVE-BINARY]]
#
# Builds what is not given; a binary for ARM takes a quarter of an hour of processor time.
# Says why and passes where the tools are missing: see "ARM without a board" in CONTRIBUTING.md.
set -euo pipefail
cd "$(dirname "$0")"
. ./tools.sh
cd ../..
arm=${1:-}
if [ -z "$arm" ]; then
    # what the program has by itself: no camera, so no libclang.
    FEATURES="f32 mqtt" PROFILE=release scripts/build-board.sh "$target" || { [ $? = 77 ] && exit 0; exit 1; }
    arm=${CARGO_TARGET_DIR:-target}/board/$target/roadhound
fi
native=${2:-}
if [ -z "$native" ]; then
    natively cargo build --quiet --locked --release --workspace --bin roadhound
    native=${CARGO_TARGET_DIR:-target}/release/roadhound
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A textured scene in which a patch moves, as raw frames.
python3 - "$scratch/clip.rgb" <<'PYTHON'
import sys
W, H = 320, 180
scene = [[(x // 9 * 37 + y // 7 * 59) % 97 + x * y // 50 % 31 for x in range(W)] for y in range(H)]
def pixel(frame, x, y):
    if 0 <= x - 100 - 3 * frame < 50 and 0 <= y - 70 - frame < 40:
        value = ((x - 3 * frame) * 7 + (y - frame) * 13) % 90
        return 160 + value, 60 + value // 2, 40
    value = scene[y][x]
    return value, value + 10, value // 2 + 20
with open(sys.argv[1], "wb") as clip:
    for frame in range(12):
        clip.write(bytes(v for y in range(H) for x in range(W) for v in pixel(frame, x, y)))
PYTHON
# follow FRAMES PRECISION COMMAND...: what it says about so many frames.
follow() {
    head -c "$(($1 * 320 * 180 * 3))" "$scratch/clip.rgb" >"$scratch/$1.rgb"
    "${@:3}" track "$scratch/$1.rgb" --raw 320x180:rgb --init 100,70,50,40 --precision "$2" --quiet --jsonl "$scratch/jsonl"
}
on() { echo qemu-aarch64 -cpu "$1" ${loader[@]+"${loader[@]}"}; }

failed=0
# compare RUN PRECISION COMMAND...: with what this machine said.
compare() {
    follow 12 "$2" "${@:3}"
    if cmp -s "$scratch/$2" "$scratch/jsonl"; then
        echo "aarch64: $1: 12 frames followed with the boxes and scores of this machine, to the last digit"
    else
        echo "aarch64: $1: other boxes than on this machine"
        diff "$scratch/$2" "$scratch/jsonl" | head -4
        failed=1
    fi
}
for precision in int8 f32; do
    follow 12 "$precision" "$native"
    mv "$scratch/jsonl" "$scratch/$precision"
done
for run in cortex-a53:neon cortex-a76:neon-dot max:neon-i8mm max:scalar; do
    processor=${run%:*} path=${run#*:}
    # shellcheck disable=SC2046
    ROADHOUND_INT8_PATH=$path compare "$path on $processor" int8 $(on "$processor") "$arm"
done
compare "f32 on cortex-a76" f32 $(on cortex-a76) "$arm"

cc -O2 -fPIC -shared -o "$scratch/libicount.so" tests/aarch64/icount.c
# Instructions of a frame: what four more take, by four, so that start-up is not in it. tract chooses its kernels by the
# name of a processor, which it would read from this machine's /proc; a Cortex-A76 it does not know.
executed() {
    # shellcheck disable=SC2046
    TRACT_CPU_AARCH64_KIND=$2 follow "$4" "$3" $(on "$1") -plugin "$scratch/libicount.so" -d plugin "$arm" 2>&1 |
        sed -n 's/^instructions //p'
}
of_a_frame() { echo $((($(executed "$1" "$2" "$3" 8) - $(executed "$1" "$2" "$3" 4)) / 4)); }
if [ -z "$(executed max generic int8 1)" ]; then
    echo "aarch64: this qemu-aarch64 has no plugins: instructions are not counted"
    exit $failed
fi
for run in cortex-a53:a53:0.55 cortex-a76:generic:0.35; do
    IFS=: read -r processor kind most <<<"$run"
    int8=$(of_a_frame "$processor" "$kind" int8)
    f32=$(of_a_frame "$processor" "$kind" f32)
    python3 - "$processor" "$int8" "$f32" "$most" <<'PYTHON' || failed=1
import sys
processor, int8, f32, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
print(f"aarch64: {processor}: {int8 / 1e6:.1f} M instructions a frame in int8, {f32 / 1e6:.1f} M in f32: "
      f"{int8 / f32:.3f}, at most {most} wanted")
sys.exit(int8 > most * f32)
PYTHON
done
exit $failed
