#!/usr/bin/env python3
"""Writes the weighted mean of the averaged weights of several checkpoints of one network, as something to start a run from.

    scripts/mean-weights.py OUT CHECKPOINT=WEIGHT CHECKPOINT=WEIGHT ...

The file has the layout of the first checkpoint; what is not an averaged weight is the first one's. Networks that come from one
another by training lie in one valley, and their mean is often more robust than either (Wortsman et al. 2022, model soups).
Example: scripts/mean-weights.py start.safetensors runs/roadhound-s-8/last.safetensors=0.5 runs/roadhound-s-6/last.safetensors=0.5
"""

import array
import json
import struct
import sys


def load(path):
    """Bytes of a safetensors file, and where each tensor lies in them."""
    with open(path, "rb") as file:
        data = file.read()
    (header_len,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_len])
    header.pop("__metadata__", None)
    return data, {name: [8 + header_len + at for at in entry["data_offsets"]] for name, entry in header.items()}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    parts = []
    for argument in sys.argv[2:]:
        path, _, weight = argument.rpartition("=")
        parts.append((*load(path), float(weight)))
    total = sum(weight for *_, weight in parts)
    if abs(total - 1.0) > 1e-6:
        sys.exit(f"the weights add up to {total}, expected 1")
    first, places, _ = parts[0]
    mean = bytearray(first)
    for name, (begin, end) in places.items():
        if not name.startswith("average/"):
            continue
        sums = [0.0] * ((end - begin) // 4)
        for data, theirs, weight in parts:
            if name not in theirs or theirs[name][1] - theirs[name][0] != end - begin:
                sys.exit(f"{name}: not the same tensor in every checkpoint")
            values = array.array("f", data[slice(*theirs[name])])
            sums = [total + weight * value for total, value in zip(sums, values)]
        mean[begin:end] = array.array("f", sums).tobytes()
    with open(sys.argv[1], "wb") as file:
        file.write(mean)


main()
