"""Sends real pictures through the shipped int8 graphs in ONNX Runtime and through `shipped`, the kernels of one path on ARM,
and compares every byte.

    shipped.py BUNDLE IMAGES TURNS PATH COMMAND...

BUNDLE holds template.int8.onnx and search.int8.onnx, which get pairs of crops, and perhaps propose.int8.onnx, which gets whole
frames. IMAGES is a folder with pictures somewhere in it. COMMAND starts `shipped`, under an emulator or on a board. Of the first
turns every map is compared, of the others what is dequantised: what the graphs give. Ends with 1 where a byte differs, with 77
and a line where it cannot compare.
"""
import random
import subprocess
import sys
from pathlib import Path

WHOLE_TURNS = 3
# In the order of the nodes, as `shipped` has it.
MAKE_BYTES = ("QuantizeLinear", "QLinearConv", "QLinearAdd", "QLinearMatMul")
MOVE_BYTES = ("Concat", "Slice")


def skip(why):
    print(f"aarch64: shipped graphs skipped: {why}")
    sys.exit(77)


try:
    import numpy
    import onnx
    import onnxruntime
    from PIL import Image, ImageOps
except ImportError as error:
    skip(f"{error} (pip install onnx onnxruntime numpy pillow; ROADHOUND_PYTHON names the interpreter)")
flags = Path("/proc/cpuinfo").read_text()
if "avx512_vnni" not in flags and "avx_vnni" not in flags:
    skip("without VNNI ONNX Runtime saturates in the middle of a sum")


class Oracle:
    """One graph in ONNX Runtime, with all its maps as outputs."""

    def __init__(self, file):
        model = onnx.load(file)
        self.maps, self.results, self.inputs = [], [], []
        for node in model.graph.node:
            made = node.output[0]
            if node.op_type in MAKE_BYTES or node.op_type in MOVE_BYTES and set(node.input) & set(self.maps):
                self.maps.append(made)
            if node.op_type == "DequantizeLinear":
                self.results.append(made)
            if node.op_type == "QuantizeLinear":
                self.inputs.append(node.input[0])
        given = {value.name for value in model.graph.input}
        wanted = [(name, onnx.TensorProto.UINT8) for name in self.maps]
        wanted += [(name, onnx.TensorProto.FLOAT) for name in self.results + self.inputs if name not in given]
        for name, kind in wanted:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(self, feeds):
        names = [output.name for output in self.session.get_outputs()]
        return {**feeds, **dict(zip(names, self.session.run(names, feeds)))}


def little_endian(array):
    return numpy.ascontiguousarray(array, dtype="|u1" if array.dtype == numpy.uint8 else "<f4").tobytes()


def pictures(images, dice):
    files = sorted(path for path in Path(images).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    dice.shuffle(files)
    for file in files:
        try:
            yield Image.open(file).convert("RGB")
        except OSError:
            continue


def normalised(picture):
    planes = numpy.asarray(picture, dtype="f4").transpose(2, 0, 1)[None]
    return (planes - numpy.float32(114)) * numpy.float32(1 / 58)


def crops(images, dice):
    """Pairs of normalised crops about places in pictures: a window, and one twice as large that has moved."""
    for picture in pictures(images, dice):
        side = dice.uniform(0.08, 0.6) * min(picture.size)
        x, y = (dice.uniform(0, length) for length in picture.size)
        moved = [v + side * dice.uniform(-0.4, 0.4) for v in (x, y)]
        pair = []
        for (x, y), half, out_px in [((x, y), side / 2, 128), (moved, side, 256)]:
            step = 2 * half / out_px
            transform = (step, 0, x - half, 0, step, y - half)
            window = picture.transform((out_px, out_px), Image.Transform.AFFINE, transform, Image.Resampling.BILINEAR)
            pair.append(normalised(window))
        yield pair


def follow_turns(template, search, images):
    """What both graphs make of each pair, with the features of the last pair as the latest template."""
    latest = None
    for first, second in crops(images, random.Random(5)):
        of_template = template.run({"template": first})
        features = of_template["features"]
        feeds = {"search": second, "template_first": features, "template_latest": features if latest is None else latest}
        latest = features
        yield of_template, search.run(feeds)


def propose_turns(propose, images):
    """What the graph makes of each whole picture, letterboxed."""
    (given,) = propose.session.get_inputs()
    height, width = given.shape[2:]
    for picture in pictures(images, random.Random(6)):
        framed = ImageOps.pad(picture, (width, height), Image.Resampling.BILINEAR, color=(114, 114, 114))
        yield (propose.run({given.name: normalised(framed)}),)


def compare(what, path, command, files, oracles, turns, most):
    """Sends the turns through `shipped` and compares; the number of turns and of bytes."""
    child = subprocess.Popen([*command, path, str(WHOLE_TURNS), *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    compared, done = 0, 0
    for found_there in turns:
        both = list(zip(oracles, found_there))
        child.stdin.write(b"".join(little_endian(values[name]) for oracle, values in both for name in oracle.inputs))
        child.stdin.flush()
        for oracle, values in both:
            for name in oracle.results + (oracle.maps if done < WHOLE_TURNS else []):
                expected = little_endian(values[name])
                found = child.stdout.read(len(expected))
                if found != expected:
                    differ = sum(a != b for a, b in zip(found, expected)) if len(found) == len(expected) else "all"
                    sys.exit(f"aarch64: {path}: {what}, turn {done}, {name}: {differ} of {len(expected)} bytes differ")
                # Four bytes of f32 are one byte of a map.
                compared += values[name].size
        done += 1
        if done == most:
            break
    child.stdin.close()
    if child.wait() != 0:
        sys.exit(f"aarch64: {path}: {command} failed")
    if done == 0:
        skip("no pictures")
    print(f"aarch64: {path}: {done} {what}, {compared} bytes compared with ONNX Runtime's, 0 differ")


def main():
    bundle, images, most, path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    command = sys.argv[5:]
    files = [f"{bundle}/{graph}.int8.onnx" for graph in ("template", "search")]
    oracles = [Oracle(file) for file in files]
    compare("pairs of real crops", path, command, files, oracles, follow_turns(*oracles, images), most)
    file = f"{bundle}/propose.int8.onnx"
    if Path(file).exists():
        oracle = Oracle(file)
        compare("whole real frames", path, command, [file], [oracle], propose_turns(oracle, images), most)


main()
