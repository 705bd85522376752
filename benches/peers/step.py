"""The training iteration in PyTorch: the other side of `bench step`.

    python benches/peers/step.py --preset tiny --batch 128 --archs ID,ID,ID
    python benches/peers/step.py --preset data --device cuda --precision bf16 --compile regional \
        --iterations 20

The work is Algorithm 1's: moving average of the teacher, one teacher pass of the maximum net
without gradient (its batch permuted), the students one after the other (forward, backward), SGD
with momentum and weight decay, push of the queue. channels_last, cudnn.benchmark, fused SGD;
inputs lie on the device. `--schedule literal` repeats moving average, teacher pass and push for
every student, as the code that the paper's authors released does.

A supernet's slice is a view of the weight. With --independent every student is a net of its own,
which spares PyTorch the slicing (and is not the same training): the fair peer of one net alone.
`--compile regional` compiles stem and blocks, each at every shape it meets; warm-up takes the
compilation. Whole nets are not compiled: training draws from 85,293.
--bn-group takes batch statistics over groups of pictures as engine does; 0 takes the whole
batch, which is less work for PyTorch.
"""

import statistics

import torch
import torch.nn.functional as F

import timing
from net import BIN, Moco, Net, Preset


def run(a):
    preset = Preset(a.preset, a.bin)
    archs = a.archs.split(",") if a.archs else [preset.max]
    batch, queue = a.batch or preset.train["batch"], a.queue or preset.moco["queue"]
    params = preset.params(preset.max, a.device)
    students = {x: preset.params(x, a.device) for x in archs} if a.independent else {}
    rows = F.normalize(torch.randn(queue, preset.moco["dim"], device=a.device))
    net = Net(preset, a.bn_group, a.compile == "regional")
    moco = Moco(net, params, rows, a.device, a.precision, students, a.teacher)
    size = (batch, 3, preset.resolution, preset.resolution)
    like = torch.channels_last
    views = [torch.randn(size, device=a.device).to(memory_format=like) for _ in range(2)]
    iteration = moco.literal_iteration if a.schedule == "literal" else moco.iteration
    for _ in range(a.warmup):
        iteration(archs, *views, lambda part: None)
    clock = timing.Clock(a.device)
    clock.mark("start")
    for _ in range(a.iterations):
        iteration(archs, *views, clock.mark)
    return archs, batch, queue, clock.laps()


def summary(archs, laps, iterations):
    """Medians over the iterations of the whole and of its parts, in milliseconds."""
    found = timing.rounds(laps, iterations)
    median = lambda name: statistics.median(parts[name] for parts in found)
    totals = [parts["total"] for parts in found]
    return {
        "iteration_ms": median("total"),
        "iteration_ms_min": min(totals),
        "iteration_ms_max": max(totals),
        "parts": {
            "teacher": median("teacher"),
            "student": [median(f"student.{k}") for k in range(len(archs))],
            "optimizer": median("optimizer"),
        },
    }


def main():
    p = timing.flags(__doc__)
    p.add_argument("--preset", default="tiny")
    p.add_argument("--bin", default=BIN, help="folder of the program `engine`")
    p.add_argument("--batch", type=int, help="default: the preset's")
    p.add_argument("--queue", type=int, help="default: the preset's")
    p.add_argument("--archs", help="comma-separated IDs, the students (default: the maximum)")
    p.add_argument("--teacher", metavar="ID", help="another net than the maximum")
    p.add_argument("--compile", choices=["none", "regional"], default="none")
    p.add_argument("--schedule", choices=["one-teacher", "literal"], default="one-teacher")
    p.add_argument("--bn-group", type=int, default=0)
    p.add_argument("--independent", action="store_true")
    p.add_argument("--iterations", type=int, help="default: 20 on a GPU, 10 on the CPU")
    p.add_argument("--warmup", type=int, default=3)
    a = p.parse_args()
    a.iterations = a.iterations or (20 if a.device == "cuda" else 10)
    timing.prepare(a)
    archs, batch, queue, laps = run(a)
    result = summary(archs, laps, a.iterations)
    result["images_per_s"] = batch / result["iteration_ms"] * 1e3
    result["peak_bytes"] = timing.peak_bytes(a.device)
    choices = {k: getattr(a, k) for k in ("preset", "compile", "schedule", "bn_group", "independent")}
    timing.finish(a, result | choices | {"batch": batch, "queue": queue, "archs": archs})


if __name__ == "__main__":
    main()
