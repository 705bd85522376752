"""Runs engine and PyTorch in turn on one machine and prints the table of their ratios.

    cargo build --release
    python benches/peers/compare.py --device cpu --preset tiny
    python benches/peers/compare.py --device cuda --preset data --data photographs.tar \\
        --out ratios.json --markdown ratios.md

Both sides get the same architectures, batch, queue and threads; every quantity is measured on
one side and then on the other, --rounds times. A ratio above 1 means that engine is faster; it
is the median of the rounds' ratios, against PyTorch's fastest variant: on a GPU of bf16 and
fp16, eager and regionally compiled, on the CPU fp32 (--compiled adds compiled variants there).
PyTorch takes batch statistics over the whole batch, the least work for it, where engine takes
groups; --bn-group N makes PyTorch take groups too. MIN and ResNet-50 alone are independent nets
in PyTorch, not slices of a supernet.

What cannot be measured is "not measured", with the reason. Needs PyTorch (torchvision and PIL
for the loader) and engine's two binaries in --bin; no cargo.
"""

import argparse
import importlib.util
import pathlib
import sys

from places import BIN

GROUPS = (
    "step", "methods", "nets", "r50", "conv", "fused", "limits", "relation", "share", "loader",
)  # fmt: skip
# Modules that are needed, by the names that pip knows; the last two by the loader alone.
NEEDED = {"torch": "torch", "torchvision": "torchvision", "PIL": "pillow"}


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--preset", default="tiny")
    p.add_argument("--bin", type=pathlib.Path, default=BIN, help="folder of engine's binaries")
    p.add_argument("--batch", type=int, help="default: the preset's")
    p.add_argument("--queue", type=int, help="default: the preset's")
    p.add_argument("--archs", help="comma-separated IDs (default: those of step 0)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--iterations", type=int, help="default: 20 on a GPU, 10 on the CPU")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", default=",".join(GROUPS), help="groups of rows: %(default)s")
    p.add_argument("--compiled", action="store_true", help="compiled variants on the CPU too")
    p.add_argument("--bn-group", type=int, default=0)
    p.add_argument("--r50-batch", type=int, default=8, help="of ResNet-50 on the CPU")
    p.add_argument("--shape-seconds", type=float, help="for each; default: 0.3 on a GPU, else 0.1")
    p.add_argument("--shapes", action="store_true", help="prints every convolution as well")
    p.add_argument("--data", help="images (a tar) for the loader")
    p.add_argument("--seconds", type=float, default=4.0, help="of each of the loader's timings")
    p.add_argument("--out", type=pathlib.Path, help="writes everything here, as JSON")
    p.add_argument("--markdown", type=pathlib.Path, help="writes the table here, as Markdown")
    a = p.parse_args()
    groups = a.only.split(",")
    unknown = set(groups) - set(GROUPS)
    if unknown:
        p.error(f"--only: {', '.join(unknown)} is not one of {', '.join(GROUPS)}")
    needed = NEEDED if "loader" in groups and a.data else ["torch"]
    lacking = [NEEDED[module] for module in needed if not importlib.util.find_spec(module)]
    if lacking:
        sys.exit(f"{sys.executable} lacks {', '.join(lacking)}: pip install {' '.join(lacking)}")
    for name in ("engine", "bench"):
        if not (a.bin / name).is_file():
            sys.exit(f"--bin {a.bin}: no {name} there; cargo build --release makes it")
    import comparison

    comparison.run(a, groups)


if __name__ == "__main__":
    main()
