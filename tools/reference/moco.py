"""MoCo v2: a student's embedding must agree with the teacher's of the same image rather than with
those of earlier images, which a queue keeps."""

import torch
import torch.nn.functional as F


def info_nce(q, k, queue, tau):
    """Mean loss of embeddings q [N, D]: the positives are k [N, D], the negatives queue [K, D]."""
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / tau
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


class Queue:
    """`rows` [K, D] are overwritten from row `pointer` on."""

    def __init__(self, rows, pointer=0):
        self.rows, self.pointer = rows, pointer

    @torch.no_grad()
    def push(self, keys):
        rows = (torch.arange(len(keys), device=keys.device) + self.pointer) % len(self.rows)
        # The backward pass of a loss may still need the rows that it has read.
        self.rows = self.rows.index_copy(0, rows, keys.to(self.rows.dtype))
        self.pointer = (self.pointer + len(keys)) % len(self.rows)


class Moco:
    teacher_views, passes, last_norm = (1,), ((0,),), True

    def __init__(self, queue, tau):
        self.queue, self.tau = queue, tau

    def queues(self):
        return {"queue": self.queue}

    def prepare(self, seen):
        """What students are compared with, of what the teacher saw."""
        return seen

    def loss(self, _, student, targets):
        """Of a student's outputs for the views of a pass."""
        return info_nce(student[0]["z"], targets[0]["z"], self.queue.rows, self.tau)

    def finish_step(self, targets):
        """Pushes the teacher's embeddings."""
        self.queue.push(targets[0]["z"])
