"""Replays the probes of a saved model in ONNX Runtime, after onnx.checker has seen its graphs.

    systems_oracle.py FOLDER

Prints, for each graph, how far the furthest output is off as a share of the largest value (of one where that is smaller).
"""
import json
import sys
import tomllib

import numpy
import onnx
import onnxruntime

folder = sys.argv[1]
with open(f"{folder}/model.toml", "rb") as file:
    manifest = tomllib.load(file)
with open(f"{folder}/probe.json") as file:
    probes = json.load(file)
for graph in manifest["graphs"]:
    path = f"{folder}/{graph['file']}"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    furthest, runs = 0.0, [probe for probe in probes if probe["file"] == graph["file"]]
    for probe in runs:
        inputs = {
            spec["name"]: numpy.asarray(values, dtype=numpy.float32).reshape(spec["shape"])
            for spec, values in zip(graph["inputs"], probe["inputs"], strict=True)
        }
        found = session.run([spec["name"] for spec in graph["outputs"]], inputs)
        for array, spec, expected in zip(found, graph["outputs"], probe["outputs"], strict=True):
            assert list(array.shape) == spec["shape"], (array.shape, spec)
            expected = numpy.asarray(expected, dtype=numpy.float32).reshape(spec["shape"])
            largest = max(1.0, float(numpy.abs(expected).max()))
            furthest = max(furthest, float(numpy.abs(array - expected).max()) / largest)
    print(graph["file"], len(runs), furthest)
