"""ABL: isolate the clips with the lowest loss, train on the rest, then unlearn the isolated ones.

Li, Lyu, Koren, Lyu, Li, Ma, "Anti-Backdoor Learning: Training Clean Models on Poisoned Data", NeurIPS 2021,
arXiv:2110.11571; lengths of the authors' code: 10 epochs of isolation, and as many batches of unlearning at
5e-4 as 5 epochs over 500 pictures have. While it isolates, a loss that falls below `level` is raised again,
so that only what is learned at once stays below: by local gradient ascent, sign(CE - level) CE, clip by clip,
as in the paper; or by flooding, |CE - level| + level of a batch (Ishida et al., ICML 2020, arXiv:2002.08709),
which is the default of the authors' code.

Ours differs: optimiser and learning rate are those of `training`, which also says how long the second part
is, where the authors take 60 epochs; while it unlearns, batch norms keep their statistics, and the momentum
of 0.9 is not Nesterov's.
"""

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import LearningRate, Steps
from closesesame.core.seeding import derive
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.training import Batch, GradientRule, fit, predict, untrained

from .base import RobustTraining, Watch
from .common.unlearning import Unlearning, by_sgd, unlearn

Isolation = Literal["local_ascent", "flooding"]


class ABL(RobustTraining):
    """Isolate the clips that are learned at once, train on the rest, unlearn the isolated ones."""

    name: ClassVar[str] = "abl"
    cite: ClassVar[str] = "arXiv:2110.11571"
    quick: ClassVar[dict[str, Any]] = {
        "training": {"epochs": 1},
        "isolation_epochs": 1,
        "unlearning_steps": 1,
    }

    isolation: Isolation = Field("local_ascent", description="how losses are kept from falling")
    isolation_epochs: int = Field(10, ge=1, le=10_000, description="before the clips are isolated")
    level: float = Field(0.5, ge=0, le=100, description="loss in nats below which it is raised again")
    isolation_rate: float = Field(0.01, gt=0, le=0.5, description="share of all clips that is isolated")
    unlearning: Unlearning = Field("ascent", description="by gradient ascent, or by -log(1 - p)")
    unlearning_steps: Steps = Field(40, description="batches of 64 of the isolated clips")
    unlearning_lr: LearningRate = Field(5e-4, description="learning rate of the unlearning")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """The losses that isolate are those of the plain views, after the first part."""
        del clean
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        fit(
            model,
            untrusted,
            self.training.for_epochs(self.isolation_epochs),
            seed=seed,
            gradient=isolation_rule(self.isolation, self.level),
            after_epoch=partial(watch, "isolation"),
        )
        losses = F.cross_entropy(predict(model, untrusted).double(), untrusted.labels, reduction="none")
        isolated = torch.zeros(len(untrusted), dtype=torch.bool)
        isolated[losses.argsort(stable=True)[: max(2, round(self.isolation_rate * len(untrusted)))]] = True
        fit(
            model,
            untrusted.where(~isolated),
            self.training,
            seed=derive(seed, "rest"),
            after_epoch=partial(watch, "training"),
        )
        unlearn(
            model,
            untrusted.where(isolated),
            self.unlearning,
            by_sgd(
                self.training,
                steps=self.unlearning_steps,
                lr=self.unlearning_lr,
                batch_size=64,
                weight_decay=1e-4,
            ),
            seed=derive(seed, "unlearning"),
            after_epoch=partial(watch, "unlearning"),
        )
        return model, {"isolated": int(isolated.sum())}


def isolation_rule(how: Isolation, level: float) -> GradientRule:
    """The gradient of the mean of sign(CE - level) CE, or of |mean CE - level| + level."""

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        losses = batch.losses(body)
        if how == "flooding":
            loss = (losses.mean() - level).abs() + level
        else:
            loss = (torch.sign(losses.detach() - level) * losses).mean()
        loss.backward()
        return loss

    return rule
