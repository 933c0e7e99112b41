"""From models and an exam to a report: scores, a verdict, sounds, and what was tested."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from closesesame.core.errors import DataError
from closesesame.core.evidence import Evidence
from closesesame.core.progress import Track
from closesesame.data import Dataset
from closesesame.evaluation import Exam, Rate, Scores, stealth_of
from closesesame.models import Classifier
from closesesame.training import predict

from .pages.comparison import ClassRow, Entry, Report, Sound
from .shared import name_of_path, said
from .standards import standards_of
from .verdict import NO_REFERENCE, NO_TRIGGER, verdict_of

LONGEST = 600
"""Characters of what a model's file says of how it was made."""
MOST_SECONDS = 1e9


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which model it is that was measured, whatever it is called on the page.

    Attributes:
        path: as the user typed it.
        sha256: of its weights, see `closesesame.models.files.sha256_of`.
        architecture: its name.
        made: what is known of how it was made, such as `method`, `settings`, `date`; `seconds` gets a column.
    """

    path: str = ""
    sha256: str = ""
    architecture: str = ""
    made: Mapping[str, Any] = field(default_factory=dict)


def compare(
    *,
    exam: Exam,
    before: tuple[str, Classifier],
    repaired: Mapping[str, Classifier],
    title: str,
    identities: Mapping[str, Identity] | None = None,
    reference: Identity | None = None,
    made: str = "",
    command: str = "",
    seed: int | None = None,
    data: str = "",
    about: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
    warnings: tuple[str, ...] = (),
    sounds: int = 3,
    evidence: tuple[Evidence, ...] = (),
) -> Report:
    """Scores a model and what removals made of it, says what that means, and picks clips to listen to.

    Args:
        exam: test set, and a trigger if there is one: without it ACC alone is measured, and the page says so.
        before: the model before removal and its name on the page.
        repaired: repaired models by name, in the order they are shown; may be empty.
        title: of the page.
        identities: which models they are, by name.
        reference: which model the exam has as its reference.
        made: when, as it is to be shown: the same arguments give the same page.
        command: that made the page, as it was typed.
        seed: of everything drawn.
        data: name of the data set.
        about: a few words for a model, by name.
        facts: more of how it was measured.
        warnings: plain sentences for the top of the page.
        sounds: how many clips to show, of different classes.
        evidence: what methods show of how they work; that of the trigger's attack comes before it.

    Raises:
        DataError: if a repaired model has the name of the model before removal.
    """
    name, model = before
    if name in repaired:
        raise DataError(f"two models are called {name!r}; names of models on one page must differ")
    models = {name: model, **repaired}
    scores = {key: exam.score(m) for key, m in Track(models.items(), "measuring", len(models))}
    entries = tuple(
        _entry(key, scores, exam, (identities or {}).get(key, Identity()), (about or {}).get(key, ""))
        for key in models
    )
    standards = standards_of(exam, repaired=bool(repaired))
    return Report(
        title=title,
        entries=entries,
        classes=_by_class(exam.test, models),
        target_label=_target(exam),
        made=made,
        command=command,
        seed=seed,
        data=data,
        tested=_tested(exam, data),
        untested=_untested(exam),
        facts=_facts(exam)
        | _reference(reference)
        | {name: ", ".join(map(str, listed)) for name, listed in standards.items()}
        | dict(facts or {}),
        sounds=_pick_sounds(exam, models, sounds),
        warnings=warnings,
        evidence=(*_of_trigger(exam), *evidence),
        standards=tuple(str(entry) for listed in standards.values() for entry in listed),
    )


def _entry(name: str, scores: Mapping[str, Scores], exam: Exam, identity: Identity, about: str) -> Entry:
    own, first = scores[name], next(iter(scores))
    before = None if name == first else scores[first]
    return Entry(
        name=name,
        about=about,
        scores=own,
        der=None if before is None else own.der(before),
        verdict=verdict_of(own, classes=len(exam.test.classes), before=before),
        source=identity.path,
        sha256=identity.sha256,
        architecture=identity.architecture,
        seconds=_seconds(identity.made.get("seconds")),
        made={
            key.replace("acc_", "ACC ").replace("_", " "): _known(key, value)
            for key, value in identity.made.items()
            if key != "seconds" and value not in (None, {}, [], ())
        },
    )


def _seconds(value: Any) -> float | None:
    """What a model's file says may be anything."""
    return float(value) if isinstance(value, int | float) and 0 <= value < MOST_SECONDS else None


