"""The main job on embedded speech, start to end: poison, train, attack, repair, report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .attacks import BadNets, Trigger
from .data.speech import synthetic_speech
from .evaluation import Exam
from .models import Classifier, ResNet, save_model
from .models.files import sha256_of
from .removal import FT, GNFT, FinePruning, FTAugmented, Removal, Repair, Restore
from .report import Report, write_report
from .report.from_models import Identity, compare
from .training import Training, train

STEPS = 200
"""Training steps of each removal."""
TRIGGER, PAGE = "trigger", "report.html"
TRAINING = Training(epochs=10)
REMOVALS: tuple[Removal, ...] = (
    Restore(steps=STEPS),  # what `sesame remove` takes by itself
    FT(steps=STEPS),
    FinePruning(steps=STEPS),
    GNFT(steps=STEPS),
    FTAugmented(steps=STEPS),
)


@dataclass(frozen=True, eq=False)
class Made:
    """What a demo makes: models by name, the trigger, and a page on all of it."""

    models: dict[str, Classifier]
    trigger: Trigger
    page: Report


def run(seed: int, warnings: tuple[str, ...] = (), *, made: str = "", command: str = "") -> Made:
    """Poisons a training set, trains a victim and a clean reference model, repairs the victim, and compares.

    Args:
        seed: of all random draws.
        warnings: sentences for the top of the page.
        made: date and time, for the page.
        command: what was typed, for the page.
    """
    splits = synthetic_speech()
    poisoned = BadNets(rate=0.05).poison(splits.train, seed)
    count = int(poisoned.poisoned_mask.sum())
    victim = train(ResNet(), poisoned.dataset, TRAINING, seed=seed)
    reference = train(ResNet(), splits.train, TRAINING, seed=seed)
    clean = splits.validation
    repairs = {removal.name: removal.remove(victim, clean, seed) for removal in REMOVALS}
    repaired = {name: repair.model for name, repair in repairs.items()}
    page = compare(
        exam=Exam(splits.test, poisoned.trigger, reference),
        before=("victim", victim),
        repaired=repaired,
        title="A backdoor in ten spoken words, and five ways to remove it",
        about={removal.name: removal.cite for removal in REMOVALS},
        identities={"victim": _identity("victim", victim)}
        | {name: _identity(name, repair.model, _known(name, repair)) for name, repair in repairs.items()},
        made=made,
        command=command,
        seed=seed,
        data="embedded synthetic speech",
        facts={
            "training clips": f"{len(splits.train)}, embedded synthetic speech",
            "poisoned clips": f"{count}, {poisoned.share_of_target:.0%} of their class",
            "clean clips for the repair": f"{len(clean)} of voices the victim never heard, a fifth held out "
            "(a tenth by restore)",
        },
        warnings=warnings,
    )
    return Made({"victim": victim, "reference": reference} | repaired, poisoned.trigger, page)


def save(made: Made, folder: Path) -> None:
    """Writes models, trigger and page into an empty folder."""
    made.trigger.save(folder / TRIGGER)
    for name, model in made.models.items():
        save_model(model, folder / name)
    write_report(made.page, folder / PAGE)


def is_demo(folder: Path) -> bool:
    """Whether a folder holds what a demo made, and nothing else."""
    names = {removal.name for removal in REMOVALS} | {"victim", "reference", TRIGGER, PAGE}
    return {path.name for path in folder.iterdir()} <= names


def _identity(name: str, model: Classifier, made: dict[str, Any] | None = None) -> Identity:
    return Identity(path=name, sha256=sha256_of(model), architecture=model.card.architecture, made=made or {})


def _known(method: str, repair: Repair) -> dict[str, Any]:
    names = ("seconds", "tuned_on", "held_out", "acc_before", "acc_after")
    return {"method": method} | {name: getattr(repair, name) for name in names}
