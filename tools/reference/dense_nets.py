"""Nets for segmentation and detection, built from torchvision's modules at the sizes of given
parameters. `places` says which module holds the parameters that engine calls by a name."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

RATIOS = (0.5, 1.0, 2.0)
# Sizes of anchors at a position of C4.
C4_SIZES = 5
BOX_SIDE, MASK_SIDE, C4_SIDE = 7, 14, 14


def numbers(text):
    return [int(n) for n in text.split(",")]


class Norm(nn.BatchNorm2d):
    """With the statistics of groups of `group` consecutive images in training; 0: of all of them."""

    def __init__(self, channels, group=0):
        super().__init__(channels)
        self.group = group

    def forward(self, x):
        if not self.training or not self.group or self.group >= len(x):
            return super().forward(x)
        return torch.cat([super(Norm, self).forward(part) for part in x.split(self.group)])


class Body(nn.Module):
    """A ResNet of torchvision's blocks, with a shortcut in the first block of every stage. Strides that
    would go beyond `output_stride` become dilations as by torchvision's
    replace_stride_with_dilation."""

    def __init__(self, params, meta, norm, output_stride=math.inf):
        super().__init__()
        channels, inputs, kernel, _ = params["conv1.weight"].shape
        stride, pools = int(meta["stem_stride"]), meta["stem_maxpool"] == "true"
        self.conv1 = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2, bias=False)
        self.bn1, self.relu = norm(channels), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pools else nn.Identity()
        kind = Bottleneck if "layer1.0.conv3.weight" in params else BasicBlock
        total, dilation = stride * (2 if pools else 1), 1
        for s, stride in enumerate(numbers(meta["stage_strides"]), 1):
            before = dilation
            if total * stride > output_stride:
                stride, dilation = 1, dilation * stride
            total *= stride
            width, blocks = len(params[f"layer{s}.0.conv1.weight"]), nn.Sequential()
            out = width * kind.expansion
            shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), norm(out))
            while f"layer{s}.{len(blocks)}.conv1.weight" in params:
                where = (stride, shortcut, 1, 64, before) if not blocks else (1, None, 1, 64, dilation)
                blocks.append(kind(channels, width, *where, norm_layer=norm))
                channels = out
            setattr(self, f"layer{s}", blocks)
        self.stages = [self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, x, stages=4):
        """Outputs of the first stages, C2 and on."""
        x, found = self.maxpool(self.relu(self.bn1(self.conv1(x)))), []
        for stage in self.stages[:stages]:
            x = stage(x)
            found.append(x)
        return found


class Dense(nn.Module):
    """What the nets of all tasks have in common. `frozen`: statistics of the body's batch norms; without
    them they are the batch's."""

    def __init__(self, params, meta, output_stride=math.inf):
        super().__init__()
        self.norm = partial(Norm, group=int(meta["bn_group"]))
        self.body = Body(params, meta, self.norm, output_stride)
        self.places = {name: module for name, module in self.body.named_modules() if name}

    def place(self, name, layer, conv="", norm=".norm"):
        """Names a convolution of torchvision's with a batch norm or without."""
        self.places[name + conv] = layer[0]
        if len(layer) > 1 and isinstance(layer[1], Norm):
            self.places[name + norm] = layer[1]

    def load(self, params, frozen):
        own = self.named()
        if own.keys() != params.keys():
            raise SystemExit(f"names differ: {sorted(own.keys() ^ params.keys())}")
        with torch.no_grad():
            for name, w in own.items():
                w.copy_(self.laid_out(name, params[name]))
            for name, value in frozen.items():
                place, kind = name.rsplit(".", 1)
                getattr(self.places[place], kind).copy_(value)
        self.train()
        self.body.train(not frozen)
        return self

    def named(self):
        """Parameters under engine's names."""
        return {
            f"{name}.{kind}": w
            for name, module in self.places.items()
            for kind, w in module.named_parameters(recurse=False)
        }

    def laid_out(self, name, w):
        """A parameter or its gradient in the order of torchvision's modules: engine's regions are flattened
        as (h, w, c)."""
        if name != "box_head.fc1.weight":
            return w
        return w.unflatten(1, (BOX_SIDE, BOX_SIDE, -1)).permute(0, 3, 1, 2).flatten(1)


