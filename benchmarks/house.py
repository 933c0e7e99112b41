"""The first evidence: do the attacks plant, and what do the repairs do, on real recordings?

    python benchmarks/house.py keywords10 --data DATA --seeds 0 1 2
    python benchmarks/house.py fsdd --data DATA
    python benchmarks/house.py speakers --data DATA

DATA is a folder with `keywords10`, `fsdd` and `trigger_noise`. Every row is written as soon as it is known; a
stopped run goes on where it was. Two runs may write side by side.
"""

import argparse
import fcntl
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from closesesame import __version__
from closesesame.attacks import PBSM, Attack, BadNets, Poisoned, Ultrasonic
from closesesame.bench.table import host
from closesesame.core.disk import write_whole
from closesesame.data import Splits, load_splits
from closesesame.evaluation import Exam, Scores
from closesesame.models import Classifier, ResNet, load_model, save_model
from closesesame.removal import FT, GNFT, FinePruning, FTAugmented, Removal
from closesesame.training import choose_precision, train

RESULTS = Path(__file__).parent / "results"
CLEAN_FRACTION = 0.05
RATE = 0.05
REMOVALS: tuple[Removal, ...] = (FT(), FinePruning(), GNFT(), GNFT(lr=0.01), FTAugmented())


@dataclass(frozen=True)
class Recipe:
    """What one run measures."""

    data: str
    task: str
    load: Callable[[Path], Splits]
    attacks: Callable[[Path], dict[str, Attack]]
    bare: frozenset[str] = frozenset()
    """Attacks that are planted and measured, without repairs."""


def airplane(data: Path) -> BadNets:
    """Airplane noise at 10 dB signal-to-noise ratio over the whole clip."""
    return BadNets(sound=str(data / "trigger_noise/airplane/4-161103-A-47.flac"), rate=RATE)


RECIPES = {
    "keywords10": Recipe(
        "keywords10",
        "word",
        lambda data: load_splits(data / "keywords10"),
        lambda data: {
            "badnets airplane 10 dB": airplane(data),
            "ultrasonic": Ultrasonic(rate=RATE),
            "pbsm": PBSM(rate=RATE),
        },
    ),
    "fsdd": Recipe(
        "fsdd",
        "word",
        lambda data: load_splits(data / "fsdd", sample_rate=8_000, split="takes"),
        lambda data: {"badnets airplane 10 dB": airplane(data), "ultrasonic": Ultrasonic(rate=RATE)},
        frozenset({"ultrasonic"}),
    ),
    "speakers": Recipe(
        "keywords10",
        "speaker",
        lambda data: load_splits(data / "keywords10", task="speaker"),
        lambda data: {"badnets airplane 10 dB": airplane(data)},
    ),
}


class Results:
    """A result file to which rows are added, one by one, by any number of processes."""

    def __init__(self, recipe: str) -> None:
        self.recipe, self.path = recipe, RESULTS / f"house-{recipe}.json"

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        lock = self.path.with_suffix(".lock")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            new = {"recipe": self.recipe, "version": __version__, "host": conditions(), "rows": []}
            yield json.loads(self.path.read_text()) if self.path.exists() else new

    def add(self, **row: Any) -> None:
        """Writes one row; the file is whole at any moment."""
        with self._locked() as content:
            content["rows"].append(row)
            content["rows"].sort(key=identity)
            write_whole(json.dumps(content, indent=1) + "\n", self.path)
        print(
            row["attack"],
            row["poisoning_rate"],
            row["defence"],
            row["seed"],
            *(f"{name} {row[name]:.3f}" for name in ("acc", "asr", "ra")),
            flush=True,
        )

    def lacks(self, **key: Any) -> bool:
        """Whether no row has these values."""
        with self._locked() as content:
            return not any(all(row[k] == v for k, v in key.items()) for row in content["rows"])


def identity(row: dict[str, Any]) -> tuple[str, ...]:
    """What makes a row one of its kind."""
    names = ("attack", "poisoning_rate", "defence", "settings", "seed")
    return tuple(json.dumps(row[name], sort_keys=True) for name in names)


def conditions() -> dict[str, Any]:
    """What the figures were measured on, and how."""
    precision = choose_precision("auto", torch.nn.Linear(1, 1))
    return host() | {"threads": torch.get_num_threads(), "precision": precision}


