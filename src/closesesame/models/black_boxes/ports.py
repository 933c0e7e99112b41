"""How a file is asked, and what its inputs are for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from closesesame.core.bounds import MOST_SAMPLES
from closesesame.core.errors import ModelError, cut, listed, nearest
from closesesame.core.settings import Settings

from .runtime import Port, Runtime
from .wiring import described, match_states, stem, takes_rate

SCORES = ", or name the one with the scores with --set output=NAME"


class BlackBox(Settings):
    """How a file is asked."""

    input: str = Field("", description="name of the input that takes the waveform; empty: the first")
    output: str = Field("", description="name of the output with the scores; empty: the first that fits")
    answers: Literal["auto", "logits", "probabilities"] = Field(
        "auto", description="what the scores are; auto: found out by asking"
    )
    at_once: int = Field(
        0, ge=0, le=65_536, description="clips that are given together; 0: any number, if their answers stay"
    )
    frame: int = Field(
        0,
        ge=0,
        le=MOST_SAMPLES,
        description="samples that are given at once; 0: the whole clip",
    )
    hop: int = Field(0, ge=0, le=MOST_SAMPLES, description="samples from frame to frame; 0: a frame")
    pooling: Literal["last", "mean", "max"] = Field(
        "last",
        description="scores of a clip of several frames: those of the last, or of all",
    )
    threads: int = Field(1, ge=1, le=256, description="processors that it is run on")


@dataclass(frozen=True)
class Ports:
    """What the inputs of a file are for.

    Attributes:
        sound: takes the waveform.
        batch: clips that it takes at once; None for any number.
        time: samples that it takes at once; None for any number.
        rates: take the sample rate.
        states: take zeros and, from the second frame on, what the output of this name gave.
    """

    sound: Port
    batch: int | None
    time: int | None
    rates: tuple[Port, ...]
    states: dict[Port, str]

    @classmethod
    def of(cls, runtime: Runtime, box: BlackBox) -> "Ports":
        """Finds them by name and shape.

        Raises:
            ModelError: if the file has no such input or output, or takes something else, or it is not clear
                which output gives a state.
        """
        rates = tuple(port for port in runtime.inputs if takes_rate(port) and port.name != box.input)
        given = [port for port in runtime.outputs if port.is_float]
        if box.output:
            given.remove(_named(box.output, runtime.outputs, "output"))
        sound = _sound(box.input, [port for port in runtime.inputs if port not in rates], given)
        batch, time = _layout(sound)
        others = [port for port in runtime.inputs if port is not sound and port not in rates]
        odd = [described(port) for port in others if not _may_be_state(port)]
        if odd:
            raise ModelError(
                f"besides the sound it takes {listed(odd)}, which is neither the sample rate nor a state "
                "that starts at zero; export the model without it"
            )
        return cls(sound, batch, time, rates, match_states(others, given, SCORES))


def _may_be_state(port: Port) -> bool:
    """Whether it holds real numbers, and how many is known but for the clips."""
    sizes = [size for size in port.shape if size is not None]
    known = len(port.shape) - 1 <= len(sizes) and 0 < math.prod(sizes) <= MOST_SAMPLES
    return port.is_float and known


def _sound(name: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> Port:
    """The input of that name, or the first of real numbers that is not named as a state with its output."""
    if name:
        return _named(name, inputs, "input")
    found = [port for port in inputs if port.is_float]
    if not found:
        raise ModelError(
            "no input of the model takes a waveform of real numbers "
            f"({listed([described(port) for port in inputs]) or 'it has no input'}); export a model that "
            "takes one"
        )
    after = {stem(port.name) for port in outputs} - {""}
    return next((port for port in found if stem(port.name) not in after), found[0])


def _named(name: str, ports: Sequence[Port], what: str) -> Port:
    """The port of that name.

    Raises:
        ModelError: if there is none, or it holds no real numbers.
    """
    found = next((port for port in ports if port.name == name), None)
    if found is None:
        raise ModelError(
            f"the model has no {what} {cut(name)!r}; {nearest(name, [port.name for port in ports])}"
        )
    if not found.is_float:
        raise ModelError(
            f"the {what} {described(found)} holds no real numbers; name another with --set {what}=NAME"
        )
    return found


def _layout(sound: Port) -> tuple[int | None, int | None]:
    """Clips and samples of (time), (batch, time), (batch, 1, time) or (batch, time, 1)."""
    shape = sound.shape
    if len(shape) == 1:
        return 1, shape[0]
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3 and 1 in shape[1:]:
        return shape[0], shape[2] if shape[1] == 1 else shape[1]
    raise ModelError(
        f"the model takes {cut(sound.name)} of shape {list(shape)}, and a waveform (batch, time) is needed: "
        "features would have to be computed in the file"
    )
