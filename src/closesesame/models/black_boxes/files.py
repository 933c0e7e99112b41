"""Models made of files that are run as they are, and what can be found out by asking such a file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from closesesame.core.bounds import LEAST_S, MOST_BYTES, MOST_S, check_classes, check_reading
from closesesame.core.errors import ModelError, SettingError, cut, listed
from closesesame.core.seeding import generator
from closesesame.models.base import Classifier, ModelCard
from closesesame.models.front_ends import Identity

from .body import FileBody, Scores
from .onnx_file import OnnxFile
from .ports import BlackBox, Ports
from .runtime import Runtime, TooSlowError
from .tflite_file import TFLiteFile

FILES = {"onnx": "model.onnx", "tflite": "model.tflite"}
"""What the file is called in a model folder, by the architecture on the card."""
RUNTIMES: dict[str, type[OnnxFile | TFLiteFile]] = {"onnx": OnnxFile, "tflite": TFLiteFile}
PROBES, SAME, NEARLY = 6, 1e-3, 0.02
"""Clips of noise, from loud to soft; how far their scores may differ; and how far from 1 a sum may be."""


def open_file(path: Path, kind: str, threads: int) -> Runtime:
    """Reads a file and makes it ready; what stands in it is checked before, and it reads no other file.

    Args:
        path: of the file.
        kind: `onnx` or `tflite`.
        threads: that it is run on.

    Raises:
        ModelError: if it is damaged, or refused, or its package is not installed.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ModelError(f"{path} is refused: it is larger than {MOST_BYTES / 1e9:g} GB")
        content = path.read_bytes()
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder; name the .{kind} file in it") from None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}; name a .{kind} file that you may read"
        ) from None
    return RUNTIMES[kind](content, path, threads)


def settle(runtime: Runtime, box: BlackBox, classes: int, samples: int, sample_rate: int) -> BlackBox:
    """How a file is asked, with all that can be found out by asking it.

    Args:
        runtime: the opened file.
        box: what is known.
        classes: how many there are.
        samples: of a clip.
        sample_rate: Hz.

    Raises:
        ModelError: if it takes no clips of that length, or gives no scores of the classes.
    """
    ports = Ports.of(runtime, box)
    box = _with(box, input=ports.sound.name, frame=_frame_of(ports, box, samples, sample_rate))
    noise = torch.randn(PROBES, samples, generator=generator(0, "probes"))
    clips = (noise * 10.0 ** -torch.arange(PROBES)[:, None]).clamp(-1, 1).numpy()

    def scores(box: BlackBox) -> Scores:
        return FileBody(runtime, box, classes, sample_rate).scores(clips)

    free = [port for port in runtime.outputs if port.is_float and port.name not in ports.states.values()]
    outputs = [box.output] if box.output else [port.name for port in free]
    if not outputs:
        raise ModelError("no output is left for the scores, since states take them; get a model with scores")
    for name in outputs:
        box = _with(box, output=name)
        try:
            alone = scores(_with(box, at_once=1))
            break
        except TooSlowError:
            raise
        except ModelError:
            if name == outputs[-1]:
                raise
    numbers = np.isfinite(alone).all(1)
    if not numbers.any():
        raise ModelError(
            f"output {cut(box.output)!r} is NaN or infinite for clips of noise, loud or soft; look for NaN "
            "among the weights and export the model again"
        )
    if not box.at_once and ports.batch is None:
        box = _with(box, at_once=0 if _stay(scores, box, alone) else 1)
    if box.answers == "auto":
        box = _with(box, answers="probabilities" if _are_probabilities(alone[numbers]) else "logits")
    return box


def _with(box: BlackBox, **known: object) -> BlackBox:
    return BlackBox(**(box.model_dump() | known))


def _stay(scores: Callable[[BlackBox], Scores], box: BlackBox, alone: Scores) -> bool:
    """Whether clips that are given together get the scores that each gets alone."""
    try:
        return bool(np.allclose(scores(box), alone, rtol=SAME, atol=SAME, equal_nan=True))
    except TooSlowError:
        raise
    except ModelError:
        return False


def _are_probabilities(scores: Scores) -> bool:
    """Whether they lie between 0 and 1 and, if there is one a class, have the sum 1; of 8 bits nearly."""
    sums = scores.sum(1)
    alike = scores.shape[1] == 1 or np.abs(sums - 1).max() < NEARLY
    return bool(alike and scores.min() >= 0 and scores.max() <= 1 + NEARLY)


def _frame_of(ports: Ports, box: BlackBox, samples: int, sample_rate: int) -> int:
    """Samples that are given at once; 0 for the whole clip."""
    if ports.time is not None and ports.time not in (box.frame, samples) and not ports.states:
        seconds = ports.time / sample_rate
        whole = f"set --duration-s to {seconds:g}, or " if LEAST_S <= seconds <= MOST_S else ""
        raise ModelError(
            f"the model takes {ports.time:,} samples at once, and a clip has {samples:,}: {whole}cut clips "
            f"with --set frame={ports.time}"
        )
    if ports.states and ports.time is None and not box.frame:
        names = listed([port.name for port in ports.states])
        raise ModelError(
            f"the model carries a state ({names}) from frame to frame, and does not say how long a frame is: "
            "give its samples with --set frame=N"
        )
    return box.frame or (0 if ports.time in (None, samples) else ports.time)


def adapt_file(
    path: Path | str,
    classes: Sequence[str],
    input_shape: Sequence[int],
    sample_rate: int,
    box: BlackBox | None = None,
) -> Classifier:
    """Makes a model of a file, .onnx or .tflite, that is run as it is: to measure it, not to repair it.

    Args:
        path: of the file.
        classes: names of the classes, in the order of the scores.
        input_shape: of one clip, (time,).
        sample_rate: Hz.
        box: how the file is asked, as far as it cannot be found out.

    Raises:
        DataError: if the names of the classes do not tell them apart.
        ModelError: if the file is damaged, or refused, or its package is not installed, or it does not map
            waveforms to scores of the classes.
        SettingError: if no sound has that sample rate and length.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in FILES:
        raise ModelError(f"{path} must end in .onnx or .tflite, which says how it is run")
    card = ModelCard(kind, {}, tuple(classes), tuple(input_shape), sample_rate)
    check_classes(card.classes, "the model")
    check_reading(sample_rate, card.duration_s)
    box = box or BlackBox()
    with named(path):
        runtime = open_file(path, kind, box.threads)
        box = settle(runtime, box, len(card.classes), input_shape[0], sample_rate)
        body = FileBody(runtime, box, len(card.classes), sample_rate)
    made = {"file_sha256": body.sha256, "format": kind}
    card = replace(card, settings=box.model_dump(mode="json"), made=made)
    return Classifier(Identity(), body, card).eval()


def load_file(path: Path, card: ModelCard) -> Classifier:
    """Makes a model of the file in a model folder.

    Args:
        path: of the file.
        card: as it stands beside it.

    Raises:
        ModelError: as `adapt_file`, or if the file does not fit the card.
    """
    with named(path):
        try:
            box = BlackBox(**card.settings)
        except SettingError as error:
            raise ModelError(f"its config does not fit: {error}") from None
        if card.sample_rate is None or len(card.input_shape) != 1:
            raise ModelError("its config does not fit: it takes waveforms with a sample rate")
        runtime = open_file(path, card.architecture, box.threads)
        body = FileBody(runtime, box, len(card.classes), card.sample_rate)
        body.ask(np.zeros((1, *card.input_shape), np.float32))
    return Classifier(Identity(), body, card).eval()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Names the file in errors that do not."""
    try:
        yield
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from None
