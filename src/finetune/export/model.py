"""The exported net in plain PyTorch and torchvision.

    from PIL import Image
    from model import load
    found = load(".").predict(Image.open("image.jpg").convert("RGB"))

    python model.py detectron2 OUT.pth     # also torchvision, mmdet

writes the weights as another library's checkpoint.
"""

import argparse
import json
import math
from collections import OrderedDict
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, nms, roi_align


def conv_bn(inputs, outputs, kernel, stride=1, dilation=1):
    sizes = (kernel, stride, dilation * (kernel // 2), dilation)
    return nn.Conv2d(inputs, outputs, *sizes, bias=False), nn.BatchNorm2d(outputs)


class Block(nn.Module):
    """A bottleneck (1x1, 3x3, 1x1) or basic block (3x3, 3x3); the first of a stage projects its input."""

    def __init__(self, kernels, inputs, width, outputs, stride, dilation, first):
        super().__init__()
        self.count, strided, channels = len(kernels), kernels.index(3), inputs
        for i, kernel in enumerate(kernels):
            out = outputs if i + 1 == self.count else width
            own = stride if i == strided else 1, dilation if kernel == 3 else 1
            conv, norm = conv_bn(channels, out, kernel, *own)
            setattr(self, f"conv{i + 1}", conv)
            setattr(self, f"bn{i + 1}", norm)
            channels = out
        self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1, stride)) if first else None

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.count:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def stage(body, s):
    """Stage s of a ResNet, counted from 0."""
    channels = body["stem"]["width"] if s == 0 else body["outputs"][s - 1]
    kernels = [3, 3] if body["block"] == "basic" else [1, 3, 1]
    width, outputs, dilation = body["widths"][s], body["outputs"][s], body["dilations"][s]
    blocks = []
    for b in range(body["depths"][s]):
        # A stage's first block has the dilation of the stage before.
        own = (body["strides"][s], max(dilation // 2, 1)) if b == 0 else (1, dilation)
        blocks.append(Block(kernels, channels, width, outputs, *own, b == 0))
        channels = outputs
    return nn.Sequential(*blocks)


class Body(nn.Module):
    """The first stages of a ResNet; gives the output of each."""

    def __init__(self, body, stages):
        super().__init__()
        stem, self.stages = body["stem"], stages
        self.conv1, self.bn1 = conv_bn(3, stem["width"], stem["kernel"], stem["stride"])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem["maxpool"] else nn.Identity()
        for s in range(stages):
            setattr(self, f"layer{s + 1}", stage(body, s))

    def forward(self, x):
        outputs = [self.maxpool(F.relu(self.bn1(self.conv1(x))))]
        for s in range(self.stages):
            outputs.append(getattr(self, f"layer{s + 1}")(outputs[-1]))
        return outputs[1:]


def taps(inputs, outputs):
    """Of a resize along an axis: for each output the inputs that count, and their weights."""
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    centres = (numpy.arange(outputs) + 0.5) * scale
    low = numpy.minimum((centres - stretch + 0.5).clip(0).astype(int), inputs - 1)
    high = (centres + stretch + 0.5).astype(int).clip(low + 1, inputs)
    at = low[:, None] + numpy.arange((high - low).max())
    weights = (1 - numpy.abs((at - centres[:, None] + 0.5) / stretch)).clip(0) * (at < high[:, None])
    total = weights.cumsum(1)[:, -1:]
    return at.clip(max=inputs - 1), (weights / total).astype(numpy.float32)


def resized_along(x, outputs):
    """Bytes [N, inputs, M] resized to [N, outputs, M]."""
    at, weights = taps(x.shape[1], outputs)
    sums = numpy.full((len(x), outputs, x.shape[2]), 0.5, numpy.float32)
    for k in range(weights.shape[1]):
        sums += weights[:, k, None] * x[:, at[:, k]].astype(numpy.float32)
    return sums.clip(0, 255).astype(numpy.uint8)


def resized(image, size):
    """An RGB image's bytes [H, W, 3] at another size. PIL's antialiased bilinear filter, of which
    every operation is the program's: PIL itself rounds one value in some hundred otherwise."""
    (width, height), x = size, numpy.array(image)
    if image.size == size:
        return x
    x = resized_along(x, width)
    return resized_along(x.reshape(1, len(x), -1), height).reshape(height, width, 3)


def values(pixels, layers):
    """Bytes [H, W, 3] as a tensor [1, 3, H, W], normalised."""
    mean, std = (torch.tensor(layers[name], dtype=torch.float64) for name in ("mean", "std"))
    scale, shift = ((1 / (255 * std)).float(), (-mean / std).float())
    x = torch.from_numpy(pixels).float() * scale + shift
    return x.permute(2, 0, 1)[None].contiguous()


def rounded(*sides):
    return tuple(max(int(side + 0.5), 1) for side in sides)


def shortest_edge(width, height, short, longest):
    """The size whose shorter edge is `short`, unless its longer one would be beyond `longest`."""
    scale = short / min(width, height)
    w, h = (scale * width, short) if height < width else (short, scale * height)
    if max(w, h) > longest:
        scale = longest / max(w, h)
        w, h = w * scale, h * scale
    return rounded(w, h)


def clip(boxes, height, width):
    return torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], 1)


