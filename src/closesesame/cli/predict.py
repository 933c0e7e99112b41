"""The command that asks a model about recordings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from closesesame.core.errors import DataError, ModelError

from .app import command
from .inputs import Device, Json, device_of, load_on
from .outputs import notes, print_json_line, table

if TYPE_CHECKING:
    from closesesame.models import Classifier

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
            rows += _answers(heard_by, paths[start : start + AT_ONCE], skip_bad=skip_bad)
            if json:
                for row in rows:
                    print_json_line(row)
                rows.clear()
    table(
        ("file", "label", "probability"),
        [row | {"label": row.get("label", row.get("error"))} for row in rows],
    )


def _recordings(files: list[Path]) -> list[Path]:
    """The files, and those in the folders.

    Raises:
        DataError: if something is not there, or a folder holds no recording.
    """
    from closesesame.audio.files import SUFFIXES

    found = []
    for path in files:
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
            )
            if not inside:
                raise DataError(f"{path} holds no recording")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path} is not there")
    return found


def _answers(model: "Classifier", paths: list[Path], *, skip_bad: bool) -> Iterator[dict[str, Any]]:
    """What the model says of each recording, in their order.

    Raises:
        DataError: naming all recordings of these that cannot be used, unless they are to be skipped.
    """
    import torch

    from closesesame.audio import files
    from closesesame.data import Dataset
    from closesesame.training import predict as logits_of

    card = model.card
    clips, errors, cut = {}, {}, []
    for path in paths:
        try:
            heard = files.hear(path, card.sample_rate or 1, seconds=card.duration_s)
        except DataError as error:
            errors[path] = str(error)
            continue
        clips[path] = torch.from_numpy(files.fit_length(heard.samples, card.input_shape[0]))
        if heard.length_s > card.duration_s + files.SPARED_S:
            cut.append(path)
    if errors and not skip_bad:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise DataError(f"{next(iter(errors.values()))}{more}; or go on without them with --skip-bad")
    if cut:
        notes(
            [f"{len(cut)} recordings are longer than the {card.duration_s:g} s the model hears, as {cut[0]}"]
        )
    found: dict[Path, dict[str, Any]] = {path: {"error": error} for path, error in errors.items()}
    if clips:
        labels = torch.zeros(len(clips), dtype=torch.long)
        data = Dataset.of(
            torch.stack(list(clips.values())), labels, classes=card.classes, sample_rate=card.sample_rate
        )
        data = replace(data, ids=tuple(map(str, clips)))
        for path, row in zip(clips, logits_of(model, data).softmax(1), strict=True):
            best = int(row.argmax())
            found[path] = {
                "label": card.classes[best],
                "probability": float(row[best]),
                "probabilities": dict(zip(card.classes, row.tolist(), strict=True)),
            }
    for path in paths:
        yield {"file": str(path)} | found[path]
