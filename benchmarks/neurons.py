"""GN-FT's observation, on victims and clean models of a store: which neurons have the steep gradients?

python benchmarks/neurons.py RECIPE DATA STORE

The arguments are those of a finished `sesame bench run RECIPE --data DATA --store STORE`.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import torch

from closesesame import __version__
from closesesame.bench.grid import open_store
from closesesame.bench.plan import SCORE, plan
from closesesame.bench.queue.artifacts import Workplace
from closesesame.bench.recipe import read_recipe
from closesesame.bench.table import host
from closesesame.bench.tasks import exam_of
from closesesame.core.disk import write_whole
from closesesame.evaluation import neurons_of
from closesesame.models import load_model

CLIPS, CHANNELS = 50, 1000
FIELDS = ("data", "model", "attack", "rate", "seed")
OUT = Path(__file__).parent / "results" / "neurons.json"


def main() -> None:
    """One row a model and trigger, written as soon as it is known; what is there is kept."""
    recipe, data, folder = map(Path, sys.argv[1:4])
    wanted = {job.id for job in plan(read_recipe(recipe), data)}
    store, workplace = open_store(folder), Workplace(folder)
    rows = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    known = {tuple(row[field] for field in FIELDS) for row in rows}
    for found in store.rows(SCORE):
        about = found.job.payload
        if found.job.id not in wanted or about["defence"] is not None:
            continue
        rate = about["attack"]["all_settings"]["rate"]
        key = (about["data"]["name"], about["model"]["name"], about["attack_label"], rate, about["seed"])
        if found.state != "done" or key in known:
            continue
        model = load_model(workplace.artifact(about["judged"]))
        neurons = neurons_of(model, exam_of(about, workplace), CLIPS, CHANNELS)
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
        content = {"recipe": "neurons", "version": __version__, "host": host(), "rows": rows}
        write_whole(json.dumps(content, indent=1) + "\n", OUT)
        print(key, medians, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
