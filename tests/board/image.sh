#!/usr/bin/env bash
# What the emulated board boots: Debian's arm64 kernel, and a 5 MB file system of busybox, v4l2-ctl and the driver of a
# camera that exists in software only (vivid). From Debian's own packages, unpacked and not installed.
#
# Usage: image.sh FOLDER. Leaves FOLDER/kernel and FOLDER/initramfs; says what is missing and ends with 77 where a tool is.
# Verified with the packages of Debian 12; they are fetched once, 62 MB.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)

skip() { echo "board image: skipped: $*" >&2; exit 77; }
for tool in dpkg apt-get cpio gzip depmod modprobe; do
    PATH="$PATH:/sbin:/usr/sbin" command -v $tool >/dev/null || skip "no $tool (Debian: apt-get install kmod cpio)"
done
PATH="$PATH:/sbin:/usr/sbin"

# Fetched and unpacked once: what is there is there as a whole.
debs=$folder/debs
if [ ! -d "$debs" ]; then
    dpkg --print-foreign-architectures | grep -qx arm64 || skip "dpkg does not know arm64 (dpkg --add-architecture arm64; apt-get update)"
    kernel=$(apt-cache depends linux-image-arm64:arm64 2>/dev/null | sed -n 's/ *Depends: \(linux-image-[0-9][^:]*\).*/\1/p' | head -1)
    [ -n "$kernel" ] || skip "apt-get knows no linux-image-arm64"
    part=$(mktemp -d "$debs.XXXX")
    chmod 755 "$part"
    (cd "$part" && apt-get -q download "$kernel:arm64" busybox-static:arm64 v4l-utils:arm64 libc6:arm64 libgcc-s1:arm64 \
        libstdc++6:arm64 libjpeg62-turbo:arm64 libudev1:arm64 libv4l-0:arm64 libv4l2rds0:arm64 libv4lconvert0:arm64 >&2) ||
        { rm -rf "$part"; skip "packages cannot be fetched"; }
    mv "$part" "$debs"
fi
if [ ! -d "$folder/unpacked" ]; then
    part=$(mktemp -d "$folder/unpacked.XXXX")
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$part"; done
    version=$(ls "$part/lib/modules")
    depmod -b "$part" "$version"
    mv "$part" "$folder/unpacked"
fi
unpacked=$folder/unpacked
version=$(ls "$unpacked/lib/modules")

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,lib,usr/lib,dev,proc,sys,tmp,mnt,run,lib/modules/"$version"}
cp "$unpacked/bin/busybox" "$unpacked/usr/bin/v4l2-ctl" "$root/bin/"
# Without the kernel's own libraries of drivers: loader and libraries only, not locales.
for libraries in "$unpacked"/lib/aarch64-linux-gnu "$unpacked"/usr/lib/aarch64-linux-gnu; do
    find "$libraries" -maxdepth 1 \( -name '*.so.*' -o -name 'ld-linux*' \) -exec cp -a {} "$root/lib/" \;
done
[ -e "$root/lib/ld-linux-aarch64.so.1" ] || cp -a "$unpacked/lib/ld-linux-aarch64.so.1" "$root/lib/"
for module in vivid 9p 9pnet_virtio virtio_pci; do
    modprobe -d "$unpacked" -S "$version" --show-depends $module | awk '$1 == "insmod" { print $2 }'
done | sort -u | while read -r file; do
    to="$root/lib/modules/$version/${file#*/lib/modules/$version/}"
    mkdir -p "$(dirname "$to")"
    cp "$file" "$to"
done
cp "$unpacked/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$version/"
depmod -b "$root" "$version"
install -m 755 "$here/init" "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$folder/initramfs.part"
cp "$unpacked"/boot/vmlinuz-* "$folder/kernel"
mv "$folder/initramfs.part" "$folder/initramfs"
