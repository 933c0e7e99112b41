"""Features without labels: two views of a clip are nearer to each other than to those of other clips.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations"
(SimCLR), ICML 2020, arXiv:2002.05709: the normalised temperature-scaled cross-entropy. Ours differs: there
is no projection behind the features, so nothing of the network is thrown away; both views are augmented as
speech is.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.seeding import generator
from closesesame.core.settings import Settings
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.hooks import inputs_of
from closesesame.training import AfterEpoch, Batch, Training, fit
from closesesame.training.losses import contrastive_loss
from closesesame.training.settings import Augmentation

ViewLoss = Callable[[Float[Tensor, "view unit"], Batch], Tensor]
"""Of the features of the first views of a batch and then of the second ones, in the order of its clips."""


class Contrast(Settings):
    """How features are learned without labels."""

    feature_epochs: int = Field(15, ge=0, le=10_000, description="of learning features without labels")
    temperature: float = Field(0.5, gt=0, le=100, description="of the features' contrastive loss")
    view_augmentation: Augmentation = Field("varied", description="of the two views of a clip")


def learn_features(
    model: Classifier,
    data: Dataset,
    training: Training,
    *,
    loss: ViewLoss,
    augmentation: Augmentation,
    seed: int,
    after_epoch: AfterEpoch | None = None,
) -> None:
    """Trains all of a model but its last layer in place.

    Args:
        model: ends in a linear layer.
        data: the clips.
        training: its augmentation is not used.
        loss: of two views, such as `contrast`, which does not look at labels.
        augmentation: of both views.
        seed: of order and views.
        after_epoch: called when the last step of an epoch is done.

    Raises:
        ModelError: if the model does not end in a linear layer.
    """
    head, augment, rng = head_in(model), model.front_end.augmentation(augmentation), generator(seed, "views")

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        views = [batch.features if augment is None else augment(batch.features, rng) for _ in range(2)]
        with inputs_of(head) as seen:
            batch.with_features(torch.cat(views)).logits(body)
        found = loss(seen[-1].flatten(1).float(), batch)
        found.backward()
        return found

    bare = training.model_copy(update={"augmentation": "none"})
    fit(model, data, bare, seed=seed, gradient=rule, after_epoch=after_epoch)


def contrast(features: Float[Tensor, "view unit"], batch: Batch, temperature: float) -> Tensor:
    """The mean of -log softmax(cosine / temperature) at the other view of the same clip.

    Args:
        features: as a `ViewLoss` has them.
        batch: the clips.
        temperature: that cosines are divided by.
    """
    return contrastive_loss(features, clips_of(batch), temperature).mean()


def clips_of(batch: Batch) -> Labels:
    """The number within its batch of the clip that each view is of; no two clips have the same."""
    return torch.arange(len(batch.index), device=batch.features.device).repeat(2)
