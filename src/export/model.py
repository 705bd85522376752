"""The exported net in plain PyTorch: `load(".")`, or timm's ResNet: `load_timm(".")`.

    python model.py detectron2 OUT.pth     # also torchvision, openmmlab

writes the backbone's weights for another library.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


def conv_bn(inputs, outputs, kernel, stride):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, outputs, stride, first):
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, width, 1, 1)
        self.conv2, self.bn2 = conv_bn(width, width, 3, stride)
        self.conv3, self.bn3 = conv_bn(width, outputs, 1, 1)
        self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1, stride)) if first else None

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(y)) + shortcut)


class Basic(nn.Module):
    def __init__(self, inputs, width, outputs, stride, first):
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, width, 3, stride)
        self.conv2, self.bn2 = conv_bn(width, outputs, 3, 1)
        self.downsample = nn.Sequential(*conv_bn(inputs, outputs, 1, stride)) if first else None

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


def is_basic(config):
    return config.get("block") == "basic"


def projection(channels, hidden, dim, norm=False, last_norm=None):
    """Linear, ReLU, Linear; or with batch norms in place of the biases, the last one if it has one."""
    first, second = (nn.Linear(i, o, bias=not norm) for i, o in [(channels, hidden), (hidden, dim)])
    if not norm:
        return nn.Sequential(first, nn.ReLU(), second)
    layers = [first, nn.BatchNorm1d(hidden), nn.ReLU(), second]
    if last_norm is None or last_norm:
        layers.append(nn.BatchNorm1d(dim, affine=False))
    return nn.Sequential(*layers)


class Net(nn.Module):
    """ResNet with the widths, depths and stem of config.json."""

    def __init__(self, config):
        super().__init__()
        stem, head = config["stem"], config["head"]
        channels, block = config["input_size"][0], Basic if is_basic(config) else Bottleneck
        self.conv1, self.bn1 = conv_bn(channels, stem["width"], stem["kernel"], stem["stride"])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem["maxpool"] else nn.Identity()
        channels = stem["width"]
        stages = zip(config["widths"], config["depths"], config["strides"])
        for s, (width, depth, stride) in enumerate(stages, 1):
            blocks, outputs = [], config["expansion"] * width
            for b in range(depth):
                first = b == 0
                blocks.append(block(channels, width, outputs, stride if first else 1, first))
                channels = outputs
            setattr(self, f"layer{s}", nn.Sequential(*blocks))
        self.head = None
        if head:
            self.head = projection(channels, **head)
        classifier = config.get("classifier")
        self.fc = nn.Linear(channels, len(classifier["classes"])) if classifier else None

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        out = {}
        for s in range(1, 5):
            x = out[f"c{s + 1}"] = getattr(self, f"layer{s}")(x)
        out["pool"] = x.mean((2, 3))
        if self.head is not None:
            out["z"] = F.normalize(self.head(out["pool"]), dim=1)
        if self.fc is not None:
            out["scores"] = self.fc(out["pool"])
        return out


def read(folder):
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "model.safetensors")


def load(folder="."):
    """The net of an export's folder, in evaluation mode."""
    config, weights = read(folder)
    net = Net(config)
    net.load_state_dict(weights)
    return net.eval()


def load_timm(folder="."):
    """The same net as timm's ResNet, in evaluation mode. timm's plain stem is fixed (7×7,
    64 channels), so the stem and what reads it are replaced by those of config.json."""
    from timm.models.resnet import BasicBlock, Bottleneck as TimmBottleneck, ResNet

    config, weights = read(folder)
    stem, outputs = config["stem"], config["expansion"] * config["widths"][0]
    inputs, stride = config["input_size"][0], config["strides"][0]
    known = ("layers", "channels", "num_classes")
    block = BasicBlock if is_basic(config) else TimmBottleneck
    net = ResNet(block, **{name: config["model_args"][name] for name in known})
    net.conv1, net.bn1 = conv_bn(inputs, stem["width"], stem["kernel"], stem["stride"])
    if not stem["maxpool"]:
        net.maxpool = nn.Identity()
    first = net.layer1[0]
    kernel, strides = (3, stride) if is_basic(config) else (1, 1)
    first.conv1, _ = conv_bn(stem["width"], config["widths"][0], kernel, strides)
    first.downsample = nn.Sequential(*conv_bn(stem["width"], outputs, 1, stride))
    backbone = {name: w for name, w in weights.items() if not name.startswith("head.")}
    net.load_state_dict(backbone)
    return net.eval()


def detectron2_name(name):
    """detectron2's name for one of the backbone's tensors."""
    parts = name.split(".")
    if parts[0].startswith("layer"):
        prefix, parts = [f"res{int(parts[0][5:]) + 1}", parts[1]], parts[2:]
    else:
        prefix = ["stem"]
    layer, rest = parts[0], parts[1:]
    if layer == "downsample":
        layer, rest = "shortcut", (["norm"] if rest[0] == "1" else []) + rest[1:]
    elif layer.startswith("bn"):
        layer, rest = f"conv{layer[2:]}", ["norm", *rest]
    return ".".join([*prefix, layer, *rest])


def detectron2_obstacle(config):
    """Why detectron2's ResNet is not this net; None where it is."""
    stem, outputs = config["stem"], [config["expansion"] * w for w in config["widths"]]
    if (stem["kernel"], stem["stride"], stem["maxpool"]) != (7, 2, True):
        return "its stem is a 7x7 convolution of stride 2 with a max-pool"
    if config["strides"] != [1, 2, 2, 2]:
        return "its stages have strides 1, 2, 2, 2"
    if any(i == o for i, o in zip([stem["width"], *outputs], outputs)):
        return "it has no projection where a stage keeps the number of channels"
    return None


def build_detectron2(folder="."):
    """detectron2's backbone of this net, without weights; for `BACKBONE_REGISTRY`, give it
    `cfg, input_shape` and call this."""
    from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet

    config, _ = read(folder)
    stages, channels = [], config["stem"]["width"]
    for width, depth, stride in zip(config["widths"], config["depths"], config["strides"]):
        outputs = config["expansion"] * width
        strides = [stride] + [1] * (depth - 1)
        block, kind = BasicBlock, dict(norm="BN")
        if not is_basic(config):
            block = BottleneckBlock
            kind |= dict(bottleneck_channels=width, stride_in_1x1=False)
        sizes = dict(in_channels=channels, out_channels=outputs)
        stages.append(ResNet.make_stage(block, depth, stride_per_block=strides, **sizes, **kind))
        channels = outputs
    stem = BasicStem(config["input_size"][0], config["stem"]["width"], "BN")
    return ResNet(stem, stages, out_features=["res2", "res3", "res4", "res5"])


def convert(folder, library):
    """The backbone's weights as a library's checkpoint, for `torch.save`."""
    config, weights = read(folder)
    backbone = {name: w for name, w in weights.items() if not name.startswith(("head.", "fc."))}
    if library != "detectron2":
        return backbone
    if (obstacle := detectron2_obstacle(config)) is not None:
        sys.exit(f"detectron2's ResNet cannot be {config['arch']}: {obstacle}")
    # Without heuristics detectron2 wants the names of a whole detector.
    renamed = {detectron2_name(name): w for name, w in backbone.items()}
    return {"model": renamed, "__author__": "engine", "matching_heuristics": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=["torchvision", "openmmlab", "detectron2"])
    parser.add_argument("out", metavar="OUT.pth")
    parser.add_argument("--export", default=Path(__file__).parent, help="the export's folder")
    args = parser.parse_args()
    torch.save(convert(args.export, args.library), args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
