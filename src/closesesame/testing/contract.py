"""What all checks share: their error, quick settings, and what a method must leave alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.method import Method
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.stages import stages_of
from closesesame.training import predict
from closesesame.training.distillation import last_layer

M = TypeVar("M", bound=Method)
Check = Callable[[M], None]
"""One rule of a family: raises `ContractError` for a method that breaks it."""


class ContractError(AssertionError):
    """A method breaks a rule of its family; the sentence says which."""


def demand(holds: object, rule: str) -> None:
    """Raises `ContractError` with the sentence unless the rule holds."""
    if not holds:
        raise ContractError(rule)


def check_all(method: M, checks: Iterable[Check[M]]) -> None:
    """Runs all checks of a family."""
    for check in checks:
        check(method)


def quick(method: M, **changes: object) -> M:
    """The method with the `quick` settings of its class where nothing else was set, and with some changed."""
    given = {name: getattr(method, name) for name in method.model_fields_set}
    return type(method)(**(type(method).quick | given | changes))


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and statistics."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors are equal, bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@contextmanager
def left_alone(given: Mapping[str, nn.Module | Dataset | Tensor]) -> Iterator[None]:
    """Within the block nothing that is given may change, nor may the state of a global generator.

    Args:
        given: what a method gets, by what it is called in the sentence.
    """
    before, draws = {name: _content(value) for name, value in given.items()}, _generators()
    yield
    for name, value in given.items():
        demand(same(before[name], _content(value)), f"the {name} passed in was changed; work on a copy")
    demand(
        _generators() == draws,
        "a global random generator was used; draw from closesesame.core.seeding.generator(seed) instead",
    )


def _content(value: nn.Module | Dataset | Tensor) -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {"value": value.clone()}
    if isinstance(value, Dataset):
        return {"inputs": value.inputs[:], "labels": value.labels.clone()}
    modes = [module.training for module in value.modules()]
    frozen = [weight.requires_grad for weight in value.parameters()]
    return state_of(value) | {" modes": torch.tensor(modes), " frozen": torch.tensor(frozen)}


def _generators() -> tuple[object, ...]:
    # Python's own is left out: beartype draws from it while types are checked.
    numbers = np.random.get_state()  # noqa: NPY002, TID251 - a method may use it though we do not
    return torch.random.get_rng_state().tolist(), str(numbers)


def refused(
    error: type[Exception], call: Callable[..., object], *given: object, **more: object
) -> str | None:
    """What the error says by which a call is refused; None if it is not."""
    try:
        call(*given, **more)
    except error as found:
        return str(found)
    return None


def demand_answers(model: nn.Module, data: Dataset, whose: str) -> None:
    """Demands that a model gives finite answers for all examples."""
    said = refused(ModelError, predict, model, data)
    demand(said is None, f"{whose} gives no answers: {said}")


def demand_lack(wanted: str, model: Classifier, name: str, error: ModelError) -> None:
    """Demands that a model is refused for what the class variable `requires` names, and has not got it."""
    demand(
        wanted and f"this model has no {wanted}" in str(error),
        f"a {name!r} is refused; the class variable 'requires' must name what it lacks ({error})",
    )
    demand(
        wanted not in HAS or not HAS[wanted](model),
        f"a {name!r} is refused, and it has {wanted}",
    )


def _has_batch_norm(model: Classifier) -> bool:
    return any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())


def _has_maps(model: Classifier) -> bool:
    example = model.front_end(torch.zeros(2, *model.card.input_shape))
    return bool(stages_of(model.body, example))


HAS: dict[str, Callable[[Classifier], bool]] = {
    "batch norm": _has_batch_norm,
    "features before a linear layer": lambda model: last_layer(model) is not None,
    "maps of several places": _has_maps,
}
"""What a method may require of a model, and whether a model has it."""
