"""The command that lists all methods."""

from functools import partial

from .app import command
from .inputs import Json
from .outputs import answer, table


@partial(command, name="list")
def list_methods(family: str | None = None, *, json: Json = False) -> None:
    """List the methods: attacks, removals, models; of one family also what it says of itself.

    Parameters
    ----------
    family
        Only this family: attack, removal or model.
    """
    from closesesame.registries import describe_methods, tabulate

    rows = describe_methods(family)
    columns, lines = (("family", "name", "cite", "what"), rows) if family is None else tabulate(rows)
    answer(json, rows, lambda: table(columns, lines))
