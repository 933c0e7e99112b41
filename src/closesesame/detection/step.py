"""STEP: labels of triggered clips stay when the words are destroyed, or change when the words are kept.

Wang et al., "STEP: Detecting Audio Backdoor Attacks via Stability-based Trigger Exposure Profiling", 2026,
arXiv:2603.18103. Written from the abstract: no more was at hand. It says that each clip goes through two
branches of perturbations, which break its meaning or preserve it; that triggers are abnormally stable in the
first and abnormally fragile in the second; that one-class detectors, made with clean clips alone, score both;
that the scores are fused with weights that need no labels; and that only labels are asked of the model.

Ours differs, for want of the paper: the perturbations are ours. A branch looks at the share of draws of each
perturbation after which the label is that of the clip as it is. Its detector is the distance of this share
from the mean of clean clips, in their standard deviations, in the direction that the branch expects, and the
mean over the perturbations. The weight of a branch is one over the standard deviation of its score on clean
clips.

All clips get the same draws, so the score of a clip does not depend on the others.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float64
from pydantic import Field
from torch import Generator, Tensor

from closesesame.audio.effects import mix_at_snr
from closesesame.audio.interpolation import read_linear
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.models import Classifier
from closesesame.training import predict

from .base import Detection

Perturbation = Callable[[Wave, Generator], Wave]
LEAST_DEVIATION = 0.05
"""Added to standard deviations: the labels of few clean clips may all stay."""
PART = 256
"""How many clips are perturbed at a time."""


class STEP(Detection):
    """Score how stable each clip's label is when its words are broken, and how fragile when they are kept."""

    name: ClassVar[str] = "step"
    cite: ClassVar[str] = "arXiv:2603.18103"
    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"
    needs_clean: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"draws": 1}

    draws: int = Field(4, ge=1, le=1000, description="of each perturbation")

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """The sum of both branches, each in its standard deviations over the clean clips."""
        scores = torch.zeros(len(examples), dtype=torch.float64)
        for branch, sign in ((BREAKING, 1), (PRESERVING, -1)):
            known, asked = (self._stays(model, data, branch, seed) for data in (clean, examples))
            mean, deviation = known.mean(0), known.std(0, unbiased=False) + LEAST_DEVIATION
            known, asked = (sign * ((stays - mean) / deviation).mean(1) for stays in (known, asked))
            scores += asked / (known.std(unbiased=False) + LEAST_DEVIATION)
        return scores

    def _stays(
        self, model: Classifier, data: Dataset, branch: dict[str, Perturbation], seed: int
    ) -> Float64[Tensor, "n kind"]:
        """For each clip and perturbation the share of draws after which the label is that of the clip."""
        labels, parts = predict(model, data).argmax(1), torch.arange(len(data)).split(PART)
        stays = torch.zeros(len(data), len(branch), dtype=torch.float64)
        asked = [(kind, name, draw) for kind, name in enumerate(branch) for draw in range(self.draws)]
        for kind, name, draw in Track(asked, "perturbing clips", len(asked)):
            for rows in parts:  # all are changed alike, so the parts start from the same state
                part = data.take(rows)
                changed = branch[name](part.inputs[:], generator(seed, name, draw))
                answers = predict(model, part.with_inputs(Rows.of(changed))).argmax(1)
                stays[rows, kind] += (answers == labels[rows]).double() / self.draws
        return stays


def _shuffled(wav: Wave, rng: Generator, pieces: int) -> Wave:
    """Cuts clips into pieces of equal length and puts them in another order; the rest stays at the end."""
    size = wav.shape[1] // pieces
    order = torch.randperm(pieces, generator=rng).tolist()
    parts = [wav[:, piece * size : (piece + 1) * size] for piece in order]
    return torch.cat([*parts, wav[:, pieces * size :]], 1)


def _reversed(wav: Wave, rng: Generator) -> Wave:
    """Plays clips backwards, from a random place on and around the end."""
    return wav.flip(1).roll(int(torch.randint(wav.shape[1], (), generator=rng)), 1)


def _noisy(wav: Wave, rng: Generator, snr_db: float) -> Wave:
    """Adds white noise."""
    return mix_at_snr(wav, torch.randn(wav.shape[1], generator=rng), snr_db)


def _smeared(wav: Wave, rng: Generator) -> Wave:
    """Smears clips over their whole length: the sum of eight copies of each, moved around the end."""
    by = torch.randint(wav.shape[1], (8,), generator=rng).tolist()
    return sum((wav.roll(step, 1) for step in by), torch.zeros_like(wav)) / 8**0.5


def _shifted(wav: Wave, rng: Generator) -> Wave:
    """Moves clips by up to a twentieth of their length, silence behind."""
    most = max(1, wav.shape[1] // 20)
    by = int(torch.randint(-most, most + 1, (), generator=rng))
    moved = wav.roll(by, 1)
    moved[:, : max(0, by)] = 0
    moved[:, wav.shape[1] + min(0, by) :] = 0
    return moved


def _at_other_speed(wav: Wave, rng: Generator) -> Wave:
    """Plays clips up to 6 % faster or slower, about their middle."""
    speed = 1 + 0.12 * (float(torch.rand((), generator=rng)) - 0.5)
    middle = (wav.shape[1] - 1) / 2
    place = (torch.arange(wav.shape[1]) - middle) * speed + middle
    return read_linear(wav, place[None]) * ((place >= 0) & (place <= wav.shape[1] - 1))


def _filtered(wav: Wave, rng: Generator) -> Wave:
    """Tilts the spectrum by up to 6 dB from end to end."""
    spectrum = torch.fft.rfft(wav)
    slope_db = 12 * (float(torch.rand((), generator=rng)) - 0.5)
    gain = 10 ** (slope_db * torch.linspace(-0.5, 0.5, spectrum.shape[1]) / 20)
    made: Tensor = torch.fft.irfft(spectrum * gain, wav.shape[1])
    return made


BREAKING: dict[str, Perturbation] = {
    "shuffled": partial(_shuffled, pieces=12),
    "reversed": _reversed,
    "smeared": _smeared,
    "drowned": partial(_noisy, snr_db=-5),
}
"""What destroys words."""
PRESERVING: dict[str, Perturbation] = {
    "shifted": _shifted,
    "speed": _at_other_speed,
    "filtered": _filtered,
    "noisy": partial(_noisy, snr_db=25),
}
"""What leaves words as they are."""
