#!/usr/bin/env python3
"""Makes docs/demo.jpg: four moments of `roadhound demo`, side by side.

    cargo run --release -p roadhound-edge -- demo && python3 scripts/demo-picture.py [FOLDER] [PICTURE]

The moments are looked up in the results, not chosen by hand: the first frame; the target half hidden (the last frame with
a box before the first without one, by the truth); the middle of the time in which it is called lost; half a second after it
is found again. Needs opencv-python-headless and numpy.
"""
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np

CELL_PX = (720, 405)
GAP_PX = 8
QUALITY = 85


def moments(folder: Path) -> list[int]:
    frames = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
    truth = [line.split(",") for line in (folder / "truth.txt").read_text().splitlines()]
    hidden = next(i for i, row in enumerate(truth) if math.isnan(float(row[0])))
    lost = [i for i, frame in enumerate(frames) if frame["phase"] == "lost"]
    if not lost:
        sys.exit(f"{folder}: the target is never called lost; try another seed")
    found = next((i for i in range(lost[-1] + 1, len(frames)) if frames[i]["phase"] == "tracking"), None)
    if found is None:
        sys.exit(f"{folder}: the target is not found again; try another seed")
    half_a_second = round(len(frames) / 20)
    return [0, hidden - 1, lost[len(lost) // 2], min(found + half_a_second, len(frames) - 1)]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "roadhound-demo")
    picture = Path(sys.argv[2] if len(sys.argv) > 2 else "docs/demo.jpg")
    wanted = moments(folder)
    video = cv2.VideoCapture(str(folder / "drive.mp4"))
    cells = {}
    for index in range(max(wanted) + 1):
        read, image = video.read()
        if not read:
            sys.exit(f"{folder}/drive.mp4: ends at frame {index}")
        if index in wanted:
            cells[index] = cv2.resize(image, CELL_PX, interpolation=cv2.INTER_CUBIC)
    (w, h), gap = CELL_PX, GAP_PX
    sheet = np.full((2 * h + gap, 2 * w + gap, 3), 255, np.uint8)
    for nth, index in enumerate(wanted):
        y, x = nth // 2 * (h + gap), nth % 2 * (w + gap)
        sheet[y : y + h, x : x + w] = cells[index]
    cv2.imwrite(str(picture), sheet, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    print(f"{picture}: frames {wanted}")


main()
