"""The relation score of feature maps (equations 4 and 5 of the paper): the mean over positions i of
Σⱼ P(teacher)ᵢⱼ log P(student)ᵢⱼ with P = softmax over j of S/τ, S the cosines of the positions'
channels. Products are in the maps' precision, softmax and sums in f32 or wider."""

import torch
import torch.nn.functional as F

TAU = 0.2


def cosines(maps):
    """[N, HW, HW] of [N, C, H, W]."""
    wide = torch.promote_types(maps.dtype, torch.float32)
    x = F.normalize(maps.flatten(2).to(wide), dim=1).to(maps.dtype)
    return torch.bmm(x.transpose(1, 2), x).to(wide)


def softmax(teacher):
    """What students are compared with, [N, HW, HW]."""
    return F.softmax(cosines(teacher) / TAU, dim=2)


def score(teacher, student):
    """One number an image, [N]; `teacher` is its softmax, `student` its maps [N, C, H, W]."""
    logs = F.log_softmax(cosines(student) / TAU, dim=2)
    return (teacher * logs).sum((1, 2)) / logs.shape[1]
