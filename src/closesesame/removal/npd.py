"""NPD, neural polarizer: one linear layer inside the frozen model learns to filter a trigger out.

Zhu, Wei, Zha, Wu, "Neural Polarizer: A Lightweight and Effective Backdoor Defense via Purifying Poisoned
Features", NeurIPS 2023, arXiv:2306.16697. The layer mixes channels, starts as the identity, and is the only
thing trained: on clean examples x of class y and on x', perturbed towards t, the most likely class of x
beside y, with l1 CE(x, y) + l2 CE(x', f(x)) - l3 log(1 - p(x', u)) - l4 log(1 - p(x', t)), where f(x) is the
model's own class of x and u the most likely class of x' beside y.

Defaults are those of the authors' code, which is part of BackdoorBench: SGD with a constant learning rate,
and in batches of 128 of 2,500 examples 5 epochs of warm-up and 50 epochs: 100 and 1,000 steps. The warm-up
takes CE(x, y) alone, with a small learning rate.

Ours differs: the batch norm behind the layer is left out, so that the layer can be multiplied into the
weights behind it when it is done, and the repaired model has the shape of the suspect; so the warm-up,
which also finds that norm's statistics, does little. Every layer that takes the same activations shares the
layer, so nothing gets around it by a skip connection. Bound and step, 3 and 0.1 for pictures in 0..1, are
counted in deviations of the features, of which such a picture has about 4 in 1.
"""

from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from closesesame.core.bounds import BatchSize, LearningRate, LossWeight, Steps
from closesesame.core.errors import ModelError
from closesesame.core.seeding import derive
from closesesame.core.types import Labels, Logits
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.hooks import on_input
from closesesame.optimisation.adversary import sign_step, within_ball
from closesesame.training import Batch, backpropagate, fit
from closesesame.training.losses import loss_against

from .base import FineTuning

Mixable = nn.Conv1d | nn.Conv2d | nn.Linear
WIDEST = 1024
"""Inputs of a layer beyond which a mixing matrix has more weights than the model."""


