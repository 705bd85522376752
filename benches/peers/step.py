"""The training iteration in PyTorch: the other side of `bench step`.

    python benches/peers/step.py --preset tiny --method byol --batch 128 --archs ID,ID,ID
    python benches/peers/step.py --preset data --device cuda --precision bf16 --compile regional \
        --iterations 20

The work is Algorithm 1's: moving average of the teacher, teacher passes of the maximum net without
gradient (the batch permuted), the students one after the other (forward, backward), the optimizer,
push of the queue. channels_last, cudnn.benchmark, fused SGD; inputs lie on the device. `--schedule literal` repeats moving average, teacher pass and push for
every student, as the code that the paper's authors released does.

A supernet's slice is a view of the weight. With --independent every student is a net of its own,
which spares PyTorch the slicing (and is not the same training): the fair peer of one net alone.
`--compile regional` compiles stem and blocks, each at every shape it meets; warm-up takes the
compilation. Whole nets are not compiled: training draws from 85,293.
--bn-group takes batch statistics over groups of images as engine does; 0 takes the whole
batch, which is less work for PyTorch.
"""

import statistics

import torch

import timing
from net import Preset, Pretrain, regional


def literal(pretrain, archs, views, mark):
    """An iteration in the schedule of the released code."""
    for k, arch in enumerate(archs):
        targets = pretrain.targets(views)
        mark("teacher")
        for turn in range(len(pretrain.method.passes)):
            _, loss = pretrain.student_pass(arch, turn, views, targets)
            pretrain.scaler.scale(loss).backward()
        pretrain.method.finish_step(targets)
        mark(f"student.{k}")
    pretrain.update()
    mark("optimizer")


def run(a):
    preset = Preset(a.preset, a.bin, a.method)
    archs = a.archs.split(",") if a.archs else [preset.max]
    batch, queue = a.batch or preset.train["batch"], a.queue or preset.own.get("queue", 0)
    params = preset.params(preset.max, a.device)
    students = {x: preset.params(x, a.device) for x in archs} if a.independent else {}
    net = preset.net(a.bn_group, regional if a.compile == "regional" else None)
    options = {"students": students, "teacher_arch": a.teacher, "precision": a.precision}
    pretrain = preset.pretrain(net, params, queue, a.device, **options)
    size = (batch, 3, preset.space.resolution, preset.space.resolution)
    like = torch.channels_last
    views = [torch.randn(size, device=a.device).to(memory_format=like) for _ in range(2)]
    iteration = literal if a.schedule == "literal" else Pretrain.iteration
    for _ in range(a.warmup):
        iteration(pretrain, archs, views, lambda part: None)
    clock = timing.Clock(a.device)
    clock.mark("start")
    for _ in range(a.iterations):
        iteration(pretrain, archs, views, clock.mark)
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
    p = timing.flags(__doc__, "preset", "bin", "batch", "queue", "compile")
    p.add_argument("--method", choices=["moco", "byol", "ressl", "densecl"], default="moco")
    p.add_argument("--archs", help="comma-separated IDs, the students (default: the maximum)")
    p.add_argument("--teacher", metavar="ID", help="another net than the maximum")
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
    choices = {k: getattr(a, k) for k in ("preset", "method", "compile", "schedule", "bn_group", "independent")}
    timing.finish(a, result | choices | {"batch": batch, "queue": queue, "archs": archs})


if __name__ == "__main__":
    main()
