"""Runs a graph that proposes in ONNX Runtime on frames from a file, after onnx.checker has seen it.

    propose_oracle.py GRAPH FRAMES OUT

FRAMES holds little-endian f32, planar, one frame after the other. OUT gets score, box and embedding of each.
"""
import sys

import numpy
import onnx
import onnxruntime

graph, frames, out = sys.argv[1:4]
onnx.checker.check_model(onnx.load(graph), full_check=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape
values = numpy.fromfile(frames, dtype="<f4").reshape(-1, *shape)
with open(out, "wb") as sink:
    for frame in values:
        for array in session.run(["score", "box", "embedding"], {"frame": frame}):
            sink.write(numpy.ascontiguousarray(array, dtype="<f4").tobytes())
