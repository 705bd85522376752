"""The elastic ResNet and MoCo's iteration in PyTorch, as the scripts beside this file share them.

Parameters are a dict of tensors under torchvision's names. A subnet uses the first channels and
the first blocks of it: slices are views, and where nothing is sliced nothing is called.
"""

import contextlib
import itertools
import json
import pathlib
import re
import subprocess
import types
from typing import NamedTuple

import torch
import torch.nn.functional as F

EXPANSION = 4
R50 = "s64-w64.128.256.512-d3.4.6.3"
ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "target" / "release"


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
    """A convolution with the batch norm behind it; `size` is its input's height and width."""

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


class Preset:
    """A search space and its settings, as `engine` itself prints them."""

    def __init__(self, name, bin=BIN):
        ask = lambda *args: json.loads(
            subprocess.run(
                [str(pathlib.Path(bin) / "engine"), *args, "--json"],
                check=True, stdout=subprocess.PIPE, text=True,
            ).stdout
        )
        self.space = ask("space", "show", name)
        config = ask("config", "show", "--preset", name)["config"]
        self.train, self.moco = config["train"], config["moco"]
        self.resolution, self.max, self.min = (self.space[k] for k in ("resolution", "max", "min"))

    def convs(self, arch):
        """The convolutions of an architecture, in order."""
        arch, stem = Arch.parse(arch), self.space["stem"]
        size = self.resolution
        first = Conv("conv1", "bn1", 3, arch.stem, stem["kernel"], stem["stride"], size)
        yield first
        size, cin = first.out_size, arch.stem
        if stem["maxpool"]:
            size = (size - 1) // 2 + 1
        for s, (width, depth) in enumerate(zip(arch.widths, arch.depths)):
            for b in range(depth):
                name, out = f"layer{s + 1}.{b}", EXPANSION * width
                stride = self.space["stages"][s]["stride"] if b == 0 else 1
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
        return {f"c{s + 1}": (last[f"layer{s}"].cout, last[f"layer{s}"].size) for s in range(1, 5)}

    def params(self, arch, device):
        """Fresh parameters of an architecture and its head: He's initialisation, γ of a block's
        last batch norm 0."""
        made = {}
        for c in self.convs(arch):
            std = (2 / (c.cout * c.kernel**2)) ** 0.5
            weight = torch.randn(c.cout, c.cin, c.kernel, c.kernel) * std
            made[f"{c.name}.weight"] = weight.to(memory_format=torch.channels_last)
            made[f"{c.norm}.weight"] = torch.full([c.cout], 0.0 if c.name.endswith("conv3") else 1.0)
            made[f"{c.norm}.bias"] = torch.zeros(c.cout)
        channels = EXPANSION * Arch.parse(arch).widths[-1]
        hidden, dim, norm = (self.moco[key] for key in ("hidden", "dim", "head_norm"))
        second = "head.3" if norm else "head.2"
        for layer, out, inputs in [("head.0", hidden, channels), (second, dim, hidden)]:
            made[f"{layer}.weight"] = torch.randn(out, inputs) * (2 / inputs) ** 0.5
            if not norm:
                made[f"{layer}.bias"] = torch.zeros(out)
        if norm:
            made |= {"head.1.weight": torch.ones(hidden), "head.1.bias": torch.zeros(hidden)}
        return {name: w.to(device).requires_grad_() for name, w in made.items()}


def batch_norm(x, mean, var, gamma, beta, group):
    """With the statistics of groups of `group` consecutive pictures; 0: of the whole batch, which
    `mean` and `var` then become where they are given; None: with those."""
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


def sizes(x, layers, *_):
    """What decides how stem and block are compiled."""
    of_layers = tuple((weight.shape, cout, stride) for weight, *_, cout, stride in layers)
    return x.shape, x.dtype, torch.is_grad_enabled(), of_layers


def compiled_by_shape(function, shape_of):
    """`function` compiled for each `shape_of(*arguments)` by itself, under a code object of its
    own: PyTorch would otherwise try the guards of all shapes before, one by one, at every call."""
    by_shape = {}

    def call(*args):
        key = shape_of(*args)
        if key not in by_shape:
            own = types.FunctionType(function.__code__.replace(), function.__globals__)
            by_shape[key] = torch.compile(own, dynamic=False)
        return by_shape[key](*args)

    return call


