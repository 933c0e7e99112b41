"""Parts of a network that no training changes, such as the early layers of a large one."""

from torch import nn

_MARK = "is_frozen"


def freeze(part: nn.Module) -> None:
    """Marks a part of a network, whose weights get no gradient from now on."""
    setattr(part, _MARK, True)
    part.requires_grad_(False)


def make_trainable(network: nn.Module) -> None:
    """All weights of a network get a gradient that can have one, but for those of frozen parts."""
    frozen = frozen_weights(network)
    for name, weight in network.named_parameters():
        numbers = weight.is_floating_point() or weight.is_complex()
        weight.requires_grad_(numbers and name not in frozen)


def frozen_weights(network: nn.Module) -> set[str]:
    """Names of the parameters and buffers inside of frozen parts."""
    return {
        f"{place}.{name}" if place else name
        for place, part in network.named_modules()
        if getattr(part, _MARK, False)
        for name in part.state_dict()
    }
