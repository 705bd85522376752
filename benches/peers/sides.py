"""Runs either side's programs and reads what they measured."""

import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

from places import BIN

HERE = pathlib.Path(__file__).resolve().parent


class Missing(Exception):
    """Something could not be measured; the text says why."""


class Sides:
    def __init__(self, device, threads, precision, shape_seconds, bin=BIN):
        self.device, self.threads, self.precision = device, threads, precision
        self.shape_seconds = shape_seconds
        self.bin, self.commands, self.torch = pathlib.Path(bin), {}, None

    def run(self, command):
        command = [str(word) for word in command]
        self.commands[told(command)] = None
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = [x for x in done.stderr.splitlines() if x.strip()] or ["no message"]
            first = next((x for x in lines if x.startswith("error")), lines[-1])
            program = " ".join(pathlib.Path(w).name for w in command[:2])
            raise Missing(f"{program} ended with {done.returncode}: {first}")
        return done.stdout

    def peer(self, script, *args, on_device=True):
        """A script of this folder; returns what it printed."""
        where = ["--device", self.device, "--threads", self.threads] if on_device else []
        found = json.loads(self.run([sys.executable, HERE / f"{script}.py", *where, *args]))
        self.torch = found["torch"]
        return found

    def bench(self, verb, *args, on_device=True, precision=None):
        """`bench VERB`; returns the JSON that it wrote."""
        where = ["--device", self.device, "--threads", self.threads]
        where += ["--precision", precision or self.precision]
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "out.json")
            words = [*(where if on_device else []), *args]
            self.run([self.bin / "bench", verb, *words, "--json", out])
            if not out.exists():
                raise Missing(f"bench {verb} wrote no JSON")
            return json.loads(out.read_text())

    def step(self, preset, batch, queue, archs, iterations, precision=None, words=()):
        words = ["--preset", preset, "--batch", batch, "--iterations", iterations, *words]
        words += ["--queue", queue] if queue else []
        words += ["--archs", ",".join(archs)] if archs else []
        return self.bench("step", *words, precision=precision)

    def kernels(self, filter, *args):
        """Rows of `bench kernels` whose names match."""
        words = ["--filter", filter, "--seconds", self.shape_seconds, *args]
        found = self.bench("kernels", *words)["benchmarks"]
        # The optimizer's values are f32 whatever the nets compute in.
        kind = "/f32" if self.precision == "fp32" else "/bf16"
        fits = lambda row: row["op"] in ("sgd", "ema") or row["name"].endswith(kind)
        rows = [row for row in found if fits(row) and row.get("time_ms")]
        if not rows:
            raise Missing(f"bench kernels has no times of {filter}")
        return rows

    def conv(self, preset, batch, passes="fprop|dgrad|wgrad"):
        """Milliseconds of every convolution's passes, by (shape, pass)."""
        return self.by_shape(conv_of, f"^conv2d/.*/({passes})", preset, batch)

    def norm_relu(self, preset, batch):
        """Milliseconds of batch norm with ReLU, forward, by [N, H, W, C]."""
        return self.by_shape(norm_of, "^batch_norm/", preset, batch)

    def by_shape(self, key_of, filter, preset, batch):
        archs = "max,min,r50" if preset == "data" else "max,min"
        rows = self.kernels(filter, "--preset", preset, "--archs", archs, "--batch", batch)
        # Where a gradient is only ever added to that of another use, that counts.
        rows.sort(key=lambda row: " added/" not in row["name"])
        found = {key_of(row): row["time_ms"] for row in rows}
        found.pop(None, None)
        return found


def told(command):
    """A command as one would type it, without the folders of this machine."""
    program, *words = command
    words = [w for w, before in zip(words, command) if "--bin" not in (w, before)]
    words = [f"benches/peers/{pathlib.Path(w).name}" if w.endswith(".py") else w for w in words]
    words = ["OUT.json" if w.endswith("/out.json") else w for w in words]
    program = "python" if program == sys.executable else pathlib.Path(program).name
    return shlex.join([program, *words])


def dimensions(row):
    """All numbers of the shapes of a row's inputs."""
    return [int(n) for n in re.findall(r"\d+", row["shape"])]


NHWC = r"\[?(\d+)\D+(\d+)\D+(\d+)\D+(\d+)\]?"
CONV = re.compile(rf"conv2d/(\d+)x\d+ stride (\d+), {NHWC} to (\d+).*/(fprop|dgrad|wgrad)(?: added)?/\w+")
NORM = re.compile(rf"batch_norm/{NHWC} of \d+(?:, groups of \d+)?, relu/forward/\w+")


def norm_of(row):
    """Shape of `batch_norm/8x56x56x48 of 80, groups of 4, relu/forward/f32`; None for others."""
    match = NORM.fullmatch(row["name"])
    return match and tuple(map(int, match.groups()))


def conv_of(row):
    """(shape, pass) of `conv2d/3x3 stride 2, 8x56x56x48 to 64 of 80x80/fprop/f32`; None for
    other names."""
    match = CONV.fullmatch(row["name"])
    if not match:
        return None
    k, stride, n, h, w, cin, cout = map(int, match.groups()[:7])
    return (n, h, w, cin, cout, k, stride), match[8]
