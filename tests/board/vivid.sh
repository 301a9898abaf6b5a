# What the jobs on a board share. Sourced, not run.

# The name of the camera in the configuration. It is there once the camera is prepared, and stays while it is unplugged.
camera=$PWD/camera

# What a job does to a camera before the program can open it.
prepare() { :; }

# Two inputs, a webcam (0) and HDMI (1), and an HDMI output that can be looped back into the latter. Arguments are more
# parameters of the driver.
load_vivid() {
    modprobe vivid n_devs=1 node_types=0x101 num_inputs=2 input_types=0xC num_outputs=1 output_types=0x1 no_error_inj=0 "$@"
    connect
}
unplug() {
    rm "$camera"
    echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
}
plug() {
    echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
    connect
}
connect() {
    for node in /sys/class/video4linux/video*; do
        case $(cat "$node/name") in
        vivid-*-vid-cap) capture=/dev/${node##*/} ;;
        vivid-*-vid-out) output=/dev/${node##*/} ;;
        esac
    done
    prepare
    ln -s "$capture" "$camera"
}
control() { v4l2-ctl -d "$capture" -c "$1"; }

# loop_camera WIDTHxHEIGHT: what is written to $output comes out of $camera. The driver can do no less than 60 and 24 frames a
# second at these sizes; half of them are dropped by its error control, and counted as lost.
loop_camera() {
    case $1 in
    640x480) timings=0 ;;
    1280x720) timings=3 ;;
    *) echo "no timings for $1"; return 1 ;;
    esac
    v4l2-ctl -d "$capture" -i 1 >/dev/null
    for device in "$capture" "$output"; do v4l2-ctl -d "$device" --set-dv-bt-timings index=$timings >/dev/null; done
    # No text over the picture, and a count of frames that goes round after 128.
    control osd_text_mode=2,loop_video=1,percentage_of_dropped_buffers=50,wrap_sequence_number=1
}

# wait_for FILE SECONDS: until there is something in it.
wait_for() {
    tries=$(($2 * 20))
    until [ -s "$1" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "no $1 after $2 s"; cat run.log; return 1; }
        sleep 0.05
    done
}

# until_more COMMAND NUMBER: until it prints more than that, at most a minute.
until_more() {
    tries=600
    until [ "$(eval "$1")" -gt "$2" ]; do
        tries=$((tries - 1))
        if [ $tries -le 0 ] || ! kill -0 $run; then echo "$1: no more than $2"; cat run.log; return 1; fi
        sleep 0.1
    done
}

# About the program that writes track.jsonl and run.log and has the number $run.
lines() { wc -l <track.jsonl; }
says() { grep -c "$1" run.log || true; }
# more_lines NUMBER
more_lines() { until_more lines $(($(lines) + $1)); }
# Open files, mapped regions, resident KiB, and what the kernel has in virtual memory for its drivers, in KiB.
holds() {
    resident=$(awk '/^VmRSS:/ { print $2 }' /proc/$run/status)
    kernel=$(awk '/^VmallocUsed:/ { print $2 }' /proc/meminfo)
    echo "$(ls /proc/$run/fd | wc -l) $(wc -l </proc/$run/maps) $resident $kernel"
}
