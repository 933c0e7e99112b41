"""Dynamics: a clip is suspicious if a model repaired with ordinary clips does not give it its label. Ours.

The course of each clip's loss over a slow training and one under strong augmentation shows which clips are
learned neither first nor last; `training/ordinary.py` says how. Two copies of the suspect, or of a ResNet
that is trained on the clips if the suspect is another network, are repaired by self-distillation, as the
removal `restore` does with clean clips, with a half of these each. A repaired copy keeps little of a
backdoor, so it mostly hears what is said in a poisoned clip, which is not its label. No clip is judged by the
copy that learned from it.

Ranks alone, the other way round, are a weak score: some clip of every class has the highest rank, whether the
class is poisoned or not. The loss under the repaired copies can be compared over all classes.

Clips of a clean-label attack have the label of what is said in them, so no loss finds them. Their quiet
cells may, where a trigger lies under the speech: clips of a part of a class whose quiet cells make a model
answer it count as if their label had a tenth of its chance, which flags them at the default threshold. Up to
half of the clean clips of that class are flagged with them, and so is a part that was recorded elsewhere
(`bar_told=False` keeps both). A trigger that is louder than the speech, or that changes it, is not found so.
Nor is a poisoned clip told from one that was mislabelled by mistake.
"""

import math
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from closesesame.data import Dataset
from closesesame.models import Classifier, ResNet
from closesesame.training import Training, train
from closesesame.training.ordinary import OrdinaryCheck

from .base import Detection

UNDER_SPEECH = math.log(10)
"""Nats that a clip's loss counts more if it is of a part of a class that quiet cells tell."""


class Dynamics(Detection, OrdinaryCheck):
    """Score the loss of each clip under copies of the suspect that are repaired with the ordinary clips."""

    name: ClassVar[str] = "dynamics"
    cite: ClassVar[str] = "ours"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    trains: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {
        "slow_epochs": 1,
        "strong_epochs": 2,
        "unmet_epochs": 1,
        "check_steps": 2,
        "views": 2,
        "splices": 4,
    }

    threshold: float = Field(
        2.3, ge=0, le=1000, description="loss in nats above which a clip is flagged: its label has 10 %"
    )

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """In double precision, where losses near 0 still differ."""
        del clean
        if self.in_place_of(model, examples):
            model = train(ResNet(), examples, Training(device=str(model.device)), seed=seed)
        chosen, losses = self.checked(model.requires_grad_(True), examples, Training(), seed, _listen)
        return losses + UNDER_SPEECH * chosen.barred

    def in_place_of(self, model: Classifier, examples: Dataset) -> str | None:
        """A ResNet, if it chooses the clips."""
        if self.chooses_itself(model.card.architecture, examples):
            return None
        return "a ResNet that it trains on these clips (--set chooser=own changes that)"

    def flags_above(self) -> float:
        """The threshold."""
        return self.threshold


def _listen(stage: str, epoch: int, model: Classifier) -> None:
    """Nobody is told."""
    del stage, epoch, model
