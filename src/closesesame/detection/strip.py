"""STRIP: a trigger decides what the model answers even if another clip is laid over the input.

Gao, Xu, Wang, Chen, Ranasinghe, Nepal, "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks",
ACSAC 2019, arXiv:1902.06531; for audio in Gao et al., "Design and Evaluation of a Multi-Domain Trojan
Detection Method on Deep Neural Networks", IEEE TDSC 2021, arXiv:1911.10312, where waveforms are added. Each
input is mixed with 100 clean clips, and the mean entropy of the answers is low if it has a trigger.

Ours differs: both clips of a mixture are as loud as the input (equal RMS), and it is scaled to the loudness
of the input, so that a quiet trigger is not drowned and a level-sensitive model hears no new level. All
inputs are mixed with the same clean clips: a score does not depend on which other inputs there are.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor

from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Inputs
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.models import Classifier
from closesesame.training import predict

from .base import Detection

MIXTURES_AT_ONCE = 1024
SILENT = 1e-4
"""RMS below which an input counts as silent: -80 dBFS."""


class Strip(Detection):
    """Score minus the mean entropy of the answers to an input under each of some clean clips."""

    name: ClassVar[str] = "strip"
    cite: ClassVar[str] = "arXiv:1902.06531"
    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"
    needs_clean: ClassVar[bool] = True
    quick: ClassVar[dict[str, int]] = {"mixtures": 4}

    mixtures: int = Field(
        100, ge=1, le=10_000, description="clean clips that each input is mixed with; at most all there are"
    )

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """As many runs of the model as there are mixtures in all."""
        count = min(self.mixtures, len(clean))
        drawn = torch.randperm(len(clean), generator=generator(seed, "clean clips"))[:count]
        others, size = clean.inputs[drawn], max(1, MIXTURES_AT_ONCE // count)
        scores = []
        for first in Track(range(0, len(examples), size), "mixing", -(-len(examples) // size)):
            rows = torch.arange(first, min(first + size, len(examples)))
            mixed = mixtures_of(examples.inputs[rows], others).flatten(0, 1)
            logits = predict(model, examples.take(rows.repeat_interleave(count)).with_inputs(Rows.of(mixed)))
            entropies = torch.special.entr(logits.double().softmax(1)).sum(1)
            scores.append(-entropies.unflatten(0, (len(rows), count)).mean(1))
        return torch.cat(scores)


def mixtures_of(
    inputs: Inputs, others: Float32[Tensor, "other *item"]
) -> Float32[Tensor, "batch other *item"]:
    """Each input mixed with each other clip, both as loud as the input, and so is the mixture.

    The power of the sum of two clips that have nothing in common is that of both together, so the sum is
    divided by the square root of 2. A silent input counts as one of `SILENT`, so there is something to hear.
    """
    loud, other = rms(inputs).clamp(min=SILENT), rms(others).clamp(min=SILENT)
    gain = loud[:, None] / other
    across = (..., *[None] * (inputs.ndim - 1))
    mixed: Tensor = (inputs[:, None] + gain[across] * others) / 2**0.5
    return mixed


def rms(inputs: Inputs) -> Float32[Tensor, " batch"]:
    """Root of the mean square of each example."""
    return inputs.flatten(1).square().mean(1).sqrt()
