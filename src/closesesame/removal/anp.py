"""ANP: channels whose disturbance breaks the network, as it wakes the backdoor, are pruned.

Wu, Wang, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021, arXiv:2110.14430;
settings of the authors' code: 2,000 steps of 128 (their 500 examples), masks below 0.2 pruned as the paper
has it.

Ours differs: every layer has masks, not batch norms only; batches are drawn without replacement. Without a
fixed threshold (`threshold = none`) the highest one is taken that held-out clean examples allow; the authors'
code and BackdoorBench try all and look at the ASR.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from closesesame.core.bounds import Steps
from closesesame.core.seeding import generator
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.optimisation.adversary import sign_steps
from closesesame.training import Batch, GradientRule, fit

from .common.masking import Masked, MaskTuning, masked_copy


class ANP(MaskTuning):
    """Learn masks under the worst noise on scales and shifts of all channels, prune the lowest."""

    name: ClassVar[str] = "anp"
    cite: ClassVar[str] = "arXiv:2110.14430"
    cost: ClassVar[str] = "about ten times the training of the model"

    eps: float = Field(
        0.4, gt=0, le=100, description="relative size of the noise on scale and shift of a channel"
    )
    ascent_steps: int = Field(1, ge=1, le=1000, description="steps in which the noise is made worse")
    alpha: float = Field(0.2, ge=0, le=1, description="share of the loss without noise")
    steps: Steps = Field(2000, description="batches in all")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run of the masks; `held_out` is for a threshold that is not given."""
        twin, masked = masked_copy(model)
        rng = generator(seed, "noise")
        rule = noise_rule(self.eps, self.ascent_steps, self.alpha, rng)
        fit(twin, tune, self.training(), seed=seed, gradient=rule)
        masked.clamp()
        return self.prune(model, [mask.detach() for mask in masked.masks], held_out)


def noise_rule(eps: float, ascent_steps: int, alpha: float, rng: Generator) -> GradientRule:
    """Gradient of alpha CE + (1 - alpha) CE under noise; the noise climbs along the sign of its gradient."""

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(body, Masked)
        body.clamp()
        noises = [(eps * (2 * torch.rand(len(m), generator=rng) - 1)).to(m) for m in [*body.masks] * 2]
        for _ in range(ascent_steps):
            noises = [noise.requires_grad_() for noise in noises]
            body.noise, body.shift_noise = noises[: len(noises) // 2], noises[len(noises) // 2 :]
            noises = sign_steps(batch.loss(body), noises, eps / ascent_steps)
        body.noise, body.shift_noise = noises[: len(noises) // 2], noises[len(noises) // 2 :]
        disturbed = batch.loss(body)
        body.noise = body.shift_noise = None
        loss = alpha * batch.loss(body) + (1 - alpha) * disturbed
        loss.backward()
        return loss

    return rule
