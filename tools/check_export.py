"""Compares what an exported net computes in PyTorch with what the program itself computed:

    engine embed --model EXPORT --data PATH --features x,c2,c3,c4,c5,pool,z --out F.safetensors
    python tools/check_export.py EXPORT F.safetensors

Loads the net as the export's README says (`model.py`), as the reference, and as timm's ResNet if
timm is installed. Prints the largest difference of every feature relative to its largest magnitude;
exits with 1 if one exceeds the tolerance. Needs torch and safetensors.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from reference import errors
from reference.net import LEVELS, Net, Space


def module_of(folder):
    """The export's model.py as a module."""
    spec = importlib.util.spec_from_file_location("model", Path(folder) / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_reference(config, weights, x):
    """The features of images [N, 3, H, W], by name."""
    stem = config["stem"]
    fixed = (stem[name] for name in ("kernel", "stride", "maxpool"))
    space = Space(config["resolution"], *fixed, config["strides"])
    net = Net(space, group=None, last_norm="head.4.running_mean" in weights)
    maps = net.features(weights, config["arch"], x)
    found = dict(zip(LEVELS, maps)) | {"pool": maps[-1].mean((2, 3))}
    return found | ({"z": net.project(weights, found["pool"])} if config["head"] else {})


def compare(title, found, expected, tolerance):
    """Prints the differences; the number of features beyond the tolerance."""
    print(title)
    bad = 0
    for name in sorted(found):
        if name not in expected:
            continue
        error = errors.largest(found[name], expected[name])
        over = not error <= tolerance
        bad += over
        print(f"  {name:5} {error:9.2e}{'  BEYOND TOLERANCE' if over else ''}")
    return bad


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("export")
    parser.add_argument("features", metavar="F.safetensors")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="default %(default)s")
    args = parser.parse_args()
    expected = load_file(args.features)
    x = expected.pop("x")
    model = module_of(args.export)
    bad = compare("model.py", model.load(args.export)(x), expected, args.tolerance)
    bad += compare("reference", of_reference(*model.read(args.export), x), expected, args.tolerance)
    if importlib.util.find_spec("timm"):
        net = model.load_timm(args.export)
        c5 = net.forward_features(x)
        bad += compare("timm", {"c5": c5, "pool": net(x)}, expected, args.tolerance)
    else:
        print("timm is not installed: left out")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