def decode(sources, deltas, weights):
    """Boxes that differ so from `sources`, both [N, 4]."""
    w, h = sources[:, 2] - sources[:, 0], sources[:, 3] - sources[:, 1]
    x, y = sources[:, 0] + 0.5 * w, sources[:, 1] + 0.5 * h
    dx, dy, dw, dh = (deltas[:, i] / weights[i] for i in range(4))
    most = math.log(1000 / 16)
    x, y = dx * w + x, dy * h + y
    w, h = dw.clamp(max=most).exp() * w, dh.clamp(max=most).exp() * h
    return torch.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], 1)


def nms_per_class(boxes, scores, classes, threshold):
    """Indices of the boxes that stay, the best first."""
    stays = torch.zeros(len(boxes), dtype=torch.bool)
    for one in classes.unique():
        of = (classes == one).nonzero()[:, 0]
        stays[of[nms(boxes[of], scores[of], threshold)]] = True
    order = scores.sort(descending=True, stable=True).indices
    return order[stays[order]]


class Detector(nn.Module):
    """Faster R-CNN on C4, or Mask R-CNN with a feature pyramid, with torchvision's modules and names."""

    def __init__(self, config):
        super().__init__()
        self.classes, self.layers, self.test = config["classes"], config["layers"], config["det"]
        body, d, count = self.layers["body"], self.layers["detector"], len(self.classes) + 1
        outputs, channels, head = body["outputs"], d["channels"], d["box_head"]
        norm, head_norm = (nn.BatchNorm2d if d[name] else None for name in ("norm", "head_norm"))
        self.backbone, self.rpn, self.roi_heads = nn.Module(), nn.Module(), nn.Module()
        self.backbone.body = Body(body, 4 if d["fpn"] else 3)
        anchors = len(d["anchor_sizes"][0]) * len(d["anchor_ratios"])
        self.rpn.head = RPNHead(channels if d["fpn"] else outputs[2], anchors)
        if not d["fpn"]:
            last = OrderedDict(layer4=stage(body, 3))
            if norm:
                last["norm"] = norm(outputs[3])
            self.roi_heads.box_head = nn.Sequential(last)
            self.roi_heads.box_predictor = FastRCNNPredictor(outputs[3], count)
            return
        self.backbone.fpn = FeaturePyramidNetwork(outputs, channels, norm_layer=norm)
        if head["kind"] == "2fc":
            self.roi_heads.box_head = TwoMLPHead(channels * 49, head["units"])
        else:
            convs, units = [channels] * head["convs"], [head["units"]] * head["fcs"]
            self.roi_heads.box_head = FastRCNNConvFCHead((channels, 7, 7), convs, units, head_norm)
        self.roi_heads.box_predictor = FastRCNNPredictor(head["units"], count)
        if d["mask"]:
            self.roi_heads.mask_head = MaskRCNNHeads(channels, [channels] * 4, 1, head_norm)
            self.roi_heads.mask_predictor = MaskRCNNPredictor(channels, channels, count)

    def maps(self, x):
        """P2 to P6, or C4, of images [N, 3, H, W]."""
        outputs = self.backbone.body(x)
        if not self.layers["detector"]["fpn"]:
            return outputs[-1:]
        maps = list(self.backbone.fpn(OrderedDict(enumerate(outputs))).values())
        return [*maps, F.max_pool2d(maps[-1], 1, 2)]

    def anchors(self, level, height, width):
        d = self.layers["detector"]
        sizes = ((size, ratio) for size in d["anchor_sizes"][level] for ratio in d["anchor_ratios"])
        sides = ((math.sqrt(size * size / ratio), ratio) for size, ratio in sizes)
        cells = [[-w / 2, -ratio * w / 2, w / 2, ratio * w / 2] for w, ratio in sides]
        y, x = (torch.arange(n).float() * d["strides"][level] for n in (height, width))
        y, x = torch.meshgrid(y, x, indexing="ij")
        return (torch.stack([x, y, x, y], -1)[:, :, None] + torch.tensor(cells)).reshape(-1, 4)

    def proposals(self, maps, height, width):
        """Boxes that may hold objects in an image of this size, the best first."""
        boxes, scores, levels = [], [], []
        for level, (logits, deltas) in enumerate(zip(*self.rpn.head(maps))):
            anchors = self.anchors(level, *logits.shape[2:])
            logits = logits[0].permute(1, 2, 0).flatten()
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
            best = logits.sort(descending=True, stable=True).indices[: self.test["rpn_pre_test"]]
            decoded = clip(decode(anchors[best], deltas[best], (1, 1, 1, 1)), height, width)
            has_area = (decoded[:, 2] > decoded[:, 0]) & (decoded[:, 3] > decoded[:, 1])
            boxes.append(decoded[has_area])
            scores.append(logits[best][has_area])
            levels.append(torch.full((len(boxes[-1]),), level))
        boxes, scores, levels = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        return boxes[nms_per_class(boxes, scores, levels, self.test["rpn_nms"])][: self.test["rpn_post_test"]]

    def regions(self, maps, boxes, side):
        """What the maps show in boxes: [R, C, side, side]. Larger boxes are read from higher levels."""
        d = self.layers["detector"]
        count, strides = d["region_levels"], d["strides"]
        # The levels are told for the stride of 4 that P2 has in detectors of large images.
        scaled = boxes * (4 / strides[0])
        size = ((scaled[:, 2] - scaled[:, 0]) * (scaled[:, 3] - scaled[:, 1])).sqrt()
        level = (4 + (size / 224 + 1e-8).log2()).floor().clamp(2, 5) - 2
        level = level.clamp(max=count - 1)
        out = maps[0].new_zeros(len(boxes), maps[0].shape[1], side, side)
        for l in range(count):
            of = (level == l).nonzero()[:, 0]
            rois = torch.cat([torch.zeros(len(of), 1), boxes[of]], 1)
            out[of] = roi_align(maps[l], rois, side, 1 / strides[l], sampling_ratio=0, aligned=True)
        return out

    def boxes(self, maps, proposals, height, width):
        """Boxes, scores and labels (from 1: 0 is the background) of what was found, the best first."""
        heads, fpn = self.roi_heads, self.layers["detector"]["fpn"]
        features = heads.box_head(self.regions(maps, proposals, 7 if fpn else 14))
        scores, deltas = heads.box_predictor(features if fpn else features.mean((2, 3)))
        scores, count = scores.softmax(1), scores.shape[1]
        scores[:, 0] = 0
        region, label = (scores > self.test["score"]).nonzero(as_tuple=True)
        deltas = deltas.view(-1, count, 4)[region, label]
        boxes = clip(decode(proposals[region], deltas, (10, 10, 5, 5)), height, width)
        scores = scores[region, label]
        stay = nms_per_class(boxes, scores, label, self.test["nms"])[: self.test["top_k"]]
        return boxes[stay], scores[stay], label[stay]

    def masks(self, maps, boxes, labels):
        """Probabilities [F, 28, 28] of the pixels of what was found."""
        heads = self.roi_heads
        logits = heads.mask_predictor(heads.mask_head(self.regions(maps, boxes, 14)))
        return logits[torch.arange(len(labels)), labels].sigmoid()

    @torch.inference_mode()
    def predict(self, image):
        """Of an RGB image what is in it: boxes (x1, y1, x2, y2), scores, labels (numbers of `classes`),
        and, of a net with a mask head, masks [F, H, W]."""
        w, h = shortest_edge(*image.size, self.test["short_test"], self.test["long"])
        multiple = self.layers["detector"]["size_multiple"]
        x = F.pad(values(resized(image, (w, h)), self.layers), (0, -w % multiple, 0, -h % multiple))
        maps = self.maps(x)
        boxes, scores, labels = self.boxes(maps, self.proposals(maps, h, w), h, w)
        scale = torch.tensor([image.width, image.height] * 2) / torch.tensor([w, h] * 2)
        found = {"boxes": boxes * scale, "scores": scores, "labels": labels - 1}
        if self.layers["detector"]["mask"]:
            cells = self.masks(maps, boxes, labels)
            masks = [paste(*one, image.height, image.width) for one in zip(cells, found["boxes"])]
            found["masks"] = torch.stack(masks) if masks else torch.zeros(0, image.height, image.width) > 0
        return found


