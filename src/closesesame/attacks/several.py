"""Several backdoors in one training set."""

from collections.abc import Sequence

from closesesame.core.errors import DataError
from closesesame.data import Dataset

from .base import Attack, Poisoned


def poison_several(attacks: Sequence[Attack], train: Dataset, seed: int) -> Poisoned:
    """Plants several backdoors in one training set, each in examples of its own.

    Args:
        attacks: at least one; two of a kind need other settings, and each needs a target of its own.
        train: the training set, which every trigger is made from; it is not changed.
        seed: of all that is drawn.

    Raises:
        DataError: if there are too few examples for all of them.
    """
    if not attacks:
        raise DataError("poison_several needs an attack or more, got none")
    first, *rest = attacks
    poisoned = first.poison(train, seed)
    for attack in rest:
        more = attack.poison(
            poisoned.dataset,
            seed,
            trigger=attack.trigger(train, seed),
            spare=poisoned.poisoned_mask | poisoned.cover_mask,
        )
        poisoned = Poisoned(
            more.dataset,
            poisoned.poisoned_mask | more.poisoned_mask,
            poisoned.trigger,
            poisoned.cover_mask | more.cover_mask,
            (*poisoned.others, more.trigger),
        )
    return poisoned
