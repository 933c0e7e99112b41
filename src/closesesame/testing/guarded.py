"""Held-out examples that tell on who trains on them, whatever the training is called and wherever it is."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from closesesame.data import Dataset
from closesesame.data.rows import OnDisk, Rows
from closesesame.models import Classifier
from closesesame.models.matching import Answers

from .contract import demand

Repairing = Callable[[Classifier, Dataset, Dataset, int], Any]


class Guarded(OnDisk):
    """Rows that may be read to predict and not to train: never while gradients are enabled.

    It is a source of rows, so the guard stays with them when a data set is cut, joined or drawn from.
    """

    dtype = torch.float32

    def __init__(self, values: Tensor) -> None:
        self.values, self.shape = values, tuple(values.shape)

    def __del__(self) -> None:
        """No file is open."""

    def __getitem__(self, lines: Tensor) -> Tensor:
        """Reads the rows at `lines` (k,)."""
        demand(
            not torch.is_grad_enabled(),
            "held-out examples are read while gradients are enabled: never train on them",
        )
        return self.values[lines]


def guard(data: Dataset) -> Dataset:
    """The same examples, which nobody may train on."""
    return data.with_inputs(Rows.of(Guarded(data.inputs[:])))


def spoil(data: Dataset) -> Dataset:
    """As `guard`, with NaN for inputs: what was computed from them is NaN, too."""
    return data.with_inputs(Rows.of(Guarded(torch.full_like(data.inputs[:], torch.nan))))


@contextmanager
def spoiled_inputs_are_only_predicted_on() -> Iterator[None]:
    """Within the block NaN may enter a module in evaluation mode and without gradients only.

    Answers that are NaN are not refused there: they are what is asked for.
    """

    def check(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training or torch.is_grad_enabled():
            # A method that counts operations must not count these.
            with torch._C.DisableTorchFunction():  # noqa: SLF001
                bad = any(isinstance(value, Tensor) and bool(value.isnan().any()) for value in inputs)
            demand(
                not bad, f"held-out examples enter {type(module).__name__} in training: never train on them"
            )

    handle = register_module_forward_pre_hook(check)
    try:
        with mock.patch.object(Answers, "read", lambda _, logits, *__: logits.float()):
            yield
    finally:
        handle.remove()


def assert_never_trained_on_held_out(
    repair: Repairing, model: Classifier, tune: Dataset, held_out: Dataset
) -> None:
    """Repairs two copies of a model with held-out examples that tell.

    The first time they are what they are, so the repair chooses as it does, and may not be read while
    gradients are enabled. The second time they are NaN: they may not enter a module in training mode, which
    catches a copy that is thrown away, and the weights and statistics of the repaired model must be numbers.

    Raises:
        ContractError: if one of these happens.
    """
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    repair(first, tune, guard(held_out), 0)
    with spoiled_inputs_are_only_predicted_on():
        repair(second, tune, spoil(held_out), 0)
    for name, value in second.state_dict().items():
        demand(bool(value.isfinite().all()), f"{name} was computed from held-out examples")
