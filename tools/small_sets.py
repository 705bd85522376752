"""Makes the labelled sets of small images that docs/training.md was measured on, each as
OUT/SET/{train,test}/CLASS/NNNNN.png:

    python tools/small_sets.py OUT hands
    python tools/small_sets.py OUT fashion --from /usr/share/datasets/fashion-mnist
    python tools/small_sets.py OUT cifar2k --from cifar10.tar
    python tools/small_sets.py OUT cells   --from bccd.tar
    python tools/small_sets.py OUT streets --from camvid.tar

hands: 1,650 drawn hands on a plain ground, ten finger signs, forty skin tones: images that look
alike. fashion: the first 6,000 of Fashion-MNIST (a folder of its IDX files). cifar2k: the first 200
of every class of CIFAR-10 (a tar of {train,test}/CLASS/*). cells: single cells cut out of BCCD (a
tar of its folder, VOC annotations). streets: patches of 48x48 pixels of CamVid (a tar of
{train,test}/*.jpg and {train,test}annot/*.png), by the label of most of their pixels.
Needs numpy and Pillow.
"""

import argparse
import gzip
import io
import math
import random
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

# Thumb to little finger, stretched or folded.
SIGNS = [
    (0, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 1, 1, 0, 0), (1, 1, 1, 0, 0), (0, 1, 1, 1, 1),
    (1, 1, 1, 1, 1), (0, 1, 1, 1, 0), (0, 1, 0, 0, 1), (1, 0, 0, 0, 1), (0, 0, 1, 1, 1),
]
# Where each finger begins, its direction from upright in degrees, and its length.
FINGERS = [
    (-0.13, 0.0, -60, 0.15), (-0.10, -0.13, -16, 0.22), (-0.033, -0.15, -4, 0.25),
    (0.035, -0.145, 8, 0.22), (0.10, -0.12, 20, 0.17),
]
CAMVID = "sky building pole road pavement tree sign fence car pedestrian bicyclist".split()


