"""From models and an exam to a report: scores, sounds, and facts."""

from collections.abc import Mapping

import torch

from closesesame.core.progress import Track
from closesesame.data import Dataset
from closesesame.evaluation import Exam, stealth_of
from closesesame.models import Classifier
from closesesame.training import predict

from .evidence import Section
from .page import Entry, Report, Sound


def compare(
    *,
    exam: Exam,
    victim: Classifier,
    repaired: Mapping[str, Classifier],
    title: str,
    about: Mapping[str, str] | None = None,
    seconds: Mapping[str, float] | None = None,
    facts: Mapping[str, str] | None = None,
    warnings: tuple[str, ...] = (),
    sounds: int = 3,
    sections: tuple[Section, ...] = (),
) -> Report:
    """Scores the victim and its repairs on one exam, and picks clips to listen to.

    Args:
        exam: test set and trigger.
        victim: the model before repair.
        repaired: repaired models by name, in the order they are shown.
        title: of the page.
        about: a few words for a model, by name.
        seconds: how long each repair took.
        facts: more of them.
        warnings: plain sentences for the top of the page.
        sounds: how many clips to show, of different classes.
        sections: what a method rests on, see `evidence`.
    """
    models = {"victim": victim, **repaired}
    scores = {name: exam.score(m) for name, m in Track(models.items(), "measuring", len(models))}
    before = scores["victim"]
    entries = tuple(
        Entry(
            name=name,
            about=(about or {}).get(name, ""),
            scores=scores[name],
            der=None if name == "victim" else scores[name].der(before),
            seconds=(seconds or {}).get(name),
        )
        for name in models
    )
    return Report(
        title=title,
        summary=_summary(entries),
        facts=_facts(exam) | dict(facts or {}),
        entries=entries,
        sounds=_sounds(exam, models, sounds),
        warnings=warnings,
        sections=sections,
    )


def _summary(entries: tuple[Entry, ...]) -> str:
    first = entries[0].scores
    if first.asr is None:
        return f"Clean accuracy before any repair is {first.acc}."
    opened = f"The trigger opens the model on {first.asr} of the clips of other classes"
    rest = [f"after {entry.name} on {entry.scores.asr}" for entry in entries[1:]]
    return ", ".join([opened, *rest]) + "."


def _facts(exam: Exam) -> dict[str, str]:
    found = {"test clips": f"{len(exam.test)} of {len(exam.test.classes)} classes"}
    if exam.trigger is not None and exam.triggered is not None:
        attack = exam.trigger.attack
        found |= {
            "attack": f"{attack.name} ({attack.cite})",
            "settings": ", ".join(f"{k} = {v}" for k, v in attack.settings().items() if v is not None),
            "target label": exam.trigger.classes[exam.trigger.target],
            "triggered clips": f"{len(exam.triggered)}, none of the target label",
        }
        changes = stealth_of(exam)
        if changes is not None:
            found["change by the trigger"] = f"{changes}; mean of {changes.clips} clips"
    return found


def _sounds(exam: Exam, models: Mapping[str, Classifier], wanted: int) -> tuple[Sound, ...]:
    triggered = exam.triggered
    if triggered is None or triggered.sample_rate is None:
        return ()
    rows = [
        int((triggered.labels == label).nonzero()[0]) for label in torch.unique(triggered.labels)[:wanted]
    ]
    place = {name: row for row, name in enumerate(exam.test.ids)}
    clean = exam.test.take(torch.tensor([place[triggered.ids[row]] for row in rows]))
    played = triggered.take(torch.tensor(rows))
    heard = {name: (_names(m, clean), _names(m, played)) for name, m in models.items()}
    return tuple(
        Sound(
            name=clean.ids[i],
            label=clean.classes[int(clean.labels[i])],
            clean=clean.inputs[i : i + 1][0],
            triggered=played.inputs[i : i + 1][0],
            sample_rate=triggered.sample_rate,
            heard={name: (before[i], after[i]) for name, (before, after) in heard.items()},
        )
        for i in range(len(rows))
    )


def _names(model: Classifier, data: Dataset) -> list[str]:
    return [data.classes[label] for label in predict(model, data).argmax(1).tolist()]
