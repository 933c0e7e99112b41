"""GN-FT: fine-tuning with a penalty on the norm of the gradient.

Zhou, Lin, Liu, "Gradient Norm-based Fine-Tuning for Backdoor Defense in Automatic Speech Recognition", 2025,
arXiv:2502.01152; the approximation is that of Zhao, Zhang, Hu, "Penalizing Gradient Norm for Efficiently
Improving Generalization in Deep Learning", ICML 2022, arXiv:2202.03599. The paper's settings are not public
in full: defaults are those of the first author's code (per-tensor norm, r, alpha, learning rate, batch). Its
length is 300 epochs; how many clips they go over is not stated. With about 740, which is an estimate, an
epoch has 3 batches of 256 and the run 900 steps.

Ours differs: batch-norm statistics come from the unperturbed pass alone, both passes share their dropout
mask, and a tensor with zero gradient stays where it is instead of becoming NaN.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from closesesame.core.settings import default
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.training import fit
from closesesame.training.rules.gradient_norm import gradient_norm_rule
from closesesame.training.settings import Schedule

from .base import FineTuning


class GNFT(FineTuning):
    """Minimise CE + lambda ||grad CE|| with lambda = alpha * r, by two gradients a step."""

    name: ClassVar[str] = "gnft"
    cite: ClassVar[str] = "arXiv:2502.01152"
    cost: ClassVar[str] = "about twice plain fine-tuning"

    r: float = Field(
        0.05, gt=0, le=100, description="length of the step to where the second gradient is taken"
    )
    alpha: float = Field(0.7, ge=0, le=1, description="share of the second gradient: 0 is SGD, 1 is SAM")
    norm: Literal["per_tensor", "global"] = Field(
        "per_tensor", description="each weight tensor moves by r, or all together do (the derivation)"
    )
    steps: int = default(FineTuning, "steps", 900)
    lr: float = default(FineTuning, "lr", 0.001)
    weight_decay: float = default(FineTuning, "weight_decay", 0)
    schedule: Schedule = default(FineTuning, "schedule", "constant")

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """One run, nothing to choose."""
        del held_out
        rule = gradient_norm_rule(self.r, self.alpha, per_tensor=self.norm == "per_tensor")
        fit(model, tune, self.training(), seed=seed, gradient=rule)
        return {}
