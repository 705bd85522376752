"""Shows that the scripts beside this file do engine's work: replays training steps that engine
dumped with their code (net.py), and counts compute.

    engine train --preset tiny --data PICTURES --out RUN --max-steps 2 --dump-steps 0,1 \
        --dump-dir DUMPS train.batch=16
    python benches/peers/check.py DUMPS/step-*.safetensors

Prints the largest difference of embeddings, losses, gradients and updated weights, each relative
to the largest magnitude of its tensor, and the MACs of MIN, MAX and ResNet-50 beside those of
`engine space cost`. Exits with 1 where one is off. The teacher's embeddings are compared where
its batch is one group of batch statistics (`train.bn_group`), as its permutation then makes no
difference; the updated weights in step 0, whose momentum is known to be zero. PyTorch computes
in double precision, so what differs is engine's rounding. Needs safetensors.

With --bf16, for dumps of `--precision bf16` and train.bn_group=0: how far losses and gradients are
from double precision, √Σ(a−b)²/√Σb² over all parameters, beside how far PyTorch's own are under
autocast. Exits with 1 where engine's gradients are more than a tenth farther.

With --search, for the work of search.py: pictures and features of a subnet that `engine embed`
wrote (at most 256 of them, so that their order does not matter), and the scores of a search on
the same pictures.

    engine embed --ckpt RUN --arch ID --data PICTURES --features x,c2,c3,c4,c5 --out F.safetensors
    engine search --ckpt RUN --data PICTURES --task det-fpn --arch ID ID --images all --out OUT
    python benches/peers/check.py --search RUN/checkpoints/last F.safetensors OUT
"""

import argparse
import json
import pathlib
import subprocess
import sys

import torch
from safetensors import safe_open

import relation
from net import BIN, R50, Moco, Net, Preset
from search import recalibrated

TOLERANCE = {"z": 1e-4, "loss": 1e-5, "grad": 2e-3, "after": 1e-5, "teacher": 1e-6, "score": 1e-5}


def load(path):
    """Tensors by name, in double precision, and the metadata."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).double() for name in file.keys()}, file.metadata()


def of_kind(dump, kind):
    return {name[len(kind) + 1 :]: t for name, t in dump.items() if name.startswith(f"{kind}.")}


def difference(found, expected):
    """Largest over tensors: difference by the tensor's largest magnitude."""
    worst = 0.0
    for name, e in expected.items():
        error, scale = (found[name] - e).abs().max().item(), e.abs().max().item()
        worst = max(worst, error / scale if scale else error)
    return worst


def replay(path, bin):
    """Differences of one step, as (what, difference, kind of tolerance)."""
    dump, meta = load(path)
    preset = Preset(meta["preset"], bin)
    preset.train.update({k: float(meta[k]) for k in ("lr", "momentum", "weight_decay")})
    preset.moco.update({k: float(meta[k]) for k in ("tau", "ema")})
    group, x = int(meta["bn_group"]), dump["x_student"]
    params = {n: w.clone().requires_grad_() for n, w in of_kind(dump, "before").items()}
    moco = Moco(Net(preset, group), params, dump["queue"].clone(), "cpu")
    moco.teacher = {n: w.clone() for n, w in of_kind(dump, "teacher_before").items()}
    z = moco.teacher_pass(dump["x_teacher"], torch.arange(len(x)))
    yield "teacher's weights", difference(moco.teacher, of_kind(dump, "teacher_after")), "teacher"
    if group == 0 or group >= len(x):
        yield "teacher's embeddings", difference({"": z}, {"": dump["z_teacher"]}), "z"
    for k, arch in enumerate(meta["archs"].split(",")):
        loss = moco.student_loss(arch, x, dump["z_teacher"], moco.queue)
        loss.backward()
        yield f"loss of {arch}", difference({"": loss.detach()}, {"": dump[f"loss.{k}"][0]}), "loss"
    grads = {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in params.items()}
    yield "gradients", difference(grads, of_kind(dump, "grad")), "grad"
    if int(meta["step"]) == 0:
        moco.update()
        yield "weights after the step", difference(params, of_kind(dump, "after")), "after"