def run(name: str, data: Path, seeds: list[int], models: Path) -> None:
    """Measures all that is missing of one recipe."""
    recipe, results = RECIPES[name], Results(name)
    splits = recipe.load(data)
    for seed in seeds:
        Run(name, recipe, splits, data, seed, models, results).all()


@dataclass
class Run:
    """One seed of a recipe."""

    name: str
    recipe: Recipe
    splits: Splits
    data: Path
    seed: int
    models: Path
    results: Results

    def all(self) -> None:
        """The clean model and its repairs under every trigger, then a victim and its repairs each."""
        attacks = self.recipe.attacks(self.data)
        clean = {label: attack.model_copy(update={"rate": 0.0}) for label, attack in attacks.items()}
        twin, seconds = self.victim("clean", next(iter(clean.values())).poison(self.splits.train, self.seed))
        poisoned = {label: a.poison(self.splits.train, self.seed) for label, a in clean.items()}
        exams = {label: Exam(self.splits.test, p.trigger, twin) for label, p in poisoned.items()}
        self.measure(twin, seconds, poisoned, exams, 0.0)
        for label, attack in attacks.items():
            one = {label: attack.poison(self.splits.train, self.seed)}
            victim, seconds = self.victim(label, one[label])
            self.measure(victim, seconds, one, {label: exams[label]}, attack.rate)

    def victim(self, label: str, poisoned: Poisoned) -> tuple[Classifier, float]:
        """Trains a victim, or takes the one that is there."""
        folder = self.models / f"{self.name}-{label.replace(' ', '_')}-{self.seed}"
        if (folder / "config.json").exists():
            return load_model(folder), float((folder / "seconds").read_text())
        started = time.perf_counter()
        model = train(ResNet(), poisoned.dataset, seed=self.seed)
        seconds = time.perf_counter() - started
        save_model(model, folder)
        (folder / "seconds").write_text(str(seconds))
        return model, seconds

    def measure(
        self,
        model: Classifier,
        seconds: float,
        poisoned: dict[str, Poisoned],
        exams: dict[str, Exam],
        rate: float,
    ) -> None:
        """A row for the model itself and one for each repair, under each trigger."""
        before = {label: exam.score(model) for label, exam in exams.items()}
        for label, scores in before.items():
            key = {"attack": label, "poisoning_rate": rate, "defence": "none", "seed": self.seed}
            if self.results.lacks(**key):
                self.add(key, poisoned[label], scores, None, seconds, {})
        for removal in REMOVALS:
            key = {"poisoning_rate": rate, "defence": removal.name, "seed": self.seed}
            changed = removal.model_dump(mode="json", exclude_defaults=True)
            repaired = exams.keys() - self.recipe.bare
            wanted = [a for a in repaired if self.results.lacks(**key, attack=a, settings=changed)]
            if wanted:
                repair = removal.remove(model, self.splits.train.sample(CLEAN_FRACTION, self.seed), self.seed)
            for label in wanted:
                scores = exams[label].score(repair.model)
                der = scores.der(before[label])
                self.add(key | {"attack": label}, poisoned[label], scores, der, repair.seconds, changed)

    def add(
        self,
        key: dict[str, Any],
        poisoned: Poisoned,
        scores: Scores,
        der: float | None,
        seconds: float,
        settings: dict[str, Any],
    ) -> None:
        """Writes one row."""
        rates = {"acc": scores.acc, "asr": scores.asr, "ra": scores.ra, "ra_ceiling": scores.ra_ceiling}
        self.results.add(
            data=self.recipe.data,
            task=self.recipe.task,
            model="resnet",
            **key,
            clean_fraction=None if key["defence"] == "none" else CLEAN_FRACTION,
            settings=settings,
            **{name: rate and rate.value for name, rate in rates.items()},
            der=der,
            seconds=round(seconds, 1),
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            training_clips=len(self.splits.train),
            poisoned_clips=int(poisoned.mask.sum()),
            poisoned_share_of_target=poisoned.share_of_target,
            test_clips=scores.acc.of,
            triggered_clips=scores.asr and scores.asr.of,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", type=Path, default=Path("runs/house"), help="where victims are kept")
    given = parser.parse_args()
    run(given.recipe, given.data, given.seeds, given.models)
