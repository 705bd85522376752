"""The elastic ResNet, MoCo and SGD in a few lines of PyTorch: an independent reading of the
paper against which the program is checked (by fixtures and by replaying step dumps).

Weights are a dict of tensors under torchvision's names at maximum size; a subnet uses the
first channels and the first blocks of them.
"""

import re

import torch
import torch.nn.functional as F

EXPANSION = 4
# Stem's stride and whether a max-pool follows, by preset.
STEMS = {"data": (2, True), "cifar": (1, False), "tiny": (2, False)}


def parse_arch(name):
    """`s32-w48.96.192.512-d2.2.5.2` as (stem, widths, depths)."""
    match = re.fullmatch(r"s(\d+)-w([\d.]+)-d([\d.]+)", name)
    if not match:
        raise ValueError(f"{name!r} is not an architecture")
    stem, widths, depths = match.groups()
    return int(stem), [int(w) for w in widths.split(".")], [int(d) for d in depths.split(".")]


def max_arch(weights):
    """The architecture that uses all of the weights."""
    depths = [0, 0, 0, 0]
    for name in weights:
        match = re.match(r"layer(\d)\.(\d+)\.", name)
        if match:
            stage, block = int(match[1]) - 1, int(match[2])
            depths[stage] = max(depths[stage], block + 1)
    widths = [weights[f"layer{s}.0.conv1.weight"].shape[0] for s in range(1, 5)]
    return weights["conv1.weight"].shape[0], widths, depths


def batch_norm(x, gamma, beta, group):
    """Batch norm with the statistics of groups of `group` images (0 = all together); γ and β may
    be None."""
    n = x.shape[0]
    size = n if group == 0 else min(group, n)
    gamma, beta = (t if t is None else t[: x.shape[1]] for t in (gamma, beta))
    parts = [F.batch_norm(p, None, None, gamma, beta, training=True) for p in x.split(size)]
    return torch.cat(parts)


def features(weights, x, arch, group, stem_stride, maxpool, strides=(1, 2, 2, 2)):
    """C2..C5 of the subnet `arch`, with batch statistics."""

    def conv_bn(x, conv, bn, out, stride):
        w = weights[f"{conv}.weight"][:out, : x.shape[1]]
        y = F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
        return batch_norm(y, weights[f"{bn}.weight"], weights[f"{bn}.bias"], group)

    stem, widths, depths = arch
    x = F.relu(conv_bn(x, "conv1", "bn1", stem, stem_stride))
    if maxpool:
        x = F.max_pool2d(x, 3, stride=2, padding=1)
    maps = []
    for s, (width, depth) in enumerate(zip(widths, depths)):
        for b in range(depth):
            name, stride = f"layer{s + 1}.{b}", strides[s] if b == 0 else 1
            y = F.relu(conv_bn(x, f"{name}.conv1", f"{name}.bn1", width, 1))
            y = F.relu(conv_bn(y, f"{name}.conv2", f"{name}.bn2", width, stride))
            y = conv_bn(y, f"{name}.conv3", f"{name}.bn3", width * EXPANSION, 1)
            if b == 0:
                x = conv_bn(x, f"{name}.downsample.0", f"{name}.downsample.1", width * EXPANSION, stride)
            x = F.relu(y + x)
        maps.append(x)
    return maps


def embed(weights, x, arch, group, stem_stride, maxpool):
    """L2-normalised embeddings: global average, MLP (first columns of its first layer)."""
    pooled = features(weights, x, arch, group, stem_stride, maxpool)[-1].mean((2, 3))
    first = weights["head.0.weight"][:, : pooled.shape[1]]
    if "head.3.weight" not in weights:
        hidden = F.relu(F.linear(pooled, first, weights["head.0.bias"]))
        z = F.linear(hidden, weights["head.2.weight"], weights["head.2.bias"])
    else:
        norm = lambda rows, *affine: batch_norm(rows, *affine, group)
        hidden = norm(F.linear(pooled, first), weights["head.1.weight"], weights["head.1.bias"])
        z = norm(F.linear(F.relu(hidden), weights["head.3.weight"]), None, None)
    return F.normalize(z, dim=1)


def info_nce(q, k, queue, tau):
    """MoCo's loss: the positive is the teacher's embedding, the negatives are the queue."""
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / tau
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def ema(teacher, student, m):
    """θt ← m·θt + (1−m)·θs."""
    return {n: m * teacher[n] + (1 - m) * student[n] for n in teacher}


def embed_parts(weights, x, arch, group, stem, accum=1):
    """`embed` of a batch that is worked off in `accum` parts."""
    n = len(x)
    bounds = [(i * n // accum, (i + 1) * n // accum) for i in range(accum)]
    return torch.cat([embed(weights, x[a:b], arch, group, *stem) for a, b in bounds])


def teacher_pass(weights, x, order, arch, group, stem, accum=1):
    """The teacher's embeddings, its batch permuted before the pass and put back after it."""
    shuffled = embed_parts(weights, x[order], arch, group, stem, accum)
    z = torch.empty_like(shuffled)
    z[order] = shuffled
    return z


def student_pass(weights, x, z_teacher, queue, archs, group, tau, stem, accum=1):
    """Embeddings and losses of all students, and the gradient of the losses' sum."""
    leaves = {n: w.clone().requires_grad_() for n, w in weights.items()}
    z = [embed_parts(leaves, x, arch, group, stem, accum) for arch in archs]
    losses = [info_nce(q, z_teacher, queue, tau) for q in z]
    sum(losses).backward()
    grads = {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in leaves.items()}
    return [q.detach() for q in z], [loss.detach() for loss in losses], grads


def philox_4x32_10(counter, key):
    """One block of Philox4x32 with ten rounds (Salmon et al., SC 2011)."""
    c, k = list(counter), list(key)
    for i in range(10):
        if i:
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            (q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF,
            (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF,
        ]
    return c


def teacher_order(seed, step, n):
    """The permutation of the teacher's batch: Fisher and Yates's, drawn from Philox with the
    seed as its key and (position, step, purpose 5) as its counter."""
    key = (seed & 0xFFFFFFFF, seed >> 32)

    def draws():
        block = 0
        while True:
            yield from philox_4x32_10((block, step & 0xFFFFFFFF, step >> 32, 5 << 16), key)
            block += 1

    draw = draws()

    def below(m):
        while True:
            product = ((next(draw) << 32) | next(draw)) * m
            if product & (2**64 - 1) >= (2**64 - m) % m:
                return product >> 64

    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = below(i + 1)
        order[i], order[j] = order[j], order[i]
    return torch.tensor(order)


def sgd(weights, velocity, grads, lr, momentum, weight_decay):
    """PyTorch's SGD, written out: v ← μ·v + g + λ·w; w ← w − lr·v (λ by name)."""
    v = {n: momentum * velocity[n] + grads[n] + weight_decay[n] * weights[n] for n in weights}
    return {n: weights[n] - lr * v[n] for n in weights}, v
