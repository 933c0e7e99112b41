"""Fine-pruning: units that are least active on clean data are pruned, then the rest is fine-tuned.

Liu, Dolan-Gavitt, Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks", RAID
2018, arXiv:1805.12185; tolerance, steps of 1 % and the fine-tuning as in BackdoorBench, arXiv:2206.12654: 100
epochs of 2,500 examples in batches of 256, which are 10 an epoch: 1,000 steps.

Ours differs: pruned are the units that enter the last linear layer, which for a network with a mean over the
map in front of it are the channels of the last map, after the rectifier. The tolerance is measured on
held-out clean examples, not on the test set, and the last step within it is kept, not the first beyond it;
pruned units stay pruned while the rest is fine-tuned.
"""

from typing import Any, ClassVar

from pydantic import Field

from closesesame.data import Dataset
from closesesame.models import Classifier

from .base import FineTuning
from .common.pruning import Units, prune_within, tune_without


class FinePruning(FineTuning):
    """Prune the least active units while held-out accuracy allows it, then fine-tune."""

    name: ClassVar[str] = "fine_pruning"
    cite: ClassVar[str] = "arXiv:1805.12185"
    cost: ClassVar[str] = "about plain fine-tuning"

    tolerance: float = Field(
        0.1, ge=0, lt=1, description="relative drop of held-out accuracy that is allowed"
    )
    step: float = Field(0.01, gt=0, le=1, description="share of the units pruned at a time")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses how many units to prune on `held_out`."""
        units = Units.of(model, tune)
        count = len(units.activity)
        size = max(1, round(self.step * count))
        pruned = prune_within(model, units, range(size, count, size), self.tolerance, held_out)
        tune_without(model, units, units.order[:pruned], tune, self.training(), seed)
        return {"pruned_units": pruned, "of": count}
