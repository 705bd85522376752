"""Checks `model.onnx` by ONNX's own checker, and what ONNX Runtime makes of it by what the program
itself computed:

    engine embed --model EXPORT --data PATH --features x,c2,c3,c4,c5,pool,z --out F.safetensors
    python tests/interop/onnx_agrees.py EXPORT F.safetensors

x is fed in, in batches of 1 and 3 images, as it is and cut to another size. Of images of another
size the program gives no features: there batches must agree with one another, and the shapes with
the file. Prints the largest difference of each feature relative to its largest value; exits with 1
beyond the tolerance.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4


def largest(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("features", metavar="F.safetensors")
    args = parser.parse_args()
    path = args.export / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    net = session(path)
    props = net.get_modelmeta().custom_metadata_map
    config = json.loads((args.export / "config.json").read_text())
    assert props["arch"] == config["arch"] and props["macs"] == str(config["macs"]), props
    expected = load_file(args.features)
    expected.pop("labels", None)
    x = expected.pop("x")[:3]
    if config.get("classifier"):
        # The program's scores are these features times the weights of the file.
        weights = load_file(args.export / "model.safetensors")
        expected["logits"] = expected["pool"] @ weights["fc.weight"].T + weights["fc.bias"]
    if props["input"] == "0..1":
        mean, std = (np.array(config[k], np.float32)[:, None, None] for k in ("mean", "std"))
        x = x * std + mean
    names = [output.name for output in net.get_outputs()]
    assert sorted(names) == sorted(expected), (names, expected.keys())

    def run(x):
        return dict(zip(names, net.run(names, {"pixel_values": x})))

    alone = [run(image[None]) for image in x]
    together = run(x)
    worst = 0.0
    for name, values in sorted(expected.items()):
        each = np.concatenate([outputs[name] for outputs in alone])
        errors = [largest(found, values[:3]) for found in (each, together[name])]
        print(f"  {name:6} {max(errors):.1e}")
        worst = max(worst, *errors)
    small = x[:, :, : x.shape[2] - 3, : x.shape[3] * 2 // 3]
    together = run(small)
    shapes = {output.name: output.shape for output in net.get_outputs()}
    for name, values in together.items():
        each = np.concatenate([run(image[None])[name] for image in small])
        worst = max(worst, largest(each, values))
        fixed = [(n, m) for n, m in zip(shapes[name], values.shape) if isinstance(n, int)]
        assert fixed and all(n == m for n, m in fixed), (name, shapes[name], values.shape)
    print(f"  at most {TOLERANCE:.0e}; of {small.shape[2]}x{small.shape[3]} pixels: {worst:.1e}")
    sys.exit(0 if worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
