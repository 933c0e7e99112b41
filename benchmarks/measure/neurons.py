"""GN-FT's observation, on victims and clean models of a store: which neurons have the steep gradients?

python -m benchmarks neurons RECIPE DATA STORE

The arguments are those of a finished `sesame bench run RECIPE --data DATA --store STORE`.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import torch

from closesesame.bench.cells import JudgeCell
from closesesame.bench.grid import open_store
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.recipe import read_recipe
from closesesame.bench.results import write_measured
from closesesame.bench.stages import JUDGE, cell_of, plan
from closesesame.bench.tasks import exam_of
from closesesame.evaluation import neurons_of
from closesesame.models import load_model

from . import RESULTS

CLIPS, CHANNELS = 50, 1000
FIELDS = ("data", "model", "attack", "rate", "seed")
OUT = RESULTS / "neurons.json"


def main() -> None:
    """One row a model and trigger, written as soon as it is known; what is there is kept."""
    torch.set_num_threads(1)
    recipe, data, folder = map(Path, sys.argv[1:4])
    wanted = {job.id for job in plan(read_recipe(recipe), data)}
    store, artifacts = open_store(folder), ArtifactStore(folder)
    rows = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    known = {tuple(row[field] for field in FIELDS) for row in rows}
    for found in store.rows(JUDGE):
        cell = cell_of(found.job)
        assert isinstance(cell, JudgeCell)
        if found.job.id not in wanted or cell.method is not None:
            continue
        key = (
            cell.data.entry.name,
            cell.labels["model"],
            cell.labels["attack"],
            cell.attack.rate,
            cell.seed,
        )
        if found.state != "done" or key in known:
            continue
        model = load_model(artifacts.artifact(cell.judged))
        neurons = neurons_of(model, exam_of(cell, artifacts), CLIPS, CHANNELS)
        medians, counts = neurons.medians(), Counter(neurons.kinds())
        unit = medians["clean"] or float("nan")
        rows.append(
            dict(zip(FIELDS, key, strict=True))
            | {"clean": f"{unit:.2g}"}
            | {
                f"{kind}_to_clean": None if value is None else value / unit
                for kind, value in medians.items()
                if kind != "clean"
            }
            | {"channels": ", ".join(f"{kind} {number}" for kind, number in counts.items())}
        )
        write_measured(OUT, rows)
        print(key, medians, flush=True)
