"""Seconds of every removal at its defaults, as multiples of one plain fine-tuning step, in turn in one run.

OMP_NUM_THREADS=1 python -m benchmarks cost DATA

DATA is a folder with `keywords10`. A removal that trains is run at two short lengths; what it takes at its
own length follows from the line through both. Run it on a machine that does nothing else.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch

from closesesame.bench.protocol import Protocol
from closesesame.bench.results import write_measured
from closesesame.data import load_splits
from closesesame.models import ResNet
from closesesame.removal import FT, REMOVALS, Removal
from closesesame.training import Training, train

from . import RESULTS

FRACTION = 0.05
SHARES = (0.02, 0.06)
"""Of all counts of steps of a removal, at which it is run."""


def shortened(removal: Removal, share: float) -> Removal:
    """The removal with all its counts of steps, but for those of rounds and ascents, cut to a share."""
    counts = {name: value for name, value in removal.settings().items() if name.endswith("steps")}
    inner = {"ascent_steps", "fixed_point_steps"}
    short = {name: max(2, round(share * n)) for name, n in counts.items() if n and name not in inner}
    return removal.model_copy(update=short)


def seconds_of(removal: Removal, model: torch.nn.Module, clean: Any) -> float:
    """At its defaults: measured if it does not train, else from two short runs."""
    if "steps" not in type(removal).model_fields:
        return removal.remove(model, clean, 0).seconds
    low, high = (shortened(removal, share).remove(model, clean, 0).seconds for share in SHARES)
    return low + (high - low) * (1 - SHARES[0]) / (SHARES[1] - SHARES[0])


def main() -> None:
    """Trains one model, times a plain step, then each removal; writes after each."""
    splits = load_splits(Path(sys.argv[1]) / "keywords10")
    clean = Protocol().clean_examples(splits, FRACTION, 0)
    started = time.perf_counter()
    model = train(ResNet(), splits.train, Training(precision="fp32"), seed=0)
    training = time.perf_counter() - started
    short, long = (FT(steps=steps).remove(model, clean, 0).seconds for steps in (10, 60))
    step = (long - short) / 50
    rows = []
    for name in REMOVALS:
        method = REMOVALS.make(name)
        seconds = seconds_of(method, model, clean)
        rows.append(
            {
                "removal": name,
                "clean_clips": len(clean),
                "steps": getattr(method, "steps", None),
                "seconds": seconds,
                "plain_steps": seconds / step,
                "times_the_training": seconds / training,
                "says_in_list": method.cost,
            }
        )
        about = (
            f"From short runs; threads: {torch.get_num_threads()}. A plain fine-tuning step took "
            f"{step:.3f} s, the training of the model {training:.1f} s."
        )
        write_measured(RESULTS / "cost.json", rows, about)
        print(name, f"{seconds:.1f}", flush=True)
