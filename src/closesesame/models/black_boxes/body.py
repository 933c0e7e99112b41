"""A file as the body of a model: waveforms in, scores out, and no gradient."""

import hashlib
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closesesame.core.errors import ModelError, counted, cut
from closesesame.core.types import Logits, Wave

from .ports import BlackBox, Ports
from .runtime import Runtime, deadline

LEAST_PROBABILITY = 1e-12
Samples = NDArray[np.float32]
Scores = NDArray[np.float64]


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
        found, until = [], deadline(len(clips))
        for frame in self._frames(clips):
            given = self.runtime.run(values | {self.box.input: self._laid_out(frame)}, until)
            values |= {state.name: given[source] for state, source in self.ports.states.items()}
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
        ctx.path = body.runtime.path
        return torch.from_numpy(body.ask(wav.detach().float().cpu().numpy())).to(wav.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        """Refuses."""
        del grads
        raise ModelError(
            f"this needs gradients, and {ctx.path} is a file that is run as it is and has none; take a "
            "method that looks at answers alone, or import the weights into an architecture"
        )
