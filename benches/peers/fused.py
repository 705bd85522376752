"""Convolution, batch norm in training mode and ReLU, forward, by PyTorch, shape by shape.

    python benches/peers/fused.py --preset data --batch 8 [--device cuda --precision bf16]

Shapes are those of conv.py with a ReLU behind them in some net. `--compile regional` compiles the
three together.
"""

import torch
import torch.nn.functional as F

import timing
from conv import buffers, nets
from net import Preset


def shapes(preset, batch):
    """Those of the stem and of the first two convolutions of blocks, each once."""
    return list(dict.fromkeys(
        (batch, c.size, c.size, c.cin, c.cout, c.kernel, c.stride)
        for arch in nets(preset).values()
        for c in preset.space.convs(arch)
        if c.name.endswith(("conv1", "conv2"))
    ))


def trio(x, weight, gamma, beta, stride):
    y = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    return F.relu_(F.batch_norm(y, None, None, gamma, beta, training=True, eps=1e-5))


def main():
    p = timing.flags(__doc__, "preset", "bin", "batch", "compile")
    p.add_argument("--seconds", type=float, default=0.3, help="for each shape")
    a = p.parse_args()
    timing.prepare(a)
    preset, rows, f = Preset(a.preset, a.bin), [], trio
    for shape in shapes(preset, a.batch or preset.train["batch"]):
        sets = buffers(shape, a.device, timing.dtype_of(a.precision))
        gamma, beta = torch.ones(shape[4], device=a.device), torch.zeros(shape[4], device=a.device)
        if a.compile == "regional":
            torch._dynamo.reset()
            f = torch.compile(trio, dynamic=False)
        with torch.no_grad():
            calls = [lambda x=x, w=w: f(x, w, gamma, beta, shape[6]) for x, w, _ in sets]
            rows.append({"shape": shape} | timing.times(calls, a.device, a.seconds))
    timing.finish(a, {"preset": a.preset, "compile": a.compile, "rows": rows})


if __name__ == "__main__":
    main()
