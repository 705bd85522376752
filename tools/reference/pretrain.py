"""Algorithm 1 of the paper over a self-supervised method: one teacher pass a view for several
students."""

import contextlib
import itertools

import torch

from .lars import Lars
from .net import largest


def autocast(device, precision):
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def of_images(outputs, images):
    """The part of targets or outputs that is of some images."""
    return [{name: t[images] for name, t in of_view.items()} for of_view in outputs]


class Pretrain:
    """A supernet, its teacher and its optimizer.

    `params` are trained; `teacher` is by default a copy of those that it has too, all but the
    predictor. `students` gives architectures parameters of their own in place of slices. The batch
    is worked off in `accum` parts, each with its own batch statistics. With `decay_exempt`, batch
    norms and biases have no weight decay. `trust`: LARS's constant, or 0 for SGD."""

    def __init__(
        self, net, method, params, *, ema, lr, momentum, weight_decay, decay_exempt=False, trust=0,
        teacher=None, teacher_arch=None, students=None, accum=1, precision="fp32",
    ):
        self.net, self.method, self.params, self.students = net, method, params, students or {}
        shared = {n: w for n, w in params.items() if not n.startswith("predictor.")}
        self.teacher = teacher or {name: w.detach().clone() for name, w in shared.items()}
        self.shared = [params[name] for name in self.teacher]
        self.teacher_arch = teacher_arch or largest(params)
        self.ema, self.accum, self.precision = ema, accum, precision
        self.device = next(iter(params.values())).device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=precision == "fp16")
        owned = {id(w): w for p in [params, *self.students.values()] for w in p.values()}.values()
        is_exempt = lambda w: decay_exempt and w.dim() == 1
        groups = [{"params": [w for w in owned if not is_exempt(w)]}]
        if decay_exempt:
            exempt = {"params": [w for w in owned if is_exempt(w)], "weight_decay": 0.0}
            groups.append(exempt | ({"trust": 0} if trust else {}))
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        self.optimizer = (
            Lars(groups, **settings, trust=trust) if trust
            else torch.optim.SGD(groups, **settings, fused=True)
        )  # fmt: skip

    @torch.no_grad()
    def move_teacher(self):
        """θt ← m·θt + (1−m)·θs."""
        torch._foreach_lerp_(list(self.teacher.values()), self.shared, 1 - self.ema)

    def parts(self, n):
        """The images of each part of a batch."""
        bounds = itertools.pairwise(i * n // self.accum for i in range(self.accum + 1))
        return [slice(a, b) for a, b in bounds]

    @torch.no_grad()
    def teacher_pass(self, x, order):
        """What the teacher makes of a view; the batch is permuted before and put back after."""
        x = x[order]
        with autocast(self.device, self.precision):
            made = [self.net.outputs(self.teacher, self.teacher_arch, x[p]) for p in self.parts(len(x))]
        found = {}
        for name in made[0]:
            permuted = torch.cat([part[name] for part in made])
            found[name] = torch.empty_like(permuted)
            found[name][order] = permuted
        return found

    def student_pass(self, arch, turn, views, targets):
        """A student's outputs for the views of a pass, by view, and its loss. Each part of the batch
        is held against its part of the targets."""
        params, n = self.students.get(arch, self.params), len(views[0])
        losses, found = [], []
        with autocast(self.device, self.precision):
            for part in self.parts(n):
                seen = self.method.passes[turn]
                out = [self.net.outputs(params, arch, views[v][part]) for v in seen]
                share = len(out[0]["z"]) / n
                losses.append(share * self.method.loss(turn, out, of_images(targets, part)))
                found.append(out)
        whole = [
            {name: torch.cat([part[v][name] for part in found]) for name in found[0][v]}
            for v in range(len(found[0]))
        ]
        return whole, sum(losses)

    def update(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def order(self, x):
        return torch.randperm(len(x), device=self.device)

    def targets(self, views):
        """The moving average, then what students are compared with."""
        self.move_teacher()
        seen = [self.teacher_pass(views[v], self.order(views[v])) for v in self.method.teacher_views]
        with torch.no_grad():
            return self.method.prepare(seen)

    def iteration(self, archs, views, mark):
        """`mark(part)` is called at the end of each part of the iteration."""
        targets = self.targets(views)
        mark("teacher")
        for k, arch in enumerate(archs):
            for turn in range(len(self.method.passes)):
                _, loss = self.student_pass(arch, turn, views, targets)
                self.scaler.scale(loss).backward()
            mark(f"student.{k}")
        self.update()
        self.method.finish_step(targets)
        mark("optimizer")
