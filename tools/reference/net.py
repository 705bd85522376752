"""The elastic ResNet. Parameters are a dict of tensors under torchvision's names. A subnet uses the
first channels and the first blocks of it: slices are views, and a whole tensor is not sliced."""

import itertools
import math
import re
from typing import NamedTuple

import torch
import torch.nn.functional as F

EXPANSION = 4
LEVELS = ("c2", "c3", "c4", "c5")
R50 = "s64-w64.128.256.512-d3.4.6.3"


class Arch(NamedTuple):
    stem: int
    widths: tuple
    depths: tuple

    @staticmethod
    def parse(name):
        """`s32-w48.96.192.512-d2.2.5.2`."""
        match = re.fullmatch(r"s(\d+)-w([\d.]+)-d([\d.]+)", name)
        if not match:
            raise SystemExit(f"{name!r} is not an architecture such as {R50}")
        stem, widths, depths = match.groups()
        numbers = lambda text: tuple(int(n) for n in text.split("."))
        return Arch(int(stem), numbers(widths), numbers(depths))


class Conv(NamedTuple):
    """A convolution and the batch norm after it; `size` is its input's height and width."""

    name: str
    norm: str
    cin: int
    cout: int
    kernel: int
    stride: int
    size: int

    @property
    def out_size(self):
        return (self.size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    @property
    def macs(self):
        return self.cin * self.cout * self.kernel**2 * self.out_size**2


class Space(NamedTuple):
    """What all nets of a search space have in common: the input's side, the stem's kernel and
    stride, whether a max-pool follows it, and the strides of the stages."""

    resolution: int
    kernel: int
    stride: int
    maxpool: bool
    strides: tuple = (1, 2, 2, 2)

    def convs(self, arch):
        """The convolutions of an architecture, in order."""
        arch, size = Arch.parse(arch), self.resolution
        first = Conv("conv1", "bn1", 3, arch.stem, self.kernel, self.stride, size)
        yield first
        size, cin = first.out_size, arch.stem
        if self.maxpool:
            size = (size - 1) // 2 + 1
        for s, (width, depth) in enumerate(zip(arch.widths, arch.depths)):
            for b in range(depth):
                name, out = f"layer{s + 1}.{b}", EXPANSION * width
                stride = self.strides[s] if b == 0 else 1
                middle = Conv(f"{name}.conv2", f"{name}.bn2", width, width, 3, stride, size)
                yield Conv(f"{name}.conv1", f"{name}.bn1", cin, width, 1, 1, size)
                yield middle
                yield Conv(f"{name}.conv3", f"{name}.bn3", width, out, 1, 1, middle.out_size)
                if b == 0:
                    shortcut = f"{name}.downsample"
                    yield Conv(f"{shortcut}.0", f"{shortcut}.1", cin, out, 1, stride, size)
                size, cin = middle.out_size, out

    def macs(self, arch):
        return sum(conv.macs for conv in self.convs(arch))

    def levels(self, arch):
        """Channels and side of C2 to C5, by name."""
        last = {c.name[:6]: c for c in self.convs(arch) if c.name.endswith("conv3")}
        return {c: (last[f"layer{s}"].cout, last[f"layer{s}"].size) for s, c in enumerate(LEVELS, 1)}

    def shapes(self, arch, hidden, dim, head_norm, predictor=False, dense=None):
        """Shapes of an architecture's parameters and of its heads', by name; `dense`: the stage that
        a dense head reads, from 1."""
        found = {}
        for c in self.convs(arch):
            found[f"{c.name}.weight"] = (c.cout, c.cin, c.kernel, c.kernel)
            found[f"{c.norm}.weight"] = found[f"{c.norm}.bias"] = (c.cout,)
        widths = Arch.parse(arch).widths
        found |= mlp_shapes("head", EXPANSION * widths[-1], hidden, dim, head_norm)
        if dense:
            found |= mlp_shapes("dense", EXPANSION * widths[dense - 1], hidden, dim, False)
        if predictor:
            found |= mlp_shapes("predictor", dim, hidden, dim, head_norm)
        return found


def mlp_shapes(name, inputs, hidden, dim, norm):
    """Shapes of a head's parameters: linear (batch norm) ReLU linear, biases where there is no norm."""
    first, second = f"{name}.0", f"{name}.3" if norm else f"{name}.2"
    found = {}
    for layer, out, inputs in [(first, hidden, inputs), (second, dim, hidden)]:
        found[f"{layer}.weight"] = (out, inputs)
        if not norm:
            found[f"{layer}.bias"] = (out,)
    if norm:
        found[f"{name}.1.weight"] = found[f"{name}.1.bias"] = (hidden,)
    return found


SPACES = {
    "data": Space(224, 7, 2, True),
    "cifar": Space(32, 3, 1, False),
    "tiny": Space(32, 3, 2, False),
}


def largest(params):
    """The architecture that uses all of the parameters."""
    depths = [0, 0, 0, 0]
    for match in (re.match(r"layer(\d)\.(\d+)\.", name) for name in params):
        if match:
            stage, block = int(match[1]) - 1, int(match[2])
            depths[stage] = max(depths[stage], block + 1)
    widths = [len(params[f"layer{s}.0.conv1.weight"]) for s in range(1, 5)]
    text = lambda numbers: ".".join(map(str, numbers))
    return f"s{len(params['conv1.weight'])}-w{text(widths)}-d{text(depths)}"


def initial(shapes, device="cpu"):
    """Parameters by He's initialisation, channels last; γ of a block's last batch norm is 0."""

    def one(name, shape):
        if len(shape) == 1:
            return torch.full(shape, float(name.endswith("weight") and ".bn3." not in name))
        fan = shape[1] if len(shape) == 2 else math.prod(shape) // shape[1]
        w = torch.randn(shape) * (2 / fan) ** 0.5
        return w.to(memory_format=torch.channels_last) if w.dim() == 4 else w

    return {name: one(name, s).to(device).requires_grad_() for name, s in shapes.items()}


def batch_norm(x, mean, var, gamma, beta, group):
    """With the statistics of groups of `group` consecutive images; 0: of the whole batch, which are
    written to `mean` and `var` if given; None: with `mean` and `var`."""
    norm = lambda part: F.batch_norm(
        part, mean, var, gamma, beta, training=group is not None, momentum=1.0, eps=1e-5
    )
    if not group or group >= len(x):
        return norm(x)
    return torch.cat([norm(part) for part in x.split(group)])


def conv_bn(x, layer, group):
    weight, gamma, beta, mean, var, cout, stride = layer
    if weight.shape[:2] != (cout, x.shape[1]):
        weight = weight[:cout, : x.shape[1]]
    if len(gamma) != cout:
        gamma, beta = gamma[:cout], beta[:cout]
    y = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    return batch_norm(y, mean, var, gamma, beta, group)


def stem(x, layers, group, maxpool):
    x = F.relu_(conv_bn(x, layers[0], group))
    return F.max_pool2d(x, 3, 2, 1) if maxpool else x


def block(x, layers, group):
    y = F.relu_(conv_bn(x, layers[0], group))
    y = F.relu_(conv_bn(y, layers[1], group))
    y = conv_bn(y, layers[2], group)
    if len(layers) == 4:
        x = conv_bn(x, layers[3], group)
    return F.relu_(y.add_(x))


class Net:
    """Runs subnets, with batch statistics of groups of `group` images (see `batch_norm`). `last_norm`:
    whether a head with a batch norm has another one after its last layer, which no parameter shows.
    `level`: what is read beside embeddings, `c4` or `c5`. `compiled` makes faster functions of stem
    and block."""

    def __init__(self, space, group=0, compiled=None, last_norm=True, level="c5"):
        self.space, self.group, self.plans = space, group, {}
        self.last_norm, self.level = last_norm, level
        self.stem, self.block = (compiled(f) if compiled else f for f in (stem, block))

    def plan(self, arch):
        """Names of the parameters, output channels and stride of the stem and of each block."""
        if arch not in self.plans:
            parts = {}
            for c in self.space.convs(arch):
                part = ".".join(c.name.split(".")[:2])
                of_norm = ("weight", "bias", "running_mean", "running_var")
                names = (f"{c.name}.weight", *(f"{c.norm}.{n}" for n in of_norm))
                parts.setdefault(part, []).append((names, c.cout, c.stride))
            self.plans[arch] = list(parts.values())
        return self.plans[arch]

    def features(self, params, arch, x):
        """C2 to C5 of images [N, 3, R, R]. In training there are no running statistics among the
        parameters."""
        first, *blocks = [
            [(*map(params.get, names), cout, stride) for names, cout, stride in part]
            for part in self.plan(arch)
        ]
        x = self.stem(x, first, self.group, self.space.maxpool)
        blocks, found = iter(blocks), []
        for depth in Arch.parse(arch).depths:
            for layers in itertools.islice(blocks, depth):
                x = self.block(x, layers, self.group)
            found.append(x)
        return found

    def head(self, params, name, h):
        """What a head makes of rows [N, C], not normalised."""
        weight = params[f"{name}.0.weight"]
        weight = weight if weight.shape[1] == h.shape[1] else weight[:, : h.shape[1]]
        if f"{name}.3.weight" not in params:
            h = F.relu_(F.linear(h, weight, params[f"{name}.0.bias"]))
            return F.linear(h, params[f"{name}.2.weight"], params[f"{name}.2.bias"])
        stats = lambda norm: (params.get(f"{norm}.running_{what}") for what in ("mean", "var"))
        affine = params[f"{name}.1.weight"], params[f"{name}.1.bias"]
        h = F.relu_(batch_norm(F.linear(h, weight), *stats(f"{name}.1"), *affine, self.group))
        z = F.linear(h, params[f"{name}.3.weight"])
        return batch_norm(z, *stats(f"{name}.4"), None, None, self.group) if self.last_norm else z

    def project(self, params, h):
        """Embeddings [N, D] of unit length, in f32 or wider, of pooled features [N, C]."""
        return normalise(self.head(params, "head", h))

    def outputs(self, params, arch, x):
        """By name, of images [N, 3, R, R]: embeddings z [N, D]; with a predictor, predictions p
        [N, D]; with a dense head, its outputs [N, P, D], not normalised, and the map [N, P, C] that
        they are of."""
        maps = dict(zip(LEVELS, self.features(params, arch, x)))
        z = self.head(params, "head", maps["c5"].mean((2, 3)))
        found = {"z": normalise(z)}
        if "predictor.0.weight" in params:
            found["p"] = normalise(self.head(params, "predictor", z))
        if "dense.0.weight" in params:
            grid = maps[self.level].flatten(2).transpose(1, 2)
            dense = self.head(params, "dense", grid.flatten(0, 1))
            found |= {"map": grid, "dense": dense.unflatten(0, grid.shape[:2])}
        return found


def normalise(z):
    """Rows of unit length, in f32 or wider."""
    return F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=-1)


def calibrated(space, params, arch, batches):
    """The parameters, and the statistics of the batch norms of `arch`: the averages over batches of
    images, weighted by images."""
    net, last, average = Net(space), {}, {}
    for c in space.convs(arch):
        for name in ("running_mean", "running_var"):
            last[f"{c.norm}.{name}"] = torch.zeros_like(params[f"{c.norm}.bias"][: c.cout])
    for x in batches:
        net.features(params | last, arch, x)
        for name, value in last.items():
            average[name] = average.get(name, 0) + value * len(x) / sum(map(len, batches))
    return params | average
