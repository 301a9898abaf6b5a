#!/usr/bin/env python3
"""Sets `roadhound watch` beside YOLOX-nano with ByteTrack: identities and time, on annotated clips, one thread each.

    python3 scripts/compare-watch.py --roadhound target/release/roadhound --trainer target/release/roadhound-train --model BUNDLE
                                     [--shared ../shared] [--clips us_i280_highway,...] [--out compare-watch] [--rounds 1]
                                     [--skip-int8]

The peer is `data/peers/yolox_nano` of the shared folder on ONNX Runtime, in f32 and quantised here (static, on frames of
`data/train`), whichever is faster, and ByteTrack of the package `trackers`: with its own thresholds, which are for larger
detectors, and with lower ones (`LOW`), which suit this one better. All get decoded frames; a frame's time is from its pixels to
its boxes. All are scored by `roadhound-train evaluate --mot` with the rule of the clips: a box on which
nobody stands counts against a tracker only where it is wider than 24 px. The clips are for evaluation: nothing is tuned on
them here or elsewhere.

Needs numpy, opencv, onnxruntime, trackers (2.6); for the int8 peer also onnx. What is missing is said, and ends the comparison.
"""
import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CLIPS = "us_i280_highway,us_carnd_test,eu_kitti_raw_queue,in_kerala_a,in_kerala_b"
LEAST_SCORE = 0.1  # ByteTrack wants the weak ones as well
CALIBRATION_FRAMES = 64
# Score of a track's first box, and of the first stage: ByteTrack's defaults elsewhere (supervision).
LOW = {"track_activation_threshold": 0.25, "high_conf_det_threshold": 0.25}
THRESHOLDS = {"": {}, ", low thresholds": LOW}

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import cv2  # noqa: E402  (after the thread limits)
import numpy as np  # noqa: E402

cv2.setNumThreads(1)


def detector_module():
    """The detector that labels videos, which must not be written twice."""
    path = Path(__file__).with_name("auto-tracks.py")
    spec = importlib.util.spec_from_file_location("auto_tracks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SCORE = LEAST_SCORE
    return module


def quantised(model, frames, out):
    """The detector in eight bits, as ONNX Runtime's own tools make it."""
    import onnx
    from onnx.version_converter import convert_version
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quant_pre_process, quantize_static

    # Scales a channel need operators that the file is too old for.
    newer, prepared = out.with_suffix(".newer.onnx"), out.with_suffix(".prepared.onnx")
    onnx.save(convert_version(onnx.load(str(model)), 13), str(newer))
    quant_pre_process(str(newer), str(prepared), skip_symbolic_shape=True)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.frames = iter(frames)

        def get_next(self):
            picture = next(self.frames, None)
            return None if picture is None else {"images": letterbox(picture)}

    quantize_static(
        str(prepared), str(out), Reader(), per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8
    )
    return out


def letterbox(picture, side=416):
    scale = side / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.full((side, side, 3), 114, np.float32)
    canvas[: small.shape[0], : small.shape[1]] = small[:side, :side]
    return canvas.transpose(2, 0, 1)[None]


def frame_rate(clip):
    for line in (clip / "seqinfo.ini").read_text().splitlines():
        if line.startswith("frameRate="):
            return float(line.split("=")[1])
    return 30.0


def run_peer(auto, model, clip, outs):
    """MOTChallenge lines to `outs`, a file for each of the thresholds; milliseconds a frame, those of one tracker."""
    import supervision
    import trackers

    detector = auto.Detector(model)
    rate = frame_rate(clip)
    each = [trackers.ByteTrackTracker(frame_rate=rate, **thresholds) for thresholds in THRESHOLDS.values()]
    lines, took = [[] for _ in each], []
    for number, path in enumerate(sorted((clip / "img").iterdir()), 1):
        picture = cv2.imread(str(path))
        height, width = picture.shape[:2]
        started = time.perf_counter()
        rows = auto.suppressed(auto.clipped(detector.one(picture), width, height))
        boxes = np.column_stack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]).reshape(-1, 4).astype(np.float32)
        scores, kinds = rows[:, 4].astype(np.float32), rows[:, 5].astype(int)
        detected = time.perf_counter()
        for tracker, told in zip(each, lines):
            # A tracker may keep what it is given.
            found = supervision.Detections(xyxy=boxes.copy(), confidence=scores.copy(), class_id=kinds.copy())
            tracks = tracker.update(found)
            for (left, top, right, bottom), score, identity in zip(tracks.xyxy, tracks.confidence, tracks.tracker_id):
                # -1 is nobody yet.
                if identity >= 0:
                    told.append(
                        f"{number},{identity + 1},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},{score:.4f},-1,-1,-1\n"
                    )
        took.append(1e3 * (detected - started + (time.perf_counter() - detected) / len(each)))
    for out, told in zip(outs, lines):
        out.write_text("".join(told))
    return took


