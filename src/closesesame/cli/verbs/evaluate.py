"""The command that measures a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import exam_on, load_for, load_model_on
from closesesame.cli.options import (
    SPLIT,
    Data,
    Device,
    ModelFolder,
    Purifier,
    Reference,
    SplitOptions,
    Trigger,
)
from closesesame.cli.printing import Answer, facts, scores_table

Before = Annotated[Path | None, Parameter(help="The model before its repair, for DER.")]


@command("evaluate")
def evaluate(
    model: ModelFolder,
    source: Data,
    *,
    trigger: Trigger = None,
    reference: Reference = None,
    before: Before = None,
    purifier: Purifier = None,
    device: Device = "cpu",
    options: SplitOptions = SPLIT,
) -> Answer:
    """Measure a model on the test part of a data set, and say in words what the figures mean.

    Without a trigger that is ACC alone. With one it is also ASR and RA, and how much the trigger changes the
    clips: SNR, log-spectral distance and, if the extra 'quality' is installed, PESQ and STOI.

    Examples:
        sesame evaluate MODEL CLIPS
        sesame evaluate VICTIM CLIPS --trigger POISONED/_trigger
        sesame evaluate REPAIRED CLIPS --trigger POISONED/_trigger --before VICTIM
        sesame evaluate VICTIM CLIPS --trigger POISONED/_trigger --purifier PURIFIER
    """
    from closesesame.evaluation import stealth_of
    from closesesame.models.files import sha256_of
    from closesesame.report.verdict import verdict_of

    judged = load_model_on(model, device, purifier)
    earlier = None if before is None else load_model_on(before, device)
    exam = exam_on(load_for(judged.card, source, options), trigger, reference, device)
    scores, first = exam.score(judged), None if earlier is None else exam.score(earlier)
    der, changes = None if first is None else scores.der(first), stealth_of(exam)
    verdict = verdict_of(scores, classes=len(judged.card.classes), before=first)
    found = scores.as_json() | {
        "der": der,
        "stealth": None if changes is None else changes.as_json(),
        "verdict": asdict(verdict),
        "target": None if exam.trigger is None else exam.trigger.target_name,
        "model": {"path": str(model), "sha256": sha256_of(model)},
        "purifier": None if purifier is None else str(purifier),
    }

    def show() -> None:
        scores_table([(str(model), scores, der)])
        facts({} if changes is None else {"change by the trigger": changes})
        facts({"verdict": verdict})

    return Answer(found, show)
