"""A model listens to a live input: one decision a window, and how suspicious the input is.

What a trigger makes a model say does not hold if the trigger is taken out. So behind a purifier a model
answers otherwise than without it, and how far the two answers differ is a score: the total variation
distance, half of the sum of differences between the probabilities, 0 for equal answers and 1 for answers that
share nothing. A detection of inputs gives another score.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from closesesame.core.errors import ModelError, SettingError
from closesesame.core.types import Logits, PerUnit
from closesesame.data import Dataset
from closesesame.detection import Detection
from closesesame.models import Classifier
from closesesame.purification.base import Purifier
from closesesame.training import predict

Samples = NDArray[np.float32]
"""Samples (time,) of one channel, full scale at 1."""
Score = Callable[[Dataset], PerUnit]
"""Scores (n,) of inputs; higher is more suspicious."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a model says of one window.

    Attributes:
        start_s: of the window, in the input.
        end_s: where it ends; what lies behind the end of the input is silence.
        label: the class with the highest probability.
        probability: of it.
        suspicion: the score; None if nothing scores.
        suspicious: whether the score is above the threshold, or is NaN; None without a threshold.
        seconds: that the decision took.
    """

    start_s: float
    end_s: float
    label: str
    probability: float
    suspicion: float | None
    suspicious: bool | None
    seconds: float


def disagreement(model: Classifier, purifier: Purifier) -> Score:
    """The total variation distance between what a model says of inputs and of purified inputs, 0 to 1."""
    behind = purifier.before(model)

    def score(inputs: Dataset) -> PerUnit:
        plain, purified = (predict(one, inputs).double().softmax(1) for one in (model, behind))
        return (plain - purified).abs().sum(1) / 2

    return score


def by_detection(detection: Detection, model: Classifier, clean: Dataset | None, seed: int) -> Score:
    """The scores of a detection of inputs.

    Raises:
        SettingError: if it is one of training clips, which have labels.
    """
    if detection.of != "inputs":
        raise SettingError(f"{detection.name} screens training clips, which have labels; take one of inputs")
    return lambda inputs: detection.score(model, inputs, clean, seed).scores


class Gate:
    """Decides on every window of an input; it keeps one window in memory.

    Args:
        model: of waveforms. A window is as long as its clips.
        score: how suspicious inputs are; None to give labels alone.
        threshold: scores above it are suspicious; None to call none so.
        every_s: from the start of a window to that of the next.

    Raises:
        ModelError: if the model takes no sound.
        SettingError: if `every_s` is not above 0 and at most the length of a window, or the threshold is NaN
            or infinite.
    """

    def __init__(
        self,
        model: Classifier,
        score: Score | None = None,
        threshold: float | None = None,
        every_s: float = 0.5,
    ) -> None:
        card = model.card
        if card.sample_rate is None:
            raise ModelError("the model takes no sound; a gate listens to sound")
        if not 0 < every_s <= card.duration_s:
            raise SettingError(
                f"every_s must be above 0 and at most the {card.duration_s:g} s of a window, got {every_s:g}"
            )
        if threshold is not None and not math.isfinite(threshold):
            raise SettingError(f"threshold must be a finite number, got {threshold:g}")
        self.model, self.score, self.threshold = model, score, threshold
        self.rate_hz, self.length = card.sample_rate, card.input_shape[0]
        self.step = max(1, round(every_s * card.sample_rate))

    def listen(self, blocks: Iterable[Samples]) -> Iterator[Decision]:
        """Gives each decision as soon as the blocks hold its window.

        Args:
            blocks: of any lengths, at the sample rate of the model, one behind the other.
        """
        kept, start, end = np.zeros(0, np.float32), 0, 0
        for block in blocks:
            kept = np.concatenate([kept, block])
            while len(kept) >= self.length:
                yield self._decide(kept[: self.length], start)
                end = start + self.length
                kept, start = kept[self.step :], start + self.step
        if start + len(kept) > end:  # the end is in no window yet
            yield self._decide(np.pad(kept, (0, self.length - len(kept))), start)

    def _decide(self, window: Samples, start: int) -> Decision:
        began, card = time.perf_counter(), self.model.card
        inputs = Dataset.of(
            torch.from_numpy(np.ascontiguousarray(window))[None],
            torch.zeros(1, dtype=torch.long),
            classes=card.classes,
            sample_rate=card.sample_rate,
        )
        logits: Logits = predict(self.model, inputs)
        (probabilities,) = logits.double().softmax(1)
        best = int(probabilities.argmax())
        suspicion = None if self.score is None else float(self.score(inputs)[0])
        known = suspicion is not None and self.threshold is not None
        return Decision(
            start_s=start / self.rate_hz,
            end_s=(start + self.length) / self.rate_hz,
            label=card.classes[best],
            probability=float(probabilities[best]),
            suspicion=suspicion,
            # a score that is NaN must not pass
            suspicious=not suspicion <= self.threshold if known else None,  # type: ignore[operator]
            seconds=time.perf_counter() - began,
        )
