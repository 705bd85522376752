"""What the device does at best in PyTorch: a large product of matrices (cuBLAS, oneDNN) and copies.

    python benches/peers/limits.py [--size 8192] [--mib 1024] [--device cuda --precision bf16]
"""

import torch

import timing


def main():
    p = timing.flags(__doc__)
    p.add_argument("--size", type=int, help="default: 8192 on a GPU, 2048 on the CPU")
    p.add_argument("--mib", type=int, help="that are copied; default: 1024 on a GPU, else 256")
    p.add_argument("--seconds", type=float, default=1.0)
    a = p.parse_args()
    timing.prepare(a)
    on_cuda = a.device == "cuda"
    size, mib = a.size or (8192 if on_cuda else 2048), a.mib or (1024 if on_cuda else 256)
    make = lambda: torch.randn(size, size, device=a.device).to(timing.dtype_of(a.precision))
    x, y = make(), make()
    gemm = timing.times([lambda: x @ y], a.device, a.seconds)
    source = torch.ones(mib << 18, device=a.device)
    target = torch.empty_like(source)
    copy = timing.times([lambda: target.copy_(source)], a.device, a.seconds)
    timing.finish(a, {
        "size": size,
        "gemm": gemm | {"tflops": 2 * size**3 / gemm["median_ms"] / 1e9},
        "copy": copy | {"gb_per_s": 2 * source.nbytes / copy["median_ms"] / 1e6},
    })


if __name__ == "__main__":
    main()
