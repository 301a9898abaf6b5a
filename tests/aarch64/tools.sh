# For the scripts beside it: what it takes to build for ARM and to run that here. Read by `. tools.sh` in this folder.
# Sets `target`, `loader` and, for cargo, a linker and a compiler that has the standard library; says why and passes
# where a tool is missing ("ARM without a board" in CONTRIBUTING.md).
target=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# What a script that also builds for this machine goes back to.
native_rustc=${RUSTC:-}
native_target_dir=${CARGO_TARGET_DIR:-}

skip() { echo "aarch64: skipped: $*"; exit 0; }
command -v qemu-aarch64 >/dev/null || skip "no qemu-aarch64 (package qemu-user)"
command -v python3 >/dev/null || skip "no python3"
command -v aarch64-linux-gnu-gcc >/dev/null || skip "no aarch64-linux-gnu-gcc (package gcc-aarch64-linux-gnu)"
has_std() { [ -n "$(find "$("$1" --print sysroot)/lib/rustlib/$target/lib" -name 'libstd-*' 2>/dev/null)" ]; }
if ! has_std "${RUSTC:-rustc}"; then
    # Debian's compiler can have the library for ARM where rustup cannot fetch it.
    if [ -x /usr/bin/rustc ] && has_std /usr/bin/rustc; then
        export RUSTC=/usr/bin/rustc
    else
        skip "no standard library for $target (rustup target add $target)"
    fi
fi

# A loader of the same C library as the one that it loads: the system's, where it has arm64 packages.
loader=()
[ -e /lib/ld-linux-aarch64.so.1 ] || loader=(-L /usr/aarch64-linux-gnu)

# A command line for this machine, as if no tool for ARM had been looked for.
natively() {
    (
        if [ -n "$native_rustc" ]; then export RUSTC=$native_rustc; else unset RUSTC; fi
        if [ -n "$native_target_dir" ]; then export CARGO_TARGET_DIR=$native_target_dir; else unset CARGO_TARGET_DIR; fi
        "$@"
    )
}
