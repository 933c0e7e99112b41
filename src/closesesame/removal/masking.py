"""What removals that learn a mask for every channel share: the masked network, and how far to prune."""

import copy
from abc import ABC
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in, scaled
from closesesame.training import predict

from .base import FineTuning

THRESHOLDS = tuple(step / 20 for step in range(19))
"""0, 0.05 ... 0.9."""


class MaskTuning(FineTuning, ABC):
    """A removal that trains masks; but for `rise` the defaults are those of the code of ANP and RNP."""

    tolerance: float = Field(0, ge=0, lt=1, description="relative drop of held-out accuracy that is allowed")
    rise: float = Field(0.01, ge=0, description="rise of held-out loss that is allowed, in nats")
    lr: float = Field(0.2, gt=0, description="highest learning rate of the masks")
    batch_size: int = Field(128, ge=2, description="examples a batch; at most the whole set")
    weight_decay: float = Field(0, ge=0, description="L2, on the masks")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate"
    )


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


def prune_by_masks(
    model: Classifier, masks: list[Tensor], held_out: Dataset, tolerance: float, rise: float
) -> dict[str, Any]:
    """Prunes for good the channels whose mask is at most the highest threshold that held-out data allow.

    There is one mask (channel,) a layer. Allowed are a relative drop of held-out accuracy by `tolerance` and
    a rise of held-out loss by `rise` nats; the loss sees what the accuracy of a few clips does not. Pruned
    channels become constant: what is added to them stays, as in the papers.
    """
    before, loss_before = judge(model, held_out)
    original = copy.deepcopy(model.body.state_dict())
    layers = channels_in(model)
    for threshold in reversed(THRESHOLDS):
        pruned = 0
        for layer, mask in zip(layers, masks, strict=True):
            low = (mask <= threshold).nonzero().flatten()
            layer.silence(low, shift=False)
            pruned += len(low)
        now, loss = judge(model, held_out)
        if now >= before * (1 - tolerance) and loss <= loss_before + rise:
            chosen: float | None = threshold
            break
        model.body.load_state_dict(original)
    else:
        chosen, pruned = None, 0
    return {"threshold": chosen, "pruned_channels": pruned, "of": sum(layer.count for layer in layers)}


def judge(model: Classifier, data: Dataset) -> tuple[float, float]:
    """Accuracy and loss."""
    logits = predict(model, data)
    right = float((logits.argmax(1) == data.labels).float().mean())
    return right, float(F.cross_entropy(logits, data.labels))
