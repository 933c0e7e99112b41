"""Renders every file under `results` to RESULTS.md, and the figures of the README; no number is typed by hand.

python benchmarks/render.py            write
python benchmarks/render.py --check    fail if what is written is not what the files say
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from closesesame.evaluation import wilson

HERE = Path(__file__).parent
RESULTS, PAGE, README = HERE / "results", HERE / "RESULTS.md", HERE.parent / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
Row = dict[str, Any]


def main() -> int:
    """Writes, or checks, both files."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    wanted = {PAGE: page(contents), README: readme(README.read_text(), contents)}
    stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        if stale:
            print(f"{', '.join(stale)} must be rendered again: make results")
        return bool(stale)
    for path, text in wanted.items():
        path.write_text(text)
    return 0


def page(contents: dict[str, Any]) -> str:
    """The whole RESULTS.md."""
    parts = [
        "# Results",
        "Made by `make results` from the files in `results`. Rates are in percent; behind a rate stands its "
        "Wilson 95 % interval on the test clips of one seed, and behind ASR the range over the seeds. "
        "RA is measured on the clips of ASR, its ceiling is that of a never-poisoned twin. Rate 0 is a model "
        "trained on clean data.",
    ]
    for name, content in contents.items():
        parts += RENDERERS.get(name, grid)(content)
    return "\n\n".join(parts) + "\n"


def grid(content: Any) -> list[str]:
    """A table of models and repairs, one line for all seeds."""
    rows: list[Row] = content["rows"]
    first, host = rows[0], content["host"]
    title = f"## {first['data']}, {first['task']}s: {content['recipe']}"
    about = (
        f"{first['training_clips']:,} training clips, {first['test_clips']:,} test clips, model "
        f"{first['model']}, closesesame {content['version']}, torch {host['torch']} on {host['processor']}, "
        f"{host['threads']} thread, {host['precision']}."
    )
    lines = [
        "| attack | poisoning rate | repair | clean clips | seeds | ACC | ASR | RA | RA ceiling | DER | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(group) for group in groups(rows)]
    return [title, about, "\n".join(lines)]


def groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that differ by their seed alone, repairs behind their victim in the order they were measured."""
    names = list(dict.fromkeys(defence(row) for row in rows))
    order = ["none", "ft", "fine_pruning", "gnft", "gnft (lr 0.01)", "ft_augmented"]
    names.sort(key=lambda name: order.index(name) if name in order else len(order))

    def key(row: Row) -> tuple[Any, ...]:
        return row["attack"], row["poisoning_rate"], names.index(defence(row))

    return [list(group) for _, group in groupby(sorted(rows, key=key), key)]


def defence(row: Row) -> str:
    """The name of a repair with the settings that are not its defaults."""
    changed = ", ".join(f"{name} {value:g}" for name, value in row["settings"].items())
    return f"{row['defence']} ({changed})" if changed else str(row["defence"])


def mean(group: list[Row], name: str) -> float | None:
    """The mean over the seeds, None if a seed has none."""
    values = [row[name] for row in group]
    return None if None in values else statistics.fmean(values)


def line(group: list[Row]) -> str:
    """One line of the table."""
    row = group[0]
    asr = [100 * r["asr"] for r in group]
    poisoned = ""
    if row["poisoned_clips"]:
        share = 100 * row["poisoned_share_of_target"]
        poisoned = f" ({row['poisoned_clips']} clips, {share:.0f} % of their class)"
    clean = "" if row["clean_fraction"] is None else f"{100 * row['clean_fraction']:g} %"
    der = mean(group, "der")
    cells = [
        row["attack"],
        f"{100 * row['poisoning_rate']:g} %{poisoned}",
        defence(row),
        clean,
        str(len(group)),
        rate(group, "acc", "test_clips"),
        f"{rate(group, 'asr', 'triggered_clips')} ({min(asr):.1f} to {max(asr):.1f})",
        rate(group, "ra", "triggered_clips"),
        rate(group, "ra_ceiling", "triggered_clips", interval=False),
        "" if der is None else f"{der:.3f}",
        f"{mean(group, 'seconds'):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def rate(group: list[Row], name: str, clips: str, *, interval: bool = True) -> str:
    """Mean and interval, in percent."""
    value = mean(group, name)
    if value is None:
        return ""
    low, high = wilson(value, group[0][clips])
    return f"{100 * value:.1f}" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if interval else "")


def speed(content: Any) -> list[str]:
    """Seconds of one epoch, by precision and memory format."""
    host = content["host"]
    base = content["rows"][0]["seconds"]
    lines = ["| precision | memory format | s an epoch | times as fast |", "|---|---|---|---|"]
    lines += [
        f"| {row['precision']} | {row['memory_format']} | {row['seconds']:.2f} | {base / row['seconds']:.2f} |"
        for row in content["rows"]
    ]
    return [
        "## One epoch of the default victim",
        f"{content['rows'][0]['clips']:,} clips of one second, median of {content['rows'][0]['runs']} epochs in "
        f"turn, {host['threads']} threads of {host['processor']} (multiplies in bf16: {host['has_bf16']}).",
        "\n".join(lines),
    ]


def commands(content: Any) -> list[str]:
    """Seconds of whole commands in a fresh clone."""
    lines = ["| command | s | what |", "|---|---|---|"]
    lines += [f"| `{row['command']}` | {row['seconds']:.2f} | {row['what']} |" for row in content["rows"]]
    return [
        "## Whole commands",
        f"On {content['host']['processor']}, {content['host']['cores']} cores.",
        "\n".join(lines),
    ]


RENDERERS: dict[str, Callable[[Any], list[str]]] = {"speed-epoch": speed, "commands": commands}


def readme(text: str, contents: dict[str, Any]) -> str:
    """The README with its figures made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or "house-keywords10" not in contents:
        return text
    rows = [row for row in contents["house-keywords10"]["rows"] if row["poisoning_rate"]]
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    found = groups(rows)
    names = list(dict.fromkeys(defence(group[0]) for group in found))
    lines = [f"| ASR / RA, % | {' | '.join(attacks)} |", "|---|" + "---|" * len(attacks)]
    for name in names:
        cells = []
        for attack in attacks:
            group = next((g for g in found if (g[0]["attack"], defence(g[0])) == (attack, name)), [])
            cells.append(
                f"{100 * (mean(group, 'asr') or 0):.0f} / {100 * (mean(group, 'ra') or 0):.0f}"
                if group
                else ""
            )
        lines.append(f"| {'victim' if name == 'none' else name} | {' | '.join(cells)} |")
    ceilings = [next(g for g in found if g[0]["attack"] == attack) for attack in attacks]
    lines.append(
        "| *never-poisoned twin* | "
        + " | ".join(f"– / {100 * (mean(g, 'ra_ceiling') or 0):.0f}" for g in ceilings)
        + " |"
    )
    seeds = len({row["seed"] for row in rows})
    return before + BEGIN + "\n" + "\n".join(lines) + f"\n\nMeans of {seeds} seeds.\n" + END + after


if __name__ == "__main__":
    sys.exit(main())
