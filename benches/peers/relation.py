"""The relation score of feature maps by bmm and softmax, the HW×HW matrices in memory, in PyTorch.

    python benches/peers/relation.py --preset data --images 8 [--device cuda --precision bf16]

The score is that of tools/reference/relation.py. The teacher's softmax is computed once and kept, as
a search compares many students with it; maps come in the precision given, products too, softmax and
sums are f32.
"""

import torch

import timing
from net import LEVELS, Preset, relation


def main():
    p = timing.flags(__doc__, "preset", "bin", "compile")
    p.add_argument("--level", choices=LEVELS, default="c2")
    p.add_argument("--images", type=int, default=8)
    p.add_argument("--maps", type=int, nargs=3, metavar=("SIDE", "TEACHER", "STUDENT"),
                   help="side and channels of both, instead of the level's of MAX")
    p.add_argument("--seconds", type=float, default=1.0)
    a = p.parse_args()
    timing.prepare(a)
    if not a.maps:
        preset = Preset(a.preset, a.bin)
        channels, side = preset.space.levels(preset.max)[a.level]
        a.maps = [side, channels, channels]
    side, *channels = a.maps

    def make(channels):
        x = torch.randn(a.images, channels, side, side, device=a.device).relu()
        return x.to(timing.dtype_of(a.precision), memory_format=torch.channels_last)

    f = torch.compile(relation.score, dynamic=False) if a.compile == "regional" else relation.score
    with torch.no_grad():
        teacher = relation.softmax(make(channels[0]))
        sets = timing.copies(a.device, make(channels[1]).nbytes)
        students = [make(channels[1]) for _ in range(sets)]
        found = timing.times([lambda x=x: f(teacher, x) for x in students], a.device, a.seconds)
    shape = {"images": a.images, "side": side, "channels": channels, "compile": a.compile}
    timing.finish(a, shape | found | {"ms_per_image": found["median_ms"] / a.images})


if __name__ == "__main__":
    main()
