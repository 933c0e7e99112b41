"""The rules of an architecture."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn import functional as F

from closesesame.models import Architecture, Classifier, load_model, save_model

from . import method
from .contract import check_all, demand, left_alone, quick, same
from .examples import examples_for

PAIR = ("yes", "no")


def _built(architecture: Architecture, seed: int = 0) -> Classifier:
    data = examples_for(architecture).train
    return quick(architecture).build(data.classes, data.input_shape, data.sample_rate, seed=seed).eval()


def clips_become_logits(architecture: Architecture) -> None:
    """One logit a class, for any number of classes and size of inputs, and for silence too."""
    data = examples_for(architecture).train
    other = ((16_000,), 16_000) if data.sample_rate else ((3, 16, 16), None)
    for classes, shape, rate in ((data.classes, data.input_shape, data.sample_rate), (PAIR, *other)):
        model = quick(architecture).build(classes, shape, rate, seed=0).eval()
        logits = model(torch.zeros(3, *shape))
        demand(
            logits.shape == (3, len(classes)),
            f"3 inputs of shape {list(shape)}, {len(classes)} classes: logits of shape {list(logits.shape)}",
        )
        demand(logits.isfinite().all(), "silence gives logits that are no numbers")


def the_seed_repeats(architecture: Architecture) -> None:
    """Fresh weights come from the seed alone."""
    with left_alone({}):
        first = _built(architecture)
    demand(
        same(first.state_dict(), _built(architecture).state_dict()),
        "the same seed gave two different sets of weights",
    )
    demand(
        not same(first.state_dict(), _built(architecture, 1).state_dict()),
        "seeds 0 and 1 give the same weights",
    )


@torch.no_grad()
def each_clip_is_classified_by_itself(architecture: Architecture) -> None:
    """In evaluation mode neither the other clips of a batch nor an earlier batch matter."""
    model, clips = _built(architecture), examples_for(architecture).test.inputs[:5]
    with left_alone({"model": model, "tensor of clips": clips}):
        logits = model(clips)
    for row in range(len(clips)):
        demand(
            torch.allclose(model(clips[row : row + 1])[0], logits[row], atol=1e-4),
            "in evaluation mode the logits of a clip depend on the others in its batch",
        )


def every_weight_is_trained(architecture: Architecture) -> None:
    """The loss has a gradient in each of them."""
    data, model = examples_for(architecture).train.take(torch.arange(16)), _built(architecture).train()
    F.cross_entropy(model(data.inputs[:]), data.labels).backward()
    idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    demand(not idle, f"the loss has no gradient in {', '.join(idle[:3])}; leave out what is not used")


def a_saved_model_gives_the_same_numbers(architecture: Architecture) -> None:
    """Settings and weights say all of it."""
    model, clips = _built(architecture), examples_for(architecture).test.inputs[:3]
    with TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model")
        again = load_model(Path(folder) / "model")
    demand(again.card == model.card, "the model read from disk has another card")
    demand(torch.equal(again(clips), model(clips)), "the model read from disk gives other numbers")


CHECKS = (
    *method.CHECKS,
    clips_become_logits,
    the_seed_repeats,
    each_clip_is_classified_by_itself,
    every_weight_is_trained,
    a_saved_model_gives_the_same_numbers,
)


def check_architecture(architecture: Architecture) -> None:
    """Puts an architecture through the contract; takes about a second.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(architecture, CHECKS)
