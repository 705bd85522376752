"""Compares what an exported detector or segmenter says in PyTorch with what the program itself said:

    python tools/check_dense_export.py EXPORT RUN IMAGES [ANNOTATIONS]

EXPORT is the folder of `engine export`, RUN that of its run, whose `detections.json` or `masks/` are the
program's answers, IMAGES the folder of the images that the run was tested on, and ANNOTATIONS COCO's
file of their objects (of detection alone). With `--out FILE` the net's own answers are written, for
`engine eval det --detections FILE`.

Boxes may differ by 1e-3 pixels and scores by 1e-4, masks and labels in a share of 1e-3 of their pixels,
AP (of pycocotools, where it is installed) by 1e-4. Exits with 1 beyond that. Needs torch, torchvision,
pillow and safetensors; pycocotools for masks.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

import numpy
import torch
from PIL import Image

from check_export import module_of

LIMITS = {"box": 1e-3, "score": 1e-4, "pixels": 1e-3, "AP": 1e-4}


def rgb(path):
    return Image.open(path).convert("RGB")


class Worst:
    """The largest differences."""

    def __init__(self):
        self.found = {}

    def add(self, name, value):
        self.found[name] = max(self.found.get(name, 0.0), float(value))

    def report(self, counted):
        """Prints all; whether one is beyond its limit."""
        print(counted)
        bad = False
        for name, value in self.found.items():
            over = not value <= LIMITS[name]
            bad |= over
            print(f"  {name:7} {value:9.2e}, at most {LIMITS[name]:.0e}{'  BEYOND' if over else ''}")
        return bad


def compare_segments(net, run, images, worst):
    masks = sorted((run / "masks").rglob("*.png"))
    differing = total = 0
    for path in masks:
        expected = numpy.array(Image.open(path))
        stem = path.relative_to(run / "masks").with_suffix("")
        of_stem = images.rglob(f"{stem.name}.*")
        source = next(p for p in of_stem if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
        found = net.predict(rgb(source)).numpy()
        differing += (found != expected).sum()
        total += found.size
    worst.add("pixels", differing / max(total, 1))
    return f"{len(masks)} images, {total} pixels, {differing} differ"


def rle(mask):
    from pycocotools import mask as coder

    return coder.encode(numpy.asfortranarray(mask.astype(numpy.uint8)))


def results_of(net, annotations, images):
    """The net's answers as COCO's results."""
    ids = {category["name"]: category["id"] for category in annotations["categories"]}
    results = []
    for image in annotations["images"]:
        found = net.predict(rgb(images / image["file_name"]))
        for i, (x1, y1, x2, y2) in enumerate(found["boxes"].tolist()):
            result = {
                "image_id": image["id"],
                "category_id": ids[net.classes[found["labels"][i]]],
                "score": found["scores"][i].item(),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            if "masks" in found:
                code = rle(found["masks"][i].numpy())
                result["segmentation"] = {"size": code["size"], "counts": code["counts"].decode()}
            results.append(result)
    return results


def differing_pixels(a, b):
    from pycocotools import mask as coder

    union = coder.area(coder.merge([a, b]))
    return int(2 * union - coder.area(a) - coder.area(b)), a["size"][0] * a["size"][1]


def compare_objects(ours, theirs, worst):
    """Each object of the program and the net's object of its image and class with the nearest box."""
    left, differing, total = {}, 0, 0
    for result in theirs:
        left.setdefault((result["image_id"], result["category_id"]), []).append(result)
    if len(ours) != len(theirs):
        print(f"{len(ours)} objects of the program, {len(theirs)} of model.py")
        worst.add("box", float("inf"))
    for result in ours:
        others = left.get((result["image_id"], result["category_id"]), [])
        if not others:
            continue

        def distance(other):
            box = [max(abs(a - b) for a, b in zip(result["bbox"], other["bbox"]))]
            return max(box + [abs(result["score"] - other["score"])])

        other = min(others, key=distance)
        others.remove(other)
        worst.add("box", max(abs(a - b) for a, b in zip(result["bbox"], other["bbox"])))
        worst.add("score", abs(result["score"] - other["score"]))
        if "segmentation" in result:
            different, pixels = differing_pixels(result["segmentation"], other["segmentation"])
            differing, total = differing + different, total + pixels
    if total:
        worst.add("pixels", differing / total)
    return f"{len(ours)} objects, {differing} of {total} pixels of masks differ"


def average_precisions(annotations, results):
    """AP of boxes and, where there are some, of masks."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    aps = []
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        has_masks = all("segmentation" in o for o in [*truth.anns.values(), results[0]])
        for kind in ["bbox"] + ["segm"] * has_masks:
            own = [{k: v for k, v in r.items() if kind == "bbox" or k != "bbox"} for r in results]
            of = COCOeval(truth, truth.loadRes(own), kind)
            of.evaluate()
            of.accumulate()
            of.summarize()
            aps.append(float(of.stats[0]))
    return aps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("annotations", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, help="a file for the net's own detections")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, worst = module_of(args.export).load(args.export), Worst()
    if not args.annotations:
        sys.exit(worst.report(compare_segments(net, args.run, args.images, worst)))
    annotations = json.loads(args.annotations.read_text())
    ours = json.loads((args.run / "detections.json").read_text())
    theirs = results_of(net, annotations, args.images)
    counted = f"{len(annotations['images'])} images, {compare_objects(ours, theirs, worst)}"
    if args.out:
        args.out.write_text(json.dumps(theirs))
    if ours and theirs:
        aps = [average_precisions(args.annotations, results) for results in (ours, theirs)]
        print("AP of the program and of model.py:", *aps)
        for a, b in zip(*aps):
            worst.add("AP", abs(a - b))
    sys.exit(worst.report(counted))


if __name__ == "__main__":
    main()
