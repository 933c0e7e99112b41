"""How help pages are laid out: names on the left, descriptions on the right, wrapped to the terminal."""

import io
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

WIDEST = 100
"""Longest line: longer ones are hard to read."""
INDENT, NAMES = 2, 26
"""Columns left of the names, and left of the descriptions."""
NARROW = 60
"""A terminal of fewer columns shows each description below its name."""


class HelpFormatter:
    """Plain text, without colours and boxes."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Prints a list of commands or of parameters."""
        del options
        if panel.entries:
            _print(console, f"\n{_text(panel.title)}:")
            for entry in panel.entries:
                names, about = ", ".join(entry.display_labels_with_metavar), _about(entry)
                _print(console, laid_out(names, about, min(console.width, WIDEST)))

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Prints how the command is typed."""
        del options
        _print(console, _filled(f"Usage: {_text(usage).removeprefix('Usage: ')}", console))

    def render_description(self, console: "Console", options: "ConsoleOptions", description: Any) -> None:
        """Prints what the command does."""
        del options
        for paragraph in filter(None, _text(description).split("\n\n")):
            _print(console, "\n" + _filled(paragraph, console))


def laid_out(names: str, about: str, width: int) -> str:
    """A name and its description, on as many lines as the width asks for."""
    column = NAMES if width >= NARROW else 2 * INDENT
    lines = [column * " " + line for line in textwrap.wrap(about, width - column, break_on_hyphens=False)]
    head = INDENT * " " + names
    if lines and len(head) + 2 <= column:
        lines[0] = head.ljust(column) + lines[0].lstrip()
        return "\n".join(lines)
    return "\n".join([head, *lines])


def _about(entry: "HelpEntry") -> str:
    """The description, and what may be typed."""
    parts = [_text(entry.description)]
    parts += [f"[choices: {', '.join(entry.choices)}]"] if entry.choices else []
    parts += [f"[default: {entry.default}]"] if entry.default is not None else []
    parts += ["[required]"] if entry.required else []
    return " ".join(filter(None, parts))


def _filled(text: str, console: "Console") -> str:
    return textwrap.fill(text, min(console.width, WIDEST), break_on_hyphens=False)


def _text(shown: Any) -> str:
    """What rich would print, on one line a paragraph."""
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=100_000, color_system=None).print(shown or "", end="")
    return file.getvalue().strip()


def _print(console: "Console", text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
