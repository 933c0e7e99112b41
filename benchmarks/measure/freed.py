"""One epoch of each model where memory that is freed goes back to the system, and where it is kept, in turn.

python -m benchmarks freed

Each epoch runs in a process of its own, after one that warms it up.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from closesesame.bench.results import write_measured
from closesesame.core.memory import keep_freed
from closesesame.data.speech import synthetic_speech
from closesesame.models import KWT, LSTMAttention, ResNet, SmallCNN
from closesesame.training import Training, fit

from . import RESULTS

RUNS = 3
MODELS = {kind.name: kind for kind in (ResNet, SmallCNN, KWT, LSTMAttention)}
WAYS = ("goes back", "is kept")


def epoch(name: str, way: str) -> dict[str, float]:
    """Trains for an epoch twice; the second one is measured."""
    if way == WAYS[1]:
        keep_freed()
    data = synthetic_speech().train
    model = MODELS[name]().build(data.classes, data.input_shape, data.sample_rate, seed=0)
    training = Training(epochs=1)
    fit(model, data, training, seed=0)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    fit(model, data, training, seed=0)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "seconds_of_the_system": after.ru_stime - before.ru_stime,
        "pages_cleared": after.ru_minflt - before.ru_minflt,
        "peak_mb": after.ru_maxrss / 1024,
    }


def main() -> None:
    """Measures every model both ways `RUNS` times, one after the other, and writes the medians."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(RUNS):
        for name in MODELS:
            for way in WAYS:
                words = [sys.executable, "-m", __name__, name, way]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                found.setdefault((name, way), []).append(json.loads(done.stdout))
    rows: list[dict[str, Any]] = []
    for (name, way), runs in found.items():
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        usual = statistics.median(run["seconds"] for run in found[name, WAYS[0]])
        speed = {"times_as_fast": usual / median["seconds"]}
        rows.append({"model": name, "freed_memory": way, "runs": RUNS, **median, **speed})
    write_measured(RESULTS / "speed_freed.json", rows)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    print(json.dumps(epoch(*sys.argv[1:])))
