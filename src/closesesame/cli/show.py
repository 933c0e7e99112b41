"""The command that tells all about one method."""

from typing import Any

from closesesame.core.errors import plain

from .app import command
from .inputs import Json
from .outputs import answer, facts, table


@command
def show(method: str, *, family: str | None = None, json: Json = False) -> None:
    """Show a method: what it does, its paper, what it needs, its settings with ranges and defaults.

    Parameters
    ----------
    method
        An attack, a removal, a model, 'training', or 'module:Class' of yours; see 'sesame list'.
    family
        Attack, removal, model or training, where a name is of several.
    """
    from closesesame.registries import describe_method

    found = describe_method(method, family)
    answer(json, found, lambda: _tell(found))


def _tell(found: dict[str, Any]) -> None:
    """Paragraphs, facts, a table, and what to type."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    differs = [f"Ours differs: {paragraph}" for paragraph in found["differs"]]
    for paragraph in (found["title"], " ".join(found["what"]), " ".join(found["paper"]), *differs):
        if paragraph:
            console.print(Text(plain(paragraph)), end="\n\n")
    facts({"family": found["family"], "paper": found["cite"], **found["claims_in_words"]})
    rows = [
        {"setting": row["name"], "default": row["written"], "range": row["range"], "what": row["about"]}
        for row in found["settings"]
    ]
    table(("setting", "default", "range", "what"), rows)
    facts({"example": found["example"]})
