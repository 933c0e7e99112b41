"""PDB: plant a backdoor of the defender's own, and always set it off (proactive defensive backdoor).

Wei, Zha, Wu, "Mitigating Backdoor Attack by Injecting Proactive Defensive Backdoor", NeurIPS 2024,
arXiv:2405.16112. A trigger that no input of an attacker can carry is stamped on clips known to be clean, and
their labels are moved on by one, h(y) = y + 1 mod K; the network learns these beside the untrusted clips. In
use every input is stamped, and h is undone. All three factors of the loss are 1: of untrusted clips, of
stamped ones, and of stamped ones that are perturbed, here by strong augmentation.

Ours differs: the trigger is not a frame of pixels but a constant that is added to the whole feature map, far
above its range, after augmentation. So the model that is returned needs no code around it: the constant is
taken off the mean that the front end subtracts, and the rows of the last layer are moved back by one.
Stamped clips are as many as half of a batch, each in a light and in a strong view.
"""

import copy
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import LossWeight
from closesesame.core.errors import ModelError
from closesesame.core.seeding import derive, generator
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.channels import head_in
from closesesame.models.front_ends import LogMel
from closesesame.training import Batch, fit, untrained
from closesesame.training.settings import Augmentation

from .base import RobustTraining, Watch


class PDB(RobustTraining):
    """Plant a backdoor of your own with clean clips, set it off on every input, and move the answer back."""

    name: ClassVar[str] = "pdb"
    cite: ClassVar[str] = "arXiv:2405.16112"
    needs_clean: ClassVar[bool] = True
    quick: ClassVar[dict[str, Any]] = {"training": {"epochs": 1}}

    shift: float = Field(
        8.0, gt=0, le=1000, description="added to all features, in standard deviations of the training data"
    )
    untrusted_weight: LossWeight = Field(1.0, description="factor of the loss on untrusted clips")
    stamped_weight: LossWeight = Field(1.0, description="factor of the loss on stamped clips")
    perturbed_weight: LossWeight = Field(1.0, description="factor of the loss on stamped, perturbed clips")
    perturbation: Augmentation = Field("strong", description="of the perturbed clips")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """One training; who watches sees the model as it would be returned."""
        assert clean is not None
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        if not isinstance(model.front_end, LogMel):
            raise ModelError(f"{self.name} needs a model with a log-mel or MFCC front end, to shift its maps")
        head_in(model)  # refused before the training, not after it

        def look(epoch: int, model: Classifier) -> None:
            watch("training", epoch, triggered(copy.deepcopy(model), self.shift))

        rule = _Planting(self, model, clean, derive(seed, "stamped clips"))
        fit(model, untrusted, self.training, seed=seed, gradient=rule, after_epoch=look)
        return triggered(model, self.shift), {"clean_clips": len(clean)}


class _Planting:
    """The gradient rule of one batch of untrusted clips beside stamped ones."""

    def __init__(self, method: PDB, model: Classifier, clean: Dataset, seed: int) -> None:
        self.method, self.model, self.clean = method, model, clean
        self.labels = moved(clean.labels, len(clean.classes))
        self.rng = generator(seed)
        names: tuple[Augmentation, ...] = (method.training.augmentation, method.perturbation)
        self.views = [model.front_end.augmentation(name) for name in names]

    def __call__(self, body: nn.Module, batch: Batch) -> Tensor:
        count = max(1, len(batch.index) // 2)
        at = torch.randint(len(self.clean), (count,), generator=self.rng)
        with torch.no_grad():
            features = self.model.front_end(self.clean.inputs[at].to(batch.features.device))
            stamped = [
                (features if view is None else view(features, self.rng)) + self.method.shift
                for view in self.views
            ]
        logits = batch.with_features(torch.cat([batch.features, *stamped])).logits(body).float()
        labels = self.labels[at].to(logits.device)
        plain, light, strong = logits.split([len(batch.index), count, count])
        loss = (
            self.method.untrusted_weight * F.cross_entropy(plain, batch.labels)
            + self.method.stamped_weight * F.cross_entropy(light, labels)
            + self.method.perturbed_weight * F.cross_entropy(strong, labels)
        )
        loss.backward()
        return loss


def moved(labels: Tensor, classes: int) -> Tensor:
    """h(y) = y + 1 mod K."""
    return (labels + 1) % classes


@torch.no_grad()
def triggered(model: Classifier, shift: float) -> Classifier:
    """The model with the trigger on every input and h undone on its answers; it is changed in place."""
    assert isinstance(model.front_end, LogMel)
    head = head_in(model)
    model.front_end.mean -= shift * model.front_end.deviation
    back = moved(torch.arange(len(model.card.classes)), len(model.card.classes))
    head.weight.copy_(head.weight[back])
    if head.bias is not None:
        head.bias.copy_(head.bias[back])
    return model
