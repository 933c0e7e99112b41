"""What a model answers: logits, accuracy, and the precision they are computed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core import machine
from closesesame.core.errors import DataError, SettingError
from closesesame.core.progress import Track
from closesesame.core.types import Logits
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.models.base import Classifier, device_of
from closesesame.models.front_ends import Identity
from closesesame.models.matching import Answers, check_inputs

FEATURE_CACHE_BYTES = 512 * 2**20
"""Features of a set that fit into this are computed once; those of a larger set, batch by batch."""


@torch.no_grad()
def predict(model: nn.Module, data: Dataset, *, batch_size: int = 256) -> Logits:
    """Logits of a model in evaluation mode on all examples; the model is left as it was.

    Returns:
        Logits (n, classes), in the order of the data's classes whatever the model's is.

    Raises:
        ModelError: if the model has other classes, takes other inputs, or gives answers that are none.
        SettingError: if the batch size is below 1.
    """
    if batch_size < 1:
        raise SettingError(f"batch_size must be >= 1, got {batch_size}")
    answers = Answers.of(model, data)
    device, precision = device_of(model), choose_precision("auto", model)
    out = []
    batches = data.batches(batch_size)
    with in_evaluation(model):
        for number, (inputs, _) in enumerate(Track(batches, "predicting", -(-len(data) // batch_size))):
            with autocast(device, precision):
                logits = answers.ask(model, inputs.to(device))
            out.append(answers.read(logits, number * batch_size, len(inputs)))
    return torch.cat(out) if out else torch.zeros(0, len(data.classes))


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Within the block a model is in evaluation mode; each of its modules is left as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def accuracy(model: nn.Module, data: Dataset) -> float:
    """Share of examples whose highest logit is their label.

    Raises:
        DataError: if there are none.
    """
    if not len(data):
        raise DataError("accuracy needs examples, got none")
    return float((predict(model, data).argmax(1) == data.labels).float().mean())


def kept_features(model: Classifier, data: Dataset) -> Tensor | None:
    """What the front end makes of all examples (n, ...), on the model's device, if memory is to hold it.

    Returns:
        None if it is larger than `FEATURE_CACHE_BYTES`.
    """
    first = data.inputs[:1].to(model.device)  # with gradients if the caller trains, as a guard can see
    with torch.no_grad():
        example = model.front_end(first)
    return model.features(data) if example.nbytes * len(data) <= FEATURE_CACHE_BYTES else None


def on_features(model: Classifier, data: Dataset) -> tuple[Classifier, Dataset]:
    """A model without its front end, and what that makes of all examples.

    Who asks a model again and again, while its body alone changes, runs the front end once; the answers are
    the same, unless the front end draws at random. The body is the model's own, so what is changed in it
    counts in both. If the features are not of float32, or larger than `FEATURE_CACHE_BYTES`, model and
    examples come back as they are.

    Raises:
        ModelError: if the model takes other inputs.
    """
    check_inputs(model.card, data)
    with torch.no_grad(), in_evaluation(model):
        features = kept_features(model, data)
    # rows of a data set are of float32, or integers with a scale
    if features is None or features.dtype is not torch.float32:
        return model, data
    features = features.cpu()
    card = replace(model.card, input_shape=tuple(features.shape[1:]))
    return Classifier(Identity(), model.body, card), data.with_inputs(Rows.of(features))


def judge(model: nn.Module, data: Dataset) -> tuple[float, float]:
    """Accuracy and mean cross-entropy, in nats, on all examples."""
    logits = predict(model, data)
    right = float((logits.argmax(1) == data.labels).float().mean())
    return right, float(F.cross_entropy(logits, data.labels))


def choose_precision(wanted: str, model: nn.Module) -> machine.Precision:
    """What a model computes in: as asked, or with `auto` bf16 if its device multiplies in it.

    Raises:
        SettingError: if bf16 is asked for and the device lacks it.
    """
    return machine.choose_precision(wanted, device_of(model), setting="Training.precision")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Within it, a device computes in bf16 if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
