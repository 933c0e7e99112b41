"""The command that measures a model."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from closesesame.cli.app import command
from closesesame.cli.inputs import exam_on, load_for, load_model_on, not_poisoned
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
from closesesame.cli.printing import Answer, facts, notes, scores_table, table
from closesesame.core.errors import SettingError
from closesesame.core.wording import NONE

if TYPE_CHECKING:
    from closesesame.data import Dataset
    from closesesame.evaluation import Exam
    from closesesame.models import Classifier

Adversaries = Annotated[
    bool,
    Parameter(
        help="Also attack the model, and the reference if there is one: retune it on a few poisoned clips, "
        "and add a perturbation 30 dB below the trigger. The attacker has the clips of the training part."
    ),
]
RELEARNS = (
    "any model learns a trigger from a few poisoned clips: name one that was never poisoned with "
    "--reference, to see how much faster this one does"
)
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
    adversaries: Adversaries = False,
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
        sesame evaluate REPAIRED CLIPS --trigger POISONED/_trigger --adversaries
    """
    from closesesame.evaluation import stealth_of
    from closesesame.models.files import sha256_of
    from closesesame.report.verdict import verdict_of

    if adversaries and trigger is None:
        raise SettingError("--adversaries attack with the trigger: name it with --trigger, too")
    judged = load_model_on(model, device, purifier)
    bare = None if purifier is None else load_model_on(model, device)
    earlier = None if before is None else load_model_on(before, device)
    splits = load_for(judged.card, source, options)
    exam = exam_on(splits, trigger, reference, device)
    scores, first = exam.score(judged), None if earlier is None else exam.score(earlier)
    alone = None if bare is None else exam.score(bare)
    compared = first or alone
    der, changes = None if compared is None else scores.der(compared), stealth_of(exam)
    classes = len(judged.card.classes)
    attacked: dict[str, Any] = {}
    if adversaries:
        clean_reference = None if reference is None else load_model_on(reference, device)
        if clean_reference is None:
            notes([RELEARNS])
        attacked = _attacked(judged, clean_reference, exam, not_poisoned(source, splits.train), options.seed)
    verdict = verdict_of(scores, classes=classes, before=first, purified=purifier is not None)
    found = (
        scores.as_json()
        | attacked
        | {
            "der": der,
            "stealth": None if changes is None else changes.as_json(),
            "verdict": asdict(verdict),
            "target": None if exam.trigger is None else exam.trigger.target_name,
            "model": {"path": str(model), "sha256": sha256_of(model)},
            "purifier": None if purifier is None else str(purifier),
            "without_purifier": None if alone is None else alone.as_json(),
        }
    )

    def show() -> None:
        behind = [] if alone is None else [(f"{model} behind {purifier}", scores, der)]
        scores_table([(str(model), alone or scores, None if alone else der), *behind])
        _show_attacked(attacked)
        facts({} if changes is None else {"change by the trigger": changes})
        facts({"verdict": verdict})

    return Answer(found, show)


def _attacked(
    judged: "Classifier", clean_reference: "Classifier | None", exam: "Exam", clips: "Dataset", seed: int
) -> dict[str, Any]:
    """What attacks with these clips do to the model, and to the clean reference model if there is one."""
    from closesesame.evaluation.adversaries import attack_again, beside
    from closesesame.evaluation.attacker import Attacker

    assert exam.trigger is not None
    attacker = Attacker(exam.trigger, clips)
    found = attack_again(judged, exam, attacker, seed=seed)
    return (
        found
        if clean_reference is None
        else found | beside(attack_again(clean_reference, exam, attacker, seed=seed))
    )


def _show_attacked(found: Mapping[str, Any]) -> None:
    """A line an attack, with the clean reference model beside the model."""
    from closesesame.evaluation import Rate
    from closesesame.evaluation.measures import ADVERSARIES, RETUNE_ACC

    def rate(key: str) -> str:
        return str(Rate(found[key]["hits"], found[key]["of"])) if key in found else NONE

    if not found:
        return
    lines = [(own.name, rate(own.key), rate(other.key)) for own, other in ADVERSARIES.items()]
    lines.append((RETUNE_ACC.name, rate(RETUNE_ACC.key), NONE))
    columns = ("attack", "model", "clean reference model")
    table(columns, [dict(zip(columns, line, strict=True)) for line in lines])