def draw_hand(sign, rng, side=64, oversample=4):
    person = np.random.RandomState(rng.randint(40))
    skin = np.array([225, 180, 150]) * (0.75 + 0.25 * person.rand()) + person.randn(3) * 8
    ground = np.array([215, 212, 205]) + person.randn(3) * 4 + rng.randn(3) * 2
    n, slim = side * oversample, 1 + 0.12 * person.randn()
    turn, size = 0.05 * rng.randn(), 1 + 0.04 * rng.randn()
    centre = 0.5 + 0.02 * rng.randn(), 0.62 + 0.02 * rng.randn()
    mask = Image.new("L", (n, n), 0)
    pen = ImageDraw.Draw(mask)

    def disc(x, y, radius):
        x, y = x * size, y * size
        x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        x, y, radius = (centre[0] + x) * n, (centre[1] + y) * n, radius * size * n
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)

    def limb(x0, y0, x1, y1, radius):
        for t in np.linspace(0, 1, 40):
            disc(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t, radius)

    disc(0, 0, 0.15)
    limb(-0.07, -0.07, 0.07, -0.07, 0.085)
    limb(-0.06, 0.06, 0.05, 0.06, 0.09)
    limb(0, 0.1, 0, 0.6, 0.085 * slim)
    for stretched, (x, y, angle, length) in zip(SIGNS[sign], FINGERS):
        angle = math.radians(angle + 4 * rng.randn())
        length = length * (1 + 0.06 * rng.randn()) if stretched else 0.03
        limb(x, y, x + math.sin(angle) * length, y - math.cos(angle) * length, 0.033 * slim)
    small = mask.resize((side, side), Image.BOX)
    inside = np.asarray(small).astype(float)[..., None] / 255
    soft = small.resize((side // 4, side // 4), Image.BOX).resize((side, side), Image.BILINEAR)
    shade = 0.75 + 0.25 * np.asarray(soft).astype(float)[..., None] / 255
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    angle = rng.rand() * 2 * math.pi
    light = 1 + 0.25 * rng.rand() * (np.cos(angle) * x + np.sin(angle) * y)[..., None]
    pixels = (ground * (1 - inside) + skin * shade * inside) * light * (1 + 0.03 * rng.randn())
    noisy = pixels + 3 * rng.randn(side, side, 3)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def hands(_):
    rng = np.random.RandomState(5)
    for split, count in [("train", 1650), ("test", 500)]:
        for i in range(count):
            yield split, f"sign{i % 10}", draw_hand(i % 10, rng)


def fashion(folder):
    def read(name, skip):
        return np.frombuffer(gzip.open(Path(folder) / name).read()[skip:], np.uint8)

    for part, split, count in [("train", "train", 6000), ("t10k", "test", 2000)]:
        images = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        for image, label in list(zip(images, read(f"{part}-labels-idx1-ubyte.gz", 8)))[:count]:
            yield split, f"class{label}", Image.fromarray(image)


def members(path, suffix):
    """Names and contents of a tar's files, by name."""
    with tarfile.open(path) as tar:
        files = [m for m in tar.getmembers() if m.isfile() and m.name.endswith(suffix)]
        return {m.name: tar.extractfile(m).read() for m in sorted(files, key=lambda m: m.name)}


def decoded(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def cifar2k(path):
    taken = {}
    for name, data in members(path, (".jpg", ".png")).items():
        split, label = name.split("/")[-3:-1]
        taken[split, label] = taken.get((split, label), 0) + 1
        if taken[split, label] <= {"train": 200, "test": 100}[split]:
            yield split, label, decoded(data)


def cells(path, side=48):
    files, found = members(path, (".xml", ".jpg")), {}
    for name in (n for n in files if n.endswith(".xml")):
        image = decoded(files[name.replace("Annotations", "JPEGImages")[:-4] + ".jpg"])
        for cell in ElementTree.fromstring(files[name]).iter("object"):
            box = [int(cell.find("bndbox").find(k).text) for k in ("xmin", "ymin", "xmax", "ymax")]
            x, y = int((box[0] + box[2]) / 2 - side), int((box[1] + box[3]) / 2 - side)
            if x >= 0 and y >= 0 and x + 2 * side <= image.width and y + 2 * side <= image.height:
                cut = image.crop((x, y, x + 2 * side, y + 2 * side)).resize((side, side), Image.BILINEAR)
                found.setdefault(cell.find("name").text, []).append(cut)
    for label, images in found.items():
        random.Random(1).shuffle(images)
        images = images[:250]
        for i, image in enumerate(images):
            yield "train" if i < 0.6 * len(images) else "test", label, image


def streets(path, side=48):
    files, found = members(path, (".jpg", ".png")), {}
    for split in ("train", "test"):
        rng = random.Random(3)
        for name in (n for n in files if n.endswith(".jpg") and f"/{split}/" in f"/{n}"):
            image = decoded(files[name])
            labels = np.asarray(Image.open(io.BytesIO(
                files[name.replace(f"{split}/", f"{split}annot/")[:-4] + ".png"])))
            for _ in range(40):
                x, y = rng.randrange(image.width - side), rng.randrange(image.height - side)
                kinds, counts = np.unique(labels[y + 8:y + side - 8, x + 8:x + side - 8], return_counts=True)
                if kinds[counts.argmax()] < len(CAMVID) and counts.max() > 0.6 * counts.sum():
                    patch = image.crop((x, y, x + side, y + side))
                    found.setdefault((CAMVID[kinds[counts.argmax()]], split), []).append(patch)
    for (label, split), patches in sorted(found.items()):
        # Classes that are seldom the most of a patch are left out.
        if len(found.get((label, "train"), [])) >= 100 and (label, "test") in found:
            random.Random(3).shuffle(patches)
            for patch in patches[: {"train": 250, "test": 80}[split]]:
                yield split, label, patch


def main():
    kinds = {f.__name__: f for f in (hands, fashion, cifar2k, cells, streets)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("set", choices=kinds)
    parser.add_argument("--from", dest="source", help="the archive or folder that it is made of")
    args = parser.parse_args()
    if args.set != "hands" and not args.source:
        parser.error(f"{args.set} needs --from")
    for i, (split, label, image) in enumerate(kinds[args.set](args.source)):
        path = args.out / args.set / split / label / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


if __name__ == "__main__":
    main()
