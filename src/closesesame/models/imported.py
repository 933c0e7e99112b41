"""Networks that are not ours: adapted as they are, or made anew by the code they come from, `module:name`.

A file of weights may name code, and none runs because a file says so: the module must have been imported
before, and the name must be a class of networks, or a function whose annotation says that it returns one.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, TypeGuard, get_type_hints

import torch
from pydantic import create_model
from torch import nn

from closesesame.core.bounds import check_classes, check_reading
from closesesame.core.errors import ModelError, SettingError, cut, short
from closesesame.core.method import Registry, import_by_name
from closesesame.core.seeding import isolated

from .base import Architecture, Classifier, ModelCard
from .front_ends import FrontEnd, Identity, Wrapped

EXTERNAL = "external"
"""The architecture on the card of a module whose source is not known."""
MADE_ABOVE = {
    "purified": "closesesame.purification.files:Purified",
    "reprogrammed": "closesesame.removal.refine:Reprogrammed",
}
"""Architectures that methods make of others, by the name on their cards."""


def adapt(
    module: nn.Module,
    classes: Sequence[str],
    input_shape: Sequence[int],
    sample_rate: int | None,
    front_end: nn.Module | None = None,
    *,
    source: str | None = None,
) -> Classifier:
    """Makes a model of any module, to repair or to measure it; its weights are shared.

    Args:
        module: from features, or from the inputs if there is no front end, to logits (batch, classes).
        classes: names of the classes, in the order of the logits.
        input_shape: of one example.
        sample_rate: Hz; None for pictures.
        front_end: inputs to features, if that is not part of the module.
        source: `module:name` of a class or function that makes the network anew without arguments, so that
            the model can be saved and loaded; a function must be annotated to return a module.

    Raises:
        DataError: if the names of the classes do not tell them apart.
        SettingError: if no sound has that sample rate and length, or the source makes no network.
    """
    if isinstance(classes, str):
        raise SettingError(f"classes must be a list of names, got {classes!r}")
    classes, input_shape = tuple(classes), tuple(input_shape)
    check_classes(classes, "the model")
    name, settings = EXTERNAL, {"type": type(module).__name__}
    if source is not None:
        if front_end is not None:
            raise SettingError(
                "source makes a network without a front end: make the front end part of the module, or "
                "derive an Architecture"
            )
        name, settings = imported(source).full_name(), {}
    card = ModelCard(name, settings, classes, input_shape, sample_rate)
    if sample_rate is not None:
        check_reading(sample_rate, card.duration_s)
    if front_end is None:
        front_end = Identity()
    return Classifier(front_end if isinstance(front_end, FrontEnd) else Wrapped(front_end), module, card)


class Imported(Architecture):
    """A network of your own, from inputs to logits, made by a class or a function, `module:name`."""

    cite: ClassVar[str] = "not published"
    domains: ClassVar[tuple[str, ...]] = ("speech", "pictures")
    make: ClassVar[Callable[[], Any]]
    """Makes the network."""

    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        """Makes the network anew; it must fit the classes and the inputs by itself."""
        try:
            # Foreign code may read its fresh weights, which the device "meta" does not allow.
            with torch.device("cpu"), isolated(seed, "weights", self.name):
                network = type(self).make()
        except Exception as error:
            raise ModelError(f"{self.name} cannot make a network ({short(error)})") from error
        if not isinstance(network, nn.Module):
            raise ModelError(f"{self.name} must make a torch module, got {type(network).__name__}")
        return Classifier(Identity(), network, ModelCard(self.name, {}, classes, input_shape, sample_rate))


def imported(source: str) -> type[Imported]:
    """The architecture that a class of networks, or a function that makes one, stands for.

    Args:
        source: `module:name`; the module is imported.

    Raises:
        SettingError: if it is neither, or wants arguments.
    """
    module, _, name = source.partition(":")
    made = getattr(import_by_name(module), name, None) if name else None
    if not makes_network(made):
        raise SettingError(
            f"{cut(source)!r} must be a class of torch modules, or a function annotated to return one"
        )
    if any(_is_required(parameter) for parameter in inspect.signature(made).parameters.values()):
        raise SettingError(f"{cut(source)!r} must make its network without arguments")
    return _as_architecture(source, made)


def makes_network(made: object) -> TypeGuard[Callable[..., Any]]:
    """Whether it is a class of torch modules, or a function whose annotation says that it returns one."""
    if inspect.isfunction(made):
        try:
            made = get_type_hints(made).get("return")
        except Exception:  # an annotation that only type checkers can read
            return False
    return isinstance(made, type) and issubclass(made, nn.Module)


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in variadic


@cache
def _as_architecture(source: str, make: Callable[[], Any]) -> type[Imported]:
    module, _, name = source.partition(":")
    # It is called as what it stands for, so cards and tables name that.
    made = create_model(name, __base__=Imported, __module__=module, __doc__=Imported.__doc__)
    made.name, made.make = source, staticmethod(make)
    return made


class Architectures(Registry[Architecture]):
    """The architectures of this package; `module:name` may also be a network of your own."""

    def __getitem__(self, name: str) -> type[Architecture]:
        """Finds an architecture; some are in no list: what needs an extra, and what a layer above makes."""
        if name == "huggingface":
            from .huggingface import HuggingFace

            return HuggingFace
        return super().__getitem__(MADE_ABOVE.get(name, name))

    def _foreign(self, name: str) -> type[Architecture]:
        module, _, attribute = name.partition(":")
        found = getattr(import_by_name(module), attribute, None)
        if found is None or (isinstance(found, type) and issubclass(found, Architecture)):
            return super()._foreign(name)
        return imported(name)
