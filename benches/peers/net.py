"""The reference (tools/reference), set up for a preset as `engine` itself prints it. The scripts
beside this file import what they time from here."""

import json
import pathlib
import subprocess
import sys
import types

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "target" / "release"
sys.path.insert(0, str(ROOT / "tools"))

from reference import relation  # noqa: E402, F401
from reference.moco import Moco, info_nce  # noqa: E402, F401
from reference.net import LEVELS, R50, SPACES, Net, calibrated, initial  # noqa: E402, F401
from reference.pretrain import Pretrain, autocast  # noqa: E402, F401


class Preset:
    """A search space and its settings."""

    def __init__(self, name, bin=BIN):
        ask = lambda *args: json.loads(
            subprocess.run(
                [str(pathlib.Path(bin) / "engine"), *args, "--json"],
                check=True, stdout=subprocess.PIPE, text=True,
            ).stdout
        )
        shown = ask("space", "show", name)
        config = ask("config", "show", "--preset", name)["config"]
        self.space, self.max, self.min = SPACES[name], shown["max"], shown["min"]
        self.train, self.moco = config["train"], config["moco"]

    def params(self, arch, device):
        """New parameters of an architecture and its head."""
        head = (self.moco[key] for key in ("hidden", "dim", "head_norm"))
        return initial(self.space.shapes(arch, *head), device)

    def pretrain(self, net, params, queue, **options):
        """MoCo of these parameters with the preset's settings."""
        settings = {name: self.train[name] for name in ("lr", "momentum", "weight_decay")}
        method = Moco(queue, self.moco["tau"])
        return Pretrain(net, method, params, ema=self.moco["ema"], **settings, **options)


def sizes(x, layers, *_):
    """What decides how stem and block are compiled."""
    of_layers = tuple((weight.shape, cout, stride) for weight, *_, cout, stride in layers)
    return x.shape, x.dtype, torch.is_grad_enabled(), of_layers


def regional(function, shape_of=sizes):
    """`function` compiled for each `shape_of(*arguments)` by itself (there are too many architectures
    to compile each whole), under a code object of its own: PyTorch would otherwise try the guards of
    all shapes before, one by one, at every call."""
    by_shape = {}

    def call(*args):
        key = shape_of(*args)
        if key not in by_shape:
            own = types.FunctionType(function.__code__.replace(), function.__globals__)
            by_shape[key] = torch.compile(own, dynamic=False)
        return by_shape[key](*args)

    return call