def paste(cells, box, height, width):
    """The pixels of an image that belong to a mask in a box."""

    def places(pixels, low, high):
        return (torch.arange(pixels) + 0.5 - low) / (high - low) * 2 - 1

    y, x = torch.meshgrid(places(height, box[1], box[3]), places(width, box[0], box[2]), indexing="ij")
    grid = torch.stack([x, y], -1)[None]
    return F.grid_sample(cells[None, None], grid, align_corners=False)[0, 0] >= 0.5


def conv_bn_relu(inputs, outputs):
    conv, norm = conv_bn(inputs, outputs, 3)
    return nn.Sequential(OrderedDict(conv=conv, bn=norm, relu=nn.ReLU()))


class FcnHead(nn.Module):
    """MMSegmentation's FCNHead."""

    def __init__(self, inputs, channels, convs, classes, cat):
        super().__init__()
        self.convs = nn.Sequential(*(conv_bn_relu(channels if i else inputs, channels) for i in range(convs)))
        self.conv_cat = conv_bn_relu(inputs + channels, channels) if cat else None
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, x):
        y = self.convs(x)
        return self.conv_seg(y if self.conv_cat is None else self.conv_cat(torch.cat([x, y], 1)))


class Segmenter(nn.Module):
    """A fully convolutional net, with MMSegmentation's names."""

    def __init__(self, config):
        super().__init__()
        self.classes, self.layers, self.test = config["classes"], config["layers"], config["seg"]
        outputs, fcn, count = self.layers["body"]["outputs"], self.layers["fcn"], len(self.classes)
        self.backbone = Body(self.layers["body"], 4)
        self.decode_head = FcnHead(outputs[3], fcn["channels"], 2, count, True)
        if fcn["aux"]:  # For training alone.
            self.auxiliary_head = FcnHead(outputs[2], fcn["channels"] // 2, 1, count, False)

    def resize(self, scores, size):
        aligned = self.test["align_corners"]
        return F.interpolate(scores, size, mode="bilinear", align_corners=aligned)

    def forward(self, x):
        """Scores [N, K, H, W] of the pixels of images [N, 3, H, W]."""
        return self.resize(self.decode_head(self.backbone(x)[-1]), x.shape[2:])

    def slide(self, x):
        """The mean of the scores of all windows that a pixel lies in."""
        crop, step, (h, w) = self.test["crop"], self.test["slide"], x.shape[2:]
        sums, counts = x.new_zeros(1, len(self.classes), h, w), torch.zeros(h, w)

        def starts(length):
            last = max(length - crop, 0)
            return [min(i * step, last) for i in range(-(-last // step) + 1)]

        for top in starts(h):
            for left in starts(w):
                of = (slice(top, top + crop), slice(left, left + crop))
                sums[:, :, *of] += self(x[:, :, *of])
                counts[of] += 1
        return sums / counts

    @torch.inference_mode()
    def predict(self, image):
        """The class of each pixel [H, W] of an RGB image, a number of `classes`."""
        size, (long, short) = image.size, (self.test["long"], self.test["short"])
        if long:
            scale = min(max(long, short) / max(size), min(long, short) / min(size))
            size = rounded(size[0] * scale, size[1] * scale)
        x = values(resized(image, size), self.layers)
        scores = self.slide(x) if self.test["test"] == "slide" else self(x)
        if size != image.size:
            scores = self.resize(scores, (image.height, image.width))
        return scores[0].argmax(0)


def read(folder, library="torchvision"):
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    name = "model.safetensors" if library == "torchvision" else f"{library}/model.safetensors"
    return config, load_file(folder / name)


def load(folder="."):
    """The net of an export's folder, in evaluation mode."""
    config, weights = read(folder)
    net = Segmenter(config) if config["task"] == "seg" else Detector(config)
    net.load_state_dict(weights)
    return net.eval()


def convert(folder, library):
    """The weights as a library's checkpoint, for `torch.save`."""
    weights = read(folder, library)[1]
    wrapped = {"detectron2": {"model": weights, "__author__": "engine"}, "mmdet": {"state_dict": weights}}
    return wrapped.get(library, weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=["torchvision", "detectron2", "mmdet"])
    parser.add_argument("out", metavar="OUT.pth")
    parser.add_argument("--export", default=Path(__file__).parent, help="the export's folder")
    args = parser.parse_args()
    torch.save(convert(args.export, args.library), args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
