"""Replays steps of fine-tuning for segmentation and detection in PyTorch, from the dumps that

    engine finetune --task det-fpn --data TRAIN ... --dump-steps 0,1 --dump-dir DUMPS

writes (also of --task seg and det-c4):

    python tools/replay_dense.py DUMPS/step-*.safetensors

The net is built from torchvision's modules and gets the dump's weights, images, sampled anchors and
regions, targets and dropout masks. Losses are detectron2's and MMSegmentation's. All is computed in
double precision; the dump's losses may differ by 1e-5 and the gradient of each parameter by 1e-4
(norm of the difference over the norm), or by ten times what PyTorch's own single precision
differs by. An input of a ReLU within rounding of 0 may fall on either side of it, which changes
gradients by more than that. So where such an input explains a difference it is moved to the other
side. There are few; they cannot hide a wrong formula.

Of detection also the proposals are computed again (top-k, decoding, clipping, NMS): every sampled
region that is no true box must lie within 1e-3 pixels of one, in the image that it was sampled in, on the
level that its size asks for. Proposals that nobody sampled are not in a dump: with det.roi_batch
above det.rpn_post all of them are.

Exits with 1 if something is off. Needs torch, torchvision and safetensors.
"""

import argparse
import sys

import torch
from torchvision.ops import clip_boxes_to_image

from reference.dense_losses import Replay, decoded, proposals
from reference.errors import of_norm
from reference.replay import load, part

LOSS, GRADIENT, PIXELS = 1e-5, 1e-4, 1e-3


def compare(what, found, expected, single, limit):
    """Prints the largest difference, first of those that are off; whether one is. `single`: what single
    precision makes, and what it should."""
    rows = []
    for name, e in expected.items():
        error, own = of_norm(found[name], e), of_norm(single[0][name], single[1][name])
        rows.append((error > max(limit, 10 * own), error, own, name))
    over, error, own, name = max(rows)
    print(f"  {what:10} {error:9.1e} {own:9.1e}  {'OFF ' if over else ''}{name}")
    return over


def check_proposals(dump, meta, expected, single):
    """Prints how far sampled regions are from proposals; whether one is off."""
    regions = dump["regions"].double()
    is_object = regions[:, 6] < int(meta["classes"])
    rois = regions[~(is_object & (regions[:, 7:] == 0).all(1))]
    worst, count = 0.0, 0
    for i, (logits, deltas, anchors, size) in enumerate(expected.rpn):
        own = rois[rois[:, 0] == i, 2:6]
        # What differs less than rounding is equal, and any order of it is right: the dump's.
        apart = [(a - b).abs().max() for a, b in zip(logits, single.rpn[i][0])]
        favoured = []
        for logit, delta, anchor in zip(logits, deltas, anchors):
            boxes = clip_boxes_to_image(decoded(anchor, delta), size)
            is_own = torch.cdist(boxes, own, p=torch.inf).lt(PIXELS).any(1) if len(own) else False
            favoured.append(logit + is_own * 10 * max(apart))
        made = proposals(favoured, deltas, anchors, size, meta)
        count += len(made)
        if len(own):
            worst = max(worst, torch.cdist(own, made, p=torch.inf).amin(1).max().item())
    off = not worst <= PIXELS
    of = f"{len(rois)} regions among {count} proposals"
    print(f"  {'pixels':10} {worst:9.1e} {'':9}  {'OFF ' if off else ''}{of}")
    return off


def check_levels(dump, meta):
    """Whether regions are read from other levels than Lin et al.'s equation 1 says, for a pyramid that
    begins at stride 4."""
    strides = [int(s) for s in meta["strides"].split(",")]
    x1, y1, x2, y2 = dump["regions"][:, 2:6].unbind(1)
    side = ((x2 - x1) * (y2 - y1)).sqrt() * (4 / strides[0])
    level = (4 + (side / 224 + 1e-8).log2()).floor().clamp(2, 5) - 2
    off = int((level != dump["regions"][:, 1]).sum()) if meta["task"] == "det-fpn" else 0
    if off:
        print(f"  OFF {off} regions are read from another level")
    return off > 0


def check(path):
    """Prints a step's differences; how many kinds of values are off."""
    dump, meta = load(path)
    norms = "frozen" if any(name.startswith("frozen.") for name in dump) else "batch"
    print(f"{path} ({meta['task']}, {meta['arch']}, batch norms: {norms})")
    print(f"  {'':10} {'dump':>9} {'PyTorch':>9}")
    expected, single = Replay(dump, meta), Replay(dump, meta, torch.float32)
    bad = 0
    for name, e in expected.losses.items():
        found, one = dump.get(f"loss.{name}", torch.zeros(1))[0], {"": e}
        bad += compare(name, {"": found}, one, ({"": single.losses[name]}, one), LOSS)
    own = single.grads, expected.on_sides_of(single)
    found = {n: expected.net.laid_out(n, g) for n, g in part(dump, "grad").items()}
    moved, close = expected.choose_sides(single, found)
    bad += compare("gradients", found, expected.grads, own, GRADIENT)
    print(f"  {'':31}{moved} of {close} inputs of ReLUs that are almost 0 were moved to the other side")
    if meta["task"] != "seg":
        bad += check_proposals(dump, meta, expected, single) + check_levels(dump, meta)
    return bad


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dumps", nargs="+", metavar="DUMP.safetensors")
    args = parser.parse_args()
    sys.exit(1 if sum(map(check, sorted(args.dumps))) else 0)


if __name__ == "__main__":
    main()
