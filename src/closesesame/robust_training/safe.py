"""Safe: train on all clips as if they were clean, and repair the model with the most ordinary of them. Ours.

Nothing is assumed of the attack or of the poisoning rate, and no clean clips are needed.
`training/ordinary.py` says which clips are ordinary, and how they are checked; with them the model is
repaired by self-distillation, as the removal `restore` does with clean clips, and then with more clips. The
repaired model tells which clips are clean better than anything before, so it is repaired a third time, with
all clips that it knows, but of each class at most as many as the median class has. With them go clips that
were overlooked: where a class has several kinds of clips, such as those of several speakers, no clip of one
kind may have been ordinary. This time it is told what the model knew before any repair, which was trained on
all clips and is the most accurate; but only what it says, since features of a model with a backdoor pass some
of that on. So it costs next to no accuracy on words and digits if there was no poison; a model that tells
speakers apart loses some points.

In sound a ResNet chooses the clips, whatever network is trained. Another network is trained on all clips, and
repaired once, with the last ones.

Poisoned clips whose labels are right pass every check of answers. So in every repair a clip is heard with the
quiet cells of another one, unless the model needs these, and what lies under the speech is hardly learned.
And where the quiet cells of a part of a class make a model answer it in other clips, that part is never
learned from; the remarks say so, since a part that was recorded elsewhere looks the same.
"""

import copy
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch.nn import functional as F

from closesesame.core.bounds import LossWeight, Steps
from closesesame.core.errors import counted, listed
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier, ResNet
from closesesame.training import Training, predict, train
from closesesame.training.ordinary import OrdinaryRepair, best_known, overlooked
from closesesame.training.selfdistillation import exchange_remarks

from .base import RobustTraining, Watch

LENGTH = ("epochs", "steps", "batch_size", "precision", "device")
"""What the training of the network that chooses takes from that of the one that is trained."""
REPORTED = ("believed_clips", "batches", "known_without_quiet", "exchanged")
"""Of the last repair."""


class Safe(RobustTraining, OrdinaryRepair):
    """Train plainly, repair with the clips that are learned neither first nor last, then with nearly all."""

    name: ClassVar[str] = "safe"
    cite: ClassVar[str] = "ours"
    quick: ClassVar[dict[str, Any]] = {
        "training": {"epochs": 1},
        "slow_epochs": 1,
        "strong_epochs": 2,
        "unmet_epochs": 1,
        "check_steps": 2,
        "first_steps": 2,
        "repair_steps": 2,
        "views": 2,
        "splices": 4,
    }

    repair_steps: Steps = Field(500, description="batches of the last repair")
    last_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="clips of each class to repair with at last, as a share of the median class",
    )
    last_overlooked: bool = Field(
        True, description="repair at last with clips, too, that were overlooked: hardly poisoned, yet unknown"
    )
    last_feature_weight: LossWeight = Field(0, description="feature_weight of the last repair")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Eight trainings, or more if a repair learns too little or a label is far larger than others.

        If another network chooses, there is one more, `training of the chooser`.
        """
        del clean
        look = partial(watch, "training")
        trained = train(architecture, untrusted, self.training, seed=seed, after_epoch=look)
        if itself := self.chooses_itself(architecture.name, untrusted):
            model, training = copy.deepcopy(trained), self.training
        else:
            training = Training(**{name: getattr(self.training, name) for name in LENGTH})
            look = partial(watch, "training of the chooser")
            model = train(ResNet(), untrusted, training, seed=seed, after_epoch=look)
        never, counts = self.repair_with_ordinary(model, untrusted, training, seed, watch)
        said, labels = predict(model, untrusted).double(), untrusted.labels
        losses = F.cross_entropy(said, labels, reduction="none")
        known = best_known(losses, labels, self.last_share, self.ordinary_least, never)
        missed = overlooked(said, labels) if self.last_overlooked else known[:0]
        missed = missed[~never[missed]]
        last = untrusted.take(torch.cat([known, missed]).unique())
        if not itself:
            model = copy.deepcopy(trained)
        repair = self.model_copy(update={"feature_weight": self.last_feature_weight}).repair_with(
            model, last, self.training, self.repair_steps, seed, "repair 3", watch, teacher=trained
        )
        return model, {
            **counts,
            "last_clips": len(last),
            "overlooked_clips": len(missed),
            **{name: repair[name] for name in REPORTED if name in repair},
        }

    def remarks(self, chosen: dict[str, Any]) -> list[str]:
        """What was barred, what was not exchanged, and whether plain training learned the last clips."""
        said = exchange_remarks(chosen)
        if chosen["barred_clips"]:
            said.append(
                f"{counted(chosen['barred_clips'], 'clip')} of {listed(chosen['barred_of'])} were not "
                "learned from at last: the quiet parts of some of them make a model answer this class, as a "
                "hidden trigger does; if you know that these were only recorded elsewhere, keep them (--set "
                "bar_told=false)"
            )
        if chosen["told_as_a_whole"]:
            said.append(
                f"the quiet parts of nearly all clips of {listed(chosen['told_as_a_whole'])} make a model "
                "answer this class; it was kept, since a class that is noise, or was recorded elsewhere, "
                "looks like that"
            )
        if 2 * chosen["believed_clips"] < chosen["last_clips"]:
            right, learned = chosen["believed_clips"], chosen["last_clips"]
            said.append(
                f"plain training got only {right} of the {learned} clips right that the model was repaired "
                "with at last, and nothing it knew of the others was kept; train longer (--set epochs=...), "
                "or check that the labels are right"
            )
        return said
