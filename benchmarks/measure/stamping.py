"""Clips stamped per second for every attack, on one thread, in turn in one run; and the cost of a trigger.

python -m benchmarks stamping
"""

import statistics
import time

import torch

from closesesame.attacks import ATTACKS
from closesesame.bench.results import write_measured
from closesesame.data.speech import synthetic_speech

from . import RESULTS

RUNS, CLIPS, EPOCHS = 3, 128, 2


def main() -> None:
    """Times every attack `RUNS` times over one-second clips, and writes the medians.

    Attacks that train a surrogate train it for `EPOCHS` passes: the stamping does not depend on it.
    """
    torch.set_num_threads(1)
    data = synthetic_speech().train
    clips = data.inputs[:CLIPS]
    rows = []
    for name, attack in ATTACKS.items():
        trains = "surrogate_epochs" in attack.model_fields
        made = ATTACKS.make(name, {"surrogate_epochs": EPOCHS} if trains else {})
        started = time.perf_counter()
        trigger = made.trigger(data, 0)
        made_s = time.perf_counter() - started
        trigger.stamp(clips[:64])  # warms up
        seconds = []
        for _ in range(RUNS):
            started = time.perf_counter()
            trigger.stamp(clips)
            seconds.append(time.perf_counter() - started)
        rows.append(
            {
                "attack": name,
                "clips_a_second": CLIPS / statistics.median(seconds),  # of one second each
                "making_the_trigger_s": made_s,
                "trains_a_surrogate": trains,
                "threads": 1,
            }
        )
        print(rows[-1], flush=True)
    write_measured(RESULTS / "speed_stamping.json", rows)
