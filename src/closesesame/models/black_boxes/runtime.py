"""What all files that are run as they are have in common: inputs, outputs, and a way to run them."""

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from closesesame.core.errors import ModelError

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")
MOST_S, MOST_S_A_CLIP = 300.0, 30.0
"""Seconds for clips that are given together, and besides for each of them: no honest file comes near it."""
GRACE_S = 2.0
"""Seconds that work has to end after it was asked to."""


class TooSlowError(ModelError):
    """A file takes longer than it may; it may not end at all."""


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
        path: of the file, for errors.
        inputs: what it takes, in its order.
        outputs: what it gives, in its order.
        findings: what is noteworthy in it besides its weights, see `graph.check_graph`.
    """

    format: ClassVar[str]
    content: bytes
    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    findings: tuple[Finding, ...] = ()

    @abstractmethod
    def run(self, values: Arrays, until: float) -> Arrays:
        """All outputs by name.

        Args:
            values: an array for each input, by name.
            until: when it is stopped, see `deadline`.

        Raises:
            ModelError: if the file cannot be run on them.
            TooSlowError: if it has not ended by then.
        """

    def __deepcopy__(self, memo: object) -> "Runtime":
        return self


def deadline(clips: int = 0) -> float:
    """When clips that are given together must be answered, in s of `time.monotonic`."""
    return time.monotonic() + MOST_S + clips * MOST_S_A_CLIP


def within(until: float, path: Path, work: Callable[[], T], stop: Callable[[], object]) -> T:
    """Does work of a file in a thread of its own, since a file can work without end.

    Args:
        until: when to give up, in s of `time.monotonic`.
        path: of the file, for errors.
        work: what is done; it may go on in its thread, until the program ends, if `stop` cannot end it.
        stop: asks the work to end; called also if the work has ended.

    Returns:
        What `work` returns.

    Raises:
        TooSlowError: if the work has not ended by then.
        ModelError: as `work`.
    """
    found = Future[T]()

    def do() -> None:
        try:
            found.set_result(work())
        except BaseException as error:  # raised again where it is waited for
            found.set_exception(error)

    thread = Thread(target=do, daemon=True)
    thread.start()
    try:
        return found.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        raise TooSlowError(
            f"{path} is stopped: it took more than {MOST_S:g} s and may never end; give it shorter clips, or "
            "fewer at once (setting at_once), or get another file"
        ) from None
    finally:
        stop()
        thread.join(GRACE_S)  # Python aborts if such a thread comes back while the program ends


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
