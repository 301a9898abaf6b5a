#!/usr/bin/env bash
# The int8 kernels on ARM, without a board: builds them for aarch64, runs their tests under qemu-user as a processor with
# everything and as a Cortex-A53, and counts the instructions of one inference. A count that is more than 1 % above the
# one in counts.txt fails; one that is more than 1 % below asks for the file to be brought up to date (--bless does it).
# Says why and passes where the tools are missing: see "ARM without a board" in CONTRIBUTING.md.
set -euo pipefail
cd "$(dirname "$0")"
. ./tools.sh
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target}/aarch64"
built=$CARGO_TARGET_DIR/$target/release
for processor in max cortex-a53; do
    echo "aarch64: tests on $processor"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $processor ${loader[*]}" \
        PROPTEST_CASES=${PROPTEST_CASES:-40} cargo test --quiet --locked --release --target $target --lib --tests
done
cargo build --quiet --locked --release --target $target --bin count

plugin=$built/libicount.so
cc -O2 -fPIC -shared -o "$plugin" icount.c
executed() {
    qemu-aarch64 -cpu max "${loader[@]}" -plugin "$plugin" -d plugin "$built/count" "$1" "$2" 2>&1 | sed -n 's/^instructions //p'
}
[ -n "$(executed neon 1)" ] || skip "this qemu-aarch64 has no plugins: the tests passed, instructions are not counted"
products=$(qemu-aarch64 -cpu max "${loader[@]}" "$built/count" neon 0)
failed=0
found=""
for path in neon:5.333 neon-dot:16 neon-i8mm:32; do
    name=${path%:*}
    one=$(executed "$name" 1)
    three=$(executed "$name" 3)
    count=$(((three - one) / 2))
    found+="$name $count"$'\n'
    stored=$(sed -n "s/^$name //p" counts.txt)
    python3 - "$name" "$count" "${stored:-0}" "$products" "${path#*:}" <<'PYTHON' || failed=1
import sys
name, count, stored, products, per = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
change = count / stored - 1 if stored else 0
print(f"aarch64: {name}: {count / 1e6:.2f} M instructions an inference, {100 * change:+.2f} %; the least possible, "
      f"{products / 1e6:.0f} M products at {per:g} an instruction, is {100 * products / per / count:.0f} % of it")
if change > 0.01:
    sys.exit(f"aarch64: {name}: more than 1 % above counts.txt")
if change < -0.01:
    print(f"aarch64: {name}: more than 1 % below counts.txt: run check.sh --bless")
PYTHON
done
if [ "${1:-}" = --bless ]; then
    printf '%s' "$found" > counts.txt
    echo "aarch64: counts.txt written"
else
    exit $failed
fi
