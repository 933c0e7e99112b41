"""One epoch of the default victim, by precision and memory format, in turn in one run.

python -m benchmarks speed
"""

import json
import statistics
import time

import torch

from closesesame.bench.results import write_measured
from closesesame.core import machine
from closesesame.data.speech import synthetic_speech
from closesesame.models import ResNet
from closesesame.training import Training, fit

from . import RESULTS

RUNS = 3
KINDS = (("fp32", "contiguous"), ("fp32", "channels_last"), ("bf16", "contiguous"), ("bf16", "channels_last"))


def main() -> None:
    """Times every kind `RUNS` times, one after the other, and writes the medians."""
    data = synthetic_speech().train
    can = machine.has_bf16(torch.device("cpu"))
    kinds = [kind for kind in KINDS if can or kind[0] == "fp32"]
    seconds: dict[tuple[str, str], list[float]] = {kind: [] for kind in kinds}
    for number in range(RUNS + 1):
        for precision, memory_format in kinds:
            model = ResNet().build(data.classes, data.input_shape, data.sample_rate, seed=0)
            model.body.to(memory_format=getattr(torch, f"{memory_format}_format", torch.channels_last))  # type: ignore[call-overload]
            started = time.perf_counter()
            fit(model, data, Training(epochs=1, precision=precision), seed=0)
            if number:  # the first round warms up
                seconds[precision, memory_format].append(time.perf_counter() - started)
    base = statistics.median(seconds["fp32", "contiguous"])
    rows = [
        {
            "precision": precision,
            "memory_format": memory_format,
            "clips": len(data),
            "runs": RUNS,
            "threads": torch.get_num_threads(),
            "multiplies_in_bf16": can,
            "seconds": statistics.median(found),
            "times_as_fast": base / statistics.median(found),
        }
        for (precision, memory_format), found in seconds.items()
    ]
    write_measured(RESULTS / "speed_epoch.json", rows)
    print(json.dumps(rows, indent=1))
