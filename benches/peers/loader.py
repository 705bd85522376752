"""Decodes and augments images with PIL and torchvision: the other side of `bench loader`.

    python benches/peers/loader.py --data photographs.tar [--resolution 224] [--seconds 10]

One core. Two MoCo v2 views of every image, as tensors, normalised. DATA is a tar archive or a
folder. Prints one JSON object: images a second for decoding alone, for both views alone, and
for the two together, on this process's CPU time (`--wall`: on the clock), and the mean size.
"""

import argparse
import io
import json
import pathlib
import random
import tarfile
import time

import torch
from PIL import Image, ImageFilter
from torchvision import transforms as T

ENDINGS = (".jpg", ".jpeg", ".png")


class Blur:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def moco_v2(resolution):
    return T.Compose([
        T.RandomResizedCrop(resolution, scale=(0.2, 1.0)),
        T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        T.RandomGrayscale(p=0.2),
        T.RandomApply([Blur()], p=0.5),
        T.RandomHorizontalFlip(),
        T.ToTensor(),
        T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])


def encoded(path, most):
    """The bytes of up to `most` images."""
    if path.is_dir():
        files = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in ENDINGS)
        return [p.read_bytes() for p, _ in zip(files, range(most))]
    with tarfile.open(path) as tar:
        found = []
        for member in tar:
            if member.isfile() and member.name.lower().endswith(ENDINGS):
                found.append(tar.extractfile(member).read())
                if len(found) == most:
                    break
        return found


def per_second(clock, seconds, work, items):
    began, done = clock(), 0
    while clock() - began < seconds:
        work(items[done % len(items)])
        done += 1
    return done / (clock() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--wall", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(1)
    files = encoded(args.data, 500)
    view = moco_v2(args.resolution)
    clock = time.perf_counter if args.wall else time.process_time

    def decode(data):
        return Image.open(io.BytesIO(data)).convert("RGB")

    def two_views(image):
        return view(image), view(image)

    images = [decode(data) for data in files[:64]]
    rates = {
        "decode_per_s": per_second(clock, args.seconds, decode, files),
        "augment_per_s": per_second(clock, args.seconds, two_views, images),
        "both_per_s": per_second(clock, args.seconds, lambda data: two_views(decode(data)), files),
    }
    facts = {
        "images": len(files),
        "mean_bytes": sum(map(len, files)) / len(files),
        "resolution": args.resolution,
        "workers": 1,
        "torch": torch.__version__,
    }
    print(json.dumps(facts | rates))


if __name__ == "__main__":
    main()
