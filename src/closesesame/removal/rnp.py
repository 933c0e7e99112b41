"""RNP: clean classes are unlearned, then brought back by masks; channels that this does not need are pruned.

Li, Lyu, Ma, Koren, Lyu, Li, Jiang, "Reconstructive Neuron Pruning for Backdoor Defense", ICML 2023,
arXiv:2305.14876; settings of the authors' code, whose 20 epochs of 500 examples are 80 batches.

Ours differs: every layer has masks, not batch norms only; the threshold is chosen on held-out clean examples,
by accuracy and by loss, as in `anp`; the accuracy is looked at every 4 batches; the learning rate does not
fall while unlearning. With a hundred clean clips many masks that stay low belong to clean classes, and in
most victims the held-out loss lets nothing be pruned.
"""

import copy
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import Loss, fit

from .masking import Masked, MaskTuning, masked_copy, prune_by_masks
from .unlearning import Ascent


class RNP(MaskTuning):
    """Unlearn, recover by masks, prune the channels with low masks in the model as it was."""

    name: ClassVar[str] = "rnp"
    cite: ClassVar[str] = "arXiv:2305.14876"

    floor: float = Field(0.2, ge=0, lt=1, description="clean accuracy at which unlearning ends")
    unlearning_lr: float = Field(0.01, gt=0, description="learning rate of unlearning")
    unlearning_steps: int = Field(80, ge=0, description="batches of unlearning at most")
    unlearning_weight_decay: float = Field(5e-4, ge=0, description="L2, while unlearning")
    clip: float = Field(20, gt=0, description="largest norm of the gradient while unlearning")
    alpha: float = Field(0.2, gt=0, le=1, description="factor of the loss while recovering")
    steps: int | None = Field(80, ge=0, description="batches of recovering, instead of `epochs`")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses the threshold on `held_out`."""
        unlearned = copy.deepcopy(model)
        ascent = Ascent(unlearned, tune, self.floor, self.clip)
        unlearning = self.training(
            lr=self.unlearning_lr,
            steps=self.unlearning_steps,
            weight_decay=self.unlearning_weight_decay,
            schedule="constant",
        )
        fit(unlearned, tune, unlearning, seed=seed, gradient=ascent)
        twin, masked = masked_copy(unlearned)
        fit(twin, tune, self.training(), seed=seed, gradient=self._recover)
        masked.clamp()
        masks = [mask.detach() for mask in masked.masks]
        return {"unlearning_batches": ascent.batches} | prune_by_masks(
            model, masks, held_out, self.tolerance, self.rise
        )

    def _recover(self, body: nn.Module, loss: Loss) -> Tensor:
        assert isinstance(body, Masked)
        body.clamp()
        value = self.alpha * loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value
