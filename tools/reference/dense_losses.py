"""Losses and proposals of segmentation and detection by their definitions: detectron2's (commit
02b5c4e) and MMSegmentation's, not torchvision's, which differ in the RPN's β and divisors. Each of
`replay`'s steps uses the samples of a dump of `engine finetune --dump-steps`."""

import math
from unittest import mock

import torch
import torch.nn.functional as F
from torchvision.ops import clip_boxes_to_image, nms

from .dense_nets import NETS
from .replay import part

NO_CLASS = 255


def segmentation(net, dump, meta, start, end):
    """Cross-entropy of pixels, of images `start` to `end` of the batch."""
    labels = dump["labels"].long()
    masks = [dump.get(f"dropout.{which}.{start}") for which in range(2)]
    counted = labels.numel() if meta["loss_mean"] == "all" else (labels != NO_CLASS).sum().clamp(min=1)
    found = {}
    heads = zip(("seg", "aux"), (1, float(meta["aux_weight"])), net(dump["x"][start:end], masks))
    for name, weight, scores in heads:
        scores = F.interpolate(
            scores, labels.shape[1:], mode="bilinear", align_corners=meta["align_corners"] == "true"
        )
        of = F.cross_entropy(scores, labels[start:end], ignore_index=NO_CLASS, reduction="sum")
        found[name] = weight * of / counted
    return found, []


def detection(net, dump, meta, start, end):
    """Faster or Mask R-CNN's losses, all with weight 1, and of each image what `proposals` takes."""
    everything = len(dump["x"])
    share = (end - start) / everything

    def rows(name):
        inside = (dump[name][:, 0] >= start) & (dump[name][:, 0] < end)
        found = dump[name][inside].clone()
        found[:, 0] -= start
        return found, inside

    levels = net.levels(dump["x"][start:end])
    logits, deltas = net.proposed(levels)
    of_image = lambda maps, i: [t[i].detach() for t in maps]
    anchors, sizes = net.anchors(levels), dump["sizes"][start:end].tolist()
    made = [
        (of_image(logits, i), of_image(deltas, i), anchors, size) for i, size in enumerate(sizes)
    ]
    samples, _ = rows("anchors")
    losses = rpn(logits, deltas, samples, int(meta["rpn_batch"]) * everything)
    regions, _ = rows("regions")
    if len(regions):
        found = boxes(*net.boxes(levels, regions[:, :6]), regions[:, 6].long(), regions[:, 7:])
        losses |= {name: share * loss for name, loss in found.items()}
    if "masks" in dump:
        regions, inside = rows("mask_regions")
        if len(regions):
            scores = net.masks(levels, regions[:, :6])
            own = scores[torch.arange(len(regions)), regions[:, 6].long()]
            losses["mask"] = share * F.binary_cross_entropy_with_logits(own, dump["masks"][inside])
    return losses, made


def rpn(logits, deltas, samples, divisor):
    """Of anchors, rows (image, level, index, whether it is an object, deltas)."""
    image, level, index = samples[:, :3].long().unbind(1)
    below = torch.tensor([0] + [t.shape[1] for t in logits]).cumsum(0)
    at = below[level] + index
    of_anchors, objects = torch.cat(logits, 1)[image, at], samples[:, 3] > 0
    differ = torch.cat(deltas, 1)[image, at][objects] - samples[objects, 4:]
    bce = F.binary_cross_entropy_with_logits(of_anchors, samples[:, 3], reduction="sum")
    return {"rpn_cls": bce / divisor, "rpn_loc": differ.abs().sum() / divisor}


def boxes(scores, deltas, classes, wanted):
    """Of R regions: cross-entropy, the background being the last class, and L1 of those of objects."""
    objects = (classes < scores.shape[1] - 1).nonzero()[:, 0]
    found = deltas.unflatten(1, (-1, 4))[objects, classes[objects]]
    box = (found - wanted[objects]).abs().sum() / len(classes)
    return {"cls": F.cross_entropy(scores, classes), "box": box}


def decoded(anchors, deltas):
    """Boxes that differ so from anchors, by detectron2's Box2BoxTransform with weights 1."""
    size = anchors[:, 2:] - anchors[:, :2]
    centre = anchors[:, :2] + size / 2 + deltas[:, :2] * size
    size = deltas[:, 2:].clamp(max=math.log(1000 / 16)).exp() * size
    return torch.cat([centre - size / 2, centre + size / 2], 1)


def proposals(logits, deltas, anchors, size, meta):
    """Boxes [P, 4] of an image of this height and width, the best first: detectron2's
    find_top_rpn_proposals."""
    kept, scores = [], []
    for logit, delta, anchor in zip(logits, deltas, anchors):
        logit, best = logit.topk(min(int(meta["rpn_pre"]), len(logit)))
        found = clip_boxes_to_image(decoded(anchor[best], delta[best]), size)
        inside = (found[:, 2:] > found[:, :2]).all(1)
        found, logit = found[inside], logit[inside]
        stay = nms(found, logit, float(meta["rpn_nms"]))
        kept.append(found[stay])
        scores.append(logit[stay])
    order = torch.cat(scores).argsort(descending=True, stable=True)[: int(meta["rpn_post"])]
    return torch.cat(kept)[order]


def net_of(dump, meta, dtype=torch.float64):
    """The net with the weights of before the step."""
    frozen = {n: t for n, t in dump.items() if n.startswith("frozen.")}
    params = part(dump, "before")
    return NETS[meta["task"]](params, meta).to(dtype).load(params, part(frozen, "frozen") if frozen else {})


class Relu(torch.autograd.Function):
    """ReLU whose gradient begins not at 0 but at `kink` times the root mean square of its inputs."""

    @staticmethod
    def forward(ctx, x, kink):
        ctx.save_for_backward(x > kink * x.square().mean().sqrt())
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gy):
        return gy * ctx.saved_tensors[0], None


def replay(dump, meta, dtype=torch.float64, kink=0.0):
    """What a dumped step should have made: losses, gradients in the layout of the net's modules, and of
    each image what `proposals` takes, but the settings. `kink`: see `Relu`."""
    dump = {name: t.to(dtype) for name, t in dump.items()}
    net, n = net_of(dump, meta, dtype), len(dump["x"])
    losses_of = segmentation if meta["task"] == "seg" else detection
    parts, losses, made = max(1, min(int(meta["accum"]), n)), {}, []
    with mock.patch.object(F, "relu", lambda x, inplace=False: Relu.apply(x, kink)):
        for i in range(parts):
            found, proposed = losses_of(net, dump, meta, i * n // parts, (i + 1) * n // parts)
            sum(found.values()).backward()
            for name, loss in found.items():
                losses[name] = losses.get(name, 0) + loss.detach()
            made += proposed
    grads = {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in net.named().items()}
    return {"net": net, "loss": losses, "grad": grads, "rpn": made}
