"""LARS as BYOL's code has it: SGD with momentum whose step for a weight has a length in proportion to
the weight's. Batch norms and biases take SGD's steps, without weight decay."""

import torch


class Lars(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum, weight_decay, trust):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                g = w.grad + group["weight_decay"] * w
                if group["trust"]:
                    length, of_step = w.norm(), g.norm()
                    usable = (length > 0) & (of_step > 0)
                    ratio = group["trust"] * length / of_step
                    g = g * torch.where(usable, ratio, torch.ones_like(ratio))
                state = self.state[w]
                before = state.get("momentum_buffer")
                v = g if before is None else group["momentum"] * before + g
                state["momentum_buffer"] = v
                w -= group["lr"] * v
