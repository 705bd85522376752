"""The relation score of feature maps by bmm and softmax, the HW×HW matrices in memory, in PyTorch.

    python benches/peers/relation.py --preset data --images 8 [--device cuda --precision bf16]

Score = mean over positions i and pictures of Σⱼ P(teacher)ᵢⱼ log P(student)ᵢⱼ with
P = softmax over j of S/τ, S the cosines of the positions' channels. The teacher's softmax is
computed once and kept, as a search compares many students with it; maps come in the precision
given, products too, softmax and sums are f32.
"""

import torch
import torch.nn.functional as F

import timing
from net import BIN, Preset

TAU = 0.2


def cosines(maps):
    """[N, HW, HW] of [N, C, H, W]."""
    x = F.normalize(maps.flatten(2).float(), dim=1).to(maps.dtype)
    return torch.bmm(x.transpose(1, 2), x).float()


def softmax(teacher):
    """What students are compared with."""
    return F.softmax(cosines(teacher) / TAU, dim=2)


def score(teacher, student):
    """One number a picture; `teacher` is its softmax."""
    logs = F.log_softmax(cosines(student) / TAU, dim=2)
    return (teacher * logs).sum((1, 2)) / logs.shape[1]


def main():
    p = timing.flags(__doc__)
    p.add_argument("--preset", default="tiny")
    p.add_argument("--bin", default=BIN, help="folder of the program `engine`")
    p.add_argument("--level", choices=["c2", "c3", "c4", "c5"], default="c2")
    p.add_argument("--images", type=int, default=8)
    p.add_argument("--maps", type=int, nargs=3, metavar=("SIDE", "TEACHER", "STUDENT"),
                   help="side and channels of both, instead of the level's of MAX")
    p.add_argument("--compile", choices=["none", "regional"], default="none")
    p.add_argument("--seconds", type=float, default=1.0)
    a = p.parse_args()
    timing.prepare(a)
    if not a.maps:
        preset = Preset(a.preset, a.bin)
        channels, side = preset.levels(preset.max)[a.level]
        a.maps = [side, channels, channels]
    side, *channels = a.maps

    def make(channels):
        x = torch.randn(a.images, channels, side, side, device=a.device).relu()
        return x.to(timing.dtype_of(a.precision), memory_format=torch.channels_last)

    f = torch.compile(score, dynamic=False) if a.compile == "regional" else score
    with torch.no_grad():
        teacher = softmax(make(channels[0]))
        sets = timing.copies(a.device, make(channels[1]).nbytes)
        students = [make(channels[1]) for _ in range(sets)]
        found = timing.times([lambda x=x: f(teacher, x) for x in students], a.device, a.seconds)
    shape = {"images": a.images, "side": side, "channels": channels, "compile": a.compile}
    timing.finish(a, shape | found | {"ms_per_image": found["median_ms"] / a.images})


if __name__ == "__main__":
    main()
