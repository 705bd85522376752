"""Checks that TensorBoard reads from a run what `metrics.jsonl` says of its logged steps:

    python tests/interop/events_agree.py RUN

Exits with 1 where a step is missing, there twice, or has another value.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

TAGS = ["loss", "lr", "grad_norm", "feature_std", "images_per_s", "data_wait_ms"]


def main():
    run = Path(sys.argv[1])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run / "tb"), size_guidance={SCALARS: 0})
    events.Reload()
    files = len(list((run / "tb").iterdir()))
    first = {"loss_first": [next(iter(line["losses"].values())) for line in lines]}
    expected = {tag: [line[tag] for line in lines] for tag in TAGS} | first
    assert sorted(events.Tags()["scalars"]) == sorted(expected), events.Tags()["scalars"]
    for tag, values in expected.items():
        found = events.Scalars(tag)
        steps = [event.step for event in found]
        assert steps == [line["step"] for line in lines], (tag, steps)
        assert [event.value for event in found] == [float(np.float32(v)) for v in values], tag
    print(f"  {len(expected)} tags of {len(lines)} steps agree, in {files} files")


if __name__ == "__main__":
    main()
