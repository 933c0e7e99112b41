"""DLP: learn, unlearn what was learned too well, and learn on without labels (decoupled learning process).

Ying, Wu, "DLP: towards active defense against backdoor attacks with decoupled learning process",
Cybersecurity 6:9, 2023, doi:10.1186/s42400-023-00141-4, arXiv:2406.13098. Three stages: supervised learning
on all clips (SL); active unlearning by gradient ascent of those with the lowest entropy (AU, equation 6);
active semi-supervised fine-tuning with labels for those with the highest entropy alone (ASSFT, equation 7).
The paper's ablations are SL-AU, SL-ASSFT and SL-ASSFT-AU.

Ours differs: AU minimises -log(1 - p) of the given label, at 1e-4; the authors' gradient ascent at 0.01 is
`unlearning="ascent"`. On ten spoken words ascent changed hardly an answer: the clips with the lowest entropy
have p so near to 1 that their cross-entropy has no slope. The regularisation of equation 7, which the paper
does not name, is the weight decay of `training`. Optimiser and learning rate of SL and ASSFT are those of
`training`, for the authors' 390 batches an epoch are 36 here; AU has as many batches as their 20 epochs of 4;
the paper does not say how long ASSFT is, and it takes the epochs of `training`; batch norms keep their
statistics in AU; the printed size of the clean set is read as a share of all clips, divided among the labels.
"""

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from closesesame.core.bounds import LearningRate, Steps
from closesesame.core.seeding import derive
from closesesame.core.types import Labels, Logits, PerUnit
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.training import fit, predict, untrained
from closesesame.training.fixmatch import FixMatch, FixMatchRule

from .base import RobustTraining, Watch
from .common.unlearning import Unlearning, by_sgd, unlearn

Stage = Literal["SL", "AU", "ASSFT"]


class DLP(RobustTraining):
    """Train, unlearn the clips with the lowest entropy, fine-tune with labels for the highest alone."""

    name: ClassVar[str] = "dlp"
    cite: ClassVar[str] = "doi:10.1186/s42400-023-00141-4"
    quick: ClassVar[dict[str, Any]] = {
        "training": {"epochs": 1},
        "supervised_epochs": 1,
        "unlearning_steps": 1,
    }

    stages: tuple[Stage, ...] = Field(
        ("SL", "AU", "ASSFT"),
        min_length=1,
        max_length=3,
        description="in their order; SL is the first, and the ablations leave one out or turn two around",
    )
    supervised_epochs: int = Field(10, ge=1, le=10_000, description="of SL, over all clips")
    filter_rate: float = Field(
        0.01, gt=0, le=0.5, description="share of all clips to unlearn, and to keep the labels of"
    )
    unlearning: Unlearning = Field("complementary", description="by -log(1 - p), or by gradient ascent")
    unlearning_steps: Steps = Field(80, description="of AU, batches of the clips to unlearn")
    unlearning_lr: LearningRate = Field(1e-4, description="learning rate of AU")
    fixmatch: FixMatch = Field(FixMatch(), description="of ASSFT")

    @field_validator("stages")
    @classmethod
    def _begins_with_learning(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if stages[0] != "SL" or len(set(stages)) < len(stages):
            raise ValueError(f"must begin with 'SL' and name each stage once, got {list(stages)}")
        return stages

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """The clips are filtered once, after SL, on their plain view."""
        del clean
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        first = self.training.for_epochs(self.supervised_epochs)
        fit(model, untrusted, first, seed=seed, after_epoch=partial(watch, "SL"))
        poisoned, kept = filtered(entropy_of(predict(model, untrusted)), untrusted.labels, self.filter_rate)
        for stage in self.stages[1:]:
            look = partial(watch, stage)
            if stage == "AU":
                unlearn(
                    model,
                    untrusted.take(poisoned),
                    self.unlearning,
                    by_sgd(self.training, steps=self.unlearning_steps, lr=self.unlearning_lr),
                    seed=derive(seed, stage),
                    after_epoch=look,
                )
            else:
                labelled = torch.zeros(len(untrusted), dtype=torch.bool)
                labelled[kept] = True
                rule = FixMatchRule(model, untrusted, labelled, self.fixmatch, derive(seed, stage))
                rule.fit(self.training, after_epoch=look)
        return model, {"filtered_as_poisoned": len(poisoned), "filtered_as_clean": len(kept)}


def entropy_of(logits: Logits) -> PerUnit:
    """Shannon entropy of each prediction (n,), in bits (equation 5)."""
    log_p = F.log_softmax(logits.double(), 1)
    return -(log_p.exp() * log_p).sum(1) / torch.log(torch.tensor(2.0, dtype=torch.float64))


def filtered(entropy: PerUnit, labels: Labels, rate: float) -> tuple[Tensor, Tensor]:
    """The rows to unlearn and the rows whose labels are kept; none is in both.

    Args:
        entropy: (n,) of the clips.
        labels: (n,) as given.
        rate: the share of n with the lowest entropy over all labels, at least two; and the share with the
            highest, as many of each label, at least one.
    """
    order = entropy.argsort(stable=True)
    poisoned = order[: max(2, round(rate * len(order)))]
    present = labels.unique()
    each = max(1, round(rate * len(order) / len(present)))
    rest = order[len(poisoned) :].flip(0)
    kept = [rest[labels[rest] == label][:each] for label in present]
    return poisoned, torch.cat(kept)
