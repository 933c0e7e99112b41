"""Lists of methods and of families, from the registries: nobody counts methods by hand."""

import inspect
import textwrap
from collections.abc import Iterator, Sequence

from closesesame.core.method import Method
from closesesame.families import LISTED


def methods() -> str:
    """A table with a line a family: its methods, counted."""
    rows = [
        (f"{listed.title} ({len(listed.registry)})", ", ".join(f"`{name}`" for name in listed.registry))
        for listed in LISTED
    ]
    return table(("family", "methods"), rows)


def families() -> str:
    """A table with a line a family: its base class, what a method writes, and what it sees."""
    rows = [
        (
            f"{listed.title}, `{listed.registry.base.__name__}`",
            ", ".join(hooks(listed.registry.base, needed=True)),
            ", ".join(hooks(listed.registry.base, needed=False)),
            sees(listed.registry.base),
        )
        for listed in LISTED
    ]
    return table(("family and base class", "a method writes", "and may write", "what it is given"), rows)


def hooks(base: type[Method], *, needed: bool) -> Iterator[str]:
    """The functions that a method writes: those that it must, or those that have a default."""
    for name, function in vars(base).items():
        if not inspect.isfunction(function):
            continue
        abstract = getattr(function, "__isabstractmethod__", False)
        if abstract if needed else not abstract and (function.__doc__ or "").startswith("Hook"):
            parameters = list(inspect.signature(function).parameters)[1:]
            yield f"`{name}({', '.join(parameters)})`"


def sees(base: type[Method]) -> str:
    """What the docstring of a base class says its methods see; empty where it says nothing."""
    paragraphs = inspect.cleandoc(base.__doc__ or "").split("\n\n")
    return textwrap.fill(next((text for text in paragraphs if text.startswith("It sees")), ""), width=10_000)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))
