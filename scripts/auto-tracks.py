#!/usr/bin/env python3
"""Labels the road users of unlabelled video, and keeps only what three witnesses agree on.

    python3 scripts/auto-tracks.py VIDEO... --peers ../shared/data/peers --out PACK
                                   [--windows 3] [--frames 32] [--rate 12] [--width 448] [--min-length 12] [--tracks 8]

In: video files. Out: a training pack, `PACK/boxes.csv` (`sequence,frame,instance,class,x,y,w,h,occluded`, pixels of the
stored picture, occluded always -1) and `PACK/images/SEQUENCE/FRAME.jpg`, FRAME being the number of the video's frame. Each
video gives up to `--windows` sequences, spread evenly over it, of up to `--frames` frames at about `--rate` a second.

The witnesses of a track are the detector (YOLOX-nano on the whole picture and on its two overlapping halves, linked from
frame to frame by overlap with a constant-velocity guess), and NanoTrack v2 run forwards from the track's first box and
backwards from its last. A frame counts where both trackers overlap the detector by IoU `FRAME_IOU`; of each track the
longest run of such frames stays, if it has `--min-length` frames, a median IoU of `TRACK_IOU`, is not tiny, and moves or
changes size. A cut in the picture ends every track. The tracks that the detector saw most often are tried
first, until `--tracks` of a window are kept. The box is the detector's, smoothed over time; a frame
that the detector misses, inside a run, is interpolated and held to the same agreement.

A person on a motorcycle or bicycle is one object of the vehicle's class: the box that holds both, legs included.

What is not kept is not labelled: a pack made here is no truth for detection, and other people may stand unlabelled in the
pictures. Nothing is drawn at random, so the same files give the same pack. Needs onnxruntime, numpy and
opencv-contrib-python-headless. Look at the result before training on it.
"""
import argparse
import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

INPUT_PX = 416
STRIDES = (8, 16, 32)
CLASSES = {0: "person", 1: "bicycle", 2: "car", 3: "motorcycle", 5: "bus", 7: "truck"}
RIDDEN = ("bicycle", "motorcycle")
SCORE = 0.35  # of a detection that may start or continue a track
NMS_IOU = 0.6
LINK_IOU = 0.35
LARGEST_GAP = 2  # frames in a row that the detector may miss
FRAME_IOU = 0.55  # each tracker against the detector, in every kept frame
TRACK_IOU = 0.7  # the median of those over the kept run
SMALLEST_SIDE_PX = 9  # of the stored picture
SMOOTHING_FRAMES = 1.0  # standard deviation of the Gaussian over time
CUT = 0.5  # correlation of the colour histograms of neighbours below which the picture was cut


def iou(a, b):
    """Overlap of boxes `[..., x y w h]` with `[..., x y w h]`, shapes broadcast."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    return common / np.maximum(np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - common, 1e-9)


class Detector:
    """YOLOX-nano: a BGR picture in, rows `x y w h score class` out, in the picture's pixels."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        cells, strides = [], []
        for stride in STRIDES:
            side = INPUT_PX // stride
            ys, xs = np.mgrid[:side, :side]
            cells.append(np.stack([xs.ravel(), ys.ravel()], 1))
            strides.append(np.full((side * side, 1), stride))
        self.cells, self.strides = np.concatenate(cells), np.concatenate(strides)

    def one(self, picture):
        scale = INPUT_PX / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        canvas = np.full((INPUT_PX, INPUT_PX, 3), 114, np.float32)
        canvas[: small.shape[0], : small.shape[1]] = small[:INPUT_PX, :INPUT_PX]
        raw = self.session.run(None, {"images": canvas.transpose(2, 0, 1)[None]})[0][0]
        centre, size = (raw[:, :2] + self.cells) * self.strides, np.exp(raw[:, 2:4]) * self.strides
        scores = raw[:, 4:5] * raw[:, 5:]
        kind = scores.argmax(1)
        score = scores[np.arange(len(kind)), kind]
        keep = (score > SCORE) & np.isin(kind, list(CLASSES))
        boxes = np.concatenate([centre - size / 2, size], 1) / scale
        return np.column_stack([boxes, score, kind])[keep]

    def __call__(self, picture):
        height, width = picture.shape[:2]
        part = min(width, max(height, int(width * 0.6)))
        found = [self.one(picture)]
        for left in (0, width - part) if part < width else ():
            rows = self.one(picture[:, left : left + part])
            # A box cut by the edge between the halves is no whole object: the other views have it.
            inner = left + part if left == 0 else left
            rows[:, 0] += left
            touches = np.minimum(abs(rows[:, 0] - inner), abs(rows[:, 0] + rows[:, 2] - inner)) < 4
            found.append(rows[~touches])
        return ridden(suppressed(clipped(np.concatenate(found), width, height)))


