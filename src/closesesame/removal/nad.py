"""NAD: the suspect learns to look where a fine-tuned copy of it looks.

Li, Lyu, Koren, Lyu, Li, Ma, "Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural
Networks", ICLR 2021, arXiv:2101.05930; the lengths of both trainings as in BackdoorBench, arXiv:2206.12654.

Ours differs: the three layers are found by running the network, evenly spread over all that have a map, or
tokens, or steps: attention over a single place is constant and teaches nothing.
"""

import copy
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import ByChannel, Channels, channels_of, watched
from closesesame.training import GradientRule, Loss, fit

from .base import FineTuning


class NAD(FineTuning):
    """Fine-tune a teacher, then fine-tune the suspect with its attention maps drawn to the teacher's."""

    name: ClassVar[str] = "nad"
    cite: ClassVar[str] = "arXiv:2101.05930"
    cost: ClassVar[str] = "about twice plain fine-tuning"

    teacher_epochs: int = Field(10, ge=0, description="passes over the clean examples for the teacher")
    betas: tuple[float, float, float] = Field(
        (500.0, 1000.0, 1000.0),
        description="weights of the attention losses, first layer first",
    )
    power: float = Field(2.0, gt=0, description="p of the attention map, the sum of |F|^p over channels")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Two runs, nothing to choose; returns the layers that were matched."""
        del held_out
        teacher = copy.deepcopy(model)
        fit(
            teacher,
            tune,
            self.training(epochs=self.teacher_epochs, steps=None),
            seed=derive(seed, "teacher"),
        )
        teacher.requires_grad_(False)
        with torch.no_grad():
            example = model.front_end(tune.inputs[:2].to(next(model.parameters()).device))
        student_layers, teacher_layers = sites(model.body, example), sites(teacher.body, example)
        betas = self.betas[-len(student_layers) :]
        rule = distillation_rule(teacher.body, student_layers, teacher_layers, betas, self.power)
        fit(model, tune, self.training(), seed=seed, gradient=rule)
        return {"layers": [layer.name for layer in student_layers]}


def sites(body: nn.Module, example: Tensor) -> list[Channels]:
    """The layers in the middle of the first, second and last third of those with more than one place.

    Raises:
        ModelError: if there are none.
    """
    layers = channels_of(body, example)
    was_training = body.training
    body.eval()
    with torch.no_grad(), watched(layers) as seen:
        body(example)
    body.train(was_training)
    mapped = [layer for layer, value in zip(layers, seen, strict=True) if value.shape[2] > 1]
    if not mapped:
        raise ModelError("nad compares maps over time or frequency; no layer of this model makes any")
    wanted = min(3, len(mapped))
    return [mapped[(2 * third + 1) * len(mapped) // (2 * wanted)] for third in range(wanted)]


def distillation_rule(
    teacher: nn.Module,
    student_layers: list[Channels],
    teacher_layers: list[Channels],
    betas: tuple[float, ...],
    power: float,
) -> GradientRule:
    """The gradient of CE + sum of beta times the mean squared difference of attention."""

    def rule(body: nn.Module, loss: Loss) -> Tensor:
        def teach(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            with torch.no_grad():  # here, in the hook, the precision is that of the student's own pass
                teacher(inputs[0])

        hook = body.register_forward_pre_hook(teach)
        with watched(student_layers) as own, watched(teacher_layers) as taught:
            value: Tensor = loss()
            for beta, mine, his in zip(betas, own, taught, strict=True):
                apart = attention(mine, power) - attention(his, power)
                value = value + beta * apart.square().mean()
        hook.remove()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    return rule


def attention(maps: ByChannel, power: float) -> Float[Tensor, "batch place"]:
    """Sum of |F|^p over channels, scaled to unit length over the places of each example."""
    summed = maps.float().abs().pow(power).sum(1)
    length: Tensor = summed.norm(dim=1, keepdim=True)
    return summed / length.clamp(min=1e-6)
