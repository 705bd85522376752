"""Clocks and flags that the scripts beside this file share."""

import argparse
import json
import resource
import statistics
import time

import torch


def flags(description, **defaults):
    """A parser with the flags of every script here."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--threads", type=int, default=0, help="of the CPU; 0: all")
    p.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    p.set_defaults(**defaults)
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
    """How many sets of buffers calls should rotate through, so that no call finds its inputs in
    the second-level cache of a GPU. On the CPU one: layers do find theirs in its caches."""
    if device == "cpu":
        return 1
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return min(16, 1 + -(-2 * cache // max(bytes_each, 1)))


def times(calls, device, budget_s=0.3, least_calls=5):
    """Median and least milliseconds of a call; the calls are made in turn."""
    for call in (calls * 2)[: max(2, len(calls))]:
        call()
    clock, began, done = Clock(device), time.perf_counter(), 0
    if device == "cuda":
        torch.cuda.synchronize()
        # The GPU stands still while calls queue up, so that it never waits for one.
        torch.cuda._sleep(20_000_000)
    clock.mark("start")
    while done < least_calls or time.perf_counter() - began < budget_s and done < 2000:
        calls[done % len(calls)]()
        clock.mark("call")
        done += 1
    laps = [ms for _, ms in clock.laps()]
    return {"median_ms": statistics.median(laps), "min_ms": min(laps)}
