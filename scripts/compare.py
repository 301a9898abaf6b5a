#!/usr/bin/env python3
"""Times one followed frame, one thread: ours, tract's, ONNX Runtime's, OpenCV's.

    python3 scripts/compare.py [--roadhound target/release/roadhound] [--bundle edge/models/roadhound-s]
                               [--shared ../shared] [--rounds 5] [--frames 60] [--wall]

Rounds of all contenders follow each other, so that what else the machine does hits all of them; figures are medians over
the rounds' medians, ratios medians over the rounds' ratios. Time is what the processor spends on the one thread; `--wall`
takes what passes. Peak memory is that of `roadhound track` on a raw dump of 1280x720 frames. Needs onnxruntime and numpy; TrackerNano needs opencv-contrib-python-headless and ../shared (skipped
with a line where one is absent).

- search graph: `roadhound bench --compare` (our int8, tract f32, stock tract int8), ONNX Runtime f32 and int8 on the same
  files;
- whole step, from a decoded 1280x720 frame to a box: `roadhound bench` in int8 and f32 (crop, search, decode, tracker),
  `TrackerNano.update` on frames of the same size;
- products a second of our int8 search graph, and what share that is of the most that the processor can do.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def ours(args, *more):
    command = [args.roadhound, "bench", "--json", "--frames", str(args.frames), *more]
    if not args.wall:
        command.append("--processor-time")
    if args.bundle:
        command += ["--model", args.bundle]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def onnx_sessions(bundle):
    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        print(f"compare: ONNX Runtime skipped: {error}", file=sys.stderr)
        return {}, None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = {}
    for name, file in [("ONNX Runtime int8", "search.int8.onnx"), ("ONNX Runtime f32", "search.onnx")]:
        path = Path(bundle) / file
        if path.exists():
            sessions[name] = onnxruntime.InferenceSession(str(path), options)
    some = next(iter(sessions.values()))
    random = numpy.random.default_rng(1)
    feed = {i.name: random.normal(0, 1, i.shape).astype("float32") for i in some.get_inputs()}
    return sessions, feed


def nano(shared):
    weights = Path(shared) / "data" / "peers" / "nanotrackv2"
    try:
        import cv2
        import numpy
    except ImportError as error:
        print(f"compare: TrackerNano skipped: {error}", file=sys.stderr)
        return None
    if not weights.exists():
        print(f"compare: TrackerNano skipped: no {weights}", file=sys.stderr)
        return None
    cv2.setNumThreads(1)
    params = cv2.TrackerNano_Params()
    params.backbone = str(weights / "nanotrack_backbone_sim.onnx")
    params.neckhead = str(weights / "nanotrack_head_sim.onnx")
    tracker = cv2.TrackerNano_create(params)
    random = numpy.random.default_rng(2)
    image = cv2.resize(random.integers(0, 255, (45, 80, 3), dtype=numpy.uint8), (1280, 720))
    tracker.init(image, (600, 330, 90, 60))
    return lambda: tracker.update(image)


def timed(work, times, now):
    started = now()
    work()
    times.append((now() - started) * 1e3)


def peak_memory(args):
    """MiB at most while `track` follows something through a few raw frames, by precision."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.yuyv"
        clip.write_bytes(bytes(range(256)) * (1280 * 720 * 2 * 12 // 256))
        for precision in ["int8", "f32"]:
            command = [args.roadhound, "track", str(clip), "--raw", "1280x720:yuyv", "--init", "600,330,90,60", "--quiet"]
            command += ["--precision", precision, "--out", str(Path(folder) / "boxes")]
            if args.bundle:
                command += ["--model", args.bundle]
            child = subprocess.Popen(command)
            # What the kernel tells of ended children counts what they were forked from, too.
            while child.poll() is None:
                try:
                    status = Path(f"/proc/{child.pid}/status").read_text()
                except OSError:
                    continue
                kib = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
                found[precision] = int(kib[0]) / 1024 if kib else found.get(precision, 0)
                time.sleep(0.002)
            if child.returncode != 0:
                sys.exit(f"compare: {' '.join(command)} failed")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--roadhound", default=str(root / "target" / "release" / "roadhound"))
    parser.add_argument("--bundle", default=str(root / "edge" / "models" / "roadhound-s"))
    parser.add_argument("--shared", default=str(root.parent / "shared"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--wall", action="store_true")
    args = parser.parse_args()
    now = time.perf_counter if args.wall else time.thread_time
    sessions, feed = onnx_sessions(args.bundle)
    peer = nano(args.shared)
    search, step, rooflines = {}, {}, []

    def note(table, name, value):
        table.setdefault(name, []).append(value)

    for _ in range(args.rounds):
        comparison = ours(args, "--compare")
        rooflines += [r for r in comparison["rooflines"] if r["graph"] == "search"]
        for contender in comparison["contenders"]:
            note(search, contender["name"], contender["search"]["median_millis"])
        of_round = {name: [] for name in sessions}
        for frame in range(args.frames + 5):
            for name, session in sessions.items():
                timed(lambda: session.run(None, feed), of_round[name], now)
        for name, times in of_round.items():
            note(search, name, statistics.median(times[5:]))
        for precision in ["int8", "f32"]:
            note(step, precision, ours(args, "--precision", precision)["total"]["median_millis"])
        if peer:
            times = []
            for _ in range(args.frames + 5):
                timed(peer, times, now)
            note(step, "TrackerNano v2", statistics.median(times[5:]))
    for title, table, to in [("search graph", search, ["f32", "ONNX Runtime int8"]), ("whole step", step, ["f32", "TrackerNano v2"])]:
        to = [name for name in to if name in table]
        print(f"{title:<20}{'median ms':>10}" + "".join(f"{'of ' + name:>24}" for name in to))
        for name, values in table.items():
            ratios = [statistics.median(a / b for a, b in zip(values, table[other])) for other in to]
            print(f"{name:<20}{statistics.median(values):>10.3f}" + "".join(f"{ratio:>24.3f}" for ratio in ratios))
    if rooflines:
        middle = sorted(rooflines, key=lambda r: r["share"])[len(rooflines) // 2]
        print(
            f"int8: {middle['per_second'] / 1e9:.0f} G products a second, "
            f"{100 * middle['share']:.0f} % of the {middle['peak_per_second'] / 1e9:.0f} G that the processor can do"
        )
    memory = peak_memory(args)
    print("track, peak memory: " + ", ".join(f"{name} {mib:.1f} MiB" for name, mib in memory.items()))


if __name__ == "__main__":
    main()
