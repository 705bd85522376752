"""Algorithm 1 of the paper over a self-supervised method: one teacher pass for several students."""

import contextlib
import itertools

import torch

from .net import largest


def autocast(device, precision):
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


class Pretrain:
    """A supernet, its teacher and its optimizer.

    `params` are trained; `teacher` is by default a copy of them. `students` gives architectures
    parameters of their own in place of slices. The batch is worked off in `accum` parts, each with
    its own batch statistics. With `decay_exempt`, batch norms and biases have no weight decay."""

    def __init__(
        self, net, method, params, *, ema, lr, momentum, weight_decay, decay_exempt=False,
        teacher=None, teacher_arch=None, students=None, accum=1, precision="fp32",
    ):
        self.net, self.method, self.params, self.students = net, method, params, students or {}
        self.teacher = teacher or {name: w.detach().clone() for name, w in params.items()}
        self.teacher_arch = teacher_arch or largest(params)
        self.ema, self.accum, self.precision = ema, accum, precision
        self.device = next(iter(params.values())).device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=precision == "fp16")
        owned = {id(w): w for p in [params, *self.students.values()] for w in p.values()}.values()
        is_exempt = lambda w: decay_exempt and w.dim() == 1
        groups = [{"params": [w for w in owned if not is_exempt(w)]}]
        if decay_exempt:
            groups.append({"params": [w for w in owned if is_exempt(w)], "weight_decay": 0.0})
        self.optimizer = torch.optim.SGD(
            groups, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
        )

    @torch.no_grad()
    def move_teacher(self):
        """θt ← m·θt + (1−m)·θs."""
        teacher, student = list(self.teacher.values()), list(self.params.values())
        torch._foreach_lerp_(teacher, student, 1 - self.ema)

    def embed(self, params, arch, x):
        """Embeddings [N, D] of images [N, 3, R, R]."""
        if self.accum == 1:
            return self.net(params, arch, x)
        bounds = itertools.pairwise(i * len(x) // self.accum for i in range(self.accum + 1))
        return torch.cat([self.net(params, arch, x[a:b]) for a, b in bounds])

    @torch.no_grad()
    def teacher_pass(self, x, order):
        """Moving average, then the embeddings; the batch is permuted before and put back after."""
        self.move_teacher()
        with autocast(self.device, self.precision):
            permuted = self.embed(self.teacher, self.teacher_arch, x[order])
        z = torch.empty_like(permuted)
        z[order] = permuted
        return z

    def student_pass(self, arch, x, keys):
        """A student's embeddings and its loss."""
        with autocast(self.device, self.precision):
            z = self.embed(self.students.get(arch, self.params), arch, x)
            return z, self.method.loss(z, keys)

    def update(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def order(self, x):
        return torch.randperm(len(x), device=self.device)

    def iteration(self, archs, x_student, x_teacher, mark):
        """`mark(part)` is called at the end of each part of the iteration."""
        keys = self.teacher_pass(x_teacher, self.order(x_teacher))
        mark("teacher")
        for k, arch in enumerate(archs):
            self.scaler.scale(self.student_pass(arch, x_student, keys)[1]).backward()
            mark(f"student.{k}")
        self.update()
        self.method.finish_step(keys)
        mark("optimizer")
