"""Runs one quantised graph in ONNX Runtime on inputs from a file and writes every byte of every u8 tensor.

    graph_oracle.py GRAPH INPUTS TENSORS OUT

INPUTS holds, for each run, all inputs of the graph in its order, as little-endian f32. TENSORS has one name a line: what is
written for each run, in that order. After them come, as f32, all outputs of the graph as it stands, without further ones.
"""
import sys

import numpy
import onnx
import onnxruntime

graph, inputs, tensors, out = sys.argv[1:5]
wanted = open(tensors).read().split("\n")[:-1]


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


model = onnx.load(graph)
onnx.checker.check_model(model)
plain = session(model)
for name in wanted:
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None))
full = session(model)

ends = [0, *numpy.cumsum([numpy.prod(given.shape) for given in plain.get_inputs()]).astype(int)]
with open(out, "wb") as sink:
    for row in numpy.fromfile(inputs, dtype="<f4").reshape(-1, ends[-1]):
        feeds = {
            given.name: row[start:end].reshape(given.shape)
            for given, start, end in zip(plain.get_inputs(), ends, ends[1:])
        }
        for array in full.run(wanted, feeds):
            sink.write(numpy.ascontiguousarray(array).tobytes())
        for array in plain.run(None, feeds):
            sink.write(numpy.ascontiguousarray(array, dtype="<f4").tobytes())