class Fcn(Dense):
    """MMSegmentation's FCNHead on C5, and its auxiliary one on C4."""

    def __init__(self, params, meta):
        super().__init__(params, meta, int(meta["output_stride"]))
        self.decode_head = self.head("decode_head", params, 2)
        self.auxiliary_head = None
        if "auxiliary_head.conv_seg.weight" in params:
            self.auxiliary_head = self.head("auxiliary_head", params, 1)

    def head(self, name, params, convs):
        def layer(what):
            cout, cin, kernel, _ = params[f"{name}.{what}.conv.weight"].shape
            made = Conv2dNormActivation(cin, cout, kernel, norm_layer=self.norm)
            self.place(f"{name}.{what}", made, ".conv", ".bn")
            return made

        classes, cin, *_ = params[f"{name}.conv_seg.weight"].shape
        parts = {"convs": nn.Sequential(*(layer(f"convs.{i}") for i in range(convs)))}
        if f"{name}.conv_cat.conv.weight" in params:
            parts["conv_cat"] = layer("conv_cat")
        parts["conv_seg"] = self.places[f"{name}.conv_seg"] = nn.Conv2d(cin, classes, 1)
        return nn.ModuleDict(parts)

    def forward(self, x, masks):
        """Scores of both heads; `masks`: factors of channels [N, C] before each classifier."""
        *_, c4, c5 = self.body(x)
        found = []
        for head, level, mask in zip((self.decode_head, self.auxiliary_head), (c5, c4), masks):
            if head is None:
                continue
            h = head["convs"](level)
            if "conv_cat" in head:
                h = head["conv_cat"](torch.cat([level, h], 1))
            found.append(head["conv_seg"](h if mask is None else h * mask[:, :, None, None]))
        return found


class Detector(Dense):
    """What both detectors have in common. `levels`: maps that proposals come from."""

    def __init__(self, params, meta):
        super().__init__(params, meta)
        self.strides, size = numbers(meta["strides"]), int(meta["anchor"])
        self.classes = len(params["box_predictor.cls_score.weight"]) - 1
        anchors, channels, *_ = params["rpn_head.objectness_logits.weight"].shape
        self.rpn = RPNHead(channels, anchors)
        self.places["rpn_head.conv"] = self.rpn.conv[0][0]
        self.places["rpn_head.objectness_logits"] = self.rpn.cls_logits
        self.places["rpn_head.anchor_deltas"] = self.rpn.bbox_pred
        units = params["box_predictor.cls_score.weight"].shape[1]
        # engine's background is the last class and has no box.
        self.predictor = FastRCNNPredictor(units, self.classes + 1)
        self.predictor.bbox_pred = nn.Linear(units, 4 * self.classes)
        self.places["box_predictor.cls_score"] = self.predictor.cls_score
        self.places["box_predictor.bbox_pred"] = self.predictor.bbox_pred
        doubled = lambda first, count: [size << power for power in range(first, first + count)]
        fpn = anchors == len(RATIOS)
        self.sizes = [doubled(l, 1 if fpn else C4_SIZES) for l in range(len(self.strides))]

    def proposed(self, levels):
        """Of each level logits [N, HWA] and deltas [N, HWA, 4]."""
        flat = lambda t: t.permute(0, 2, 3, 1).flatten(1)
        logits, deltas = self.rpn(levels)
        return [flat(t) for t in logits], [flat(t).unflatten(1, (-1, 4)) for t in deltas]

    def anchors(self, levels):
        """detectron2's of each level [HWA, 4]: not rounded, the first centre on the image's corner."""
        found = []
        for level, stride, sizes in zip(levels, self.strides, self.sizes):
            sides = [(math.sqrt(s * s / r), math.sqrt(s * s / r) * r) for s in sizes for r in RATIOS]
            cell = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides]).to(level)
            y, x = (stride * torch.arange(n).to(level) for n in level.shape[2:])
            y, x = torch.meshgrid(y, x, indexing="ij")
            corner = torch.stack([x, y, x, y], -1)
            found.append((corner[:, :, None] + cell).flatten(0, 2))
        return found

    def regions(self, levels, rois, side):
        """Of rois [R, 6] (image, level, box), detectron2's ROIAlign."""
        made = levels[0].new_zeros(len(rois), levels[0].shape[1], side, side)
        for l, (level, stride) in enumerate(zip(levels, self.strides)):
            at = rois[:, 1] == l
            boxes = rois[at][:, [0, 2, 3, 4, 5]].to(level)
            made[at] = roi_align(level, boxes, side, 1 / stride, sampling_ratio=0, aligned=True)
        return made


