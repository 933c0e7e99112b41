"""How a file is asked, and what its inputs are for."""

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from closesesame.core.bounds import MOST_SAMPLES
from closesesame.core.errors import ModelError, cut, listed, nearest
from closesesame.core.settings import Settings

from .runtime import Port, Runtime


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
        states: take zeros and, from the second frame on, what the output with this name gave.
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
            ModelError: if the file has no such input or output, or takes something else.
        """
        sound = _named(box.input, runtime.inputs, "input")
        output = _named(box.output, runtime.outputs, "output")
        batch, time = _layout(sound)
        rates, states, others = list[Port](), dict[Port, str](), list[str]()
        given = [port for port in runtime.outputs if port is not output and port.is_float]
        for port in runtime.inputs:
            sizes = [size for size in port.shape if size is not None]
            if port is sound:
                continue
            if "sr" in port.name.lower() or "rate" in port.name.lower():
                rates.append(port)
            elif port.is_float and len(port.shape) - 1 <= len(sizes) and 0 < math.prod(sizes) <= MOST_SAMPLES:
                states[port] = next((one.name for one in given if len(one.shape) == len(port.shape)), "")
                given = [one for one in given if one.name != states[port]]
            else:
                others.append(f"{cut(port.name)} ({cut(port.kind)} {list(port.shape)})")
        if others:
            raise ModelError(
                f"besides the waveform the model takes {listed(others)}, which is neither a state that "
                "starts at zero nor the sample rate"
            )
        return cls(sound, batch, time, tuple(rates), states)


def _named(name: str, ports: tuple[Port, ...], what: str) -> Port:
    """The port of that name, or the first of real numbers."""
    found = [port for port in ports if port.is_float and name in ("", port.name)]
    if not found:
        raise ModelError(
            f"the model has no {what} {cut(name)!r} of real numbers; "
            f"{nearest(name, [port.name for port in ports])}"
        )
    return found[0]


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
