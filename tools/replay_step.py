"""Replays training steps in PyTorch from the dumps that

    engine train --data PATH --out RUN --dump-steps 0,1 --dump-dir DUMPS ...

writes:

    python tools/replay_step.py DUMPS/step-*.safetensors

The step is computed in double precision, and the dump is compared with it: for every kind of
tensor the worst difference is printed, as a norm relative to the tensor's norm. Single
precision alone moves some gradients further than others (a value within rounding of a ReLU's
kink may fall on either side of it, and sums cancel), so PyTorch's own single precision is
compared with double as well and printed beside it. Exits with 1 where the dump's difference
exceeds both the tolerance and ten times PyTorch's own.

The momentum before a step is zero in step 0; in other steps it comes from the dump of the
step before, where that is given, and otherwise its check is left out.
Needs torch and safetensors.
"""

import argparse
import sys

import torch
from safetensors import safe_open

import torch_supernet as ref

KINDS = ("before", "grad", "after", "momentum", "teacher_before", "teacher_after")


def load(path):
    """A dump's tensors, by kind and name, and its metadata."""
    dump = {kind: {} for kind in KINDS}
    with safe_open(path, "pt") as file:
        for name in file.keys():
            kind, _, rest = name.partition(".")
            if kind in KINDS:
                dump[kind][rest] = file.get_tensor(name)
            else:
                dump[name] = {"": file.get_tensor(name)}
        return dump, file.metadata()


def replay(dump, meta, velocity, dtype):
    """What the step should have made, by kind and name; `velocity`: momentum before it, or
    None where unknown."""
    dump = {kind: {n: t.to(dtype) for n, t in named.items()} for kind, named in dump.items()}
    stem = ref.STEMS[meta["preset"]]
    group, accum = int(meta["bn_group"]), int(meta["accum"])
    tau, lr, before = float(meta["tau"]), float(meta["lr"]), dump["before"]
    made = {"teacher_after": ref.ema(dump["teacher_before"], before, float(meta["ema"]))}

    x, teacher = dump["x_teacher"][""], made["teacher_after"]
    order = ref.teacher_order(int(meta["seed"]), int(meta["step"]), len(x))
    z = ref.teacher_pass(teacher, x, order, ref.max_arch(teacher), group, stem, accum)
    made["z_teacher"] = {"": z}

    archs = [ref.parse_arch(a) for a in meta["archs"].split(",")]
    x, keys, queue = (dump[n][""] for n in ("x_student", "z_teacher", "queue"))
    z, losses, made["grad"] = ref.student_pass(
        before, x, keys, queue, archs, group, tau, stem, accum
    )
    for k in range(len(archs)):
        made[f"z_student.{k}"], made[f"loss.{k}"] = {"": z[k]}, {"": losses[k].reshape(1)}

    if velocity is None:
        made["after"] = {n: w - lr * dump["momentum"][n] for n, w in before.items()}
    else:
        exempt, decay = meta["decay_exempt"] == "true", float(meta["weight_decay"])
        decays = {n: 0.0 if exempt and w.dim() == 1 else decay for n, w in before.items()}
        velocity = {n: v.to(dtype) for n, v in velocity.items()}
        made["after"], made["momentum"] = ref.sgd(
            before, velocity, made["grad"], lr, float(meta["momentum"]), decays
        )
    return made


def worst(found, expected):
    """Largest relative difference over all tensors of a kind, and its tensor's name."""
    errors = []
    for name, e in expected.items():
        if found[name].shape != e.shape:
            raise SystemExit(f"{name}: shape {tuple(found[name].shape)}, expected {tuple(e.shape)}")
        scale = torch.linalg.vector_norm(e).item()
        error = torch.linalg.vector_norm(found[name].double() - e).item()
        # A tensor of zeros (the gradient of what no student used) must be zeros here too.
        relative = error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))
        errors.append((relative if relative == relative else float("inf"), name))
    return max(errors)


def check(dump, meta, velocity, tolerance):
    """Prints one step's differences; the number of kinds that are off."""
    expected = replay(dump, meta, velocity, torch.float64)
    single = replay(dump, meta, velocity, torch.float32)
    bad = 0
    print(f"  {'':14} {'dump':>9} {'PyTorch':>9}")
    for kind, tensors in expected.items():
        error, name = worst(dump[kind], tensors)
        own, _ = worst(single[kind], tensors)
        over = error > max(tolerance, 10 * own)
        bad += over
        print(f"  {kind:14} {error:9.1e} {own:9.1e}  {'OFF ' if over else ''}{name}")
    return bad


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dumps", nargs="+", metavar="DUMP.safetensors")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="default %(default)s")
    args = parser.parse_args()
    momentum, bad = {}, 0
    for path in sorted(args.dumps):
        dump, meta = load(path)
        step = int(meta["step"])
        if step == 0:
            momentum = {0: {n: torch.zeros_like(w) for n, w in dump["before"].items()}}
        print(f"{path} (step {step}, {meta['archs']})")
        if step not in momentum:
            print("  momentum: left out, the dump of the step before is not given")
        bad += check(dump, meta, momentum.get(step), args.tolerance)
        momentum = {step + 1: dump["momentum"]}
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