def run_ours(program, model, clip, outs, precision):
    (out,) = outs
    times = out.with_suffix(".time")
    command = [program, "watch", clip / "img", "--model", model, "--out", out, "--times", times, "--threads", "1", "--quiet"]
    if precision:
        command += ["--precision", precision]
    subprocess.run([str(part) for part in command], check=True)
    took = [float(line) for line in times.read_text().splitlines()]
    times.unlink()
    return took


def emptied(folder, is_ours):
    """The folder with nothing in it: what an earlier call left would be scored as well. What no call left is nobody's to delete."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if not is_ours(path):
            sys.exit(f"compare-watch.py: {path}: not of an earlier comparison, choose another --out")
        path.unlink()
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--roadhound", default="target/release/roadhound")
    parser.add_argument("--trainer", default="target/release/roadhound-train")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", choices=["int8", "f32"])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("ROADHOUND_SHARED", "../shared")))
    parser.add_argument("--clips", default=CLIPS)
    parser.add_argument("--out", type=Path, default=Path("compare-watch"))
    parser.add_argument("--rounds", type=int, default=1, help="time each so often, in turn")
    parser.add_argument("--skip-int8", action="store_true", help="only the f32 peer")
    options = parser.parse_args()
    try:
        import onnxruntime  # noqa: F401
        import trackers  # noqa: F401
    except ImportError as error:
        sys.exit(f"compare-watch.py: {error}")

    auto = detector_module()
    clips = [options.shared / "data/sequences" / name for name in options.clips.split(",")]
    truth = emptied(options.out / "truth", Path.is_symlink)
    for clip in clips:
        (truth / clip.name).symlink_to(clip.resolve())
    peer = options.shared / "data/peers/yolox_nano/yolox_nano.onnx"
    # What is run, and the names of its results.
    named = {"yolox f32 + ByteTrack": [f"yolox f32 + ByteTrack{t}" for t in THRESHOLDS]}
    entries = {"yolox f32 + ByteTrack": lambda clip, outs: run_peer(auto, peer, clip, outs)}
    if not options.skip_int8:
        images = sorted((options.shared / "data/train").rglob("*.jpg"))
        step = max(1, len(images) // CALIBRATION_FRAMES)
        frames = [cv2.imread(str(path)) for path in images[::step][:CALIBRATION_FRAMES]]
        int8 = quantised(peer, [f for f in frames if f is not None], options.out / "yolox_nano.int8.onnx")
        named["yolox int8 + ByteTrack"] = [f"yolox int8 + ByteTrack{t}" for t in THRESHOLDS]
        entries["yolox int8 + ByteTrack"] = lambda clip, outs: run_peer(auto, int8, clip, outs)
    named["roadhound watch"] = ["roadhound watch"]
    entries["roadhound watch"] = lambda clip, outs: run_ours(options.roadhound, options.model, clip, outs, options.precision)

    took = {name: [] for name in entries}
    folder = {name: options.out / name.replace(",", "").replace(" ", "-") for names in named.values() for name in names}
    for results in folder.values():
        emptied(results, lambda path: path.suffix in (".txt", ".time") and not path.is_dir())
    for _ in range(options.rounds):
        for clip in clips:
            for name, run in entries.items():
                outs = [folder[result] / f"{clip.name}.txt" for result in named[name]]
                # The first frame warms the caches.
                took[name] += run(clip, outs)[1:]
    for name, results in named.items():
        print(f"\n{name}: {statistics.mean(took[name]):.2f} ms a frame (mean), {statistics.median(took[name]):.2f} (median)")
        for result in results:
            print(f"--- {result}", flush=True)
            command = [options.trainer, "evaluate", "--mot", str(folder[result]), "--truth", str(truth)]
            subprocess.run(command, check=True)
    fastest = min((name for name in entries if name.startswith("yolox")), key=lambda name: statistics.mean(took[name]))
    ratio = statistics.mean(took["roadhound watch"]) / statistics.mean(took[fastest])
    print(f"\nmean time of roadhound watch over {fastest}: {ratio:.2f}")


if __name__ == "__main__":
    main()