class Net:
    """Runs subnets. With `compiled`, stem and block are compiled once for every shape that they
    meet (regional compilation): there are too many architectures to compile each whole."""

    def __init__(self, preset, group=0, compiled=False):
        self.preset, self.group, self.stem, self.block = preset, group, stem, block
        self.plans = {}
        if compiled:
            self.stem, self.block = (compiled_by_shape(f, sizes) for f in (stem, block))

    def plan(self, arch):
        """Names of the parameters, output channels and stride of the stem and of each block."""
        if arch not in self.plans:
            parts = {}
            for c in self.preset.convs(arch):
                part = ".".join(c.name.split(".")[:2])
                of_norm = ("weight", "bias", "running_mean", "running_var")
                names = (f"{c.name}.weight", *(f"{c.norm}.{n}" for n in of_norm))
                parts.setdefault(part, []).append((names, c.cout, c.stride))
            self.plans[arch] = list(parts.values())
        return self.plans[arch]

    def features(self, params, arch, x):
        """C2 to C5. In training there are no running statistics among the parameters."""
        first, *blocks = [
            [(*map(params.get, names), cout, stride) for names, cout, stride in part]
            for part in self.plan(arch)
        ]
        x = self.stem(x, first, self.group, self.preset.space["stem"]["maxpool"])
        blocks, found = iter(blocks), []
        for depth in Arch.parse(arch).depths:
            for layers in itertools.islice(blocks, depth):
                x = self.block(x, layers, self.group)
            found.append(x)
        return found

    def __call__(self, params, arch, x):
        """L2-normalised embeddings, f32 or wider."""
        h = self.features(params, arch, x)[-1].mean((2, 3))
        weight = params["head.0.weight"]
        weight = weight if weight.shape[1] == h.shape[1] else weight[:, : h.shape[1]]
        if "head.3.weight" in params:
            stats = lambda norm: (params.get(f"{norm}.running_{what}") for what in ("mean", "var"))
            affine = params["head.1.weight"], params["head.1.bias"]
            h = F.relu_(batch_norm(F.linear(h, weight), *stats("head.1"), *affine, self.group))
            z = F.linear(h, params["head.3.weight"])
            z = batch_norm(z, *stats("head.4"), None, None, self.group)
        else:
            h = F.relu_(F.linear(h, weight, params["head.0.bias"]))
            z = F.linear(h, params["head.2.weight"], params["head.2.bias"])
        return F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)))


def info_nce(q, k, queue, tau):
    """MoCo's loss: the positive is the teacher's embedding, the negatives are the queue."""
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / tau
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


def autocast(device, precision):
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


class Moco:
    """Algorithm 1 with MoCo v2. `students` gives every architecture's parameters, by default
    the supernet's own."""

    def __init__(self, net, params, queue, device, precision="fp32", students=None, teacher_arch=None):
        self.net, self.params, self.queue, self.pointer = net, params, queue, 0
        self.device, self.precision = device, precision
        self.students = students or {}
        self.teacher_arch = teacher_arch or net.preset.max
        self.teacher = {name: w.detach().clone() for name, w in params.items()}
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
        owned = {id(w): w for p in [params, *self.students.values()] for w in p.values()}
        train = net.preset.train
        self.optimizer = torch.optim.SGD(
            owned.values(), lr=train["lr"], momentum=train["momentum"],
            weight_decay=train["weight_decay"], fused=True,
        )

    @torch.no_grad()
    def move_teacher(self):
        weight = 1 - self.net.preset.moco["ema"]
        torch._foreach_lerp_(list(self.teacher.values()), list(self.params.values()), weight)

    @torch.no_grad()
    def teacher_pass(self, x, order):
        """Moving average, then the embeddings; the batch is permuted before and put back after."""
        self.move_teacher()
        with autocast(self.device, self.precision):
            permuted = self.net(self.teacher, self.teacher_arch, x[order])
        z = torch.empty_like(permuted)
        z[order] = permuted
        return z

    def student_loss(self, arch, x, z_teacher, queue):
        with autocast(self.device, self.precision):
            q = self.net(self.students.get(arch, self.params), arch, x)
            return info_nce(q, z_teacher, queue, self.net.preset.moco["tau"])

    def update(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def push(self, z):
        where = (torch.arange(len(z), device=self.device) + self.pointer) % len(self.queue)
        self.queue[where] = z
        self.pointer = (self.pointer + len(z)) % len(self.queue)

    def order(self, x):
        return torch.randperm(len(x), device=self.device)

    def iteration(self, archs, x_student, x_teacher, mark):
        """`mark(part)` is called where a part of the iteration ends."""
        z = self.teacher_pass(x_teacher, self.order(x_teacher))
        mark("teacher")
        for k, arch in enumerate(archs):
            self.scaler.scale(self.student_loss(arch, x_student, z, self.queue)).backward()
            mark(f"student.{k}")
        self.update()
        self.push(z)
        mark("optimizer")

    def literal_iteration(self, archs, x_student, x_teacher, mark):
        """The schedule of the code that the paper's authors released: moving average, teacher
        pass and push of the queue again for every student (so it must be cloned)."""
        for k, arch in enumerate(archs):
            z = self.teacher_pass(x_teacher, self.order(x_teacher))
            mark("teacher")
            loss = self.student_loss(arch, x_student, z, self.queue.clone())
            self.push(z)
            self.scaler.scale(loss).backward()
            mark(f"student.{k}")
        self.update()
        mark("optimizer")
