"""What compare.py measures: a method for each group of rows."""

import json
import sys

import conv
import machine
import table
from net import R50, Preset
from sides import Missing, Sides, dimensions, told
from table import Found, geomean


def name_of(precision, compiled):
    return f"{precision} {'compiled' if compiled == 'regional' else 'eager'}"


class Comparison:
    """A method for each group of rows; each yields what one round found."""

    def __init__(self, a):
        self.a, self.cuda = a, a.device == "cuda"
        self.precision = "bf16" if self.cuda else "fp32"
        self.shape_seconds = a.shape_seconds or (0.3 if self.cuda else 0.1)
        words = a.device, a.threads, self.precision, self.shape_seconds
        self.sides = Sides(*words, a.bin)
        self.preset = Preset(a.preset, a.bin)
        self.batch = a.batch or self.preset.train["batch"]
        self.queue = a.queue or self.preset.own["queue"]
        self.iterations = a.iterations or (20 if self.cuda else 10)
        self.archs = a.archs.split(",") if a.archs else None
        self.compiles = ["none", "regional"] if self.cuda or a.compiled else ["none"]
        precisions = ["bf16", "fp16"] if self.cuda else ["fp32"]
        self.variants = [(p, c) for p in precisions for c in self.compiles]
        self.same = ["--preset", a.preset, "--bin", a.bin]
        self.iteration = None
        self.convs, self.each_shape = {}, {}

    def peer_nets(self, script, variants, archs, iterations, *args):
        """What a script found of nets, by variant; a variant that fails is named and left out."""
        found, why = {}, None
        for precision, compiled in variants:
            words = ["--precision", precision, "--compile", compiled, "--archs", ",".join(archs)]
            try:
                name = name_of(precision, compiled)
                found[name] = self.sides.peer(script, *args, *words, "--iterations", iterations)
            except Missing as e:
                why = e
                print(f"left out: {e}", file=sys.stderr)
        if not found:
            raise Missing(str(why))
        return found

    def step(self):
        """Algorithm 1 and its parts."""
        a, preset = self.a, self.preset
        mine = self.sides.step(a.preset, self.batch, self.queue, self.archs, self.iterations)
        self.archs = mine["archs"]
        args = [*self.same, "--batch", self.batch, "--queue", self.queue, "--bn-group", a.bn_group]
        steps = lambda variants, *words: self.peer_nets(
            "step", variants, self.archs, self.iterations, *args, *words
        )
        peers, literal = steps(self.variants), steps(self.variants[:1], "--schedule", "literal")
        whole = lambda found: {v: r["iteration_ms"] for v, r in found.items()}
        part = lambda get: {v: get(r["parts"]) for v, r in peers.items()}
        parts, total = mine["parts"], mine["iteration_ms"]
        self.iteration = mine, peers
        yield Found("1", f"iteration of {a.preset}, batch {self.batch}", "ms", total, whole(peers))
        yield Found("2", "same students, literal schedule", "ms", total, whole(literal))
        for k, arch in enumerate(self.archs):
            largest = arch == preset.max
            row, title = ("3", "max-net step") if largest else ("", f"student {arch}")
            yield Found(row, title, "ms", parts["student"][k], part(lambda p: p["student"][k]))
        yield Found("6", "teacher forward", "ms", parts["teacher"], part(lambda p: p["teacher"]))
        optimizer = part(lambda p: p["optimizer"])
        yield Found("", "optimizer, queue", "ms", parts["optimizer"], optimizer)

    def methods(self):
        """Algorithm 1 over every method, the same students of step 0 each."""
        a = self.a
        for method in ("moco", "byol", "ressl", "densecl"):
            words = ["--method", method]
            mine = self.sides.step(a.preset, self.batch, None, self.archs, self.iterations, words=words)
            args = [*self.same, "--batch", self.batch, "--bn-group", a.bn_group, *words]
            peers = self.peer_nets("step", self.variants, mine["archs"], self.iterations, *args)
            whole = {v: r["iteration_ms"] for v, r in peers.items()}
            title = f"iteration of {a.preset} with {method}"
            yield Found(f"16 {method}", title, "ms", mine["iteration_ms"], whole)

    def alone(self, preset, batch, archs, iterations, variants, precision=None):
        """Steps of nets alone: engine's and, by variant, PyTorch's milliseconds of each."""
        known = Preset(preset, self.a.bin)
        queue = self.a.queue or known.own["queue"]
        mine = self.sides.step(preset, batch, queue, archs, iterations, precision)
        args = ["--preset", preset, "--bin", self.a.bin, "--batch", batch, "--queue", queue]
        args += ["--independent", "--teacher", known.min]
        peers = self.peer_nets("step", variants, archs, iterations, *args)
        for k in range(len(archs)):
            theirs = {v: r["parts"]["student"][k] for v, r in peers.items()}
            yield mine["parts"]["student"][k], theirs

    def nets(self):
        rows = [("4", "min-net step", self.preset.min)]
        if self.cuda and self.a.preset == "data":
            rows.append(("5", "R50 step", R50))
        archs = [arch for _, _, arch in rows]
        found = self.alone(self.a.preset, self.batch, archs, self.iterations, self.variants)
        for (row, title, _), (mine, theirs) in zip(rows, found):
            yield Found(row, title, "ms", mine, theirs)

    def r50(self):
        """On the CPU ResNet-50 at 224×224, whatever the preset."""
        if self.cuda:
            return
        batch, iterations = self.a.r50_batch, max(2, self.iterations // 3)
        rate = lambda ms: batch / ms * 1e3
        for precision in ("fp32", "bf16"):
            variants = [(precision, c) for c in self.compiles]
            both = self.alone("data", batch, [R50], iterations, variants, precision)
            ((mine, theirs),) = both
            found = {v: rate(ms) for v, ms in theirs.items()}
            title = f"R50 step, batch {batch}, both in {precision}"
            yield Found(f"14 {precision}", title, "img/s", rate(mine), found, rate=True)

    def shape_words(self):
        words = ["--batch", self.batch, "--precision", self.precision]
        return [*self.same, *words, "--seconds", self.shape_seconds]

    def conv(self):
        mine, why, words = {}, "no shape in common", self.shape_words()
        try:
            mine = self.convs = self.sides.conv(self.a.preset, self.batch)
        except Missing as e:
            why = str(e)
        rows = self.sides.peer("conv", *words)["rows"]
        passes = ((r["shape"], name, t) for r in rows for name, t in r["passes"].items())
        theirs = {(tuple(shape), name): t["median_ms"] for shape, name, t in passes}
        variant = name_of(self.precision, "none")
        for name in ("fprop", "dgrad", "wgrad"):
            of_pass = [key for key in theirs if key[1] == name]
            both = [key for key in of_pass if key in mine]
            title = f"{name}: sum, geomean of {len(both) or len(of_pass)} shapes"
            if not both:
                total = {variant: sum(theirs[key] for key in of_pass)}
                yield Found(f"7 {name}", title, "ms", None, total, reason=why)
                continue
            for key in both:
                self.each_shape.setdefault(key, []).append((mine[key], theirs[key]))
            ratio = geomean(theirs[key] / mine[key] for key in both)
            sums = [sum(times[key] for key in both) for times in (mine, theirs)]
            peers, ratios = {variant: sums[1]}, {variant: ratio}
            yield Found(f"7 {name}", title, "ms", sums[0], peers, ratios=ratios)

    def fused(self):
        """Engine's two ops one after the other, where it has no kernel for both."""
        title, mine, why = "conv + BN + ReLU forward", {}, "no shape in common"
        try:
            convs = self.convs or self.sides.conv(self.a.preset, self.batch, "fprop")
            norms = self.sides.norm_relu(self.a.preset, self.batch)
            for (shape, name), ms in convs.items():
                norm = norms.get(conv.output(shape))
                if name == "fprop" and norm:
                    mine[shape] = ms + norm
        except Missing as e:
            why = str(e)
        peers = {}
        for compiled in self.compiles:
            words = [*self.shape_words(), "--compile", compiled]
            rows = self.sides.peer("fused", *words)["rows"]
            times = {tuple(r["shape"]): r["median_ms"] for r in rows}
            both = times.keys() & mine.keys() if mine else times.keys()
            peers[name_of(self.precision, compiled)] = sum(times[s] for s in both)
        total = sum(mine[s] for s in both) if mine else None
        yield Found("8", f"{title}, {len(both)} shapes", "ms", total, peers, reason=why)

    def limits(self):
        size, mine, why = 8192 if self.cuda else 2048, None, ""
        try:
            (row,) = self.sides.kernels("^product/", "--product", size)
            mine = row["flops"] / row["time_ms"] / 1e9
        except Missing as e:
            why = str(e)
        found = self.sides.peer("limits", "--precision", self.precision, "--size", size)
        gemm = {name_of(self.precision, "none"): found["gemm"]["tflops"]}
        yield Found("9", f"GEMM {size}³", "TFLOP/s", mine, gemm, rate=True, reason=why)
        mine, why = None, ""
        try:
            rows = self.sides.kernels("^(add|relu|batch_norm|sgd|ema)/", *self.kernel_sizes())
            mine = geomean(r["bytes_floor"] / r["time_ms"] / 1e6 for r in rows if r["bytes_floor"])
        except Missing as e:
            why = str(e)
        copy, title = {"copy": found["copy"]["gb_per_s"]}, "elementwise passes against a copy"
        yield Found("10", title, "GB/s", mine, copy, rate=True, reason=why)

    def kernel_sizes(self):
        return ["--preset", self.a.preset, "--archs", "max", "--batch", self.batch]

    def relation(self):
        """The largest maps that engine times, and the same in PyTorch."""
        title, words = "relation score of C2", ["--precision", self.precision, *self.same]
        mine, why = None, ""
        try:
            rows = self.sides.kernels("^relation/.*/student/", *self.kernel_sizes())
            row = max(rows, key=lambda r: dimensions(r)[1] * dimensions(r)[2])
            images, side, width, teacher, *_, student = dimensions(row)
            mine, title = row["time_ms"] / images, f"relation score of {side}x{width} positions"
            words += ["--maps", side, teacher, student]
        except Missing as e:
            why = str(e)
        peers = {}
        for compiled in self.compiles:
            found = self.sides.peer("relation", *words, "--compile", compiled)
            peers[name_of(self.precision, compiled)] = found["ms_per_image"]
        yield Found("11", title, "ms/img", mine, peers, reason=why)
        yield self.search()

    def search(self):
        """What scoring takes, of what it takes on fewer images for some subnets that engine
        draws; what is done once for all of them is not in it."""
        title, iterations = "700 subnets scored on 5,000 images, C2 to C5", 5
        images = ["--images", 512 if self.cuda else 64]
        words = ["--preset", self.a.preset, "--task", "det-fpn", "--iterations", iterations]
        try:
            mine = self.sides.bench("search", *words, *images)
            archs, args = mine["archs"], [*self.same, *images]
            theirs = self.peer_nets("search", self.variants, archs, iterations, *args)
        except Missing as e:
            return table.missing("12", title, str(e))
        minutes = lambda found: 700 * 5000 / found["images_subnets_per_s"] / 60
        peers = {variant: minutes(found) for variant, found in theirs.items()}
        return Found("12", title, "min", minutes(mine), peers)

    def share(self):
        """Of an iteration: InfoNCE of all students, optimizer and queue, moving average."""
        if not self.iteration:
            raise Missing("needs the group step")
        mine, peers = self.iteration
        words = ["--batch", self.batch, "--queue", self.queue, "--precision", self.precision]
        found = self.sides.peer("info_nce", *self.same, *words)
        students, name = len(self.archs), name_of(self.precision, "none")
        rest = students * found["info_nce"]["median_ms"] + found["ema"]["median_ms"]
        percent = lambda rest, r: 100 * (rest + r["parts"]["optimizer"]) / r["iteration_ms"]
        theirs = {name: percent(rest, peers[name])} if name in peers else {}
        share, why = None, ""
        try:
            if self.queue != self.preset.own["queue"]:
                raise Missing("bench kernels takes the preset's queue")
            rows = self.sides.kernels("^(info_nce|ema)/", *self.kernel_sizes())
            total = lambda op: sum(r["time_ms"] for r in rows if r["op"] == op)
            share = percent(students * total("info_nce") + total("ema"), mine)
        except Missing as e:
            why = str(e)
        yield Found("13", "InfoNCE + optimizer + EMA share", "%", share, theirs, reason=why)

    def loader(self):
        title = "two 224x224 views, one core"
        if not self.a.data:
            raise Missing("--data is not given")
        words = ["--data", self.a.data, "--seconds", self.a.seconds]
        mine = self.sides.bench("loader", *words, on_device=False)
        theirs = self.sides.peer("loader", *words, "--wall", on_device=False)
        peers = {"PIL": theirs["both_per_s"]}
        yield Found("15", title, "img/s", mine["both_per_s"], peers, rate=True)


ROWS_OF = {  # what is named where a whole group fails
    "step": ("1", "iteration"), "nets": ("4", "min-net step"), "r50": ("14 fp32", "R50 step"),
    "conv": ("7", "convolutions"), "fused": ("8", "conv + BN + ReLU forward"),
    "limits": ("9", "GEMM"), "relation": ("11", "relation score"),
    "share": ("13", "InfoNCE + optimizer + EMA share"), "loader": ("15", "loader, two views"),
    "methods": ("16", "iterations of the methods"),
}  # fmt: skip


def measure(comparison, groups, rounds):
    """What was found, by row: a list of a value each round."""
    found = {}
    for round in range(rounds):
        for group in groups:
            print(f"round {round + 1} of {rounds}: {group}", file=sys.stderr, flush=True)
            try:
                rows = list(getattr(comparison, group)())
            except Missing as e:
                rows = [table.missing(*ROWS_OF[group], str(e))]
            for row in rows:
                found.setdefault((row.row, row.quantity), []).append(row)
    order = lambda key: int(key[0].split()[0]) if key[0] else 3
    return [found[key] for key in sorted(found, key=order)]


def run(a, groups):
    """Measures groups of rows as the arguments say, prints the table and writes it."""
    facts = machine.facts(a.device, a.bin) | {"threads": a.threads}
    comparison = Comparison(a)
    found = measure(comparison, groups, a.rounds)
    facts["torch"] = comparison.sides.torch
    h200 = "H200" in facts.get("gpu", {}).get("name", "")
    floors = h200 and a.preset == "data" and comparison.batch == 256
    rows = [table.summary(rounds, a.device, floors) for rounds in found]
    about, shapes = machine.sentence(facts), table.convolutions(comparison.each_shape)
    print(about, table.text(rows, markdown=False), sep="\n\n")
    if a.shapes and shapes:
        print(f"\n{table.text(shapes, markdown=False)}")
    if a.markdown:
        commands = "\n".join(["```sh", *comparison.sides.commands, "```"])
        own = f"```sh\n{told([sys.executable, *sys.argv])}\n```"
        text = table.text(rows, markdown=True)
        a.markdown.write_text(f"{about}\n\n{own}\n\n{text}\n\nWhat it ran:\n\n{commands}\n")
    if a.out:
        result = {
            "machine": facts,
            "arguments": sys.argv[1:],
            "commands": list(comparison.sides.commands),
            "table": rows,
            "rounds": [[f._asdict() for f in rounds] for rounds in found],
            "convolutions": [[*key, pairs] for key, pairs in comparison.each_shape.items()],
        }
        a.out.write_text(json.dumps(result, indent=1, default=str) + "\n")
