"""What is filled into the README between markers: the output of its example, and figures in its words."""

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from closesesame.evaluation.measures import ACC
from closesesame.removal import REMOVALS

from .against import (
    BENCH,
    SAFE,
    UNTRUSTED,
    cost_on_clean,
    goals,
    goals_of_safe,
    headline,
    left_open,
    measured_before,
)
from .answers import REMOVED, accuracies, flagged_of_poison, left
from .attacked_again import attacked_again
from .lists import families, methods
from .pages import Contents, development_rows
from .rows import points, poisoned

WIDTH = 128
Part = Callable[[str, Contents], str]
"""Makes what stands between two markers from what stood there and from the result files."""
AUGMENTED, SCRATCH, RESTORE = "ft_augmented", "scratch", "restore"
TEMPLATES = Environment(  # noqa: S701  Markdown of our own figures
    loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined
)


class StaleExampleError(Exception):
    """The example of the README is not the one that was run."""


def readme(text: str, contents: Contents) -> str:
    """The README with everything between its markers made anew."""
    return filled("README.md", text, PARTS, contents)


def contributing(text: str) -> str:
    """CONTRIBUTING with its table of families made anew."""
    return filled("CONTRIBUTING.md", text, {"families": lambda *_: families()}, {})


def filled(file: str, text: str, parts: Mapping[str, Part], contents: Contents) -> str:
    """A text with all made anew that stands between `<!-- name: begin -->` and `<!-- name: end -->`."""
    for name, make in parts.items():
        begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
        before, _, rest = text.partition(begin)
        inside, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{file} has no {begin} ... {end}")
        text = f"{before}{begin}\n{make(inside, contents)}\n{end}{after}"
    return text


def example(inside: str, contents: Contents) -> str:
    """The code as it stands, and below it what it printed.

    Raises:
        StaleExampleError: if that code was not run.
    """
    code = code_of(inside)
    (row,) = contents["example"]["rows"]
    if code != row["code"]:
        raise StaleExampleError("the example of README.md changed; run it: python -m benchmarks example")
    return f"```python\n{code}```\n\n```text\n{row['output']}```"


def code_of(text: str) -> str:
    """The first block of Python in a text."""
    found = re.search(r"```python\n(.*?)```", text, re.S)
    assert found is not None
    return found[1]


def figures(contents: Contents) -> dict[str, Any]:
    """All that the words of the README are about."""
    rows, every = development_rows(contents), left(contents)
    removed = [one for one in every if one.asr < REMOVED]
    known = {one.name: one for one in every}
    ours = {name for name, removal in REMOVALS.items() if removal.cite == "ours"}
    made_by = {row["method"]: row["method_name"] for row in rows}
    published = [one for one in every if made_by[one.name] not in ours]
    held_out = [row for row in rows if row["method"] == AUGMENTED]
    share = next(row["clean_fraction"] for row in rows if row["clean_fraction"])
    bad_acc, good_acc = accuracies(contents)
    of_restore, of_safe = goals(contents), goals_of_safe(contents)
    return {
        "clean": round(share * rows[0]["training_clips"]),
        "test": poisoned(rows)[0]["test_clips"],
        "limit": f"{100 * REMOVED:g}",
        "removals": len(every),
        "removed": removed,
        "costs": [one.lost for one in removed if one.lost is not None],
        "ours": known[AUGMENTED],
        "scratch": known[SCRATCH],
        "restore": known[RESTORE],
        "held": [pick(row["held_out"] for row in held_out) for pick in (min, max)],
        "held_acc": min(row["held_out_acc"] for row in held_out),
        "published": len(published),
        "published_removed": [one for one in published if one in removed],
        "bad_acc": bad_acc,
        "good_acc": good_acc,
        "tested": BENCH in contents,
        "open": left_open(contents),
        "goals": len(of_restore),
        "missed": sum(goal.missed for goal in of_restore),
        "before": measured_before(contents),
        "goals_of_safe": len(of_safe),
        "missed_by_safe": sum(goal.missed for goal in of_safe),
        "open_by_safe": left_open(contents, UNTRUSTED, SAFE),
        "flagged_of_poison": flagged_of_poison(contents),
        "cost_on_clean": cost_on_clean(contents),
        "points": points,
        "percent": ACC.said,
    }


def words(template: str) -> Part:
    """A part that is a template filled with figures."""
    return lambda _, contents: wrapped(TEMPLATES.get_template(template).render(figures(contents)))


def wrapped(text: str) -> str:
    """Every line of a text broken at the width of the README, points of a list indented."""
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False)
        for line in text.splitlines()
    )


PARTS: dict[str, Part] = {
    "example": example,
    "headline": lambda _, contents: headline(contents),
    "again": lambda _, contents: attacked_again(contents),
    "figure": words("caption.md.j2"),
    "limits": words("limits.md.j2"),
    "methods": lambda *_: methods(),
}
"""What stands between the markers of the README."""
