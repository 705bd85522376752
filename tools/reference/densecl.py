"""DenseCL: MoCo for images, and for positions, whose positives are the teacher's positions that are
most like them."""

import torch

from .moco import Moco, info_nce
from .net import normalise


def matches(student, teacher):
    """For each position of maps [N, P, C] the index [N, P] of the teacher's with the greatest cosine
    of the channels that both have; the first of equals."""
    channels = min(student.shape[2], teacher.shape[2])
    teacher = teacher[..., :channels]
    teacher = teacher / teacher.norm(dim=2, keepdim=True).clamp_min(1e-12)
    return (student[..., :channels] @ teacher.transpose(1, 2)).argmax(2)


class DenseCl(Moco):
    def __init__(self, queue, queue_dense, tau, weight):
        super().__init__(queue, tau)
        self.queue_dense, self.weight = queue_dense, weight

    def queues(self):
        return {"queue": self.queue, "queue_dense": self.queue_dense}

    def prepare(self, seen):
        dense = seen[0]["dense"]
        seen[0] |= {"dense": normalise(dense), "mean": normalise(dense.mean(1))}
        return seen

    def loss(self, turn, student, targets):
        student, teacher = student[0], targets[0]
        with torch.no_grad():
            found = matches(student["map"], teacher["map"])
        keys = torch.take_along_dim(teacher["dense"], found.unsqueeze(2), 1)
        rows = normalise(student["dense"]).flatten(0, 1)
        positions = info_nce(rows, keys.flatten(0, 1), self.queue_dense.rows, self.tau)
        images = super().loss(turn, [student], targets)
        return (1 - self.weight) * images + self.weight * positions

    def finish_step(self, targets):
        super().finish_step(targets)
        self.queue_dense.push(targets[0]["mean"])
