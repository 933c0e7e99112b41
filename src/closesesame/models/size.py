"""How large a network would be, before it is made."""

from collections.abc import Callable

import torch
from torch import nn

from closesesame.core.bounds import MOST_BYTES
from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated


def check_size(name: str, make: Callable[[], nn.Module]) -> None:
    """Refuses a network whose weights would not fit into 2 GB, without allocating them.

    Args:
        name: of the architecture, for the error.
        make: builds the network.

    Raises:
        ModelError: with the size it would have.
    """
    with torch.device("meta"), isolated(0):  # a network of others may draw even there
        weights = make().state_dict().values()
    wanted = sum(value.numel() * value.element_size() for value in weights)
    if wanted > MOST_BYTES:
        raise ModelError(
            f"{name} with these settings has weights of {wanted / 1e9:,.1f} GB, and at most "
            f"{MOST_BYTES / 1e9:g} GB are made; lower its widths or its depth"
        )
