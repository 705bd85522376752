"""Every convolution shape of a preset's nets in three passes, by PyTorch (cuDNN, oneDNN).

    python benches/peers/conv.py --preset data --batch 8 [--device cuda --precision bf16]

Shapes are those of MAX and MIN, and of ResNet-50 for preset `data`, each once, with how often
each net has it. channels_last; calls rotate through buffers larger than the cache.
"""

import math

import torch

import timing
from net import R50, Preset


def nets(preset):
    """MAX, MIN and, where it is inside the space, ResNet-50, by name."""
    found = {"max": preset.max, "min": preset.min}
    return found | ({"r50": R50} if preset.space.resolution == 224 else {})


def shapes(preset, batch):
    """(N, H, W, CIN, COUT, K, STRIDE) to how often each net has it."""
    found = {}
    for net, arch in nets(preset).items():
        for c in preset.space.convs(arch):
            shape = (batch, c.size, c.size, c.cin, c.cout, c.kernel, c.stride)
            counts = found.setdefault(shape, {})
            counts[net] = counts.get(net, 0) + 1
    return found


def output(shape):
    """(N, H, W, C) of what comes out."""
    n, h, w, _, cout, _, s = shape
    return n, -(-h // s), -(-w // s), cout


def tensors(shape, device, dtype):
    """Input and weight."""
    n, h, w, cin, cout, k, _ = shape
    make = lambda *size: torch.randn(size, device=device).to(dtype, memory_format=torch.channels_last)
    return make(n, cin, h, w), make(cout, cin, k, k)


def buffers(shape, device, dtype):
    """Sets of (input, weight, gradient of the output), as many as calls should rotate through."""
    n, h, w, cin, cout, k, s = shape
    elems = n * cin * h * w + math.prod(output(shape)) + cout * cin * k * k
    size = elems * torch.empty(0, dtype=dtype).element_size()
    sets = []
    for _ in range(timing.copies(device, size)):
        x, weight = tensors(shape, device, dtype)
        gy = torch.randn_like(torch.conv2d(x, weight, stride=s, padding=k // 2))
        sets.append((x, weight, gy))
    return sets


@torch.no_grad()
def measure(shape, device, dtype, budget_s):
    k, s = shape[5:]
    geometry = (None, [s, s], [k // 2] * 2, [1, 1], False, [0, 0], 1)
    sets = buffers(shape, device, dtype)

    def backward(x, weight, gy, mask):
        return torch.ops.aten.convolution_backward(gy, x, weight, *geometry, mask)

    passes = {
        "fprop": lambda x, w, gy: torch.ops.aten.convolution(x, w, *geometry),
        "dgrad": lambda x, w, gy: backward(x, w, gy, [True, False, False]),
        "wgrad": lambda x, w, gy: backward(x, w, gy, [False, True, False]),
    }
    if shape[3] == 3:
        del passes["dgrad"]  # nobody needs the gradient of the images
    return {
        name: timing.times([lambda b=b, f=f: f(*b) for b in sets], device, budget_s)
        for name, f in passes.items()
    }


def main():
    p = timing.flags(__doc__, "preset", "bin", "batch")
    p.add_argument("--seconds", type=float, default=0.3, help="for each shape and pass")
    a = p.parse_args()
    timing.prepare(a)
    preset = Preset(a.preset, a.bin)
    found = shapes(preset, a.batch or preset.train["batch"])
    rows = []
    for shape, counts in found.items():
        passes = measure(shape, a.device, timing.dtype_of(a.precision), a.seconds)
        rows.append({"shape": shape, "count": counts, "passes": passes})
    timing.finish(a, {"preset": a.preset, "rows": rows})


if __name__ == "__main__":
    main()
