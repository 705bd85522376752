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
# Share of a bias's gradient that the side of an input of a ReLU must change to matter, and how many times
# sides are chosen at most.
MATTERS, MOST = 1e-5, 200


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
    sizes = [0] + [t.shape[1] for t in logits]
    below = torch.tensor(sizes, device=samples.device).cumsum(0)
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


class Seen:
    """Inputs of a ReLU, the name of the layer that they are of, and, after a backward pass, the gradients
    of its outputs. Gradients go where `open` is true."""

    def __init__(self, name, x):
        self.name, self.x, self.open, self.gy = name, x.detach(), x > 0, None


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, seen):
        ctx.seen = seen
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gy):
        ctx.seen.gy = gy
        return gy * ctx.seen.open, None


class Replay:
    """What a dumped step should have made: losses, gradients in the layout of the net's modules, and of
    each image what `proposals` takes, but the settings."""

    def __init__(self, dump, meta, dtype=torch.float64):
        dump = {name: t.to(dtype) for name, t in dump.items()}
        self.net, n = net_of(dump, meta, dtype), len(dump["x"])
        losses_of = segmentation if meta["task"] == "seg" else detection
        parts = max(1, min(int(meta["accum"]), n))
        self.losses, self.rpn, self.relus = {}, [], []

        layers = []
        for name, module in self.net.places.items():
            if getattr(module, "bias", None) is not None:
                module.register_forward_hook(lambda *_, name=name: layers.append(name))

        def relu(x, inplace=False):
            self.relus.append(Seen(layers[-1], x))
            return Relu.apply(x, self.relus[-1])

        with mock.patch.object(F, "relu", relu):
            for i in range(parts):
                found, rpn = losses_of(self.net, dump, meta, i * n // parts, (i + 1) * n // parts)
                for name, loss in found.items():
                    self.losses[name] = self.losses.get(name, 0) + loss
                self.rpn += rpn
        self.grads = self.gradients()

    def gradients(self, dims=None):
        """Of all parameters by name, or of those of so many dimensions."""
        of = {n: w for n, w in self.net.named().items() if dims in (None, w.dim())}
        found = torch.autograd.grad(
            sum(self.losses.values()), of.values(), retain_graph=True, allow_unused=True
        )
        return {n: torch.zeros_like(w) if g is None else g for (n, w), g in zip(of.items(), found)}

    def on_sides_of(self, other):
        """Gradients with the inputs of ReLUs on the other replay's sides of 0."""
        own = [seen.open for seen in self.relus]
        for seen, its in zip(self.relus, other.relus):
            seen.open = its.open
        found = self.gradients()
        for seen, is_open in zip(self.relus, own):
            seen.open = is_open
        return found

    def close_to_kinks(self, single):
        """For each ReLU which inputs are within rounding of 0: 16 times the root mean square of single
        precision's errors in them, as other orders of summation have other errors than PyTorch's, but no
        more than 10,000 times the error of the input itself, as some have none to speak of."""
        found = []
        for seen, its in zip(self.relus, single.relus):
            error = (seen.x - its.x).abs()
            most = 16 * error.square().mean().sqrt() if error.numel() else 0
            found.append(seen.x.abs() < (1e4 * error).clamp(max=most))
        return found

    def choose_sides(self, single, found):
        """Moves inputs of ReLUs that are within rounding of 0 to the other side where that explains how the
        found gradients differ; how many of how many. A bias before a ReLU has a gradient that sums over
        images and positions, so such an input changes it by its own gradient in its own channel."""
        close, moved = self.close_to_kinks(single), 0
        for _ in range(MOST):
            now = self.move_some(close, found)
            if not now:
                break
            moved += now
        self.grads = self.gradients()
        return moved, sum(int(near.sum()) for near in close)

    def move_some(self, close, found):
        """Those of the last layer that has some: gradients of earlier ones depend on it."""
        grads, moved = self.gradients(1), 0
        for name in reversed(dict.fromkeys(seen.name for seen in self.relus)):
            expected = grads[f"{name}.bias"]
            differ = found[f"{name}.bias"].to(expected) - expected
            for c in (differ.abs() > MATTERS * expected.norm()).nonzero()[:, 0].tolist():
                changes = []
                for seen, near in zip(self.relus, close):
                    for at in near[:, c].nonzero() if seen.name == name else ():
                        place = (at[0], c, *at[1:])
                        gy = seen.gy[place] * (-1 if seen.open[place] else 1)
                        changes.append(((differ[c] - gy).abs().item(), seen, place))
                rest, seen, place = min(changes, key=lambda one: one[0], default=(torch.inf, None, None))
                if rest < differ[c].abs() / 2:
                    seen.open[place] = ~seen.open[place]
                    moved += 1
            if moved:
                break
        return moved