class DetC4(Detector):
    """Faster R-CNN whose head is the last stage, perhaps with a batch norm behind it."""

    def __init__(self, params, meta):
        super().__init__(params, meta)
        self.last = nn.Identity()
        if "res5.norm.weight" in params:
            self.last = self.places["res5.norm"] = self.norm(len(params["res5.norm.weight"]))

    def levels(self, x):
        return self.body(x, 3)[-1:]

    def boxes(self, levels, rois):
        h = self.last(self.body.layer4(self.regions(levels, rois, C4_SIDE)))
        return self.predictor(h.mean((2, 3)))

    def masks(self, levels, rois):
        return None


class DetFpn(Detector):
    """Mask R-CNN with a feature pyramid."""

    def __init__(self, params, meta):
        super().__init__(params, meta)
        given = lambda name: self.norm if f"{name}.norm.weight" in params else None
        c2_to_c5 = [params[f"fpn_lateral{s}.weight"].shape[1] for s in range(2, 6)]
        channels = len(params["fpn_output2.weight"])
        norm, above = given("fpn_output2"), LastLevelMaxPool()
        self.fpn = FeaturePyramidNetwork(c2_to_c5, channels, above, norm_layer=norm)
        for s, layers in enumerate(zip(self.fpn.inner_blocks, self.fpn.layer_blocks), 2):
            self.place(f"fpn_lateral{s}", layers[0])
            self.place(f"fpn_output{s}", layers[1])
        if "box_head.conv1.weight" in params:
            convs, units = [channels] * 4, [len(params["box_head.fc1.weight"])]
            size, norm = (channels, BOX_SIDE, BOX_SIDE), given("box_head.conv1")
            self.box_head = FastRCNNConvFCHead(size, convs, units, norm)
            for i in range(4):
                self.place(f"box_head.conv{i + 1}", self.box_head[i])
            self.places["box_head.fc1"] = self.box_head[5]
        else:
            units, inputs = params["box_head.fc1.weight"].shape
            self.box_head = TwoMLPHead(inputs, units)
            self.places["box_head.fc1"] = self.box_head.fc6
            self.places["box_head.fc2"] = self.box_head.fc7
        self.mask_head = None
        if "mask_head.deconv.weight" in params:
            self.mask_head = MaskRCNNHeads(channels, [channels] * 4, 1, given("mask_head.mask_fcn1"))
            self.mask_predictor = MaskRCNNPredictor(channels, channels, self.classes)
            for i in range(4):
                self.place(f"mask_head.mask_fcn{i + 1}", self.mask_head[i])
            self.places["mask_head.deconv"] = self.mask_predictor.conv5_mask
            self.places["mask_head.predictor"] = self.mask_predictor.mask_fcn_logits

    def levels(self, x):
        return list(self.fpn(dict(enumerate(self.body(x)))).values())

    def boxes(self, levels, rois):
        return self.predictor(self.box_head(self.regions(levels[:4], rois, BOX_SIDE)))

    def masks(self, levels, rois):
        return self.mask_predictor(self.mask_head(self.regions(levels[:4], rois, MASK_SIDE)))


NETS = {"seg": Fcn, "det-c4": DetC4, "det-fpn": DetFpn}