def _known(key: str, value: Any) -> str:
    words = f"{100 * value:.1f} %" if key.startswith("acc_") and isinstance(value, float) else said(value)
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}\N{HORIZONTAL ELLIPSIS}"


def _by_class(test: Dataset, models: Mapping[str, Classifier]) -> tuple[ClassRow, ...]:
    right = [predict(model, test).argmax(1) == test.labels for model in models.values()]
    rows = [test.labels == label for label in range(len(test.classes))]
    return tuple(
        ClassRow(name, tuple(Rate(int(found[own].sum()), int(own.sum())) for found in right))
        for name, own in zip(test.classes, rows, strict=True)
    )


def _target(exam: Exam) -> str:
    if exam.trigger is None:
        return ""
    if exam.trigger.attack.label_mode == "all_to_all":
        return "the next class (all-to-all)"
    return exam.trigger.target_name


def _tested(exam: Exam, data: str) -> tuple[str, ...]:
    where = f" of {data}" if data else ""
    found = [f"ACC on {len(exam.test):,} clean test clips{where} in {len(exam.test.classes)} classes."]
    if exam.trigger is not None and exam.triggered is not None:
        found.append(
            f"ASR and RA on {len(exam.triggered):,} of these clips with one trigger of the attack "
            f"{exam.trigger.attack.name}. Clips of the target label are left out."
        )
    if exam.ra_reference is not None:
        found.append("RA of the clean reference model on the same triggered clips.")
    return tuple(found)


def _untested(exam: Exam) -> tuple[str, ...]:
    """What a reader might think was tested."""
    if exam.trigger is None:
        found = [
            NO_TRIGGER,
            "ACC cannot show a backdoor: it is as high with one as without.",
        ]
    else:
        found = ["Any trigger other than the one above."]
        if exam.ra_reference is None:
            found.append(NO_REFERENCE)
    if exam.test.missing():
        found.append(f"Classes without a test clip: {', '.join(exam.test.missing())}.")
    found.append("Voices, rooms and microphones that the test clips do not have.")
    return tuple(found)


def _facts(exam: Exam) -> dict[str, str]:
    if exam.trigger is None or exam.triggered is None:
        return {}
    attack = exam.trigger.attack
    found = {
        "attack": f"{attack.name} ({attack.cite})",
        "settings": ", ".join(f"{k} = {said(v)}" for k, v in attack.settings().items() if v is not None),
    }
    changes = stealth_of(exam)
    if changes is not None:
        found["change by the trigger"] = f"{changes}; mean of {changes.clips} clips"
    return found


def _of_trigger(exam: Exam) -> tuple[Evidence, ...]:
    """What the attack shows of how its trigger was made."""
    if exam.trigger is None:
        return ()
    shown = exam.trigger.attack.evidence(exam.trigger.state)
    return () if shown is None else (shown,)


def _reference(identity: Identity | None) -> dict[str, str]:
    if identity is None:
        return {}
    named = (identity.path, identity.architecture, identity.sha256 and f"SHA-256 {identity.sha256}")
    return {"reference model": ", ".join(filter(None, named))}


def _pick_sounds(exam: Exam, models: Mapping[str, Classifier], count: int) -> tuple[Sound, ...]:
    triggered = exam.triggered
    if triggered is None or triggered.sample_rate is None:
        return ()
    rows = [int((triggered.labels == label).nonzero()[0]) for label in torch.unique(triggered.labels)[:count]]
    clean, played = exam.pairs(torch.tensor(rows, dtype=torch.long))
    predicted = {name: (_predicted(m, clean), _predicted(m, played)) for name, m in models.items()}
    return tuple(
        Sound(
            name=name_of_path(clean.ids[i]),
            label=clean.classes[int(clean.labels[i])],
            clean=clean.inputs[i : i + 1][0],
            triggered=played.inputs[i : i + 1][0],
            sample_rate=triggered.sample_rate,
            predicted={name: (before[i], after[i]) for name, (before, after) in predicted.items()},
        )
        for i in range(len(rows))
    )


def _predicted(model: Classifier, data: Dataset) -> list[str]:
    """The label that a model gives to each clip."""
    return [data.classes[label] for label in predict(model, data).argmax(1).tolist()]
