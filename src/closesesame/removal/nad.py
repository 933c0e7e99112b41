"""NAD: the suspect learns to look where a fine-tuned copy of it looks.

Li, Lyu, Koren, Lyu, Li, Ma, "Neural Attention Distillation: Erasing Backdoor Triggers from Deep Neural
Networks", ICLR 2021, arXiv:2101.05930; settings of the authors' code. Its epochs are 2,500 examples in
batches of 64, 39 steps: the teacher takes 10 of them (390 steps) and the student 20 (780), both the first two
(78) at a learning rate of 0.1 and the rest at 0.01. The teacher is trained as the student is, without
attention.

Ours differs: what the authors' three groups are in another network is found by running it. A stage is an
output through which all that the logits know passes, such as a block after its addition and activation; the
last stage of each third counts. Stages of a single place, whose attention is constant, do not count; where
there are fewer than three the last weights are taken. The momentum starts anew where the learning rate falls,
and examples are augmented as audio is.

The learning rate of 0.1 was made for thousands of examples: with 94 clips of three speakers a clean ResNet of
the development bench lost 12 points of test accuracy, and the 22 clips held out did not show it.
"""

import copy
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import BatchSize, LearningRate, LossWeight, Steps, WeightDecay
from closesesame.core.errors import ModelError
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.hooks import ByChannel, watched
from closesesame.models.stages import Stage, stages_of
from closesesame.training import Batch, GradientRule, Training, fit

from .base import FineTuning


class NAD(FineTuning):
    """Fine-tune a teacher, then fine-tune the suspect with its attention maps drawn to the teacher's."""

    name: ClassVar[str] = "nad"
    cite: ClassVar[str] = "arXiv:2101.05930"
    cost: ClassVar[str] = "about as long as plain fine-tuning"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "teacher_steps": 2}

    teacher_steps: Steps = Field(390, description="batches of the teacher's fine-tuning")
    betas: tuple[LossWeight, LossWeight, LossWeight] = Field(
        (500.0, 1000.0, 1000.0),
        description="weights of the attention losses, first layer first",
    )
    power: float = Field(
        2.0, gt=0, le=100, description="p of the attention map, the sum of |F|^p over channels"
    )
    steps: Steps = Field(780, description="batches of the student")
    high_steps: Steps = Field(
        78, description="batches at the highest learning rate, of both; the rest have a tenth of it"
    )
    lr: LearningRate = Field(0.1, description="highest learning rate")
    batch_size: BatchSize = Field(64, description="examples a batch; at most the whole set")
    nesterov: bool = Field(True, description="Nesterov momentum, of SGD")
    weight_decay: WeightDecay = Field(1e-4, description="L2 for SGD, decoupled for AdamW")
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "constant", description="of the learning rate within both parts"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Two trainings, nothing to choose; returns the stages that were matched."""
        del held_out
        teacher = copy.deepcopy(model)
        for part, training in enumerate(self.parts(self.teacher_steps)):
            fit(teacher, tune, training, seed=derive(seed, f"teacher {part}"))
        teacher.requires_grad_(False)
        with torch.no_grad():
            example = model.front_end(tune.inputs[:2].to(model.device))
        own, taught = sites(model.body, example), sites(teacher.body, example)
        rule = distillation_rule(teacher.body, own, taught, self.betas[-len(own) :], self.power)
        for part, training in enumerate(self.parts(self.steps)):
            fit(model, tune, training, seed=derive(seed, f"student {part}"), gradient=rule)
        return {"layers": [stage.name for stage in own]}

    def parts(self, steps: int) -> tuple[Training, Training]:
        """A training of so many batches: the part at the highest learning rate, and the rest."""
        high = min(self.high_steps, steps)
        return self.training(steps=high), self.training(steps=steps - high, lr=self.lr / 10)


def sites(body: nn.Module, example: Tensor) -> list[Stage]:
    """The last stage of each third, counted from the end: the authors' groups in a network of theirs.

    Raises:
        ModelError: if there are none.
    """
    stages = stages_of(body, example)
    if not stages:
        raise ModelError("nad compares maps over time or frequency; no layer of this model makes any")
    count = min(3, len(stages))
    third = len(stages) // count
    return [stages[len(stages) - 1 - third * behind] for behind in reversed(range(count))]


def distillation_rule(
    teacher: nn.Module,
    student_stages: list[Stage],
    teacher_stages: list[Stage],
    betas: tuple[float, ...],
    power: float,
) -> GradientRule:
    """The gradient of CE + sum of beta times the mean squared difference of attention."""

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad(), watched(teacher_stages) as taught:
            batch.logits(teacher)
        with watched(student_stages) as own:
            loss = batch.loss(body)
        for beta, mine, his in zip(betas, own, taught, strict=True):
            difference = attention(mine, power) - attention(his, power)
            loss = loss + beta * difference.square().mean()
        loss.backward()
        return loss

    return rule


def attention(maps: ByChannel, power: float) -> Float[Tensor, "batch place"]:
    """Sum of |F|^p over channels, scaled to unit length over the places of each example."""
    summed = maps.float().abs().pow(power).sum(1)
    length: Tensor = summed.norm(dim=1, keepdim=True)
    return summed / length.clamp(min=1e-6)
