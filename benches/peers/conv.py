"""Times convolution in PyTorch (fp32, channels_last) and in the program, shape by shape in turn.

    conv.py BENCH [--threads N] [--only resnet50|small] [--batch N]

BENCH is the benchmark's binary (`cargo bench --bench conv --no-run` prints its path). For every
shape and pass: least times in ms, GMAC/s of the program, and how many times faster it is.
"""

import argparse
import subprocess
import time

import torch

BUDGET_S = 0.3


def resnet50(batch):
    """Distinct convolutions of ResNet-50 at 224, as (h, cin, cout, k, stride, how many)."""
    rows = [(224, 3, 64, 7, 2, 1)]
    cin, h = 64, 56
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        out, s = 4 * width, 1 if stage == 0 else 2
        rows += [(h, cin, width, 1, 1, 1), (h, width, width, 3, s, 1), (h, cin, out, 1, s, 1)]
        h //= s
        rows += [(h, width, out, 1, 1, blocks), (h, out, width, 1, 1, blocks - 1)]
        rows += [(h, width, width, 3, 1, blocks - 1)]
        cin = out
    return [((batch, h, h, i, o, k, s), n) for h, i, o, k, s, n in rows]


def small(batch):
    """Layers of narrow nets on pictures of 32 x 32."""
    rows = [(32, 3, 16, 3, 1), (16, 8, 8, 3, 1), (16, 16, 16, 3, 1), (16, 16, 64, 1, 1)]
    rows += [(16, 32, 32, 3, 2), (8, 32, 32, 3, 1), (8, 24, 40, 3, 1), (8, 128, 32, 1, 1)]
    rows += [(4, 64, 64, 3, 1), (4, 64, 256, 1, 1), (2, 128, 128, 3, 1), (2, 512, 128, 1, 1)]
    return [((batch, h, h, i, o, k, s), 1) for h, i, o, k, s in rows]


def least_ms(call):
    call()
    call()
    start, best = time.perf_counter(), float("inf")
    while time.perf_counter() - start < BUDGET_S:
        t = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - t)
    return best * 1e3


def torch_ms(shape):
    n, h, w, cin, cout, k, s = shape
    last = torch.channels_last
    x = torch.randn(n, cin, h, w).contiguous(memory_format=last)
    weight = torch.randn(cout, cin, k, k).contiguous(memory_format=last)
    pad = [k // 2] * 2

    def fprop():
        return torch.ops.aten.convolution(x, weight, None, [s, s], pad, [1, 1], False, [0, 0], 1)

    gy = torch.randn_like(fprop())

    def backward(mask):
        return torch.ops.aten.convolution_backward(
            gy, x, weight, None, [s, s], pad, [1, 1], False, [0, 0], 1, mask
        )

    with torch.no_grad():
        return (
            least_ms(fprop),
            least_ms(lambda: backward([True, False, False])),
            least_ms(lambda: backward([False, True, False])),
        )


def main():
    args = argparse.ArgumentParser()
    args.add_argument("bench")
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--only", choices=["resnet50", "small"])
    args.add_argument("--batch", type=int)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    columns = "  engine  PyTorch GMAC/s  ratio"
    print(" " * 29, *[f"{name:^31}" for name in ("fprop, ms", "dgrad, ms", "wgrad, ms")], sep=" | ")
    print(f"{'N,H,W,CIN,COUT,K,STRIDE':>28}   ", *[columns] * 3, sep="| ")
    sets = {"resnet50": resnet50(args.batch or 16), "small": small(args.batch or 128)}
    for name, shapes in sets.items():
        if args.only not in (None, name):
            continue
        totals = [[0.0, 0.0] for _ in range(3)]
        for shape, count in shapes:
            text = ",".join(map(str, shape))
            line = subprocess.check_output([args.bench, str(args.threads), text], text=True, stderr=subprocess.DEVNULL)
            ours = [float(ms) for ms in line.split("\t")[1:]]
            theirs = torch_ms(shape)
            n, h, w, cin, cout, k, s = shape
            macs = n * -(-h // s) * -(-w // s) * k * k * cin * cout
            cells = []
            for i, (a, b) in enumerate(zip(ours, theirs)):
                skip = i == 1 and cin == 3  # nobody needs the gradient of the pictures
                totals[i][0] += 0 if skip else a * count
                totals[i][1] += 0 if skip else b * count
                cells.append(f"{a:8.3f} {b:8.3f} {macs / a / 1e6:6.1f} {b / a:5.2f}x")
            print(f"{text:>28} x{count} | " + " | ".join(cells), flush=True)
        cells = [f"{a:8.1f} {b:8.1f}        {b / a:5.2f}x" for a, b in totals]
        total = sum(b for _, b in totals) / sum(a for a, _ in totals)
        print(f"{name:>31} | " + " | ".join(cells) + f" | all {total:.2f}x", flush=True)


if __name__ == "__main__":
    main()
