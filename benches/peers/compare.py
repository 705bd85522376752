"""Runs engine's and PyTorch's training iteration in turn and prints the ratio of each part.

    cargo build --release
    python benches/peers/compare.py --preset tiny --batch 128 --queue 4096
    python benches/peers/compare.py --preset data --batch 16 --queue 65536 \
        --archs s64-w64.128.256.512-d3.4.6.3 --iterations 2 --rounds 2

Both sides get the same architectures, batch, queue and number of threads. A ratio above 1 means
that engine is faster.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "target" / "release"


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--preset", default="tiny")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--queue", type=int, default=4096)
    p.add_argument("--archs", help="comma-separated IDs (default: those of step 0)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--iterations", type=int, default=10)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--independent", action="store_true", help="see step.py")
    a = p.parse_args()
    shown = run([BIN / "engine", "config", "show", "--preset", a.preset, "--json"])
    hidden = json.loads(shown)["config"]["moco"]["hidden"]
    with tempfile.TemporaryDirectory() as tmp:
        space, ours = pathlib.Path(tmp, "space.json"), pathlib.Path(tmp, "ours.json")
        space.write_text(run([BIN / "engine", "space", "show", a.preset, "--json"]))
        rows = []
        for _ in range(a.rounds):
            engine = [BIN / "bench", "step", "--device", "cpu", "--preset", a.preset]
            engine += ["--batch", a.batch, "--queue", a.queue, "--threads", a.threads]
            engine += ["--iterations", a.iterations, "--json", ours]
            engine += ["--archs", a.archs] if a.archs else []
            run([str(x) for x in engine])
            mine = json.loads(ours.read_text())
            peer = [sys.executable, ROOT / "benches/peers/step.py", "--space", space]
            peer += ["--batch", a.batch, "--queue", a.queue, "--threads", a.threads]
            peer += ["--iterations", a.iterations, "--hidden", hidden]
            peer += ["--archs", ",".join(mine["archs"])]
            peer += ["--independent"] if a.independent else []
            rows.append((mine, json.loads(run([str(x) for x in peer]))))
    parts = [("iteration", lambda r: r["iteration_ms"]), ("teacher", lambda r: r["parts"]["teacher"])]
    for k, arch in enumerate(rows[0][0]["archs"]):
        parts.append((f"student {arch}", lambda r, k=k: r["parts"]["student"][k]))
    parts.append(("optimizer", lambda r: r["parts"]["optimizer"]))
    print(f"{a.preset}, batch {a.batch}, queue {a.queue}, {a.threads} threads, fp32")
    print(f"{'':44} {'engine ms':>10} {'PyTorch ms':>10} {'ratio':>6}  (each round)")
    for name, part in parts:
        mine, peer = ([part(r[i]) for r in rows] for i in (0, 1))
        ratios = [y / x for x, y in zip(mine, peer)]
        each = " ".join(f"{r:.2f}" for r in ratios)
        m, y, r = statistics.median(mine), statistics.median(peer), statistics.median(ratios)
        print(f"{name:44} {m:10.1f} {y:10.1f} {r:6.2f}  ({each})")


if __name__ == "__main__":
    main()
