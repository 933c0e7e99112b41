"""Features: what enters the last layer of a model.

No training loop imports this module: what it needs of `models.channels` is then no part of the identity of a
trained model.
"""

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from closesesame.models.hooks import inputs_of

from .predicting import predict


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
