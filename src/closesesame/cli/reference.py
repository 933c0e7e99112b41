"""Writes the help of all commands to one Markdown page: `python -m closesesame.cli.reference PAGE`."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App
from rich.console import Console

from closesesame.core.disk import write_whole

from .app import app
from .help import WIDEST


def commands(of: App = app, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command: first those of the program itself, none."""
    yield words
    for name in sorted(name for name in of if not name.startswith("-")):
        yield from commands(of[name], (*words, name))


def help_of(words: tuple[str, ...], width: int = WIDEST) -> str:
    """The help page of a command, as a terminal of so many columns shows it."""
    file = io.StringIO()
    app.help_print(words, console=Console(file=file, width=width, color_system=None))
    return file.getvalue().strip()


def reference() -> str:
    """One section a command: its help page."""
    sections = (f"## {' '.join(('sesame', *words))}\n\n```\n{help_of(words)}\n```\n" for words in commands())
    return "\n".join(("# Commands\n", *sections))


if __name__ == "__main__":
    write_whole(reference(), Path(sys.argv[1]))
