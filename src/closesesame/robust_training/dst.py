"""D-ST: features that trust labels of the least sensitive clips, and a last layer that avoids the most.

Chen, Wu, Wang, "Effective Backdoor Defense by Exploiting Sensitivity of Poisoned Samples", NeurIPS 2022, and
the authors' code. Clips are told apart as `common.distinguishing` says. Features are learned on all clips by
a contrastive loss: a view is to be near the other view of its clip, and, if the clip counts as clean, near
all views with its label, whatever the clips of these count as. Then the features stay as they are, and a last
layer is trained on the clips that count as clean or poisoned, by CE(clean) - 0.001 CE(poisoned).

Ours differs: pictures are rotated and sheared to tell them apart, features are strongly augmented here;
features are learned as `training` says, where the authors take 200 epochs of SGD at 0.5 over 50,000 pictures
in batches of 512; the last layer has as many batches as their 10 epochs over 12,500 pictures, at the rate of
`training`, where they take 5, which fits their SGD; they keep the last layer with the best accuracy on the
test set, here it is the last one; their contrastive loss is of a projection of the features, 10/7 of ours.
"""

from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.bounds import LossWeight, Steps
from closesesame.core.seeding import derive
from closesesame.core.types import Mask
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.channels import head_in
from closesesame.training import Batch, fit, untrained
from closesesame.training.losses import contrastive_loss
from closesesame.training.settings import Augmentation
from closesesame.training.steps import training_only

from .base import RobustTraining, Watch
from .common.contrast import clips_of, learn_features
from .common.distinguishing import Distinguishing, distinguish


class DST(RobustTraining, Distinguishing):
    """Learn features with labels of the least sensitive clips, and a last layer that avoids the most."""

    name: ClassVar[str] = "dst"
    cite: ClassVar[str] = "NeurIPS 2022"
    quick: ClassVar[dict[str, Any]] = {
        "training": {"epochs": 1},
        "label_epochs": 1,
        "centre_epochs": 1,
        "head_steps": 2,
    }

    temperature: float = Field(0.1, gt=0, le=100, description="of the features' contrastive loss")
    view_augmentation: Augmentation = Field("varied", description="of the two views of a clip")
    head_steps: Steps = Field(244, description="batches of the last layer on frozen features")
    poisoned_weight: LossWeight = Field(0.001, description="factor of the poisoned clips' cross-entropy")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Two networks; the first is thrown away. The epochs of `training` are those of the features."""
        del clean
        told = distinguish(self, architecture, untrusted, self.training, seed=seed, watch=watch)
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        learn_features(
            model,
            untrusted,
            self.training,
            loss=partial(half_labelled, believed=told.clean, temperature=self.temperature),
            augmentation=self.view_augmentation,
            seed=derive(seed, "features"),
            after_epoch=partial(watch, "features"),
        )
        chosen = told.clean | told.poisoned
        with training_only(model.body, list(head_in(model).parameters())):
            fit(
                model,
                untrusted.where(chosen),
                self.training.model_copy(update={"steps": self.head_steps}),
                seed=derive(seed, "head"),
                gradient=partial(
                    learn_head, poisoned=told.poisoned[chosen], poisoned_weight=self.poisoned_weight
                ),
                after_epoch=partial(watch, "head"),
            )
        return model, {"clean": int(told.clean.sum()), "poisoned": int(told.poisoned.sum())}


def half_labelled(
    features: Float[Tensor, "view unit"], batch: Batch, believed: Mask, temperature: float
) -> Tensor:
    """The mean over views of the contrastive loss by label where that is believed, and else by clip.

    Args:
        features: as a `ViewLoss` has them.
        batch: the clips.
        believed: whose labels are.
        temperature: that cosines are divided by.
    """
    by_label = contrastive_loss(features, batch.labels.repeat(2), temperature)
    by_clip = contrastive_loss(features, clips_of(batch), temperature)
    return torch.where(believed[batch.index].repeat(2).to(features.device), by_label, by_clip).mean()


def learn_head(body: nn.Module, batch: Batch, poisoned: Mask, poisoned_weight: float) -> Tensor:
    """Fills the gradients of CE(others) - weight CE(poisoned), each the mean of its clips, 0 without any."""
    body.eval()  # the features are those that the model will predict with
    losses, away = batch.losses(body), poisoned[batch.index].to(batch.features.device)
    others, those = (losses[mask].sum() / mask.sum().clamp(min=1) for mask in (~away, away))
    loss = others - poisoned_weight * those
    loss.backward()
    return loss