class NPD(FineTuning):
    """Train one channel-mixing layer at some depth against perturbations, then fold it in."""

    name: ClassVar[str] = "npd"
    cite: ClassVar[str] = "arXiv:2306.16697"
    fp32_only: ClassVar[bool] = True
    cost: ClassVar[str] = "several times the training of the model"

    depth: float = Field(0.75, ge=0, le=1, description="where the layer is: 0 is the first place, 1 the last")
    steps: Steps = Field(1000, description="batches in all, after the warm-up")
    warmup: float = Field(
        0.1, ge=0, le=10, description="length of the warm-up on the clean loss, as a share of `steps`"
    )
    warmup_lr: LearningRate = Field(1e-4, description="learning rate of the warm-up, without momentum")
    batch_size: BatchSize = Field(128, description="examples a batch; at most the whole set")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate"
    )
    augmentation: Literal["none", "light", "strong"] = Field("none", description="of the features")
    clean: LossWeight = Field(1.0, description="weight of the clean loss, l1")
    adversarial: LossWeight = Field(0.4, description="weight of the loss on perturbed examples, l2")
    wrong: LossWeight = Field(0.4, description="weight against their best wrong class, l3")
    aimed: LossWeight = Field(0.4, description="weight against the class they were perturbed to, l4")
    radius: float = Field(
        12.0, gt=0, le=10_000, description="L2 bound of a perturbation, in deviations of the features"
    )
    step: float = Field(0.4, gt=0, le=1000, description="of the perturbation, by sign, in deviations")
    ascent_steps: int = Field(2, ge=1, le=1000, description="steps of the perturbation")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        model.eval()
        with torch.no_grad():
            example = model.front_end(tune.inputs[:2].to(model.device))
        layers = place(model.body, example, self.depth)
        model.requires_grad_(False)
        inputs = layers[0].weight.shape[1]
        polarizer = Polarizer(inputs).to(example.device)
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", polarizer)
        short = self.training(
            steps=round(self.warmup * self.steps),
            optimizer="sgd",
            lr=self.warmup_lr,
            momentum=0,
            nesterov=False,
            weight_decay=0,
            precision="fp32",
        )
        fit(model, tune, short, seed=derive(seed, "warm-up"), gradient=_warm)
        fit(model, tune, self.training(precision="fp32"), seed=seed, gradient=self._rule)
        for layer in layers:
            layout = layer.parametrizations.weight.original  # type: ignore[union-attr]
            parametrize.remove_parametrizations(layer, "weight")
            layer.weight.data = torch.empty_like(layout).copy_(layer.weight.data)  # type: ignore[arg-type]
        model.requires_grad_(True)
        names = {module: name for name, module in model.body.named_modules()}
        change = float((polarizer.mixing.detach() - torch.eye(inputs, device=example.device)).norm())
        return {"before": [names[layer] for layer in layers], "change": round(change, 3)}

    def _rule(self, body: nn.Module, batch: Batch) -> Tensor:
        body.eval()
        loss = self.clean * batch.loss(body)
        with torch.no_grad():
            logits = body(batch.features)
        predicted, aim = logits.argmax(1), best_other(logits, batch.labels)
        logits = body(batch.features + self._perturbation(body, batch.features, aim))
        wrong = best_other(logits.detach(), batch.labels)
        loss = loss + self.adversarial * F.cross_entropy(logits, predicted)
        loss = loss + self.wrong * against(logits, wrong) + self.aimed * against(logits, aim)
        loss.backward()
        return loss.detach()

    def _perturbation(self, body: nn.Module, features: Tensor, aim: Labels) -> Tensor:
        """Towards the class `aim`, until most of the batch is there."""
        unit = float(features.std())
        delta = torch.zeros_like(features)
        for number in range(self.ascent_steps):
            delta.requires_grad_()
            logits = body(features + delta)
            if number and (logits.argmax(1) == aim).float().mean() > 0.6:
                break
            delta = sign_step(F.cross_entropy(logits, aim), delta, -self.step * unit)
            delta = within_ball(delta, self.radius * unit)
        return delta.detach()


def _warm(body: nn.Module, batch: Batch) -> Tensor:
    """The clean loss alone, of the model as it predicts."""
    body.eval()
    return backpropagate(body, batch).detach()


def best_other(logits: Logits, labels: Labels) -> Labels:
    """The most likely class of each example beside its label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def against(logits: Logits, classes: Labels) -> Tensor:
    """Mean of -log(1 - p) of a class of each example, with the margin of the authors' code."""
    return loss_against(logits, classes, margin=1e-4).mean()


def place(body: nn.Module, example: Tensor, depth: float) -> list[Mixable]:
    """The layers in front of which the polarizer goes: those that take the same activations.

    Raises:
        ModelError: if no layer takes more than one channel and few enough to mix.
    """
    groups: dict[int, list[Mixable]] = {}
    kept: list[Tensor] = []  # what is kept is not freed, so no other tensor gets its id

    def note(layer: Mixable, value: Tensor) -> None:
        kept.append(value)
        groups.setdefault(id(value), []).append(layer)

    able = [m for m in body.modules() if isinstance(m, Mixable) and 1 < m.weight.shape[1] <= WIDEST]
    with ExitStack() as hooks, torch.no_grad():
        for layer in able:
            if isinstance(layer, nn.Linear) or layer.groups == 1:
                hooks.enter_context(on_input(layer, partial(note, layer)))
        body(example)
    if not groups:
        raise ModelError("npd needs a layer that mixes channels behind the first one; this model has none")
    found = list(groups.values())
    return found[round(depth * (len(found) - 1))]


class Polarizer(nn.Module):
    """A square matrix in front of a layer, as a parametrization of that layer's weights."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.eye(inputs))

    def forward(self, weight: Tensor) -> Tensor:
        """Weights (out, in, ...) times the matrix."""
        return torch.einsum("oi...,ij->oj...", weight, self.mixing)
