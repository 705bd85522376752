"""The ratio table: rows, what they are held to, and how they are printed."""

import math
import statistics
from typing import NamedTuple

# Gate, goal and stretch of the ratio engine : PyTorch, by device and row.
GOALS = {
    "cuda": {
        "1": (1.3, 1.7, 2.0), "2": (1.8, 2.4, 2.8), "3": (1.2, 1.6, 1.9), "4": (1.3, 1.8, 2.2),
        "5": (1.2, 1.7, 2.0), "6": (1.3, 1.7, 2.0), "7 fprop": (0.8, 1.0, 1.15),
        "7 dgrad": (0.75, 0.95, 1.1), "7 wgrad": (0.7, 0.9, 1.0), "8": (1.2, 1.5, 1.8),
        "9": (0.85, 0.95, 1.0), "10": (0.8, 0.9, 0.95), "11": (8, 15, 22), "12": (4, 8, 12),
        "13": (0.02, 0.01, 0.007), "15": (3, 8, 9),
    },
    "cpu": {"14 fp32": (0.9, 1.2, 1.4), "14 bf16": (0.7, 1.0, 1.2), "15": (3, 8, 9)},
}  # fmt: skip

# Least milliseconds on an H200 (790 TFLOP/s, 4.3 TB/s) of preset data at batch 256, with batch
# norm's sums and ReLU's masks in the convolutions' epilogues. Below 45 % of them a ratio says
# nothing but that the other side was slow that day.
FLOORS = {"1": 124.3, "3": 53.3, "4": 9.2, "5": 18.7, "6": 18.6}
LEAST_OF_FLOOR = 0.45


class Found(NamedTuple):
    """One row in one round. `rate`: more is better (else less is). `ratios` by variant where
    they are not simply those of the values. Without `engine`, `reason` says why."""

    row: str
    quantity: str
    unit: str
    engine: float | None
    peers: dict
    rate: bool = False
    ratios: dict | None = None
    reason: str = ""

    def ratio(self, variant):
        if self.ratios:
            return self.ratios[variant]
        mine, theirs = self.engine, self.peers[variant]
        return mine / theirs if self.rate else theirs / mine


def geomean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values))


def missing(row, quantity, reason):
    return Found(row, quantity, "", None, {}, reason=reason)


def number(x):
    return f"{x:.3g}" if abs(x) < 100 else f"{x:.0f}"


def verdict(row, device, values, engine_ms=None):
    """Of what each round found. Where rounds differ in what they reach, nothing is concluded.
    `engine_ms` where there is a floor to hold it against."""
    goals = GOALS[device].get(row)
    if not goals:
        return "–"
    if engine_ms and FLOORS[row] / engine_ms < LEAST_OF_FLOOR:
        return f"fails: {FLOORS[row] / engine_ms:.0%} of the floor"

    def reached(value):
        within = (lambda goal: value <= goal) if row == "13" else (lambda goal: value >= goal)
        names = [name for name, goal in zip(("gate", "goal", "stretch"), goals) if within(goal)]
        return names[-1] if names else "below the gate"

    found = [reached(value) for value in sorted(values, reverse=row == "13")]
    if len(values) == 1:
        return f"{found[0]} in one round"
    return found[0] if found[0] == found[-1] else f"undecided: {found[0]} to {found[-1]}"


def goal_text(row, goal):
    return f"{goal:.1%}" if row == "13" else f"{goal:g}x"


def fastest(rounds):
    """PyTorch's fastest variant by the medians of the rounds, and its median."""
    seen = [f.peers for f in rounds if f.peers]
    if not seen:
        return None, None
    typical = {v: statistics.median(p[v] for p in seen if v in p) for v in seen[0]}
    best = (max if rounds[0].rate else min)(typical, key=typical.get)
    return best, typical[best]


def summary(rounds, device, floors):
    """A row of the table, of what the rounds found. `floors`: the floors hold here."""
    row, quantity, unit = rounds[0][:3]
    variant, theirs = fastest(rounds)
    cells = {"#": row, "quantity": quantity, "engine": "not measured", "PyTorch": "–"}
    cells |= {"ratio": "–", "each round": "–"}
    goals = GOALS[device].get(row)
    names = ("gate", "goal", "stretch")
    cells |= dict(zip(names, (goal_text(row, g) for g in goals) if goals else "–––"))
    if variant:
        cells["PyTorch"] = f"{number(theirs)} {unit} ({variant})"
    measured = [f for f in rounds if f.engine is not None]
    if not measured:
        return cells | {"verdict": rounds[0].reason}
    mine = statistics.median(f.engine for f in measured)
    cells["engine"] = f"{number(mine)} {unit}"
    ratios = [f.ratio(variant) for f in measured if variant in f.peers]
    if ratios:
        cells["ratio"] = f"{statistics.median(ratios):.2f}x"
        cells["each round"] = " ".join(f"{r:.2f}" for r in ratios)
    # A share is judged by itself.
    values = [f.engine / 100 for f in measured] if row == "13" else ratios
    engine_ms = mine if floors and row in FLOORS else None
    return cells | {"verdict": verdict(row, device, values, engine_ms) if values else "–"}


def convolutions(each_shape):
    """A row for each shape, of the rounds' (engine, PyTorch) milliseconds by shape and pass."""
    rows = {}
    for (shape, name), rounds in each_shape.items():
        n, h, w, cin, cout, k, s = shape
        macs = n * -(-h // s) * -(-w // s) * k * k * cin * cout
        mine, theirs = (statistics.median(r[i] for r in rounds) for i in (0, 1))
        row = rows.setdefault(shape, {"N,H,W,CIN,COUT,K,STRIDE": ",".join(map(str, shape))})
        row[f"{name} ms"], row[f"PyTorch {name} ms"] = f"{mine:.3f}", f"{theirs:.3f}"
        row[f"{name} GMAC/s"], row[f"{name} ratio"] = f"{macs / mine / 1e6:.1f}", f"{theirs / mine:.2f}x"
    heads = max(rows.values(), key=len, default={})
    # Nobody needs the gradient of the images.
    return [{head: row.get(head, "") for head in heads} for row in rows.values()]


def text(rows, markdown):
    heads = list(rows[0])
    lines = [heads] + [[row[h] for h in heads] for row in rows]
    if markdown:
        body = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([body[0], "|" + "---|" * len(heads), *body[1:]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads) - 1)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths)), line[-1]]) for line in lines
    )
