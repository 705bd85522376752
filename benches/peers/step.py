"""The training iteration of Algorithm 1 in PyTorch: the other side of `bench step`.

    engine space show tiny --json > space.json
    python benches/peers/step.py --space space.json --batch 128 --queue 4096 --archs ID,ID,ID

Same work as engine's: moving average of the teacher, one teacher pass of the maximum net
without gradient, the students one after the other (forward, backward), SGD with momentum and
weight decay, push of the queue. Inputs lie in memory. A supernet's slice is a view of the
weight; with --independent every student is a net of its own, which spares PyTorch the slicing
(and is not the same training).
"""

import argparse
import json
import re
import statistics
import time

import torch
import torch.nn.functional as F


def parse(arch):
    stem, widths, depths = re.fullmatch(r"s(\d+)-w([\d.]+)-d([\d.]+)", arch).groups()
    return int(stem), [int(w) for w in widths.split(".")], [int(d) for d in depths.split(".")]


def layers(space, arch):
    """Names, shapes and strides of the convolutions of an architecture, in order."""
    stem, widths, depths = parse(arch)
    k = space["stem"]["kernel"]
    yield "conv1", (stem, 3, k, k), space["stem"]["stride"]
    inputs = stem
    for s, (w, d) in enumerate(zip(widths, depths)):
        for b in range(d):
            stride = space["stages"][s]["stride"] if b == 0 else 1
            name = f"layer{s + 1}.{b}"
            yield f"{name}.conv1", (w, inputs, 1, 1), 1
            yield f"{name}.conv2", (w, w, 3, 3), stride
            yield f"{name}.conv3", (4 * w, w, 1, 1), 1
            if b == 0:
                yield f"{name}.downsample.0", (4 * w, inputs, 1, 1), stride
            inputs = 4 * w


def make_params(space, arch, hidden, dim):
    params, channels = {}, 0
    for name, shape, _ in layers(space, arch):
        std = (2 / (shape[0] * shape[2] * shape[3])) ** 0.5
        weight = torch.randn(shape) * std
        params[f"{name}.weight"] = weight.contiguous(memory_format=torch.channels_last)
        params[f"{name}.gamma"] = torch.ones(shape[0])
        params[f"{name}.beta"] = torch.zeros(shape[0])
        channels = shape[0] if name.endswith("conv3") else channels
    params["head.0.weight"] = torch.randn(hidden, channels) * (2 / channels) ** 0.5
    params["head.0.bias"] = torch.zeros(hidden)
    params["head.2.weight"] = torch.randn(dim, hidden) * (2 / hidden) ** 0.5
    params["head.2.bias"] = torch.zeros(dim)
    return {k: v.requires_grad_() for k, v in params.items()}


def conv_bn(params, plan, name, x):
    (out, inputs, k, _), stride = plan[name]
    w = params[f"{name}.weight"]
    gamma, beta = params[f"{name}.gamma"], params[f"{name}.beta"]
    if w.shape[:2] != (out, inputs):
        w, gamma, beta = w[:out, :inputs], gamma[:out], beta[:out]
    y = F.conv2d(x, w, stride=stride, padding=k // 2)
    return F.batch_norm(y, None, None, gamma, beta, training=True, eps=1e-5)


def forward(space, params, arch, x):
    plan = {name: (shape, stride) for name, shape, stride in layers(space, arch)}
    _, _, depths = parse(arch)
    x = F.relu_(conv_bn(params, plan, "conv1", x))
    if space["stem"]["maxpool"]:
        x = F.max_pool2d(x, 3, 2, 1)
    for s, d in enumerate(depths):
        for b in range(d):
            name = f"layer{s + 1}.{b}"
            y = F.relu_(conv_bn(params, plan, f"{name}.conv1", x))
            y = F.relu_(conv_bn(params, plan, f"{name}.conv2", y))
            y = conv_bn(params, plan, f"{name}.conv3", y)
            if b == 0:
                x = conv_bn(params, plan, f"{name}.downsample.0", x)
            x = F.relu_(y.add_(x))
    h = x.mean((2, 3))
    h = F.relu_(F.linear(h, params["head.0.weight"][:, : h.shape[1]], params["head.0.bias"]))
    return F.normalize(F.linear(h, params["head.2.weight"], params["head.2.bias"]))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--space", required=True, help="what `engine space show PRESET --json` printed")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--queue", type=int, default=4096)
    p.add_argument("--hidden", type=int, default=2048)
    p.add_argument("--dim", type=int, default=128)
    p.add_argument("--archs", required=True, help="comma-separated IDs, the students")
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument("--iterations", type=int, default=10)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--independent", action="store_true")
    p.add_argument("--json")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    with open(a.space) as f:
        space = json.load(f)
    archs, res = a.archs.split(","), space["resolution"]
    teacher_arch = space["max"]
    student = make_params(space, teacher_arch, a.hidden, a.dim)
    teacher = {k: v.detach().clone() for k, v in student.items()}
    nets = [make_params(space, x, a.hidden, a.dim) if a.independent else student for x in archs]
    every = {id(v): v for net in [student, *nets] for v in net.values()}
    optimizer = torch.optim.SGD(
        list(every.values()), lr=0.03, momentum=0.9, weight_decay=1e-4, fused=True
    )
    queue = F.normalize(torch.randn(a.queue, a.dim))
    like = torch.channels_last
    views = [torch.randn(a.batch, 3, res, res).contiguous(memory_format=like) for _ in range(2)]
    pointer, rows = 0, []
    for _ in range(a.warmup + a.iterations):
        t0 = time.perf_counter()
        with torch.no_grad():
            torch._foreach_lerp_(list(teacher.values()), list(student.values()), 0.001)
            z_t = forward(space, teacher, teacher_arch, views[1])
        t1 = time.perf_counter()
        student_ms = []
        for net, arch in zip(nets, archs):
            t2 = time.perf_counter()
            z = forward(space, net, arch, views[0])
            logits = torch.cat([(z * z_t).sum(1, keepdim=True), z @ queue.T], 1) / 0.2
            F.cross_entropy(logits, torch.zeros(a.batch, dtype=torch.long)).backward()
            student_ms.append((time.perf_counter() - t2) * 1e3)
        t3 = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        where = (torch.arange(a.batch) + pointer) % a.queue
        queue[where] = z_t
        pointer = (pointer + a.batch) % a.queue
        t4 = time.perf_counter()
        rows.append(((t4 - t0) * 1e3, (t1 - t0) * 1e3, student_ms, (t4 - t3) * 1e3))
    rows = rows[a.warmup :]
    total = statistics.median(r[0] for r in rows)
    result = {
        "iteration_ms": total,
        "iteration_ms_min": min(r[0] for r in rows),
        "iteration_ms_max": max(r[0] for r in rows),
        "parts": {
            "teacher": statistics.median(r[1] for r in rows),
            "student": [statistics.median(r[2][k] for r in rows) for k in range(len(archs))],
            "optimizer": statistics.median(r[3] for r in rows),
        },
        "images_per_s": a.batch / total * 1e3,
        "device": "cpu",
        "threads": a.threads,
        "torch": torch.__version__,
    }
    print(json.dumps(result))
    if a.json:
        with open(a.json, "w") as f:
            json.dump(result, f)


if __name__ == "__main__":
    main()
