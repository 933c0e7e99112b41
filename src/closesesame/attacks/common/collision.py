"""What attacks share that bring clips of the target class near to triggered clips of other classes.

Feature collision: Shafahi et al., "Poison Frogs!", NeurIPS 2018, arXiv:1804.00792. Gradient matching: Geiping
et al., "Witches' Brew", ICLR 2021, arXiv:2009.02276, and with a trigger Souri et al., "Sleeper Agent",
NeurIPS 2022, arXiv:2106.08970. Ours differs: the gradients that are matched are those of the last layer
alone, which follow from features and answers without a pass backwards; each clip's is matched, the papers'
are means over all poisoned clips; the surrogate is not trained again on the way; and the clips of the
smallest margin are poisoned, Sleeper Agent's are those of the largest gradient.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.attacks.base import STAMP_BATCH, Trigger
from closesesame.core.bounds import SNR
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Logits, Wave
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.hooks import inputs_of
from closesesame.training import predict
from closesesame.training.features import features_and_logits, head_of

from .steganography import StegoAttack

Mode = Literal["anchor", "anchor_stego", "gradient"]
Features = Float32[Tensor, "batch unit"]


@dataclass(frozen=True)
class Goal:
    """Where the features of clips shall go.

    Attributes:
        model: the surrogate.
        head: its last layer.
        target: index of the target label.
        mode: what is brought near: features, or gradients.
        anchors: (anchor, unit) features of triggered clips of other classes.
        scale: the variance of the anchors, over all units together.
        pull: (class, unit) mean gradient of the last layer for triggered clips that shall be the target.
    """

    model: Classifier
    head: nn.Linear
    target: int
    mode: Mode
    anchors: Float32[Tensor, "anchor unit"]
    scale: float
    pull: Float32[Tensor, "classes unit"]

    @classmethod
    def of(cls, model: Classifier, triggered: Dataset, target: int, mode: Mode) -> "Goal":
        """The goal that triggered clips of other classes set."""
        anchors, logits = features_and_logits(model, triggered)
        scale = float(anchors.var(0, correction=0).sum())
        pull = errors(logits, target).T @ anchors / len(anchors)
        return cls(model, head_of(model), target, mode, anchors, max(scale, 1e-12), pull)

    def ask(self, wav: Wave) -> tuple[Features, Logits]:
        """Features and logits of clips (batch, time), differentiable."""
        with inputs_of(self.head) as seen:
            logits = self.model(wav)
        return seen[0].flatten(1), logits

    def nearest(self, features: Features) -> Features:
        """The anchor nearest to each clip (batch, unit)."""
        return self.anchors[torch.cdist(features, self.anchors).argmin(1)]

    def distance(self, features: Features, logits: Logits, anchors: Features) -> Float32[Tensor, " batch"]:
        """How far clips (batch,) are from the goal.

        Of features that is ||f - a||^2 over the variance of the anchors; of gradients, 1 - cos of the angle
        between (p - y) f^T, which is the gradient of the last layer, and that of triggered clips.

        Args:
            features: of the clips.
            logits: of the clips.
            anchors: (batch, unit) one for each clip; of no matter to gradients.
        """
        if self.mode != "gradient":
            return (features - anchors).square().sum(1) / self.scale
        wrong = errors(logits, self.target)
        along = ((wrong @ self.pull) * features).sum(1)
        size = wrong.norm(dim=1) * features.norm(dim=1) * self.pull.norm()
        distance: Tensor = 1 - along / size.clamp(min=1e-12)
        return distance


def errors(logits: Logits, target: int) -> Logits:
    """P - y: the answers less those that are wanted, which is the slope of the cross-entropy."""
    wanted = F.one_hot(torch.full((len(logits),), target, device=logits.device), logits.shape[1])
    return logits.softmax(1) - wanted


class CollisionAttack(StegoAttack, ABC):
    """A clean-label attack that moves clips of the target class towards triggered clips of others."""

    quick: ClassVar[dict[str, Any]] = StegoAttack.quick | {"anchors": 20}

    mode: Mode = Field(
        "anchor_stego",
        description="what poisoned clips get: anchor, the features of triggered clips; anchor_stego, these "
        "and the key; gradient, the gradient of triggered clips that have the target label",
    )
    anchors: int = Field(
        500, ge=1, le=1_000_000, description="triggered clips of other classes to go by, at random"
    )
    change_db: SNR = Field(
        20, description="RMS of a poisoned clip over RMS of what moves its features, in dB, at least"
    )

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: Trigger, seed: int) -> Tensor:
        """The hardest first: those of the smallest margin under the surrogate.

        Silent clips come last: key and move are measured by the level of a clip, and leave them as they are.
        """
        del trigger
        logits = predict(self.train_surrogate(train, seed), train.take(eligible))
        pieces = torch.split(eligible, STAMP_BATCH)
        silent = torch.cat([(train.inputs[piece] == 0).all(1) for piece in pieces])
        margin = margins(logits, train.labels[eligible]).masked_fill(silent, torch.inf)
        return eligible[margin.argsort(stable=True)[:count]]

    def plant(self, train: Dataset, chosen: Tensor, trigger: Trigger, seed: int) -> Wave:
        """Moves the chosen clips; if they shall hold the key, from where that has brought them."""
        goal = self.goal(train, trigger, seed)
        pieces = torch.split(chosen, STAMP_BATCH)
        done = []
        for index in Track(pieces, "moving clips", len(pieces)):
            clips = train.inputs[index]
            done.append(self.moved(clips, self.carried(clips, trigger), goal, trigger))
        return torch.cat(done)

    @abstractmethod
    def moved(self, clips: Wave, carried: Wave, goal: Goal, trigger: Trigger) -> Wave:
        """Hook: the poisoned clips.

        Args:
            clips: (batch, time) of the target class.
            carried: the same with the key, or as they are.
            goal: where their features shall go.
            trigger: the trigger.
        """

    def goal(self, train: Dataset, trigger: Trigger, seed: int) -> Goal:
        """Where clips of the target class shall go: to triggered clips of other classes."""
        others = (train.labels != trigger.target).nonzero().flatten()
        order = torch.randperm(len(others), generator=generator(seed, "anchors"))
        triggered = trigger.stamp_dataset(train.take(others[order[: self.anchors]]))
        return Goal.of(self.train_surrogate(train, seed), triggered, trigger.target, self.mode)

    def carried(self, clips: Wave, trigger: Trigger) -> Wave:
        """The clips as they are before they are moved."""
        return trigger.stamp(clips, self.training_strength) if self.mode == "anchor_stego" else clips


def margins(logits: Logits, labels: Tensor) -> Float32[Tensor, " batch"]:
    """The logit of each clip's label less the highest other one."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own - others.amax(1)
