"""The main job on embedded speech, start to end: plant, open, shut, show."""

from pathlib import Path
from typing import Any

from closesesame.attacks import BadNets
from closesesame.data.speech import synthetic_speech
from closesesame.evaluation import Exam
from closesesame.models import ResNet, save_model
from closesesame.removal import FT, GNFT, FinePruning, FTAugmented, Removal
from closesesame.report import Report, write
from closesesame.report.build import compare
from closesesame.training import Training, train

STEPS = 200
"""Batches of every repair: the same for all."""
TRAINING = Training(epochs=10)
REMOVALS: tuple[Removal, ...] = (
    FT(steps=STEPS),
    FinePruning(steps=STEPS),
    GNFT(steps=STEPS),
    FTAugmented(steps=STEPS),
)


def run(out: Path, seed: int, warnings: tuple[str, ...] = ()) -> tuple[Report, dict[str, Any]]:
    """Plants a backdoor, trains a victim and its clean reference, repairs it four ways, writes a page.

    Args:
        out: folder for trigger, models and `report.html`; what an earlier demo left there is replaced.
        seed: of all of it.
        warnings: for the top of the page.

    Returns:
        The report, and where things lie.
    """
    splits = synthetic_speech()
    poisoned = BadNets(rate=0.05).poison(splits.train, seed)
    victim = train(ResNet(), poisoned.dataset, TRAINING, seed=seed)
    reference = train(ResNet(), splits.train, TRAINING, seed=seed)
    clean = splits.validation
    repairs = {removal.name: removal.remove(victim, clean, seed) for removal in REMOVALS}

    poisoned.trigger.save(out / "trigger")
    save_model(victim, out / "victim")
    for name, repair in repairs.items():
        save_model(repair.model, out / name)
    page = compare(
        exam=Exam(splits.test, poisoned.trigger, reference),
        victim=victim,
        repaired={name: repair.model for name, repair in repairs.items()},
        title="A backdoor in ten spoken words, and four ways to shut it",
        about={removal.name: removal.cite for removal in REMOVALS},
        seconds={name: repair.seconds for name, repair in repairs.items()},
        facts={
            "training clips": f"{len(splits.train)}, embedded synthetic speech",
            "poisoned clips": f"{int(poisoned.mask.sum())}, {poisoned.share_of_target:.0%} of their class",
            "clean clips for the repair": f"{len(clean)} of voices the victim never heard, a fifth held out",
        },
        warnings=warnings,
    )
    write(page, out / "report.html")
    return page, {"page": str((out / "report.html").resolve()), "folder": str(out.resolve())}
