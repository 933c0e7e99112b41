"""What commands say: JSON, tables and facts, without what a hostile name could steer a terminal with."""

import datetime as dt
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closesesame.core.errors import DataError, plain

if TYPE_CHECKING:
    from closesesame.evaluation import Scores

NONE = "-"
LONG = 20
"""Characters from which a column may be wrapped."""
NARROW = 12
"""Characters that a wrapped column needs."""


def answer(as_json: bool, content: Any, show: Callable[[], object]) -> None:
    """Prints JSON, or has it shown."""
    try:
        if as_json:
            sys.stdout.write(json.dumps(_finite(content), indent=2, default=str, allow_nan=False) + "\n")
        else:
            show()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(
            f"the work is done, and what was found cannot be printed ({error.strerror})"
        ) from None


def as_typed() -> str:
    """The command as it was typed, for a page."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def now() -> str:
    """Date and time, for a page."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def print_json_line(content: Any) -> None:
    """Prints one JSON value on one line."""
    sys.stdout.write(json.dumps(_finite(content), default=str, allow_nan=False) + "\n")


def notes(sentences: Iterable[str]) -> None:
    """Says on standard error what may surprise."""
    with suppress(OSError):  # a note that cannot be said ends no work
        for sentence in sentences:
            sys.stderr.write(f"note: {plain(sentence)}\n")


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows: as a table, or one below the other where the terminal is too narrow for it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    cells = [[said(row.get(column, "")) for column in columns] for row in rows]
    widest = [max(map(len, (column, *own))) for column, *own in zip(columns, *cells, strict=True)]
    needed = sum(NARROW if width > LONG else width for width in widest) + 3 * len(columns) + 1
    if needed > Console().width:
        _blocks(columns, cells)
        return
    drawn = Table()
    for column, width in zip(columns, widest, strict=True):
        drawn.add_column(Text(plain(column)), overflow="fold", no_wrap=width <= LONG)
    for row in cells:
        drawn.add_row(*map(Text, row))
    Console().print(drawn)


def _blocks(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for first, *rest in cells:
        console.print(Text(first, style="bold", overflow="fold"))
        for column, cell in zip(columns[1:], rest, strict=True):
            lines = Text(f"{plain(column)}: {cell}", overflow="fold").wrap(console, console.width - 2)
            console.print(*(Text("  ") + line for line in lines), sep="\n")


def facts(found: Mapping[str, Any]) -> None:
    """Prints one a line."""
    from rich.console import Console
    from rich.text import Text

    for name, value in found.items():
        Console().print(Text(f"{plain(name)}: {said(value)}"), soft_wrap=True)


def scores_table(rows: "Sequence[tuple[str, Scores, float | None]]", **more: object) -> None:
    """Prints models with their scores and DER, and then more facts."""
    measured: dict[str, list[object]] = {
        "ACC": [s.acc for _, s, _ in rows],
        "ASR": [s.asr for _, s, _ in rows],
        "RA": [s.ra for _, s, _ in rows],
        "RA of reference": [s.ra_reference for _, s, _ in rows],
        "DER": [None if der is None else f"{der:.3f}" for _, _, der in rows],
    }
    known = {name: values for name, values in measured.items() if any(value is not None for value in values)}
    lines = [
        {"model": name} | {column: values[at] for column, values in known.items()}
        for at, (name, _, _) in enumerate(rows)
    ]
    table(("model", *known), lines)
    facts({name.replace("_", " "): value for name, value in more.items()})


def said(value: Any) -> str:
    """A value in words: no Python, few digits."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else NONE
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(str(name))} = {said(inner)}" for name, inner in value.items()) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(said, value)) or NONE
    return plain(str(value))


def _finite(content: Any) -> Any:
    """The same with null for what is no number: JSON has neither NaN nor infinity."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(name): _finite(inner) for name, inner in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(inner) for inner in content]
    return content
