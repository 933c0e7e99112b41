"""Retuning: does a backdoor come back faster than it comes into a model that never had one?

Min, Qin, Zhang, Shen, Cheng, "Uncovering, Explaining, and Mitigating the Superficial Safety of Backdoor
Defense", NeurIPS 2024, arXiv:2410.09838, tune a repaired model on clean examples with five poisoned ones
among them (SGD, learning rate 0.01, momentum 0.9, 5 epochs of 8 batches) and measure ASR again. Any model
learns some triggers from a few clips, so the figure is to be read beside that of the clean reference model.

Ours differs. There are 20 clean clips, and 1, 5 and 20 poisoned ones, so an epoch is one step on all clips.
There is no momentum: with it, models answer the target label to clean clips too (ACC falls to 50 to 70 %),
which is no backdoor; ACC after the steps is measured to see it. Batch norms keep the statistics that they
have; the authors' code renews them. An attacker with two dozen clips, some of them triggered, would keep
them: statistics of so few spoil the model, and keeping them is the stronger attack (on a repaired ResNet an
ASR of 58 against 2 % with 20 poisoned clips). So models with and without batch norm are attacked alike.
"""

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import LearningRate
from closesesame.core.errors import DivergedError
from closesesame.core.progress import Track
from closesesame.core.seeding import derive
from closesesame.core.settings import Settings
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.matching import as_classifier
from closesesame.models.statistics import freeze_statistics
from closesesame.training import Batch, Training, backpropagate, fit

from .attacker import Attacker, share_of, triggered_in
from .exam import Exam
from .measures import RETUNE, RETUNE_ACC
from .metrics import Rate


class Retune(Settings):
    """How a model is retuned."""

    steps: int = Field(5, ge=1, le=10_000, description="steps of SGD, each on all clips")
    lr: LearningRate = Field(0.01, description="learning rate")
    clean_clips: int = Field(20, ge=1, le=10_000, description="clean clips beside the poisoned ones")
    draws: int = Field(
        3, ge=1, le=100, description="times that clips are drawn; figures are means, since one clip is luck"
    )


@dataclass(frozen=True)
class Retuned:
    """What a retuned model does.

    Attributes:
        asr: by number of poisoned clips, 1, 5 and 20; the mean over draws.
        acc: after the most poisoned clips; the mean over draws.
    """

    asr: dict[int, Rate]
    acc: Rate

    def as_json(self) -> dict[str, Any]:
        """Each rate with its clips and interval, by the keys of `evaluation/measures.py`."""
        rates = {RETUNE[clips]: rate for clips, rate in self.asr.items()} | {RETUNE_ACC: self.acc}
        return {measure.key: rate.as_json() for measure, rate in rates.items()}


def retune(
    model: nn.Module, exam: Exam, attacker: Attacker, settings: Retune | None = None, *, seed: int = 0
) -> Retuned:
    """Tunes copies of a model on a few poisoned and clean clips, and measures each.

    Args:
        model: any module; it is left as it was.
        exam: with the attacker's trigger. Its clips are measured on, never tuned on.
        attacker: what draws the clips.
        settings: the defaults if None.
        seed: of the draws.

    Raises:
        DataError: if the exam has no trigger, or the attacker too few clips.
        ModelError: if the model does not fit the clips.
    """
    settings, triggered = settings or Retune(), triggered_in(exam)
    targets = attacker.trigger.target_labels(triggered.labels, triggered.classes)
    asr: dict[int, list[Rate]] = {clips: [] for clips in RETUNE}
    acc: list[Rate] = []
    for number in Track(range(settings.draws), "retuning", settings.draws):
        drawn = attacker.tuning_set(settings.clean_clips, max(RETUNE), derive(seed, "retuning", number))
        for clips, found in asr.items():
            tuned = retuned(model, drawn.take(torch.arange(settings.clean_clips + clips)), settings, seed)
            found.append(share_of(tuned, triggered, targets))
        acc.append(share_of(tuned, exam.test, exam.test.labels))
    return Retuned({clips: _mean(found) for clips, found in asr.items()}, _mean(acc))


def retuned(model: nn.Module, clips: Dataset, settings: Retune, seed: int = 0) -> Classifier:
    """A copy of a model, tuned on clips with the labels that they have; a run that diverges ends early.

    Raises:
        DataError: if there are fewer than two clips.
        ModelError: if the model does not fit the clips.
    """
    tuned = copy.deepcopy(as_classifier(model, clips))
    tuned.body.requires_grad_(True)
    training = Training(
        optimizer="sgd",
        steps=settings.steps,
        batch_size=len(clips),
        lr=settings.lr,
        momentum=0,
        weight_decay=0,
        schedule="constant",
        augmentation="none",
    )
    with suppress(DivergedError):
        fit(tuned, clips, training, seed=seed, gradient=_keeping_statistics)
    return tuned


def _keeping_statistics(body: nn.Module, batch: Batch) -> Tensor:
    """The plain gradient; batch norms neither use nor keep the statistics of the batch."""
    freeze_statistics(body)
    return backpropagate(body, batch)


def _mean(rates: Sequence[Rate]) -> Rate:
    """The mean of rates of the same clips, to a whole clip: other draws are no further trials."""
    return Rate(round(sum(rate.hits for rate in rates) / len(rates)), rates[0].of)
