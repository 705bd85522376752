"""Draws images of shapes with annotations, and what a clumsy detector and segmenter would find:

    python tools/small_shapes.py OUT

OUT/shapes has images/, masks/ (label images) and classes.txt; OUT/shapes.json has the same shapes as
COCO's annotations with polygons; OUT/results.json has COCO's results with boxes and OUT/masks.json
with masks only; OUT/predicted has label images. Needs numpy and Pillow.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ["square", "triangle", "disc"]
CORNERS = {"square": 4, "triangle": 3, "disc": 24}
SIDE = 128


def runs(mask):
    """Run lengths down the columns, beginning with zeros."""
    flat = mask.reshape(-1, order="F").astype(np.int8)
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def corners(rng, name, centre, radius):
    angles = rng.uniform(0, 2 * np.pi) + np.arange(CORNERS[name]) / CORNERS[name] * 2 * np.pi
    return np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + centre, 1)


def drawn(shapes, fill):
    image = Image.new("L", (SIDE, SIDE), 0)
    for label, xy in shapes:
        ImageDraw.Draw(image).polygon([tuple(c) for c in xy], fill=fill(label))
    return image


def box(xy):
    low, high = xy.min(0).clip(0, SIDE), xy.max(0).clip(0, SIDE)
    return [float(v) for v in np.round([*low, *(high - low)], 1)]


def area(xy):
    (x, y), (next_x, next_y) = xy.T, np.roll(xy, -1, axis=0).T
    return float(np.round(abs(np.sum(x * next_y - next_x * y)) / 2, 1))


def main(out):
    rng = np.random.default_rng(5)
    for folder in ("shapes/images", "shapes/masks", "predicted"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "shapes/classes.txt").write_text("ground\n" + "\n".join(CLASSES) + "\n")
    images, annotations, results, masks = [], [], [], []
    for image in range(1, 21):
        true, found = [], []
        for _ in range(rng.integers(1, 5)):
            label = int(rng.integers(1, 4))
            centre, radius = rng.uniform(15, SIDE - 15, size=2), rng.uniform(5, 40)
            xy = corners(rng, CLASSES[label - 1], centre, radius)
            true.append((label, xy))
            bbox = box(xy)
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": label,
                                "bbox": bbox, "area": area(xy), "iscrowd": 0,
                                "segmentation": [[float(c) for c in xy.reshape(-1)]]})
            near = np.round(xy + rng.normal(scale=0.08 * radius, size=2), 1)
            answer = int(label if rng.uniform() < 0.9 else rng.integers(1, 4))
            found.append((answer, near))
            common = {"image_id": image, "category_id": answer, "score": round(rng.uniform(), 3)}
            results.append(common | {"bbox": box(near)})
            pixels = np.asarray(drawn([(answer, near)], lambda _: 1))
            masks.append(common | {"segmentation": {"size": [SIDE, SIDE], "counts": runs(pixels)}})
        images.append({"id": image, "width": SIDE, "height": SIDE, "file_name": f"{image:04}.png"})
        drawn(true, lambda label: 60 * label).save(out / f"shapes/images/{image:04}.png")
        drawn(true, lambda label: label).save(out / f"shapes/masks/{image:04}.png")
        drawn(found, lambda label: label).save(out / f"predicted/{image:04}.png")
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    truth = {"images": images, "categories": categories, "annotations": annotations}
    for name, value in (("shapes", truth), ("results", results), ("masks", masks)):
        (out / f"{name}.json").write_text(json.dumps(value))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
