"""What removals that learn a mask for every channel share: the masked network, and how far to prune."""

import copy
from abc import ABC
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import BatchSize, LearningRate, WeightDecay
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in, scaled
from closesesame.removal.base import FineTuning
from closesesame.training import judge

THRESHOLDS = tuple(step / 20 for step in range(19))
"""0, 0.05 ... 0.9."""


class MaskTuning(FineTuning, ABC):
    """A removal that trains masks; the defaults are those of the code of ANP and RNP.

    A threshold that is not given may cost what it may in BackdoorBench, arXiv:2206.12654: a tenth of the
    accuracy. Of all that cost no more BackdoorBench takes the one with the lowest ASR, for which it needs
    the trigger; here it is the highest one, and the accuracy is that on held-out clean examples.
    """

    threshold: float | None = Field(
        0.2, ge=0, le=1, description="highest mask that is pruned; if none, it is chosen on held-out clips"
    )
    tolerance: float = Field(
        0.1, ge=0, lt=1, description="relative drop of held-out accuracy that is allowed, if it is chosen"
    )
    rise: float | None = Field(
        None,
        ge=0,
        le=100,
        description="rise of held-out loss that is allowed, in nats, if it is chosen; none: any",
    )
    lr: LearningRate = Field(0.2, description="highest learning rate of the masks")
    batch_size: BatchSize = Field(128, description="examples a batch; at most the whole set")
    weight_decay: WeightDecay = Field(0, description="L2, on the masks")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate"
    )

    def prune(self, model: Classifier, masks: list[Tensor], held_out: Dataset) -> dict[str, Any]:
        """Prunes for good the channels whose mask is at most the threshold, given or chosen on `held_out`."""
        if self.threshold is None:
            return prune_as_allowed(model, masks, held_out, self.tolerance, self.rise)
        return _report(self.threshold, prune_below(model, masks, self.threshold), masks)


class Masked(nn.Module):
    """A network whose weights stand still and whose channels are multiplied by masks that are trained.

    Attributes:
        masks: (channel,) for each layer, 1 at first.
        noise: what is added to the masks, or None.
        shift_noise: what is added to 1 to multiply what shifts the channels, or None.
    """

    def __init__(self, body: nn.Module, layers: list[Channels]) -> None:
        super().__init__()
        self.body, self.layers = body.requires_grad_(False), layers
        device = next(body.parameters()).device
        self.masks = nn.ParameterList(torch.ones(layer.count, device=device) for layer in layers)
        self.noise: list[Tensor] | None = None
        self.shift_noise: list[Tensor] | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Features to logits."""
        scales: list[Tensor] = list(self.masks)
        if self.noise is not None:
            scales = [mask + noise for mask, noise in zip(scales, self.noise, strict=True)]
        shifts = None if self.shift_noise is None else [1 + noise for noise in self.shift_noise]
        with scaled(self.layers, scales, shifts):
            logits: Tensor = self.body(features)
        return logits

    @torch.no_grad()
    def clamp(self) -> None:
        """Brings the masks back between 0 and 1, where the last step may have left."""
        for mask in self.masks:
            mask.clamp_(0, 1)


def masked_copy(model: Classifier) -> tuple[Classifier, Masked]:
    """A copy of the model to train masks on, and its body."""
    twin = copy.deepcopy(model)
    body = Masked(twin.body, channels_in(twin))
    return Classifier(twin.front_end, body, twin.card), body


def prune_below(model: Classifier, masks: list[Tensor], threshold: float) -> int:
    """Prunes the channels whose mask is at most `threshold`, one mask (channel,) a layer; says how many went.

    Pruned channels become constant: what is added to them stays, as in the papers.
    """
    pruned = 0
    for layer, mask in zip(channels_in(model), masks, strict=True):
        low = (mask <= threshold).nonzero().flatten()
        layer.prune(low, shift=False)
        pruned += len(low)
    return pruned


def prune_as_allowed(
    model: Classifier, masks: list[Tensor], held_out: Dataset, tolerance: float, rise: float | None
) -> dict[str, Any]:
    """Prunes up to the highest of `THRESHOLDS` that held-out data allow; nothing if they allow none.

    Allowed are a relative drop of held-out accuracy by `tolerance` and, unless it is None, a rise of held-out
    loss by `rise` nats; the loss sees what the accuracy of a few clips does not.
    """
    before, loss_before = judge(model, held_out)
    original = copy.deepcopy(model.body.state_dict())
    for threshold in reversed(THRESHOLDS):
        pruned = prune_below(model, masks, threshold)
        now, loss = judge(model, held_out)
        if now >= before * (1 - tolerance) and (rise is None or loss <= loss_before + rise):
            return _report(threshold, pruned, masks)
        model.body.load_state_dict(original)
    return _report(None, 0, masks)


def _report(threshold: float | None, pruned: int, masks: list[Tensor]) -> dict[str, Any]:
    return {"threshold": threshold, "pruned_channels": pruned, "of": sum(len(mask) for mask in masks)}
