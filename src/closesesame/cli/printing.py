"""How commands print: JSON, tables and facts, without what a hostile name could steer a terminal with."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from closesesame.core.errors import DataError, plain
from closesesame.core.wording import said

if TYPE_CHECKING:
    from closesesame.evaluation import CanaryReport, Rate, Scores

LONG = 20
"""Characters from which a column may be wrapped."""
NARROW = 12
"""Characters that a wrapped column needs."""


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes:
        content: for JSON; shown as facts, one a line, if there is no `show`. With `lines` any iterable.
        show: prints it for people.
        lines: whether the JSON is one object a line, for each element of `content`.
        failure: why the command ends with status 1 although it has an answer.
    """

    content: Any
    show: Callable[[], object] | None = None
    lines: bool = False
    failure: str = ""

    def print(self, as_json: bool) -> None:
        """Prints it on standard output.

        Raises:
            DataError: if standard output cannot be written.
        """
        try:
            if as_json:
                for part in self.content if self.lines else [self.content]:
                    indent = None if self.lines else 2
                    text = json.dumps(_finite(part), indent=indent, default=str, allow_nan=False)
                    sys.stdout.write(text + "\n")
                    if self.lines:
                        sys.stdout.flush()  # lines may be made as they are printed
            elif self.show is None:
                facts({name.replace("_", " "): value for name, value in self.content.items()})
            else:
                self.show()
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DataError(
                f"the work is done, and what was found cannot be printed ({error.strerror})"
            ) from None


def notes(sentences: Iterable[str]) -> None:
    """Prints on standard error what may surprise."""
    with suppress(OSError):  # a note that cannot be printed ends no work
        for sentence in sentences:
            sys.stderr.write(f"note: {plain(sentence)}\n")


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows as a table, or one below the other where the terminal is too narrow for it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    cells = [[plain(said(row.get(column, ""))) for column in columns] for row in rows]
    widest = _widths(columns, cells)
    if _drawn(NARROW if width > LONG else width for width in widest) > Console().width:
        _blocks(columns, cells)
        return
    drawn = Table()
    for column, width in zip(columns, widest, strict=True):
        drawn.add_column(Text(plain(column)), overflow="fold", no_wrap=width <= LONG)
    for row in cells:
        drawn.add_row(*map(Text, row))
    Console().print(drawn)


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, (column, *own))) for column, *own in zip(columns, *cells, strict=True)]


def _drawn(widths: Iterable[int]) -> int:
    """Characters of a row whose columns have these widths, with its lines."""
    return sum(width + 3 for width in widths) + 1


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
    """Prints one fact a line."""
    from rich.console import Console
    from rich.text import Text

    for name, value in found.items():
        Console().print(Text(plain(f"{name}: {said(value)}")), soft_wrap=True)


def scores_table(rows: "Sequence[tuple[str, Scores, float | None]]") -> None:
    """Prints what was measured of each model, and below it what holds for all of them.

    Intervals lose their decimals, outwards, where the terminal is too narrow for them.

    Args:
        rows: name of a model, its scores, and its DER if there is a model before the repair.
    """
    from closesesame.evaluation.measures import DER, OF_MODELS

    found = [{measure: getattr(scores, measure.key, None) for measure in OF_MODELS} for _, scores, _ in rows]
    for values, (_, _, der) in zip(found, rows, strict=True):
        values[DER] = None if der is None else DER.said(der)
    known = [measure for measure in OF_MODELS if any(values[measure] is not None for values in found)]
    own = [measure for measure in known if measure.better]
    named = [(name, values) for (name, _, _), values in zip(rows, found, strict=True)]
    full = [{"model": name} | {one.name: said(values[one]) for one in own} for name, values in named]
    short = [{"model": name} | {one.heading: _short(values[one]) for one in own} for name, values in named]
    shown = short if _fits(short) and not _fits(full) else full
    table(tuple(shown[0]), shown)
    # What no model makes better or worse is of the clean reference model, and the same in all rows.
    facts({measure.name: found[0][measure] for measure in known if not measure.better})


def canary_table(report: "CanaryReport") -> None:
    """Prints what became of each canary, and the sentence about all of them."""
    rows = [
        {
            "canary": one.family,
            "target": one.target,
            "clips": f"{one.clips:,}",
            "ASR planted": _percent(one.rates["planted"]),
            "ASR repaired": _percent(one.rates["after"]),
            "bias": _percent(one.rates["bias"]),
            "verdict": one.verdict,
        }
        for one in report.canaries
    ]
    table(tuple(rows[0]), rows)
    facts({"canaries": report.sentence})


def _percent(rate: "Rate") -> str:
    """A rate with its interval, both without decimals."""
    if not rate.of:
        return said(None)
    low, high = rate.interval
    return f"{100 * rate.value:.0f} [{math.floor(100 * low)}, {math.ceil(100 * high)}] %"


def _fits(rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether a table of these rows needs no wrapping."""
    from rich.console import Console

    return _drawn(_widths(tuple(rows[0]), [tuple(row.values()) for row in rows])) <= Console().width


def _short(value: object) -> str:
    """A rate in percent without its unit, and its interval without decimals."""
    from closesesame.evaluation import Rate

    if not isinstance(value, Rate):
        return said(value)
    low, high = value.interval
    return f"{100 * value.value:.1f} [{math.floor(100 * low)}, {math.ceil(100 * high)}]"


def _finite(content: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(name): _finite(inner) for name, inner in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(inner) for inner in content]
    return content
