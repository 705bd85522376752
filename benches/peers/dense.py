"""Seconds per training step of a net for segmentation or detection: torchvision's modules (those of
tools/replay_dense.py) on the batches of engine's dumps, beside engine's own steps.

    engine finetune --task det-fpn ... --threads 2 --out RUN --dump-steps 4,9 --dump-dir DUMPS
    python benches/peers/dense.py DUMPS/step-*.safetensors --run RUN --threads 2

A step is forward, losses, backward and SGD, of detection also the choice of proposals. Anchors and
regions are those that engine sampled, so that shapes are the same; PyTorch is spared matching,
sampling and drawing the masks' targets. channels_last, cudnn.benchmark; images lie on the device.

engine's time is the median over the run's steps that were not dumped, from metrics.jsonl; the first
is left out as well. Where images have many sizes, dump some steps more.
"""

import json
import pathlib
import statistics

import torch

import timing
from net import ROOT  # noqa: F401 - makes tools/reference importable
from reference.dense_losses import detection, net_of, proposals, segmentation
from reference.replay import load


def on_device(tensors, device):
    """In the layout that PyTorch's convolutions prefer."""
    like = lambda t: torch.channels_last if t.dim() == 4 else torch.preserve_format
    return {n: t.to(device).to(memory_format=like(t)) for n, t in tensors.items()}


def step_ms(path, a):
    """Milliseconds of each step on a dump's batch."""
    dump, meta = load(path)
    net = net_of(dump, meta, torch.float32).to(a.device, memory_format=torch.channels_last)
    dump = on_device(dump, a.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    losses_of = segmentation if meta["task"] == "seg" else detection
    n, parts, dtype = len(dump["x"]), int(meta["accum"]), timing.dtype_of(a.precision)
    clock = timing.Clock(a.device)
    for i in range(a.warmup + a.iterations):
        if i == a.warmup:
            clock.mark("start")
        for part in range(parts):
            rows = part * n // parts, (part + 1) * n // parts
            with torch.autocast(a.device, dtype, enabled=dtype != torch.float32):
                losses, rpn = losses_of(net, dump, meta, *rows)
            for of_image in rpn:
                proposals(*of_image, meta)
            sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if i >= a.warmup:
            clock.mark("step")
    return [ms for _, ms in clock.laps()], meta


def engine_ms_per_image(run, dumped):
    """Of engine's steps, without the first and the dumped ones."""
    lines = map(json.loads, pathlib.Path(run, "metrics.jsonl").read_text().splitlines())
    times = {line["step"]: 1e3 / line["images_per_s"] for line in lines if "images_per_s" in line}
    found = [ms for step, ms in times.items() if step > 0 and step not in dumped]
    if not found:
        raise SystemExit(f"{run}: expected steps besides the first and the dumped ones: go on with --resume")
    return found


def main():
    p = timing.flags(__doc__)
    p.add_argument("dumps", nargs="+", metavar="DUMP.safetensors")
    p.add_argument("--run", required=True, help="folder of the run that wrote the dumps")
    p.add_argument("--iterations", type=int, default=5, help="on each dump, default %(default)s")
    p.add_argument("--warmup", type=int, default=2)
    a = p.parse_args()
    timing.prepare(a)
    found, batch, meta = [], 0, {}
    for path in a.dumps:
        laps, meta = step_ms(path, a)
        batch = len(load(path)[0]["x"])
        found += laps
    dumped = [int(pathlib.Path(path).stem.split("-")[-1]) for path in a.dumps]
    own = [ms * batch for ms in engine_ms_per_image(a.run, dumped)]
    ours, theirs = statistics.median(own), statistics.median(found)
    result = {"engine_s": ours / 1e3, "torchvision_s": theirs / 1e3, "times_as_fast": theirs / ours}
    counts = {"engine_steps": len(own), "torchvision_steps": len(found)}
    timing.finish(a, result | counts | {"task": meta["task"], "arch": meta["arch"], "batch": batch})


if __name__ == "__main__":
    main()
