"""MoCo v2: a student's embedding must agree with the teacher's of the same image rather than with
those of earlier images, which a queue keeps."""

import torch
import torch.nn.functional as F


def info_nce(q, k, queue, tau):
    """Mean loss of embeddings q [N, D]: the positives are k [N, D], the negatives queue [K, D]."""
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / tau
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


class Moco:
    """`queue` [K, D] is overwritten from row `pointer` on."""

    def __init__(self, queue, tau, pointer=0):
        self.queue, self.tau, self.pointer = queue, tau, pointer

    def loss(self, z, keys):
        """Of a student's embeddings [N, D] against the teacher's."""
        return info_nce(z, keys, self.queue, self.tau)

    @torch.no_grad()
    def finish_step(self, keys):
        """Pushes the teacher's embeddings."""
        rows = (torch.arange(len(keys), device=keys.device) + self.pointer) % len(self.queue)
        self.queue[rows] = keys
        self.pointer = (self.pointer + len(keys)) % len(self.queue)
