#!/usr/bin/env bash
# Boots the emulated board on a folder that has a job.sh, and ends with the job's exit status once it is done; with 99 where
# the board did not get that far. What the job says is in FOLDER/job.log.
#
# The board's clock counts instructions: one is a nanosecond, whichever core executes it, and a board that waits waits for
# nothing. So what it measures depends neither on this machine's speed nor on its neighbours, and SECONDS are this machine's.
#
# Usage: boot.sh IMAGE FOLDER SECONDS PROCESSOR CORES MEMORY_MIB
set -uo pipefail
image=$1 share=$2 seconds=$3 processor=$4 cores=$5 memory=$6
rm -f "$share/rc"
timeout --foreground "$seconds" qemu-system-aarch64 -M virt -cpu "$processor" -smp "$cores" -m "$memory" -icount shift=0,sleep=off \
    -nodefaults -nographic -no-reboot -serial stdio -monitor none -nic none \
    -kernel "$image/kernel" -initrd "$image/initramfs" \
    -append "console=ttyAMA0 quiet loglevel=4 panic=-1 rdinit=/init" \
    -fsdev local,id=fs0,path="$share",security_model=none -device virtio-9p-pci,fsdev=fs0,mount_tag=share </dev/null >"$share/serial.log" 2>&1
exit "$(cat "$share/rc" 2>/dev/null || echo 99)"
