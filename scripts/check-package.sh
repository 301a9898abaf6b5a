#!/usr/bin/env bash
# Installs a Debian package of the program into an empty root, tries everything in it, and takes it away again.
#
# Usage: check-package.sh FILE.deb     needs root and dpkg; of another processor's package the program itself is tried with
# qemu-user where that is there. Ends with 77 and says why where a tool is missing.
set -euo pipefail
deb=$(realpath "$1")
skip() { echo "check-package: skipped: $*" >&2; exit 77; }
command -v dpkg >/dev/null || skip "no dpkg"
[ "$(id -u)" = 0 ] || skip "only root installs packages"
root=$(mktemp -d)
# What is written for the checks is not below the root, where purging may leave nothing.
scratch=$(mktemp -d)
trap 'rm -rf "$root" "$scratch"' EXIT
mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
touch "$root/var/lib/dpkg/status"
# The empty root has no C library, no shell for the scripts, and may be another processor's.
run_dpkg() { dpkg --root="$root" --force-depends --force-architecture --force-script-chrootless --no-triggers "$@" 2>&1; }
fail() { echo "check-package: $*" >&2; exit 1; }

run_dpkg --install "$deb" >"$root/log" || { cat "$root/log" >&2; fail "cannot be installed"; }
arch=$(dpkg-deb --field "$deb" Architecture)
program=("$root/usr/bin/roadhound")
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    case $arch in arm64) qemu=qemu-aarch64 lib=/usr/aarch64-linux-gnu ;; armhf) qemu=qemu-arm lib=/usr/arm-linux-gnueabihf ;; esac
    command -v "$qemu" >/dev/null || skip "no $qemu"
    program=("$qemu" -L "$lib" "${program[@]}")
fi
"${program[@]}" --version
"${program[@]}" run --check --config "$root/etc/roadhound/roadhound.toml" || fail "the sample is refused"
echo "program and sample: good"

if command -v systemd-analyze >/dev/null; then
    unit=$root/lib/systemd/system/roadhound.service
    # What the unit names has to be where the package puts it.
    sed -n 's/^Exec[A-Za-z]*=\([^ ]*\) .*/\1/p' "$unit" | grep '^/usr/bin/roadhound' | sort -u | while read -r path; do
        [ -x "$root$path" ] || fail "the unit names $path, which is not in the package"
    done
    sed "s|/usr/bin/roadhound|$root/usr/bin/roadhound|" "$unit" >"$scratch/roadhound.service"
    said=$(systemd-analyze verify --man=no "$scratch/roadhound.service" 2>&1) || fail "unit: $said"
    [ -z "$said" ] || fail "unit: $said"
    echo "unit: good"
fi
if command -v udevadm >/dev/null && udevadm verify --help >/dev/null 2>&1; then
    udevadm verify "$root/lib/udev/rules.d/60-roadhound.rules" >/dev/null || fail "the udev rules are refused"
    echo "udev rules: good"
fi
if command -v man >/dev/null; then
    page=$(MANWIDTH=100 man --warnings=w -l "$root/usr/share/man/man1/roadhound.1.gz" 2>"$root/warnings" | col -b)
    [ ! -s "$root/warnings" ] || fail "manual: $(head -1 "$root/warnings")"
    grep -q 'EXIT STATUS' <<<"$page" || fail "the manual does not render"
    echo "manual: $(wc -l <<<"$page") lines"
fi
offered=$(bash -c "source '$root/usr/share/bash-completion/completions/roadhound'
    COMP_WORDS=(roadhound ''); COMP_CWORD=1; _roadhound; echo \"\${COMPREPLY[*]}\"")
grep -qw run <<<"$offered" || fail "completion offers '$offered'"
echo "completion: $offered"

# A configuration that somebody wrote survives an upgrade, and removal; purging takes it away.
echo '# mine' >>"$root/etc/roadhound/roadhound.toml"
run_dpkg --force-confold --install "$deb" >"$root/log" || { cat "$root/log" >&2; fail "cannot be upgraded"; }
grep -q '^# mine$' "$root/etc/roadhound/roadhound.toml" || fail "an upgrade overwrites the configuration"
run_dpkg --remove roadhound >"$root/log" || { cat "$root/log" >&2; fail "cannot be removed"; }
[ ! -e "$root/usr/bin/roadhound" ] || fail "removed, and the program is there"
[ -e "$root/etc/roadhound/roadhound.toml" ] || fail "removed, and the configuration is gone"
run_dpkg --purge roadhound >"$root/log" || { cat "$root/log" >&2; fail "cannot be purged"; }
left=$(cd "$root" && find . -path '*roadhound*' -print)
[ -z "$left" ] || fail "purged, and there is still $left"
echo "installed, upgraded, removed and purged: good"
