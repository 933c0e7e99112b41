"""The command that shows all about one method."""

from typing import Any

from closesesame.cli.app import command
from closesesame.cli.printing import Answer, facts, table
from closesesame.core.errors import plain


@command("show")
def show(method: str, *, family: str | None = None) -> Answer:
    """Show a method: what it does, its paper, what it needs, its settings with ranges and defaults.

    Args:
        method: Name of a method of any family, 'training', or 'module:Class' of yours; see 'sesame list'.
        family: The family to look in, where several have a method of that name.

    Examples:
        sesame show pbsm
        sesame show ft_augmented --json
        sesame show training
    """
    from closesesame.listing import describe_method

    found = describe_method(method, family)
    return Answer(found, lambda: _print(found))


def _print(found: dict[str, Any]) -> None:
    """Prints paragraphs, facts, a table of the settings, and an example."""
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
