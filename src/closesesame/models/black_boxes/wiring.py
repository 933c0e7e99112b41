"""Which inputs take the sample rate, and which output gives each state for the next frame."""

import math
import re
from collections.abc import Sequence

from closesesame.core.errors import ModelError, cut, listed

from .runtime import Port

OF_SOUND = frozenset({"sample", "samples", "sampling", "audio"})
"""Words beside `rate` where it is that of the samples, not of frames or of anything else."""
NUMBERS = frozenset({"int32", "int64", "uint32", "uint64", "float32", "float64"})
"""Kinds that hold any sample rate."""
ORDER = frozenset({"in", "input", "out", "output", "new", "next", "prev", "previous", "old", "last", "init"})
"""Words that tell a state before a frame from the one after it."""


def words(name: str) -> list[str]:
    """The words and numbers of a name in small letters, split at other characters and at capitals."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name)]


def takes_rate(port: Port) -> bool:
    """Whether an input of one number is called after the sample rate; a size that may vary counts as one."""
    said = set(words(port.name))
    named = said & {"sr", "samplerate"} or said == {"rate"} or ("rate" in said and said & OF_SOUND)
    return bool(named) and port.kind in NUMBERS and math.prod(size or 1 for size in port.shape) == 1


def stem(name: str) -> str:
    """What is left of the name of a state without that it comes before or after a frame: h of h0 and hn."""
    kept = [re.sub("^([a-z])n$", r"\1", word) for word in words(name) if word not in ORDER]
    return " ".join(word for word in kept if word not in {"n", "0"})


def match_states(states: Sequence[Port], outputs: Sequence[Port], remedy: str = "") -> dict[Port, str]:
    """The name of the output that gives each state for the next frame.

    It has the kind and the shape of the state, and its name, such as `stateN`, `new_state` or `state_out` of
    `state`; if none has its name, it is the only one that fits, and fits no other such state.

    Args:
        states: inputs that are states.
        outputs: that may give them.
        remedy: ends the sentence that several fit.

    Raises:
        ModelError: if no output fits a state, or several do.
    """
    fit = {state: [one for one in outputs if _fits(state, one)] for state in states}
    stems = [stem(state.name) for state in states]
    found = dict[Port, str]()
    for state, name in zip(states, stems, strict=True):
        alike = [one.name for one in fit[state] if stem(one.name) == name]
        if name and len(alike) == 1 and stems.count(name) == 1:
            found[state] = alike[0]
    rest = [state for state in states if state not in found]
    left = {state: [one.name for one in fit[state] if one.name not in found.values()] for state in rest}
    for state in rest:
        rivals = [other for other in rest if other is not state and set(left[other]) & set(left[state])]
        if len(left[state]) == 1 and not rivals:
            found[state] = left[state][0]
        elif left[state]:
            shown = listed([state.name, *[one.name for one in rivals]])
            raise ModelError(
                f"it is not clear which output gives the state {shown} for the next frame "
                f"({listed(left[state])}); give outputs the names of their states, as 'hn' of 'h'{remedy}"
            )
        else:
            raise ModelError(
                f"besides the sound it takes {described(state)}, which is neither the sample rate nor a "
                "state, since no output gives it for the next frame; export the model without it"
            )
    return found


def _fits(state: Port, output: Port) -> bool:
    """Whether an output can be given as the state."""
    if (state.kind, len(state.shape)) != (output.kind, len(output.shape)):
        return False
    sizes = zip(state.shape, output.shape, strict=True)
    return all(one is None or other is None or one == other for one, other in sizes)


def described(port: Port) -> str:
    """A port with the kind and the shape of its numbers, for errors."""
    shape = ["any" if size is None else size for size in port.shape]
    return f"{cut(port.name)} ({cut(port.kind)} {shape})"
