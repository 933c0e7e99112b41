"""ASAP: every clip is enhanced, idle units are pruned by a threshold, and the rest is fine-tuned.

Sun, Zhong, Qi, Fang, Shi, Cui, "Towards Robust Speech Models: Mitigating Backdoor Attacks via Audio Signal
Enhancement and Fine-Pruning Techniques", Mathematics 2025, 13(6), 984. Both the activity of units and the
fine-tuning are of enhanced clean clips. T is 0.5 in its tables, where 0.2 to 0.6 are compared.

Ours differs, since the paper leaves open: which units (ours: those that enter the last linear layer, which
for a network with a mean over the map in front of it are the channels of the last map); what T is
(ours: of the least active units the share T may go, or those go whose mean activity, scaled from 0 to 1 over
the layer, is below T); what adapts (ours: units go in steps, of 1 % as p in its tables, which may also be the
poisoning rate, and no further than held-out accuracy bears); how it fine-tunes (ours: as `ft`). Its enhancer
is ComplexMTASS, ours the small one of the project unless another is named (see `enhance`).
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier

from .common.in_front import Enhanced
from .common.pruning import Units, prune_within, tune_without


class ASAP(Enhanced):
    """Put a speech enhancer in front of the model, prune units that enhanced clips leave idle, fine-tune."""

    name: ClassVar[str] = "asap"
    cite: ClassVar[str] = "Mathematics 2025, 13(6), 984"
    cost: ClassVar[str] = "about plain fine-tuning, and an enhancer with each clip"

    threshold: float = Field(0.5, ge=0, le=1, description="T of the paper")
    threshold_of: Literal["share", "activity"] = Field(
        "share",
        description="what T says: the share of the units that may go, or the activity, scaled from 0 to 1 "
        "over the layer, below which they may",
    )
    step: float = Field(0.01, gt=0, le=1, description="share of the units pruned at a time")
    tolerance: float = Field(
        0.1, ge=0, lt=1, description="relative drop, by pruning, of the accuracy on held-out enhanced clips"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Gives the model the enhancer; chooses how many units to prune on `held_out`."""
        network = self.put_in_front(model, seed)
        units = Units.of(model, tune)
        most = self.may_go(units.activity)
        size = max(1, round(self.step * len(units.activity)))
        ends = [*range(size, most, size), *[most] * (most > 0)]
        pruned = prune_within(model, units, ends, self.tolerance, held_out)
        tune_without(model, units, units.order[:pruned], tune, self.training(), seed)
        return {
            "enhancer": network,
            "pruned_units": pruned,
            "below_threshold": most,
            "of": len(units.activity),
        }

    def may_go(self, activity: PerUnit) -> int:
        """How many of the least active units the threshold gives free; one stays in any case."""
        if self.threshold_of == "share":
            free = round(self.threshold * len(activity))
        else:
            scaled = (activity - activity.min()) / (activity.max() - activity.min()).clamp(min=1e-12)
            free = int((scaled < self.threshold).sum())
        return min(free, len(activity) - 1)
