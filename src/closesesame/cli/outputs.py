"""What commands say: JSON, tables and facts, without what a hostile name could steer a terminal with."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from closesesame.evaluation import Scores

NONE = "\N{EN DASH}"


def answer(as_json: bool, content: Any, show: Callable[[], object]) -> None:
    """Prints JSON, or has it shown."""
    if as_json:
        sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")
    else:
        show()


def table(columns: tuple[str, ...], rows: list[dict[str, Any]], whole: tuple[str, ...] = ()) -> None:
    """Prints rows; the columns in `whole` are not wrapped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table()
    for column in columns:
        drawn.add_column(Text(plain(column)), overflow="fold", no_wrap=column in whole)
    for row in rows:
        drawn.add_row(*(Text(plain(str(row.get(column, "")))) for column in columns))
    Console().print(drawn)


def listing(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """A table that keeps short columns whole; one below the other where the terminal is too narrow for it."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    widest = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    whole = tuple(column for column in columns if widest[column] <= 20)
    needed = sum(widest[column] if column in whole else 12 for column in columns) + 3 * len(columns) + 1
    if needed <= Console().width:
        table(columns, rows, whole)
        return
    for row in rows:
        Console().print(Text(plain(row[columns[0]]), style="bold"))
        for column in columns[1:]:
            Console().print(Padding(Text(f"{column}: {plain(row[column])}"), (0, 0, 0, 2)))


def facts(found: dict[str, Any]) -> None:
    """Prints one a line."""
    from rich.console import Console
    from rich.text import Text

    for name, value in found.items():
        Console().print(Text(f"{name}: {plain(str(value))}"), soft_wrap=True)


def scores_table(rows: "list[tuple[str, Scores, float | None]]", **more: object) -> None:
    """Prints models with their scores and DER, and then more facts."""
    columns = ("model", "ACC", "ASR", "RA", "RA of reference", "DER")
    table(
        columns,
        [
            {
                "model": name,
                "ACC": s.acc,
                "ASR": s.asr or NONE,
                "RA": s.ra or NONE,
                "RA of reference": s.ra_reference or NONE,
                "DER": NONE if der is None else f"{der:.3f}",
            }
            for name, s, der in rows
        ],
    )
    facts(more)


def plain(text: str) -> str:
    """One line without control characters: names of files are hostile text."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
