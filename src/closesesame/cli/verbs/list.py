"""The command that lists all methods."""

from closesesame.cli.app import command
from closesesame.cli.printing import Answer, table


@command("list")
def list_methods(family: str | None = None) -> Answer:
    """List the methods of all families; those of one family with what each needs and claims.

    Args:
        family: Only this family, such as attack, removal or detection.

    Examples:
        sesame list
        sesame list attack
        sesame list removal --json
    """
    from closesesame.listing import describe_methods, tabulate

    rows = describe_methods(family)
    columns, lines = (("family", "name", "cite", "what"), rows) if family is None else tabulate(rows)
    return Answer(rows, lambda: table(columns, lines))
