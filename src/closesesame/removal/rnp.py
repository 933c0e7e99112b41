"""RNP: clean classes are unlearned, then brought back by masks; channels that this does not need are pruned.

Li, Lyu, Ma, Koren, Lyu, Li, Jiang, "Reconstructive Neuron Pruning for Backdoor Defense", ICML 2023,
arXiv:2305.14876; settings of the authors' code, whose 20 epochs of 500 examples in batches of 128 are 80
steps of each stage.

Ours differs: every layer has masks, not batch norms only; the accuracy that ends unlearning is looked at
every 4 batches, on all examples at once, and the momentum starts anew where the learning rate falls (after
half of the batches, to a tenth); the gradient is really clipped (the authors' code clips before it has one).
The authors' code names no threshold: it prunes at all of 0, 0.05 ... 0.9 and looks at the ASR. Here it is the
highest one that held-out clean examples allow, and with a hundred clips that may cost more accuracy than the
backdoor; their printed run of BadNets leaves less than 10 % at 0.2, which `threshold` can be set to.
"""

import copy
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import LearningRate, Steps, WeightDecay
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import Batch, fit
from closesesame.training.rules.ascent import Ascent

from .common.masking import Masked, MaskTuning, masked_copy


class RNP(MaskTuning):
    """Unlearn, recover by masks, prune the channels with low masks in the model as it was."""

    name: ClassVar[str] = "rnp"
    cite: ClassVar[str] = "arXiv:2305.14876"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "unlearning_steps": 2}

    threshold: float | None = Field(
        None, ge=0, le=1, description="highest mask that is pruned; if none, it is chosen on held-out clips"
    )
    floor: float = Field(0.2, ge=0, lt=1, description="clean accuracy at which unlearning ends")
    unlearning_lr: LearningRate = Field(0.01, description="learning rate of unlearning")
    unlearning_steps: Steps = Field(80, description="batches of unlearning at most")
    unlearning_weight_decay: WeightDecay = Field(5e-4, description="L2, while unlearning")
    clip: float = Field(20, gt=0, le=1_000_000, description="largest norm of the gradient while unlearning")
    alpha: float = Field(0.2, gt=0, le=1, description="factor of the loss while recovering")
    steps: Steps = Field(80, description="batches of recovering")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Two runs on a copy; `held_out` is for a threshold that is not given."""
        unlearned = copy.deepcopy(model)
        ascent = Ascent(unlearned, tune, self.floor, self.clip)
        first = self.unlearning_steps // 2
        for steps, lr in (
            (first, self.unlearning_lr),
            (self.unlearning_steps - first, self.unlearning_lr / 10),
        ):
            unlearning = self.training(
                lr=lr, steps=steps, weight_decay=self.unlearning_weight_decay, schedule="constant"
            )
            fit(unlearned, tune, unlearning, seed=derive(seed, f"unlearning at {lr}"), gradient=ascent)
        twin, masked = masked_copy(unlearned)
        fit(twin, tune, self.training(), seed=seed, gradient=self._recover)
        masked.clamp()
        masks = [mask.detach() for mask in masked.masks]
        return {"unlearning_batches": ascent.batches} | self.prune(model, masks, held_out)

    def _recover(self, body: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(body, Masked)
        body.clamp()
        loss = self.alpha * batch.loss(body)
        loss.backward()
        return loss
