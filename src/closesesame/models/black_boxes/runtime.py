"""What all files that are run as they are have in common: inputs, outputs, and a way to run them."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from closesesame.core.errors import ModelError

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Port:
    """An input or an output of a file.

    Attributes:
        name: in the file.
        shape: its dimensions; None for one that any size fits.
        kind: of its numbers, as numpy calls it.
    """

    name: str
    shape: tuple[int | None, ...]
    kind: str

    @property
    def is_float(self) -> bool:
        """Whether it holds real numbers."""
        return self.kind in {"float16", "float32", "float64"}

    def filled(self, value: float, clips: int) -> NDArray[Any]:
        """An array of one value that fits; a dimension of any size counts the clips."""
        return np.full([clips if size is None else size for size in self.shape], value, self.kind)


@dataclass(frozen=True)
class Finding:
    """Something in a graph that a person should know of.

    Attributes:
        sentence: what it is.
        suspicious: whether models without a backdoor rarely have it.
    """

    sentence: str
    suspicious: bool


class Runtime(ABC):
    """A file that was read and is ready to run. It is never changed, so copies of a model share it.

    Attributes:
        content: the file, byte by byte.
        inputs: what it takes, in its order.
        outputs: what it gives, in its order.
        findings: what is noteworthy in it besides its weights, see `graph.check_graph`.
    """

    format: ClassVar[str]
    content: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    findings: tuple[Finding, ...] = ()

    @abstractmethod
    def run(self, values: Arrays) -> Arrays:
        """All outputs by name, for an array for each input.

        Raises:
            ModelError: if the file cannot be run on them.
        """

    def __deepcopy__(self, memo: object) -> "Runtime":
        return self


def needed(module: str, extra: str) -> ModuleType:
    """A module of an optional package.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ModelError(
            f"such a file needs the package {module.partition('.')[0]}, which is not installed: pip install "
            f"'closesesame[{extra}]'"
        ) from None
