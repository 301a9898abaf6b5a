#!/usr/bin/env python3
"""Times one followed frame, one thread: ours, tract's, ONNX Runtime's, OpenCV's.

    python3 scripts/compare.py [--roadhound target/release/roadhound] [--bundle edge/models/roadhound-s]
                               [--shared ../shared] [--rounds 5] [--frames 60]

Rounds of all contenders follow each other, so that what else the machine does hits all of them; figures are medians over
the rounds' medians. Needs onnxruntime and numpy; TrackerNano needs opencv-contrib-python-headless and ../shared (skipped
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
import time
from pathlib import Path


def ours(args, *more):
    command = [args.roadhound, "bench", "--json", "--frames", str(args.frames), *more]
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


def timed(work, times):
    started = time.perf_counter()
    work()
    times.append((time.perf_counter() - started) * 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--roadhound", default=str(root / "target" / "release" / "roadhound"))
    parser.add_argument("--bundle", default=str(root / "edge" / "models" / "roadhound-s"))
    parser.add_argument("--shared", default=str(root.parent / "shared"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
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
                timed(lambda: session.run(None, feed), of_round[name])
        for name, times in of_round.items():
            note(search, name, statistics.median(times[5:]))
        for precision in ["int8", "f32"]:
            note(step, precision, ours(args, "--precision", precision)["total"]["median_millis"])
        if peer:
            times = []
            for _ in range(args.frames + 5):
                timed(peer, times)
            note(step, "TrackerNano v2", statistics.median(times[5:]))
    for title, table, to in [("search graph", search, ["f32", "ONNX Runtime int8"]), ("whole step", step, ["f32", "TrackerNano v2"])]:
        medians = {name: statistics.median(values) for name, values in table.items()}
        to = [name for name in to if name in medians]
        print(f"{title:<20}{'median ms':>10}" + "".join(f"{'of ' + name:>24}" for name in to))
        for name, value in medians.items():
            print(f"{name:<20}{value:>10.3f}" + "".join(f"{value / medians[other]:>24.3f}" for other in to))
    if rooflines:
        middle = sorted(rooflines, key=lambda r: r["share"])[len(rooflines) // 2]
        print(
            f"int8: {middle['per_second'] / 1e9:.0f} G products a second, "
            f"{100 * middle['share']:.0f} % of the {middle['peak_per_second'] / 1e9:.0f} G that the processor can do"
        )


if __name__ == "__main__":
    main()
