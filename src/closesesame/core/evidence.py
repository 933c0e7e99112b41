"""What a method can show of how it works, as plain data: a report draws it and knows no method."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Numbers of one kind.

    Attributes:
        name: of the kind.
        values: one number a member.
        suspicious: the members that a backdoor is suspected in.
    """

    name: str
    values: Float[Tensor, "member"]
    suspicious: Bool[Tensor, "member"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Numbers group by group, each a point on one axis.

    Attributes:
        caption: what is shown, in a few words.
        unit: what the axis counts.
        groups: from top to bottom.
        threshold: from which on a number is suspicious.
        logarithmic: whether the axis is.
    """

    caption: str
    unit: str
    groups: tuple[Group, ...]
    threshold: float | None = None
    logarithmic: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A density: how often (`density`) a value (`at`) occurs."""

    name: str
    at: Float[Tensor, "place"]
    density: Float[Tensor, "place"]
    suspicious: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Distributions:
    """Two or more densities over one axis, to compare."""

    caption: str
    unit: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """A picture over time.

    Attributes:
        caption: what is shown, in a few words.
        values: rows upwards, then time.
        seconds: how long it is.
        rows: what the rows count.
        unit: of the values.
        scale: the values of the first and the last colour.
        sound: (time,) to listen to, full scale at 1, and its sample rate in Hz.
    """

    caption: str
    values: Float[Tensor, "row column"]
    seconds: float
    rows: str
    unit: str
    scale: tuple[float, float]
    sound: tuple[Float[Tensor, " time"], int] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """A number before and after, and what it would be where there is nothing to change."""

    name: str
    before: float
    after: float
    reference: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """Percentages that a method changed, from top to bottom.

    Attributes:
        caption: what is shown, in a few words.
        unit: what the axis counts, from 0 to 100.
        before: what the numbers before are called.
        after: what those after are called.
        reference: what the references are called.
        rows: of each thing.
    """

    caption: str
    unit: str
    before: str
    after: str
    reference: str
    rows: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """A number that was measured again and again.

    Attributes:
        caption: what is shown, in a few words.
        unit: of the number.
        times: what is counted from one measurement to the next.
        values: in their order.
    """

    caption: str
    unit: str
    times: str
    values: Float[Tensor, "time"]


Shape = Points | Distributions | Map | Changes | Series


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a method shows: a heading, a few sentences, and figures."""

    title: str
    text: str
    shapes: tuple[Shape, ...]
