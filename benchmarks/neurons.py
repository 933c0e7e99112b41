"""GN-FT's observation, on every victim and clean model of a store: which neurons have the steep gradients?

python benchmarks/neurons.py STORE

STORE is the folder of a finished `sesame bench run`.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import torch

from closesesame import __version__
from closesesame.bench.grid import open_store
from closesesame.bench.plan import SCORE
from closesesame.bench.table import host
from closesesame.bench.tasks import exam_of
from closesesame.bench.workplace import Workplace
from closesesame.core.disk import write_whole
from closesesame.evaluation import neurons_of
from closesesame.models import load_model

CLIPS = 50
OUT = Path(__file__).parent / "results" / "neurons.json"


def main() -> None:
    """One row a model and trigger, written as soon as it is known; what is there is kept."""
    folder = Path(sys.argv[1])
    store, workplace = open_store(folder), Workplace(folder)
    wanted = set(json.loads(store.description()["cells"]))
    rows = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    known = {(row["data"], row["model"], row["attack"], row["rate"]) for row in rows}
    for found in store.rows():
        about = found.job.payload
        if found.job.id not in wanted or found.job.task != SCORE or about["defence"] is not None:
            continue
        rate = about["attack"]["settings"].get("rate", 0.05)
        key = (about["data"]["name"], about["model"]["name"], about["attack_label"], rate)
        if found.state != "done" or key in known:
            continue
        neurons = neurons_of(
            load_model(workplace.artifact(about["judged"])), exam_of(about, workplace), CLIPS
        )
        medians, counts = neurons.medians(), Counter(neurons.kinds())
        backdoored, clean = medians["backdoored"], medians["clean"]
        rows.append(
            dict(zip(("data", "model", "attack", "rate"), key, strict=True))
            | {str(kind): value for kind, value in medians.items()}
            | {"backdoored_to_clean": backdoored / clean if backdoored and clean else None}
            | {"channels": ", ".join(f"{kind} {number}" for kind, number in counts.items())}
        )
        content = {"recipe": "neurons", "version": __version__, "host": host(), "rows": rows}
        write_whole(json.dumps(content, indent=1) + "\n", OUT)
        print(key, medians, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
