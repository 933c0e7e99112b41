"""Features without labels: two views of a clip are nearer to each other than to those of other clips.

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations"
(SimCLR), ICML 2020, arXiv:2002.05709: the normalised temperature-scaled cross-entropy. Ours differs: there
is no projection behind the features, so nothing of the network is thrown away; both views are augmented as
speech is.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from closesesame.core.seeding import generator
from closesesame.core.settings import Settings
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.hooks import inputs_of
from closesesame.training import AfterEpoch, Batch, Training, fit
from closesesame.training.losses import contrastive_loss
from closesesame.training.settings import Augmentation


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
    epochs: int,
    temperature: float,
    augmentation: Augmentation,
    seed: int,
    after_epoch: AfterEpoch | None = None,
) -> None:
    """Trains all of a model but its last layer in place; labels are not looked at.

    Args:
        model: ends in a linear layer.
        data: the clips.
        training: learning rate, batch and so on.
        epochs: over the clips.
        temperature: that similarities are divided by.
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
        loss = contrast(seen[-1].flatten(1).float(), temperature)
        loss.backward()
        return loss

    settings = training.for_epochs(epochs, augmentation="none")
    fit(model, data, settings, seed=seed, gradient=rule, after_epoch=after_epoch)


def contrast(features: Float[Tensor, "view unit"], temperature: float) -> Tensor:
    """The mean of -log softmax(cosine / temperature) at the other view of the same clip.

    Args:
        features: of the first views of all clips, and then of the second ones in the same order.
        temperature: that cosines are divided by.
    """
    clips = torch.arange(len(features) // 2, device=features.device)
    return contrastive_loss(features, clips.repeat(2), temperature)
