"""Runs a bundle's two graphs in ONNX Runtime on crops from a file, after onnx.checker has seen them.

    onnxruntime_oracle.py BUNDLE CROPS OUT

CROPS holds, for each pair, one template crop and one search crop as little-endian f32, planar. OUT gets, for each pair,
features, template embedding, score, box, presence and embedding in that order; the search graph is given the pair's own
features as the first template and the previous pair's as the latest one.
"""
import sys

import numpy
import onnx
import onnxruntime

bundle, crops, out = sys.argv[1:4]
sessions = []
for name in ("template.onnx", "search.onnx"):
    onnx.checker.check_model(onnx.load(f"{bundle}/{name}"), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions.append(onnxruntime.InferenceSession(f"{bundle}/{name}", options, providers=["CPUExecutionProvider"]))
template, search = sessions
shapes = [template.get_inputs()[0].shape, search.get_inputs()[0].shape]
sizes = [int(numpy.prod(shape)) for shape in shapes]
values = numpy.fromfile(crops, dtype="<f4").reshape(-1, sum(sizes))
latest = None
with open(out, "wb") as sink:
    for row in values:
        features, identity = template.run(["features", "embedding"], {"template": row[: sizes[0]].reshape(shapes[0])})
        latest = features if latest is None else latest
        answers = search.run(
            ["score", "box", "presence", "embedding"],
            {"search": row[sizes[0] :].reshape(shapes[1]), "template_first": features, "template_latest": latest},
        )
        latest = features
        for array in (features, identity, *answers):
            sink.write(numpy.ascontiguousarray(array, dtype="<f4").tobytes())
