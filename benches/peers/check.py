"""Shows that the scripts beside this file do engine's work.

    python benches/peers/check.py

Prints the MACs of MIN, MAX and ResNet-50 beside those of `engine space cost`. Exits with 1 if one
is off. That the training step is the same is shown by tools/replay_step.py, which runs the same code.

With --search, for the work of search.py: images and features of a subnet that `engine embed`
wrote (at most 256 of them, so that their order does not matter), and the scores of a search on
the same images. Prints the difference of features, relative to their largest magnitude, and of
scores. PyTorch computes in double precision, so what differs is engine's rounding. Needs
safetensors.

    engine embed --ckpt RUN --arch ID --data IMAGES --features x,c2,c3,c4,c5 --out F.safetensors
    engine search --ckpt RUN --data IMAGES --task det-fpn --arch ID ID --images all --out OUT
    python benches/peers/check.py --search RUN/checkpoints/last F.safetensors OUT
"""

import argparse
import json
import pathlib
import subprocess
import sys

import torch

from net import BIN, LEVELS, R50, SPACES, Net, Preset, calibrated, relation
from reference import errors, replay
from reference.net import largest

FEATURES, SCORE = 1e-4, 1e-5  # tolerances


def load(path):
    """Tensors in double precision, and the metadata."""
    tensors, meta = replay.load(path)
    return {name: t.double() for name, t in tensors.items()}, meta


@torch.inference_mode()
def searched(checkpoint, embedded, out):
    """Differences of features and scores, as (what, difference, tolerance)."""
    expected, meta = load(embedded)
    space, x = SPACES[meta["preset"]], expected["x"]
    student, teacher = (load(f"{checkpoint}/{net}.safetensors")[0] for net in ("student", "teacher"))
    net = Net(space, None)

    def features(params, arch):
        return dict(zip(LEVELS, net.features(calibrated(space, params, arch, [x]), arch, x)))

    found = features(student, meta["arch"])
    worst = max(errors.largest(found[level], expected[level]) for level in LEVELS)
    yield f"features of {meta['arch']}", worst, FEATURES
    whole = features(teacher, largest(teacher))
    levels = {level: relation.softmax(maps) for level, maps in whole.items()}
    for line in pathlib.Path(out, "candidates.jsonl").read_text().splitlines():
        known = json.loads(line)
        for level, maps in features(student, known["arch"]).items():
            score = relation.score(levels[level], maps).mean().item()
            yield f"{level} of {known['arch']}", abs(score / known["levels"][level] - 1), SCORE


def counted(bin):
    """Prints the MACs of nets on both sides; how many are off."""
    bad = 0
    for name, space in SPACES.items():
        preset = Preset(name, bin)
        for arch in [preset.min, preset.max] + [R50] * (name == "data"):
            cost = [f"{bin}/engine", "space", "cost", arch, "--preset", name, "--json"]
            macs = json.loads(subprocess.check_output(cost))["macs"]
            bad += macs != space.macs(arch)
            print(f"{name} {arch}: {space.macs(arch)} MACs, engine {macs}")
    return bad


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--search", nargs=3, metavar=("CHECKPOINT", "F.safetensors", "OUT"), help="see above")
    p.add_argument("--bin", default=BIN, help="folder of the program `engine`")
    a = p.parse_args()
    if not a.search:
        sys.exit(1 if counted(a.bin) else 0)
    bad = 0
    for what, error, tolerance in searched(*a.search):
        over = not error <= tolerance
        bad += over
        print(f"  {error:9.1e} {'OFF ' if over else ''} {what}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