def inside(boxes, width, height):
    """The part of each box that the picture holds."""
    low = np.clip(boxes[:, :2], 0, (width, height))
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, (width, height))
    return np.column_stack([low, high - low])


def clipped(rows, width, height):
    rows = np.column_stack([inside(rows[:, :4], width, height), rows[:, 4:]])
    return rows[(rows[:, 2] > 1) & (rows[:, 3] > 1)]


def suppressed(rows):
    """Non-maximum suppression over all classes: one object has one box."""
    kept = []
    for row in rows[np.argsort(-rows[:, 4], kind="stable")]:
        if all(iou(row[:4], other[:4]) < NMS_IOU for other in kept):
            kept.append(row)
    return np.array(kept).reshape(-1, 6)


def ridden(rows):
    """Puts the rider and the two-wheeler under him together."""
    people = [row for row in rows if CLASSES[int(row[5])] == "person"]
    others = [row.copy() for row in rows if CLASSES[int(row[5])] != "person"]
    taken = set()
    for row in others:
        if CLASSES[int(row[5])] not in RIDDEN:
            continue
        x, y, w, h = row[:4]
        for index, person in enumerate(people):
            px, py, pw, ph = person[:4]
            feet, middle = py + ph, px + pw / 2
            if index not in taken and x < middle < x + w and py < y + h / 2 and y < feet <= y + 1.2 * h:
                taken.add(index)
                low, high = np.minimum(row[:2], person[:2]), np.maximum(row[:2] + row[2:4], person[:2] + person[2:4])
                row[:4] = [*low, *(high - low)]
    return np.array([p for i, p in enumerate(people) if i not in taken] + others).reshape(-1, 6)


def linked(detections, cuts):
    """Tracks as `{frame: row}`, from the detections of each frame; no track crosses a cut."""
    open_tracks, done = [], []
    for frame, rows in enumerate(detections):
        if frame in cuts:
            done += open_tracks
            open_tracks = []
        pairs = []
        for t, track in enumerate(open_tracks):
            last = max(track)
            guess = track[last][:4].copy()
            before = [f for f in track if f < last]
            if before:
                guess[:2] += (track[last][:2] - track[before[-1]][:2]) * (frame - last) / (last - before[-1])
            for d, row in enumerate(rows):
                overlap = iou(guess, row[:4])
                if overlap >= LINK_IOU:
                    pairs.append((-overlap, t, d))
        used_tracks, used_rows = set(), set()
        for _, t, d in sorted(pairs):
            if t not in used_tracks and d not in used_rows:
                used_tracks.add(t)
                used_rows.add(d)
                open_tracks[t][frame] = rows[d]
        done += [track for track in open_tracks if frame - max(track) > LARGEST_GAP]
        open_tracks = [track for track in open_tracks if frame - max(track) <= LARGEST_GAP]
        open_tracks += [{frame: row} for d, row in enumerate(rows) if d not in used_rows]
    return done + open_tracks


def followed(nano, pictures, box):
    """NanoTrack's boxes over `pictures`, started on the first with `box`; NaN where it gives up."""
    params = cv2.TrackerNano_Params()
    params.backbone, params.neckhead = (str(nano / f"nanotrack_{part}_sim.onnx") for part in ("backbone", "head"))
    tracker = cv2.TrackerNano_create(params)
    tracker.init(pictures[0], tuple(int(round(v)) for v in box))
    boxes = [tuple(box)]
    for picture in pictures[1:]:
        found, box = tracker.update(picture)
        boxes.append(tuple(box) if found else (np.nan,) * 4)
    return np.array(boxes, float)


def agreed(track, pictures, nano, min_length):
    """The longest run of frames that all three witnesses give, as `(frames, boxes)`; None if it is not good enough."""
    frames = np.arange(min(track), max(track) + 1)
    if len(track) < 0.6 * min_length or len(frames) < min_length:
        return None
    seen = np.array(sorted(track))
    rows = np.array([track[f][:4] for f in seen])
    boxes = np.column_stack([np.interp(frames, seen, rows[:, k]) for k in range(4)])
    cut = pictures[frames[0] : frames[-1] + 1]
    forwards = followed(nano, cut, boxes[0])
    backwards = followed(nano, cut[::-1], boxes[-1])[::-1]
    worst = np.nan_to_num(np.minimum(iou(forwards, boxes), iou(backwards, boxes)))
    best, start = (0, 0), 0
    for end in range(len(frames) + 1):
        if end == len(frames) or worst[end] < FRAME_IOU:
            best = max(best, (end - start, -start))
            start = end + 1
    length, start = best[0], -best[1]
    run = slice(start, start + length)
    if length < min_length or np.median(worst[run]) < TRACK_IOU:
        return None
    return frames[run], smoothed(boxes[run])


