"""The command that asks a model about recordings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from closesesame.core.errors import DataError, ModelError, listed

from .app import command
from .inputs import Device, Json, device_of, load_on
from .outputs import notes, print_json_line, table

if TYPE_CHECKING:
    from closesesame.audio.files import Heard
    from closesesame.models import Classifier, ModelCard

AT_ONCE = 256
"""Recordings in memory."""


@command
def predict(
    model: Path,
    files: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Ask a model what it hears in recordings: the label and its probability.

    Parameters
    ----------
    model
        A model folder.
    files
        Recordings, or folders of them at any depth.
    skip_bad
        Go on where a recording cannot be used; it stands in the answer with its error.
    json
        Print one JSON object a recording and line, with the probability of each class.
    """
    from closesesame.core.progress import Track, shown

    heard_by = load_on(model, device_of(device))
    if heard_by.card.sample_rate is None:
        raise ModelError(f"{model} takes no sound; this command reads recordings")
    paths = _recordings(files)
    rows: list[dict[str, Any]] = []
    with shown():
        for start in Track(range(0, len(paths), AT_ONCE), "listening", -(-len(paths) // AT_ONCE)):
            rows += _answers(heard_by, paths[start : start + AT_ONCE])
    bad = [row for row in rows if "error" in row]
    if bad and not skip_bad:
        said = listed([row["error"] for row in bad], longest=300)
        raise DataError(
            f"{len(bad)} of {len(rows)} recordings cannot be used: {said}; or skip them: --skip-bad"
        )
    for remark in dict.fromkeys(remark for row in rows for remark in row.get("remarks", ())):
        alike = [row["file"] for row in rows if remark in row.get("remarks", ())]
        notes([f"{remark}: {len(alike)} of {len(rows)} recordings ({listed(alike, longest=200)})"])
    if json:
        for row in rows:
            print_json_line(row)
        return
    table(
        ("file", "label", "probability", "remarks"),
        [row | {"label": row.get("label", row.get("error"))} for row in rows],
    )


def _recordings(files: list[Path]) -> list[Path]:
    """The files, and those in the folders; what is not read there is said.

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
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path} is not there")
    if left:
        names = listed(list(map(str, left)), longest=200)
        notes([f"not read (hidden, broken links, or no format that is supported): {names}"])
    return found


def _answers(model: "Classifier", paths: list[Path]) -> Iterator[dict[str, Any]]:
    """What the model says of each recording, or why it cannot be asked, in their order."""
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
    """Why an answer to a recording may mean nothing."""
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
