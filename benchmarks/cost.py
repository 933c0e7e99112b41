"""Seconds of every removal at its defaults, as multiples of one plain fine-tuning epoch, in turn in one run.

OMP_NUM_THREADS=1 python benchmarks/cost.py DATA

DATA is a folder with `keywords10`. Run it on a machine that does nothing else.
"""

import json
import sys
import time
from pathlib import Path

import torch

from closesesame import __version__
from closesesame.bench.table import host
from closesesame.core.disk import write_whole
from closesesame.data import load_splits
from closesesame.models import ResNet
from closesesame.removal import FT, REMOVALS
from closesesame.training import Training, train

FRACTION = 0.05
PUBLISHED_EPOCHS = 100
"""Length of fine-tuning in BackdoorBench, arXiv:2206.12654, in passes over the clean set."""


def main() -> None:
    """Trains one model, times plain epochs, then each removal once; writes after each."""
    data = load_splits(Path(sys.argv[1]) / "keywords10").train
    clean = data.sample(FRACTION, 0)
    started = time.perf_counter()
    model = train(ResNet(), data, Training(), seed=0)
    training = time.perf_counter() - started
    short, long = (FT(epochs=epochs).remove(model, clean, 0).seconds for epochs in (10, 110))
    epoch = (long - short) / 100
    rows = []
    for name in REMOVALS:
        method = REMOVALS.make(name)
        repair = method.remove(model, clean, 0)
        rows.append(
            {
                "removal": name,
                "clean_clips": len(clean),
                "seconds": repair.seconds,
                "plain_epochs": repair.seconds / epoch,
                "times_a_published_run": repair.seconds / epoch / PUBLISHED_EPOCHS,
                "times_the_training": repair.seconds / training,
                "says_in_list": method.cost,
            }
        )
        content = {
            "recipe": "cost",
            "about": f"A plain fine-tuning epoch took {epoch:.3f} s, the training of the model "
            f"{training:.1f} s; a published run is {PUBLISHED_EPOCHS} plain epochs.",
            "version": __version__,
            "threads": torch.get_num_threads(),
            "host": host(),
            "rows": rows,
        }
        write_whole(json.dumps(content, indent=1) + "\n", Path(__file__).parent / "results" / "cost.json")
        print(name, f"{repair.seconds:.1f}", flush=True)


if __name__ == "__main__":
    main()
