"""What the layers of a model put out for each example, batch by batch."""

from collections.abc import Iterator, Sequence

import torch

from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.types import Logits
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels, channels_in
from closesesame.models.hooks import ByChannel, Watchable, watched
from closesesame.models.matching import Answers

BATCH = 64
"""Examples at once; the maps of all layers are kept for so many."""


@torch.no_grad()
def activations(
    model: Classifier, layers: Sequence[Watchable], data: Dataset
) -> Iterator[tuple[Logits, list[ByChannel]]]:
    """Logits, and what each layer puts out (batch, channel, place), on the CPU and in double precision.

    Args:
        model: in evaluation mode; it computes in fp32.
        layers: of its body; of a layer with a norm, what enters the norm.
        data: the examples, which are walked through in their order.

    Raises:
        ModelError: if the model gives answers that are none.
    """
    answers, done = Answers.of(model, data), 0
    with watched(layers) as seen:
        for inputs, _ in Track(data.batches(BATCH), "watching layers", -(-len(data) // BATCH)):
            logits = answers.read(answers.ask(model, inputs.to(model.device)), done, len(inputs))
            done += len(inputs)
            yield logits, [values.double().cpu() for values in seen]


def batch_norms(model: Classifier) -> list[Channels]:
    """The layers of a model that have a batch norm, in the order in which they are computed.

    Raises:
        ModelError: if there are none.
    """
    found = [layer for layer in channels_in(model) if layer.statistics is not None]
    if not found:
        raise ModelError("this method looks at batch norms; this model has no batch norm")
    return found
