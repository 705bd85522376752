"""The reference (tools/reference), set up for a preset as `engine` itself prints it. The scripts
beside this file import what they time from here."""

import json
import pathlib
import subprocess
import sys
import types

import torch
import torch.nn.functional as F

from places import BIN, ROOT

sys.path.insert(0, str(ROOT / "tools"))

from reference import relation  # noqa: E402, F401
from reference import methods  # noqa: E402
from reference.moco import info_nce  # noqa: E402, F401
from reference.net import LEVELS, R50, SPACES, Net, calibrated, initial  # noqa: E402, F401
from reference.pretrain import Pretrain, autocast  # noqa: E402, F401


class Preset:
    """A search space and a method's settings."""

    def __init__(self, name, bin=BIN, method="moco"):
        ask = lambda *args: json.loads(
            subprocess.run(
                [str(pathlib.Path(bin) / "engine"), *args, "--json"],
                check=True, stdout=subprocess.PIPE, text=True,
            ).stdout
        )
        shown = ask("space", "show", name)
        config = ask("config", "show", "--preset", name, "--method", method)["config"]
        self.space, self.max, self.min = SPACES[name], shown["max"], shown["min"]
        self.method, self.train, self.dense = method, config["train"], config["densecl"]
        # The constants that every method has, by the same names.
        self.own = config["moco" if method == "densecl" else method]

    def params(self, arch, device):
        """New parameters of an architecture and its heads."""
        heads = {
            "byol": {"head_norm": True, "predictor": True},
            "densecl": {"dense": int(self.dense["level"][1]) - 1},
        }.get(self.method, {})
        sizes = {key: self.own[key] for key in ("hidden", "dim", "head_norm") if key in self.own}
        return initial(self.space.shapes(arch, **sizes | heads), device)

    def net(self, group, compiled=None):
        level = self.dense["level"] if self.method == "densecl" else "c5"
        return Net(self.space, group, compiled, last_norm=self.method != "byol", level=level)

    def pretrain(self, net, params, queue, device, **options):
        """The method over these parameters with the preset's settings; `queue`: rows of random
        directions, where it has queues."""
        settings = {
            name: self.train[name] for name in ("lr", "momentum", "weight_decay", "decay_exempt")
        }
        if self.train["optimizer"] == "lars":
            settings["trust"] = self.train["trust"]
        rows = lambda: F.normalize(torch.randn(queue, self.own["dim"], device=device))
        queues = {name: rows() for name in ("queue", "queue_dense")} if queue else {}
        constants = self.own | {"dense_weight": self.dense["weight"]}
        method = methods.make(self.method, constants, queues)
        return Pretrain(net, method, params, ema=self.own["ema"], **settings, **options)


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
