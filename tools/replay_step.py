"""Replays training steps in PyTorch from the dumps that

    engine train --data PATH --out RUN --dump-steps 0,1 --dump-dir DUMPS ...

writes:

    python tools/replay_step.py DUMPS/step-*.safetensors

The step is computed in double precision, and the dump is compared with it: for every kind of
tensor the worst difference is printed, as a norm relative to the tensor's norm. Single
precision alone moves some gradients further than others (a value within rounding of a ReLU's
kink may fall on either side of it, and sums cancel), so PyTorch's own single precision is
compared with double as well and printed beside it. Exits with 1 if the dump's difference
exceeds both the tolerance and ten times PyTorch's own.

The momentum before a step is zero in step 0; in other steps it comes from the dump of the
step before, if that is given, and otherwise its check is left out.

With --bf16, for dumps of `--precision bf16`: how far losses and all gradients together are from
double precision, beside how far PyTorch's own are under autocast. Exits with 1 if engine's
gradients are more than a tenth farther. Needs torch and safetensors.
"""

import argparse
import sys

import torch

from reference.errors import of_norm
from reference.replay import load, part, replay


def worst(found, expected):
    """Largest relative difference over all tensors of a kind, and its tensor's name."""
    return max((of_norm(found[name], e), name) for name, e in expected.items())


def check(dump, meta, velocity, tolerance):
    """Prints one step's differences; the number of kinds that are off."""
    expected = replay(dump, meta, velocity)
    single = replay(dump, meta, velocity, torch.float32)
    bad = 0
    print(f"  {'':14} {'dump':>9} {'PyTorch':>9}")
    for kind, tensors in expected.items():
        error, name = worst(part(dump, kind), tensors)
        own, _ = worst(single[kind], tensors)
        over = error > max(tolerance, 10 * own)
        bad += over
        print(f"  {kind:14} {error:9.1e} {own:9.1e}  {'OFF ' if over else ''}{name}")
    return bad


def check_bf16(dump, meta):
    """Prints one step's differences; whether its gradients are off."""
    expected, autocast = replay(dump, meta), replay(dump, meta, None, torch.float32, "bf16")
    flat = lambda named: torch.cat([named[name].flatten() for name in sorted(named)])
    rows = [(f"loss.{k}", f"loss of {arch}") for k, arch in enumerate(meta["archs"].split(","))]
    print(f"  {'dump':>9} {'PyTorch':>9}")
    for kind, what in [*rows, ("grad", "gradients")]:
        exact = flat(expected[kind])
        error, own = (of_norm(flat(t), exact) for t in (part(dump, kind), autocast[kind]))
        print(f"  {error:9.1e} {own:9.1e}  {what}")
    return not error <= 1.1 * own


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dumps", nargs="+", metavar="DUMP.safetensors")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="default %(default)s")
    parser.add_argument("--bf16", action="store_true", help="see above")
    args = parser.parse_args()
    momentum, bad = {}, 0
    for path in sorted(args.dumps):
        dump, meta = load(path)
        step = int(meta["step"])
        print(f"{path} (step {step}, {meta['archs']})")
        if args.bf16:
            bad += check_bf16(dump, meta)
            continue
        if step == 0:
            momentum = {0: {n: torch.zeros_like(w) for n, w in part(dump, "before").items()}}
        if step not in momentum:
            print("  momentum: left out, the dump of the step before is not given")
        bad += check(dump, meta, momentum.get(step), args.tolerance)
        momentum = {step + 1: part(dump, "momentum")}
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
