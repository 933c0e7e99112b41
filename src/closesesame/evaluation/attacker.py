"""What an attacker has who meets a repaired model: the trigger and labelled clips, none of the test set."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from closesesame.attacks import Trigger
from closesesame.core.errors import DataError, DivergedError
from closesesame.core.seeding import generator
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.training import predict

from .exam import Exam
from .metrics import Rate


@dataclass(frozen=True, eq=False)
class Attacker:
    """Makes the clips that an attack on a repaired model works with.

    Its triggered clips are not those of the poisoned training set but made with the trigger as it is played:
    so they are of other classes and ask for the target label in every attack, also in a clean-label one, and
    a model that was never poisoned is attacked with the same clips.

    Attributes:
        trigger: of the backdoor.
        clips: clean clips with their true labels, such as the training part before it was poisoned.
    """

    trigger: Trigger
    clips: Dataset

    def tuning_set(self, clean: int, poisoned: int, seed: int) -> Dataset:
        """Draws clips to tune a model on, none twice.

        Args:
            clean: how many clean clips, from each class in proportion; they come first.
            poisoned: how many triggered clips, with the label that the attacker wants.
            seed: of the draw.

        Raises:
            DataError: if there are too few clips.
            ModelError: if the trigger was made for other clips.
        """
        chosen = self._of_other_classes(poisoned, seed)
        left = torch.ones(len(self.clips), dtype=torch.bool)
        left[chosen] = False
        rest = self.clips.where(left)
        if clean > len(rest):
            raise DataError(
                f"the attacker needs {clean} clean clips beside {poisoned} poisoned ones and has "
                f"{len(self.clips)} in all; give a larger data set"
            )
        first = rest.sample(clean / len(rest), seed)
        triggered = self.trigger.stamp_dataset(self.clips.take(chosen))
        both, last = self.clips.named((*first.ids, *triggered.ids)), torch.arange(clean, clean + poisoned)
        labels = both.labels.clone()
        labels[last] = self.trigger.target_labels(triggered.labels, triggered.classes)
        return both.with_inputs(both.inputs.replace(last, triggered.inputs[:])).with_labels(labels)

    def pairs(self, count: int, seed: int) -> tuple[Dataset, Dataset]:
        """Draws up to `count` clips that are not of the target label: (clean, triggered), with true labels.

        Raises:
            DataError: if there is none.
            ModelError: if the trigger was made for other clips.
        """
        wanted = min(count, max(1, int(self._others().sum())))
        clean = self.clips.take(self._of_other_classes(wanted, seed))
        return clean, self.trigger.stamp_dataset(clean)

    def _others(self) -> Tensor:
        """Which clips (n,) do not have the label that the attacker wants for them."""
        return self.clips.labels != self.trigger.target_labels(self.clips.labels, self.clips.classes)

    def _of_other_classes(self, count: int, seed: int) -> Tensor:
        """So many rows (count,) of clips that are not of the target label, in random order."""
        rows = self._others().nonzero().flatten()
        if count > len(rows):
            raise DataError(
                f"the attacker needs {count} clips that are not of the target label and has {len(rows)}; "
                "give a larger data set"
            )
        return rows[torch.randperm(len(rows), generator=generator(seed, "attacker"))[:count]]


def triggered_in(exam: Exam) -> Dataset:
    """The triggered test clips.

    Raises:
        DataError: if the exam has no trigger.
    """
    if exam.triggered is None:
        raise DataError("an attack on a model is measured on triggered clips: give the exam a trigger")
    return exam.triggered


def share_of(model: nn.Module, data: Dataset, wanted: Labels) -> Rate:
    """How many clips get the label that is wanted for them; none of a broken model, which answers NaN.

    Raises:
        ModelError: if the model has other classes, or takes other inputs.
    """
    try:
        hits = int((predict(model, data).argmax(1) == wanted).sum())
    except DivergedError:
        hits = 0
    return Rate(hits, len(data))
