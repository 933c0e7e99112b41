"""REFINE: the model stays as it is; a network in front of it reprograms it for classes in another order.

Chen, Shao, Huang, Li, Chen, Qin, Ren, "REFINE: Inversion-Free Backdoor Defense via Model Reprogramming",
ICLR 2025, arXiv:2502.18508. Behind the model f a mapping M gives every class the place of another, drawn
once. In front, a U-Net T learns without labels what f must be given so that the answer is again the class c
that f alone says of x: BCE(M(softmax f(T(x))), c) + lambda L(T(x), c), where L is the supervised contrastive
loss of Khosla et al., NeurIPS 2020, arXiv:2004.11362, on what T makes, every example there twice. A trigger
must then pass T, and no output of f means what it meant to the attacker.

Lambda 0.1, SGD and the length are those of the authors' code: 150 epochs in batches of 256 of 2,500 examples
are 1,500 steps (they have all 50,000 of the training set: 29,250). Temperature 0.07 is that of Khosla et al.,
four halvings are those of the first U-Net (Ronneberger et al., 2015, arXiv:1505.04597).

Ours differs: T stands between front end and network, and so changes maps of speech as theirs does pictures;
what it makes keeps within the range of the clean features, theirs within 0..1. T has 8 channels at full size,
not 64, or no processor would be done with it. Their learning rate falls to 0.64 of itself near the end, ours
stays. Waveforms are halved twice at a time. M turns the rows of the last layer, so that the classes keep
their places for whoever uses the model; the weights are the suspect's otherwise.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.audio.augment import Augmentation
from closesesame.core.bounds import MOST_SAMPLES, LossWeight
from closesesame.core.errors import DivergedError, ModelError
from closesesame.core.seeding import generator, isolated
from closesesame.core.settings import default
from closesesame.core.types import Inputs, Labels
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Architecture, Classifier
from closesesame.models.front_ends import FrontEnd
from closesesame.models.imported import EXTERNAL
from closesesame.models.size import check_size
from closesesame.training import Batch, fit
from closesesame.training.distillation import last_layer
from closesesame.training.losses import contrastive_loss
from closesesame.training.predicting import autocast
from closesesame.training.settings import Schedule
from closesesame.training.steps import training_only

from .base import FineTuning

REPROGRAMMED = "reprogrammed"
"""The architecture on the card of a reprogrammed model."""
Order = Int64[Tensor, " classes"]
"""For each place among the logits, the place among the suspect's of what stands there."""


class Refine(FineTuning):
    """Give the classes of a frozen model other places, and train a U-Net in front of it to make up for it."""

    name: ClassVar[str] = "refine"
    cite: ClassVar[str] = "arXiv:2502.18508"
    requires: ClassVar[str] = "features before a linear layer"
    cost: ClassVar[str] = "tens of times the training of the model, and a U-Net with each clip"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "width": 4}

    width: int = Field(8, ge=1, le=64, description="channels of the U-Net at full size")
    depth: int = Field(4, ge=1, le=4, description="how often the U-Net halves what it gets")
    contrast: LossWeight = Field(0.1, description="weight of the supervised contrastive loss, lambda")
    temperature: float = Field(0.07, gt=0, le=100, description="that its cosines are divided by")
    steps: int = default(FineTuning, "steps", 1500, description="batches that the U-Net is trained on")
    schedule: Schedule = default(FineTuning, "schedule", "constant")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose; labels are not looked at."""
        del held_out
        features = model.features(tune)
        order = other_places(len(model.card.classes), generator(seed, "output mapping")).to(features.device)
        reorder(model, order, features[:2])
        with isolated(seed, "weights", self.name):
            network = UNet(tuple(features.shape[1:]), self.width, self.depth).to(features.device)
        network.low.copy_(features.min())
        network.high.copy_(features.max())

        def rule(network: nn.Module, batch: Batch) -> Tensor:
            with torch.no_grad():
                said = order[batch.logits(model.body).argmax(1)]
            with autocast(batch.features.device, batch.precision):
                changed = network(batch.features)
            mapped = batch.with_features(changed).logits(model.body).float()
            shares = mapped.softmax(1)
            if not shares.isfinite().all():  # the cross-entropy refuses them without a remedy
                raise DivergedError(f"the training diverged; lower lr, which is {self.lr:g}")
            loss = F.binary_cross_entropy(shares, F.one_hot(said, mapped.shape[1]).float())
            loss = loss + self.contrast * supervised_contrast(changed, said, self.temperature)
            loss.backward()
            return loss.detach()

        with training_only(model.body, []):
            fit(
                Classifier(model.front_end, network, model.card),
                tune,
                self.training(),
                seed=seed,
                gradient=rule,
            )
        whole = reprogrammed(network, model)
        model.front_end, model.card = whole.front_end, whole.card
        return {"order": order.tolist()}

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        """That the body alone is of no use."""
        del chosen
        return [
            "only the model as a whole is repaired: without the network in front, it takes classes for others"
        ]


def other_places(classes: int, rng: Generator) -> Order:
    """A random order in which nothing stands where it was."""
    stays = torch.arange(classes)
    order = stays
    while bool((order == stays).any()):
        order = torch.randperm(classes, generator=rng)
    return order


@torch.no_grad()
def reorder(model: Classifier, order: Order, features: Tensor) -> None:
    """Turns the rows of the last layer, in place.

    Args:
        model: whose logits come in another order then.
        order: of the logits.
        features: of a few examples, to see that they do.

    Raises:
        ModelError: if no linear layer makes the logits, as they are.
    """
    head, before = last_layer(model), model.body(features)
    for weight in () if head is None else (head.weight, head.bias):
        if weight is not None:
            weight.copy_(weight[order])
    if not torch.allclose(model.body(features), before[:, order], rtol=1e-3, atol=1e-4):
        raise ModelError(
            f"{Refine.name} turns the rows of the layer that makes the logits; this model has no "
            f"{Refine.requires} that makes them as they are"
        )


def supervised_contrast(features: Tensor, classes: Labels, temperature: float) -> Float[Tensor, ""]:
    """The mean of -log softmax(cosine / temperature) over all others at those of the same class.

    Args:
        features: (batch, ...); every example is there twice, so each has another of its class.
        classes: of the examples.
        temperature: that cosines are divided by.
    """
    return contrastive_loss(features.flatten(1).repeat(2, 1), classes.repeat(2), temperature).mean()


class UNet(nn.Module):
    """Features to features of the same shape, by way of coarser and coarser ones.

    Attributes:
        low: the lowest value that it makes.
        high: the highest.
    """

    low: Tensor
    high: Tensor

    def __init__(self, shape: tuple[int, ...], width: int, depth: int) -> None:
        super().__init__()
        if len(shape) not in {1, 2, 3}:
            raise ModelError(f"{Refine.name} changes waveforms, maps and pictures, not features of {shape}")
        self.shape, self.width, self.depth = shape, width, depth
        flat, channels = len(shape) == 1, shape[0] if len(shape) == 3 else 1
        conv, self.mode = (nn.Conv1d, "linear") if flat else (nn.Conv2d, "bilinear")
        step = 4 if flat else 2
        self.pool = (nn.MaxPool1d if flat else nn.MaxPool2d)(step, ceil_mode=True)
        widths = [width * 2 ** min(level, depth - 1) for level in range(depth + 1)]
        self.down = nn.ModuleList(_block(*pair, flat=flat) for pair in pairwise([channels, *widths]))
        levels = reversed(list(pairwise(widths)))
        self.up = nn.ModuleList(_block(fine + coarse, fine, flat=flat) for fine, coarse in levels)
        self.last = conv(width, channels, 1)
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, ...) to such within the bounds."""
        x = features if len(self.shape) == 3 else features[:, None]
        seen = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            seen.append(x)
        seen.pop()
        for block in self.up:
            fine = seen.pop()
            x = F.interpolate(x, size=fine.shape[2:], mode=self.mode, align_corners=False)
            x = block(torch.cat([fine, x], 1))
        changed: Tensor = self.last(x).reshape(features.shape).to(features)  # not bf16 for the network behind
        return changed.clamp(self.low, self.high)


