"""Runs quantised graphs in ONNX Runtime on crops from a file and writes every byte of every u8 tensor.

    quantised_oracle.py FOLDER CROPS TENSORS OUT

FOLDER holds template.int8.onnx and search.int8.onnx. CROPS holds, for each pair, one template crop and one search crop
as little-endian f32, planar. TENSORS has one line a tensor, `template NAME` or `search NAME`: what is written for each
pair, in that order. After them come, as f32, score, box, presence and embedding of the graph as it stands, without further
outputs. The search graph is given the pair's own features as the first template and the previous pair's as the latest.
"""
import sys

import numpy
import onnx
import onnxruntime

folder, crops, tensors, out = sys.argv[1:5]
wanted = [line.split() for line in open(tensors)]


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


plain, full = {}, {}
for graph in ("template", "search"):
    model = onnx.load(f"{folder}/{graph}.int8.onnx")
    onnx.checker.check_model(model)
    plain[graph] = session(model)
    for which, name in wanted:
        if which == graph:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None))
    full[graph] = session(model)

inputs = [plain[graph].get_inputs() for graph in ("template", "search")]
shapes = [inputs[0][0].shape, inputs[1][0].shape]
sizes = [int(numpy.prod(shape)) for shape in shapes]
values = numpy.fromfile(crops, dtype="<f4").reshape(-1, sum(sizes))
latest = None
with open(out, "wb") as sink:
    for row in values:
        feeds = {"template": {"template": row[: sizes[0]].reshape(shapes[0])}}
        features = plain["template"].run(["features"], feeds["template"])[0]
        feeds["search"] = {
            "search": row[sizes[0] :].reshape(shapes[1]),
            "template_first": features,
            "template_latest": features if latest is None else latest,
        }
        latest = features
        found = {}
        for graph in ("template", "search"):
            names = [name for which, name in wanted if which == graph]
            found.update(zip([(graph, name) for name in names], full[graph].run(names, feeds[graph])))
        for which, name in wanted:
            sink.write(numpy.ascontiguousarray(found[which, name]).tobytes())
        for array in plain["search"].run(["score", "box", "presence", "embedding"], feeds["search"]):
            sink.write(numpy.ascontiguousarray(array, dtype="<f4").tobytes())
