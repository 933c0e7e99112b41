"""A file as the body of a model: waveforms in, scores out, and no gradient."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import MOST_BYTES, MOST_SAMPLES, check_classes, check_reading
from closesesame.core.errors import ModelError, SettingError, counted, cut, listed, nearest
from closesesame.core.seeding import generator
from closesesame.core.settings import Settings
from closesesame.core.types import Logits, Wave
from closesesame.models.base import Classifier, ModelCard
from closesesame.models.front_ends import Identity

from .onnx_file import OnnxFile
from .runtime import Port, Runtime
from .tflite_file import TFLiteFile

FILES = {"onnx": "model.onnx", "tflite": "model.tflite"}
"""What the file is called in a model folder, by the architecture on the card."""
RUNTIMES: dict[str, type[OnnxFile | TFLiteFile]] = {"onnx": OnnxFile, "tflite": TFLiteFile}
LEAST_PROBABILITY = 1e-12
PROBES, SAME, NEARLY = 6, 1e-3, 0.02

Samples = NDArray[np.float32]
Scores = NDArray[np.float64]


class BlackBox(Settings):
    """How a file is asked."""

    input: str = Field("", description="name of the input that takes the waveform; empty: the first")
    output: str = Field("", description="name of the output with the scores; empty: the first that fits")
    answers: Literal["auto", "logits", "probabilities"] = Field(
        "auto", description="what the scores are; auto: found out by asking"
    )
    at_once: int = Field(
        0, ge=0, le=65_536, description="clips that are given together; 0: any number, if their answers stay"
    )
    frame: int = Field(
        0,
        ge=0,
        le=MOST_SAMPLES,
        description="samples that are given at once; 0: the whole clip",
    )
    hop: int = Field(0, ge=0, le=MOST_SAMPLES, description="samples from frame to frame; 0: a frame")
    pooling: Literal["last", "mean", "max"] = Field(
        "last",
        description="scores of a clip of several frames: those of the last, or of all",
    )
    threads: int = Field(1, ge=1, le=256, description="processors that it is run on")


@dataclass(frozen=True)
class Ports:
    """What the inputs of a file are for.

    Attributes:
        sound: takes the waveform.
        batch: clips that it takes at once; None for any number.
        time: samples that it takes at once; None for any number.
        rates: take the sample rate.
        states: take zeros and, from the second frame on, what the output with this name gave.
    """

    sound: Port
    batch: int | None
    time: int | None
    rates: tuple[Port, ...]
    states: dict[Port, str]

    @classmethod
    def of(cls, runtime: Runtime, box: BlackBox) -> "Ports":
        """Finds them by name and shape.

        Raises:
            ModelError: if the file has no such input or output, or takes something else.
        """
        sound = _named(box.input, runtime.inputs, "input")
        output = _named(box.output, runtime.outputs, "output")
        batch, time = _layout(sound)
        rates, states, others = list[Port](), dict[Port, str](), list[str]()
        given = [port for port in runtime.outputs if port is not output and port.is_float]
        for port in runtime.inputs:
            sizes = [size for size in port.shape if size is not None]
            if port is sound:
                continue
            if "sr" in port.name.lower() or "rate" in port.name.lower():
                rates.append(port)
            elif port.is_float and len(port.shape) - 1 <= len(sizes) and 0 < math.prod(sizes) <= MOST_SAMPLES:
                states[port] = next((one.name for one in given if len(one.shape) == len(port.shape)), "")
                given = [one for one in given if one.name != states[port]]
            else:
                others.append(f"{cut(port.name)} ({cut(port.kind)} {list(port.shape)})")
        if others:
            raise ModelError(
                f"besides the waveform the model takes {listed(others)}, which is neither a state that "
                "starts at zero nor the sample rate"
            )
        return cls(sound, batch, time, tuple(rates), states)


def _named(name: str, ports: tuple[Port, ...], what: str) -> Port:
    """The port of that name, or the first of real numbers."""
    found = [port for port in ports if port.is_float and name in ("", port.name)]
    if not found:
        raise ModelError(
            f"the model has no {what} {cut(name)!r} of real numbers; "
            f"{nearest(name, [port.name for port in ports])}"
        )
    return found[0]


def _layout(sound: Port) -> tuple[int | None, int | None]:
    """Clips and samples of (time), (batch, time), (batch, 1, time) or (batch, time, 1)."""
    shape = sound.shape
    if len(shape) == 1:
        return 1, shape[0]
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3 and 1 in shape[1:]:
        return shape[0], shape[2] if shape[1] == 1 else shape[1]
    raise ModelError(
        f"the model takes {cut(sound.name)} of shape {list(shape)}, and a waveform (batch, time) is needed: "
        "features would have to be computed in the file"
    )


class FileBody(nn.Module):
    """A file with the way to ask it.

    Attributes:
        runtime: the opened file.
        box: how it is asked.
        classes: how many there are.
        sample_rate: Hz.
    """

    def __init__(self, runtime: Runtime, box: BlackBox, classes: int, sample_rate: int) -> None:
        super().__init__()
        self.runtime, self.box = runtime, box
        self.classes, self.sample_rate = classes, sample_rate
        self.ports = Ports.of(runtime, box)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file."""
        return hashlib.sha256(self.runtime.content).hexdigest()

    def forward(self, wav: Wave) -> Logits:
        """Waveforms to logits; what is asked for a gradient of them says that there is none."""
        logits: Tensor = _WithoutGradient.apply(wav, self)  # type: ignore[no-untyped-call]
        return logits

    def ask(self, clips: Samples) -> Samples:
        """Logits (batch, classes) of clips (batch, time)."""
        scores = self.scores(clips)
        probabilities = self.box.answers == "probabilities"
        if scores.shape[1] < self.classes:  # one score of two classes is the second's
            scores = np.concatenate([1 - scores if probabilities else np.zeros_like(scores), scores], 1)
        if probabilities:
            scores = np.log(np.maximum(scores, LEAST_PROBABILITY))
        return scores.astype(np.float32)

    def scores(self, clips: Samples) -> Scores:
        """What the file gives, (batch, classes), or (batch, 1) where it has one score for two classes."""
        if not len(clips):
            return np.zeros((0, self.classes))
        size = self.ports.batch or self.box.at_once or len(clips)
        parts = [self._together(clips[start : start + size]) for start in range(0, len(clips), size)]
        return np.concatenate(parts)

    def _together(self, clips: Samples) -> Scores:
        """Scores of clips that are given together, beside silent ones where the file wants more."""
        own = len(clips)
        clips = np.pad(clips, ((0, (self.ports.batch or own) - own), (0, 0)))
        values = {port.name: port.filled(self.sample_rate, len(clips)) for port in self.ports.rates}
        values |= {port.name: port.filled(0, len(clips)) for port in self.ports.states}
        found = []
        for frame in self._frames(clips):
            given = self.runtime.run(values | {self.box.input: self._laid_out(frame)})
            values |= {state.name: given[source] for state, source in self.ports.states.items() if source}
            found.append(self._read(given[self.box.output], len(clips)))
        scores = np.concatenate(found, axis=1)
        pooled: dict[str, Scores] = {"last": scores[:, -1], "mean": scores.mean(1), "max": scores.max(1)}
        return pooled[self.box.pooling][:own]

    def _frames(self, clips: Samples) -> list[Samples]:
        """Clips (batch, time) cut into frames, of which the last ends with the clip."""
        frame = self.box.frame or clips.shape[1]
        hop = self.box.hop or frame
        missing = -(clips.shape[1] - frame) % hop if frame < clips.shape[1] else frame - clips.shape[1]
        clips = np.pad(clips, ((0, 0), (missing, 0)))
        return [clips[:, start : start + frame] for start in range(0, clips.shape[1] - frame + 1, hop)]

    def _laid_out(self, clips: Samples) -> NDArray[Any]:
        """Clips (batch, time) with the dimensions that the file has."""
        shape = self.ports.sound.shape
        given: NDArray[Any] = clips.astype(self.ports.sound.kind)
        if len(shape) == 1:
            return given.reshape(-1)
        return given if len(shape) == 2 else np.expand_dims(given, 1 if shape[1] == 1 else 2)

    def _read(self, given: NDArray[Any], clips: int) -> Scores:
        """Scores (batch, frames, width) in an output.

        Raises:
            ModelError: if it holds something else.
        """
        for width in (self.classes, 1) if self.classes == 2 else (self.classes,):
            if given.size == clips * width:
                return given.astype(np.float64).reshape(clips, 1, width)
            if given.ndim > 1 and given.size and (given.shape[0], given.shape[-1]) == (clips, width):
                return given.astype(np.float64).reshape(clips, -1, width)
        raise ModelError(
            f"output {cut(self.box.output)!r} has shape {list(given.shape)} for {counted(clips, 'clip')}; "
            f"scores of {self.classes} classes are needed"
        )


