"""What an iteration does beside the nets, in PyTorch: InfoNCE against the queue, forward and
backward; SGD; the teacher's moving average.

    python benches/peers/info_nce.py --preset data --batch 256 [--device cuda --precision bf16]
"""

import torch
import torch.nn.functional as F

import timing
from net import Preset, autocast, info_nce


def main():
    p = timing.flags(__doc__, "preset", "bin", "batch", "queue")
    p.add_argument("--seconds", type=float, default=1.0)
    a = p.parse_args()
    timing.prepare(a)
    preset = Preset(a.preset, a.bin)
    batch, queue = a.batch or preset.train["batch"], a.queue or preset.own["queue"]
    rows = lambda n: F.normalize(torch.randn(n, preset.own["dim"], device=a.device))
    q, k, negatives = rows(batch).requires_grad_(), rows(batch), rows(queue)
    params = preset.params(preset.max, a.device)
    pretrain = preset.pretrain(preset.net(0), params, queue, a.device)
    for w in params.values():
        w.grad = torch.full_like(w, 1e-3)

    def loss():
        with autocast(a.device, a.precision):
            value = info_nce(q, k, negatives, preset.own["tau"])
        torch.autograd.grad(value, q)

    works = {"info_nce": loss, "sgd": pretrain.optimizer.step, "ema": pretrain.move_teacher}
    found = {name: timing.times([f], a.device, a.seconds) for name, f in works.items()}
    timing.finish(a, {"preset": a.preset, "batch": batch, "queue": queue} | found)


if __name__ == "__main__":
    main()
