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
    clips: SNR, log-spectral distance and, if the extra 'quality' is installed, PESQ and STOI. With a purifier
    the model is measured without it, too; the verdict is on the model behind the purifier, and DER compares
    it with the model before its repair or, if none is named, with the model without the purifier.

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
    bare = None if purifier is None else load_model_on(model, device)
    earlier = None if before is None else load_model_on(before, device)
    exam = exam_on(load_for(judged.card, source, options), trigger, reference, device)
    scores, first = exam.score(judged), None if earlier is None else exam.score(earlier)
    alone = None if bare is None else exam.score(bare)
    compared = first or alone
    der, changes = None if compared is None else scores.der(compared), stealth_of(exam)
    classes = len(judged.card.classes)
    verdict = verdict_of(scores, classes=classes, before=first, purified=purifier is not None)
    found = scores.as_json() | {
        "der": der,
        "stealth": None if changes is None else changes.as_json(),
        "verdict": asdict(verdict),
        "target": None if exam.trigger is None else exam.trigger.target_name,
        "model": {"path": str(model), "sha256": sha256_of(model)},
        "purifier": None if purifier is None else str(purifier),
        "without_purifier": None if alone is None else alone.as_json(),
    }

    def show() -> None:
        behind = [] if alone is None else [(f"{model} behind {purifier}", scores, der)]
        scores_table([(str(model), alone or scores, None if alone else der), *behind])
        facts({} if changes is None else {"change by the trigger": changes})
        facts({"verdict": verdict})

    return Answer(found, show)
