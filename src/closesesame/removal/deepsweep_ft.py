"""DeepSweep: fine-tuning on clips that an intensive list changed, and a light list in front of the model.

Qiu, Zeng, Guo, Zhang, Qiu, Thuraisingham, "DeepSweep: An Evaluation Framework for Mitigating DNN Backdoor
Attacks using Data Augmentation", AsiaCCS 2021, arXiv:2012.07006. As in the authors' code, all clean examples
go through the intensive list five times, each time with other numbers, and are learned in batches of 10; with
their 1,000 examples these are 500 steps. With fewer clips it takes as many steps, so each version of a clip
is learned more often than once.

Ours differs: the lists are for sound (see the purification `deepsweep`); the optimizer is SGD, as for `ft`,
not Adadelta; the five versions of all clips are shuffled together.
"""

from functools import reduce
from typing import Any, ClassVar

import torch
from pydantic import Field

from closesesame.core.seeding import generator
from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.models import Classifier
from closesesame.purification import DeepSweep
from closesesame.purification.deepsweep import intensive
from closesesame.training import fit
from closesesame.training.settings import Augmentation

from .base import FineTuning
from .common.in_front import put_in_front


class DeepSweepFT(FineTuning):
    """Fine-tune on clips that are filtered, bent and shifted; put filters and shifts in front."""

    name: ClassVar[str] = "deepsweep_ft"
    cite: ClassVar[str] = "arXiv:2012.07006"
    cost: ClassVar[str] = "less than plain fine-tuning, and filters with each clip"

    steps: int = default(FineTuning, "steps", 500)
    batch_size: int = default(FineTuning, "batch_size", 10)
    augmentation: Augmentation = default(FineTuning, "augmentation", "none")
    versions: int = Field(5, ge=1, le=100, description="of each clip, by the intensive list")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose.

        Raises:
            ModelError: if the model takes no waveforms.
        """
        del held_out
        light = DeepSweep().fit(None, seed, card=model.card)
        clips, rng = tune.inputs[:], generator(seed, "intensive list")
        versions = []
        for _ in range(self.versions):
            drawn = 2 * torch.rand(5, len(clips), 1, generator=rng) - 1
            versions.append(tune.with_inputs(Rows.of(intensive(clips, DeepSweep(), drawn))))
        fit(model, reduce(Dataset.followed_by, versions), self.training(), seed=seed)
        put_in_front(light, model)
        return {}
