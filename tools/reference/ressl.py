"""ReSSL: a student must find the relations to a queue of embeddings that the teacher finds."""

import torch.nn.functional as F


class ReSsl:
    teacher_views, passes, last_norm = (1,), ((0,),), True

    def __init__(self, queue, tau_teacher, tau_student):
        self.queue, self.tau_teacher, self.tau_student = queue, tau_teacher, tau_student

    def queues(self):
        return {"queue": self.queue}

    def prepare(self, seen):
        seen[0]["relations"] = F.softmax(seen[0]["z"] @ self.queue.rows.T / self.tau_teacher, 1)
        return seen

    def loss(self, _, student, targets):
        logits = student[0]["z"] @ self.queue.rows.T / self.tau_student
        return -(targets[0]["relations"] * F.log_softmax(logits, 1)).sum(1).mean()

    def finish_step(self, targets):
        self.queue.push(targets[0]["z"])
