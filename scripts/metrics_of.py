"""The metrics of a run's folder, for scripts/to-wandb and scripts/to-mlflow."""

import json
import time


def flat(table, prefix="", numbers_only=True):
    """A table without tables inside: `a.b` for b in a; of its values the numbers, or all."""
    found = {}
    for name, value in table.items():
        if isinstance(value, dict):
            # A net's loss is a number of that step alone: the supernet has thousands.
            if name != "losses":
                found |= flat(value, f"{prefix}{name}.", numbers_only)
        elif isinstance(value, (int, float)) or not numbers_only:
            found[prefix + name] = value
    return found


def lines(run, follow):
    """Each step's line; with `follow` until the run is no longer running. A run that went on from
    an earlier step is read from its beginning the next time."""
    path, at, last = run / "metrics.jsonl", 0, -1
    while True:
        running = json.loads((run / "status.json").read_text())["state"] == "running"
        with path.open() as file:
            if path.stat().st_size < at:
                at = 0
            file.seek(at)
            while (text := file.readline()).endswith("\n"):
                at = file.tell()
                line = json.loads(text)
                if line["step"] > last:
                    last = line["step"]
                    yield line
        if not (follow and running):
            return
        time.sleep(5)