def in_bf16(path, bin):
    """Errors of engine's and of PyTorch's losses and gradients in bf16, as (what, engine, PyTorch)."""
    dump, meta = load(path)
    preset = Preset(meta["preset"], bin)
    preset.moco.update({k: float(meta[k]) for k in ("tau", "ema")})
    net, archs = Net(preset, int(meta["bn_group"])), meta["archs"].split(",")

    def run(dtype, autocast):
        before = of_kind(dump, "before").items()
        params = {n: w.detach().to(dtype, copy=True).requires_grad_() for n, w in before}
        moco = Moco(net, params, dump["queue"].to(dtype), "cpu")
        x, z = dump["x_student"].to(dtype), dump["z_teacher"].to(dtype)
        losses = []
        for arch in archs:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = moco.student_loss(arch, x, z, moco.queue)
            loss.backward()
            losses.append(loss.detach().double())
        return losses, {n: w.grad.double() for n, w in params.items() if w.grad is not None}

    def distance(found, expected):
        error = sum(((found[n] - e) ** 2).sum() for n, e in expected.items())
        return (error / sum((e**2).sum() for e in expected.values())).sqrt().item()

    (losses, grads), (peer_losses, peer_grads) = run(torch.float64, False), run(torch.float32, True)
    for k, (arch, loss, peer) in enumerate(zip(archs, losses, peer_losses)):
        ours = dump[f"loss.{k}"][0]
        yield f"loss of {arch}", *(abs((l - loss) / loss).item() for l in (ours, peer))
    yield "gradients", distance(of_kind(dump, "grad"), grads), distance(peer_grads, grads)


@torch.inference_mode()
def searched(checkpoint, embedded, out, bin):
    """Differences of features and scores, as `replay` gives those of a step."""
    expected, meta = load(embedded)
    preset, x = Preset(meta["preset"], bin), expected["x"]
    student, teacher = (load(f"{checkpoint}/{net}.safetensors")[0] for net in ("student", "teacher"))

    def features(params, arch):
        found = Net(preset, None).features(recalibrated(preset, params, arch, [x]), arch, x)
        return dict(zip(("c2", "c3", "c4", "c5"), found))

    found = features(student, meta["arch"])
    yield f"features of {meta['arch']}", difference({"x": x} | found, expected), "z"
    levels = {level: relation.softmax(m) for level, m in features(teacher, preset.max).items()}
    for line in pathlib.Path(out, "candidates.jsonl").read_text().splitlines():
        known = json.loads(line)
        for level, maps in features(student, known["arch"]).items():
            score = relation.score(levels[level], maps).mean().item()
            yield f"{level} of {known['arch']}", abs(score / known["levels"][level] - 1), "score"


def shown(found):
    """Prints differences; says how many are off."""
    bad = 0
    for what, error, kind in found:
        over = not error <= TOLERANCE[kind]
        bad += over
        print(f"  {error:9.1e} {'OFF ' if over else ''} {what}")
    return bad


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("dumps", nargs="*", metavar="DUMP.safetensors")
    p.add_argument("--search", nargs=3, metavar=("CHECKPOINT", "F.safetensors", "OUT"), help="see above")
    p.add_argument("--bin", default=BIN, help="folder of the program `engine`")
    p.add_argument("--bf16", action="store_true", help="see above")
    a = p.parse_args()
    if a.bf16:
        bad = 0
        for path in a.dumps:
            print(f"{path}\n     engine   PyTorch")
            for what, ours, peer in in_bf16(path, a.bin):
                print(f"  {ours:9.1e} {peer:9.1e} {what}")
            bad += not ours <= 1.1 * peer
        sys.exit(1 if bad else 0)
    if a.search:
        sys.exit(1 if shown(searched(*a.search, a.bin)) else 0)
    bad = 0
    for path in a.dumps:
        print(path)
        bad += shown(replay(path, a.bin))
    for name in ("data", "tiny"):
        preset = Preset(name, a.bin)
        for arch in dict.fromkeys([preset.min, preset.max] + [R50] * (name == "data")):
            cost = [f"{a.bin}/engine", "space", "cost", arch, "--preset", name, "--json"]
            macs = json.loads(subprocess.check_output(cost))["macs"]
            bad += macs != preset.macs(arch)
            print(f"{name} {arch}: {preset.macs(arch)} MACs, engine {macs}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
