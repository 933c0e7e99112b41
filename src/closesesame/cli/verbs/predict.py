"""The command that classifies recordings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closesesame.cli.app import command
from closesesame.cli.inputs import load_model_on, refuse_missing
from closesesame.cli.options import Device, ModelFolder, Purifier
from closesesame.cli.printing import Answer, notes, table
from closesesame.core.errors import DataError, ModelError, listed

if TYPE_CHECKING:
    from closesesame.audio.files import Heard
    from closesesame.models import Classifier, ModelCard

AT_ONCE = 256
"""Recordings in memory."""


@command("predict")
def predict(
    model: ModelFolder,
    files: list[Path],
    /,
    *,
    purifier: Purifier = None,
    skip_bad: bool = False,
    device: Device = "cpu",
) -> Answer:
    """Classify recordings with a model: the label and its probability.

    With --json each recording is one line, a JSON object with the probability of each class.

    Args:
        files: Recordings, or folders of them at any depth.
        skip_bad: Go on where a recording cannot be used, and give its error in place of an answer.

    Examples:
        sesame predict MODEL clip.wav
        sesame predict MODEL RECORDINGS --skip-bad --json
        sesame predict MODEL clip.wav --purifier PURIFIER
    """
    from closesesame.core.progress import Track

    classifier = load_model_on(model, device, purifier)
    if classifier.card.sample_rate is None:
        raise ModelError(f"{model} takes no sound; this command reads recordings")
    paths, rows = _recordings(files), list[dict[str, Any]]()
    for start in Track(range(0, len(paths), AT_ONCE), "classifying", -(-len(paths) // AT_ONCE)):
        rows += _answers(classifier, paths[start : start + AT_ONCE])
    bad = [row["error"] for row in rows if "error" in row]
    if bad and not skip_bad:
        said = listed(bad, longest=300)
        raise DataError(
            f"{len(bad)} of {len(rows)} recordings cannot be used: {said}; or skip them: --skip-bad"
        )
    for remark in dict.fromkeys(remark for row in rows for remark in row.get("remarks", ())):
        alike = [row["file"] for row in rows if remark in row.get("remarks", ())]
        notes([f"{remark}: {len(alike)} of {len(rows)} recordings ({listed(alike, longest=200)})"])
    shown = [row | {"label": row.get("label", row.get("error"))} for row in rows]
    return Answer(rows, lambda: table(("file", "label", "probability", "remarks"), shown), lines=True)


def _recordings(files: list[Path]) -> list[Path]:
    """The files, and those in the folders; a note names what is not read there.

    Raises:
        DataError: if something is not there, or a folder holds no recording.
    """
    from closesesame.audio.files import SUFFIXES, UNREADABLE

    found: list[Path] = []
    left: list[Path] = []
    for path in files:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES | UNREADABLE)
            good = [p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != "."]
            if not good:
                raise DataError(f"{path} holds no recording that can be read")
            left += [p for p in inside if p not in good]
            found += good
        else:
            refuse_missing(path)
            found.append(path)
    if left:
        names = listed(list(map(str, left)), longest=200)
        notes([f"not read (hidden, broken links, or no format that is supported): {names}"])
    return found


def _answers(model: "Classifier", paths: list[Path]) -> Iterator[dict[str, Any]]:
    """For each recording, in order, what the model answers, or why the recording cannot be used."""
    import torch

    from closesesame.audio import files
    from closesesame.data import Dataset
    from closesesame.training import predict as logits_of

    card = model.card
    clips, found = {}, dict[Path, dict[str, Any]]()
    for path in paths:
        try:
            heard = files.hear(path, card.sample_rate or 1, seconds=card.duration_s)
        except DataError as error:
            found[path] = {"error": str(error)}
            continue
        clips[path] = torch.from_numpy(files.fit_length(heard.samples, card.input_shape[0]))
        found[path] = {"remarks": list(_remarks(heard, card))}
    if clips:
        labels = torch.zeros(len(clips), dtype=torch.long)
        data = Dataset.of(
            torch.stack(list(clips.values())), labels, classes=card.classes, sample_rate=card.sample_rate
        )
        data = replace(data, ids=tuple(map(str, clips)))
        for path, row in zip(clips, logits_of(model, data).softmax(1), strict=True):
            best = int(row.argmax())
            found[path] |= {
                "label": card.classes[best],
                "probability": float(row[best]),
                "probabilities": dict(zip(card.classes, row.tolist(), strict=True)),
            }
    for path in paths:
        yield {"file": str(path)} | found[path]


def _remarks(heard: "Heard", card: "ModelCard") -> Iterator[str]:
    """Reasons why the answer to a recording may mean nothing."""
    from closesesame.audio import files

    if heard.length_s > card.duration_s + files.SPARED_S:
        yield f"longer than the {card.duration_s:g} s that the model hears"
    if heard.length_s < card.duration_s / 2:
        yield f"shorter than half of the {card.duration_s:g} s that the model hears"
    if heard.cancelled:
        yield "silent, since its channels cancel out"
    elif abs(heard.samples).max() <= files.SILENCE:
        yield "silent"
    if heard.rate_hz < (card.sample_rate or 1):
        yield f"recorded at less than the {card.sample_rate:,} Hz of the model"
