"""Scoring subnets by their feature maps in PyTorch: the other side of `bench search`.

    python benches/peers/search.py --preset tiny --archs ID,ID
    python benches/peers/search.py --preset data --device cuda --precision bf16 --images 512 \
        --compile regional

A subnet is a slice of the supernet, with batch norm statistics of its own that are computed
before. Timed is what a search then does with it: the pass over all images up to C5, and the
relation scores (relation.py) of C2 to C5 with the maximum net's.

All subnets are scored on a batch of images before the next one comes. So the teacher's softmax
is computed once for all of them and kept, as long as its batch lasts: that of 5,000 images would
take 197 GB at C2 of preset `data`. As in `bench search`, its time is not the subnets'. Engine takes
one subnet after the other, each time with images and what is kept of the teacher from the host's
memory; here images lie on the device. Convolutions' weights are cast to the precision once,
where autocast would do it at every call; batch norms' numbers are f32.
"""

import statistics

import torch

import timing
from net import Net, Preset, calibrated, regional, relation


def batches(images):
    """As few as possible of nearly equal sizes: those in which engine sees images [N, 3, R, R]."""
    most = 32 if images.shape[-1] > 64 else 256
    return images.tensor_split(-(-len(images) // most))


@torch.inference_mode()
def run(a, preset, archs):
    dtype = timing.dtype_of(a.precision)
    size = (a.images, 3, preset.space.resolution, preset.space.resolution)
    images = torch.randn(size, device=a.device).to(dtype, memory_format=torch.channels_last)
    parts = batches(images)
    params = preset.params(preset.max, a.device)
    params = {n: w.detach().to(dtype if w.dim() == 4 else w.dtype) for n, w in params.items()}
    teacher, *subnets = [calibrated(preset.space, params, x, parts) for x in (preset.max, *archs)]
    net, score = Net(preset.space, None), relation.score
    if a.compile == "regional":
        net = Net(preset.space, None, regional)
        score = regional(score, lambda teacher, student: student.shape)

    def round(mark):
        for x in parts:
            levels = [relation.softmax(maps) for maps in net.features(teacher, preset.max, x)]
            mark("teacher")
            for k, (arch, subnet) in enumerate(zip(archs, subnets)):
                for level, maps in zip(levels, net.features(subnet, arch, x)):
                    score(level, maps)
                mark(f"subnet.{k}")

    round(lambda part: None)
    clock = timing.Clock(a.device)
    clock.mark("start")
    for _ in range(a.iterations):
        round(clock.mark)
    return timing.rounds(clock.laps(), a.iterations)


def main():
    p = timing.flags(__doc__, "preset", "bin", "compile")
    p.add_argument("--archs", help="comma-separated IDs (default: the smallest)")
    p.add_argument("--images", type=int, default=64)
    p.add_argument("--iterations", type=int, default=5, help="after one that does not count")
    a = p.parse_args()
    timing.prepare(a)
    preset = Preset(a.preset, a.bin)
    archs = a.archs.split(",") if a.archs else [preset.min]
    found = run(a, preset, archs)
    median = lambda name: statistics.median(parts[name] for parts in found)
    scoring = [median(f"subnet.{k}") for k in range(len(archs))]
    choices = {k: getattr(a, k) for k in ("preset", "compile", "images")} | {"archs": archs}
    timing.finish(a, choices | {
        "teacher_ms": median("teacher"),
        "scoring_ms": scoring,
        "images_subnets_per_s": a.images * len(archs) / sum(scoring) * 1e3,
        "peak_bytes": timing.peak_bytes(a.device),
    })


if __name__ == "__main__":
    main()
