#!/usr/bin/env bash
# Makes a Debian package of the program for a board, with unit, udev rules, sample configuration, manual and completions.
#
# Usage: package.sh [TARGET]     aarch64-unknown-linux-gnu (default), armv7-unknown-linux-gnueabihf, x86_64-unknown-linux-gnu
# Leaves $CARGO_TARGET_DIR/board/roadhound_VERSION_ARCH.deb. Needs what build-board.sh needs, and dpkg-deb.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-aarch64-unknown-linux-gnu}
out=${CARGO_TARGET_DIR:-$PWD/target}/board
command -v dpkg-deb >/dev/null || { echo "package: skipped: no dpkg-deb" >&2; exit 77; }
case $target in
aarch64-*) arch=arm64 triple=aarch64-linux-gnu ;;
armv7-*) arch=armhf triple=arm-linux-gnueabihf ;;
x86_64-*) arch=amd64 triple=x86_64-linux-gnu ;;
*) echo "package: unknown target $target" >&2; exit 2 ;;
esac
[ "${BUILT:-0}" = 1 ] || scripts/build-board.sh "$target"
program=$out/$target/roadhound
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
floor=$(grep -ao 'GLIBC_2\.[0-9]*' "$program" | sort -uV | tail -1 | sed 's/GLIBC_//')

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D -m 755 "$program" "$root/usr/bin/roadhound"
# What `dist` builds is stripped already; another profile's program is twice as large as it needs to be.
for strip in "$triple-strip" llvm-strip; do
    if command -v "$strip" >/dev/null; then
        "$strip" "$root/usr/bin/roadhound"
        break
    fi
done
install -D -m 644 packaging/roadhound.service "$root/lib/systemd/system/roadhound.service"
install -D -m 644 packaging/60-roadhound.rules "$root/lib/udev/rules.d/60-roadhound.rules"
install -D -m 644 packaging/roadhound.toml "$root/etc/roadhound/roadhound.toml"
install -D -m 644 packaging/watch.toml "$root/usr/share/doc/roadhound/examples/watch.toml"
install -D -m 644 packaging/roadhound.1 "$root/usr/share/man/man1/roadhound.1"
gzip -9n "$root/usr/share/man/man1/roadhound.1"
install -D -m 644 packaging/completion.bash "$root/usr/share/bash-completion/completions/roadhound"
install -D -m 644 README.md "$root/usr/share/doc/roadhound/README.md"
install -D -m 644 -t "$root/usr/share/doc/roadhound/docs" docs/adaptation.md docs/learning-systems.md docs/demo.jpg
install -D -m 644 CHANGELOG.md "$root/usr/share/doc/roadhound/changelog"
gzip -9n "$root/usr/share/doc/roadhound/changelog"
{
    echo "Licence: Apache-2.0, see /usr/share/common-licenses/Apache-2.0. The model that is built in:"
    cat edge/models/roadhound-s/CARD.md
} > "$root/usr/share/doc/roadhound/copyright"

mkdir "$root/DEBIAN"
cat > "$root/DEBIAN/control" <<CONTROL
Package: roadhound
Version: $version
Architecture: $arch
Maintainer: Roadhound <roadhound@example.invalid>
Installed-Size: $(du -sk --exclude DEBIAN "$root" | cut -f1)
Depends: libc6 (>= ${floor:-2.31}), libgcc-s1
Recommends: systemd, udev
Section: video
Priority: optional
Description: follows objects in dashcam video
 A tracker that runs on the camera's board, at the camera's rate, and says when it has lost its target.
CONTROL
echo /etc/roadhound/roadhound.toml > "$root/DEBIAN/conffiles"
cp packaging/postinst packaging/prerm packaging/postrm "$root/DEBIAN/"
chmod 755 "$root/DEBIAN/"{postinst,prerm,postrm}
deb=$out/roadhound_${version}_$arch.deb
dpkg-deb --root-owner-group --build "$root" "$deb" >/dev/null
echo "$deb: $(stat -c %s "$deb") bytes"
