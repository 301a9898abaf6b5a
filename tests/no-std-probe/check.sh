#!/bin/sh
# Proves that roadhound-shared needs no std: links it into a program without std and runs that, then shows that the
# same build fails as soon as std gets in, so that the proof could have failed.
set -eu
cd "$(dirname "$0")"
# Below the main target folder, where it has one lock less to wait for.
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target}/no-std-probe"
export CARGO_TARGET_DIR

cargo build --quiet --locked --release "$@"
status=0
"$CARGO_TARGET_DIR/release/no-std-probe" || status=$?
if [ "$status" -ne 0 ]; then
    echo "no-std-probe: step $status failed (101 is a panic)" >&2
    exit 1
fi

for feature in std-through-dependency std-outright; do
    if errors=$(cargo build --quiet --locked --release --features "$feature" "$@" 2>&1); then
        echo "no-std-probe: built with $feature, so that it proves nothing" >&2
        exit 1
    fi
    case "$errors" in
        *"duplicate lang item"*) ;;
        *)
            echo "no-std-probe: with $feature the build failed, but not for std:" >&2
            echo "$errors" >&2
            exit 1
            ;;
    esac
done
echo "no-std-probe: roadhound-shared links and runs without std"
