"""Clocks and flags that the scripts beside this file share."""

import argparse
import json
import resource
import statistics
import time

import torch

from places import BIN

# Calls that are queued on a GPU before it starts with them.
STRETCH = 100


COMMON = {
    "preset": {"default": "tiny"},
    "bin": {"default": BIN, "help": "folder of the program `engine`"},
    "batch": {"type": int, "help": "default: the preset's"},
    "queue": {"type": int, "help": "default: the preset's"},
    "compile": {"choices": ["none", "regional"], "default": "none"},
}


def flags(description, *names):
    """A parser with the flags of every script here, and with those of COMMON."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0, help="of the CPU; 0: all")
    p.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    for name in names:
        p.add_argument(f"--{name}", **COMMON[name])
    return p


def prepare(args):
    """Settings of PyTorch that a careful user would choose."""
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    if args.device == "cpu" and args.precision == "fp16":
        raise SystemExit("--precision is fp16, expected fp32 or bf16 on the CPU")


def dtype_of(precision):
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def finish(args, result):
    """Prints the result as one JSON object, with what it was measured on."""
    on_cuda = args.device == "cuda"
    facts = {
        "device": torch.cuda.get_device_name() if on_cuda else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": args.precision,
    }
    print(json.dumps(facts | result))


def peak_bytes(device):
    """Most memory in use: of the GPU, or of this whole process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Clock:
    """Marks on the device's time line, read at the end, so that nothing waits in between."""

    def __init__(self, device):
        self.device, self.marks = device, []

    def mark(self, name):
        if self.device == "cuda":
            at = torch.cuda.Event(enable_timing=True)
            at.record()
        else:
            at = time.perf_counter()
        self.marks.append((name, at))

    def laps(self):
        """(name, milliseconds since the mark before) for all marks but the first."""
        if self.device == "cuda":
            torch.cuda.synchronize()
            between = lambda a, b: a.elapsed_time(b)
        else:
            between = lambda a, b: (b - a) * 1e3
        pairs = zip(self.marks, self.marks[1:])
        return [(name, between(start, end)) for (_, start), (name, end) in pairs]


def copies(device, bytes_each):
    """How many sets of buffers calls should rotate through, so that none finds its inputs in the
    cache: as many as fill twice that of the GPU, or 64 MiB on the CPU, as `bench kernels` does."""
    cache = 64 << 20 if device == "cpu" else torch.cuda.get_device_properties(0).L2_cache_size
    return max(1, min(4096, -(-2 * cache // bytes_each)))


def rounds(laps, count):
    """Milliseconds of each of `count` rounds' parts by name, and of all as "total"."""
    each, found = len(laps) // count, []
    for i in range(count):
        parts = {"total": 0.0}
        for name, ms in laps[i * each : (i + 1) * each]:
            parts[name] = parts.get(name, 0.0) + ms
            parts["total"] += ms
        found.append(parts)
    return found


def times(calls, device, budget_s=0.3):
    """Median and least milliseconds of a call; the calls are made in turn, at least five."""
    for call in (calls * 2)[: max(2, len(calls))]:
        call()
    most = 2000
    if device == "cuda":
        # The host runs ahead, so the GPU's time for a call decides how many there are.
        alone = Clock(device)
        alone.mark("start")
        calls[0]()
        alone.mark("call")
        most = max(5, min(most, int(budget_s * 1e3 / alone.laps()[0][1])))
    clock, done, began = Clock(device), 0, time.perf_counter()
    while done < 5 or done < most and time.perf_counter() - began < budget_s:
        if device == "cuda" and done % STRETCH == 0:
            # The GPU stands still while calls queue up, so that it never waits for one.
            torch.cuda.synchronize()
            torch.cuda._sleep(20_000_000)
        if done % STRETCH == 0:
            clock.mark("start")
        calls[done % len(calls)]()
        clock.mark("call")
        done += 1
    laps = [ms for name, ms in clock.laps() if name == "call"]
    return {"median_ms": statistics.median(laps), "min_ms": min(laps)}
