#!/usr/bin/env bash
# Compiles, lints and tests the features `camera` and `webcam`. Their V4L2 bindings are generated from the kernel's headers by libclang: the
# system's where there is one, else the one that comes as a Python package, which needs no rights. Without either it says so.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -s)" != Linux ] || ! echo '#include <linux/videodev2.h>' | ${CC:-cc} -fsyntax-only -x c - 2>/dev/null; then
    echo "passed over: no linux/videodev2.h (Debian: apt-get install linux-libc-dev)"
    exit 0
fi
# The libraries below $1 (/usr, but for tests): any of these places is enough. libclang-cpp is another library.
installed_libclang() {
    local place
    for place in 'lib/llvm-*/lib' 'lib*' 'lib/*'; do
        compgen -G "$1/$place/libclang*.so*" || true
    done | sed '/libclang-cpp/d'
}
if [ -z "${LIBCLANG_PATH:-}" ] && [ -z "$(installed_libclang "${ROADHOUND_USR:-/usr}")" ]; then
    # Where the build puts its own things: a folder in /tmp could be anybody's.
    venv=${CARGO_TARGET_DIR:-target}/libclang-venv
    mkdir -p "$venv"
    venv=$(cd "$venv" && pwd)
    if python3 -m venv "$venv" 2>/dev/null && "$venv/bin/pip" install --quiet libclang; then
        LIBCLANG_PATH=$(dirname "$(find "$venv" -name 'libclang*.so*' | head -1)")
        # The package has the library alone; the compiler's own headers stand in for clang's.
        BINDGEN_EXTRA_CLANG_ARGS="-I$(${CC:-cc} -print-file-name=include)"
        export LIBCLANG_PATH BINDGEN_EXTRA_CLANG_ARGS
    else
        echo "passed over: no libclang (Debian: apt-get install libclang-dev)"
        exit 0
    fi
fi
cargo clippy --release --workspace --all-targets --features roadhound-edge/feed,roadhound-edge/webcam -- -D warnings
cargo test --release --workspace --features roadhound-edge/feed,roadhound-edge/webcam --lib --test run -- v4l2 camera webcam