def _block(ins: int, outs: int, *, flat: bool) -> nn.Sequential:
    conv, norm, size = (nn.Conv1d, nn.BatchNorm1d, 9) if flat else (nn.Conv2d, nn.BatchNorm2d, 3)
    layers: list[nn.Module] = []
    for channels in (ins, outs):
        layers += [conv(channels, outs, size, padding=size // 2, bias=False), norm(outs), nn.ReLU()]
    return nn.Sequential(*layers)


def reprogrammed(network: UNet, model: Classifier) -> Classifier:
    """A U-Net and a model as one model; its card says how both are made anew, if the model's own does."""
    card = model.card
    if card.architecture != EXTERNAL:
        settings = {
            "shape": list(network.shape),
            "width": network.width,
            "depth": network.depth,
            "architecture": card.architecture,
            "architecture_settings": card.settings,
        }
        card = replace(card, architecture=REPROGRAMMED, settings=settings)
    return Classifier(_Changed(network, model.front_end), model.body, card)


class _Changed(FrontEnd):
    """The front end of a model, and a U-Net behind it that is not trained any more."""

    def __init__(self, network: UNet, front_end: FrontEnd) -> None:
        super().__init__()
        self.before, self.network = front_end, network.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "_Changed":
        """Stays in evaluation mode: the statistics of its batch norms are learned."""
        del mode
        return super().train(False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Features, changed."""
        features: Tensor = self.network(self.before(inputs))
        return features

    def calibrate(self, data: Dataset) -> None:
        """As the model's own."""
        self.before.calibrate(data)

    def augmentation(self, strength: str) -> Augmentation | None:
        """As the model's own."""
        return self.before.augmentation(strength)


class Reprogrammed(Architecture):
    """A network of any other architecture, which gets its features from a U-Net."""

    name: ClassVar[str] = REPROGRAMMED
    cite: ClassVar[str] = Refine.cite
    domains: ClassVar[tuple[str, ...]] = ("speech", "pictures")

    shape: tuple[Annotated[int, Field(ge=1, le=MOST_SAMPLES)], ...] = Field(
        min_length=1, max_length=3, description="of the features of one example"
    )
    width: int = default(Refine, "width", 8)
    depth: int = default(Refine, "depth", 4)
    architecture: str = Field(description="of the network")
    architecture_settings: dict[str, Any] = Field({}, description="of that")

    def calls(self) -> tuple[str, ...]:
        """The architecture."""
        return (ARCHITECTURES[self.architecture].__module__,)

    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        """Makes both with fresh weights.

        Raises:
            ModelError: if the U-Net would take more memory than is allowed.
        """
        architecture = ARCHITECTURES.recall(self.architecture, self.architecture_settings)
        model = architecture.build(classes, input_shape, sample_rate, seed=seed)
        check_size(self.name, lambda: UNet(self.shape, self.width, self.depth))
        with isolated(seed, "weights", self.name):
            network = UNet(self.shape, self.width, self.depth)
        return reprogrammed(network, model)