def smoothed(boxes):
    """Centres and sizes through a Gaussian over time, ends mirrored about the end value so that motion is not pulled in."""
    reach = int(3 * SMOOTHING_FRAMES)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING_FRAMES) ** 2)
    weights /= weights.sum()
    values = np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]])
    front = 2 * values[0] - values[reach:0:-1]
    back = 2 * values[-1] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate([front, values, back])
    values = np.column_stack([np.convolve(padded[:, k], weights, mode="valid") for k in range(4)])
    return np.column_stack([values[:, :2] - values[:, 2:] / 2, values[:, 2:]])


def worth_it(boxes):
    """False for what is tiny, or neither moves nor changes size."""
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    moved = np.ptp(centres, axis=0).max() / np.median(np.sqrt(boxes[:, 2] * boxes[:, 3]))
    grown = boxes[:, 3].max() / boxes[:, 3].min()
    return np.median(boxes[:, 2:].min(1)) >= SMALLEST_SIDE_PX and (moved > 0.3 or grown > 1.5)


def windows(path, count, length, rate):
    """Yields `[(frame number, picture)]` for each window, pictures in the video's own size."""
    video = cv2.VideoCapture(str(path))
    fps, total = video.get(cv2.CAP_PROP_FPS), 0
    while video.grab():
        total += 1
    if not total:
        sys.exit(f"{path}: no frame can be read")
    step = max(1, round(fps / rate)) if fps > 0 else 2
    numbers = range(0, total, step)
    count = max(1, min(count, len(numbers) // length))
    spare = max(0, len(numbers) - count * length)
    video = cv2.VideoCapture(str(path))
    at = 0
    for index in range(count):
        start = index * length + round(spare * (index + 0.5) / count)
        window = []
        for number in numbers[start : start + length]:
            while at < number and video.grab():
                at += 1
            read, picture = video.read()
            at += 1
            if read:
                window.append((number, picture))
        yield window


def stored(picture, width):
    height = round(picture.shape[0] * width / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def scene_cuts(pictures):
    histograms = [cv2.calcHist([p], [0, 1, 2], None, [8] * 3, [0, 256] * 3).ravel() for p in pictures]
    return {i for i in range(1, len(pictures)) if cv2.compareHist(histograms[i - 1], histograms[i], cv2.HISTCMP_CORREL) < CUT}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument("--peers", type=Path, required=True, help="folder with yolox_nano/ and nanotrackv2/")
    parser.add_argument("--out", type=Path, required=True, metavar="PACK")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--rate", type=float, default=12.0)
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument("--min-length", type=int, default=12)
    parser.add_argument("--tracks", type=int, default=8)
    parser.add_argument("--quality", type=int, default=80)
    args = parser.parse_args()
    if len({v.stem for v in args.videos}) < len(args.videos):
        sys.exit("two videos have the same name: sequences are called after them")
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # TrackerNano warns at each start
    detect = Detector(args.peers / "yolox_nano" / "yolox_nano.onnx")
    nano = args.peers / "nanotrackv2"
    table = []
    for video in args.videos:
        for index, window in enumerate(windows(video, args.windows, args.frames, args.rate)):
            name = f"{video.stem}-{index}"
            pictures = [stored(picture, args.width) for _, picture in window]
            detections = []
            for (_, picture), small in zip(window, pictures):
                rows = detect(picture)
                rows[:, :4] *= np.tile([small.shape[1] / picture.shape[1], small.shape[0] / picture.shape[0]], 2)
                detections.append(rows)
            tracks = linked(detections, scene_cuts(pictures))
            rows = []
            for track in sorted(tracks, key=lambda t: (-len(t), min(t), *t[min(t)][:4])):
                instance = len({row[2] for row in rows})
                if instance == args.tracks:
                    break
                run = agreed(track, pictures, nano, args.min_length)
                if run is None or not worth_it(run[1]):
                    continue
                frames, boxes = run[0], inside(run[1], pictures[0].shape[1], pictures[0].shape[0])
                kinds = [int(row[5]) for row in track.values()]
                kind = CLASSES[max(sorted(set(kinds)), key=kinds.count)]
                rows += [[name, window[f][0], instance, kind, *(f"{v:.1f}" for v in box), -1] for f, box in zip(frames, boxes)]
            print(f"{name}: {len(pictures)} frames, {len(tracks)} tracks, kept {len({r[2] for r in rows})}", flush=True)
            if not rows:
                continue
            folder = args.out / "images" / name
            folder.mkdir(parents=True, exist_ok=True)
            first, last = min(row[1] for row in rows), max(row[1] for row in rows)
            for (number, _), picture in zip(window, pictures):
                if first <= number <= last:
                    cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, args.quality])
            table += rows
    if not table:
        sys.exit("no track was kept")
    with open(args.out / "boxes.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sequence", "frame", "instance", "class", "x", "y", "w", "h", "occluded"])
        writer.writerows(table)
    print(f"{len({r[0] for r in table})} sequences, {len({(r[0], r[2]) for r in table})} tracks, {len(table)} boxes")


if __name__ == "__main__":
    main()
