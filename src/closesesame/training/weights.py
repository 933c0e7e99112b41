"""Weights of a network: drawn anew, or somewhere between two sets of them."""

import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.models.black_boxes import FileBody
from closesesame.models.frozen import frozen_weights
from closesesame.models.imported import EXTERNAL

State = dict[str, Tensor]


def redraw(model: Classifier, seed: int) -> None:
    """Gives the body of a model fresh weights, as its architecture or the modules of its own class draw them.

    What is frozen keeps the weights that it has.

    Raises:
        ModelError: if a weight of a network of your own is set by no `reset_parameters`, or the model is a
            file that is run as it is.
    """
    card, device = model.card, model.device
    if isinstance(model.body, FileBody):
        raise ModelError("no fresh weights can be made for a model that is a file and is run as it is")
    if card.architecture == EXTERNAL:
        reset(model.body, seed)
        return
    architecture = ARCHITECTURES.recall(card.architecture, card.settings)
    fresh = architecture.build(card.classes, card.input_shape, card.sample_rate, seed=seed)
    state, frozen = model.body.state_dict(), frozen_weights(model.body)
    fresh.body.load_state_dict(fresh.body.state_dict() | {name: state[name] for name in frozen})
    model.body = fresh.body.to(device)


@torch.no_grad()
def reset(network: nn.Module, seed: int) -> None:
    """Gives a network fresh weights through the `reset_parameters` of its modules.

    Raises:
        ModelError: if a weight is left that none of them sets.
    """
    # What is still NaN afterwards, nothing has set: parents that reset for their children count, and
    # weights behind a parametrisation, which their layer cannot reach, do not.
    for weight in network.parameters():
        weight.fill_(torch.nan)
    with isolated(seed, "weights"):
        for module in reversed(list(network.modules())):
            again = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(again):
                again()
    left = [name for name, weight in network.named_parameters() if weight.isnan().any()]
    if left:
        raise ModelError(f"no fresh weights can be made for {left[0]!r}: no module resets it")


def interpolated(start: State, end: State, share: float) -> State:
    """Weights and batch-norm statistics at a share of the way from start to end; counters are the end's."""
    return {
        name: torch.lerp(value, end[name], share) if value.is_floating_point() else end[name]
        for name, value in start.items()
    }
