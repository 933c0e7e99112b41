"""Features: what enters the last layer of a model.

No training loop imports this module: what it needs of `models.channels` is then no part of the identity of a
trained model.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.hooks import inputs_of

from .loop import Batch, GradientRule
from .predicting import autocast, choose_precision, predict
from .settings import Augmentation

AT_ONCE = 128


def head_of(model: Classifier) -> nn.Linear:
    """The linear layer that makes the logits of features.

    Raises:
        ModelError: if there is none.
    """
    try:
        return head_in(model)
    except ModelError as error:
        raise ModelError(
            "this method compares features; this model has no features before a linear layer that makes its "
            "logits"
        ) from error


def features_and_logits(
    model: Classifier, data: Dataset
) -> tuple[Float32[Tensor, "n unit"], Float32[Tensor, "n class"]]:
    """What enters the layer that makes the logits, for all examples, and the logits; both on the CPU.

    Raises:
        ModelError: if the model does not end in a linear layer, or as `predict` does.
    """
    with inputs_of(head_of(model)) as seen:
        logits = predict(model, data)
    return torch.cat([values.flatten(1).float().cpu() for values in seen]), logits


def features_of(model: Classifier, data: Dataset) -> Float32[Tensor, "n unit"]:
    """What enters the layer that makes the logits, for all examples, on the CPU.

    Raises:
        ModelError: if the model does not end in a linear layer, or as `predict` does.
    """
    return features_and_logits(model, data)[0]


def feature_rule(
    head: nn.Linear, loss: Callable[[Float32[Tensor, "batch unit"], Labels], Tensor]
) -> GradientRule:
    """The gradient of a loss of the features of a batch and their labels; what the head makes does not count.

    Args:
        head: the layer that the features enter.
        loss: of features and labels.
    """

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        with inputs_of(head) as seen:
            batch.logits(body)
        found = loss(seen[-1].flatten(1).float(), batch.labels)
        found.backward()
        return found

    return rule


def likeness_of_means(features: Float[Tensor, "batch unit"], labels: Labels) -> Float[Tensor, ""]:
    """Mean cosine between the mean features of any two of the classes; 0 if there is one."""
    means = torch.stack([features[labels == label].mean(0) for label in labels.unique()])
    units, count = F.normalize(means, dim=1), len(means)
    return ((units @ units.T).sum() - units.square().sum()) / max(1, count * (count - 1))


@torch.no_grad()
def feature_changes(
    model: Classifier, data: Dataset, augmentation: Augmentation, copies: int, seed: int
) -> Float64[Tensor, " n"]:
    """How far features move when clips are transformed, the FCT of Chen, Wu, Wang, NeurIPS 2022.

    That is the mean square of the difference between the features of a clip and of a transformed copy, as a
    mean over the copies.

    Args:
        model: whose features are looked at.
        data: the clips.
        augmentation: that transforms copies.
        copies: of each clip.
        seed: of the transformations.

    Raises:
        ModelError: if the model does not end in a linear layer.
    """
    head, augment, rng = head_of(model), model.front_end.augmentation(augmentation), generator(seed, "copies")
    precision, changes = choose_precision("auto", model), []
    parts = torch.arange(len(data)).split(AT_ONCE)
    for rows in Track(parts, "transforming clips", len(parts)):
        maps = model.front_end(data.inputs[rows].to(model.device))
        views = [maps] + [augment(maps, rng) if augment else maps for _ in range(copies)]
        with inputs_of(head) as seen, autocast(model.device, precision):
            for view in views:
                model.body(view)
        plain, *moved = (values.flatten(1).double().cpu() for values in seen)
        changes.append(torch.stack([(one - plain).square().mean(1) for one in moved]).mean(0))
    return torch.cat(changes)
