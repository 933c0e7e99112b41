"""A model is asked once before it is written: weights may fit a network that answers no such clip."""

import torch

from closesesame.core.errors import ModelError, short
from closesesame.core.seeding import generator, isolated

from .base import Classifier
from .matching import Answers, say_inputs

LOUDNESS = 0.1


@torch.no_grad()
def answers_to_noise(model: Classifier) -> torch.Tensor:
    """Logits (1, classes) that a model gives to a clip of noise, the same at each call."""
    noise = LOUDNESS * torch.randn(1, *model.card.input_shape, generator=generator(0, "probes"))
    with isolated(0):  # a network of others may draw
        logits: torch.Tensor = model(noise)
    return logits


def try_once(model: Classifier, source: object, remedy: str) -> None:
    """Refuses a model that gives no answers to a clip.

    Args:
        model: in evaluation mode, on the processor.
        source: where it comes from, for the error.
        remedy: what to do.

    Raises:
        ModelError: with the remedy.
    """
    card = model.card
    try:
        logits = answers_to_noise(model)
    except Exception as error:  # code of others
        clips = say_inputs(card.input_shape, card.sample_rate)
        raise ModelError(
            f"{source} makes a network that gives no answers to {clips} ({short(error)}); {remedy}"
        ) from None
    try:
        Answers(None, len(card.classes), ("noise",)).read(logits, 0, 1)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