class _WithoutGradient(torch.autograd.Function):
    """Asks a file; that it has no gradient is said where one is wanted."""

    @staticmethod
    def forward(ctx: Any, wav: Tensor, body: FileBody) -> Tensor:
        """The logits."""
        del ctx
        return torch.from_numpy(body.ask(wav.detach().float().cpu().numpy())).to(wav.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        """Refuses."""
        del ctx, grads
        raise ModelError(
            "this needs gradients, and the model is a file that is run as it is and has none; take a method "
            "that looks at its answers alone, or import the weights into an architecture"
        )


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
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
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

    outputs = [box.output] if box.output else [port.name for port in runtime.outputs if port.is_float]
    for name in outputs:
        box = _with(box, output=name)
        try:
            alone = scores(_with(box, at_once=1))
            break
        except ModelError:
            if name == outputs[-1]:
                raise
    if not box.at_once and ports.batch is None:
        box = _with(box, at_once=0 if _stay(scores, box, alone) else 1)
    if box.answers == "auto":
        box = _with(box, answers="probabilities" if _are_probabilities(alone) else "logits")
    return box


def _with(box: BlackBox, **known: object) -> BlackBox:
    return BlackBox(**(box.model_dump() | known))


def _stay(scores: Callable[[BlackBox], Scores], box: BlackBox, alone: Scores) -> bool:
    """Whether clips that are given together get the scores that each gets alone."""
    try:
        return bool(np.allclose(scores(box), alone, rtol=SAME, atol=SAME))
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
        raise ModelError(
            f"the model takes {ports.time:,} samples at once, and a clip has {samples:,}: set "
            f"--duration-s to {ports.time / sample_rate:g}, or cut clips with --set frame={ports.time}"
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
