"""EP: channels that answer in two ways, one for clean and one for poisoned data, are pruned.

Zheng, Tang, Li, Liu, "Pre-activation Distributions Expose Backdoor Neurons", NeurIPS 2022 (the first of its
two rules; the second is `bnp`). Standardised, a mixture of two bells has less entropy than one bell. To see
both the data must hold poison: as in the paper the examples are 500 of the untrusted training set (there at
10 % poison), not clean ones. So what is given as `clean` to `remove`, or with `--clean` on the command line,
must be clips of the set that the model was trained on. Their labels are not looked at.

Ours differs: layers without batch norm are judged as well; channels that never change are not.
"""

from itertools import chain
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import channels_in
from closesesame.models.statistics import histogram_entropy, pre_activations

from .common.by_score import ByScore


class EP(ByScore):
    """Prune channels whose entropy is below mean - u * std of their layer."""

    name: ClassVar[str] = "ep"
    cite: ClassVar[str] = "NeurIPS 2022, Pre-activation Distributions Expose Backdoor Neurons"
    untrusted: ClassVar[bool] = True

    bin_width: float = Field(
        0.01,
        ge=1e-6,
        le=10,
        description="of the histogram, in standard deviations; 0.1 in BackdoorBench",
    )
    shift: bool = Field(
        False, description="whether what is added to a pruned channel goes as well, as in BackdoorBench"
    )

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Nothing is trained and nothing is chosen: all examples are only looked at."""
        del seed
        layers = channels_in(model)
        batches = chain(tune.batches(256), held_out.batches(256))
        found = pre_activations(model, layers, (inputs.to(model.device) for inputs, _ in batches))
        scores = [minus_entropy(layer.maxima, self.bin_width) for layer in found]
        return self.prune_outliers(layers, scores, shift=self.shift)


def minus_entropy(maxima: Float[Tensor, "example channel"], bin_width: float) -> PerUnit:
    """Minus the entropy of each channel; NaN for one that never changes."""
    alive = maxima.std(0) > 1e-6 * maxima.abs().amax(0)
    score = torch.full_like(maxima[0], torch.nan)
    if alive.any():
        score[alive] = -histogram_entropy(maxima[:, alive], bin_width)
    return score
