"""Values in words, for people: no Python, few digits."""

import math
from collections.abc import Callable, Mapping
from typing import Any

NONE = "\N{EN DASH}"
"""Stands for what is not known."""


def said(value: Any, depth: int = 3, text: Callable[[Any], str] = str) -> str:
    """A setting or a result in words.

    Args:
        value: plain JSON, or what has a text of its own.
        depth: how many lists within lists are written out: they may come from hostile files.
        text: writes what is no list, no number and not true or false.
    """
    if isinstance(value, Mapping | list | tuple):
        if not depth:
            return "\N{HORIZONTAL ELLIPSIS}"
        if isinstance(value, Mapping):
            parts = [f"{name} {said(inner, depth - 1, text)}" for name, inner in value.items()]
        else:
            parts = [said(inner, depth - 1, text) for inner in value]
        return ", ".join(parts) or NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NONE
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return text(value)
